"""The embedded server: made once, found by everybody, and there again after whatever happened to it."""

import asyncio
import json
import os
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from reconciler.errors import PermanentError
from reconciler.postgres import embedded, postmaster, programs
from reconciler.postgres.connection import Dsn, connect
from reconciler.postgres.embedded import EmbeddedServer
from reconciler.postgres.embedded_record import read_record
from tests.plugins.postgres import bin_dir

MakeServer = Callable[..., EmbeddedServer]


@pytest.fixture
async def make_server(tmp_path: Path) -> AsyncIterator[MakeServer]:
    """Make embedded servers; each is gone with the test, whatever the test did to it."""
    made: list[EmbeddedServer] = []

    def make(state_dir: Path | None = None, **options: object) -> EmbeddedServer:
        options = {"bin_dir": bin_dir(), "fsync": False, **options}
        made.append(EmbeddedServer.at(state_dir or tmp_path / "state", **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for server in made:
        await server.remove()


@pytest.fixture
def sleeper() -> Iterator[int]:
    """The pid of a process that is there and is no PostgreSQL."""
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


def open_folder(prefix: str) -> Path:
    """A folder that everybody may pass through: pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o755)
    return folder


async def value_of(dsn: Dsn, statement: str) -> object:
    async with await connect(dsn, role="test") as connection:
        cursor = await connection.execute(psycopg.sql.SQL(statement))
        row = await cursor.fetchone()
        return row[0] if row else None


async def write(dsn: Dsn) -> None:
    async with await connect(dsn, role="test") as connection:
        await connection.execute("CREATE TABLE public.kept AS SELECT 1 AS n")


async def pid_of(server: EmbeddedServer) -> int:
    pid = (await server.status()).pid
    assert pid is not None
    return pid


async def gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}/cwd").exists():  # noqa: ASYNC240
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


async def test_made_attached_stopped_and_started_again(make_server: MakeServer) -> None:
    """Data outlives stop and start; attaching starts nothing; stopping what is stopped is nothing."""
    server = make_server()
    assert not (await server.status()).running
    await server.stop()
    dsn = await server.ensure_running()
    await write(dsn)
    pid = await pid_of(server)
    assert await make_server().ensure_running() == dsn
    assert await pid_of(server) == pid
    await server.stop()
    await server.stop()
    status = await server.status()
    assert not status.running
    assert status.data_directory is not None
    dsn = await server.ensure_running()
    assert await value_of(dsn, "SELECT n FROM public.kept") == 1


async def test_settings_of_the_server(make_server: MakeServer) -> None:
    """It is UTF-8, durable unless asked otherwise, on loopback only, and writes no statement to its log."""
    dsn = await make_server(fsync=True).ensure_running()
    for name, value in {
        "server_encoding": "UTF8",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "127.0.0.1",
        "log_min_error_statement": "panic",
        "password_encryption": "scram-sha-256",
    }.items():
        assert await value_of(dsn, f"SHOW {name}") == value
    rules = await value_of(dsn, "SELECT string_agg(DISTINCT auth_method, ',') FROM pg_hba_file_rules")
    assert rules == "scram-sha-256"


async def test_password_is_for_its_owner_only(make_server: MakeServer, tmp_path: Path) -> None:
    """The password stands in one file that only its owner reads, and in no log and no value that is shown."""
    server = make_server()
    dsn = await server.ensure_running()
    record = read_record(tmp_path / "state" / "control")
    assert record is not None
    file = tmp_path / "state" / "control" / "server.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.stat().st_uid == os.geteuid()
    assert record.password in dsn.reveal()
    for text in (repr(record), repr(dsn), repr(await server.status()), record.log.read_text()):
        assert record.password not in text
    assert not (record.server / "password").exists()


async def test_wrong_password_is_refused(make_server: MakeServer) -> None:
    """Nobody on the machine gets in without the password."""
    dsn = await make_server().ensure_running()
    wrong = psycopg.conninfo.make_conninfo(dsn.reveal(), password="wrong")
    with pytest.raises(PermanentError, match="authentication failed"):
        await connect(Dsn(wrong), role="test")


async def test_many_processes_make_one_server(make_server: MakeServer, tmp_path: Path) -> None:
    """Six processes that ask at the same moment for a server that is not there get one and the same."""
    make_server()
    script = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from reconciler.postgres.embedded import EmbeddedServer
        server = EmbeddedServer.at(Path(sys.argv[1]), bin_dir=Path(sys.argv[2]), fsync=False)
        asyncio.run(server.ensure_running())
        print(asyncio.run(server.status()).pid)
    """)
    arguments = [sys.executable, "-W", "error", "-c", script, str(tmp_path / "state"), str(bin_dir())]
    started = [
        await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE) for _ in range(6)
    ]
    pids = {(await process.communicate())[0].strip() for process in started}
    assert len(pids) == 1
    assert [process.returncode for process in started] == [0] * 6


