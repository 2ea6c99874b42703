"""Whether the server of a data directory is alive: read from its pid file and from /proc, never assumed."""

import os
import time
from pathlib import Path

from reconciler.errors import DatabaseUnavailable
from reconciler.frozen import frozen

_PROC = Path("/proc")
_POLL_S = 0.05
_BYTES_MAX = 4096
_PORT_LINE = 3


@frozen
class PidFile:
    """What `postmaster.pid` says; the port is there from early in the start on."""

    pid: int
    port: int | None


def read(data: Path) -> PidFile | None:
    """The pid file of a data directory; None where there is none, or none that was written whole."""
    try:
        with (data / "postmaster.pid").open("rb") as file:
            lines = file.read(_BYTES_MAX).decode("utf-8", "replace").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not lines or not lines[0].strip().lstrip("-").isdigit():
        return None
    port = lines[_PORT_LINE].strip() if len(lines) > _PORT_LINE else ""
    return PidFile(pid=abs(int(lines[0])), port=int(port) if port.isdigit() and port != "0" else None)


def alive(data: Path) -> int | None:
    """The pid of the running server of a data directory.

    A pid is given out again: the process must be a PostgreSQL that lives in this data directory.
    """
    found = read(data)
    if found is None:
        return None
    if not _PROC.is_dir():
        return found.pid if _exists(found.pid) else None
    return found.pid if _lives_in(found.pid, data) else None


def settle(data: Path, *, deadline_s: float) -> int | None:
    """The pid of the running server; where there is none, what a dead one left is gone when this returns.

    Sessions of a killed server end by themselves a moment later, and a new one cannot start before.
    """
    deadline = time.monotonic() + deadline_s
    while (pid := alive(data)) is None:
        left = _living_in(data)
        if not left:
            _forget_stale(data)
            return None
        if time.monotonic() > deadline:
            raise DatabaseUnavailable(
                f"starting the embedded PostgreSQL: processes {', '.join(map(str, left))} of a server that"
                f" died still use '{data}'",
                hint="end them, then try again",
            )
        time.sleep(_POLL_S)
    return pid


def _forget_stale(data: Path) -> None:
    """Remove the pid file of a dead server whose pid belongs to somebody else now.

    PostgreSQL itself only sees that a process of that number is there, and would refuse to start.
    """
    found = read(data)
    if found is not None and _PROC.is_dir() and _exists(found.pid):
        (data / "postmaster.pid").unlink(missing_ok=True)


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _lives_in(pid: int, data: Path) -> bool:
    """Whether a process is a PostgreSQL whose working directory is this data directory; a zombie has none."""
    entry = _PROC / str(pid)
    try:
        program = (entry / "exe").readlink().name.removesuffix(" (deleted)")
        return program in {"postgres", "postmaster"} and (entry / "cwd").samefile(data)
    except PermissionError:
        # A process in another user namespace hides what it runs, but not how it was called.
        return _was_called_for(entry, data)
    except FileNotFoundError:
        return _is_hidden(pid)
    except OSError:
        return False


def _is_hidden(pid: int) -> bool:
    """Whether a process that we may signal is kept out of our sight, as between programs of a hardened unit.

    To take it for the server is safe; to take a running server for a dead one would start another beside it.
    """
    if (_PROC / str(pid)).exists():
        return False
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _was_called_for(entry: Path, data: Path) -> bool:
    try:
        with (entry / "cmdline").open("rb") as file:
            words = file.read(_BYTES_MAX).split(b"\0")
        return Path(os.fsdecode(words[0])).name in {"postgres", "postmaster"} and os.fsencode(data) in words
    except OSError:
        return False


def _living_in(data: Path) -> list[int]:
    if not _PROC.is_dir():
        return []
    return [
        int(entry.name)
        for entry in _PROC.iterdir()
        if entry.name.isdigit() and _lives_in(int(entry.name), data)
    ]
