"""Take deployed changes back, and record changes that are deployed already.

A revert script and the removal of its record are one transaction.
"""

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from itertools import takewhile

import psycopg

from reconciler.diff.model import ToRevert
from reconciler.errors import LeaseLost, ReconcilerError, Refused, StepFailed
from reconciler.execution import outside
from reconciler.execution.messages import Piece, of_script
from reconciler.execution.phrases import Phrases, is_quiet
from reconciler.execution.scripts import (
    HINTS,
    WRITES_NOTHING,
    ScriptFault,
    forbids_writing,
    place_of,
    roll_back,
    with_lock_retries,
)
from reconciler.execution.sending import Row, Work
from reconciler.execution.session import DatabaseSession
from reconciler.frozen import frozen
from reconciler.postgres.connection import is_transient, translate
from reconciler.postgres.queries import Queries
from reconciler.state.desired import DesiredModule
from reconciler.state.locks import forecast
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
_CORRECT = "correct the revert script and push a new commit, then ask for the revert again"
RECORDS_AT_ONCE = 200
"""Changes that are only recorded share a transaction up to this many."""


@frozen
class Steps:
    """Who is told how far it is: `done` after each change, `safe_point` between two transactions.

    `begun` for the change of a number, from 0, whose script runs while those before it are not done.

    `written` where script and record are sent and not committed yet; it costs a round trip.
    """

    done: Callable[[], Awaitable[None]]
    safe_point: Callable[[], Awaitable[None]]
    begun: Callable[[int], Awaitable[None]] | None = None
    written: Callable[[], None] | None = None


async def revert(
    session: DatabaseSession,
    changes: Sequence[ToRevert],
    actor: Actor,
    steps: Steps,
    *,
    again: bool = False,
    together: Collection[str] = (),
) -> None:
    """Take changes back in the order given; each loses its record if and only if its script ran.

    Those of a project of `together` share a transaction where they follow each other and the server has room
    for their locks; a revert is too dear to be refused for that. `again`: a person agreed that what may have
    run already of an interrupted script is run again. Raises StepFailed with file and line, LockNotAcquired
    after the last try, or what `steps` raises.
    """
    phrases, usual = Phrases(session, actor), await _runs_triggers(session)

    async def done(_change: ToRevert) -> None:
        await steps.done()

    async def begun(change: ToRevert) -> None:
        if steps.begun is not None:
            await steps.begun(changes.index(change))

    written = steps.written
    work = Work(
        program=_program,
        pieces=partial(_pieces, phrases),
        explain=lambda change, cause: _explain(session, change, cause, actor),
        done=done,
        change_id=lambda change: change.change.change_id,
        gone=True,
        begun=begun,
        is_quiet=lambda change: usual and is_quiet(_program(change)),
        told=None if written is None else lambda _change: written(),
    )
    row, sharing = Row(session, phrases, changes, work), set(together)
    while row.left:
        if row.begun:
            await steps.safe_point()
        alone = _outside(session, row.left[0], actor)
        if alone is not None:
            await alone.carry_out(steps.safe_point, again=again)
        count = await _in_one(session, row.left, sharing)
        attempt = partial(row.in_one, count) if count else row.some
        await with_lock_retries(session, attempt, steps.safe_point, row.look)


async def _runs_triggers(session: DatabaseSession) -> bool:
    try:
        return await session.runs_triggers()
    except psycopg.Error as error:
        raise translate(error, f"reverting changes in database '{session.database}'") from error


def _outside(session: DatabaseSession, change: ToRevert, actor: Actor) -> outside.Run | None:
    """The run of a script that cannot be one transaction; its record is removed behind it."""
    program = _program(change)
    if program.transactional:
        return None
    row = change.change
    subject = outside.Subject(
        program=program,
        noted=Unfinished(
            change_id=row.change_id, project=change.project, name=row.name, script_hash=row.script_hash
        ),
        whose=change,
        doing=f"reverting change '{row.name}' of module '{change.project}' in database '{session.database}'",
        way_out=_WAY_OUT,
        explain=lambda error: _explain(session, change, error, actor),
    )
    return outside.Run(session, subject, actor)


def _pieces(phrases: Phrases, change: ToRevert, apart: bool, quiet: bool) -> Iterator[Piece]:
    """Script and the removal of the record of a change."""
    program, name = _program(change), (change.change.change_id, change.change.name)
    if program.transactional:
        yield from of_script(program, apart=apart)
    yield from phrases.reverted(change.project, name, quiet=quiet, apart=apart)


async def _in_one(session: DatabaseSession, left: Sequence[ToRevert], together: set[str]) -> int:
    """How many of the next ones share a transaction; where it would hold too many locks, never mind."""
    first = left[0].project
    if first not in together:
        return 0
    programs = [_program(change) for change in takewhile(lambda change: change.project == first, left)]
    programs = list(takewhile(lambda program: program.transactional, programs))
    locks = sum(forecast(program.statements) for program in programs)
    if locks > await session.lock_capacity():
        together.discard(first)
        return 0
    return len(programs)


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
    forbids = forbids_writing(_program(change), cause)
    passes = is_transient(cause) and not forbids
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
