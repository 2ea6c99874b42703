"""`reconciler validate`: check specs and modules in a work tree, offline, and name all that is wrong."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode
from reconciler.errors import InvalidInput, NotFound, Problem, Refused

FILES_MAX = 50_000
FILE_BYTES_MAX = 16 * 1024 * 1024
TREE_BYTES_MAX = 512 * 1024 * 1024
SPEC_SUFFIXES = (".yaml", ".yml")
PLAN_FILES = ("sqitch.plan", "pgpm.plan")
NO_COMMIT = "0" * 40


def add(app: typer.Typer) -> None:
    """Add the command."""
    register(app, "validate")(validate)


def validate(
    common: Common,
    path: Annotated[Path, typer.Argument(help="Anywhere in the repository.")] = Path(),
    environments: Annotated[
        str, typer.Option("--path", metavar="FOLDER", help="Where the specs are, from the top of the source.")
    ] = "environments",
) -> ExitCode:
    """Check specs and modules offline; names every bad file."""
    found = check(top_of(path), environments)
    if common.output == "json":
        common.screen.json(
            {
                "valid": not found.problems,
                "environments": list(found.environments),
                "modules": list(found.modules),
                "problems": [row_of(problem) for problem in found.problems],
            }
        )
    elif found.problems:
        raise InvalidInput(found.problems)
    else:
        names = ", ".join(found.environments) or "none"
        common.screen.line(f"environments: {names}")
        common.screen.line(f"modules: {', '.join(found.modules) or 'none'}")
        common.screen.line("no problems found")
    return ExitCode.ERROR if found.problems else ExitCode.OK


def top_of(path: Path) -> Path:
    """The Git top level of a path: the source root; the path itself where there is no Git."""
    if not path.exists():
        raise NotFound(f"there is no '{path}'")
    start = path.resolve() if path.is_dir() else path.resolve().parent
    for place in (start, *start.parents):
        if (place / ".git").exists():
            return place
    return start


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What was looked at, and everything wrong with it."""

    environments: tuple[str, ...]
    modules: tuple[str, ...]
    problems: tuple[Problem, ...]


def check(root: Path, environments: str) -> Findings:
    """Check a whole source as the daemon would see it, were everything committed."""
    from reconciler.changes.folders import module_folders
    from reconciler.spec.parse import parse_tree

    tree = read_tree(root)
    prefix = environments.strip("/")
    prefix = f"{prefix}/" if prefix not in {"", "."} else ""
    specs = {
        name: content
        for name, content in tree.files.items()
        if name.startswith(prefix) and name.endswith(SPEC_SUFFIXES)
    }
    problems = list(tree.problems)
    if not specs and not problems:
        message = f"there are no environment specs in '{prefix or '.'}'"
        problems.append(Problem(message=message, hint="name their folder with --path"))
    parsed = parse_tree(specs, tree.files.get)
    modules: set[str] = set()
    folders = module_folders(tree.files)
    for item in parsed:
        problems += item.problems
        if item.spec is not None:
            modules |= _declared(item.spec, folders)
            problems += item.placed(_resolved(item.spec, tree.files))
    beside = [path for path in _module_folders(tree.files) if path not in modules]
    for path in beside:
        problems += _module(path, tree.files)
    return Findings(
        environments=tuple(sorted(item.name for item in parsed if item.name is not None)),
        modules=tuple(sorted(modules | set(beside))),
        problems=_once(problems),
    )


def _declared(spec: Any, folders: Iterable[str]) -> set[str]:
    """The folders of the modules that a spec names or that its globs find, on any of its deployments."""
    from reconciler.changes.folders import matches
    from reconciler.spec.variables import module_globs, module_paths

    globs = module_globs(spec)
    found = {folder for folder in folders if any(matches(glob, folder) for glob in globs)}
    return found | {path.strip("/") for path in module_paths(spec)}


def _resolved(spec: Any, files: Mapping[str, bytes]) -> Iterator[Problem]:
    """Problems of the modules that a spec names, on any of its deployments."""
    from reconciler.state.resolve import resolve

    for deployment in spec.deployments:
        try:
            resolve(spec, deployment.name, NO_COMMIT, files)
        except InvalidInput as error:
            yield from error.problems


def _module_folders(files: Mapping[str, bytes]) -> list[str]:
    found = {name.rpartition("/")[0] for name in files if name.rpartition("/")[2] in PLAN_FILES}
    return sorted(found)


def _module(path: str, files: Mapping[str, bytes]) -> Iterator[Problem]:
    """Problems of a module that no spec names (yet)."""
    from reconciler.changes.module import read_module

    try:
        read_module(path, files)
    except InvalidInput as error:
        yield from error.problems


def _once(problems: list[Problem]) -> tuple[Problem, ...]:
    """Each problem once, in the order of files and lines; deployments share what is wrong with a module."""
    known = {str(problem): problem for problem in problems}
    return tuple(sorted(known.values(), key=lambda problem: (problem.file or "", problem.line or 0)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The files of a work tree by POSIX path, and what could not be read."""

    files: Mapping[str, bytes]
    problems: tuple[Problem, ...]


def read_tree(root: Path) -> Tree:
    """Read a work tree within limits; links are not followed, for in a commit they are only text."""
    files: dict[str, bytes] = {}
    problems: list[Problem] = []
    size = 0
    for path in _paths(root):
        name = path.relative_to(root).as_posix()
        try:
            with path.open("rb") as file:
                content = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            problems.append(Problem(file=name, message=f"cannot be read: {(error.strerror or '').lower()}"))
            continue
        if len(content) > FILE_BYTES_MAX:
            # Only a file that something refers to has to be small; that is told where it is referred to.
            content = (
                content[:FILE_BYTES_MAX] if name.endswith((*SPEC_SUFFIXES, ".csv", ".sql", ".plan")) else b""
            )
        size += len(content)
        if len(files) >= FILES_MAX or size > TREE_BYTES_MAX:
            raise Refused(
                f"'{root}' has more than {FILES_MAX} files or {TREE_BYTES_MAX // 1024**2} MiB",
                hint="validate a clean checkout of the config repository",
            )
        files[name] = content
    return Tree(files=files, problems=tuple(problems))


def _paths(root: Path) -> Iterator[Path]:
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        folders[:] = sorted(
            name
            for name in folders
            if name != ".git" and not (here / name).is_symlink() and not (here / name / ".git").exists()
        )
        for name in sorted(names):
            path = here / name
            if not path.is_symlink() and path.is_file():
                yield path


def row_of(problem: Problem) -> dict[str, str | int]:
    """A problem as JSON."""
    parts = {
        "message": problem.message,
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "hint": problem.hint,
    }
    return {key: value for key, value in parts.items() if value is not None}
