"""The files of a commit, some of which are read when the first of them is asked for; it parses nothing.

A commit of thousands of scripts is looked at again and again by commands that remember what these say.
"""

import threading
from collections.abc import Callable, Iterator, Mapping

from typing_extensions import override


class LateFiles(Mapping[str, bytes]):
    """Files by path; those that were not read yet are all read at once, in the thread that asks."""

    def __init__(
        self,
        blobs: Mapping[str, str],
        contents: Mapping[str, bytes],
        read: Callable[[], Mapping[str, bytes]],
    ) -> None:
        """`contents` are those read already, by blob id; `read` gives the contents of all blobs."""
        self._blobs = blobs
        self._contents = contents
        self._unread: Callable[[], Mapping[str, bytes]] | None = read
        self._guard = threading.Lock()

    @override
    def __getitem__(self, path: str) -> bytes:
        blob = self._blobs[path]
        content = self._contents.get(blob)
        return content if content is not None else self._whole()[blob]

    @override
    def __contains__(self, path: object) -> bool:
        return path in self._blobs

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._blobs)

    @override
    def __len__(self) -> int:
        return len(self._blobs)

    def _whole(self) -> Mapping[str, bytes]:
        with self._guard:
            if self._unread is not None:
                self._contents = self._unread()
                self._unread = None
        return self._contents
