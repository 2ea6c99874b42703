"""The one short, read-only transaction every snapshot is taken in; it reads nothing itself."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from reconciler.errors import ReconcilerError, Refused, TemporaryError
from reconciler.postgres.connection import translate
from reconciler.postgres.queries import Queries

Connection = psycopg.AsyncConnection[tuple[Any, ...]]
Result = TypeVar("Result")
Translate = Callable[[psycopg.Error, str], ReconcilerError]

QUERIES = Queries.load("reconciler.snapshot")
ATTEMPTS_MAX = 3
"""One read and two more, where DDL went on beside it."""

# Definitions are deparsed from the newest catalog, rows come from the snapshot. Where an object was dropped
# in between, the server cannot deparse it, or (22012) a query of ours noticed; neither says much.
_MOVED_UNDER_US = frozenset({"XX000", "42704", "42P01", "42883", "42703", "3F000", "22012"})


async def read_repeatedly(
    read: Callable[[], Awaitable[Result]], doing: str, *, translated: Translate = translate
) -> Result:
    """Do a whole read again, twice at most, where concurrent DDL broke it; errors come out translated.

    An error that `translated` knows for a refusal is one at once.
    """
    attempt = 1
    while True:
        try:
            return await read()
        except psycopg.Error as error:
            told = translated(error, doing)
            if error.sqlstate not in _MOVED_UNDER_US or isinstance(told, Refused):
                raise told from error
            if attempt == ATTEMPTS_MAX:
                raise TemporaryError(
                    f"{told.message}, {attempt} times in a row",
                    hint="other sessions may be dropping objects; should it stay so, the catalog is damaged",
                ) from error
        attempt += 1


@asynccontextmanager
async def reading(connection: Connection, *, snapshot: str | None = None) -> AsyncGenerator[None]:
    """Hold one repeatable-read, read-only transaction with fixed output settings, in pipeline mode.

    It sees what the transaction that exported `snapshot` sees. The connection must be idle before, and is
    again when the block is left, whatever happened in it.
    """
    if not _is_idle(connection):
        raise ValueError("a snapshot needs a connection that is in no transaction")
    try:
        async with connection.pipeline():
            await connection.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            if snapshot is not None:
                await connection.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
            await connection.execute(QUERIES["settings_for_reading"], prepare=False)
            yield
            await connection.execute("COMMIT")
    finally:
        if not connection.closed and not _is_idle(connection):
            await connection.rollback()


def _is_idle(connection: Connection) -> bool:
    return connection.info.transaction_status == TransactionStatus.IDLE
