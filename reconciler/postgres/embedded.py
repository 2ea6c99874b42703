"""A PostgreSQL server of our own in a state directory: made once, attached to or started by whoever needs it.

It belongs to the state directory, not to a process: it goes on when the process that started it ends. Every
program of this machine finds it by `control/server.json`, under a file lock while it is made or started.
"""

import asyncio
import fcntl
import os
import secrets
import shlex
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import psycopg
from psycopg import conninfo

from reconciler.errors import DatabaseUnavailable, PermanentError
from reconciler.frozen import frozen
from reconciler.postgres import postmaster
from reconciler.postgres.dsn import Dsn
from reconciler.postgres.embedded_record import FOLDER, Record, chosen_home, read_record, write_record
from reconciler.postgres.programs import Account, Outcome, account_for, find_binaries, run, runnable, tail
from reconciler.postgres.queries import Queries

__all__ = ["EmbeddedServer", "EmbeddedStatus", "find_binaries"]

_QUERIES = Queries.load("reconciler.postgres")
_T = TypeVar("_T")
_LOCK_TIMEOUT_S = 180.0
_INITDB_TIMEOUT_S = 120.0
_START_TIMEOUT_S = 60
_STOP_TIMEOUT_S = 60
_LEFTOVERS_TIMEOUT_S = 15.0
_UNSEEN_TIMEOUT_S = 5.0
"""How long a server that was started may have no pid file of its own."""
_POLL_S = 0.05
_PORT_ATTEMPTS = 3
_LOG_BYTES_MAX = 10 * 1024 * 1024
_SOCKET_PATH_MAX = 107
"""What the kernel takes for the name of a Unix socket, less its end."""
_USER = "postgres"
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_permissions": "0700",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "max_wal_size": "256MB",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "jit": "off",
    "cluster_name": "pg-reconciler",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
    # Statements may hold secrets, and the log is a file.
    "log_min_error_statement": "panic",
}
_UNSAFE_SETTINGS = {"fsync": "off", "full_page_writes": "off"}
"""Commits still reach the kernel before they are told: a killed server loses none, a crashed machine may."""


@frozen
class EmbeddedStatus:
    """What is there; `note` says where the data is, and why, when it is not in the state directory."""

    running: bool
    server: str | None = None
    pid: int | None = None
    data_directory: Path | None = None
    log: Path | None = None
    note: str | None = None


