"""`reconciler module test`: try modules of a work tree in scratch databases; it asks no daemon.

It reads files and prints what came of them; it decides nothing about modules.
"""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode, worst
from reconciler.cli.output import Screen, count, printable, printable_lines, span
from reconciler.errors import InvalidInput, NotFound, Problem, Refused

DEFAULT_FOLDER = "modules"
JOBS_MAX = 32
TIMEOUT_S = 600
TOP = "."


def add(group: typer.Typer) -> None:
    """Add the command to the group `module`."""
    register(group, "test")(try_out)


def try_out(
    common: Common,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[PATH]…", help="Modules, or folders of modules; else those in `modules`."),
    ] = None,
    *,
    workspace: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="All modules of a workspace: by its pgpm.json, else all below it."),
    ] = None,
    environments: Annotated[
        str,
        typer.Option(
            "--path", metavar="FOLDER", help="Where specs are that declare roles, from the top of the source."
        ),
    ] = "environments",
    full_cycle: Annotated[
        bool, typer.Option("--full-cycle", help="Also revert, compare, deploy again and compare.")
    ] = False,
    dsn_env: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The environment variable with the server's connection string; else a server of its own.",
        ),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, max=JOBS_MAX, help="Modules at once.")] = 4,
    timeout: Annotated[int, typer.Option(min=1, help="Seconds that one module may take.")] = TIMEOUT_S,
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A variable of the scripts.")
    ] = None,
) -> ExitCode:
    """Deploy and verify the modules that no other requires, with what they require, in scratch databases."""
    from reconciler.cli.module_workspace import declared_roles, workspace_modules
    from reconciler.cli.validate import read_tree, top_of
    from reconciler.daemon.module_test import How, run
    from reconciler.diff.workspace import covering, read_workspace
    from reconciler.postgres.connection import Dsn

    if paths and workspace is not None:
        raise typer.BadParameter("either modules or a workspace", param_hint="--workspace")
    root = top_of(workspace or (paths[0] if paths else Path()))
    tree = read_tree(root)
    if tree.problems:
        raise InvalidInput(tree.problems)
    if workspace is not None:
        wanted = workspace_modules(root, workspace, tree.files)
    else:
        wanted = _folders(root, [_below(root, path) for path in paths] if paths else None, tree.files)
    known = {DEFAULT_FOLDER, *(_around(folder) for folder in wanted)}
    beside = (name for folder in known for name in _modules_in(folder, tree.files))
    folders, values = sorted({*wanted, *beside} - {TOP}), values_of(set_ or [])
    desired = read_workspace(folders, tree.files, values, unread=tree.unread)
    groups = covering(desired, wanted)
    dsn = Dsn(from_environment(dsn_env)) if dsn_env is not None else None
    if common.output != "json":
        common.screen.note(
            f"testing {count(len(groups), 'module')}, which with what they require cover "
            f"{count(len(wanted), 'module')}"
        )
    roles = declared_roles(tree.files, environments) if dsn is None else []
    tried = run(dsn, groups, How(full=full_cycle, jobs=jobs, timeout_s=timeout, roles=roles))
    rows = [_row(one) for one in tried]
    if common.output == "json":
        common.screen.json({"passed": all(row["passed"] for row in rows), "modules": rows})
    else:
        for row in rows:
            _tell(common.screen, row)
    return worst(map(_code, rows))


def _below(root: Path, path: Path) -> str:
    """A path as files of the tree are named."""
    if not path.is_dir():
        raise NotFound(f"there is no folder '{path}'")
    full = path.resolve()
    if not full.is_relative_to(root):
        raise NotFound(f"'{path}' is not below '{root}', where the other modules are")
    return full.relative_to(root).as_posix()


def _folders(root: Path, named: Sequence[str] | None, files: Mapping[str, bytes]) -> list[str]:
    """The modules that are asked for: the folders named, or all that are directly in them."""
    found: dict[str, None] = {}
    for name in named if named is not None else [DEFAULT_FOLDER]:
        inside = _modules_in(name, files)
        if not inside:
            raise NotFound(
                f"there is no module in '{root / name}'",
                hint="a module is a folder with a sqitch.plan or pgpm.plan; name it or the folder around it",
            )
        if TOP in inside:
            raise Refused(
                f"'{root}' is a module itself, and no spec can name the whole of a source as a module",
                hint="move the module to a folder below it, such as modules/shop",
            )
        found.update(dict.fromkeys(inside))
    return list(found)


def _modules_in(folder: str, files: Mapping[str, bytes]) -> list[str]:
    """The folder, where it is a module, else the modules directly in it."""
    from reconciler.cli.validate import PLAN_FILES

    modules = {name.rpartition("/")[0] or TOP for name in files if name.rpartition("/")[2] in PLAN_FILES}
    if folder in modules:
        return [folder]
    return sorted(name for name in modules if name != TOP and _around(name) == folder)


def _around(folder: str) -> str:
    """The folder that one is in."""
    return folder.rpartition("/")[0] or TOP


def values_of(given: Iterable[str]) -> dict[str, str]:
    """Values of variables, as `--set NAME=VALUE` gives them."""
    found = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name.strip():
            raise InvalidInput([Problem(message=f"'{each}' gives no value", hint="write --set NAME=VALUE")])
        found[name.strip()] = value
    return found


def from_environment(name: str) -> str:
    """The connection string that an environment variable holds."""
    value = os.environ.get(name)
    if not value:
        raise NotFound(
            f"environment variable '{name}' is not set",
            hint="put the connection string of a server into it, or leave --dsn-env out",
        )
    return value


def _row(tried: Any) -> dict[str, Any]:
    return {
        "path": tried.path,
        "project": tried.project,
        "modules": list(tried.modules),
        "passed": tried.passed,
        "duration_seconds": round(tried.duration_s, 3),
        "problems": [
            {
                "step": one.step.value,
                "message": one.message,
                "file": one.file,
                "line": one.line,
                "hint": one.hint,
                "unknown": one.unknown,
            }
            for one in tried.troubles
        ],
        "left_behind": _differences(tried.left_behind),
        "differs": _differences(tried.differs),
    }


def _differences(rows: Iterable[Any]) -> list[dict[str, str]]:
    return [{"object": row.identity, "action": row.action.value, "detail": row.detail} for row in rows]


def _code(row: Mapping[str, Any]) -> ExitCode:
    if row["passed"]:
        return ExitCode.OK
    told: Collection[Any] = [one for one in row["problems"] if not one["unknown"]]
    failed = told or row["left_behind"] or row["differs"]
    return ExitCode.FAILED if failed else ExitCode.ERROR


def _tell(screen: Screen, row: Mapping[str, Any]) -> None:
    about = row["project"]
    with_ = [name for name in row["modules"] if name != about]
    others = f" (with {', '.join(with_)})" if with_ else ""
    state = "ok" if row["passed"] else "failed"
    if not row["passed"] and _code(row) is ExitCode.ERROR:
        state = "not known"
    screen.line(printable(f"{about}: {state} after {span(row['duration_seconds'])}{others}"))
    for one in row["problems"]:
        hint = f" ({one['hint']})" if one["hint"] else ""
        where = f"{one['file']}:{one['line']}: " if one["file"] and one["line"] else ""
        screen.line(printable_lines(f"{about}: {one['step']}: {where}{one['message']}{hint}"))
    for one in row["left_behind"]:
        screen.line(printable(f"{about}: after the revert, {one['object']}: {one['detail']}"))
    for one in row["differs"]:
        screen.line(printable(f"{about}: deployed again, {one['object']}: {one['detail']}"))
