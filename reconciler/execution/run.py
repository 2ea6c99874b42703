"""Run the steps of a plan, stage after stage; inside a stage, databases side by side.

Which steps there are and in which order was decided by the plan. Between any two steps is a safe point.
"""

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from reconciler.errors import Refused
from reconciler.execution import changes, provision
from reconciler.execution.resources import Resources
from reconciler.plan.model import DeploymentPlan, PlanStage
from reconciler.plan.steps import (
    AdoptDatabase,
    AnyStep,
    CreateDatabase,
    CreateExtension,
    DeployChange,
    InstallTracking,
    RecordTag,
    TakeBaseLine,
)
from reconciler.state.desired import DesiredChange, DesiredModule
from reconciler.tracking import record

PARALLEL_DATABASES_MAX = 8
"""Databases written to side by side within one operation; each needs two connections."""


class Journal(Protocol):
    """Where the progress of steps goes; `safe_point` raises to stop before the next one."""

    async def started(self, step: AnyStep) -> None:
        """A step begins."""

    async def finished(self, step: AnyStep, duration_s: float) -> None:
        """A step is done."""

    async def failed(self, step: AnyStep, duration_s: float, error: BaseException) -> None:
        """A step failed."""

    async def safe_point(self) -> None:
        """Nothing is under way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Lane:
    """The steps of one stage that go to one database, in order."""

    database: str
    steps: Sequence[AnyStep]


async def run(plan: DeploymentPlan, resources: Resources, journal: Journal) -> None:
    """Carry out a whole plan. The first error ends it once what runs beside it reached a safe point."""
    for stage in plan.stages:
        if stage.steps:
            await _run_stage(stage, resources, journal)


async def _run_stage(stage: PlanStage, resources: Resources, journal: Journal) -> None:
    lanes: dict[str, list[AnyStep]] = {}
    for step in stage.steps:
        lanes.setdefault(step.database, []).append(step)
    slots = asyncio.Semaphore(PARALLEL_DATABASES_MAX)
    stop = asyncio.Event()
    turns = _Turns(stage, resources)

    async def run_lane(lane: _Lane) -> None:
        async with slots:
            await _run_lane(lane, resources, journal, stop, turns)

    results = await asyncio.gather(
        *(run_lane(_Lane(database=database, steps=steps)) for database, steps in lanes.items()),
        return_exceptions=True,
    )
    errors = [result for result in results if isinstance(result, BaseException)]
    if errors:
        raise next((error for error in errors if isinstance(error, Exception)), errors[0])


class _Turns:
    """`after` edges between components of one stage: who waits for whom."""

    def __init__(self, stage: PlanStage, resources: Resources) -> None:
        desired = resources.desired
        self._after = {
            **{part.component: part.after for part in desired.databases},
            **{part.component: part.after for part in desired.modules},
        }
        self._left = {
            component: sum(1 for step in stage.steps if step.component == component)
            for component in {step.component for step in stage.steps}
        }
        self._done = {component: asyncio.Event() for component in self._left}

    async def wait(self, component: str, stop: asyncio.Event) -> None:
        """Return once everything before `component` is done, or something failed."""
        for before in self._after.get(component, ()):
            if before in self._done:
                waits = [asyncio.create_task(event.wait()) for event in (self._done[before], stop)]
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in waits:
                        task.cancel()

    def done(self, component: str, count: int) -> None:
        """Note `count` finished steps of a component."""
        self._left[component] -= count
        if self._left[component] <= 0:
            self._done[component].set()


async def _run_lane(
    lane: _Lane, resources: Resources, journal: Journal, stop: asyncio.Event, turns: _Turns
) -> None:
    try:
        for (component, kind), group in itertools.groupby(
            lane.steps, key=lambda step: (step.component, type(step))
        ):
            steps = list(group)
            await turns.wait(component, stop)
            if stop.is_set():
                return
            if kind is DeployChange:
                await _deploy(steps, resources, journal, stop)
            else:
                for step in steps:
                    await _one(step, resources, journal)
            turns.done(component, len(steps))
    except BaseException:
        stop.set()
        raise


async def _one(step: AnyStep, resources: Resources, journal: Journal) -> None:
    await journal.safe_point()
    resources.interference.at(f"before {step.id}")
    await _timed(step, journal, lambda: _carry_out(step, resources))
    resources.interference.at(f"after {step.id}")


async def _timed(step: AnyStep, journal: Journal, action: Callable[[], Awaitable[None]]) -> None:
    began = time.monotonic()
    await journal.started(step)
    try:
        await action()
    except BaseException as error:
        await journal.failed(step, time.monotonic() - began, error)
        raise
    await journal.finished(step, time.monotonic() - began)


async def _carry_out(step: AnyStep, resources: Resources) -> None:
    match step:
        case CreateDatabase():
            await provision.create_database(
                resources.dsn, step.database, intend=lambda: resources.intend(step.database)
            )
            resources.interference.at(f"inside {step.id}")
            await resources.session(step.database)
            await resources.forget(step.database)
        case AdoptDatabase():
            # Opening the session installs the schema, and ending it takes the base line.
            session = await resources.session(step.database)
            session.adopts_copy = step.copy
        case InstallTracking() | TakeBaseLine():
            await resources.session(step.database)
        case CreateExtension():
            await provision.create_extension(await resources.session(step.database), step.extension)
        case RecordTag():
            await _record_tag(step, resources)
        case DeployChange():
            raise AssertionError("changes are deployed in runs, not one by one")


async def _record_tag(step: RecordTag, resources: Resources) -> None:
    session = await resources.session(step.database)
    module, change = _change(step.component, step.change_id, resources)
    tag_id = next(tag_id for tag_id, tag in change.tags if tag == step.tag)
    await record.tag_recorded(
        session.writer, session.fence, module.project, step.change_id, (tag_id, step.tag), resources.actor
    )


async def _deploy(
    steps: Sequence[AnyStep], resources: Resources, journal: Journal, stop: asyncio.Event
) -> None:
    """Deploy a run of changes of one module: one session, one safe point after each change."""
    await journal.safe_point()
    session = await resources.session(steps[0].database)
    queue = [step for step in steps if isinstance(step, DeployChange)]
    found = [_change(step.component, step.change_id, resources) for step in queue]
    for step, (_module, change) in zip(queue, found, strict=True):
        if change.script_hash != step.script_hash:
            raise Refused(f"the plan deploys another version of '{step.script}' than the commit holds")
    position, began = 0, time.monotonic()
    resources.interference.at(f"before {queue[0].id}")
    await journal.started(queue[0])

    async def done(_change: DesiredChange) -> None:
        nonlocal position, began
        resources.interference.at(f"after {queue[position].id}")
        await journal.finished(queue[position], time.monotonic() - began)
        position += 1
        if position < len(queue):
            await journal.safe_point()
            if stop.is_set():
                raise asyncio.CancelledError
            began = time.monotonic()
            resources.interference.at(f"before {queue[position].id}")
            await journal.started(queue[position])

    def inside(change: DesiredChange) -> None:
        names = {step.change_id: step.id for step in queue}
        resources.interference.at(f"inside {names[change.change_id]}")

    try:
        await changes.deploy(
            session,
            found[0][0],
            [change for _module, change in found],
            resources.actor,
            changes.Progress(done=done, recorded=inside if resources.interference.active else None),
        )
    except Exception as error:
        if position < len(queue):
            await journal.failed(queue[position], time.monotonic() - began, error)
        raise


def _change(component: str, change_id: str, resources: Resources) -> tuple[DesiredModule, DesiredChange]:
    for module in resources.desired.modules:
        if module.component == component:
            for change in module.changes:
                if change.change_id == change_id:
                    return module, change
    raise Refused(f"change {change_id} of component '{component}' is not in the commit")
