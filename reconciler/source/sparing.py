"""Read a commit for a command: by what is kept from before, and many scripts only when they are asked for."""

from collections.abc import Callable, Mapping
from typing import Protocol

from reconciler.source import kept_tree
from reconciler.source.git_command import Limits
from reconciler.source.late_files import LateFiles
from reconciler.source.mirror import Mirror
from reconciler.source.tree import Listing, SourceTree, TreeReader

LATE_SUFFIX = ".sql"
LATE_MIN = 200
"""With fewer scripts, all of them are read at once, and kept."""
KEPT_BYTES_MAX = 4 * 1024 * 1024
"""Of files that are longer together only the list is kept."""


class Kept(Protocol):
    """What is kept of the commit that was read last; a place that takes nothing is no error."""

    @property
    def made_by(self) -> str:
        """What program may have written it."""

    def read(self) -> bytes | None:
        """What was written."""

    def write(self, content: bytes) -> None:
        """Put this in its place."""


class SparingReader:
    """Reads commits through another reader, which it spares work."""

    def __init__(self, reader: TreeReader, kept: Kept) -> None:
        self._reader = reader
        self._kept = kept

    def read(
        self,
        mirror: Mirror,
        commit: str,
        prefix: str,
        limits: Limits,
        rest: Callable[[], Mapping[str, bytes]],
    ) -> SourceTree:
        """Read the files below a prefix; `rest` gives the contents of all of them, by blob id."""
        written = self._kept.read()
        known = kept_tree.decode(written, self._kept.made_by, commit, prefix) if written is not None else None
        if known is not None:
            self._reader.remember(commit, prefix, *known)
        listing = self._reader.list(mirror, commit, prefix, limits)
        total = self._reader.check_size(commit, prefix, listing)
        contents = self._reader.contents(mirror, _now(listing), listing, limits)
        if known is None:
            kept = contents if sum(map(len, contents.values())) <= KEPT_BYTES_MAX else {}
            self._kept.write(kept_tree.encode(self._kept.made_by, commit, prefix, listing, kept))
        return SourceTree(
            commit=commit,
            files=LateFiles(listing.blobs, contents, rest),
            blobs=listing.blobs,
            skipped=listing.skipped,
            size=total,
        )


def _now(listing: Listing) -> list[str]:
    """The blobs that are read at once."""
    now = [blob for path, blob in listing.blobs.items() if not path.endswith(LATE_SUFFIX)]
    few = len(listing.blobs) - len(now) < LATE_MIN
    return list(dict.fromkeys(listing.blobs.values() if few else now))