async def test_server_outlives_its_starter(make_server: MakeServer, tmp_path: Path) -> None:
    """Killing the whole process group of who started it leaves the server running."""
    server = make_server()
    script = textwrap.dedent("""
        import asyncio, os, signal, sys
        from pathlib import Path
        from reconciler.postgres.embedded import EmbeddedServer
        server = EmbeddedServer.at(Path(sys.argv[1]), bin_dir=Path(sys.argv[2]), fsync=False)
        asyncio.run(server.ensure_running())
        os.killpg(0, signal.SIGKILL)
    """)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(tmp_path / "state"), str(bin_dir()), start_new_session=True
    )
    assert await process.wait() == -signal.SIGKILL
    assert (await server.status()).running


async def test_killed_server_is_started_again(make_server: MakeServer) -> None:
    """After kill -9 of the postmaster, asking for it brings it back with its data."""
    server = make_server()
    dsn = await server.ensure_running()
    await write(dsn)
    async with await connect(dsn, role="busy"):
        os.kill(await pid_of(server), signal.SIGKILL)
        dsn = await server.ensure_running()
    assert await value_of(dsn, "SELECT n FROM public.kept") == 1


async def test_stale_pid_of_another_process(make_server: MakeServer, sleeper: int) -> None:
    """A pid file whose number belongs to another process by now is not taken for a running server."""
    server = make_server()
    await server.ensure_running()
    data = (await server.status()).data_directory
    assert data is not None
    pid = await pid_of(server)
    lines = (data / "postmaster.pid").read_text().splitlines()
    os.kill(pid, signal.SIGKILL)
    await gone(pid)
    (data / "postmaster.pid").write_text("\n".join([str(sleeper), *lines[1:]]) + "\n")
    assert postmaster.alive(data) is None
    assert not (await server.status()).running
    await server.stop()
    await server.ensure_running()
    os.kill(sleeper, 0)


async def test_port_taken_meanwhile(make_server: MakeServer) -> None:
    """Where somebody else has the port when it starts again, it takes another one and remembers that."""
    server = make_server()
    first = await server.ensure_running()
    port = int(first.server.rsplit(":", 1)[1])
    await server.stop()
    with socket.socket() as stranger:
        stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        stranger.bind(("127.0.0.1", port))
        stranger.listen()
        second = await server.ensure_running()
        assert second.server != first.server
        assert await make_server().ensure_running() == second


async def test_copy_of_a_state_directory_is_another_server(make_server: MakeServer, tmp_path: Path) -> None:
    """A copied state directory gets a server of its own, though the original answers on its port."""
    original = make_server()
    await original.ensure_running()
    await original.stop()
    copied = await asyncio.create_subprocess_exec("cp", "-a", tmp_path / "state", tmp_path / "copy")
    assert await copied.wait() == 0
    record = tmp_path / "copy" / "control" / "server.json"
    content = json.loads(record.read_text())
    if Path(content["home"]).is_relative_to(tmp_path):
        content["home"] = str(tmp_path / "copy" / "control")
    else:
        other = Path(f"{content['home']}-copy")
        copied = await asyncio.create_subprocess_exec("cp", "-a", content["home"], other)
        assert await copied.wait() == 0
        content["home"] = str(other)
    record.write_text(json.dumps(content))
    first = await original.ensure_running()
    second = await make_server(tmp_path / "copy").ensure_running()
    assert first.server != second.server
    assert await value_of(first, "SHOW data_directory") != await value_of(second, "SHOW data_directory")


async def test_interrupted_making_is_done_again(make_server: MakeServer, tmp_path: Path) -> None:
    """Half a data directory that a killed process left is removed and made anew."""
    server = make_server()
    await server.ensure_running()
    await server.stop()
    record = read_record(tmp_path / "state" / "control")
    assert record is not None
    half = record.server / "data.new"
    record.data.rename(half)
    (half / "PG_VERSION").unlink()
    embedded.write_record(tmp_path / "state" / "control", record.but(initialised=False))
    assert await value_of(await server.ensure_running(), "SELECT 1") == 1
    assert not half.exists()


async def test_lost_data_is_not_replaced_in_silence(make_server: MakeServer, tmp_path: Path) -> None:
    """A data directory that is gone is an error: an empty control database would forget who is suspended."""
    server = make_server()
    await server.ensure_running()
    await server.stop()
    record = read_record(tmp_path / "state" / "control")
    assert record is not None
    record.data.rename(record.server / "away")
    with pytest.raises(PermanentError, match="is gone"):
        await server.ensure_running()


