"""Modules of a workspace, offline: which there are, in which order they go, and what is wrong with them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from reconciler.cli.command import Common
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.output import count, printable
from reconciler.errors import InvalidInput, NotFound, Problem

ROLES_MAX = 1000
_SUFFIXES = (".yaml", ".yml")


def check(common: Common, folder: Path, environments: str) -> ExitCode:
    """Check the modules of a workspace as if one database had them all, and tell their order."""
    from reconciler.cli.validate import row_of

    modules: list[dict[str, Any]] = []
    roles: dict[str, str] = {}
    problems: tuple[Problem, ...] = ()
    try:
        modules, roles, problems = _checked(folder, environments)
    except InvalidInput as error:
        problems = tuple(error.problems)
    if common.output == "json":
        rows = [row_of(problem) for problem in problems]
        answer = {"workspace": str(folder), "clean": not rows, "modules": modules, "problems": rows}
        undeclared = [{"role": name, "file": file} for name, file in roles.items()]
        common.screen.json({**answer, "undeclared_roles": undeclared})
    elif problems:
        raise InvalidInput(problems)
    else:
        for number, row in enumerate(modules, start=1):
            about = f"{number}. {row['project']} ({row['path']}): {count(row['changes'], 'change')}"
            common.screen.line(printable(about))
        for name, file in roles.items():
            about = f"role '{name}', named in {file}, is declared by no spec: see `roles:` of a Database"
            common.screen.note(printable(about))
        common.screen.note("in this order they are deployed; no problems found")
    return ExitCode.ERROR if problems else ExitCode.OK


def _checked(
    folder: Path, environments: str
) -> tuple[list[dict[str, Any]], dict[str, str], tuple[Problem, ...]]:
    """The modules in order and the roles that nobody declares, or what is wrong with them."""
    from reconciler.cli.validate import read_tree, top_of
    from reconciler.diff.workspace import read_workspace, together, undeclared_roles

    root = top_of(folder)
    tree = read_tree(root)
    if tree.problems:
        return [], {}, tree.problems
    folders = workspace_modules(root, folder, tree.files)
    group = together(read_workspace(folders, tree.files, {}, unread=tree.unread))
    if group.blocked:
        return [], {}, tuple(Problem(message=why) for why in group.blocked)
    rows = [
        {
            "project": module.project,
            "path": module.path,
            "changes": len(module.changes),
            "requires_modules": list(module.requires_modules),
            "requires_extensions": list(module.requires_extensions),
        }
        for module in group.desired.modules
    ]
    declared = {role.name for role in declared_roles(tree.files, environments)}
    return rows, undeclared_roles(group.desired, declared), ()


def workspace_modules(root: Path, folder: Path, files: Mapping[str, bytes]) -> list[str]:
    """The module folders of a workspace, from the top of the source; raises NotFound where there are none."""
    from reconciler.changes.folders import WORKSPACE_FILE, workspace_folders

    if not folder.is_dir():
        raise NotFound(f"there is no folder '{folder}'")
    full = folder.resolve()
    name = full.relative_to(root).as_posix()
    found = workspace_folders("" if name == "." else name, files)
    if not found:
        raise NotFound(
            f"there is no module in workspace '{folder}'",
            hint="a module is a folder with a sqitch.plan or pgpm.plan: where `packages` of "
            f"{WORKSPACE_FILE} says, or without that file anywhere below",
        )
    return list(found)


def _speaks_of_roles(spec: Any) -> bool:
    """Whether any role may follow from a spec, so that it has to be looked at."""
    own = spec.databases
    return bool(spec.services or spec.jobs or any(part.roles or part.owner or part.reader for part in own))


def declared_roles(files: Mapping[str, bytes], environments: str) -> list[Any]:
    """The roles that sound specs declare, of all their deployments, and those others get in with.

    Groups come before members.
    """
    from reconciler.execution.roles import NewRole
    from reconciler.spec.parse import parse_tree
    from reconciler.spec.variables import for_deployment
    from reconciler.state.roles import desired_roles
    from reconciler.state.services import access_roles

    prefix = environments.strip("/")
    prefix = f"{prefix}/" if prefix not in {"", "."} else ""
    specs = {
        name: text for name, text in files.items() if name.startswith(prefix) and name.endswith(_SUFFIXES)
    }
    found: dict[str, NewRole] = {}
    for parsed in parse_tree(specs, files.get):
        if parsed.spec is None or not _speaks_of_roles(parsed.spec):
            continue
        for place in parsed.spec.deployments:
            try:
                own = for_deployment(parsed.spec, place.name)
                by_component = desired_roles(own)
            except InvalidInput as error:
                raise InvalidInput(parsed.placed(error.problems)) from error
            for role in (each for roles in by_component.values() for each in roles):
                attributes = tuple(name for name, wanted in role.attributes if wanted)
                made = NewRole(name=role.name, attributes=attributes, member_of=role.member_of)
                found.setdefault(role.name, made)
            for name in access_roles(own):
                found.setdefault(name, NewRole(name=name, attributes=("login",)))
        if len(found) > ROLES_MAX:
            break
    return list(found.values())
