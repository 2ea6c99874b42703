"""Make roles; one that is there is left as it is, and none is ever dropped."""

import asyncio
import random
import re
from collections.abc import Sequence

import psycopg
from psycopg import sql

from reconciler.errors import StepFailed, TemporaryError
from reconciler.execution.session import DatabaseSession
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection, Dsn, connect, translate
from reconciler.postgres.lock import acquire
from reconciler.postgres.queries import Queries

_QUERIES = Queries.load("reconciler.execution")
CREATE_ROLE_LOCK = (0x7265636F, 0x63726F6C)
"""One creation at a time on a server, whatever databases it is for: simultaneous ones fail."""
ATTEMPTS_MAX = 5
PAUSE_S = 0.2
INSUFFICIENT_PRIVILEGE = "42501"
UNDEFINED_OBJECT = "42704"
MISSING_PRIVILEGE = (
    "give the connecting role what it lacks (ALTER ROLE … CREATEROLE; ADMIN OPTION on the roles that this "
    "one is to be a member of), or make the role by hand, which is taken as it is; "
    "then retry"
)
_MISSING_ROLE = re.compile(r'role "[^"]*" does not exist')
_CHANGED_MEANWHILE = "tuple concurrently updated"
_ATTRIBUTES = {
    "login": "role_login",
    "bypassrls": "role_bypassrls",
    "createdb": "role_createdb",
    "createrole": "role_createrole",
    "replication": "role_replication",
}


@frozen
class NewRole:
    """A role to make; `attributes` are those it has."""

    name: str
    attributes: tuple[str, ...] = ()
    member_of: tuple[str, ...] = ()


async def create_role(
    session: DatabaseSession, dsn: Dsn, role: NewRole, *, password: str | None, deadline_s: float = 60.0
) -> None:
    """Make a role under the fence of a database; one that somebody made meanwhile is left as it is.

    A password leaves as a SCRAM verifier that is made here: the server never sees it.
    """
    doing = f"creating role '{role.name}' on {session.server}"
    try:
        # Advisory locks are a database's, and roles the server's: the lock is taken where all take it.
        maintenance = await connect(dsn, role="maintenance")
        try:
            await acquire(maintenance, CREATE_ROLE_LOCK, deadline_s=deadline_s, doing=doing)
            await _create(session, role, password)
        finally:
            await maintenance.close()
    except psycopg.Error as error:
        raise _failed(error, doing) from None


async def make_roles(dsn: Dsn, wanted: Sequence[NewRole]) -> None:
    """Make roles on a server that nobody else has, and what they are to be members of; no password is set."""
    connection = await connect(dsn, role="maintenance")
    try:
        for role in wanted:
            for name in (*role.member_of, role.name):
                if not await _is_there(connection, name):
                    await _make(connection, role if name == role.name else NewRole(name=name), None)
    except psycopg.Error as error:
        raise _failed(error, f"creating roles on {dsn.server}") from None
    finally:
        await connection.close()


def missing_role_hint(error: StepFailed) -> str | None:
    """What to do where a script names a role that the server lacks; None for any other failure."""
    if error.sqlstate != UNDEFINED_OBJECT or _MISSING_ROLE.search(error.message) is None:
        return None
    return (
        "declare the role under `roles:` of the Database component: it is then made before the modules, and "
        "by `module test` on its own server"
    )


def verifier(connection: Connection, role: str, password: str) -> str:
    """The SCRAM-SHA-256 verifier of a password, as libpq makes it; it takes no exchange with the server."""
    made = connection.pgconn.encrypt_password(password.encode(), role.encode(), b"scram-sha-256")
    return made.decode()


async def _create(session: DatabaseSession, role: NewRole, password: str | None) -> None:
    """Try a few times: whoever grants the same role at the same moment, unlocked, makes ours fail."""
    for attempt in range(1, ATTEMPTS_MAX + 1):
        try:
            await _once(session, role, password)
        except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
            return
        except psycopg.errors.InternalError_ as error:
            if _CHANGED_MEANWHILE not in (error.diag.message_primary or "") or attempt == ATTEMPTS_MAX:
                raise
            # Jitter, not a secret.
            await asyncio.sleep(PAUSE_S * attempt * random.uniform(0.5, 1.0))  # noqa: S311
        else:
            return


async def _once(session: DatabaseSession, role: NewRole, password: str | None) -> None:
    writer = session.writer
    async with writer.transaction():
        await session.fence.check(writer)
        await writer.execute(
            _QUERIES["limit_change"],
            {
                "lock_timeout_ms": str(int(session.limits.lock_timeout_s * 1000)),
                "statement_timeout_ms": "0",
                "synchronous_commit": "off",
            },
        )
        if not await _is_there(writer, role.name):
            await _make(writer, role, password)


async def _is_there(connection: Connection, role: str) -> bool:
    cursor = await connection.execute(_QUERIES["role_is_there"], {"role": role})
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def _make(connection: Connection, role: NewRole, password: str | None) -> None:
    name = sql.Identifier(role.name)
    await connection.execute(_QUERIES["create_role"].format(role=name))
    for attribute in role.attributes:
        await connection.execute(_QUERIES[_ATTRIBUTES[attribute]].format(role=name))
    if password is not None:
        secret = sql.Literal(verifier(connection, role.name, password))
        await connection.execute(_QUERIES["role_password"].format(role=name, verifier=secret))
    for group in role.member_of:
        await connection.execute(_QUERIES["grant_role"].format(role=name, group=sql.Identifier(group)))


def _failed(error: psycopg.Error, doing: str) -> Exception:
    told = translate(error, doing)
    if isinstance(told, TemporaryError):
        return told
    if _CHANGED_MEANWHILE in told.message:
        return TemporaryError(told.message)
    hint = told.hint or (MISSING_PRIVILEGE if error.sqlstate == INSUFFICIENT_PRIVILEGE else None)
    return StepFailed(told.message, hint=hint, sqlstate=error.sqlstate)
