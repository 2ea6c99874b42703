"""Advisory locks, tried and polled, never waited for inside PostgreSQL.

A session that is blocked on one holds a snapshot, and so deadlocks with CREATE INDEX CONCURRENTLY.
"""

import asyncio
import random
import time

from reconciler.errors import LockNotAcquired
from reconciler.postgres.connection import Connection
from reconciler.postgres.queries import Queries

_QUERIES = Queries.load("reconciler.postgres")
_POLL_MIN_S = 0.02
_POLL_MAX_S = 0.25
IDLE_S = 8.0
"""How long a session with a lock for short work may stand still; less than a lease."""


async def try_lock(connection: Connection, key: tuple[int, int]) -> bool:
    """Take a session lock if it is free."""
    cursor = await connection.execute(_QUERIES["try_lock"], {"class": key[0], "object": key[1]})
    row = await cursor.fetchone()
    return bool(row and row[0])


async def unlock(connection: Connection, key: tuple[int, int]) -> None:
    """Give a session lock back."""
    await connection.execute(_QUERIES["unlock"], {"class": key[0], "object": key[1]})
    await connection.execute(_QUERIES["stay_when_idle"])


async def acquire(
    connection: Connection,
    key: tuple[int, int],
    *,
    deadline_s: float,
    doing: str,
    idle_s: float = IDLE_S,
) -> None:
    """Try until it is taken; raises LockNotAcquired with who holds it after `deadline_s`.

    It is for short work: where the process stands still, the server ends the session, which frees the lock.
    The connection is in autocommit mode: a transaction that stays open while polling is what polling avoids.
    """
    assert connection.autocommit
    deadline = time.monotonic() + deadline_s
    pause = _POLL_MIN_S
    while not await try_lock(connection, key):
        left = deadline - time.monotonic()
        if left <= 0:
            raise LockNotAcquired(
                f"{doing}: the lock is held by {await holder(connection, key)},"
                f" and was not given back within {deadline_s:g} s"
            )
        # Jitter, not a secret: many that started together do not try together.
        await asyncio.sleep(min(left, pause * random.uniform(0.5, 1.0)))  # noqa: S311
        pause = min(pause * 1.5, _POLL_MAX_S)
    await connection.execute(_QUERIES["end_when_idle"], {"idle_ms": str(round(idle_s * 1000))})


async def holder(connection: Connection, key: tuple[int, int]) -> str:
    """Say who holds a lock, for people."""
    cursor = await connection.execute(_QUERIES["lock_holder"], {"class": key[0], "object": key[1]})
    row = await cursor.fetchone()
    if row is None:
        return "nobody any more"
    pid, application, role, client, seconds = row
    since = f", connected for {seconds:.0f} s" if seconds is not None else ""
    return f"pid {pid} ({application or 'no application name'}, role '{role}', from {client}{since})"
