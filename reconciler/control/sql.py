"""The named queries of the control schema and how they are sent; no decision is made here."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import psycopg
from psycopg import errors
from psycopg.rows import dict_row

from reconciler.errors import NotFound, ReconcilerError
from reconciler.postgres.connection import Connection, translate
from reconciler.postgres.queries import Queries
from reconciler.rollout.next import PASSED, STAGED
from reconciler.rollout.states import CLAIMABLE, IN_FLIGHT, TERMINAL, TERMINAL_ROLLOUT
from reconciler.rollout.summary import AT_WORK, UNSUCCESSFUL

QUERIES = Queries.load("reconciler.control")

IN_FLIGHT_NAMES = sorted(state.value for state in IN_FLIGHT)
CLAIMABLE_NAMES = sorted(state.value for state in CLAIMABLE)
AT_WORK_NAMES = sorted(state.value for state in AT_WORK)
PASSED_NAMES = sorted(state.value for state in PASSED)
UNSUCCESSFUL_NAMES = sorted(state.value for state in UNSUCCESSFUL)
STAGED_NAMES = sorted(state.value for state in STAGED)
TERMINAL_NAMES = sorted(state.value for state in TERMINAL)
TERMINAL_ROLLOUT_NAMES = sorted(state.value for state in TERMINAL_ROLLOUT)
"""Sets of the table of states, as SQL is given them."""

Row = dict[str, Any]


async def run(connection: Connection, name: str, /, **parameters: object) -> None:
    """Send a query whose rows nobody needs."""
    await connection.execute(QUERIES[name], parameters)


async def one(connection: Connection, name: str, /, **parameters: object) -> Row | None:
    """The first row of a query by column name, or None."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(QUERIES[name], parameters)
        return await cursor.fetchone()


async def many(connection: Connection, name: str, /, **parameters: object) -> list[Row]:
    """All rows of a query by column name; the query bounds them."""
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(QUERIES[name], parameters)
        return await cursor.fetchall()


@asynccontextmanager
async def changing(connection: Connection, doing: str) -> AsyncIterator[None]:
    """One transaction with bounded waits; what the driver raises is said in our words."""
    with telling(doing):
        async with connection.transaction():
            await run(connection, "bound_waits")
            yield


@asynccontextmanager
async def at_once(connection: Connection, doing: str) -> AsyncIterator[None]:
    """One read-only transaction in which several reads see the same moment."""
    with telling(doing):
        async with connection.transaction():
            await run(connection, "one_snapshot")
            yield


@contextmanager
def telling(doing: str) -> Iterator[None]:
    """Say in our words what the driver raises."""
    try:
        yield
    except psycopg.Error as error:
        raise _translate(error, doing) from error


def _translate(error: psycopg.Error, doing: str) -> ReconcilerError:
    missing = errors.UndefinedTable | errors.InvalidSchemaName | errors.UndefinedFunction
    if isinstance(error, missing) and "reconciler_control" in (error.diag.message_primary or ""):
        return NotFound(
            f"{doing}: the control database has no control schema yet",
            hint="it is installed when the daemon starts",
        )
    return translate(error, doing)


def key(text: str) -> int | None:
    """The number that a rollout or operation is known by, or None where no row can have it."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None
