"""Read the files of a commit out of the object database, within limits.

Values and parsing of what Git lists; the reading itself goes through the mirror. Nothing is checked out, so a
symbolic link is only ever a name in a list and leads nowhere.
"""

import hashlib
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence

from reconciler.errors import NotFound, Refused
from reconciler.frozen import frozen
from reconciler.source import address
from reconciler.source.git_command import Limits
from reconciler.source.mirror import Mirror, MirrorDamaged, last_line

FILES_MAX = 100_000
BLOB_BYTES_MAX = 8 * 1024 * 1024
TOTAL_BYTES_MAX = 256 * 1024 * 1024
PATH_CHARACTERS_MAX = 1024
_BATCH_BYTES = 32 * 1024 * 1024
_LISTING_BYTES_MAX = 128 * 1024 * 1024
_LISTINGS_KEPT = 4
_CACHE_BYTES_MAX = 64 * 1024 * 1024
_ENTRY_BYTES = 200  # what a kept blob takes beside its content
_FILE_MODES = (b"100644", b"100755", b"100664")


@frozen
class Skipped:
    """A path of the commit that is not read, and why."""

    path: str
    reason: str


@frozen
class Listing:
    """The paths of a commit below a prefix: blob ids and sizes of what may be read, and what may not."""

    blobs: Mapping[str, str]
    sizes: Mapping[str, int]  # by blob id
    skipped: tuple[Skipped, ...]


@frozen
class SourceTree:
    """Files of one commit by path from the root of the source, their blob ids, and what was left out."""

    commit: str
    files: Mapping[str, bytes]
    blobs: Mapping[str, str]
    skipped: tuple[Skipped, ...]
    size: int = 0  # of all files together


class TreeReader:
    """Reads listings and blobs of one mirror; keeps the blobs read last, since most outlive a commit."""

    def __init__(self, *, cache_bytes: int = _CACHE_BYTES_MAX) -> None:
        self._cache: OrderedDict[str, bytes] = OrderedDict()
        self._listings: OrderedDict[tuple[str, str], Listing] = OrderedDict()
        self._cache_bytes = 0
        self._cache_bytes_max = cache_bytes
        self._guard = threading.Lock()

    def forget(self) -> None:
        """Drop everything kept."""
        with self._guard:
            self._cache.clear()
            self._listings.clear()
            self._cache_bytes = 0

    def read(self, mirror: Mirror, commit: str, prefix: str, limits: Limits) -> SourceTree:
        """Read every file below a prefix."""
        listing = self.list(mirror, commit, prefix, limits)
        total = self.check_size(commit, prefix, listing)
        contents = self.contents(mirror, list(dict.fromkeys(listing.blobs.values())), listing, limits)
        return SourceTree(
            commit=commit,
            files={path: contents[blob] for path, blob in listing.blobs.items()},
            blobs=listing.blobs,
            skipped=listing.skipped,
            size=total,
        )

    @staticmethod
    def check_size(commit: str, prefix: str, listing: Listing) -> int:
        """Refuse a commit that is too large to be read; gives how large it is."""
        total = sum(listing.sizes[blob] for blob in listing.blobs.values())
        if total > TOTAL_BYTES_MAX:
            raise Refused(
                f"reading {prefix or 'the files'!r} at commit {commit[:12]}: {total} bytes are more than "
                f"the {TOTAL_BYTES_MAX} that are read"
            )
        return total

    def contents(
        self, mirror: Mirror, wanted: Sequence[str], listing: Listing, limits: Limits
    ) -> dict[str, bytes]:
        """Read some blobs of a listing."""
        found = self._cached(wanted)
        missing = [blob for blob in wanted if blob not in found]
        for batch in _batches(missing, listing.sizes):
            found.update(_read_batch(mirror, batch, listing.sizes, limits))
        self._keep(found)
        return found

    def remember(self, commit: str, prefix: str, listing: Listing, contents: Mapping[str, bytes]) -> None:
        """Take in what is known of a commit from before."""
        with self._guard:
            self._listings[commit, prefix] = listing
        self._keep(contents)

    def list(self, mirror: Mirror, commit: str, prefix: str, limits: Limits) -> Listing:
        """List every path below a prefix; a prefix that is not there is an error, never an empty list."""
        with self._guard:
            known = self._listings.get((commit, prefix))
        if known is not None:
            return known
        arguments = ["ls-tree", "-r", "-z", "-l", "--full-tree", commit, "--", *([prefix] if prefix else [])]
        bounded = Limits(
            deadline=limits.deadline, stdout_bytes=_LISTING_BYTES_MAX, cancelled=limits.cancelled
        )
        listed = mirror.look(arguments, bounded)
        if listed.status != 0:
            raise MirrorDamaged(f"listing commit {commit[:12]}: {last_line(listed.stderr)}")
        listing = parse_listing(listed.stdout)
        _check_prefix_is_folder(listing, commit, prefix)
        with self._guard:
            self._listings[commit, prefix] = listing
            while len(self._listings) > _LISTINGS_KEPT:
                self._listings.popitem(last=False)
        return listing

    def _cached(self, wanted: Sequence[str]) -> dict[str, bytes]:
        found = {}
        with self._guard:
            for blob in wanted:
                content = self._cache.get(blob)
                if content is not None:
                    self._cache.move_to_end(blob)
                    found[blob] = content
        return found

    def _keep(self, contents: Mapping[str, bytes]) -> None:
        with self._guard:
            # What none of the latest commits has is not asked for again.
            listed = {blob for listing in self._listings.values() for blob in listing.blobs.values()}
            for blob in [blob for blob in self._cache if blob not in listed]:
                self._cache_bytes -= len(self._cache.pop(blob)) + _ENTRY_BYTES
            for blob, content in contents.items():
                if blob not in self._cache:
                    self._cache[blob] = content
                    self._cache_bytes += len(content) + _ENTRY_BYTES
            while self._cache_bytes > self._cache_bytes_max:
                _, dropped = self._cache.popitem(last=False)
                self._cache_bytes -= len(dropped) + _ENTRY_BYTES


