"""`reconciler validate`: check specs, modules and SQL objects offline, and name all that is wrong."""

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any

import typer

from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode
from reconciler.errors import InvalidInput, NotFound, Problem, Refused
from reconciler.frozen import frozen

FILES_MAX = 50_000
FILE_BYTES_MAX = 16 * 1024 * 1024
TREE_BYTES_MAX = 512 * 1024 * 1024
SPEC_SUFFIXES = (".yaml", ".yml")
PLAN_FILES = ("sqitch.plan", "pgpm.plan")
NO_COMMIT = "0" * 40
_LINK = "it is a symbolic link, which is never followed"


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
    """Check specs, modules and SQL objects offline; names every bad file."""
    found = check(top_of(path), environments)
    if common.output == "json":
        common.screen.json(
            {
                "valid": not found.problems,
                "environments": list(found.environments),
                "modules": list(found.modules),
                "objects": list(found.objects),
                "problems": [row_of(problem) for problem in found.problems],
                "warnings": [row_of(problem) for problem in found.warnings],
            }
        )
    elif found.problems:
        _warn(common, found)
        raise InvalidInput(found.problems)
    else:
        _warn(common, found)
        names = ", ".join(found.environments) or "none"
        common.screen.line(f"environments: {names}")
        common.screen.line(f"modules: {', '.join(found.modules) or 'none'}")
        if found.objects:
            common.screen.line(f"objects: {', '.join(found.objects)}")
        common.screen.line("no problems found")
    return ExitCode.ERROR if found.problems else ExitCode.OK


def _warn(common: Common, found: "Findings") -> None:
    from reconciler.cli.output import printable_lines

    for problem in found.warnings:
        common.screen.note(printable_lines(f"warning: {problem.drawn()}"))


def top_of(path: Path) -> Path:
    """The Git top level of a path: the source root; the path itself where there is no Git."""
    if not path.exists():
        raise NotFound(f"there is no '{path}'")
    start = path.resolve() if path.is_dir() else path.resolve().parent
    for place in (start, *start.parents):
        if (place / ".git").exists():
            return place
    return start


@frozen
class Findings:
    """What was looked at, everything wrong with it, and what only looks wrong."""

    environments: tuple[str, ...]
    modules: tuple[str, ...]
    problems: tuple[Problem, ...]
    objects: tuple[str, ...] = ()
    warnings: tuple[Problem, ...] = ()


def check(root: Path, environments: str) -> Findings:
    """Check a whole source as the daemon would see it, were everything committed."""
    from reconciler.changes.folders import module_folders
    from reconciler.changes.unread import HINT
    from reconciler.spec.parse import parse_tree
    from reconciler.spec.variables import object_paths

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
    problems += (
        Problem(file=name, message=f"was not read: {why}", hint=HINT)
        for name, why in tree.unread.items()
        if name.startswith(prefix) and name.endswith(SPEC_SUFFIXES)
    )
    parsed = parse_tree(specs, tree.read)
    modules: set[str] = set()
    objects: set[str] = set()
    warnings: list[Problem] = []
    folders = module_folders(tree.files, tree.unread)
    for item in parsed:
        problems += item.problems
        if item.spec is not None:
            modules |= _declared(item.spec, folders)
            objects |= set(object_paths(item.spec))
            wrong, suspect = _resolved(item.spec, tree)
            problems += item.placed(wrong)
            warnings += item.placed(suspect)
    beside = [path for path in _module_folders((*tree.files, *tree.unread)) if path not in modules]
    for path in beside:
        problems += _module(path, tree)
    return Findings(
        environments=tuple(sorted(item.name for item in parsed if item.name is not None)),
        modules=tuple(sorted(modules | set(beside))),
        problems=_once(problems),
        objects=tuple(sorted(objects)),
        warnings=_once(warnings),
    )


def _declared(spec: Any, folders: Iterable[str]) -> set[str]:
    """The folders of the modules that a spec names or that its globs find, on any of its deployments."""
    from reconciler.changes.folders import matches
    from reconciler.spec.variables import module_globs, module_paths

    globs = module_globs(spec)
    found = {folder for folder in folders if any(matches(glob, folder) for glob in globs)}
    return found | {path.strip("/") for path in module_paths(spec)}


