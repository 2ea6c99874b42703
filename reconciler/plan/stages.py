"""Lay the steps of components into the stages of a plan; which steps there are is decided elsewhere."""

from collections.abc import Iterable, Mapping, Sequence

from reconciler.diff import requirements
from reconciler.diff.model import AnyPart, DatabaseDiff, Diff, JobDiff, LeftComponent, Reverts
from reconciler.frozen import frozen
from reconciler.plan.model import PlanStage
from reconciler.plan.programs import left_step, needs_of, program_steps, reverse_levels, sink_step
from reconciler.plan.steps import AnyStep, CreateExtension, CreateRole
from reconciler.state import order
from reconciler.state.desired import DesiredState
from reconciler.state.programs import Trigger

SINK_STAGE = "outputs kept"
"""Behind all others of a provision-only plan; like those of removals it has a blank, as no stage of specs."""
_BEHIND = "behind the stages of the spec"
ENDINGS = frozenset({Trigger.STOP, Trigger.REMOVE})


@frozen
class Laid:
    """The stages of a plan, why some of them wait, and all steps there would be if none waited."""

    stages: tuple[PlanStage, ...]
    waiting: tuple[str, ...]
    every_step: tuple[AnyStep, ...]


def lay(
    desired: DesiredState,
    diff: Diff,
    steps: Mapping[str, Sequence[AnyStep]],
    reverts: Sequence[tuple[Reverts, Sequence[AnyStep]]],
) -> Laid:
    """Stage after stage, what is to be off before all of them, and what left the spec behind them."""
    stops = [part for part in diff.left if part.stops]
    leaves = [part for part in diff.left if not part.stops]
    ending = [part for part in diff.programs if isinstance(part, JobDiff) and part.trigger in ENDINGS]
    off = tuple(_backwards("stop", desired, stops, ending))
    stages, waiting, unfinished = _stages(desired, diff, steps, reverts)
    gone = tuple(_backwards("removal", desired, leaves, []))
    every_step = [step for stage in (*off, *gone) for step in stage.steps]
    if gone and unfinished is not None:
        waiting.append(f"the removal of what left the spec waits: {unfinished}")
        gone = ()
    last: tuple[PlanStage, ...] = ()
    if desired.provision_only:
        sink = sink_step(desired.programs.sink, [step for stage in stages for step in stage.steps])
        last = (PlanStage(name=SINK_STAGE, steps=(sink,)),) if sink is not None else ()
    every_step += _once((step for own in steps.values() for step in own), set())
    every_step += [step for _part, own in reverts for step in own]
    return Laid(stages=(*off, *stages, *gone, *last), waiting=tuple(waiting), every_step=tuple(every_step))


def _stages(
    desired: DesiredState,
    diff: Diff,
    steps: Mapping[str, Sequence[AnyStep]],
    reverts: Sequence[tuple[Reverts, Sequence[AnyStep]]],
) -> tuple[list[PlanStage], list[str], str | None]:
    """The stages of the spec; once a component of one is blocked, later ones wait."""
    stages, waiting = list[PlanStage](), list[str]()
    unfinished: str | None = None
    extended: set[tuple[str, str]] = set()
    by_stage: dict[str, list[AnyPart]] = {name: [] for name in desired.stages}
    for part in diff.parts:
        by_stage[part.desired.stage].append(part)
    for name in desired.stages:
        parts = by_stage[name]
        own = _once(
            (step for component in _component_order(parts) for step in steps.get(component, ())), extended
        )
        # Everything is prepared before anything that runs is touched.
        own.sort(key=lambda step: not step.prepares)
        taken_back = [own_steps for part, own_steps in reverts if part.stage == name]
        own += [step for own_steps in taken_back for step in own_steps]
        if not taken_back and all(part.desired.skip for part in parts):
            stages.append(PlanStage(name=name, steps=(), skipped=_why_empty(desired, name)))
            continue
        if unfinished is not None:
            if own:
                waiting.append(f"stage '{name}' waits: {unfinished}")
            stages.append(PlanStage(name=name, steps=(), skipped=unfinished))
            continue
        stages.append(PlanStage(name=name, steps=tuple(own), skipped=None if own else "nothing to do"))
        blocked = [part.desired.component for part in parts if _is_unfinished(part)]
        if blocked:
            unfinished = f"component '{blocked[0]}' of stage '{name}' is blocked"
    return stages, waiting, unfinished


def _why_empty(desired: DesiredState, stage: str) -> str:
    if any(part.stage == stage and part.skip for part in desired.components):
        return "all components are skipped"
    if any(left.stage == stage for left in desired.left_out):
        return "left out: only resources are provisioned"
    return "nothing to do" if any(part.stage == stage for part in desired.components) else "no components"


def _is_unfinished(part: AnyPart) -> bool:
    """A module that diverged and has all of its plan deployed leaves nothing that later stages could need."""
    return bool(part.blocked) and (isinstance(part, DatabaseDiff) or part.works)


def _once(steps: Iterable[AnyStep], extended: set[tuple[str, str]]) -> list[AnyStep]:
    """Leave out what an earlier step makes: extensions that several modules require, roles of the server."""
    own = []
    for step in steps:
        if isinstance(step, CreateRole):
            if ("", step.role) in extended:
                continue
            extended.add(("", step.role))
        if isinstance(step, CreateExtension):
            if (step.database, step.extension) in extended:
                continue
            extended.add((step.database, step.extension))
        own.append(step)
    return own


def _component_order(parts: Sequence[AnyPart]) -> tuple[str, ...]:
    """Inside a stage: after what each requires, and by name where that leaves a choice."""
    requires = {part.desired.component: requirements.awaited(part) for part in parts}
    return order.topological(sorted(requires), requires)


def _backwards(
    word: str, desired: DesiredState, left: Sequence[LeftComponent], jobs: Sequence[JobDiff]
) -> Iterable[PlanStage]:
    """Stages that end components, the last stage of the spec first, and in each what nobody needs first.

    Steps of one stage of a plan run side by side, so that what others need stands in one of its own.
    """
    steps = {part.tracked.component: (left_step(part),) for part in left if part.removes and not part.blocked}
    rows: dict[str, Sequence[AnyStep]] = dict(steps)
    rows |= {part.desired.component: tuple(program_steps(part)) for part in jobs if not part.blocked}
    stages = {part.tracked.component: part.tracked.stage for part in left}
    # Where the spec has it by now: a stage that is renamed or moved rolls nothing, so nothing is noted of it.
    stages |= {part.component: part.stage for part in desired.components}
    needs = {part.tracked.component: needs_of(part.tracked.definition) for part in left}
    needs |= {part.desired.component: frozenset(requirements.awaited(part)) for part in jobs}
    by_stage: dict[str, list[str]] = {}
    for name in rows:
        stage = stages[name] if stages[name] in desired.stages else _BEHIND
        by_stage.setdefault(stage, []).append(name)
    for stage in (_BEHIND, *reversed(desired.stages)):
        levels = reverse_levels(by_stage.get(stage, ()), needs)
        for number, level in enumerate(levels, start=1):
            which = f" ({number} of {len(levels)})" if len(levels) > 1 else ""
            own = [step for name in level for step in rows[name]]
            own.sort(key=lambda step: not step.prepares)
            yield PlanStage(name=f"{word}: {stage}{which}", steps=tuple(own))