async def test_damaged_record_is_not_quoted(make_server: MakeServer, tmp_path: Path) -> None:
    """A damaged file is named, and nothing of it is told: it holds a password."""
    folder = tmp_path / "state" / "control"
    folder.mkdir(parents=True)
    (folder / "server.json").write_text('{"password": "s3cret"')
    with pytest.raises(PermanentError, match="it is damaged") as caught:
        await make_server().ensure_running()
    assert "s3cret" not in str(caught.value)
    (folder / "server.json").unlink()


async def test_data_of_another_version_is_refused(make_server: MakeServer, tmp_path: Path) -> None:
    """Data of another major version is not touched, and the message names both."""
    server = make_server()
    await server.ensure_running()
    await server.stop()
    record = read_record(tmp_path / "state" / "control")
    assert record is not None
    (record.data / "PG_VERSION").write_text("9\n")
    with pytest.raises(PermanentError, match=r"was made by PostgreSQL 9, .* PostgreSQL 1\d"):
        await server.ensure_running()


async def test_failing_start_shows_the_log(make_server: MakeServer, tmp_path: Path) -> None:
    """A server that does not start is explained by the end of its own log, and says where that is."""
    server = make_server()
    await server.ensure_running()
    await server.stop()
    record = read_record(tmp_path / "state" / "control")
    assert record is not None
    with (record.data / "postgresql.conf").open("a") as conf:
        conf.write("work_mem = nonsense\n")
    with pytest.raises(PermanentError, match="nonsense") as caught:
        await server.ensure_running()
    assert str(record.log) in str(caught.value)


async def test_programs_that_are_missing(make_server: MakeServer, tmp_path: Path) -> None:
    """A folder without the programs is named with what it lacks."""
    with pytest.raises(PermanentError, match="has no initdb, pg_ctl, postgres"):
        await make_server(bin_dir=tmp_path).ensure_running()


async def test_failing_initdb_is_told(make_server: MakeServer, tmp_path: Path) -> None:
    """When the data directory cannot be made, the program's words are kept, and a later try begins anew."""
    fake = open_folder("fake-programs-")
    for name in programs.NEEDED:
        (fake / name).write_text("#!/bin/sh\necho 'postgres (PostgreSQL) 18.0'\n")
        (fake / name).chmod(0o755)
    (fake / "initdb").write_text("#!/bin/sh\necho 'could not write: No space left on device' >&2\nexit 1\n")
    with pytest.raises(PermanentError, match=r"initdb failed: the disk is full(?s:.)*could not write"):
        await make_server(bin_dir=fake).ensure_running()
    shutil.rmtree(fake)
    assert await value_of(await make_server().ensure_running(), "SELECT 1") == 1


async def test_state_directory_that_cannot_be_made(tmp_path: Path) -> None:
    """A state directory that is a file is an error with its name."""
    (tmp_path / "file").touch()
    with pytest.raises(PermanentError, match="file/state"):
        await EmbeddedServer.at(tmp_path / "file" / "state").ensure_running()


async def test_long_path_has_no_socket(make_server: MakeServer, tmp_path: Path) -> None:
    """Where the path is too long for a Unix socket, the server is reached all the same."""
    deep = open_folder("d" * 100)
    try:
        server = make_server(deep)
        dsn = await server.ensure_running()
        assert await value_of(dsn, "SHOW unix_socket_directories") == ""
        await server.remove()
    finally:
        shutil.rmtree(deep)


def hasty_programs(folder: Path) -> Path:
    """Programs of which `pg_ctl start` says that the server is there a while before it is."""
    for name in programs.NEEDED:
        real = shlex.quote(str(bin_dir() / name))
        run = f'(sleep 0.5; exec {real} "$@") >/dev/null 2>&1 &' if name == "pg_ctl" else f'exec {real} "$@"'
        (folder / name).write_text(f"#!/bin/sh\n{run}\n")
        (folder / name).chmod(0o755)
    return folder


async def test_a_server_that_is_told_to_be_up_too_early_is_waited_for(make_server: MakeServer) -> None:
    """`pg_ctl` takes the pid file of a server that died a moment ago for that of one of the same pid."""
    folder = open_folder("hasty-")
    try:
        dsn = await make_server(bin_dir=hasty_programs(folder)).ensure_running()
        async with await connect(dsn, role="test") as connection:
            assert await (await connection.execute("SELECT 1")).fetchone() == (1,)
    finally:
        shutil.rmtree(folder)
