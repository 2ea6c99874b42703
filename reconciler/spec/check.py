"""Checks over a whole spec that no single field can make; every problem at once, by path."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from reconciler.spec.environment import DatabaseSpec, EnvironmentSpec, ModuleSpec
from reconciler.spec.variables import names_in, substitute, values_for

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong, by its path in the document."""

    path: Path
    message: str
    hint: str | None = None


def check(spec: EnvironmentSpec) -> list[Finding]:
    """Everything wrong with a spec whose fields are each valid."""
    findings = [
        *_twice(spec),
        *_stages(spec),
        *_references(spec),
        *_after(spec),
        *_variables(spec),
    ]
    return findings or list(_same_database(spec))


def nearest(name: str, names: Sequence[str]) -> str | None:
    """A hint that names what was probably meant."""
    found = get_close_matches(name, names, n=1, cutoff=0.6)
    return f"did you mean '{found[0]}'?" if found else None


def _twice(spec: EnvironmentSpec) -> Iterator[Finding]:
    for list_name, names in (
        ("stages", [part.name for part in spec.stages]),
        ("deployments", [part.name for part in spec.deployments]),
        ("components", [part.name for part in spec.components]),
    ):
        seen: set[str] = set()
        for position, name in enumerate(names):
            if name in seen:
                path = ("spec", list_name, position, "name")
                yield Finding(path, f"'{name}' stands twice in {list_name}")
            seen.add(name)


def _stages(spec: EnvironmentSpec) -> Iterator[Finding]:
    for position, component in enumerate(spec.components):
        stage = spec.stage_of(component)
        if stage in [stage.name for stage in spec.stages]:
            continue
        path: Path = ("spec", "components", position)
        known = f"stages are: {', '.join([stage.name for stage in spec.stages])}"
        if component.stage is None:
            yield Finding(
                path, f"component '{component.name}' names no stage, and there is no stage '{stage}'", known
            )
        else:
            yield Finding(
                (*path, "stage"),
                f"unknown stage '{stage}'",
                nearest(stage, [stage.name for stage in spec.stages]) or known,
            )


def _references(spec: EnvironmentSpec) -> Iterator[Finding]:
    databases = {part.name: part for part in spec.components if isinstance(part, DatabaseSpec)}
    kinds = {part.name: part.kind for part in spec.components}
    order = {name: position for position, name in enumerate([stage.name for stage in spec.stages])}
    for position, component in enumerate(spec.components):
        if not isinstance(component, ModuleSpec):
            continue
        name = component.database.component
        path: Path = ("spec", "components", position, "database", "from")
        if name not in kinds:
            yield Finding(path, f"unknown component '{name}'", nearest(name, list(databases)))
        elif name not in databases:
            yield Finding(path, f"component '{name}' is a {kinds[name]}, and a Database is wanted")
        elif order.get(spec.stage_of(databases[name]), 0) > order.get(spec.stage_of(component), 0):
            yield Finding(
                path,
                f"database '{name}' is made in stage '{spec.stage_of(databases[name])}', "
                f"after stage '{spec.stage_of(component)}' of '{component.name}'",
            )


def _after(spec: EnvironmentSpec) -> Iterator[Finding]:
    stages = {part.name: spec.stage_of(part) for part in spec.components}
    for position, component in enumerate(spec.components):
        for number, name in enumerate(component.after):
            path: Path = ("spec", "components", position, "after", number)
            if name not in stages:
                yield Finding(path, f"unknown component '{name}'", nearest(name, list(stages)))
            elif stages[name] != spec.stage_of(component):
                yield Finding(
                    path,
                    f"component '{name}' is in stage '{stages[name]}', not in '{spec.stage_of(component)}'; "
                    "'after' orders components of one stage",
                )
    cycle = _cycle({part.name: list(part.after) for part in spec.components})
    if cycle:
        position = next(n for n, part in enumerate(spec.components) if part.name == cycle[0])
        yield Finding(
            ("spec", "components", position, "after"), "these wait for each other: " + " -> ".join(cycle)
        )


def _cycle(edges: dict[str, list[str]]) -> list[str]:
    """One cycle in full, first and last the same; empty where there is none."""
    done: set[str] = set()
    for start in edges:
        path: list[str] = [start]
        pending = [iter(edges[start])]
        while path and start not in done:
            following = next((name for name in pending[-1] if name in edges and name not in done), None)
            if following is None:
                done.add(path.pop())
                pending.pop()
            elif following in path:
                return [*path[path.index(following) :], following]
            else:
                path.append(following)
                pending.append(iter(edges[following]))
    return []


def _variables(spec: EnvironmentSpec) -> Iterator[Finding]:
    known = [set(values_for(spec, part.name)) for part in spec.deployments]
    everywhere = set.intersection(*known) if known else set()
    for path, text in _strings(spec):
        for name in names_in(text):
            if name in everywhere:
                continue
            lacking = [
                part.name for part, names in zip(spec.deployments, known, strict=True) if name not in names
            ]
            some = len(lacking) < len(known)
            where = f" in deployment '{lacking[0]}'" if some else ""
            yield Finding(path, f"unknown variable '{name}'{where}", nearest(name, sorted(everywhere)))


def _strings(spec: EnvironmentSpec) -> Iterator[tuple[Path, str]]:
    """Every string in which variables are put in."""
    for position, component in enumerate(spec.components):
        base: Path = ("spec", "components", position)
        if isinstance(component, DatabaseSpec):
            yield (*base, "database"), component.database
            for number, extension in enumerate(component.extensions):
                yield (*base, "extensions", number), extension
        else:
            yield (*base, "path"), component.path
            if component.to is not None:
                yield (*base, "to"), component.to


def _same_database(spec: EnvironmentSpec) -> Iterator[Finding]:
    """Two components that mean the same database, or the same module in one."""
    for deployment in spec.deployments:
        values = values_for(spec, deployment.name)
        names = {
            part.name: substitute(part.database, values)
            for part in spec.components
            if isinstance(part, DatabaseSpec)
        }
        counted = Counter(names.values())
        for position, component in enumerate(spec.components):
            if isinstance(component, DatabaseSpec) and counted[names[component.name]] > 1:
                yield Finding(
                    ("spec", "components", position, "database"),
                    f"database '{names[component.name]}' is declared by two components in deployment "
                    f"'{deployment.name}'",
                )
        modules: dict[tuple[str, str], str] = {}
        for position, component in enumerate(spec.components):
            if isinstance(component, ModuleSpec):
                key = (component.database.component, substitute(component.path, values))
                other = modules.setdefault(key, component.name)
                if other != component.name:
                    yield Finding(
                        ("spec", "components", position, "path"),
                        f"module '{key[1]}' is deployed to '{key[0]}' by '{other}' already",
                    )
        if any(count > 1 for count in counted.values()):
            return
