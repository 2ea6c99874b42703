"""The files of a source as builds and jobs name them: by folder or glob, with hashes; it opens none."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from reconciler.changes.folders import matches
from reconciler.changes.unread import NOTHING
from reconciler.frozen import frozen

_FIXED = re.compile(r"(?:[^*?\[/]+/)*")


@frozen
class SourceFile:
    """A file of the source: its path from the root, a hash of its content, and how many bytes it has."""

    path: str
    hash: str
    size: int


class SourceFiles(Protocol):
    """The files of a commit, as builds and jobs name them."""

    def below(self, folder: str) -> Sequence[SourceFile]:
        """The files below a folder, by path; an empty folder is the root."""
        ...

    def matching(self, glob: str) -> Sequence[SourceFile]:
        """The files that a glob means, by path."""
        ...

    def unread(self, place: str) -> Mapping[str, str]:
        """What was left out below a place, itself or above it, with the reason."""
        ...


def fixed_folder(glob: str) -> str:
    """The folder that all files of a glob are in, as far as the glob names it; empty: the root."""
    fixed = _FIXED.match(glob)
    return fixed[0].removesuffix("/") if fixed is not None else ""


class PlainFiles:
    """Files that are there as they are, by path; the hashes are those that Git gives them."""

    def __init__(self, files: Mapping[str, bytes], unread: Mapping[str, str] = NOTHING) -> None:
        self._files = files
        self._unread = unread
        self._known: dict[str, SourceFile] = {}

    def below(self, folder: str) -> Sequence[SourceFile]:
        """As `SourceFiles`."""
        prefix = f"{folder}/" if folder else ""
        return [self._file(path) for path in sorted(self._files) if path.startswith(prefix)]

    def matching(self, glob: str) -> Sequence[SourceFile]:
        """As `SourceFiles`."""
        return [self._file(path) for path in sorted(self._files) if matches(glob, path)]

    def unread(self, place: str) -> Mapping[str, str]:
        """As `SourceFiles`."""
        return {path: why for path, why in self._unread.items() if _concerns(path, place)}

    def _file(self, path: str) -> SourceFile:
        known = self._known.get(path)
        if known is None:
            content = self._files[path]
            framed = b"blob %d\0%s" % (len(content), content)
            found = hashlib.sha1(framed, usedforsecurity=False).hexdigest()
            known = self._known[path] = SourceFile(path=path, hash=found, size=len(content))
        return known


def _concerns(path: str, place: str) -> bool:
    return not place or path == place or path.startswith(f"{place}/") or place.startswith(f"{path}/")
