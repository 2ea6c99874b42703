"""Checks over a whole spec that no single field can make; every problem at once, by path."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

from reconciler.spec import variables
from reconciler.spec.outline import ComponentOutline, DeploymentOutline, Outline
from reconciler.spec.problems import PROBLEMS_MAX, Finding
from reconciler.spec.program_check import check_programs
from reconciler.spec.variables import BadVariable
from reconciler.spec.words import Path, did_you_mean, path_text, shown, with_article

CYCLES_TOLD_MAX = 10
PLACES_MAX = 50_000
"""Deployments times components: each place is planned, tracked and shown."""


def check(outline: Outline) -> list[Finding]:
    """Find what is wrong between the parts of a spec; names that are not sound themselves are left out."""
    checks = (
        _size(outline),
        _unique("stage", outline.stages),
        _unique("deployment", ((place.path, place.name) for place in outline.deployments)),
        _unique("component", ((part.path, part.name) for part in outline.components)),
        _stages(outline),
        _after(outline),
        _references(outline),
        _cycles(outline),
        _variables(outline),
        _same_targets(outline),
        _module_places(outline),
        _deployments(outline),
        _gate(outline),
        check_programs(outline),
    )
    found = (finding for findings in checks for finding in findings)
    return list(islice(found, PROBLEMS_MAX + 1))


def _deployments(outline: Outline) -> Iterator[Finding]:
    if not outline.names_deployments:
        hint = "or write `deploymentsFrom` with a list in a file"
        yield Finding(("spec",), "key 'deployments' is missing", hint)


def _gate(outline: Outline) -> Iterator[Finding]:
    """The gate between waves asks a Database of the environment."""
    if outline.gate is None:
        return
    parts = _by_name(outline)
    part = parts.get(outline.gate)
    if part is None or part.kind != "Database":
        databases = [name for name, each in parts.items() if each.kind == "Database"]
        what = "unknown component" if part is None else "no Database component:"
        yield Finding(
            ("spec", "rollout", "waves", "gate", "database"),
            f"{what} '{outline.gate}'",
            did_you_mean(outline.gate, databases, "Database components"),
        )


def _size(outline: Outline) -> Iterator[Finding]:
    places = len(outline.deployments) * len(outline.components)
    if places > PLACES_MAX:
        yield Finding(
            ("spec", "deployments"),
            f"deployments times components make {places}, more than the limit of {PLACES_MAX}",
            "split the environment into several",
        )


def _unique(
    what: str, names: Sequence[tuple[Path, str]] | Iterator[tuple[Path, str | None]]
) -> Iterator[Finding]:
    first: dict[str, Path] = {}
    for path, name in names:
        if name is None:
            continue
        if name in first:
            yield Finding(
                (*path, "name"), f"duplicate {what} '{name}'", f"the first one is {path_text(first[name])}"
            )
        first.setdefault(name, path)


def _stages(outline: Outline) -> Iterator[Finding]:
    known = [name for _path, name in outline.stages]
    for part in outline.components:
        if not known or part.stage is None or part.stage in known:
            continue
        if part.names_stage:
            yield Finding(
                (*part.path, "stage"),
                f"unknown stage '{part.stage}'",
                did_you_mean(part.stage, known, "stages"),
            )
        else:
            yield Finding(
                part.path,
                f"{with_article(part.kind or '')} goes to stage '{part.stage}' by default, and there is no "
                "such stage",
                f"name one with stage: {', '.join(known)}",
            )


def _by_name(outline: Outline) -> dict[str, ComponentOutline]:
    found: dict[str, ComponentOutline] = {}
    for part in outline.components:
        if part.name is not None:
            found.setdefault(part.name, part)
    return found


def _after(outline: Outline) -> Iterator[Finding]:
    components = _by_name(outline)
    order = _order(outline)
    for part in outline.components:
        seen: set[str] = set()
        for path, name in part.after:
            if name in seen:
                yield Finding(path, f"component '{name}' is listed twice", "name it once")
            seen.add(name)
            other = components.get(name)
            if other is None:
                same = [
                    key for key, value in components.items() if value.stage == part.stage and key != part.name
                ]
                yield Finding(
                    path, f"unknown component '{name}'", did_you_mean(name, same, "components in the stage")
                )
            elif name == part.name:
                yield Finding(path, f"component '{name}' cannot be after itself", "remove it")
            elif part.stage in order and other.stage in order and part.stage != other.stage:
                earlier = order[other.stage] < order[part.stage]
                hint = (
                    "remove it: an earlier stage is done before"
                    if earlier
                    else "move one of them to another stage"
                )
                yield Finding(
                    path,
                    f"component '{name}' is in stage '{other.stage}', not in '{part.stage}'; "
                    "after orders components of one stage",
                    hint,
                )


def _order(outline: Outline) -> Mapping[str | None, int]:
    order: dict[str | None, int] = {}
    for position, (_path, name) in enumerate(outline.stages):
        order.setdefault(name, position)
    return order


def _references(outline: Outline) -> Iterator[Finding]:
    components = _by_name(outline)
    databases = [name for name, part in components.items() if part.kind == "Database"]
    order = _order(outline)
    for part in outline.components:
        if part.reference is None:
            continue
        path: Path = (*part.path, "database", "from")
        other = components.get(part.reference)
        if other is None:
            hint = did_you_mean(part.reference, databases, "Database components")
            yield Finding(path, f"unknown component '{part.reference}'", hint)
        elif other.kind != "Database":
            hint = did_you_mean(part.reference, databases, "Database components")
            yield Finding(path, f"component '{part.reference}' is not a Database", hint)
        elif part.stage in order and other.stage in order and order[other.stage] > order[part.stage]:
            yield Finding(
                path,
                f"database '{part.reference}' is made in stage '{other.stage}', after stage '{part.stage}'",
                "a component uses what the same or an earlier stage makes",
            )


def _cycles(outline: Outline) -> Iterator[Finding]:
    components = _by_name(outline)
    edges = {name: _waits_for(part, components) for name, part in components.items()}
    for _ in range(CYCLES_TOLD_MAX):
        cycle = _cycle(edges)
        if not cycle:
            return
        part = components[cycle[0]]
        place: Path = (*part.path, "after") if part.after else part.path
        yield Finding(
            place, f"components wait for each other: {' -> '.join([*cycle, cycle[0]])}", "remove one edge"
        )
        edges = {name: targets for name, targets in edges.items() if name not in cycle}


def _waits_for(part: ComponentOutline, components: Mapping[str, ComponentOutline]) -> tuple[str, ...]:
    names = [*(name for _path, name in part.after), *(use.component for use in part.uses)]
    if part.reference is not None:
        names.append(part.reference)
    return tuple(
        name
        for name in dict.fromkeys(names)
        if name != part.name and name in components and components[name].stage == part.stage
    )


def _cycle(edges: Mapping[str, Sequence[str]]) -> list[str]:
    """Return one cycle, or nothing: what is left when all that waits for nothing is taken away has one."""
    waiting = {name: sum(1 for target in targets if target in edges) for name, targets in edges.items()}
    waiters: dict[str, list[str]] = {}
    for name, targets in edges.items():
        for target in targets:
            waiters.setdefault(target, []).append(name)
    free = [name for name, count in waiting.items() if count == 0]
    while free:
        done = free.pop()
        del waiting[done]
        for name in waiters.get(done, ()):
            waiting[name] -= 1
            if waiting[name] == 0:
                free.append(name)
    walk: list[str] = []
    following = next(iter(waiting), None)
    while following is not None and following not in walk:
        walk.append(following)
        following = next((target for target in edges[following] if target in waiting), None)
    return walk[walk.index(following) :] if following is not None else []


def _variables(outline: Outline) -> Iterator[Finding]:
    """Every use of a variable has to work out in each deployment that sees it."""
    told: set[tuple[Path, str]] = set()
    shared: list[tuple[Path, str]] = []
    own: dict[Path, list[tuple[Path, str]]] = {}
    for path, text in outline.strings:
        if path[:2] == ("spec", "deployments"):
            own.setdefault(path[:3], []).append((path, text))
        else:
            shared.append((path, text))
    for place in outline.deployments or (DeploymentOutline(path=("spec",), name=None, variables={}),):
        values = _values(outline, place)
        built_in = {name: values[name] for name in variables.BUILT_IN}
        for path, text in (*shared, *own.get(place.path, ())):
            of_variable = path[1] == "variables" or (path[1] == "deployments" and path[3:4] == ("variables",))
            for fault in variables.faults(text, built_in if of_variable else values):
                if (path, fault.message) not in told:
                    told.add((path, fault.message))
                    yield _fault(path, fault, outline, None if of_variable else place)


def _values(outline: Outline, place: DeploymentOutline) -> Mapping[str, str]:
    return variables.values_for(outline.name or "", place.name or "", outline.variables, place.variables)


def _fault(path: Path, fault: BadVariable, outline: Outline, place: DeploymentOutline | None) -> Finding:
    """Tell a fault with the first deployment it shows in; without one it is in a variable itself."""
    if fault.name is None:
        return Finding(path, fault.message)
    if place is None:
        return Finding(
            path, "a variable can use ${environment} and ${deployment} only", "write the value out"
        )
    elsewhere = any(fault.name in other.variables for other in outline.deployments)
    where = f" in deployment '{place.name}'" if elsewhere and place.name else ""
    known = _values(outline, place)
    return Finding(path, fault.message + where, did_you_mean(fault.name, known, "variables"))


def _same_targets(outline: Outline) -> Iterator[Finding]:
    """No two components mean the same database, or the same module or objects on one."""
    varies = any(path[1:2] == ("components",) for path, _text in outline.strings)
    told: set[Path] = set()
    for place in outline.deployments if varies else outline.deployments[:1]:
        values = _values(outline, place)
        where = f" in deployment '{place.name}'" if varies else ""
        first: dict[tuple[str, ...], ComponentOutline] = {}
        for part in outline.components:
            target = _target(part, values)
            if target is None:
                continue
            other = first.setdefault(target, part)
            if other is part or part.path in told:
                continue
            told.add(part.path)
            yield _same(part, other, target, where)


def _module_places(outline: Outline) -> Iterator[Finding]:
    """A Module says where it stands or which globs find it; what they find goes to the ends of its plans."""
    for part in outline.components:
        if part.kind != "Module":
            continue
        if {"path", "modules"} <= part.places:
            hint = "leave one out: `path` names one module, `modules` has globs for several"
            yield Finding((*part.path, "modules"), "a Module has `path` or `modules`, not both", hint)
        elif not part.places & {"path", "modules"}:
            yield Finding(part.path, "key 'path' is missing", "or write `modules` with globs for several")
        if {"modules", "to"} <= part.places:
            hint = "give the module that is to stop there a component of its own, with `path` and `to`"
            yield Finding(
                (*part.path, "to"), "a target is one module's, and `modules` may find several", hint
            )


def _target(part: ComponentOutline, values: Mapping[str, str]) -> tuple[str, ...] | None:
    try:
        if part.database is not None:
            return ("database", variables.substitute(part.database, values))
        if part.files is not None and part.reference is not None:
            path = variables.substitute(part.files, values).removesuffix("/")
            return (part.kind or "", path, part.reference)
    except BadVariable:
        return None
    return None


def _same(part: ComponentOutline, other: ComponentOutline, target: tuple[str, ...], where: str) -> Finding:
    hint = f"the other one is {path_text(other.path)}"
    if target[0] == "database":
        return Finding(
            (*part.path, "database"), f"database {shown(target[1])} is declared twice{where}", hint
        )
    what = f"module {shown(target[1])} is" if part.kind == "Module" else f"objects {shown(target[1])} are"
    message = f"{what} deployed to '{target[2]}' twice{where}"
    return Finding((*part.path, "path"), message, hint)
