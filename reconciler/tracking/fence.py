"""The fence of one managed database: at most one operation writes to it, whoever else wants to.

The holder's session keeps an advisory lock; the tracking schema keeps the epoch, the owner and the backends
through which it writes. Whoever takes over ends those backends first, sees them gone, then raises the epoch.
Locks are tried and polled, never waited for inside PostgreSQL: a session that waits for an advisory lock
deadlocks with `CREATE INDEX CONCURRENTLY`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Self

import psycopg
from psycopg import errors
from psycopg.pq import TransactionStatus

from reconciler.errors import DatabaseUnavailable, FenceBusy, FenceTaken, PermanentError, ReconcilerError
from reconciler.postgres.connection import Connection
from reconciler.tracking.errors import translate
from reconciler.tracking.sql import QUERIES

CHECK = QUERIES["check_fence"]
"""Takes `epoch`; sent in a writing transaction, it keeps the epoch until that transaction ends."""

_POLL_FIRST_S = 0.02
_POLL_MOST_S = 0.25


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceOwner:
    """Who writes: an operation of a deployment of an environment, as one control database knows it."""

    control_id: str
    environment: str
    deployment: str
    operation: str

    @property
    def place(self) -> tuple[str, str, str]:
        """What a successor shares with the one it follows; operations of one place follow each other."""
        return (self.control_id, self.environment, self.deployment)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Attempt:
    """What one try to take the fence found."""

    taken: int | None
    lock_free: bool
    owner_epoch: int
    control_id: str
    environment: str
    deployment: str
    operation: str
    since: str
    backends: list[int]
    hidden: list[int]

    @property
    def place(self) -> tuple[str, str, str]:
        return (self.control_id, self.environment, self.deployment)


class Fence:
    """The right to write to one database, until released or taken over."""

    def __init__(self, connection: Connection, owner: FenceOwner, epoch: int) -> None:
        self._connection = connection
        self.owner = owner
        self.epoch = epoch

    @classmethod
    async def acquire(
        cls,
        connection: Connection,
        owner: FenceOwner,
        *,
        deadline_s: float,
        patience_s: float | None = None,
        terminate: bool = True,
    ) -> Self:
        """Take the fence on a session of its own, which must outlive every write.

        Ends the backends that a predecessor of the same environment and deployment left, or anyone whose
        session lock is gone, and waits for their end until the deadline. Waits for another owner that is at
        work for `patience_s`, or as long too, then raises FenceTaken naming it.
        """
        doing = f"taking the fence of database '{connection.info.dbname}'"
        _check_idle(connection, doing)
        try:
            await connection.execute(QUERIES["reset_session"])
            waits = (deadline_s, deadline_s if patience_s is None else min(patience_s, deadline_s))
            epoch = await _poll(connection, owner, doing, waits=waits, terminate=terminate)
        except psycopg.Error as error:
            await _unlock(connection)
            raise translate(error, doing) from error
        except BaseException:
            await _unlock(connection)
            raise
        return cls(connection, owner, epoch)

    async def enroll(self, connection: Connection) -> None:
        """Record one more backend through which the owner writes; without that its writes are refused."""
        doing = f"enrolling a backend in the fence of database '{connection.info.dbname}'"
        _check_idle(connection, doing)
        try:
            await connection.execute(QUERIES["reset_session"])
            await connection.execute(QUERIES["enroll_backend"], {"epoch": self.epoch})
        except psycopg.Error as error:
            raise translate(error, doing) from error

    async def check(self, connection: Connection) -> None:
        """Raise LeaseLost unless the fence is still ours; inside a transaction it then stays so."""
        try:
            await connection.execute(CHECK, {"epoch": self.epoch})
        except psycopg.Error as error:
            raise translate(error, f"checking the fence of database '{connection.info.dbname}'") from error

    async def release(self) -> None:
        """End the epoch and give the lock back; of a fence that was taken over, only the latter."""
        doing = f"releasing the fence of database '{self._connection.info.dbname}'"
        try:
            await self._connection.execute(QUERIES["release_fence"], {"epoch": self.epoch})
        except psycopg.Error as error:
            raise translate(error, doing) from error
        finally:
            await _unlock(self._connection)


async def _poll(
    connection: Connection,
    owner: FenceOwner,
    doing: str,
    *,
    waits: tuple[float, float],
    terminate: bool,
) -> int:
    """Try until the fence is ours; `waits` says for how long as a successor, and beside one that lives."""
    clock = asyncio.get_running_loop()
    deadline, patience = (clock.time() + wait_s for wait_s in waits)
    pause_s = _POLL_FIRST_S
    forbidden = False
    while True:
        attempt = await _try(connection, owner)
        if attempt.taken is not None:
            return attempt.taken
        succeeds = attempt.lock_free or attempt.place == owner.place
        if terminate and succeeds and attempt.backends:
            forbidden = not await _terminate(connection, attempt.owner_epoch)
        if clock.time() >= (deadline if succeeds else patience):
            raise await _busy(connection, attempt, doing, succeeds=succeeds, forbidden=forbidden)
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 1.5, _POLL_MOST_S)


async def _try(connection: Connection, owner: FenceOwner) -> _Attempt:
    parameters = {
        "control_id": owner.control_id,
        "environment": owner.environment,
        "deployment": owner.deployment,
        "operation": owner.operation,
    }
    cursor = await connection.execute(QUERIES["take_fence"], parameters)
    row = await cursor.fetchone()
    assert row is not None
    return _Attempt(**dict(zip(_Attempt.__slots__, row, strict=True)))


async def _terminate(connection: Connection, epoch: int) -> bool:
    """Tell the recorded backends of an epoch to end; false where this role may not."""
    try:
        await connection.execute(QUERIES["terminate_backends"], {"epoch": epoch})
    except errors.InsufficientPrivilege:
        return False
    return True


async def _busy(
    connection: Connection,
    attempt: _Attempt,
    doing: str,
    *,
    succeeds: bool,
    forbidden: bool,
) -> ReconcilerError:
    pids = sorted(attempt.backends) or await _lock_holders(connection)
    listed = ", ".join(str(pid) for pid in pids) or "unknown"
    whose = (
        f"environment '{attempt.environment}', deployment '{attempt.deployment}', operation"
        f" '{attempt.operation}' of control database '{attempt.control_id}' has held it since {attempt.since}"
    )
    if succeeds and (forbidden or attempt.hidden):
        reason = "this role may not see or end the backends that were left"
        hint = (
            f"as a superuser: SELECT pg_terminate_backend(pid) for {listed};"
            " for good: GRANT pg_signal_backend, pg_read_all_stats to the connecting role"
        )
    elif succeeds:
        reason = "the backends that were left have not ended"
        hint = f"look at backends {listed} in pg_stat_activity of that server"
    else:
        reason = "it is at work there"
        hint = (
            f"wait until operation '{attempt.operation}' has ended or stop it where it was started;"
            f" if that daemon is gone for good: SELECT pg_terminate_backend(pid) for {listed}"
        )
    kind = FenceBusy if succeeds else FenceTaken
    return kind(f"{doing}: {whose}, with backends {listed}: {reason}", hint=hint)


async def _lock_holders(connection: Connection) -> list[int]:
    cursor = await connection.execute(QUERIES["find_lock_holder"])
    return [row[0] for row in await cursor.fetchall()]


async def _unlock(connection: Connection) -> None:
    """Give the session lock back; a connection that cannot take the order any more has lost it anyway."""
    if connection.closed or connection.info.transaction_status is not TransactionStatus.IDLE:
        await connection.close()
        return
    with suppress(psycopg.Error):
        await connection.execute(QUERIES["unlock_fence"])


def _check_idle(connection: Connection, doing: str) -> None:
    if connection.closed:
        raise DatabaseUnavailable(f"{doing}: the connection is closed")
    if not connection.autocommit or connection.info.transaction_status is not TransactionStatus.IDLE:
        raise PermanentError(
            f"{doing}: the connection is inside a transaction, so nobody else would see it",
            hint="this is a fault of the daemon, not of the database; please report it",
        )


@asynccontextmanager
async def others_held_off(connection: Connection, *, deadline_s: float) -> AsyncIterator[bool]:
    """Let nobody take the fence of the database meanwhile; false where somebody has it until the deadline.

    For what locks and is taken back, such as a verify script that writes. Others try again, so be short.
    """
    pause, waited = _POLL_FIRST_S, 0.0
    while not await _hold_off(connection):
        if waited >= deadline_s:
            yield False
            return
        await asyncio.sleep(pause)
        waited, pause = waited + pause, min(2 * pause, _POLL_MOST_S)
    try:
        yield True
    finally:
        if not connection.closed:
            await connection.execute(QUERIES["let_on"])


async def _hold_off(connection: Connection) -> bool:
    cursor = await connection.execute(QUERIES["hold_off"])
    row = await cursor.fetchone()
    return row is not None and bool(row[0])