def parse_listing(output: bytes) -> Listing:
    """Read the output of `ls-tree -r -z -l`; what cannot be read as a file is listed with a reason."""
    blobs: dict[str, str] = {}
    sizes: dict[str, int] = {}
    skipped: list[Skipped] = []
    entries = output.split(b"\0")
    if len(entries) > FILES_MAX + 1:
        raise Refused(f"listing a commit: more than the {FILES_MAX} files that are read")
    for entry in entries:
        if not entry:
            continue
        head, _, raw_path = entry.partition(b"\t")
        mode, _, blob, size = head.split()
        path, reason = _judge(mode, size, raw_path)
        if reason is not None:
            skipped.append(Skipped(path=path, reason=reason))
            continue
        # Most paths and blobs stand in the next commit too: its listing shares their texts.
        blob_text = sys.intern(blob.decode())
        blobs[sys.intern(path)] = blob_text
        sizes[blob_text] = int(size)
    return Listing(blobs=blobs, sizes=sizes, skipped=tuple(skipped))


def _judge(mode: bytes, size: bytes, raw_path: bytes) -> tuple[str, str | None]:
    """Return the path, and the reason not to read it where there is one."""
    try:
        path = raw_path.decode()
    except UnicodeDecodeError:
        return raw_path.decode(errors="backslashreplace"), "its name is not UTF-8"
    if mode == b"120000":
        return path, "it is a symbolic link, which is never followed"
    if mode == b"160000":
        return path, "it is a submodule, which is never followed"
    if mode not in _FILE_MODES:
        return path, "it is not a plain file"
    if len(path) > PATH_CHARACTERS_MAX:
        return path[:PATH_CHARACTERS_MAX], f"its path is longer than {PATH_CHARACTERS_MAX} characters"
    if _is_odd(path):
        return path, "its path is not a plain one"
    if int(size) > BLOB_BYTES_MAX:
        return path, f"it has {int(size)} bytes, more than the {BLOB_BYTES_MAX} that are read"
    return path, None


def _is_odd(path: str) -> bool:
    # Nearly all have no empty part, and none that begins with a point.
    if "/." not in path and "//" not in path and path[:1] not in ("", ".", "/") and path[-1] != "/":
        return False
    return any(part in ("", ".", "..") or part.lower() == ".git" for part in path.split("/"))


def _check_prefix_is_folder(listing: Listing, commit: str, prefix: str) -> None:
    if not prefix:
        return
    for skipped in listing.skipped:
        if skipped.path == prefix:
            raise Refused(f"reading {prefix!r} at commit {commit[:12]}: {skipped.reason}")
    if not listing.blobs and not listing.skipped:
        raise NotFound(
            f"reading {prefix!r} at commit {commit[:12]}: there is no such path in the commit",
            hint="check the path of the source",
        )


def _batches(blobs: Sequence[str], sizes: Mapping[str, int]) -> Iterator[list[str]]:
    """Cut the blobs into runs whose contents fit in memory twice."""
    batch: list[str] = []
    batch_bytes = 0
    for blob in blobs:
        if batch and batch_bytes + sizes[blob] > _BATCH_BYTES:
            yield batch
            batch, batch_bytes = [], 0
        batch.append(blob)
        batch_bytes += sizes[blob]
    if batch:
        yield batch


def _read_batch(
    mirror: Mirror, blobs: Sequence[str], sizes: Mapping[str, int], limits: Limits
) -> dict[str, bytes]:
    expected = sum(sizes[blob] for blob in blobs) + 256 * len(blobs)
    bounded = Limits(deadline=limits.deadline, stdout_bytes=expected, cancelled=limits.cancelled)
    answer = mirror.look(
        ["cat-file", "--batch"], bounded, stdin="".join(f"{blob}\n" for blob in blobs).encode()
    )
    if answer.status != 0:
        raise MirrorDamaged(f"reading {len(blobs)} files: {last_line(answer.stderr)}")
    return dict(_parse_batch(answer.stdout, blobs, sizes))


def _parse_batch(
    output: bytes, blobs: Sequence[str], sizes: Mapping[str, int]
) -> Iterator[tuple[str, bytes]]:
    place = 0
    for blob in blobs:
        size = sizes[blob]
        header = b"%s blob %d\n" % (blob.encode(), size)
        if not output.startswith(header, place):
            raise MirrorDamaged(f"reading blob {blob[:12]}: it is not in the mirror")
        start = place + len(header)
        content = output[start : start + size]
        # Git trusts what it stored once; a flipped bit on disk must not become a change script.
        if blob_id(content, like=blob) != blob:
            raise MirrorDamaged(f"reading blob {blob[:12]}: its content does not match its id")
        yield blob, content
        place = start + size + 1


def blob_id(content: bytes, *, like: str) -> str:
    """Return the id Git gives this content, with the hash that the id `like` is of."""
    framed = b"blob %d\0%s" % (len(content), content)
    if len(like) == 64:
        return hashlib.sha256(framed).hexdigest()
    return hashlib.sha1(framed, usedforsecurity=False).hexdigest()


def check_commit(commit: str) -> str:
    """Return a whole commit id, or refuse it."""
    if not address.is_commit_id(commit):
        raise Refused(f"reading commit {commit[:80]!r}: it is not a whole commit id")
    return commit
