"""The program above one service: it starts it, keeps its log, starts it again, and ends all that it made.

`python -m reconciler.runtimes.supervisor FOLDER`: it outlives whoever called it and is spoken to by files and
signals. SIGTERM stops the service in its time and then the supervisor. It imports the standard library and
little of it: there is one of it for each service.
"""

import os
import selectors
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from reconciler.runtimes import instance, launch, processes
from reconciler.runtimes.instance import State
from reconciler.runtimes.log_files import LogFile

READY = "ready"
BUSY = "busy"
GONE = "gone"

_CHUNK_BYTES = 65536
_CHUNKS_MAX = 16
_ENDING_TICK_S = 0.05
_LEFT_GRACE_S = 2.0
_KILL_S = 10.0
_PLACE_EVERY_S = 10.0
_TELL_AGAIN_S = 1.0
_LAST_WORD_TRIES = 30


def main(arguments: Sequence[str]) -> int:
    """Supervise the instance whose folder is named; `--foreground` stays a child of the caller."""
    if not arguments:
        sys.stderr.write("supervisor: which instance? give its folder\n")
        return 2
    folder = Path(arguments[-1])
    if "--foreground" not in arguments:
        if os.fork() != 0:
            # A child of nobody in particular: the caller may end, and need not bury it.
            os._exit(0)
        os.setsid()
    return supervise(folder)


def supervise(folder: Path) -> int:
    """Be the supervisor of an instance until its service has ended for good, if nobody else is."""
    if not instance.take_for_life(folder):
        _answer(BUSY if folder.exists() else GONE)
        return 0
    os.chdir("/")
    os.umask(0o077)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    launch.inherit_orphans()
    Supervisor(folder).run()
    return 0


def _answer(word: str) -> None:
    """Tell who waits for it, the caller at our standard output or systemd, and let go of them."""
    with suppress(OSError):
        os.write(1, word.encode())
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 1)
    os.close(nothing)
    name = os.environ.get("NOTIFY_SOCKET")
    if name and word == READY:
        import socket  # only under systemd

        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
            systemd.sendto(b"READY=1", "\0" + name[1:] if name.startswith("@") else name)


