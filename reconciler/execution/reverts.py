"""Take deployed changes back, and record changes that are deployed already.

A revert script and the removal of its record are one transaction.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psycopg

from reconciler.diff.model import ToRevert
from reconciler.errors import LeaseLost, ReconcilerError, Refused, StepFailed
from reconciler.execution import at_once, outside
from reconciler.execution.scripts import (
    Batch,
    ScriptFault,
    place_of,
    reset,
    roll_back,
    with_lock_retries,
)
from reconciler.execution.session import DatabaseSession
from reconciler.postgres.connection import is_transient, translate
from reconciler.postgres.queries import Queries
from reconciler.state.desired import DesiredModule
from reconciler.state.program import Program, Purpose, compile_script
from reconciler.state.tracked import Unfinished
from reconciler.tracking import record
from reconciler.tracking.errors import translate as translate_record
from reconciler.tracking.record import Actor, ChangeRecord, Failure, ModuleIdentity

_QUERIES = Queries.load("reconciler.execution")
AT_ONCE_MAX = 32
"""Transactions under way at once."""
QUICK_S = 0.3
"""How long a batch may take for the next one to be larger; whoever asks to stop is heard after it."""
_WAY_OUT = (
    "look at the database; then ask for the revert again with --allow-hazard REPEATS_STATEMENT, and where the"
    " script cannot run twice, correct it first"
)
RECORDS_AT_ONCE = 200
"""Changes that are only recorded share a transaction up to this many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Who is told how far it is: `done` after each change, `safe_point` between two transactions.

    `written` where script and record are sent and not committed yet; it costs a round trip.
    """

    done: Callable[[], Awaitable[None]]
    safe_point: Callable[[], Awaitable[None]]
    written: Callable[[], None] | None = None


async def revert(
    session: DatabaseSession,
    changes: Sequence[ToRevert],
    actor: Actor,
    steps: Steps,
    *,
    again: bool = False,
) -> None:
    """Take changes back in the order given; each loses its record if and only if its script ran.

    `again`: a person agreed that what may have run already of an interrupted script is run again. Raises
    StepFailed with file and line, LockNotAcquired after the last try, or what `steps` raises.
    """
    row = _Row(session, changes, actor, steps)
    while row.left:
        if row.begun:
            await steps.safe_point()
        alone = row.outside()
        if alone is not None:
            await alone.carry_out(steps.safe_point, again=again)
        await with_lock_retries(session, row.some, steps.safe_point)


class _Row:
    """Changes to take back, a transaction each, as many sent at once as are quick.

    While the server writes one transaction to the disk, the next ones are on their way.
    """

    def __init__(
        self, session: DatabaseSession, changes: Sequence[ToRevert], actor: Actor, steps: Steps
    ) -> None:
        self._session = session
        self._changes = changes
        self._actor = actor
        self._steps = steps
        self._position = 0
        self._at_once = 1

    @property
    def begun(self) -> bool:
        """Whether any was taken back."""
        return self._position > 0

    @property
    def left(self) -> bool:
        """Whether any is left."""
        return self._position < len(self._changes)

    async def some(self) -> None:
        """Take the next ones back; those before one that fails stay so, and it is the next then."""
        group = self._together()
        programs = [(change, _program(change)) for change in group]
        if len(group) > 1 and all(at_once.may_share(program) for _change, program in programs):
            await self._as_one_message(programs)
        else:
            await self._one_by_one(group)

    async def _as_one_message(self, programs: Sequence[tuple[ToRevert, Program]]) -> None:
        """The quick way; what fails in it is found by trying it alone."""
        began = time.monotonic()
        gone = await at_once.take_back(self._session, programs, self._actor)
        await self._advance(gone)
        self._adapt(time.monotonic() - began if gone == len(programs) else None)

    def _adapt(self, took_s: float | None) -> None:
        """Choose how many are next: a batch is between two safe points, so few where they take their time.

        None: one of them failed, and is tried alone.
        """
        if took_s is None or self._steps.written is not None:
            self._at_once = 1
        elif took_s < QUICK_S:
            self._at_once = min(2 * self._at_once, AT_ONCE_MAX)
        else:
            self._at_once = max(1, self._at_once // 4)

    async def _one_by_one(self, group: Sequence[ToRevert]) -> None:
        """A transaction after the other, each statement by itself, so that what fails has its place."""
        session, batch = self._session, Batch(self._session.writer)
        ends: list[psycopg.AsyncCursor[Any]] = []
        began = time.monotonic()
        try:
            async with batch:
                for change in group:
                    ends.append(await self._send(batch, change))  # noqa: PERF401 - kept where a later one fails
        except (psycopg.Error, ReconcilerError) as error:
            await roll_back(session)
            await self._advance(_committed(ends))
            self._adapt(None)
            cause = error if isinstance(error, psycopg.Error) else error.__cause__
            if not isinstance(cause, psycopg.Error):
                raise
            failed, fault = self._changes[self._position], batch.fault(cause)
            if isinstance(fault, ScriptFault) and fault.change is not failed:
                fault = cause  # a statement of ours failed, and the scripts after it were not run
            raise await _explain(session, failed, fault, self._actor) from cause
        except BaseException:
            await roll_back(session)
            raise
        await self._advance(len(group))
        self._adapt(time.monotonic() - began)

    def outside(self) -> outside.Run | None:
        """The run of the next script where it cannot be one transaction; its record is removed behind it."""
        change = self._changes[self._position]
        program = _program(change)
        if program.transactional:
            return None
        session, row, actor = self._session, change.change, self._actor
        subject = outside.Subject(
            program=program,
            noted=Unfinished(
                change_id=row.change_id, project=change.project, name=row.name, script_hash=row.script_hash
            ),
            whose=change,
            doing=f"reverting change '{row.name}' of module '{change.project}' in database "
            f"'{session.database}'",
            way_out=_WAY_OUT,
            explain=lambda error: _explain(session, change, error, actor),
        )
        return outside.Run(session, subject, actor)

    def _together(self) -> Sequence[ToRevert]:
        """The next changes whose transactions are sent at once; one outside of them is by itself."""
        group = self._changes[self._position : self._position + self._at_once]
        characters = 0
        for number, change in enumerate(group):
            program = _program(change)
            characters += len(program.script.text)
            if number and (not program.transactional or characters > at_once.CHARACTERS_MAX):
                return group[:number]
            if not program.transactional:
                return group[:1]
        return group

    async def _advance(self, count: int) -> None:
        for _ in range(count):
            self._position += 1
            await self._steps.done()

    async def _send(self, batch: Batch, change: ToRevert) -> psycopg.AsyncCursor[Any]:
        """Send one transaction; gives the cursor of its end."""
        session, writer = self._session, self._session.writer
        program = _program(change)
        await writer.execute(_QUERIES["begin_change"])
        await reset(session)
        if program.transactional:
            await batch.send(change, program)
        name = (change.change.change_id, change.change.name)
        await record.change_reverted(writer, session.fence, change.project, name, self._actor)
        if self._steps.written is not None:
            await batch.sync()
            self._steps.written()
        await reset(session)
        return await writer.execute(_QUERIES["commit_change"])


def _program(change: ToRevert) -> Program:
    if change.script is None:
        raise Refused(f"change '{change.change.name}' of module '{change.project}' has no revert script")
    return compile_script(change.script, purpose=Purpose.REVERT)


def _committed(ends: Sequence[psycopg.AsyncCursor[Any]]) -> int:
    """How many transactions, from the first, the server said it has committed."""
    return next((number for number, end in enumerate(ends) if end.statusmessage != "COMMIT"), len(ends))


async def _explain(
    session: DatabaseSession, change: ToRevert, error: ScriptFault | psycopg.Error, actor: Actor
) -> ReconcilerError:
    """Turn a driver's error into ours: transient ones to be tried again, the others recorded and final."""
    cause = error.error if isinstance(error, ScriptFault) else error
    doing = (
        f"reverting change '{change.change.name}' of module '{change.project}' in database "
        f"'{session.database}'"
    )
    place = place_of(error)
    where = f" at {place[0]}:{place[1]}" if place else ""
    if is_transient(cause) or session.writer.closed:
        return translate(cause, doing + where)
    told = (translate if place else translate_record)(cause, doing + where)
    if isinstance(told, LeaseLost):
        return told
    if not isinstance(told, StepFailed):
        told = StepFailed(
            told.message,
            hint=told.hint
            or "correct the revert script and push a new commit, then ask for the revert again",
            file=place[0] if place else None,
            line=place[1] if place else None,
            sqlstate=cause.sqlstate,
        )
    failure = Failure(message=told.message, sqlstate=told.sqlstate, file=told.file, line=told.line)
    identity = ModuleIdentity(project=change.project, component=change.component)
    what = ChangeRecord(change_id=change.change.change_id, name=change.change.name)
    with suppress(psycopg.Error, ReconcilerError):
        async with session.holder_lock:
            await record.change_failed(session.holder, session.fence, identity, what, failure, actor)
    return told


async def record_only(
    session: DatabaseSession,
    module: DesiredModule,
    changes: Sequence[ChangeRecord],
    actor: Actor,
    steps: Steps,
    *,
    at_once: int = RECORDS_AT_ONCE,
) -> None:
    """Record changes as deployed and run nothing, `at_once` in each transaction."""
    identity = ModuleIdentity(project=module.project, component=module.component, uri=module.uri)
    writer = session.writer
    for start in range(0, len(changes), at_once):
        if start:
            await steps.safe_point()
        group = changes[start : start + at_once]
        try:
            async with writer.pipeline():
                await writer.execute(_QUERIES["begin_change"])
                for change in group:
                    await record.change_deployed(writer, session.fence, identity, change, actor)
                await writer.execute(_QUERIES["commit_change"])
        except psycopg.Error as error:
            await roll_back(session)
            doing = f"recording changes of module '{module.project}' in database '{session.database}'"
            raise translate_record(error, doing) from error
        except BaseException:
            await roll_back(session)
            raise
        for _change in group:
            await steps.done()