def _resolved(spec: Any, tree: "Tree") -> tuple[list[Problem], list[Problem]]:
    """What is wrong with modules and objects that a spec names, on any of its deployments; and warnings."""
    from reconciler.state.resolve import readers_of, resolve_with

    problems: list[Problem] = []
    warnings: list[Problem] = []
    readers = readers_of(tree.files, tree.unread)
    for deployment in spec.deployments:
        try:
            desired = resolve_with(spec, deployment.name, NO_COMMIT, readers)
            warnings += (warning for part in desired.objects for warning in part.warnings)
        except InvalidInput as error:
            problems += error.problems
    return problems, warnings


def _module_folders(files: Iterable[str]) -> list[str]:
    found = {name.rpartition("/")[0] for name in files if name.rpartition("/")[2] in PLAN_FILES}
    return sorted(found)


def _module(path: str, tree: "Tree") -> Iterator[Problem]:
    """Problems of a module that no spec names (yet)."""
    from reconciler.changes.module import read_module

    try:
        read_module(path, tree.files, unread=tree.unread)
    except InvalidInput as error:
        yield from error.problems


def _once(problems: list[Problem]) -> tuple[Problem, ...]:
    """Each problem once, in the order of files and lines; deployments share what is wrong with a module."""
    known = {str(problem): problem for problem in problems}
    return tuple(sorted(known.values(), key=lambda problem: (problem.file or "", problem.line or 0)))


@frozen
class Tree:
    """The files of a work tree by POSIX path, and what could not be read.

    `unread` are paths that are left out as they would be of a commit, with the reason: it is told of where
    something needs them.
    """

    files: Mapping[str, bytes]
    problems: tuple[Problem, ...]
    unread: Mapping[str, str] = field(default_factory=dict)

    def read(self, path: str) -> Any:
        """A file, or why it was left out; None where there is none."""
        from reconciler.changes.unread import HINT, why_unread
        from reconciler.spec.listing import Unread

        why = why_unread(path, self.unread) if path not in self.files else None
        return Unread(why, HINT) if why is not None else self.files.get(path)


def read_tree(root: Path) -> Tree:
    """Read a work tree within limits; links are not followed, for in a commit they are only text."""
    files: dict[str, bytes] = {}
    problems: list[Problem] = []
    unread: dict[str, str] = {}
    size = 0
    for path, why in _paths(root):
        name = path.relative_to(root).as_posix()
        if why is not None:
            unread[name] = why
            _check_size(root, len(files) + len(unread), size)
            continue
        try:
            with path.open("rb") as file:
                content = file.read(FILE_BYTES_MAX + 1)
        except OSError as error:
            problems.append(Problem(file=name, message=f"cannot be read: {(error.strerror or '').lower()}"))
            continue
        if len(content) > FILE_BYTES_MAX:
            # Only a file that something refers to has to be small; that is told where it is referred to.
            if not name.endswith((*SPEC_SUFFIXES, ".csv", ".sql", ".plan")):
                unread[name] = f"it has more than the {FILE_BYTES_MAX} bytes that are read"
                continue
            content = content[:FILE_BYTES_MAX]
        size += len(content)
        files[name] = content
        _check_size(root, len(files) + len(unread), size)
    return Tree(files=files, problems=tuple(problems), unread=unread)


def _check_size(root: Path, files: int, size: int) -> None:
    if files > FILES_MAX or size > TREE_BYTES_MAX:
        raise Refused(
            f"'{root}' has more than {FILES_MAX} files or {TREE_BYTES_MAX // 1024**2} MiB",
            hint="validate a clean checkout of the config repository",
        )


def _paths(root: Path) -> Iterator[tuple[Path, str | None]]:
    """The files below a folder, and what there is that a commit gives no text of, with the reason."""
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        inside = []
        for name in sorted(each for each in folders if each != ".git"):
            path = here / name
            if path.is_symlink():
                yield path, _LINK
            elif (path / ".git").exists():
                yield path, "it is a repository of its own, which is never followed"
            else:
                inside.append(name)
        folders[:] = inside
        for name in sorted(names):
            path = here / name
            plain = not path.is_symlink() and path.is_file()
            yield path, None if plain else _LINK if path.is_symlink() else "it is not a plain file"


def row_of(problem: Problem) -> dict[str, str | int]:
    """A problem as JSON."""
    parts = {
        "message": problem.message,
        "file": problem.file,
        "line": problem.line,
        "column": problem.column,
        "path": problem.path,
        "hint": problem.hint,
        "excerpt": problem.excerpt,
    }
    return {key: value for key, value in parts.items() if value is not None}