class Supervisor:
    """One service from its first start to its last word.

    One thread; everything happens in turns of `run`, between which it sleeps until something is to be done.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._definition: dict[str, Any] = instance.read_definition(folder)
        self._state = State(supervisor=os.getpid(), boot=processes.boot())
        self._untold = False
        self._service: int | None = None
        self._is_stopping = False
        self._left = 0
        self._began = 0.0
        self._kill_at: float | None = None
        self._start_at: float | None = None
        self._logs = {
            name: LogFile(
                folder / name,
                bytes_max=self._definition["log_bytes"],
                files=self._definition["log_files"],
            )
            for name in (instance.STDOUT, instance.STDERR)
        }
        self._selector = selectors.DefaultSelector()
        woken, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(woken, selectors.EVENT_READ, None)

    def run(self) -> None:
        """Until the service has ended for good."""
        signal.set_wakeup_fd(self._wake, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, self._on_signal)
        signal.signal(signal.SIGTERM, self._on_signal)
        signal.signal(signal.SIGINT, self._on_signal)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self._end_what_a_predecessor_left()
        if self._state.phase != instance.ENDED:
            self._start()
        _answer(READY)
        while self._state.phase != instance.ENDED:
            self._turn()
        self._say_the_last_word()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._is_stopping = True

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._sleep_s()):
            if key.data is None:
                with suppress(BlockingIOError):
                    os.read(key.fd, _CHUNK_BYTES)
            else:
                self._hear(key.fd, key.data)
        if not self._is_stopping and not self._has_its_place():
            self._is_stopping = True
        has_children = self._bury()
        now = time.monotonic()
        if self._service is not None:
            self._mind_the_running(now)
        elif self._kill_at is not None:
            self._mind_the_left(now, has_children=has_children)
        elif self._is_stopping:
            self._end("stopped")
        elif self._start_at is not None and now >= self._start_at:
            self._start()
        if self._untold:
            self._tell()

    def _sleep_s(self) -> float:
        if self._kill_at is not None:
            # What cannot be killed, as it waits for a disk, is not worth a busy loop.
            late_s = time.monotonic() - self._kill_at
            return _ENDING_TICK_S if late_s < _KILL_S else _TELL_AGAIN_S
        due = _TELL_AGAIN_S if self._untold else _PLACE_EVERY_S
        if self._start_at is not None:
            due = min(due, max(0.0, self._start_at - time.monotonic()))
        return due

    def _has_its_place(self) -> bool:
        """Whether our folder still is where it was: a service that nobody can find any more must not run."""
        return (self._folder / instance.DEFINITION).exists()

    # ---- starting

    def _end_what_a_predecessor_left(self) -> None:
        """A supervisor that was killed leaves processes behind; never do two of a service run."""
        try:
            before = instance.read_state(self._folder)
            is_first = before.phase == instance.PREPARED and not before.run
        except (OSError, instance.Damaged):
            before, is_first = State(), False
        # What was given up and is applied again begins anew; the death of a supervisor is no such occasion.
        quick_ends = 0 if before.phase == instance.ENDED else before.quick_ends
        self._state = self._state._replace(
            run=before.run, quick_ends=quick_ends, exit_status=before.exit_status, reason=before.reason
        )
        if instance.is_retired(self._folder):
            self._end("stopped")
            return
        if is_first:
            return  # a start is noted before it is made, and to look for one is to look at all processes
        grace_s = self._definition["grace_s"]
        left = end_left(self._definition["token"], before, grace_s=grace_s)
        if left:
            self._end(f"{left} processes of an earlier run do not end")

    def _start(self) -> None:
        self._start_at = None
        if self._is_stopping or instance.is_retired(self._folder):
            self._end("stopped")
            return
        self._state = self._state._replace(run=self._state.run + 1)
        self._began = time.monotonic()
        self._left = 0
        self._say(instance.STARTING)
        if self._untold and self._state.run == 1:
            # Whoever comes after us would not look for it.
            self._state = self._state._replace(run=0)
            self._start_at = time.monotonic() + _TELL_AGAIN_S
            return
        try:
            started = launch.start(self._definition)
        except launch.NotStarted as error:
            self._state = self._state._replace(pid=0, started=0, up_since=0.0)
            self._decide(None, str(error))
            return
        self._service = started.pid
        found = processes.look(started.pid)
        for handle, name in ((started.stdout, instance.STDOUT), (started.stderr, instance.STDERR)):
            os.set_blocking(handle, False)
            self._selector.register(handle, selectors.EVENT_READ, self._logs[name])
        self._state = self._state._replace(
            pid=started.pid, started=found.started if found else 0, up_since=time.time()
        )
        self._say(instance.RUNNING)

    # ---- hearing

    def _hear(self, handle: int, log: LogFile) -> None:
        for _ in range(_CHUNKS_MAX):
            try:
                said = os.read(handle, _CHUNK_BYTES)
            except BlockingIOError:
                return
            if not said:
                self._selector.unregister(handle)
                os.close(handle)
                return
            lost = log.write(said)
            if lost:
                self._state = self._state._replace(lost=self._state.lost + lost)
                self._untold = True

    def _hear_the_rest(self) -> None:
        for key in list(self._selector.get_map().values()):
            if key.data is not None:
                self._hear(key.fd, key.data)
                if key.fd in self._selector.get_map():
                    self._selector.unregister(key.fd)
                    os.close(key.fd)

    # ---- ending

    def _bury(self) -> bool:
        """Take in whoever has died; returns whether anybody is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._service:
                self._service = None
                self._state = self._state._replace(exit_status=os.waitstatus_to_exitcode(status))
                # Looked for even where nobody is left: it is what carries on from here.
                self._kill_at = time.monotonic() + min(_LEFT_GRACE_S, self._definition["grace_s"])
                self._ask_the_left()

    def _ask_the_left(self) -> None:
        left = processes.below(os.getpid())
        self._left = len(left)
        for each in left:
            processes.send(each, signal.SIGTERM)

    def _mind_the_running(self, now: float) -> None:
        if not self._is_stopping or self._service is None:
            return
        if self._kill_at is None:
            self._kill_at = now + self._definition["grace_s"]
            self._say(instance.STOPPING)
            with suppress(ProcessLookupError):
                os.kill(self._service, signal.SIGTERM)  # not buried yet, so the pid is its own
        elif now >= self._kill_at:
            for each in processes.below(os.getpid()):
                processes.send(each, signal.SIGKILL)

    def _mind_the_left(self, now: float, *, has_children: bool) -> None:
        assert self._kill_at is not None
        if not has_children:
            self._kill_at = None
            self._hear_the_rest()
            left = f"; it left {self._left} processes behind, which were ended" if self._left else ""
            status = self._state.exit_status
            self._decide(status, (_in_words(status) if status is not None else "it ended") + left)
        elif now >= self._kill_at:
            for each in processes.below(os.getpid()):
                processes.send(each, signal.SIGKILL)

    def _decide(self, status: int | None, reason: str) -> None:
        """What follows a run that is over."""
        policy = self._definition["restart"]
        if self._is_stopping:
            self._end(f"stopped: {reason}")
            return
        if policy["when"] == "never" or (policy["when"] == "on-failure" and status == 0):
            self._end(reason)
            return
        is_quick = time.monotonic() - self._began < policy["steady_s"]
        quick_ends = self._state.quick_ends + 1 if is_quick else 0
        self._state = self._state._replace(quick_ends=quick_ends)
        if policy["limit"] is not None and quick_ends >= policy["limit"]:
            self._end(f"{reason}; given up after {quick_ends} starts in a row")
            return
        delay_s = min(policy["delay_s"] * 2 ** min(max(0, quick_ends - 1), 30), policy["delay_max_s"])
        self._start_at = time.monotonic() + delay_s
        self._state = self._state._replace(reason=reason)
        self._say(instance.WAITING)

    def _end(self, reason: str) -> None:
        self._state = self._state._replace(reason=reason)
        self._say(instance.ENDED)

    # ---- telling

    def _say(self, phase: str) -> None:
        self._state = self._state._replace(phase=phase, since=time.time())
        self._tell()

    def _tell(self) -> None:
        """Write what is known; where the disk does not take it now, it is tried again."""
        try:
            instance.write_state(self._folder, self._state)
        except OSError:
            self._untold = True
        else:
            self._untold = False

    def _say_the_last_word(self) -> None:
        for _ in range(_LAST_WORD_TRIES):
            if not self._untold or not self._has_its_place():
                return
            time.sleep(_TELL_AGAIN_S)
            self._tell()


def end_left(token: str, before: State, *, grace_s: float) -> int:
    """End what is left of an instance without a supervisor; returns how much of it does not end."""
    here = processes.boot()
    is_same_boot = not before.boot or not here or before.boot == here
    leader = (before.pid, before.started) if before.pid and is_same_boot else None
    return processes.end_all(lambda: processes.belonging(token, leader), grace_s, _KILL_S)


def _in_words(status: int) -> str:
    if status >= 0:
        return f"it exited with {status}"
    try:
        return f"it was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"it was ended by signal {-status}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
