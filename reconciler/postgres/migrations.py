"""Install and upgrade a schema of ours from numbered SQL files, under a lock; a second run does nothing."""

import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from importlib import resources

import psycopg
from psycopg import sql

from reconciler.errors import Refused
from reconciler.postgres import lock
from reconciler.postgres.connection import Connection, translate
from reconciler.postgres.queries import Queries, trusted

_QUERIES = Queries.load("reconciler.postgres")
_FILE = re.compile(r"^(\d{4})_(\w+)\.sql$")
_COMMENTS = ("comment_migrations", "comment_number", "comment_name", "comment_sha256", "comment_applied_at")
LOCK_CLASS = 0x7265636D
DEADLINE_S = 60.0


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, its name and its text."""

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Hash of the text; a file that was applied is never edited."""
        return hashlib.sha256(self.text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class _Place:
    """What stands where the schema belongs; `applied` is name and hash by number."""

    present: bool
    used: bool
    recorded: bool
    applied: dict[int, tuple[str, str]]


@cache
def shipped(package: str) -> tuple[Migration, ...]:
    """The migrations a package ships, in order; raises ValueError where a number is missing."""
    found = []
    for entry in resources.files(package).joinpath("migrations").iterdir():
        match = _FILE.match(entry.name)
        if match:
            found.append(Migration(int(match[1]), match[2], entry.read_text(encoding="utf-8")))
        elif entry.name.endswith(".sql"):
            raise ValueError(f"'{entry.name}' of '{package}' is not named NNNN_words.sql")
    found.sort(key=lambda migration: migration.number)
    if [migration.number for migration in found] != list(range(1, len(found) + 1)):
        raise ValueError(f"the migrations of '{package}' are not numbered without gaps")
    return tuple(found)


async def installed_version(connection: Connection, *, schema: str) -> int:
    """The number of the newest applied migration; 0 where the schema is absent. Creates nothing."""
    try:
        return max((await _look(connection, schema)).applied, default=0)
    except psycopg.Error as error:
        raise translate(error, f"reading the version of schema '{schema}'") from error


async def install(connection: Connection, *, package: str, schema: str, lock_key: int) -> int:
    """Apply what is missing, each file in one transaction with its record; gives the version.

    Takes a connection in autocommit mode. Raises Refused where the schema is newer than this program, an
    applied file was edited, or a schema of that name is somebody else's.
    """
    migrations = shipped(package)
    doing = f"installing schema '{schema}'"
    try:
        if not _missing(migrations, await _look(connection, schema), schema):
            return len(migrations)
        key = (LOCK_CLASS, lock_key % 2**31)
        await lock.acquire(connection, key, deadline_s=DEADLINE_S, doing=doing)
        try:
            # Looked at again: whoever had the lock before us did our work, most likely.
            place = await _look(connection, schema)
            for migration in _missing(migrations, place, schema):
                await _apply(connection, schema, migration, place)
        finally:
            with suppress(psycopg.Error):
                # A connection that broke has given its locks back already.
                await lock.unlock(connection, key)
    except psycopg.Error as error:
        raise translate(error, doing) from error
    return len(migrations)


async def _look(connection: Connection, schema: str) -> _Place:
    cursor = await connection.execute(
        _QUERIES["migrations_place"],
        {
            "schema": sql.Identifier(schema).as_string(connection),
            "table": sql.Identifier(schema, "migrations").as_string(connection),
        },
    )
    row = await cursor.fetchone()
    assert row is not None
    present, used, recorded = row
    if not recorded:
        return _Place(present, used, recorded, {})
    query = _QUERIES["applied_migrations"].format(schema=sql.Identifier(schema))
    cursor = await connection.execute(query)
    applied = {number: (name, sha256) for number, name, sha256 in await cursor.fetchall()}
    return _Place(present, used, recorded, applied)


def _missing(migrations: tuple[Migration, ...], place: _Place, schema: str) -> list[Migration]:
    newest = max(place.applied, default=0)
    if newest > len(migrations):
        raise Refused(
            f"schema '{schema}' is at version {newest}, this program knows {len(migrations)}",
            hint="run a program at least as new as the one that installed it",
        )
    if place.used and not place.applied:
        raise Refused(
            f"a schema named '{schema}' is there already and was not made by this program",
            hint="rename or drop that schema, or use another database; nothing in it was touched",
        )
    for migration in migrations:
        known = place.applied.get(migration.number)
        if known is not None and known != (migration.name, migration.sha256):
            raise Refused(
                f"schema '{schema}' was installed from another text of migration {migration.number}"
                f" ('{known[0]}'; this program has '{migration.name}')",
                hint="an applied migration is never edited: run the release that installed it or a newer one",
            )
    return [migration for migration in migrations if migration.number not in place.applied]


async def _apply(connection: Connection, schema: str, migration: Migration, place: _Place) -> None:
    name = sql.Identifier(schema)
    async with connection.transaction():
        await connection.execute(_QUERIES["safe_migration"])
        if migration.number == 1:
            if not place.present:
                await connection.execute(_QUERIES["create_schema"].format(schema=name))
            if not place.recorded:
                await connection.execute(_QUERIES["create_migrations"].format(schema=name))
                for comment in _COMMENTS:
                    await connection.execute(_QUERIES[comment].format(schema=name))
        await connection.execute(trusted(migration.text))
        await connection.execute(
            _QUERIES["record_migration"].format(schema=name),
            {"number": migration.number, "name": migration.name, "sha256": migration.sha256},
        )