class EmbeddedServer:
    """The server of one state directory.

    `fsync=False` is for demonstrations and tests: a crash of the machine may then lose everything. As root,
    data that an unprivileged user cannot reach in the state directory goes to `elsewhere`.
    """

    def __init__(
        self, state_dir: Path, *, bin_dir: Path | None, fsync: bool, elsewhere: Path | None = None
    ) -> None:
        self._state_dir = state_dir
        self._folder = state_dir / FOLDER
        self._bin_dir = bin_dir
        self._fsync = fsync
        self._elsewhere = elsewhere

    @classmethod
    def at(
        cls,
        state_dir: Path,
        *,
        bin_dir: Path | None = None,
        fsync: bool = True,
        elsewhere: Path | None = None,
    ) -> "EmbeddedServer":
        """The server of a state directory; nothing is touched yet."""
        return cls(Path(state_dir).absolute(), bin_dir=bin_dir, fsync=fsync, elsewhere=elsewhere)

    async def ensure_running(self) -> Dsn:
        """Attach to the server, start it where it does not run, make it where there is none."""
        return await self._off_loop(self._ensure_running, "starting the embedded PostgreSQL")

    async def stop(self) -> None:
        """Stop it and end its sessions; nothing to do where it does not run."""
        await self._off_loop(self._stop, "stopping the embedded PostgreSQL")

    async def remove(self) -> None:
        """Stop it and remove it with all its data."""
        await self._off_loop(self._remove, "removing the embedded PostgreSQL")

    async def status(self) -> EmbeddedStatus:
        """Look whether it runs; starts and writes nothing."""
        return await self._off_loop(self._status, "looking at the embedded PostgreSQL")

    async def _off_loop(self, work: Callable[[], _T], doing: str) -> _T:
        try:
            return await asyncio.to_thread(work)
        except OSError as error:
            where = f" ('{error.filename}')" if error.filename else ""
            raise PermanentError(
                f"{doing} in '{self._state_dir}': {(error.strerror or str(error)).lower()}{where}",
                hint="the state directory must be writable, have room, and belong to the user who runs this",
            ) from error

    # ---- below: blocking, in a thread

    def _ensure_running(self) -> Dsn:
        record = read_record(self._folder)
        if record is not None and record.initialised and self._answers(record):
            return self._dsn(record)
        self._state_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        # Others may pass through it to a folder that is theirs; nothing in it is for them to read.
        self._folder.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, exist_ok=True)
        with self._locked():
            record = read_record(self._folder)
            if record is None:
                record = self._new_record()
            if record.initialised and self._answers(record):
                return self._dsn(record)
            return self._dsn(self._bring_up(record))

    def _new_record(self) -> Record:
        account = account_for(self._folder / "server" / "data")
        with chosen_home(self._state_dir, account, self._elsewhere) as (home, note):
            record = Record(home=home, port=_free_port(), password=secrets.token_urlsafe(24), note=note)
            write_record(self._folder, record)
        return record

    def _bring_up(self, record: Record) -> Record:
        """Make the data directory where there is none yet, and start its server."""
        account = account_for(record.data)
        if record.initialised and not (record.data / "PG_VERSION").exists():
            raise PermanentError(
                f"starting the embedded PostgreSQL: its data directory '{record.data}' is gone",
                hint=f"restore it, or remove '{self._folder}' to begin with an empty control database",
            )
        bin_dir, version = runnable(find_binaries(self._bin_dir), account, record.home)
        if not record.initialised:
            self._initialise(record, account, bin_dir, version)
            record = record.but(initialised=True)
            write_record(self._folder, record)
        self._check_version(record, version)
        pid = postmaster.settle(record.data, deadline_s=_LEFTOVERS_TIMEOUT_S)
        if pid is not None:
            return self._attach(record, pid)
        return self._start(record, account, bin_dir)

    def _initialise(self, record: Record, account: Account | None, bin_dir: Path, version: int) -> None:
        """Make the data directory beside its place and move it there: half of one is never taken for one."""
        server = record.server
        server.mkdir(mode=0o700, exist_ok=True)
        if account is not None:
            os.chown(server, account.uid, account.gid)
        fresh = server / "data.new"
        password = server / "password"
        for left in (fresh, record.data):
            if left.exists() and not (left == record.data and (left / "PG_VERSION").exists()):
                shutil.rmtree(left)
        if record.data.exists():
            return
        password.unlink(missing_ok=True)
        _write_for(password, record.password + "\n", account)
        try:
            outcome = run(
                [bin_dir / "initdb", "-D", fresh, "-U", _USER, "--auth=scram-sha-256", f"--pwfile={password}",
                 "--encoding=UTF8", "--no-instructions", "--lc-messages=C", *_locale(version),
                 *([] if self._fsync else ["--no-sync"])],
                account=account, cwd=server, timeout_s=_INITDB_TIMEOUT_S,
            )  # fmt: skip
        finally:
            password.unlink(missing_ok=True)
        if outcome.code != 0:
            shutil.rmtree(fresh, ignore_errors=True)
            raise _program_failed("initdb", outcome, server)
        fresh.rename(record.data)

    def _check_version(self, record: Record, version: int) -> None:
        made_by = (record.data / "PG_VERSION").read_text().strip()
        if made_by != str(version):
            raise PermanentError(
                f"starting the embedded PostgreSQL: '{record.data}' was made by PostgreSQL {made_by}, and the"
                f" programs at hand are of PostgreSQL {version}",
                hint=f"name the programs of PostgreSQL {made_by}, or move the data with pg_upgrade",
            )

    def _attach(self, record: Record, pid: int) -> Record:
        """Wait for a server that is there already, where it says it is."""
        deadline = time.monotonic() + _START_TIMEOUT_S
        while time.monotonic() < deadline:
            found = postmaster.read(record.data)
            if found is None or found.pid != pid:
                break
            if found.port is not None and found.port != record.port:
                record = record.but(port=found.port)
                write_record(self._folder, record)
            if self._answers(record):
                return record
            time.sleep(_POLL_S)
        raise DatabaseUnavailable(
            f"attaching to the embedded PostgreSQL in '{record.data}': its process {pid} is there and gave no"
            f" answer on 127.0.0.1:{record.port} within {_START_TIMEOUT_S} s",
            hint=f"see '{record.log}'",
        )

    def _start(self, record: Record, account: Account | None, bin_dir: Path) -> Record:
        """Start it on the port it had, or on another where somebody else has that one now."""
        if record.log.exists() and record.log.stat().st_size > _LOG_BYTES_MAX:
            record.log.replace(record.log.with_suffix(".log.1"))
        for left in record.server.glob(".s.PGSQL.*"):
            # Of a server that died: its number may belong to somebody else by now, who would be believed.
            left.unlink()
        outcome = Outcome(code=None, output="")
        for attempt in range(1, _PORT_ATTEMPTS + 1):
            if attempt > 1 or not _is_free(record.port):
                record = record.but(port=_free_port())
                write_record(self._folder, record)
            outcome = run(
                [bin_dir / "pg_ctl", "start", "-D", record.data, "-l", record.log, "-w", "-s",
                 "-t", str(_START_TIMEOUT_S), "-o", self._options(record)],
                account=account, cwd=record.server, timeout_s=_START_TIMEOUT_S + 15,
            )  # fmt: skip
            if outcome.code == 0 and self._comes_up(record):
                return record
            if postmaster.settle(record.data, deadline_s=_LEFTOVERS_TIMEOUT_S) is not None:
                raise DatabaseUnavailable(
                    f"starting the embedded PostgreSQL: it is up and gave no answer on"
                    f" 127.0.0.1:{record.port} within {_START_TIMEOUT_S} s",
                    hint=f"it may be recovering after a crash: see '{record.log}'",
                )
            if _is_free(record.port):
                break
        raise _program_failed("pg_ctl start", outcome, record.log)

    def _comes_up(self, record: Record) -> bool:
        """Wait for the server that `pg_ctl` says is there.

        It says so too early where a server that died less than two seconds ago had the pid of the new one, as
        in a container that is killed and started again: it takes the dead one's pid file for the new one's.
        """
        deadline = time.monotonic() + _START_TIMEOUT_S
        seen = time.monotonic()
        while (now := time.monotonic()) < deadline and now < seen + _UNSEEN_TIMEOUT_S:
            if self._answers(record):
                return True
            if postmaster.alive(record.data) is not None:
                seen = now
            time.sleep(_POLL_S)
        return False

    def _options(self, record: Record) -> str:
        """Command-line settings, so that nothing is written as root where another user can write."""
        name = f"{record.server}/.s.PGSQL.65535.lock"
        plain = not set(str(record.server)) & set(",\"'\\\n")
        has_socket = plain and len(os.fsencode(name)) <= _SOCKET_PATH_MAX
        settings = {
            **_SETTINGS,
            **({} if self._fsync else _UNSAFE_SETTINGS),
            "port": str(record.port),
            "unix_socket_directories": str(record.server) if has_socket else "",
        }
        return shlex.join(part for name, value in settings.items() for part in ("-c", f"{name}={value}"))

    def _answers(self, record: Record) -> bool:
        """Whether the server of our data directory answers, and not a copy of it or a stranger.

        SCRAM proves to both sides that the other knows the password.
        """
        try:
            with psycopg.connect(
                self._dsn(record).reveal(), connect_timeout=5, autocommit=True
            ) as connection:
                row = connection.execute(_QUERIES["data_directory"]).fetchone()
        except psycopg.Error:
            return False
        return row is not None and os.path.realpath(row[0]) == os.path.realpath(record.data)

    def _dsn(self, record: Record) -> Dsn:
        # A stranger on the port that asks for the password in the clear does not get it.
        proof = {"require_auth": "scram-sha-256"} if psycopg.pq.version() >= 160000 else {}
        return Dsn(
            conninfo.make_conninfo(
                "",
                host="127.0.0.1",
                port=str(record.port),
                user=_USER,
                password=record.password,
                dbname="postgres",
                sslmode="disable",
                gssencmode="disable",
                **proof,
            )
        )

    def _stop(self) -> None:
        if read_record(self._folder) is None:
            return
        with self._locked():
            record = read_record(self._folder)
            pid = postmaster.alive(record.data) if record is not None else None
            if record is None or pid is None:
                return
            # What `pg_ctl stop -m fast` does; so the programs need not be there any more.
            os.kill(pid, signal.SIGINT)
            deadline = time.monotonic() + _STOP_TIMEOUT_S
            while postmaster.alive(record.data) == pid:
                if time.monotonic() > deadline:
                    raise DatabaseUnavailable(
                        f"stopping the embedded PostgreSQL in '{record.data}': its process {pid} is still"
                        f" there after {_STOP_TIMEOUT_S} s",
                        hint=f"see '{record.log}'",
                    )
                time.sleep(_POLL_S)

    def _remove(self) -> None:
        self._stop()
        record = read_record(self._folder)
        if record is not None and record.home != self._folder:
            shutil.rmtree(record.home, ignore_errors=True)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _status(self) -> EmbeddedStatus:
        record = read_record(self._folder)
        if record is None:
            return EmbeddedStatus(running=False)
        running = record.initialised and self._answers(record)
        found = postmaster.read(record.data) if running else None
        return EmbeddedStatus(
            running=running,
            server=f"127.0.0.1:{record.port}",
            pid=found.pid if found else None,
            data_directory=record.data,
            log=record.log,
            note=record.note,
        )

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time makes, starts or stops the server; the lock of a dead one is freed."""
        with (self._folder / "lock").open("a") as file:
            deadline = time.monotonic() + _LOCK_TIMEOUT_S
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise DatabaseUnavailable(
                            f"waiting for the embedded PostgreSQL in '{self._folder}': another process"
                            f" has been starting or stopping it for {_LOCK_TIMEOUT_S:g} s"
                        ) from None
                time.sleep(_POLL_S)
            yield


def _write_for(path: Path, text: str, account: Account | None) -> None:
    """Write a file that only its reader can read; never through a link somebody left there."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
        if account is not None:
            os.fchown(file.fileno(), account.uid, account.gid)
        file.write(text)


def _locale(version: int) -> list[str]:
    """UTF-8 by code point: sorts the same on every system."""
    if version >= 17:
        return ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    return ["--locale=C.UTF-8"]


def _program_failed(program: str, outcome: Outcome, place: Path) -> PermanentError:
    said = outcome.output
    if place.is_file():
        with place.open("rb") as log:
            log.seek(max(0, place.stat().st_size - 4096))
            said = f"{said}\n{tail(log.read())}".strip()
    why = "it did not end in time" if outcome.code is None else f"it ended with {outcome.code}"
    if "No space left on device" in said:
        why = "the disk is full"
    return PermanentError(
        f"starting the embedded PostgreSQL: {program} failed: {why}\n{said}".rstrip(), hint=f"see '{place}'"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
