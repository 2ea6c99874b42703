"""The plan that removes what an environment deployed, last stage first; databases stay unless named."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from reconciler.diff.model import Action, JobDiff, PendingChange
from reconciler.plan import digest
from reconciler.plan.encode import step_to_json
from reconciler.plan.hazards import NEEDS_CONSENT, Hazard, HazardCode
from reconciler.plan.model import DeploymentPlan, PlanStage, Scope
from reconciler.plan.outputs import accounts
from reconciler.plan.programs import forget_job, program_steps, remove_route, remove_service
from reconciler.plan.steps import AnyStep, DropDatabase, PrepareProgram, RunJob, StepKind
from reconciler.state.desired import DesiredDatabase, DesiredState
from reconciler.state.live import LiveDatabase, LiveState
from reconciler.state.programs import DesiredJob, DesiredRoute, DesiredService, Trigger
from reconciler.state.removal import Removal
from reconciler.state.tracked import TrackedPrograms, TrackedState

DROPS = "the database is dropped with all that is in it"
_GONE_BEFORE = "behind the stages of the spec"


def build_removal(
    desired: DesiredState,
    states: tuple[TrackedState, LiveState],
    removal: Removal,
    allowed: frozenset[str],
    *,
    ran: frozenset[str] = frozenset(),
) -> DeploymentPlan:
    """Plan it; `desired` is what the last commit that declared the environment says of the deployment.

    `ran` are jobs that the operation which removes it ran to their end already.

    Steps of one stage of the plan run side by side, so what others of its stage need stands in a stage of
    its own behind them.
    """
    tracked, live = states
    blocked = tuple(
        f"{name}: {why}"
        for name, why in sorted(live.programs.unknown.items())
        if name in tracked.programs.components
    )
    steps = dict(_steps(desired, states, removal, ran))
    stages = tuple(_stages(desired, tracked, steps)) if not blocked else ()
    every = [step for stage in stages for step in stage.steps]
    kept, wanted = accounts(desired, tracked, every)
    base = digest.digest(
        {
            "deployment": desired.deployment,
            "components": {name: part.instance for name, part in sorted(tracked.programs.components.items())},
        }
    )
    return DeploymentPlan(
        name=desired.deployment,
        base=base,
        digest=digest.digest(_body(desired, stages, base, removal)),
        stages=stages,
        pending=tuple(_pending(step) for step in every if not isinstance(step, PrepareProgram | RunJob)),
        blocked=blocked,
        refused=tuple(
            f"{step.component}: {step.identity}: hazard {hazard.code.value}: {hazard.message}"
            for step in every
            for hazard in step.hazards
            if hazard.code in NEEDS_CONSENT and hazard.code.value not in allowed
        ),
        removal=removal,
        kept_outputs=kept,
        wanted_outputs=wanted,
    )


def _body(
    desired: DesiredState, stages: Sequence[PlanStage], base: str, removal: Removal
) -> Mapping[str, Any]:
    return {
        "environment": desired.environment,
        "deployment": desired.deployment,
        "commit": desired.commit,
        "scope": Scope.FULL.value,
        "base": base,
        "removal": asdict(removal),
        "stages": ({"name": stage.name, "steps": map(step_to_json, stage.steps)} for stage in stages),
    }


def _pending(step: AnyStep) -> PendingChange:
    return PendingChange(
        component=step.component,
        identity=step.identity,
        action=Action.REMOVE,
        reason="its environment is removed",
    )


def _stages(
    desired: DesiredState, tracked: TrackedState, steps: Mapping[str, Sequence[AnyStep]]
) -> Iterable[PlanStage]:
    known = {name: part.stage for name, part in tracked.programs.components.items()}
    # Where the spec has it by now: a stage that is renamed or moved rolls nothing, so nothing is noted of it.
    known |= {part.component: part.stage for part in desired.components}
    order = [_GONE_BEFORE, *reversed(desired.stages)]
    needed = _needs(desired, tracked)
    for stage in order:
        own = [
            name
            for name in sorted(steps)
            if (known[name] == stage if stage != _GONE_BEFORE else known[name] not in desired.stages)
        ]
        levels = _levels(own, needed)
        for number, level in enumerate(levels):
            name = stage if len(levels) == 1 else f"{stage} ({number + 1} of {len(levels)})"
            found = sorted(
                (step for part in level for step in steps[part]), key=lambda step: not step.prepares
            )
            yield PlanStage(name=name, steps=tuple(found))


def _levels(names: Sequence[str], needs: Mapping[str, frozenset[str]]) -> list[list[str]]:
    """The components in rows: nobody is in an earlier row than those of these who need it."""
    left, rows = list(names), list[list[str]]()
    while left:
        needed = {need for name in left for need in needs.get(name, frozenset()) if need != name}
        row = [name for name in left if name not in needed] or left
        rows.append(row)
        left = [name for name in left if name not in row]
    return rows


def _needs(desired: DesiredState, tracked: TrackedState) -> dict[str, frozenset[str]]:
    """What each component needs; a route needs its service also where the spec has it no more."""
    found: dict[str, frozenset[str]] = {}
    for part in desired.components:
        own = set(part.after)
        if isinstance(part, DesiredRoute):
            own.add(part.service)
        elif isinstance(part, DesiredDatabase):
            own |= {part.on.service} if part.on is not None else set()
        elif isinstance(part, DesiredService | DesiredJob):
            own |= {reference.component for reference in part.program.consumes}
        found[part.component] = frozenset(own)
    services = frozenset(name for name, part in tracked.programs.components.items() if part.kind == "Service")
    for name, left in tracked.programs.components.items():
        if name not in found and left.kind == "Route":
            found[name] = services
    return found


def _steps(
    desired: DesiredState, states: tuple[TrackedState, LiveState], removal: Removal, ran: frozenset[str]
) -> Iterable[tuple[str, tuple[AnyStep, ...]]]:
    tracked, live = states
    last = {part.component: part for part in desired.programs.jobs if part.component not in ran}
    for name, unseen in sorted(last.items()):
        steps = tuple(_run(unseen)) if _runs_unseen(unseen, tracked.programs) else ()
        if steps:
            yield name, (*steps, forget_job(name))
    for name, part in sorted(tracked.programs.components.items()):
        match part.kind:
            case "Route":
                yield name, (remove_route(part),)
            case "Service":
                # Whoever removes an environment knows that its services go; their data stays.
                yield name, (replace(remove_service(part), hazards=()),)
            case _:
                yield name, (*_run(last.get(name)), forget_job(name))
    for database in desired.databases:
        there = live.databases.get(database.database, LiveDatabase()).exists
        if there and {database.component, database.database} & set(removal.databases):
            yield database.component, (_drop(database),)


def _runs_unseen(job: DesiredJob, tracked: TrackedPrograms) -> bool:
    """Whether one that runs for nothing else, and left no record so far, runs now: what it takes is there."""
    was_deployed = tracked.started or bool(tracked.components)
    is_new = job.component not in tracked.components
    return is_new and was_deployed and {str(one) for one in job.program.consumes} <= tracked.outputs.keys()


def _run(job: DesiredJob | None) -> Iterable[AnyStep]:
    if job is not None and Trigger.REMOVE in job.triggers and not job.skip:
        consumes = tuple(str(reference) for reference in job.program.consumes)
        yield from program_steps(JobDiff(desired=job, trigger=Trigger.REMOVE, consumes=consumes))


def _drop(part: DesiredDatabase) -> DropDatabase:
    return DropDatabase(
        id=f"{part.component}/{StepKind.DROP_DATABASE.value}",
        kind=StepKind.DROP_DATABASE,
        component=part.component,
        identity=f"database {part.database}",
        database=part.database,
        hazards=(Hazard(code=HazardCode.DELETES_DATA, message=DROPS),),
    )
