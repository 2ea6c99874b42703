"""Installs and upgrades the tracking schema of one managed database; a second run writes nothing.

It never touches a schema named `reconciler` that something else made.
"""

from dataclasses import dataclass

import psycopg

from reconciler.errors import Refused
from reconciler.postgres import lock, migrations
from reconciler.postgres.connection import Connection
from reconciler.tracking.errors import translate
from reconciler.tracking.sql import QUERIES

SCHEMA = "reconciler"
TRACKING_VERSION = 4
"""The number of the newest migration: what `install` brings a database to."""

_LOCK = (1380206158, 2)
_MIGRATIONS_LOCK = 1380206158_0003
_DEADLINE_S = 60.0
_DOING = "installing the tracking schema"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Installation:
    """What stands in the place of the tracking schema, and what the connecting role may do with it."""

    present: bool
    ours: bool
    empty: bool
    may_create: bool
    owned_apart: bool
    may_own_apart: bool
    writable: bool
    owner: str | None
    role: str

    @property
    def settled(self) -> bool:
        """Whether nothing is left to do about owner and grants."""
        return self.writable and (self.owned_apart or not self.may_own_apart)


async def install(connection: Connection) -> int:
    """Bring the tracking schema of a database to this version, and return that."""
    try:
        await connection.execute(QUERIES["reset_session"])
        found = _check(await _read(connection))
        if found.settled and await _version(connection, found) == TRACKING_VERSION:
            return TRACKING_VERSION
        await lock.acquire(connection, _LOCK, deadline_s=_DEADLINE_S, doing=_DOING)
        try:
            return await _install(connection)
        finally:
            if not connection.closed:
                await lock.unlock(connection, _LOCK)
    except psycopg.Error as error:
        raise translate(error, _DOING) from error


async def _install(connection: Connection) -> int:
    found = _check(await _read(connection))
    if found.ours:
        await _own_apart(connection, found)
    version = await migrations.install(
        connection, package="reconciler.tracking", schema=SCHEMA, lock_key=_MIGRATIONS_LOCK
    )
    await _own_apart(connection, await _read(connection))
    return version


async def _own_apart(connection: Connection, found: _Installation) -> None:
    """Give the schema to a role of its own where the server allows it, and make sure that we may write."""
    if not found.settled and found.may_own_apart:
        await connection.execute(QUERIES["own_apart"])
        found = await _read(connection)
    if not found.writable:
        raise Refused(
            f"{_DOING}: role '{found.role}' may not write to schema '{SCHEMA}', which '{found.owner}' owns",
            hint=f'as a superuser: GRANT reconciler_tracking TO "{found.role}", or connect as the role that'
            " installed it",
        )


async def _read(connection: Connection) -> _Installation:
    cursor = await connection.execute(QUERIES["read_installation"])
    row = await cursor.fetchone()
    assert row is not None
    return _Installation(**dict(zip(_Installation.__slots__, row, strict=True)))


def _check(found: _Installation) -> _Installation:
    if found.present and not found.ours and not (found.empty and found.may_create):
        raise Refused(
            f"{_DOING}: this database has a schema named '{SCHEMA}' already, owned by '{found.owner}',"
            " that was not made by pg-reconciler",
            hint="rename or drop that schema; nothing in it was touched",
        )
    return found


async def _version(connection: Connection, found: _Installation) -> int:
    return await migrations.installed_version(connection, schema=SCHEMA) if found.ours else 0
