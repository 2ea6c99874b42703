"""Start daemons from a process that has their modules loaded already: a fork in place of an import.

Importing the daemon takes a second or two of processor time, and a run of the tests starts some hundreds.
What runs is the same `main`, with arguments, environment, folder and log of its own, in a process of its own.
`tests/acceptance/test_wheel.py` and `tests/system` start it as users do.
"""

import atexit
import gc
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0


class Started:
    """One daemon: what `subprocess.Popen` has, as far as it is asked for."""

    def __init__(self, starter: "Starter", pid: int) -> None:
        self._starter = starter
        self.pid = pid

    @property
    def returncode(self) -> int | None:
        """The exit code, or the signal as a negative number; None while it runs, as far as was heard."""
        return self._starter.codes.get(self.pid)

    def poll(self) -> int | None:
        """Look whether it ended."""
        if self.returncode is None:
            self._starter.hear(0)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Wait until it ended; raises `subprocess.TimeoutExpired`."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise subprocess.TimeoutExpired(f"daemon {self.pid}", timeout)
            self._starter.hear(min(left, 0.2))
        return code

    def send_signal(self, number: signal.Signals | int) -> None:
        """Send a signal, unless it ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


class Starter:
    """The process that forks, seen from the tests."""

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self._began: list[int] = []
        self._heard = b""
        self._lock = threading.RLock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.plugins.starter"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )
        atexit.register(self.close)

    def start(self, arguments: Sequence[str], environ: Mapping[str, str], folder: Path, log: Path) -> Started:
        """Start the program; what it writes is added to a file."""
        order = {"argv": list(arguments), "environ": dict(environ), "cwd": str(folder), "log": str(log)}
        deadline = time.monotonic() + START_TIMEOUT_S
        with self._lock:
            self._stdin.write(json.dumps(order).encode() + b"\n")
            self._stdin.flush()
            while not self._began:
                assert time.monotonic() < deadline, "nothing was started"
                self.hear(0.2)
            return Started(self, self._began.pop())

    def hear(self, timeout_s: float) -> None:
        """Take in what is told, waiting for it for a while."""
        with self._lock:
            readable, _, _ = select.select([self._process.stdout], [], [], timeout_s)
            if not readable:
                return
            assert self._process.stdout is not None
            news = os.read(self._process.stdout.fileno(), 65536)
            assert news, "what starts daemons has ended"
            *lines, self._heard = (self._heard + news).split(b"\n")
            for line in lines:
                told = json.loads(line)
                if "began" in told:
                    self._began.append(told["began"])
                    # The number may have been another's before.
                    self.codes.pop(told["began"], None)
                else:
                    self.codes[told["ended"]] = told["code"]

    def close(self) -> None:
        """End it, and whatever it started."""
        self._stdin.close()
        self._process.wait(timeout=START_TIMEOUT_S)

    @property
    def _stdin(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin


@cache
def starter() -> Starter:
    """The one of this process."""
    return Starter()


def serve(orders: int, news: int) -> dict[str, Any] | None:
    """Fork for each order; returns the order in the child, and None once nobody gives any more."""
    reads, writes = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writes)
    running: set[int] = set()
    given = b""
    while True:
        ready, _, _ = select.select([orders, reads], [], [])
        if reads in ready:
            os.read(reads, 4096)
            for pid, code in _ended():
                running.discard(pid)
                _tell(news, ended=pid, code=code)
        if orders not in ready:
            continue
        got = os.read(orders, 65536)
        if not got:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
            return None
        *lines, given = (given + got).split(b"\n")
        for line in lines:
            pid = os.fork()
            if pid == 0:
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for descriptor in (reads, writes, orders, news):
                    os.close(descriptor)
                order: dict[str, Any] = json.loads(line)
                return order
            running.add(pid)
            _tell(news, began=pid)


def _ended() -> list[tuple[int, int]]:
    found = []
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        found.append((pid, os.waitstatus_to_exitcode(status)))


def _tell(news: int, **what: int) -> None:
    os.write(news, json.dumps(what).encode() + b"\n")


def become(order: Mapping[str, Any]) -> None:
    """Be in a folder, with an environment, arguments and a log, as if started so."""
    os.chdir(order["cwd"])
    os.environ.clear()
    os.environ.update(order["environ"])
    time.tzset()
    silence = os.open(os.devnull, os.O_RDONLY)
    log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    for source, target in ((silence, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    os.close(silence)
    os.close(log)
    sys.argv = ["reconciler", *order["argv"]]


def load() -> None:
    """Import all that a daemon imports until it serves."""
    os.environ["PYDANTIC_DISABLE_PLUGINS"] = "__all__"  # as `main` has it
    logs = import_module("reconciler.logs")
    logs._structlog()
    for name in ("reconciler.daemon.app", "reconciler.cli.run", "reconciler.cli.settings_file"):
        import_module(name)
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    # What is printed goes to no one who would take it for news.
    orders_, news_ = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    load()
    ordered = serve(orders_, news_)
    if ordered is not None:
        become(ordered)
        from reconciler.cli.main import main

        main()
