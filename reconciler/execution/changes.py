"""Deploy changes of a module: script, verify script and record in one transaction each, where that can be."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial

from reconciler.errors import Refused
from reconciler.execution import outside
from reconciler.execution.messages import Piece, of_script
from reconciler.execution.phrases import Phrases
from reconciler.execution.scripts import explain, record_of, with_lock_retries
from reconciler.execution.sending import Row, Work
from reconciler.execution.session import DatabaseSession
from reconciler.frozen import frozen
from reconciler.state.desired import DesiredChange, DesiredModule, TransactionMode
from reconciler.state.locks import forecast
from reconciler.state.program import Program, Purpose, compile_script
from reconciler.state.tracked import Unfinished
from reconciler.tracking.record import Actor, ModuleIdentity

_WAY_OUT = (
    "look at the database; then run it again with --allow-hazard REPEATS_STATEMENT, or, if all of the change"
    " is there, record it as deployed with `reconciler module deploy --log-only`"
)


@frozen
class Progress:
    """Who is told how far it is.

    `done` after each change; `safe_point` where nothing is under way and changes are left, raising to stop
    there; `begun` for a change whose script is seen to run while those before it in one transaction are not
    done; `recorded` where script and record are written and not committed yet, which costs a round trip;
    `repeats` says whether a person agreed that what may have run already of a change is run again.
    """

    done: Callable[[DesiredChange], Awaitable[None]]
    safe_point: Callable[[], Awaitable[None]]
    begun: Callable[[DesiredChange], Awaitable[None]] | None = None
    recorded: Callable[[DesiredChange], None] | None = None
    repeats: Callable[[DesiredChange], bool] | None = None


async def deploy(
    session: DatabaseSession,
    module: DesiredModule,
    changes: Sequence[DesiredChange],
    actor: Actor,
    progress: Progress,
) -> None:
    """Deploy `changes` in order; each is recorded if and only if it was applied.

    Raises StepFailed with file and line, LockNotAcquired after the last try, or what `progress` raises.
    """
    identity = ModuleIdentity(project=module.project, component=module.component, uri=module.uri)
    phrases, shared = Phrases(session, actor), module.transaction is TransactionMode.MODULE
    work = Work(
        program=_program,
        pieces=partial(_pieces, phrases, identity),
        explain=lambda change, cause: explain(
            session, identity, change, cause, actor, at_end=shared and change is changes[-1]
        ),
        done=progress.done,
        change_id=lambda change: change.change_id,
        told=progress.recorded,
        begun=progress.begun,
    )
    row = Row(session, phrases, changes, work)
    if shared:
        await _forecast_locks(session, module, changes)
        await with_lock_retries(session, partial(row.in_one, len(changes)), progress.safe_point, row.look)
        return
    while row.left:
        if row.begun:
            await progress.safe_point()
        change = row.left[0]
        if not change.transactional:
            again = progress.repeats is not None and progress.repeats(change)
            run = outside.Run(session, subject_of(session, identity, change, actor), actor)
            await run.carry_out(progress.safe_point, again=again)
        await with_lock_retries(session, row.some, progress.safe_point, row.look)


def _pieces(
    phrases: Phrases, identity: ModuleIdentity, change: DesiredChange, apart: bool, _quiet: bool
) -> Iterator[Piece]:
    """Script, verify script and record of a change; the fence is checked where it is recorded."""
    if change.transactional:
        yield from of_script(_program(change), apart=apart)
    if change.verify is not None:
        program = compile_script(change.verify, purpose=Purpose.VERIFY)
        yield from phrases.verify(program, apart=apart)
    yield from phrases.deployed(identity, record_of(change), apart=apart)


def _program(change: DesiredChange) -> Program:
    return compile_script(change.deploy, purpose=Purpose.DEPLOY)


def subject_of(
    session: DatabaseSession, identity: ModuleIdentity, change: DesiredChange, actor: Actor
) -> outside.Subject:
    """The deploy script of a change, to be run outside of transactions."""
    return outside.Subject(
        program=_program(change),
        noted=Unfinished(
            change_id=change.change_id,
            project=identity.project,
            name=change.name,
            script_hash=change.script_hash,
        ),
        whose=change,
        doing=f"deploying change '{change.name}' of module '{identity.project}' to database "
        f"'{session.database}'",
        way_out=_WAY_OUT,
        explain=lambda error: explain(session, identity, change, error, actor),
    )


async def _forecast_locks(
    session: DatabaseSession, module: DesiredModule, changes: Sequence[DesiredChange]
) -> None:
    """Refuse a whole-module transaction that would not fit into the server's lock table."""
    locks = sum(forecast(_program(change).statements) for change in changes)
    capacity = await session.lock_capacity()
    if locks > capacity:
        raise Refused(
            f"deploying module '{module.project}' in one transaction may take {locks} locks, and the server "
            f"at {session.server} surely has room for {capacity}",
            hint="use transaction: change, or raise max_locks_per_transaction",
        )
