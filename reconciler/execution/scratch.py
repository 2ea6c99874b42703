"""Databases that are made to be tried in and dropped whatever happens; it drops none that it did not make."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from typing import TypeVar

import psycopg
from psycopg import sql

from reconciler.errors import TemporaryError
from reconciler.execution.provision import create_database
from reconciler.postgres.connection import Dsn, connect, translate
from reconciler.postgres.queries import Queries

PREFIX = "reconciler_scratch_"
"""What their names begin with."""
DROP_TIMEOUT_S = 60.0
_QUERIES = Queries.load("reconciler.execution")
_T = TypeVar("_T")


@asynccontextmanager
async def scratch_database(dsn: Dsn) -> AsyncIterator[str]:
    """Make an empty database under a new name, and drop it at the end, also where that is a cancellation."""
    database = f"{PREFIX}{secrets.token_hex(8)}"
    try:
        await create_database(dsn, database, intend=_nothing)
        yield database
    finally:
        await to_the_end(_drop(dsn, database))


async def to_the_end(work: Awaitable[_T]) -> _T:
    """Wait for something that bounds itself; who cancels that waits for its end too."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    return task.result()


async def _nothing() -> None:
    """Nobody has to know before: the name tells what it is."""


async def _drop(dsn: Dsn, database: str) -> None:
    doing = f"dropping scratch database '{database}' on {dsn.server}"
    try:
        async with asyncio.timeout(DROP_TIMEOUT_S):
            connection = await connect(dsn, role="maintenance")
            try:
                query = _QUERIES["drop_database"].format(database=sql.Identifier(database))
                await connection.execute(query)
            finally:
                await connection.close()
    except TimeoutError:
        hint = "drop it by hand"
        raise TemporaryError(f"{doing}: not done within {DROP_TIMEOUT_S:g} s", hint=hint) from None
    except psycopg.Error as error:
        raise translate(error, doing) from error
