"""Find the folders of change modules among the files of a source, by globs; it reads no module."""

import re
from collections.abc import Mapping
from fnmatch import translate
from functools import lru_cache

PLAN_FILES = ("sqitch.plan", "pgpm.plan")
"""What makes a folder a module."""
ANY_DEPTH = "**"

_HEAD_MAX = 16 * 1024
_PROJECT = re.compile(rb"^[ \t]*%project[ \t]*=[ \t]*(\S+)", re.MULTILINE)


def module_folders(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return every folder that holds a plan file, in order, with the project that its plan names.

    A plan that names none is broken, which is told when the module is read; the folder's name stands for it.
    The root of the source is left out: no spec can name it.
    """
    found: dict[str, str] = {}
    for name in PLAN_FILES:
        for file, content in files.items():
            folder, slash, base = file.rpartition("/")
            if slash and base == name and folder not in found:
                named = _PROJECT.search(content[:_HEAD_MAX])
                project = named[1].decode("utf-8", "replace") if named else folder.rpartition("/")[2]
                found[folder] = project
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
