"""The folder of one instance of a service: its definition, its lock, and what its supervisor last said.

Whoever holds the lock is its supervisor, or removes it; the kernel says who that is, and frees the lock of
the dead. The supervisor imports this: the standard library only, and little of it.

    definition.json   what runs, environment included; whole before anything starts, for its owner only
    lock              held as long as the supervisor lives
    state             one page, allocated beforehand: a full disk keeps no exit status from being told
    retired           there from when it was decided that nothing starts here any more
    supervisor.log    what the supervisor itself had to complain of
    stdout.log, …     what the service said
"""

import fcntl
import json
import os
import struct
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

DEFINITION = "definition.json"
LOCK = "lock"
STATE = "state"
RETIRED = "retired"
COMPLAINTS = "supervisor.log"
STDOUT = "stdout.log"
STDERR = "stderr.log"

PREPARED = "prepared"
STARTING = "starting"
RUNNING = "running"
WAITING = "waiting"
STOPPING = "stopping"
ENDED = "ended"

FORMAT = 1
STATE_BYTES = 4096
_TEXT_MAX = 1024
_DEFINITION_BYTES_MAX = 4 * 1024 * 1024
_FLOCK = "hhqqi"
_HEADER = struct.Struct(">II")
_READS_MAX = 5


class State(NamedTuple):
    """What a supervisor says of its service.

    `run` counts starts. `pid` and `started` are of the service while it runs and of its last run after that;
    `since` is the time of the clock on the wall, for people. `exit_status` is a number of the service, or
    minus the signal that ended it; None where it never ran to an end. `reason` is of the last end too. `lost`
    counts bytes of output that could not be written.
    """

    phase: str = PREPARED
    run: int = 0
    pid: int = 0
    started: int = 0
    supervisor: int = 0
    boot: str = ""
    since: float = 0.0
    up_since: float = 0.0
    exit_status: int | None = None
    quick_ends: int = 0
    lost: int = 0
    reason: str = ""


class Damaged(Exception):
    """A file of an instance is not what was written."""


def write_definition(folder: Path, definition: Mapping[str, Any]) -> None:
    """Make the folder's files; the caller renames the folder to its place once it is whole."""
    text = json.dumps(definition, ensure_ascii=False, separators=(",", ":")).encode(
        "utf-8", "surrogateescape"
    )
    if len(text) > _DEFINITION_BYTES_MAX:
        raise ValueError(f"the definition has {len(text)} bytes, and at most {_DEFINITION_BYTES_MAX} may be")
    _write_new(folder / DEFINITION, text)
    _write_new(folder / LOCK, b"")
    _write_new(folder / STATE, _packed(State()))
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write_new(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def read_definition(folder: Path) -> dict[str, Any]:
    """What is to run; raises Damaged, which quotes nothing of it, and FileNotFoundError."""
    with (folder / DEFINITION).open("rb") as file:
        content = file.read(_DEFINITION_BYTES_MAX + 1)
    try:
        found = json.loads(content.decode("utf-8", "surrogateescape"))
    except ValueError:
        raise Damaged(f"'{folder / DEFINITION}' is damaged") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise Damaged(f"'{folder / DEFINITION}' is damaged, or was written by another version")
    return found


def _packed(state: State) -> bytes:
    kept = state._replace(reason=state.reason[:_TEXT_MAX])
    text = json.dumps(kept._asdict(), separators=(",", ":")).encode()
    if len(text) > STATE_BYTES - _HEADER.size:
        text = json.dumps(kept._replace(reason="")._asdict(), separators=(",", ":")).encode()
    return (_HEADER.pack(len(text), zlib.crc32(text)) + text).ljust(STATE_BYTES, b"\0")


def write_state(folder: Path, state: State) -> None:
    """Tell it. The page is there already and is written as a whole, so that no room is asked for."""
    handle = os.open(folder / STATE, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(handle, _packed(state), 0)
    finally:
        os.close(handle)


def read_state(folder: Path) -> State:
    """What was told last; raises Damaged where even looking again finds no whole page."""
    for _ in range(_READS_MAX):
        with (folder / STATE).open("rb", buffering=0) as file:
            page = file.read(STATE_BYTES)
        found = _unpacked(page)
        if found is not None:
            return found
    raise Damaged(f"'{folder / STATE}' is damaged")


def _unpacked(page: bytes) -> State | None:
    if len(page) < _HEADER.size:
        return None
    length, checksum = _HEADER.unpack_from(page)
    text = page[_HEADER.size : _HEADER.size + length]
    # A page of zeros, as a crash of the machine may leave it, has the checksum of nothing.
    if not length or len(text) != length or zlib.crc32(text) != checksum:
        return None
    given = json.loads(text)
    return State(**{name: given[name] for name in State._fields if name in given})


def take_for_life(folder: Path) -> bool:
    """Take the lock until this process ends; False where another has it, or the folder went meanwhile.

    It belongs to the process: no child has it, and no other descriptor of the file may ever be closed here.
    """
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return _is_at_its_place(folder, handle)


def can_lock() -> bool:
    """Whether the system has locks of open files, tried on one that has no place."""
    try:
        handle = os.memfd_create("reconciler")
        try:
            fcntl.fcntl(handle, fcntl.F_OFD_GETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        finally:
            os.close(handle)
    except OSError:
        return False
    return True


def take(folder: Path) -> int | None:
    """Take the lock as one of many of a process, until what is returned is closed; None where it is held."""
    try:
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.fcntl(handle, fcntl.F_OFD_SETLK, struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except (BlockingIOError, PermissionError):
        os.close(handle)
        return None
    except BaseException:
        os.close(handle)
        raise
    if not _is_at_its_place(folder, handle):
        os.close(handle)
        return None
    return handle


def _is_at_its_place(folder: Path, handle: int) -> bool:
    with suppress(OSError):
        return os.path.samestat((folder / LOCK).stat(), os.fstat(handle))
    return False


def holder(folder: Path) -> int | None:
    """The pid of who holds the lock, by the kernel's word; None where nobody does.

    Below 1 where it is held and no more can be said: by one who removes it, or from out of our sight.
    """
    try:
        handle = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(_FLOCK, fcntl.fcntl(handle, fcntl.F_OFD_GETLK, asked))
    finally:
        os.close(handle)
    return None if kind == fcntl.F_UNLCK else int(pid)


def retire(folder: Path) -> None:
    """Let nothing start here any more; an empty file needs no room but its name."""
    os.close(os.open(folder / RETIRED, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def is_retired(folder: Path) -> bool:
    """Whether nothing may start here any more."""
    return (folder / RETIRED).exists()
