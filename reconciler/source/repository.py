"""One source for the rest of the daemon: fetch it, resolve a name, read a commit.

The asyncio face of this package: each call runs in a thread with a deadline, and a cancelled call has ended
its Git processes before it returns. Nothing stays open between calls.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from reconciler.errors import SourceUnavailable
from reconciler.source import address, tree
from reconciler.source.access import Commit, FetchResult, SourceAccess
from reconciler.source.address import Address
from reconciler.source.fetching import Fetcher, wanted_ref
from reconciler.source.git_command import GitDoor, Limits
from reconciler.source.mirror import Mirror
from reconciler.source.signatures import Verifier
from reconciler.source.sparing import Kept
from reconciler.source.tree import SourceTree

_READ_TIMEOUT_S = 60.0
_T = TypeVar("_T")


class Repository:
    """One source: a bare mirror below `state_dir/sources/NAME` that keeps its last good commit."""

    def __init__(self, access: SourceAccess, *, state_dir: Path, kept: Kept | None = None) -> None:
        """`kept` is where what is read of a commit is kept for the next who reads it, where it is."""
        address.check_source_name(access.name)
        self.name = access.name
        self.place: Address = address.parse(access.url, relative_to=str(Path.cwd()))
        self._fetch_timeout_s = access.fetch_timeout_s
        folder = state_dir.absolute() / "sources" / access.name
        door = GitDoor(place=self.place, credentials=access.credentials, home=folder / "home")
        door.access()  # what is missing or malformed is told at the start
        verifier = None
        if access.signatures is not None:
            verifier = Verifier(access.signatures, name=access.name, folder=folder / "keys", door=door)
        # What was taken unsigned is no good commit once signatures are asked for.
        wanted = f"{self.place.url}\n{wanted_ref(access)}" + ("\nsigned" if verifier is not None else "")
        mirror = Mirror(folder, door=door, name=access.name, wanted=wanted)
        self._fetcher = Fetcher(access, place=self.place, mirror=mirror, verifier=verifier, kept=kept)
        self._running: set[threading.Event] = set()
        self._is_closed = False

    async def fetch(self) -> FetchResult:
        """Fetch what is wanted of the source; on any failure the last good commit stays."""
        return await self._in_thread(self._fetcher.fetch, self._fetch_timeout_s)

    async def resolve(self, ref: str) -> Commit:
        """Find any branch, tag or commit, fetching it on demand; the last good commit never moves."""
        return await self._in_thread(lambda limits: self._fetcher.resolve(ref, limits), self._fetch_timeout_s)

    async def verify(self, commit: str, *, ref: str | None = None) -> None:
        """Raise SignatureRefused unless a resolved commit may be applied: it is good, or signed as wanted.

        `ref` is the name it was resolved from. Where the settings ask for no signatures, all may be applied.
        """
        tree.check_commit(commit)
        await self._in_thread(lambda limits: self._fetcher.verify(commit, ref, limits), _READ_TIMEOUT_S)

    async def read(self, commit: str, prefix: str = "") -> SourceTree:
        """Read the files of a fetched commit, all of them or those below a folder.

        What is kept of them is not read again, and many scripts are read when the first of them is asked for.
        """
        tree.check_commit(commit)
        folder = address.check_prefix(prefix)
        rest = partial(self._read_rest, commit, folder)
        return await self._in_thread(
            lambda limits: self._fetcher.read(commit, folder, limits, rest), _READ_TIMEOUT_S
        )

    def _read_rest(self, commit: str, folder: str) -> Mapping[str, bytes]:
        """The contents of all files by blob id, in the thread that asks."""
        if self._is_closed:
            raise SourceUnavailable(f"reading source {self.name!r}: it was closed")
        limits = Limits(deadline=time.monotonic() + _READ_TIMEOUT_S)
        self._running.add(limits.cancelled)
        try:
            whole = self._fetcher.read_whole(commit, folder, limits)
        finally:
            self._running.discard(limits.cancelled)
        return {blob: whole.files[path] for path, blob in whole.blobs.items()}

    async def list_tree(self, commit: str, prefix: str = "") -> Mapping[str, str]:
        """List the files of a fetched commit: path to blob id, without reading any."""
        tree.check_commit(commit)
        folder = address.check_prefix(prefix)
        listing = await self._in_thread(
            lambda limits: self._fetcher.list_tree(commit, folder, limits), _READ_TIMEOUT_S
        )
        return listing.blobs

    async def descends(self, commit: str, previous: str) -> bool:
        """Whether `previous` is in the history of a fetched commit; not where it is not here."""
        tree.check_commit(commit)
        tree.check_commit(previous)
        return await self._in_thread(
            lambda limits: self._fetcher.descends(commit, previous, limits), _READ_TIMEOUT_S
        )

    def last_good(self) -> Commit | None:
        """Return the last good commit as recorded, also after a restart or while the remote is away."""
        return self._fetcher.last_good()

    async def close(self) -> None:
        """End what is running; later calls are refused."""
        self._is_closed = True
        for cancelled in tuple(self._running):
            cancelled.set()

    async def _in_thread(self, work: Callable[[Limits], _T], timeout_s: float) -> _T:
        if self._is_closed:
            raise SourceUnavailable(f"using source {self.name!r}: it was closed")
        limits = Limits(deadline=time.monotonic() + timeout_s)
        self._running.add(limits.cancelled)
        call = asyncio.ensure_future(asyncio.to_thread(work, limits))
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            limits.cancelled.set()
            with contextlib.suppress(Exception):
                await asyncio.wait({call})
                call.exception()
            raise
        finally:
            self._running.discard(limits.cancelled)
