"""Find the folders of change modules among the files of a source, by globs; it reads no module."""

import json
import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from functools import lru_cache

from reconciler.errors import PlanFileError, Problem

PLAN_FILES = ("sqitch.plan", "pgpm.plan")
"""What makes a folder a module."""
ANY_DEPTH = "**"

WORKSPACE_FILE = "pgpm.json"
WORKSPACE_MAX = 1024 * 1024
EXTENSIONS = "extensions"

_HEAD_MAX = 16 * 1024
_PROJECT = re.compile(rb"^[ \t]*%project[ \t]*=[ \t]*(\S+)", re.MULTILINE)


def module_folders(files: Mapping[str, bytes], unread: Iterable[str] = ()) -> dict[str, str]:
    """Return every folder that holds a plan file, in order, with the project that its plan names.

    A plan that names none is broken, which is told when the module is read; the folder's name stands for it.
    The root of the source is left out: no spec can name it. A plan file among those that were not read makes
    a module too, which is told when that is read: it must not look as if it had left.
    """
    found: dict[str, str] = {}
    for name in PLAN_FILES:
        for file, content in files.items():
            folder, slash, base = file.rpartition("/")
            if slash and base == name and folder not in found:
                named = _PROJECT.search(content[:_HEAD_MAX])
                project = named[1].decode("utf-8", "replace") if named else folder.rpartition("/")[2]
                found[folder] = project
    for file in unread:
        folder, slash, base = file.rpartition("/")
        if slash and base in PLAN_FILES:
            found.setdefault(folder, folder.rpartition("/")[2])
    return dict(sorted(found.items()))


def matches(glob: str, folder: str) -> bool:
    """Whether a glob means a folder: `*`, `?` and `[…]` within a part of the path, `**` for any parts.

    As in a shell, what begins with a dot is only meant where the glob has the dot.
    """
    parts = folder.split("/")
    # Where the parts of the glob that were looked at may end in the folder.
    ends = {0}
    for wanted in glob.removesuffix("/").split("/"):
        if wanted == ANY_DEPTH:
            ends = _any_depth(ends, parts)
        else:
            ends = {end + 1 for end in ends if end < len(parts) and _means(wanted, parts[end])}
    return len(parts) in ends


def workspace_folders(folder: str, files: Mapping[str, bytes]) -> tuple[str, ...]:
    """Return the module folders of a workspace, which stands in `folder` ('' for the root of the source).

    Its `pgpm.json` says where they are, as pgpm reads it: by the globs of `packages`, or below what these
    match, and below `extensionsDir`. Without one, all module folders below are its.
    """
    prefix = f"{folder}/" if folder else ""
    below = [each for each in module_folders(files) if each.startswith(prefix)]
    file = f"{prefix}{WORKSPACE_FILE}"
    if file not in files:
        return tuple(below)
    globs = _workspace_globs(file, files[file])
    return tuple(
        each
        for each in below
        if any(
            matches(glob, each[len(prefix) :]) or matches(f"{glob}/**", each[len(prefix) :]) for glob in globs
        )
    )


def _workspace_globs(file: str, content: bytes) -> tuple[str, ...]:
    said = _json(content) if len(content) <= WORKSPACE_MAX else None
    packages = said.get("packages") if isinstance(said, dict) else None
    extensions = said.get("extensionsDir", EXTENSIONS) if isinstance(said, dict) else None
    if not isinstance(packages, list) or not all(isinstance(each, str) for each in packages):
        message = f"not a JSON file of {WORKSPACE_MAX} bytes at most with a list of globs under 'packages'"
        raise PlanFileError([Problem(file=file, message=message, hint='as in {"packages": ["packages/*"]}')])
    if not isinstance(extensions, str):
        raise PlanFileError([Problem(file=file, message="'extensionsDir' is not the name of a folder")])
    return tuple(each.removeprefix("./").removesuffix("/") for each in (*packages, extensions))


def _json(content: bytes) -> object:
    """What a JSON text says; None where it is none."""
    try:
        said: object = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return said


def _any_depth(ends: set[int], parts: list[str]) -> set[int]:
    found: set[int] = set()
    for start in sorted(ends):
        end = start
        while end not in found:
            found.add(end)
            if end == len(parts) or parts[end].startswith("."):
                break
            end += 1
    return found


def _means(wanted: str, part: str) -> bool:
    if part.startswith(".") and not wanted.startswith("."):
        return False
    return _compiled(wanted).match(part) is not None


@lru_cache(maxsize=1024)
def _compiled(wanted: str) -> re.Pattern[str]:
    return re.compile(translate(wanted))
