"""A server, a control database, a config repository and any number of daemons as a user runs them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg import conninfo

from benchmarks.content import DSN_VARIABLE
from benchmarks.janitor import Janitor, janitor
from benchmarks.meters import alone
from reconciler.postgres.embedded import EmbeddedServer

CONTROL = "bench_control"
_T = TypeVar("_T")
_IDENTITY = ("-c", "user.name=Bench", "-c", "user.email=bench@example.org", "-c", "commit.gpgsign=false")


class Log:
    """The lines that a daemon has written since the last look."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = 0

    def skip(self) -> None:
        """Forget what is there already."""
        self._at = self.path.stat().st_size if self.path.exists() else 0

    def lines(self) -> list[dict[str, Any]]:
        """Whole lines that came since the last look."""
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._at)
            text = file.read()
        end = text.rfind(b"\n") + 1
        self._at += end
        found = []
        for line in text[:end].splitlines():
            with suppress(ValueError):
                found.append(json.loads(line))
        return found


@dataclass(slots=True, kw_only=True)
class Daemon:
    """One `reconciler run`."""

    folder: Path
    url: str
    environ: Mapping[str, str]
    janitor: Janitor
    process: "subprocess.Popen[bytes] | None" = None
    log: Log = field(init=False)

    def __post_init__(self) -> None:
        self.log = Log(self.folder / "daemon.log")

    @property
    def pid(self) -> int:
        """Its process."""
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start it and wait until it answers that it is ready."""
        with self.log.path.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "reconciler", "run", "--log-level", "debug",
                 "--config", str(self.folder / "reconciler.yaml")],
                env=dict(self.environ), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.janitor.process(self.pid)
        until(self._is_ready, f"the daemon to be ready, see {self.log.path}", deadline_s=120)

    def _is_ready(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            tail = self.log.path.read_text()[-3000:]
            raise RuntimeError(f"the daemon ended with {self.process.returncode}:\n{tail}")
        return self.get("/readyz") is not None

    def get(self, path: str, timeout_s: float = 30.0) -> bytes | None:
        """What the API answers, where it answers well."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=timeout_s) as response:
                body: bytes = response.read()
                return body
        except (OSError, urllib.error.URLError):
            return None

    def stop(self, with_signal: int = signal.SIGTERM) -> None:
        """End it, and wait for its end."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.send_signal(with_signal)
        try:
            self.process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(timeout=20)


@dataclass(slots=True, kw_only=True)
class Fleet:
    """What a benchmark runs on."""

    folder: Path
    dsn: str
    server_pid: int
    server_data: Path
    environ: Mapping[str, str]
    repository: Path
    janitor: Janitor
    control: psycopg.Connection[Any]
    daemons: list[Daemon] = field(default_factory=list)

    def git(self, *arguments: str) -> str:
        """Run Git in the config repository."""
        done = subprocess.run(
            ["git", "-C", str(self.repository), *_IDENTITY, *arguments],
            env=dict(self.environ), capture_output=True, text=True, check=True, timeout=300,
        )  # fmt: skip
        return done.stdout.strip()

    def write(self, files: Mapping[str, str]) -> None:
        """Write files and stage them."""
        for name, text in files.items():
            path = self.repository / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        listed = "\0".join(files)
        subprocess.run(
            ["git", "-C", str(self.repository), "add", "--pathspec-from-file=-", "--pathspec-file-nul"],
            input=listed.encode(), env=dict(self.environ), capture_output=True, check=True, timeout=300,
        )  # fmt: skip

    def commit(self) -> str:
        """Commit what is staged; gives the id."""
        self.git("commit", "--quiet", "--message", "change")
        return self.git("rev-parse", "HEAD")

    def add_daemon(
        self, *, interval: str = "1h", drift_interval: str = "1h", workers: int | None = None
    ) -> Daemon:
        """One more daemon with the repository as its source; it is not started."""
        folder = self.folder / f"daemon{sum(1 for _ in self.folder.glob('daemon*'))}"
        folder.mkdir()
        listen = f"127.0.0.1:{_free_port()}"
        settings = {
            "state_dir": str(folder / "state"),
            "listen": listen,
            "control": {"dsn": {"env": "RECONCILER_CONTROL_DSN"}},
            **({"workers": workers} if workers else {}),
            "sources": [
                {
                    "name": "bench",
                    "url": str(self.repository),
                    "branch": "main",
                    "interval": interval,
                    "drift_interval": drift_interval,
                }
            ],
        }
        # JSON is YAML.
        (folder / "reconciler.yaml").write_text(json.dumps(settings))
        daemon = Daemon(folder=folder, url=f"http://{listen}", environ=self.environ, janitor=self.janitor)
        self.daemons.append(daemon)
        return daemon

    def stop_daemons(self) -> None:
        """End all daemons and forget them."""
        while self.daemons:
            with suppress(Exception):
                self.daemons.pop().stop()

    def ask(self, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """Ask the control database."""
        return self.control.execute(query.encode(), parameters or None).fetchall()

    def value(self, query: str, *parameters: object) -> Any:
        """Ask the control database for one value."""
        return self.ask(query, *parameters)[0][0]

    def database(self, name: str) -> str:
        """Connection string of a database of the server."""
        return conninfo.make_conninfo(self.dsn, dbname=name)

    def applied(self, commit: str, names: Iterable[str] | None = None) -> int:
        """How many environments, of these or of all, carry a commit."""
        query = "SELECT count(*) FROM reconciler_control.environments WHERE applied_commit = %s"
        if names is None:
            return int(self.value(query, commit))
        return int(self.value(query + " AND name = ANY (%s)", commit, list(names)))

    def until_quiet(self, *, quiet_s: float = 2.0, deadline_s: float = 600.0) -> None:
        """Wait until nothing is under way and no daemon has finished a pass for a while."""
        for daemon in self.daemons:
            daemon.log.skip()
        quiet_since, deadline = time.monotonic(), time.monotonic() + deadline_s
        while time.monotonic() - quiet_since < quiet_s:
            if time.monotonic() > deadline:
                raise RuntimeError("the daemons did not come to rest")
            time.sleep(0.1)
            passed = any(
                line.get("event") == "pass.finished" for daemon in self.daemons for line in daemon.log.lines()
            )
            busy = self.value("SELECT count(*) FROM reconciler_control.operations WHERE finished_at IS NULL")
            if passed or busy:
                quiet_since = time.monotonic()


def until(condition: Callable[[], _T], what: str, *, deadline_s: float = 60.0, pause_s: float = 0.02) -> _T:
    """Wait for a condition, and give what it gave."""
    deadline = time.monotonic() + deadline_s
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise RuntimeError(f"waited {deadline_s:g} s for {what}")
        time.sleep(pause_s)


@asynccontextmanager
async def fleet(folder: Path, *, durable: bool = True) -> AsyncIterator[Fleet]:
    """A server and an empty repository; daemons that are started are stopped at the end.

    The server's log holds JSON, so that statements can be counted; `durable=False` spares the waits for the
    disk, where a thousand databases are made.
    """
    signal.signal(signal.SIGTERM, _on_term)
    with janitor() as ends:
        ends.folder(folder)
        server = EmbeddedServer.at(folder / "server", fsync=durable)
        await server.ensure_running()
        try:
            await _log_as_json(server)
            made = await _make(folder, server, ends)
            try:
                with alone(made.server_pid):
                    yield made
            finally:
                made.stop_daemons()
                made.control.close()
        finally:
            await server.remove()


async def _log_as_json(server: EmbeddedServer) -> None:
    dsn = (await server.ensure_running()).reveal()
    with psycopg.connect(dsn, autocommit=True) as connection:
        for name, value in (
            ("logging_collector", "on"),
            ("log_destination", "jsonlog"),
            ("log_directory", "statements"),
            ("log_rotation_size", "0"),
        ):
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'".encode())
    await server.stop()


async def _make(folder: Path, server: EmbeddedServer, ends: Janitor) -> Fleet:
    dsn = (await server.ensure_running()).reveal()
    status = await server.status()
    assert status.pid is not None
    assert status.data_directory is not None
    ends.process(status.pid)
    ends.folder(status.data_directory.parent)
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {CONTROL}".encode())
    control = conninfo.make_conninfo(dsn, dbname=CONTROL)
    # Compiled modules are kept, as they are wherever nobody forbids it.
    left_out = ("GIT_", "RECONCILER_", "PYTHONDONTWRITEBYTECODE")
    environ = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
    environ |= {DSN_VARIABLE: dsn, "RECONCILER_CONTROL_DSN": control}
    made = Fleet(
        folder=folder,
        dsn=dsn,
        server_pid=status.pid,
        server_data=status.data_directory,
        environ=environ,
        repository=folder / "repository",
        janitor=ends,
        control=psycopg.connect(control, autocommit=True),
    )
    made.repository.mkdir()
    made.git("init", "--quiet", "--initial-branch=main")
    made.git("config", "gc.auto", "0")
    return made


def _on_term(_number: int, _frame: object) -> None:
    """End in order within a minute; what then is left is the janitor's."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.alarm(60)
    raise SystemExit("terminated")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
