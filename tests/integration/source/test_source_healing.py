"""Mirrors that were damaged, left half-done or run out of disk heal themselves, or say why not."""

import asyncio
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from reconciler.errors import LockNotAcquired, Refused, SourceUnavailable
from reconciler.source.access import HistoryPolicy, SourceAccess
from reconciler.source.repository import Repository
from tests.plugins.git import GitRepository
from tests.plugins.git_hosts import GitHost


def _open(tmp_path: Path, url: str, **changes: object) -> Repository:
    given: dict[str, object] = {"name": "config", "url": url, "branch": "main", **changes}
    return Repository(SourceAccess(**given), state_dir=tmp_path / "state")  # type: ignore[arg-type]


def _mirror(tmp_path: Path) -> Path:
    return tmp_path / "state" / "sources" / "config" / "mirror.git"


def _only_pack(mirror: Path) -> Path:
    (pack,) = (mirror / "objects" / "pack").glob("*.pack")
    pack.chmod(0o600)
    return pack


def _flip_pack(mirror: Path) -> None:
    pack = _only_pack(mirror)
    content = bytearray(pack.read_bytes())
    for place in range(20, len(content) - 20):
        content[place] ^= 0xFF
    pack.write_bytes(content)


def _truncate_pack(mirror: Path) -> None:
    pack = _only_pack(mirror)
    os.truncate(pack, pack.stat().st_size // 2)


def _remove_packs(mirror: Path) -> None:
    shutil.rmtree(mirror / "objects" / "pack")


def _empty_index(mirror: Path) -> None:
    index = _only_pack(mirror).with_suffix(".idx")
    index.chmod(0o600)
    os.truncate(index, 0)


def _empty_ref(mirror: Path) -> None:
    os.truncate(mirror / "refs" / "reconciler" / "good", 0)


def _garbled_ref(mirror: Path) -> None:
    (mirror / "refs" / "reconciler" / "candidate").write_bytes(b"\0" * 41)


def _no_head(mirror: Path) -> None:
    (mirror / "HEAD").unlink()


def _empty_head(mirror: Path) -> None:
    os.truncate(mirror / "HEAD", 0)


def _bad_config(mirror: Path) -> None:
    (mirror / "config").write_text("[core\nbare")


def _no_objects(mirror: Path) -> None:
    shutil.rmtree(mirror / "objects")


_DAMAGES = [
    *(_flip_pack, _truncate_pack, _remove_packs, _empty_index, _empty_ref, _garbled_ref),
    *(_no_head, _empty_head, _bad_config, _no_objects),
]


@pytest.mark.parametrize("damage", _DAMAGES)
async def test_a_damaged_mirror_is_cloned_anew_once(
    tmp_path: Path, git_repository: GitRepository, damage: Callable[[Path], None]
) -> None:
    """Whatever breaks is found by the next passes, which clone once and go on from the last good commit."""
    git_repository.commit({f"f{index}": str(index) * 50 for index in range(20)})
    await _open(tmp_path, str(git_repository.path)).fetch()
    damage(_mirror(tmp_path))
    source = _open(tmp_path, str(git_repository.path))
    newer = git_repository.commit({"new": "new"})
    result = await source.fetch()
    assert (result.commit, result.rewritten) == (newer, False)
    assert (await source.read(newer)).files["f7"] == b"7" * 50
    again = _open(tmp_path, str(git_repository.path))
    assert not (await again.fetch()).changed
    assert (await again.read(newer)).files["new"] == b"new"


async def test_damage_is_found_by_reading(tmp_path: Path, git_repository: GitRepository) -> None:
    """A blob that rotted on disk is noticed when read, and the same read brings the right bytes."""
    git_repository.commit({"a": os.urandom(5000)})
    source = _open(tmp_path, str(git_repository.path))
    commit = (await source.fetch()).commit
    _flip_pack(_mirror(tmp_path))
    assert (await source.read(commit)).files["a"] == (git_repository.path / "a").read_bytes()


async def test_cloning_anew_is_bounded(tmp_path: Path, git_repository: GitRepository) -> None:
    """A mirror that breaks again within the hour is an error, not a loop of clones."""
    source = _open(tmp_path, str(git_repository.path))
    commit = (await source.fetch()).commit
    _no_head(_mirror(tmp_path))
    assert (await source.fetch()).recloned
    _no_head(_mirror(tmp_path))
    for _ in range(2):
        with pytest.raises(SourceUnavailable, match="within the hour"):
            await source.fetch()
    good = source.last_good()
    assert good is not None
    assert good.id == commit


async def test_a_damaged_mirror_stays_while_the_remote_is_away(
    tmp_path: Path, git_repository: GitRepository, git_server: GitHost
) -> None:
    """A clone that fails replaces nothing; when the remote is back the mirror heals."""
    source = _open(tmp_path, git_server.url(git_repository))
    commit = (await source.fetch()).commit
    _no_head(_mirror(tmp_path))
    git_server.fault = "500"
    for _ in range(2):
        with pytest.raises(SourceUnavailable):
            await source.fetch()
    assert _mirror(tmp_path).is_dir()
    git_server.fault = None
    result = await source.fetch()
    assert (result.commit, result.recloned, result.changed) == (commit, True, False)


async def test_the_history_policy_outlives_the_mirror(tmp_path: Path, git_repository: GitRepository) -> None:
    """A rewrite is refused also when the mirror that knew the old history is gone."""
    git_repository.commit({"a": "1"})
    source = _open(tmp_path, str(git_repository.path), history=HistoryPolicy.REJECT)
    before = await source.fetch()
    git_repository.rewrite({"a": "2"})
    git_repository.git("reflog", "expire", "--expire=now", "--all")
    git_repository.git("gc", "--quiet", "--prune=now")
    shutil.rmtree(_mirror(tmp_path))
    with pytest.raises(Refused, match="rewritten"):
        await source.fetch()
    good = source.last_good()
    assert good is not None
    assert good.id == before.commit


async def test_a_lost_record_is_found_in_the_mirror(tmp_path: Path, git_repository: GitRepository) -> None:
    """The history policy holds when only the file beside the mirror was lost."""
    git_repository.commit({"a": "1"})
    await _open(tmp_path, str(git_repository.path)).fetch()
    os.truncate(_mirror(tmp_path).parent / "good.json", 0)
    git_repository.rewrite({"a": "2"})
    with pytest.raises(Refused, match="rewritten"):
        await _open(tmp_path, str(git_repository.path), history=HistoryPolicy.REJECT).fetch()


async def test_stale_locks_and_half_packs_are_cleared(tmp_path: Path, git_repository: GitRepository) -> None:
    """What a killed Git leaves behind neither blocks the next fetch nor stays on the disk."""
    source = _open(tmp_path, str(git_repository.path))
    await source.fetch()
    mirror = _mirror(tmp_path)
    left = [
        *("HEAD.lock", "config.lock", "packed-refs.lock", "shallow.lock", "refs/reconciler/good.lock"),
        *(
            "refs/reconciler/candidate.lock",
            "objects/pack/tmp_pack_abc",
            "objects/tmp_objdir-incoming-x/pack/y",
        ),
    ]
    for name in left:
        (mirror / name).parent.mkdir(parents=True, exist_ok=True)
        (mirror / name).write_bytes(b"half")
    (mirror.parent / "mirror.git.new").mkdir()
    commit = git_repository.commit({"a": "a"})
    assert (await source.fetch()).commit == commit
    assert [name for name in left if (mirror / name).exists()] == []
    assert not (mirror.parent / "mirror.git.new").exists()


_FETCH_AND_HANG = """
import asyncio, sys
from pathlib import Path
from reconciler.source.access import SourceAccess
from reconciler.source.repository import Repository
source = Repository(SourceAccess(name="config", url=sys.argv[1], branch="main"), state_dir=Path(sys.argv[2]))
asyncio.run(source.fetch())
"""


def _start_daemon(url: str, state_dir: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _FETCH_AND_HANG, url, str(state_dir)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


async def test_a_killed_daemon_leaves_nothing_in_the_way(
    tmp_path: Path, git_repository: GitRepository, git_server: GitHost
) -> None:
    """After kill -9 in the middle of a fetch, the next process ends the orphaned Git and fetches."""
    git_server.fault = "hang"
    daemon = _start_daemon(git_server.url(git_repository), tmp_path / "state")
    assert await asyncio.to_thread(git_server.held.wait, 20)
    orphans = psutil.Process(daemon.pid).children(recursive=True)
    daemon.kill()
    daemon.wait(10)
    assert any(orphan.is_running() for orphan in orphans)
    git_server.fault = None
    source = _open(tmp_path, git_server.url(git_repository))
    assert (await source.fetch()).commit == git_repository.head()
    _, alive = psutil.wait_procs(orphans, timeout=5)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


async def test_two_processes_do_not_share_a_mirror_at_once(
    tmp_path: Path, git_repository: GitRepository, git_server: GitHost
) -> None:
    """While another process fetches, a fetch waits at most its own timeout and says why."""
    git_server.fault = "hang"
    daemon = _start_daemon(git_server.url(git_repository), tmp_path / "state")
    try:
        assert await asyncio.to_thread(git_server.held.wait, 20)
        source = _open(tmp_path, git_server.url(git_repository), fetch_timeout_s=0.5)
        with pytest.raises(LockNotAcquired, match="in use"):
            await source.fetch()
    finally:
        daemon.send_signal(signal.SIGINT)
        git_server.released.set()
        daemon.wait(20)


@contextmanager
def _full_disk(folder: Path) -> Iterator[None]:
    """Let no file grow beyond a few kilobytes: what a full disk is to the one who writes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_keeps_what_is_there(tmp_path: Path, git_repository: GitRepository) -> None:
    """A fetch that cannot be stored is told, the old commit stays readable, and space lets it go on."""
    source = _open(tmp_path, str(git_repository.path))
    first = await source.fetch()
    git_repository.commit({"big": os.urandom(300_000)})
    with _full_disk(tmp_path):
        with pytest.raises(SourceUnavailable, match="full"):
            await source.fetch()
        good = source.last_good()
        assert good is not None
        assert good.id == first.commit
        assert set((await source.read(first.commit)).files) == {"README"}
    assert not list(_mirror(tmp_path).rglob("tmp_*"))
    assert (await source.fetch()).commit == git_repository.head()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[bool]:
    """Put the state directory on a disk of one megabyte, where this user may mount one."""
    state = tmp_path / "state"
    state.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(state)]
    is_small = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    yield is_small
    if is_small:
        subprocess.run(["umount", "--lazy", str(state)], check=True)


async def test_a_disk_that_runs_full_heals(
    tmp_path: Path, git_repository: GitRepository, small_disk: bool
) -> None:
    """A fetch fails while a real disk has no space left, and goes on without help when it has."""
    source = _open(tmp_path, str(git_repository.path))
    first = await source.fetch()
    git_repository.commit({"big": os.urandom(600_000)})
    filler = tmp_path / "state" / "filler"
    if small_disk:
        filler.write_bytes(b"x" * 600_000)
        with pytest.raises(SourceUnavailable, match="full"):
            await source.fetch()
        filler.unlink()
    assert set((await source.read(first.commit)).files) == {"README"}
    assert (await source.fetch()).commit == git_repository.head()


async def test_an_unusable_state_directory_is_told(tmp_path: Path, git_repository: GitRepository) -> None:
    """A state directory that is a file is an error about it, not a traceback."""
    (tmp_path / "state").write_text("")
    with pytest.raises(SourceUnavailable, match="state directory"):
        await _open(tmp_path, str(git_repository.path)).fetch()


async def test_a_source_that_is_itself_corrupt_is_no_loop(
    tmp_path: Path, git_repository: GitRepository
) -> None:
    """Damage on the other side is an error of the source; our mirror stays, and its commit is readable."""
    source = _open(tmp_path, str(git_repository.path))
    first = await source.fetch()
    git_repository.commit({"a": os.urandom(5000)})
    loose = git_repository.git_dir / "objects"
    for path in loose.glob("??/*"):
        path.chmod(0o600)
        os.truncate(path, path.stat().st_size // 2)
    before = _mirror(tmp_path).stat().st_ino
    for _ in range(2):
        with pytest.raises(SourceUnavailable):
            await source.fetch()
    assert _mirror(tmp_path).stat().st_ino == before
    assert set((await source.read(first.commit)).files) == {"README"}


def _held() -> tuple[int, int]:
    """Open descriptors, and children that are no test server's (its own workers come and go)."""
    this = psutil.Process()
    mine = [child for child in this.children(recursive=True) if "postgres" not in child.name()]
    return this.num_fds(), len(mine)


async def test_many_fetches_leave_nothing_behind(tmp_path: Path, git_repository: GitRepository) -> None:
    """A hundred fetches and reads leave processes, descriptors and packs as they were."""
    source = _open(tmp_path, str(git_repository.path))
    await source.read((await source.fetch()).commit)
    await asyncio.sleep(0)
    before = _held()
    for index in range(100):
        git_repository.commit({"a": str(index)})
        commit = (await source.fetch()).commit
        assert (await source.read(commit)).files["a"] == str(index).encode()
    assert _held() == before
    assert len(list((_mirror(tmp_path) / "objects" / "pack").glob("*.pack"))) <= 45
    assert not list(_mirror(tmp_path).rglob("tmp_*"))


async def test_asked_refs_are_forgotten(tmp_path: Path, git_repository: GitRepository) -> None:
    """Dry runs of ever new branches do not fill the mirror with refs."""
    source = _open(tmp_path, str(git_repository.path))
    await source.fetch()
    head = git_repository.head()
    asked = _mirror(tmp_path) / "refs" / "reconciler" / "asked"
    asked.mkdir(exist_ok=True)
    for index in range(250):
        (asked / f"{index:032x}").write_text(f"{head}\n")
        os.utime(asked / f"{index:032x}", (index, index))
    assert (await source.resolve("main")).id == head
    assert len(list(asked.iterdir())) <= 60
    assert time.time() - max(path.stat().st_mtime for path in asked.iterdir()) < 60
