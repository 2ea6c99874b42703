"""Say what went wrong with scripts of changes, in the words of the server and at their place, and try again
what only lost a race for locks. It sends no script itself.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import psycopg

from reconciler.errors import LeaseLost, LockNotAcquired, ReconcilerError, StepFailed
from reconciler.execution.session import DatabaseSession
from reconciler.postgres.connection import is_transient, translate
from reconciler.postgres.queries import Queries
from reconciler.state.desired import DesiredChange
from reconciler.state.program import Program, Purpose, compile_script
from reconciler.tracking import record
from reconciler.tracking.errors import translate as translate_record
from reconciler.tracking.record import Actor, ChangeRecord, Failure, ModuleIdentity

_QUERIES = Queries.load("reconciler.execution")
_WATCH_AFTER_S = 0.3
"""How long a change may run before we look who blocks it; most are done long before."""
_LOOK_WITH_ONE_S = 1.0
"""The same where a look takes one more session of the server, which costs more than most changes."""
_LISTEN_EVERY_S = 0.25
"""How often somebody who asks to stop is heard between two tries."""
_CAUSES_MAX = 8
READ_ONLY = "25006"
"""In a verify script the sign that it writes; elsewhere that of a standby, and so worth another try."""
_MAKES_READ_ONLY = frozenset({"TRANSACTION", "transaction_read_only"})
ROWS_AT_ONCE = 1000
"""Rows of a script's query that are in memory at once; nobody reads them, and they may be many."""
_CORRECT = "correct the script and push a new commit, or retry once the cause is gone"
_OWN_TRANSACTIONS = "put '-- transaction: none' at the top of the script, so that it runs outside of ours"
WRITES_NOTHING = "take READ ONLY out of the script: its record is written in the same transaction"
HINTS = {"2D000": _OWN_TRANSACTIONS, "25001": _OWN_TRANSACTIONS}
"""What to do about a script, by SQLSTATE."""


class ScriptFault(Exception):
    """A statement of a script failed: which one of which program; only ever the cause of what is raised."""

    def __init__(
        self, change: Any, program: Program, statement: int, error: psycopg.Error, position: int | None = None
    ) -> None:
        super().__init__(statement)
        self.change = change
        self.program = program
        self.statement = statement
        self.error = error
        self.position = position
        """Where in the statement, from 1; None where the error itself says so."""


def fault_of(error: BaseException | None) -> ScriptFault | None:
    """The statement of a script that an error is of, where it is of one."""
    for _ in range(_CAUSES_MAX):
        if error is None or isinstance(error, ScriptFault):
            return error
        error = error.__cause__
    return None


def record_of(change: DesiredChange) -> ChangeRecord:
    """What is recorded of a change; its scripts so that they can be run without the module's other files."""
    return ChangeRecord(
        change_id=change.change_id,
        name=change.name,
        script_hash=change.script_hash,
        parse_hash=change.parse_hash,
        revert_script=change.revert.self_contained() if change.revert else None,
        verify_script=change.verify.self_contained() if change.verify else None,
        note=change.note,
        requires=tuple(
            [("require", need, None) for need in change.requires]
            + [("conflict", need, None) for need in change.conflicts]
        ),
        tags=tuple((tag_id, tag) for tag_id, tag in change.tags),
        planned_at=change.planned_at,
        planner=change.planner,
        late=change.late,
    )


async def roll_back(session: DatabaseSession) -> None:
    """Take the transaction back, if there is one; a broken connection has done so already."""
    if session.writer_is_idle:
        return
    try:
        await session.writer.execute(_QUERIES["abandon_change"])
    except psycopg.Error:
        return


async def explain(
    session: DatabaseSession,
    identity: ModuleIdentity,
    change: DesiredChange,
    error: ScriptFault | psycopg.Error,
    actor: Actor,
    *,
    at_end: bool = False,
) -> ReconcilerError:
    """Turn a driver's error into ours: transient ones to be tried again, the others recorded and final.

    `at_end`: `change` ends a transaction of several; whose it is that no script failed with, nobody knows.
    """
    cause = error.error if isinstance(error, ScriptFault) else error
    change = error.change if isinstance(error, ScriptFault) else change
    unknown = at_end and not isinstance(error, ScriptFault)
    what = "ending the transaction of all changes up to" if unknown else "deploying change"
    doing = f"{what} '{change.name}' of module '{identity.project}' to database '{session.database}'"
    place = place_of(error)
    where = f" at {place[0]}:{place[1]}" if place else ""
    forbids = forbids_writing(compile_script(change.deploy, purpose=Purpose.DEPLOY), cause)
    passes = is_transient(cause) and not forbids and not _writes_in_verify(error, cause)
    if passes or (session.writer.closed and cause.sqlstate is None):
        return translate(cause, doing + where)
    told = (translate if place else translate_record)(cause, doing + where)
    if isinstance(told, LeaseLost):
        return told
    if not isinstance(told, StepFailed):
        told = StepFailed(
            told.message,
            hint=WRITES_NOTHING if forbids else told.hint or HINTS.get(cause.sqlstate or "", _CORRECT),
            file=place[0] if place else None,
            line=place[1] if place else None,
            sqlstate=cause.sqlstate,
        )
    await _record_failure(session, identity, change, told, actor)
    return told


