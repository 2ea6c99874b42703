"""Make databases and extensions."""

from collections.abc import Awaitable, Callable

import psycopg
from psycopg import sql

from reconciler.errors import StepFailed, TemporaryError
from reconciler.execution.session import DatabaseSession
from reconciler.postgres.connection import Dsn, connect, translate
from reconciler.postgres.lock import acquire
from reconciler.postgres.queries import Queries

_QUERIES = Queries.load("reconciler.execution")
INSUFFICIENT_PRIVILEGE = "42501"
MISSING_PRIVILEGE = (
    "give the connecting role what it lacks (ALTER ROLE … CREATEDB, GRANT CREATE ON DATABASE), or make the "
    "database or extension by hand, which is taken as it is; then retry"
)
CREATE_DATABASE_LOCK = (0x7265636F, 0x63726462)
"""One creation at a time on a server: simultaneous ones wait for each other's checkpoint anyway."""


async def create_database(
    dsn: Dsn,
    database: str,
    *,
    intend: Callable[[], Awaitable[None]],
    deadline_s: float = 60.0,
) -> None:
    """Create an empty database; what is made cannot commit with a record, so `intend` records it before.

    A database that is there already is left as it is: the caller planned this step for one that is absent, or
    that is ours and empty, and looks again before it writes to it.
    """
    doing = f"creating database '{database}' on {dsn.server}"
    connection = await connect(dsn, role="maintenance")
    try:
        await acquire(connection, CREATE_DATABASE_LOCK, deadline_s=deadline_s, doing=doing)
        await intend()
        query = _QUERIES["create_database"].format(database=sql.Identifier(database))
        await connection.execute(query)
    except psycopg.errors.DuplicateDatabase:
        return
    except psycopg.Error as error:
        raise _failed(error, doing) from error
    finally:
        await connection.close()


async def create_extension(session: DatabaseSession, extension: str) -> None:
    """Create one extension under the fence; one that is there already is left as it is."""
    doing = f"creating extension '{extension}' in database '{session.database}' on {session.server}"
    writer = session.writer
    try:
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
            query = _QUERIES["create_extension"].format(extension=sql.Identifier(extension))
            await writer.execute(query)
    except psycopg.Error as error:
        raise _failed(error, doing) from error


def _failed(error: psycopg.Error, doing: str) -> Exception:
    told = translate(error, doing)
    if isinstance(told, TemporaryError):
        return told
    hint = told.hint or (MISSING_PRIVILEGE if error.sqlstate == INSUFFICIENT_PRIVILEGE else None)
    return StepFailed(told.message, hint=hint, sqlstate=error.sqlstate)
