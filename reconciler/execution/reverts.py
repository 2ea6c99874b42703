"""Take deployed changes back, and record changes that are deployed already.

A revert script and the removal of its record are one transaction.
"""

import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import takewhile

import psycopg

from reconciler.diff.model import ToRevert
from reconciler.errors import LeaseLost, ReconcilerError, Refused, StepFailed
from reconciler.execution import outside
from reconciler.execution.messages import Chapter, Exchange, Piece
from reconciler.execution.pace import Pace, fitting
from reconciler.execution.phrases import Phrases, is_quiet
from reconciler.execution.scripts import ScriptFault, place_of, roll_back, with_lock_retries
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
    """Changes to take back, a transaction each, as many sent at once as are quick."""

    def __init__(
        self, session: DatabaseSession, changes: Sequence[ToRevert], actor: Actor, steps: Steps
    ) -> None:
        self._session = session
        self._changes = changes
        self._actor = actor
        self._steps = steps
        self._phrases = Phrases(session, actor)
        self._pace = Pace(alone=steps.written is not None)
        self._position = 0
        self._watched = True
        """Whether event triggers may be there; they may read what was sent, so that each statement is."""

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
        if self._steps.written is not None:
            return await self._one_told(group[0])
        chapters = list(self._chapters(group))
        exchange = Exchange(chapters, self._phrases.watched)
        began = time.monotonic()
        if await self._carry(exchange, group, commits=True):
            self._watched = exchange.value != b"f"
            self._pace.took(time.monotonic() - began)
        return None

    def _chapters(self, group: Sequence[ToRevert]) -> Iterator[Chapter]:
        """A transaction of each; one that surely leaves the session as it is needs nothing around it."""
        phrases, clean, before = self._phrases, not self._watched, self._phrases.fresh
        for change in group:
            program = _program(change)
            quiet = clean = clean and is_quiet(program)
            pieces = (*before, phrases.begin, *self._pieces(change, quiet=quiet), phrases.commit)
            yield Chapter(change, pieces, () if quiet else phrases.fresh)
            before = ()

    def _pieces(self, change: ToRevert, *, quiet: bool) -> Iterator[Piece]:
        """Script and the removal of the record of a change."""
        program, name = _program(change), (change.change.change_id, change.change.name)
        if program.transactional:
            yield from self._phrases.script(program, apart=self._watched)
        yield from self._phrases.reverted(change.project, name, quiet=quiet, apart=self._watched)

    async def _one_told(self, change: ToRevert) -> None:
        """Take one change back, and tell before it commits."""
        phrases, told = self._phrases, self._steps.written
        assert told is not None
        pieces = (*phrases.fresh, phrases.begin, *self._pieces(change, quiet=False))
        await self._carry(Exchange([Chapter(change, pieces)]), [change], commits=False)
        try:
            told()
        except BaseException:
            await roll_back(self._session)
            raise
        await self._carry(Exchange([Chapter(change, (phrases.commit,))]), [change], commits=True)

    async def _carry(self, exchange: Exchange, group: Sequence[ToRevert], *, commits: bool) -> bool:
        """Send, and take back what failed; whether all of it came through.

        Where `commits`, what was done before stays, and is told as done.
        """
        lost: psycopg.Error | None = None
        whole = False
        try:
            await exchange.run(self._session.writer)
            whole = not exchange.failed
        except psycopg.Error as error:
            lost = error
        finally:
            if not whole:
                await roll_back(self._session)
            if commits:
                await self._advance(exchange.finished)
        if whole:
            return True
        self._pace.failed()
        if commits and exchange.unread:
            return False
        found = exchange.fault()
        if found is None and lost is not None:
            found = group[min(exchange.finished, len(group) - 1)], lost
        if found is None:
            return False
        whose, cause = found
        raise await _explain(self._session, whose, cause, self._actor) from cause

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
        """The next changes that are sent at once; what runs outside of transactions is by itself."""
        first = self._changes[self._position]
        if self._watched or not _program(first).transactional:
            return [first]
        following = self._changes[self._position : self._position + self._pace.at_once]
        group = list(takewhile(lambda change: _program(change).transactional, following))
        return group[: fitting([_program(change) for change in group])]

    async def _advance(self, count: int) -> None:
        for _ in range(count):
            self._position += 1
            await self._steps.done()


def _program(change: ToRevert) -> Program:
    if change.script is None:
        raise Refused(f"change '{change.change.name}' of module '{change.project}' has no revert script")
    return compile_script(change.script, purpose=Purpose.REVERT)


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
