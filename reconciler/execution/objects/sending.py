"""Transactions of generations on the writer of a session: their limits, their errors, and trying them anew.

Locks are waited for shortly and whole transactions are tried again: who reads what is live is never held up
behind us for longer than that.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

import psycopg
from psycopg import sql
from psycopg.pq import TransactionStatus

from reconciler.errors import LockNotAcquired, ReconcilerError, TemporaryError
from reconciler.execution.interference import Interference
from reconciler.execution.session import DatabaseSession
from reconciler.postgres.connection import Connection
from reconciler.postgres.queries import Queries
from reconciler.tracking.generations import translated

QUERIES = Queries.load("reconciler.execution")
SEARCH_PATH = "public"
"""Where a name without a schema is looked for: what is ours is qualified, so this is what others declare."""
_PAUSE_FIRST_S = 0.05
_PAUSE_MOST_S = 1.0

Result = TypeVar("Result")
Told = Callable[[str], Awaitable[None]]


async def _nobody(_what: str) -> None:
    return


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How transactions are made: waits in seconds, tries, whom progress is told, where tests strike."""

    lock_timeout_s: float = 0.5
    statement_timeout_s: float = 0.0
    attempts: int = 10
    search_path: str = SEARCH_PATH
    told: Told = _nobody
    interference: Interference = field(default_factory=Interference)

    def limits(self, *, durable: bool = False, statement_timeout_s: float | None = None) -> dict[str, str]:
        """Parameters of `limit_making`."""
        seconds = self.statement_timeout_s if statement_timeout_s is None else statement_timeout_s
        return {
            "lock_timeout_ms": str(max(1, round(self.lock_timeout_s * 1000))),
            "statement_timeout_ms": str(round(seconds * 1000)),
            "synchronous_commit": "on" if durable else "off",
            "search_path": self.search_path,
        }


def bound(connection: Connection, query: sql.SQL, parameters: dict[str, object] | dict[str, str]) -> str:
    """A query of ours with its values in it, to be sent in one message with others."""
    return psycopg.AsyncClientCursor(connection).mogrify(query, parameters)


async def send(connection: Connection, texts: Sequence[str]) -> None:
    """Send statements as one message; a statement may end in a comment, which the end of a line ends."""
    await connection.execute("\n;\n".join(texts).encode())


@asynccontextmanager
async def transaction(
    session: DatabaseSession, manner: Manner, doing: str, *, durable: bool = False
) -> AsyncIterator[Connection]:
    """Hold one transaction with our limits, the fence checked in it; its errors come out translated."""
    writer = session.writer
    try:
        async with writer.transaction():
            async with writer.pipeline():
                await session.fence.check(writer)
                await writer.execute(QUERIES["limit_making"], manner.limits(durable=durable))
            yield writer
    except psycopg.Error as error:
        raise translated(error, doing) from error


async def settled(connection: Connection) -> None:
    """Take back what a message left open."""
    if not connection.closed and connection.info.transaction_status != TransactionStatus.IDLE:
        with suppress(psycopg.Error):
            await connection.rollback()


async def repeatedly(attempt: Callable[[], Awaitable[Result]], manner: Manner) -> Result:
    """Try until it is not in the way of others, or the tries are spent; each try is a whole transaction."""
    pause_s = _PAUSE_FIRST_S
    for left in range(manner.attempts - 1, -1, -1):
        try:
            return await attempt()
        except ReconcilerError as error:
            if left == 0 or not _passes(error):
                raise
            await manner.told(f"trying again: {error.message}")
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _PAUSE_MOST_S)
    raise AssertionError("there is at least one attempt")


def _passes(error: ReconcilerError) -> bool:
    """Whether another try may be let through: a lock was held, or another session was at the same rows."""
    return isinstance(error, LockNotAcquired) or type(error) is TemporaryError