async def _record_failure(
    session: DatabaseSession, identity: ModuleIdentity, change: DesiredChange, told: StepFailed, actor: Actor
) -> None:
    failure = Failure(message=told.message, sqlstate=told.sqlstate, file=told.file, line=told.line)
    with suppress(psycopg.Error, ReconcilerError):
        # The failure itself is what is told; its line in the log of the database is a courtesy.
        async with session.holder_lock:
            await record.change_failed(
                session.holder, session.fence, identity, record_of(change), failure, actor
            )


def forbids_writing(program: Program, cause: psycopg.Error) -> bool:
    """Whether a script itself makes its transaction read only, in which no record of it can be written."""
    return cause.sqlstate == READ_ONLY and any(
        statement.facts.sets in _MAKES_READ_ONLY for statement in program.statements
    )


def _writes_in_verify(error: ScriptFault | psycopg.Error, cause: psycopg.Error) -> bool:
    return (
        isinstance(error, ScriptFault)
        and error.program.purpose is Purpose.VERIFY
        and cause.sqlstate == READ_ONLY
    )


def place_of(error: ScriptFault | psycopg.Error) -> tuple[str, int] | None:
    """File and line that an error is of, where it is a script's; of data, the line the server names."""
    if not isinstance(error, ScriptFault):
        return None
    data = error.program.data_of(error.statement)
    place = data.place(error.error.diag.context) if data is not None else None
    if place is None:
        position = error.position or int(error.error.diag.statement_position or 1)
        place = error.program.place(error.statement, position)
    return place.file, place.line


async def with_lock_retries(
    session: DatabaseSession,
    attempt: Callable[[], Awaitable[None]],
    safe_point: Callable[[], Awaitable[None]],
    look: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Try again what only lost a race for locks, with growing pauses in which queued traffic drains.

    `look` is called beside what takes its time, again and again.
    """
    limits = session.limits
    for number in range(1, limits.lock_attempts + 1):
        seen: list[str] = []
        broken: list[Exception] = []
        watch = asyncio.create_task(_watch(session, seen, broken, asyncio.current_task(), look))
        try:
            return await attempt()
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if broken and task is not None and task.uncancel() == 0:
                raise broken[0] from None
            raise
        except LockNotAcquired as error:
            if number == limits.lock_attempts:
                held = f"; blocked by {seen[0]}" if seen else ""
                raise LockNotAcquired(
                    f"{error.message}{held}, after {number} tries of {limits.lock_timeout_s:g} s",
                    hint="end the blocking transaction, or wait: the operation is tried again by itself",
                ) from error
        finally:
            watch.cancel()
            await asyncio.wait({watch})
        pause = min(limits.lock_timeout_s * 1.5**number, 30.0)
        await _pause(pause * random.uniform(0.5, 1.0), safe_point)  # noqa: S311 - jitter, not a secret
    raise AssertionError("a change is tried once at the least")


async def _pause(seconds: float, safe_point: Callable[[], Awaitable[None]]) -> None:
    """Wait between two tries; nothing is under way, so whoever asks to stop is heard."""
    deadline = time.monotonic() + seconds
    while True:
        await safe_point()
        left = deadline - time.monotonic()
        if left <= 0:
            return
        await asyncio.sleep(min(left, _LISTEN_EVERY_S))


async def _watch(
    session: DatabaseSession,
    seen: list[str],
    broken: list[Exception],
    task: "asyncio.Task[None] | None",
    look: Callable[[], Awaitable[None]] | None,
) -> None:
    """Remember who blocked the writer last, and break the change off where somebody asks for that.

    Runs beside a change until it is stopped.
    """
    pause = min(_WATCH_AFTER_S, session.limits.lock_timeout_s / 4) or _WATCH_AFTER_S
    # Well before it gives up for a lock: who had that is told then.
    wait_s = min(_LOOK_WITH_ONE_S, session.limits.lock_timeout_s / 2) or _LOOK_WITH_ONE_S
    looks_at = time.monotonic() + (wait_s if session.is_one else 0.0)
    with suppress(psycopg.Error):
        while True:
            await asyncio.sleep(pause)
            if session.urgent is not None and task is not None:
                try:
                    session.urgent()
                except Exception as error:  # noqa: BLE001 - what is asked for is told by whoever is asked
                    broken.append(error)
                    task.cancel()
                    return
            if look is not None:
                await look()
            found = await session.blockers() if time.monotonic() >= looks_at else None
            if found is not None:
                seen[:] = [found]
