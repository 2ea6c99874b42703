"""Which steps of a stage run side by side, and which wait for which; it runs none.

Databases run side by side, and within one the modules that need nothing of each other. What stands between
them is an edge from an earlier component to a later one of the plan, so that no two ever wait for each other.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby

from reconciler.execution.objects_steps import OBJECTS_STEPS
from reconciler.plan.hazards import HazardCode
from reconciler.plan.steps import (
    AnyStep,
    CreateExtension,
    CreateRole,
    DeployChange,
    RecordChange,
    RecordTag,
    RenameChange,
)
from reconciler.state.desired import DesiredModule, DesiredState

MODULE_STEPS = (DeployChange, RecordChange, RecordTag, RenameChange, CreateExtension)


def lanes(steps: Sequence[AnyStep], desired: DesiredState) -> tuple[tuple[AnyStep, ...], ...]:
    """The steps of a stage as rows that run side by side, each in the order of the plan."""
    by_database: dict[str, list[AnyStep]] = {}
    for step in steps:
        by_database.setdefault(step.database, []).append(step)
    components = {module.component for module in desired.modules}
    found: list[tuple[AnyStep, ...]] = []
    for row in by_database.values():
        found += _split(row, components)
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
    order = list(dict.fromkeys(step.component for step in steps))
    extensions = {
        (step.database, step.extension): step.component
        for step in reversed(steps)
        if isinstance(step, CreateExtension)
    }
    makers = {step.role: step.component for step in reversed(steps) if isinstance(step, CreateRole)}
    roles = {
        part.component: [makers[role.name] for role in part.roles if role.name in makers]
        for part in desired.databases
    }
    after = {
        **{part.component: tuple(part.after) for part in desired.databases},
        **{part.component: tuple(part.after) for part in desired.modules},
        **{part.component: (*part.after, part.database_component) for part in desired.objects},
    }
    found = {component: after.get(component, ()) for component in order}
    for component, needs in roles.items():
        if component in found:
            found[component] = _with(found[component], needs, order[: order.index(component)])
    for module in desired.modules:
        if module.component not in found:
            continue
        needs = [*_required(module, desired), module.database_component]
        needs += roles.get(module.database_component, [])
        needs += [
            extensions[module.database, name]
            for name in module.requires_extensions
            if (module.database, name) in extensions
        ]
        found[module.component] = _with(
            found[module.component], needs, order[: order.index(module.component)]
        )
    return found


def _with(known: tuple[str, ...], needs: Iterable[str], earlier: Sequence[str]) -> tuple[str, ...]:
    """What a component waits for, with what of its needs stands before it."""
    more = (need for need in dict.fromkeys(needs) if need in set(earlier) and need not in known)
    return (*known, *more)


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
