"""Keep what commits list in files between commands, one for each source: that of the commit read last."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from reconciler.daemon import cache_files
from reconciler.errors import PermanentError

READERS = ("source",)
"""The packages that decide what may be read of a commit."""


def file(state_dir: Path, source: str) -> Path:
    """The file of a source."""
    return cache_files.folder(state_dir) / "trees" / source


def kept(state_dir: Path, source: str) -> "TreeFile | None":
    """Where what is read of a source is kept; None where nothing may be."""
    with suppress(OSError, PermanentError):
        return TreeFile(file(state_dir, source), cache_files.made_by(READERS))
    return None


@dataclass(frozen=True, slots=True)
class TreeFile:
    """The file of one source."""

    place: Path
    made_by: str

    def read(self) -> bytes | None:
        """What was written; nothing where the file is not there or not to be believed."""
        with suppress(OSError):
            return cache_files.read(self.place)
        return None

    def write(self, content: bytes) -> None:
        """Put a file in its place, whole or not at all."""
        with suppress(OSError):
            cache_files.write(self.place, content)
