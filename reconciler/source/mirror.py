"""The folder a source is kept in: a bare mirror, the lock on it, and the last good commit beside it.

Keeps the mirror whole: removes what killed processes left, notices damage, puts a new mirror in the place of
the old one. It does not decide what is fetched or which commit is good.
"""

import contextlib
import copy
import fcntl
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from reconciler.errors import LockNotAcquired, SourceUnavailable
from reconciler.frozen import frozen
from reconciler.source import address, git_command, local
from reconciler.source.access import Commit
from reconciler.source.git_command import Finished, GitDoor, Limits, Setting

CANDIDATE_REF = "refs/reconciler/candidate"
GOOD_REF = "refs/reconciler/good"
ASKED_REFS = "refs/reconciler/asked"

_LOCK_LOOK_S = 0.02
_SMALL_FILE_BYTES = 4096
_PACKS_MAX = 40
_ASKED_MAX = 200
_ASKED_KEPT = 50
_TEMPORARY = ("tmp_", "incoming-", ".tmp-")


class MirrorDamaged(SourceUnavailable):
    """The mirror cannot be read; a new one takes its place, unless that was done lately."""


@frozen
class Good:
    """The last good commit as it was found: the commit, and the id its ref had (a tag has one of its own)."""

    commit: Commit
    ref_id: str


