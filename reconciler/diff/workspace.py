"""Choose which modules of a folder are tried, each with what it requires in the order of deployment.

It reads files that are given to it as values, and runs nothing.
"""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from reconciler.catalog import sql_text
from reconciler.changes import reference
from reconciler.changes.unread import NOTHING
from reconciler.diff import modules, requirements
from reconciler.errors import SpecError
from reconciler.frozen import frozen
from reconciler.spec.parse import parse_file
from reconciler.state.desired import DesiredModule, DesiredState
from reconciler.state.order import Cycle, topological
from reconciler.state.program import Purpose, compile_script
from reconciler.state.resolve import resolve
from reconciler.state.tracked import TrackedState

NAME = "scratch"
"""What the environment, the deployment and the database are called that nobody declares."""
_NO_COMMIT = "0" * 40
_NAME_MAX = 40


@frozen
class Group:
    """A module to try, and the desired state of a database that holds it and all that it requires.

    The modules of `desired` are in the order of deployment. `blocked` says why they cannot be deployed.
    """

    module: DesiredModule
    desired: DesiredState
    blocked: tuple[str, ...] = ()

    def within(self, database: str) -> DesiredState:
        """The same for a database of another name."""
        return replace(
            self.desired,
            databases=tuple(replace(part, database=database) for part in self.desired.databases),
            modules=tuple(replace(part, database=database) for part in self.desired.modules),
        )


def read_workspace(
    folders: Sequence[str],
    files: Mapping[str, bytes],
    values: Mapping[str, str],
    *,
    unread: Mapping[str, str] = NOTHING,
) -> DesiredState:
    """Read modules as if a spec deployed them all to one database; `values` are those of their variables.

    `unread` are the paths that were left out, with the reason. Raises InvalidInput with all
    problems of all modules.
    """
    components = [
        {
            "name": name,
            "kind": "Module",
            "database": {"from": NAME},
            "path": folder,
            "variables": dict(values),
        }
        for name, folder in zip(_names(folders), folders, strict=True)
    ]
    document = {
        "apiVersion": "reconciler/v1",
        "kind": "Environment",
        "metadata": {"name": NAME},
        "spec": {
            "deployments": [{"name": NAME, "postgres": {"dsn": {"env": "SCRATCH"}}}],
            "components": [{"name": NAME, "kind": "Database", "database": NAME}, *components],
        },
    }
    (parsed,) = parse_file("the modules to test", json.dumps(document).encode())
    if parsed.spec is None or parsed.problems:
        raise SpecError([replace(problem, line=None, column=None) for problem in parsed.problems])
    desired = resolve(parsed.spec, NAME, _NO_COMMIT, files, unread=unread)
    # From here on people read of projects: they named no components.
    return replace(
        desired, modules=tuple(replace(module, component=module.project) for module in desired.modules)
    )


def _names(folders: Sequence[str]) -> list[str]:
    """Names for components that nobody named."""
    found: list[str] = []
    for number, folder in enumerate(folders, start=1):
        plain = re.sub(r"[^a-z0-9]+", "-", folder.lower())[-_NAME_MAX:].strip("-")
        found.append(f"module-{number}-{plain}".rstrip("-"))
    return found


def covering(desired: DesiredState, folders: Collection[str]) -> tuple[Group, ...]:
    """The fewest modules whose requirements, with themselves, are all modules of some folders."""
    needs = {module.project: frozenset(_needed(module, desired)) for module in desired.modules}
    closures = {project: _closure(project, needs) for project in needs}
    chosen = [module for module in desired.modules if module.path in folders]
    found = []
    for place, module in enumerate(chosen):
        own = module.project
        covered = any(
            own in closures[other.project] and (other.project not in closures[own] or before < place)
            for before, other in enumerate(chosen)
            if other is not module
        )
        if not covered:
            together = [each for each in desired.modules if each.project in closures[own] | {own}]
            found.append(_group(module, replace(desired, modules=tuple(together))))
    return tuple(found)


def together(desired: DesiredState) -> Group:
    """All modules of some folders in the order of deployment; raises ValueError where there are none."""
    if not desired.modules:
        raise ValueError("no modules")
    return _group(desired.modules[0], desired)


def undeclared_roles(desired: DesiredState, declared: Collection[str]) -> dict[str, str]:
    """Roles that deploy scripts name, and that nobody declares and none makes, with the first script."""
    named: dict[str, str] = {}
    made: set[str] = set()
    for module in desired.modules:
        for change in module.changes:
            for statement in compile_script(change.deploy, purpose=Purpose.DEPLOY).statements:
                roles = sql_text.roles(statement.text)
                made |= roles.made
                for name in sorted(roles.named):
                    named.setdefault(name, change.deploy.path)
    return {name: named[name] for name in sorted(named) if name not in made and name not in declared}


def _needed(module: DesiredModule, desired: DesiredState) -> Iterator[str]:
    """The projects of other modules that one requires."""
    others = {other.project: other for other in desired.modules if other.project != module.project}
    yield from (project for project in module.requires_modules if project in others)
    for need in dict.fromkeys(need for change in module.changes for need in change.requires):
        wanted = reference.parse(need)
        if wanted is not None and wanted.project in others:
            yield str(wanted.project)
        elif wanted is not None and wanted.id is not None:
            yield from (
                project
                for project, other in others.items()
                if any(change.change_id == wanted.id for change in other.changes)
            )


def _closure(project: str, needs: Mapping[str, Collection[str]]) -> frozenset[str]:
    found: set[str] = set()
    pending = list(needs[project])
    while pending:
        name = pending.pop()
        if name not in found:
            found.add(name)
            pending += needs[name]
    return frozenset(found)


def _group(module: DesiredModule, desired: DesiredState) -> Group:
    parts = requirements.check(
        (),
        [modules.compare(each, None) for each in desired.modules],
        TrackedState(databases={}),
        desired.stages,
    )
    blocked = tuple(f"module '{part.desired.project}': {why}" for part in parts for why in part.blocked)
    if blocked:
        return Group(module=module, desired=desired, blocked=blocked)
    by_name = {each.project: each for each in desired.modules}
    needs = {project: sorted(_needed(each, desired)) for project, each in by_name.items()}
    try:
        order = topological(list(by_name), needs)
    except Cycle as cycle:
        return Group(module=module, desired=desired, blocked=(str(cycle),))
    return Group(module=module, desired=replace(desired, modules=tuple(by_name[name] for name in order)))
