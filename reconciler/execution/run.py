"""Run the steps of a plan, stage after stage; inside a stage, what needs nothing of each other side
by side, and first what prepares the rest.

Which steps there are and in which order was decided by the plan. Between any two steps is a safe point.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from reconciler.changes.script import Script
from reconciler.errors import LeaseLost, PermanentError, ReconcilerError, Refused
from reconciler.execution import (
    after_revert,
    changes,
    gate,
    jobs,
    module_tasks,
    program_steps,
    provision,
)
from reconciler.execution.course import Course, Journal, Parked
from reconciler.execution.lanes import edges, lanes, phases
from reconciler.execution.module_tasks import Stopped
from reconciler.execution.objects_steps import OBJECTS_STEPS, ObjectsStep, carry_out
from reconciler.execution.one_session import enough_with_one
from reconciler.execution.program_steps import PROGRAM_STEPS
from reconciler.execution.resources import Resources
from reconciler.execution.roles import NewRole, create_role
from reconciler.execution.scripts import fault_of
from reconciler.execution.turns import Turns, Writers
from reconciler.plan.model import DeploymentPlan, PlanStage
from reconciler.plan.steps import (
    AdoptDatabase,
    AnyStep,
    CheckGate,
    CreateDatabase,
    CreateExtension,
    CreateRole,
    DeployChange,
    InstallTracking,
    PromoteObjects,
    RecordChange,
    RecordTag,
    RenameChange,
    RevertChange,
    TakeBaseLine,
    VerifyRemaining,
)
from reconciler.state.desired import DesiredChange, DesiredModule, DesiredState
from reconciler.state.program import Purpose
from reconciler.tracking import record

PlainStep = (
    AdoptDatabase
    | CheckGate
    | CreateDatabase
    | CreateExtension
    | CreateRole
    | DeployChange
    | InstallTracking
    | RecordChange
    | RecordTag
    | RenameChange
    | RevertChange
    | TakeBaseLine
    | VerifyRemaining
)
"""Steps of databases and modules."""

PARALLEL_DATABASES_MAX = 8
"""Databases and modules written to side by side within one operation; each database needs two connections."""


async def run(plan: DeploymentPlan, resources: Resources, journal: Journal) -> None:
    """Carry out a whole plan. The first error ends it once what runs beside it reached a safe point."""
    resources.with_one_session = enough_with_one(plan, resources.desired)
    await jobs.clear(resources, {step.component for step in plan.steps})
    for stage in plan.stages:
        if stage.steps:
            await _run_stage(stage, resources, journal)


async def _run_stage(stage: PlanStage, resources: Resources, journal: Journal) -> None:
    writers = Writers(resources)
    for phase in phases(stage.steps, resources.stages):
        await _run_phase(phase, writers, resources.desired, journal)


async def _run_phase(
    steps: Sequence[AnyStep], writers: Writers, desired: DesiredState, journal: Journal
) -> None:
    """All of it is done when it returns; of several errors the gravest is told, and of these the first."""
    # What only prepares needs nothing of the others, whatever comes after what.
    after = {} if steps[0].prepares else edges(steps, desired)
    turns = Turns(steps, after, databases=PARALLEL_DATABASES_MAX)
    await asyncio.gather(
        *(_run_lane(row, writers, journal, turns) for row in lanes(steps, desired)),
        return_exceptions=True,
    )
    if turns.errors:
        raise min(turns.errors, key=_rank)


def _rank(error: BaseException) -> int:
    """Which of several errors is told: what ends the operation for good, before what merely stopped it."""
    order = (LeaseLost, PermanentError, ReconcilerError, Parked, Stopped, Exception)
    ranks = (0, 1, 2, 4, 5, 3)
    return next((rank for kind, rank in zip(order, ranks, strict=True) if isinstance(error, kind)), 6)


async def _run_lane(steps: Sequence[AnyStep], writers: Writers, journal: Journal, turns: Turns) -> None:
    """Run the steps of one phase that go to one database, or all those of a component, in order."""
    database = steps[0].database
    try:
        for (component, kind), group in itertools.groupby(steps, key=_together):
            run_of_steps = list(group)
            await turns.wait(component)
            async with turns.slot(database), writers.one(database) as resources:
                turns.go_on()
                await _run_group(kind, run_of_steps, resources, journal, turns)
            for step in run_of_steps:
                turns.done(step.component, 1)
    except Parked as parked:
        turns.park(steps, parked)
        raise
    except BaseException as error:
        turns.stop(error)
        raise


def _together(step: AnyStep) -> tuple[str, type[AnyStep]]:
    """What is run in one go: changes of a component, or reverts of whichever modules in their one order."""
    return ("" if isinstance(step, RevertChange) else step.component, type(step))


async def _run_group(
    kind: type[AnyStep], steps: Sequence[AnyStep], resources: Resources, journal: Journal, turns: Turns
) -> None:
    if kind is DeployChange:
        await _deploy(steps, resources, journal, turns)
    elif kind is RevertChange:
        reverted = [step for step in steps if isinstance(step, RevertChange)]
        await module_tasks.run_reverts(reverted, resources, journal, turns.go_on)
    elif kind is RecordChange:
        recorded = [step for step in steps if isinstance(step, RecordChange)]
        module = _module(recorded[0], resources)
        await module_tasks.run_records(recorded, module, resources, journal, turns.go_on)
    else:
        for step in steps:
            turns.go_on()
            await _one(step, resources, journal)


async def _one(step: AnyStep, resources: Resources, journal: Journal) -> None:
    await journal.safe_point()
    resources.interference.at(f"before {step.id}")
    if isinstance(step, OBJECTS_STEPS):
        await _objects(step, resources, journal)
    elif isinstance(step, PROGRAM_STEPS):
        await _timed(step, journal, lambda: program_steps.carry_out(step, resources, journal))
    else:
        await _timed(step, journal, lambda: _carry_out(step, resources))
    resources.interference.at(f"after {step.id}")


async def _objects(step: ObjectsStep, resources: Resources, journal: Journal) -> None:
    """One step of SQL objects; of the switches of an operation one at a time is let go on and made."""
    if not isinstance(step, PromoteObjects):
        await _timed(step, journal, lambda: carry_out(step, resources, journal))
        return
    async with resources.promoting:
        await journal.may_promote(step)
        await _timed(step, journal, lambda: carry_out(step, resources, journal))


async def _timed(step: AnyStep, journal: Journal, action: Callable[[], Awaitable[None]]) -> None:
    began = time.monotonic()
    await journal.started(step)
    try:
        await action()
    except BaseException as error:
        await journal.failed(step, time.monotonic() - began, error)
        raise
    await journal.finished(step, time.monotonic() - began)


async def _carry_out(step: PlainStep, resources: Resources) -> None:
    match step:
        case CreateDatabase():
            dsn = await resources.dsn_of(step.database)
            await provision.create_database(
                dsn, step.database, intend=lambda: resources.intend(step.database)
            )
            resources.interference.at(f"inside {step.id}")
            await resources.session(step.database)
            await resources.forget(step.database)
        case AdoptDatabase():
            # Opening the session installs the schema, and ending it takes the base line.
            session = await resources.session(step.database)
            session.adopts_copy = step.copy
        case VerifyRemaining() | CheckGate():
            await _look(step, resources)
        case InstallTracking() | TakeBaseLine():
            await resources.session(step.database)
        case CreateRole():
            await _create_role(step, resources)
        case CreateExtension():
            await provision.create_extension(await resources.session(step.database), step.extension)
        case RecordTag():
            await _record_tag(step, resources)
        case RenameChange():
            session = await resources.session(step.database)
            await record.change_renamed(
                session.writer, session.fence, step.project, (step.change_id, step.change), resources.actor
            )
        case DeployChange() | RecordChange() | RevertChange():
            raise AssertionError("changes are carried out in runs, not one by one")


async def _look(step: VerifyRemaining | CheckGate, resources: Resources) -> None:
    """Steps that only read, and fail where they find what should not be so."""
    if isinstance(step, CheckGate):
        await gate.check_gate(step, await resources.dsn_of(step.database))
    else:
        await after_revert.verify_remaining(step, resources)


async def _create_role(step: CreateRole, resources: Resources) -> None:
    """The password is looked up now and kept nowhere."""
    password = None
    if step.with_password:
        known = (role for part in resources.desired.databases for role in part.roles)
        reference = next((role.password for role in known if role.name == step.role), None)
        if reference is None or resources.secret is None:
            raise Refused(f"the commit says of no password for role '{step.role}'")
        password = resources.secret(reference)
    wanted = NewRole(name=step.role, attributes=step.attributes, member_of=step.member_of)
    dsn = await resources.dsn_of(step.database)
    await create_role(await resources.session(step.database), dsn, wanted, password=password)


async def _record_tag(step: RecordTag, resources: Resources) -> None:
    session = await resources.session(step.database)
    module = _module(step, resources)
    change = _changes(module, [step])[0]
    tag_id = next(tag_id for tag_id, tag in change.tags if tag == step.tag)
    await record.tag_recorded(
        session.writer,
        session.fence,
        module.project,
        step.recorded_id or step.change_id,
        (tag_id, step.tag),
        resources.actor,
    )


async def _deploy(steps: Sequence[AnyStep], resources: Resources, journal: Journal, turns: Turns) -> None:
    """Deploy a run of changes of one module: one session, one safe point after each transaction."""
    await journal.safe_point()
    queue = [step for step in steps if isinstance(step, DeployChange)]
    module = _module(queue[0], resources)
    wanted = _changes(module, queue)
    for step, change in zip(queue, wanted, strict=True):
        if change.script_hash != step.script_hash:
            raise Refused(f"the plan deploys another version of '{step.script}' than the commit holds")
    session = await resources.session(queue[0].database)
    numbers = {step.change_id: number for number, step in enumerate(queue)}
    course, interference = Course(queue, journal, resources.interference), resources.interference

    async def done(change: DesiredChange) -> None:
        step = queue[course.position]
        interference.at(f"after {step.id}")
        resources.tell(step, *_scripts(change))
        await course.done()

    async def safe_point() -> None:
        await journal.safe_point()
        turns.go_on()

    async def begun(change: DesiredChange) -> None:
        await course.runs(numbers[change.change_id])

    def inside(change: DesiredChange) -> None:
        interference.at(f"inside {queue[numbers[change.change_id]].id}")

    progress = changes.Progress(
        done=done,
        safe_point=safe_point,
        begun=None if interference.active else begun,
        recorded=inside if interference.active else None,
        repeats=lambda _change: resources.repeats,
    )
    await course.begin()
    try:
        await changes.deploy(session, module, wanted, resources.actor, progress)
    except Exception as error:
        if course.position < len(queue) and not isinstance(error, Stopped):
            number = _broken(wanted, course.position, error)
            resources.tell(queue[number], *_scripts(wanted[number]), error=error)
            await course.failed(number, error)
        raise


def _broken(changes: Sequence[DesiredChange], position: int, error: Exception) -> int:
    """The change that failed: in one transaction not always the first of those that are not done."""
    fault = fault_of(error)
    places = range(position, len(changes))
    return next((place for place in places if fault is not None and changes[place] is fault.change), position)


def _scripts(change: DesiredChange) -> tuple[tuple[Script | None, Purpose], ...]:
    return (change.deploy, Purpose.DEPLOY), (change.verify, Purpose.VERIFY)


def _module(step: DeployChange | RecordChange | RecordTag, resources: Resources) -> DesiredModule:
    for module in resources.desired.modules:
        if module.component == step.component:
            return module
    raise Refused(f"component '{step.component}' is not in the commit")


def _changes(module: DesiredModule, steps: Sequence[DeployChange | RecordTag]) -> list[DesiredChange]:
    known = {change.change_id: change for change in module.changes}
    for step in steps:
        if step.change_id not in known:
            raise Refused(f"change {step.change_id} of component '{module.component}' is not in the commit")
    return [
        replace(known[step.change_id], late=True)
        if isinstance(step, DeployChange) and step.late
        else known[step.change_id]
        for step in steps
    ]
