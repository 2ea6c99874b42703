"""Recognises a pooler that takes the session away between transactions; it knows no connection string.

Advisory locks, settings, prepared statements and LISTEN live in a session: without one, nothing is safe.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from contextlib import suppress
from typing import Any

import psycopg

from reconciler.errors import DatabaseUnavailable, PermanentError
from reconciler.postgres.queries import Queries

Connection = psycopg.AsyncConnection[Any]

_QUERIES = Queries.load("reconciler.postgres")
_ROUNDS = 3
"""How often it is tried: where many share the pool, one try may by chance find what a session would show."""
_STEP_TIMEOUT_S = 3.0
_KEEP_S = 300.0
_KEPT_MAX = 10_000
_NO_TRANSACTIONS = ("statement pooling", "ong transactions not allowed")


class PooledConnection(PermanentError):
    """What we connected to gives the session behind the connection to others between transactions."""


class Sessions:
    """What was found out about places to connect to, so that it is not asked for every connection."""

    def __init__(self) -> None:
        self._good: OrderedDict[Hashable, float] = OrderedDict()

    async def require(
        self,
        connection: Connection,
        place: tuple[Hashable, str | None],
        another: Callable[[], Awaitable[Connection]],
        doing: str,
    ) -> None:
        """Raise PooledConnection unless a connection to `place`, a server and a database, has a session.

        The process that the server named at the start is another than the one that answers wherever something
        stands between; only then a second connection is opened with `another`, to find out what that does.
        """
        server, _database = place
        if self._known(server) or self._known(place):
            return
        try:
            if await _backend(connection) == connection.info.backend_pid:
                self._remember(server)
                return
            if await _is_shared(connection, another, doing):
                raise PooledConnection(
                    f"{doing}: a pooler stands before it that gives the session to others between"
                    " transactions (transaction or statement mode), so that no lock would hold",
                    hint="connect to the server itself, or to a pool in session mode"
                    " (PgBouncer: pool_mode=session for this database)",
                )
        except TimeoutError:
            raise DatabaseUnavailable(
                f"{doing}: the pooler before it gave no session within {_STEP_TIMEOUT_S:g} s",
                hint="a daemon needs several sessions side by side: raise the size of the pool",
            ) from None
        self._remember(place)

    def _known(self, key: Hashable) -> bool:
        since = self._good.get(key)
        return since is not None and time.monotonic() - since < _KEEP_S

    def _remember(self, key: Hashable) -> None:
        self._good[key] = time.monotonic()
        self._good.move_to_end(key)
        while len(self._good) > _KEPT_MAX:
            self._good.popitem(last=False)


async def _is_shared(
    connection: Connection, another: Callable[[], Awaitable[Connection]], doing: str
) -> bool:
    """Whether a session goes to another connection, or changes, once its transaction has ended."""
    second = await another()
    try:
        for _ in range(_ROUNDS):
            before = await _in_transaction(connection)
            async with asyncio.timeout(_STEP_TIMEOUT_S):
                await second.execute(_QUERIES["begin_probe"])
                taken = await _backend(second)
            if taken == before or await _changed(connection, before):
                return True
            async with asyncio.timeout(_STEP_TIMEOUT_S):
                await second.execute(_QUERIES["end_probe"])
    except psycopg.Error as error:
        if any(words in str(error) for words in _NO_TRANSACTIONS):
            return True
        raise DatabaseUnavailable(f"{doing}: the pooler before it closed the connection") from error
    finally:
        with suppress(psycopg.Error, OSError):
            await second.close()
    return False


async def _in_transaction(connection: Connection) -> int:
    """The process behind a connection within a transaction that is over when this returns."""
    async with asyncio.timeout(_STEP_TIMEOUT_S):
        await connection.execute(_QUERIES["begin_probe"])
        found = await _backend(connection)
        await connection.execute(_QUERIES["end_probe"])
        return found


async def _changed(connection: Connection, before: int) -> bool:
    """Whether another process answers than before; one that keeps us waiting has given ours away."""
    try:
        return await _backend(connection) != before
    except TimeoutError:
        return True


async def _backend(connection: Connection) -> int:
    async with asyncio.timeout(_STEP_TIMEOUT_S):
        cursor = await connection.execute(_QUERIES["backend_pid"], prepare=False)
        row = await cursor.fetchone()
    return int(row[0]) if row else 0
