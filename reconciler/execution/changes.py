"""Deploy changes of a module: script, verify script and record in one transaction each, where that can be."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

import psycopg

from reconciler.errors import ReconcilerError, Refused
from reconciler.execution import outside
from reconciler.execution.scripts import Batch, explain, record_of, reset, roll_back, with_lock_retries
from reconciler.execution.session import DatabaseSession
from reconciler.postgres.queries import Queries
from reconciler.state.desired import DesiredChange, DesiredModule, TransactionMode
from reconciler.state.program import Purpose, compile_script
from reconciler.state.tracked import Unfinished
from reconciler.tracking import record
from reconciler.tracking.record import Actor, ModuleIdentity

_QUERIES = Queries.load("reconciler.execution")
_WAY_OUT = (
    "look at the database; then run it again with --allow-hazard REPEATS_STATEMENT, or, if all of the change"
    " is there, record it as deployed with `reconciler module deploy --log-only`"
)
LOCKS_PER_STATEMENT = 4
"""Locks one statement that makes an object takes at the most: table, index, sequence, toast."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Who is told how far it is.

    `done` after each change; `safe_point` where nothing is under way and changes are left, raising to stop
    there; `recorded` where script and record are written and not committed yet, which costs a round trip;
    `repeats` says whether a person agreed that what may have run already of a change is run again.
    """

    done: Callable[[DesiredChange], Awaitable[None]]
    safe_point: Callable[[], Awaitable[None]]
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
    if module.transaction is TransactionMode.MODULE:
        await _forecast_locks(session, module, changes)
        groups = [changes]
    else:
        groups = [[change] for change in changes]
    for number, group in enumerate(groups):
        if number:
            await progress.safe_point()
        if not group[0].transactional:
            await _outside(session, identity, group[0], (actor, progress))
        else:
            attempt = partial(_together, session, identity, group, (actor, progress))
            await with_lock_retries(session, attempt, progress.safe_point)
        for change in group:
            await progress.done(change)


async def _together(
    session: DatabaseSession,
    identity: ModuleIdentity,
    changes: Sequence[DesiredChange],
    context: tuple[Actor, Progress],
) -> None:
    """Run changes in one transaction."""
    actor, progress = context
    current = changes[0]
    async with _transaction(session, identity, lambda: current, actor) as batch:
        for change in changes:
            current = change
            await _run_change(session, identity, change, (actor, batch))
            if len(changes) > 1 or progress.recorded is not None:
                # So that what fails from here on is the next change.
                await batch.sync()
            if progress.recorded is not None:
                progress.recorded(change)


def subject_of(
    session: DatabaseSession, identity: ModuleIdentity, change: DesiredChange, actor: Actor
) -> outside.Subject:
    """The deploy script of a change, to be run outside of transactions."""
    return outside.Subject(
        program=compile_script(change.deploy, purpose=Purpose.DEPLOY),
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


async def _outside(
    session: DatabaseSession,
    identity: ModuleIdentity,
    change: DesiredChange,
    context: tuple[Actor, Progress],
) -> None:
    """Run a change outside of transactions, then verify and record it in one."""
    actor, progress = context
    again = progress.repeats is not None and progress.repeats(change)
    run = outside.Run(session, subject_of(session, identity, change, actor), actor)
    await run.carry_out(progress.safe_point, again=again)

    async def finish() -> None:
        async with _transaction(session, identity, lambda: change, actor) as batch:
            await _verify_and_record(session, identity, change, (actor, batch))
            if progress.recorded is not None:
                await batch.sync()
                progress.recorded(change)

    await with_lock_retries(session, finish, progress.safe_point)


@asynccontextmanager
async def _transaction(
    session: DatabaseSession,
    identity: ModuleIdentity,
    current: Callable[[], DesiredChange],
    actor: Actor,
) -> AsyncIterator[Batch]:
    """Open and commit one transaction under the fence; any failure takes it back and is told in full.

    The fence is checked where the change is recorded, in the same transaction.
    """
    writer = session.writer
    batch = Batch(writer)
    try:
        async with batch:
            await writer.execute(_QUERIES["begin_change"])
            yield batch
            # Deferred constraints and triggers run at the commit and are the script's: they are to find the
            # settings that scripts find, and not those of our own statements.
            await reset(session)
            await writer.execute(_QUERIES["commit_change"])
    except (psycopg.Error, ReconcilerError) as error:
        await roll_back(session)
        cause = error if isinstance(error, psycopg.Error) else error.__cause__
        if not isinstance(cause, psycopg.Error):
            raise
        # In a pipeline a failure may be met by whoever sends next, and told as theirs.
        raise await explain(session, identity, current(), batch.fault(cause), actor) from cause
    except BaseException:
        await roll_back(session)
        raise


async def _run_change(
    session: DatabaseSession, identity: ModuleIdentity, change: DesiredChange, context: tuple[Actor, Batch]
) -> None:
    _actor, batch = context
    await reset(session)
    await batch.send(change, compile_script(change.deploy, purpose=Purpose.DEPLOY))
    await _verify_and_record(session, identity, change, context)


async def _verify_and_record(
    session: DatabaseSession, identity: ModuleIdentity, change: DesiredChange, context: tuple[Actor, Batch]
) -> None:
    actor, batch = context
    writer = session.writer
    if change.verify is not None:
        program = compile_script(change.verify, purpose=Purpose.VERIFY)
        await writer.execute(_QUERIES["begin_verify"])
        await writer.execute(_QUERIES["reset_role"])
        await reset(session)
        if not program.writes:
            await writer.execute(_QUERIES["verify_read_only"])
        await batch.send(change, program)
        await writer.execute(_QUERIES["end_verify"])
        await writer.execute(_QUERIES["release_verify"])
    await record.change_deployed(writer, session.fence, identity, record_of(change), actor)


async def _forecast_locks(
    session: DatabaseSession, module: DesiredModule, changes: Sequence[DesiredChange]
) -> None:
    """Refuse a whole-module transaction that would not fit into the server's lock table."""
    statements = sum(
        len(compile_script(change.deploy, purpose=Purpose.DEPLOY).statements) for change in changes
    )
    capacity = await session.lock_capacity()
    if statements * LOCKS_PER_STATEMENT > capacity:
        raise Refused(
            f"deploying module '{module.project}' in one transaction may take "
            f"{statements * LOCKS_PER_STATEMENT} locks, and the server at {session.server} "
            f"surely has room for {capacity}",
            hint="use transaction: change, or raise max_locks_per_transaction",
        )
