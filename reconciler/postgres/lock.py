"""Advisory locks, tried and polled, never waited for inside PostgreSQL.

A session that is blocked on one holds a snapshot, and so deadlocks with CREATE INDEX CONCURRENTLY.
"""

import asyncio
import time

from reconciler.errors import LockNotAcquired
from reconciler.postgres.connection import Connection
from reconciler.postgres.queries import Queries

_QUERIES = Queries.load("reconciler.postgres")
POLL_S = 0.1


async def try_lock(connection: Connection, key: tuple[int, int]) -> bool:
    """Take a session lock if it is free."""
    cursor = await connection.execute(_QUERIES["try_lock"], {"class": key[0], "object": key[1]})
    row = await cursor.fetchone()
    return bool(row and row[0])


async def unlock(connection: Connection, key: tuple[int, int]) -> None:
    """Give a session lock back."""
    await connection.execute(_QUERIES["unlock"], {"class": key[0], "object": key[1]})


async def acquire(connection: Connection, key: tuple[int, int], *, deadline_s: float, doing: str) -> None:
    """Try until it is taken; raises LockNotAcquired with who holds it after `deadline_s`."""
    deadline = time.monotonic() + deadline_s
    while not await try_lock(connection, key):
        if time.monotonic() >= deadline:
            raise LockNotAcquired(f"{doing}: the lock is held by {await holder(connection, key)}")
        await asyncio.sleep(POLL_S)


async def holder(connection: Connection, key: tuple[int, int]) -> str:
    """Say who holds a lock, for people."""
    cursor = await connection.execute(_QUERIES["lock_holder"], {"class": key[0], "object": key[1]})
    row = await cursor.fetchone()
    return f"pid {row[0]} ({row[1] or 'no application name'})" if row else "nobody any more"
