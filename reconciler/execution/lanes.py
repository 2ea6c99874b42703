"""Which steps of a stage run side by side, and which wait for which; it runs none.

Databases run side by side, and within one the modules that need nothing of each other; so does each service,
job and route. What stands between them is an edge from an earlier component to a later one of the plan, so
that no two ever wait for each other.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from reconciler.execution.objects_steps import OBJECTS_STEPS
from reconciler.plan.hazards import HazardCode
from reconciler.plan.steps import (
    AnyStep,
    ConsumeOutputs,
    CreateExtension,
    CreateRole,
    DeployChange,
    ForgetJob,
    RecordChange,
    RecordTag,
    RemoveRoute,
    RemoveService,
    RenameChange,
)
from reconciler.spec.values import OutputReference
from reconciler.state.desired import DesiredModule, DesiredState
from reconciler.state.programs import DesiredJob, DesiredService

MODULE_STEPS = (DeployChange, RecordChange, RecordTag, RenameChange, CreateExtension)
REMOVING = (RemoveRoute, RemoveService, ForgetJob)


def phases(steps: Sequence[AnyStep], stages: Mapping[str, str]) -> tuple[tuple[AnyStep, ...], ...]:
    """The steps of a stage in groups, each of which begins when the one before it is done.

    First what only prepares; last what takes note of what all others made. What is removed goes kind after
    kind and stage after stage, as the plan has it; `stages` says by component where that was.
    """

    def group(step: AnyStep) -> tuple[int, str, str]:
        if isinstance(step, REMOVING):
            return 1, step.kind.value, stages.get(step.component, "")
        return 0 if step.prepares else 2 if isinstance(step, ConsumeOutputs) else 1, "", ""

    ordered = sorted(steps, key=lambda step: group(step)[0])
    return tuple(tuple(rows) for _, rows in groupby(ordered, key=group))


def lanes(steps: Sequence[AnyStep], desired: DesiredState) -> tuple[tuple[AnyStep, ...], ...]:
    """The steps of a phase as rows that run side by side, each in the order of the plan."""
    rows: dict[tuple[str, str], list[AnyStep]] = {}
    for step in steps:
        rows.setdefault((step.database, "" if step.database else step.component), []).append(step)
    components = {module.component for module in desired.modules}
    found: list[tuple[AnyStep, ...]] = []
    for (database, _), row in rows.items():
        found += _split(row, components) if database else [tuple(row)]
    return tuple(found)


def _split(steps: Sequence[AnyStep], modules: set[str]) -> Iterable[tuple[AnyStep, ...]]:
    """The steps of one database, a row for each module where they may be apart.

    SQL objects may read what any module makes, and make side by side by themselves what they can. What cannot
    run in a transaction waits for all transactions of the database, and is left alone in it; reverts have one
    order over all modules.
    """
    runs = [(component, tuple(group)) for component, group in groupby(steps, key=lambda step: step.component)]
    of_modules = [(component, group) for component, group in runs if component in modules]
    names = [component for component, _group in of_modules]
    apart = (
        len(names) > 1
        and not any(isinstance(step, OBJECTS_STEPS) for step in steps)
        and len(set(names)) == len(names)
        and all(
            isinstance(step, MODULE_STEPS)
            and all(hazard.code is not HazardCode.NOT_TRANSACTIONAL for hazard in step.hazards)
            for _component, group in of_modules
            for step in group
        )
        and all(component in modules for component, _group in runs[-len(of_modules) :])
    )
    if not apart:
        return [tuple(steps)]
    before = tuple(step for component, group in runs if component not in modules for step in group)
    rows = [group for _component, group in of_modules]
    return [before, *rows] if before else rows


def edges(steps: Sequence[AnyStep], desired: DesiredState) -> Mapping[str, tuple[str, ...]]:
    """What each component of a stage waits for: components whose steps stand before its own in the plan."""
    places = {name: place for place, name in enumerate(dict.fromkeys(step.component for step in steps))}
    makers = {step.role: step.component for step in reversed(steps) if isinstance(step, CreateRole)}
    roles = {
        part.component: [makers[role.name] for role in part.roles if role.name in makers]
        for part in desired.databases
    }
    needs = _needs_of_programs(desired, places)
    needs |= {
        part.component: [*roles[part.component], *([part.on.service] if part.on is not None else [])]
        for part in desired.databases
        if part.component in places
    }
    needs |= _needs_of_modules(steps, desired, places, roles)
    objects = {part.component: (*part.after, part.database_component) for part in desired.objects}
    after = {part.component: part.after for part in desired.components if part.component in places}
    found = {name: objects.get(name, after.get(name, ())) for name in places}
    for component, named in needs.items():
        more = [
            need
            for need in dict.fromkeys(named)
            if places.get(need, len(places)) < places[component] and need not in found[component]
        ]
        found[component] = (*found[component], *more)
    return found


def _needs_of_programs(desired: DesiredState, places: Mapping[str, int]) -> dict[str, list[str]]:
    """Who makes what a service or a job is given, and where a route leads to."""
    own = desired.programs
    parts: tuple[DesiredService | DesiredJob, ...] = (*own.services, *own.jobs)
    found = {part.component: _producers(part.program.consumes) for part in parts if part.component in places}
    found |= {route.component: [route.service] for route in own.routes if route.component in places}
    return found


def _producers(references: Iterable[OutputReference]) -> list[str]:
    return list(dict.fromkeys(reference.component for reference in references))


def _needs_of_modules(
    steps: Sequence[AnyStep],
    desired: DesiredState,
    places: Mapping[str, int],
    roles: Mapping[str, list[str]],
) -> dict[str, list[str]]:
    extensions = {
        (step.database, step.extension): step.component
        for step in reversed(steps)
        if isinstance(step, CreateExtension)
    }
    found = {}
    for module in desired.modules:
        if module.component not in places:
            continue
        needs = [*_required(module, desired), module.database_component]
        needs += roles.get(module.database_component, [])
        needs += [
            extensions[module.database, name]
            for name in module.requires_extensions
            if (module.database, name) in extensions
        ]
        found[module.component] = needs
    return found


def _required(module: DesiredModule, desired: DesiredState) -> Iterable[str]:
    """Components of the modules that one requires, or whose changes its own require or conflict with."""
    named = {
        need.partition(":")[0]
        for change in module.changes
        for need in (*change.requires, *change.conflicts)
        if ":" in need
    }
    # An id may be of any module's change.
    by_id = any(":" not in need and len(need) == 40 for change in module.changes for need in change.requires)
    return [
        other.component
        for other in desired.modules
        if other.database == module.database
        and other.component != module.component
        and (by_id or other.project in named or other.project in module.requires_modules)
    ]
