"""Processes of this machine, read from /proc: whose they are, and how they are ended without hitting another.

A pid is given out again, so none is ever believed alone: it counts with the time its process started, or
with the mark of an instance in its environment, and is signalled through a descriptor that was opened before
that was looked at. The supervisor imports this: the standard library only, and little of it.
"""

import os
import select
import signal
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

MARK = "RECONCILER_INSTANCE"
"""The variable by which a service's processes are known; its value is the token of their instance."""

_PROC = Path("/proc")
_STAT_BYTES_MAX = 4096
_ENVIRON_BYTES_MAX = 2 * 1024 * 1024  # more than execve takes
_AGAIN_S = 0.05


class Process(NamedTuple):
    """What the kernel says of one process; `started` is in clock ticks since the machine was."""

    pid: int
    parent: int
    session: int
    started: int
    zombie: bool


def look(pid: int) -> Process | None:
    """One process; None where there is none, or none that we may see."""
    try:
        with (_PROC / str(pid) / "stat").open("rb") as file:
            text = file.read(_STAT_BYTES_MAX)
    except OSError:
        return None
    # The name in parentheses may hold anything, parentheses and spaces too.
    fields = text[text.rfind(b")") + 2 :].split()
    if len(fields) < 20:
        return None
    return Process(
        pid=pid,
        parent=int(fields[1]),
        session=int(fields[3]),
        started=int(fields[19]),
        zombie=fields[0] in (b"Z", b"X"),
    )


def is_running(pid: int, started: int) -> bool:
    """Whether the process of this pid that started then still runs; a later one does not count."""
    found = look(pid)
    return found is not None and found.started == started and not found.zombie


def everybody() -> list[Process]:
    """All that run now and that we may see."""
    found = (look(int(name)) for name in os.listdir(_PROC) if name.isdigit())  # noqa: PTH208
    return [each for each in found if each is not None and not each.zombie]


def below(root: int) -> list[Process]:
    """All that descend from a process; a subreaper has every one that its service ever made."""
    children: dict[int, list[Process]] = {}
    for each in everybody():
        children.setdefault(each.parent, []).append(each)
    found: list[Process] = []
    parents = [root]
    while parents:
        fresh = children.pop(parents.pop(), [])
        found += fresh
        parents += [each.pid for each in fresh]
    return found


def belonging(token: str, leader: tuple[int, int] | None = None) -> list[Process]:
    """All that carry an instance's mark, and the session of its leader (pid and start) while that runs."""
    session = leader[0] if leader is not None and is_running(*leader) else None
    return [
        each
        for each in everybody()
        if each.pid != os.getpid() and (each.session == session or _carries(each.pid, token))
    ]


def _carries(pid: int, token: str) -> bool:
    try:
        with (_PROC / str(pid) / "environ").open("rb") as file:
            environment = file.read(_ENVIRON_BYTES_MAX)
    except OSError:
        return False
    return f"{MARK}={token}".encode() in environment.split(b"\0")


def boot() -> str:
    """Which start of the machine this is; empty where that is hidden."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return ""


@contextmanager
def held(pid: int) -> Iterator[int | None]:
    """A descriptor of the process that has a pid now, never of a later one; None where none has."""
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def send(process: Process, number: int) -> None:
    """Signal exactly this process, or nobody."""
    with held(process.pid) as descriptor:
        if descriptor is not None and is_running(process.pid, process.started):
            with suppress(OSError):
                signal.pidfd_send_signal(descriptor, number)


def end_all(find: Callable[[], Collection[Process]], grace_s: float, kill_s: float) -> int:
    """Ask all that are found to end, kill after `grace_s` what has not; returns how many run even then.

    It looks again each time: what is killed may have made others meanwhile.
    """
    begun = time.monotonic()
    asked: set[tuple[int, int]] = set()
    while left := find():
        waited = time.monotonic() - begun
        if waited > grace_s + kill_s:
            return len(left)
        for each in left:
            if waited >= grace_s:
                send(each, signal.SIGKILL)
            elif (each.pid, each.started) not in asked:
                asked.add((each.pid, each.started))
                send(each, signal.SIGTERM)
        _wait_for(next(iter(left)))
    return 0


def _wait_for(process: Process) -> None:
    with held(process.pid) as descriptor:
        if descriptor is None:
            return
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(_AGAIN_S * 1000)