class Mirror:
    """One source's folder below the state directory. All calls block; run them in a thread."""

    def __init__(self, folder: Path, *, door: GitDoor, name: str, wanted: str) -> None:
        self.folder = folder
        self.git_dir = folder / "mirror.git"
        self._door = door
        self._name = name
        # Another url or ref is another history: what was good there says nothing here.
        self._wanted = sha256(wanted.encode()).hexdigest()

    @contextlib.contextmanager
    def locked(self, limits: Limits) -> Iterator[None]:
        """Hold the mirror against other processes, and clear away what a killed one left."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._door.prepare()
            descriptor = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._unusable(error) from error
        try:
            self._lock(descriptor, limits)
            self.clear_leftovers()
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int, limits: Limits) -> None:
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            if limits.left_s() <= 0 or limits.cancelled.is_set():
                raise LockNotAcquired(
                    f"fetching source {self._name!r}: its mirror is in use by another fetch",
                    hint="a fetch that hangs ends at its timeout; try again after it",
                )
            time.sleep(_LOCK_LOOK_S)

    def run(self, arguments: Sequence[str], limits: Limits, *, stdin: bytes = b"") -> Finished:
        """Run a command that writes; the caller holds the lock."""
        return self._write(arguments, limits, stdin, git_command.PLAIN)

    def fetch(self, arguments: Sequence[str], limits: Limits) -> Finished:
        """Run a command that writes and reaches the remote, with what opens it."""
        return self._write(arguments, limits, b"", self._door.access())

    def _write(self, arguments: Sequence[str], limits: Limits, stdin: bytes, setting: Setting) -> Finished:
        record = self.folder / "running"
        try:
            return self._door.run(
                arguments, git_dir=self.git_dir, limits=limits, stdin=stdin, record=record, setting=setting
            )
        except OSError as error:
            raise self._unusable(error) from error

    def look(
        self,
        arguments: Sequence[str],
        limits: Limits,
        *,
        stdin: bytes = b"",
        setting: Setting = git_command.PLAIN,
    ) -> Finished:
        """Run a command that only reads; needs no lock."""
        try:
            return self._door.run(
                arguments, git_dir=self.git_dir, limits=limits, stdin=stdin, setting=setting
            )
        except OSError as error:
            raise self._unusable(error) from error

    def create(self, limits: Limits) -> None:
        """Make an empty mirror where there is none."""
        made = self.run(["init", "--quiet", "--bare", "--template="], limits)
        if made.status != 0:
            raise SourceUnavailable(f"making the mirror of source {self._name!r}: {last_line(made.stderr)}")

    def flaw(self) -> str | None:
        """Return what is wrong with the mirror's own files, None where nothing is."""
        try:
            if not self.git_dir.is_dir():
                return "it is missing"
            if not (self.git_dir / "HEAD").read_text(errors="replace").startswith("ref: refs/"):
                return "its HEAD is malformed"
            if not (self.git_dir / "config").stat().st_size:
                return "its config is empty"
            for folder in ("objects", "refs"):
                if not (self.git_dir / folder).is_dir():
                    return f"its folder {folder!r} is missing"
        except OSError as error:
            return f"its files cannot be read ({os.strerror(error.errno or 0)})"
        return self._bad_ref()

    def _bad_ref(self) -> str | None:
        for path in self._ref_files():
            name = path.relative_to(self.git_dir).as_posix()
            if not name.endswith(".lock") and local.read_ref(self.git_dir, name) is None:
                return f"its ref {name!r} is malformed"
        return None

    def _ref_files(self) -> Iterator[Path]:
        for folder, _, files in os.walk(self.git_dir / "refs"):
            yield from (Path(folder, file) for file in files)

    @contextlib.contextmanager
    def replaced(self, limits: Limits) -> Iterator["Mirror"]:
        """Fill a new, empty mirror inside the block; it takes the old one's place only if that succeeds."""
        fresh = copy.copy(self)
        fresh.git_dir = self.folder / "mirror.git.new"
        old = self.folder / "mirror.git.old"
        try:
            fresh.create(limits)
            yield fresh
            with contextlib.suppress(FileNotFoundError):
                self.git_dir.rename(old)
            fresh.git_dir.rename(self.git_dir)
        except OSError as error:
            raise self._unusable(error) from error
        finally:
            for left in (old, fresh.git_dir):
                shutil.rmtree(left, ignore_errors=True)

    def read_good(self) -> Good | None:
        """Return the recorded last good commit of this url and ref, None where there is none to be read."""
        try:
            with (self.folder / "good.json").open("rb") as file:
                record = json.loads(file.read(_SMALL_FILE_BYTES))
            good = Good(
                commit=Commit(
                    id=record["commit"],
                    committed_at=datetime.fromtimestamp(record["committed_at"], UTC),
                ),
                ref_id=record["ref_id"],
            )
        except (OSError, ValueError, KeyError, TypeError, OverflowError):
            return None
        sound = all(address.is_commit_id(str(each)) for each in (good.commit.id, good.ref_id))
        return good if sound and record.get("wanted") == self._wanted else None

    def pinned(self) -> str | None:
        """Return the commit the mirror itself pins as good, for when the record beside it was lost."""
        return None if (self.folder / "good.json").exists() and self._record_is_read() else self._good_ref()

    def _record_is_read(self) -> bool:
        try:
            return isinstance(json.loads((self.folder / "good.json").read_bytes()), dict)
        except (OSError, ValueError):
            return False

    def _good_ref(self) -> str | None:
        return local.read_ref(self.git_dir, GOOD_REF)

    def write_good(self, good: Good) -> None:
        """Pin the commit in the mirror, then record it beside the mirror, each whole or not at all."""
        record = {
            "commit": good.commit.id,
            "committed_at": int(good.commit.committed_at.timestamp()),
            "ref_id": good.ref_id,
            "wanted": self._wanted,
        }
        try:
            # A ref is a file with an id; under our lock, writing it spares a process.
            pin = self.git_dir / GOOD_REF
            pin.parent.mkdir(parents=True, exist_ok=True)
            _write_whole(pin, f"{good.commit.id}\n".encode(), through=self.folder / "good.new")
            _write_whole(
                self.folder / "good.json", json.dumps(record).encode(), through=self.folder / "good.new"
            )
        except OSError as error:
            raise self._unusable(error) from error

    def clear_leftovers(self) -> None:
        """Remove what a killed process left; the caller holds the lock, so nothing here is in use."""
        self._end_orphan()
        for left in ("mirror.git.old", "mirror.git.new"):
            shutil.rmtree(self.folder / left, ignore_errors=True)
        self.clear_temporaries()

    def clear_temporaries(self) -> None:
        """Remove the locks and half-written packs of commands that ended badly."""
        for path in self._stale_entries():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)

    def _end_orphan(self) -> None:
        """End the Git process of a daemon that was killed: it would go on writing beside us."""
        record = self.folder / "running"
        try:
            pid_text, _, started = record.read_text().strip().partition(" ")
            pid = int(pid_text)
        except (OSError, ValueError):
            record.unlink(missing_ok=True)
            return
        deadline = time.monotonic() + 2.0
        while started and git_command.start_time_of(pid) == started and time.monotonic() < deadline:
            git_command.kill_group(pid)
            if _is_dead(pid):
                break
            time.sleep(0.01)
        record.unlink(missing_ok=True)

    def _stale_entries(self) -> Iterator[Path]:
        places = [self.git_dir, self.git_dir / "objects", self.git_dir / "objects" / "pack"]
        for place in places:
            yield from (
                path for path in _entries(place) if path.name.startswith(_TEMPORARY) or _is_lock(path)
            )
        yield from (path for path in self._ref_files() if path.name.endswith(".lock"))

    def tidy(self, limits: Limits) -> None:
        """Forget refs nobody asked for lately and put many packs into one; never an error to the caller."""
        with contextlib.suppress(SourceUnavailable, OSError):
            self._forget_asked(limits)
            packs = sum(path.suffix == ".pack" for path in _entries(self.git_dir / "objects" / "pack"))
            if packs > _PACKS_MAX:
                self.run(["repack", "-q", "-A", "-d", "--unpack-unreachable=1.day.ago"], limits)
                self.run(["prune", "--expire=1.day.ago"], limits)

    def _forget_asked(self, limits: Limits) -> None:
        asked = sorted(_entries(self.git_dir / ASKED_REFS), key=lambda path: path.stat().st_mtime)
        if len(asked) > _ASKED_MAX:
            lines = "".join(f"delete {ASKED_REFS}/{path.name}\n" for path in asked[:-_ASKED_KEPT])
            self.run(["update-ref", "--stdin"], limits, stdin=lines.encode())

    def _unusable(self, error: OSError) -> SourceUnavailable:
        reason = os.strerror(error.errno) if error.errno else "unknown error"
        return SourceUnavailable(
            f"keeping the mirror of source {self._name!r} in the state directory: {reason.lower()}",
            hint="check the space and the permissions of the state directory",
        )


def last_line(stderr: str) -> str:
    """Return the line of Git's words that says most: the last fatal or error, else the last."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return (telling or lines or ["git said nothing"])[-1][:500]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_lock(path: Path) -> bool:
    return path.name.endswith(".lock") and not stat.S_ISDIR(path.lstat().st_mode)


def _is_dead(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (OSError, IndexError):
        return True


def _write_whole(path: Path, content: bytes, *, through: Path) -> None:
    with through.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    through.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
