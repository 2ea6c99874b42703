"""A commit in a local repository wakes its source, and nothing stops the watching."""

import asyncio
import itertools
import logging
import os
import resource
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from reconciler.source.watch import watch
from tests.plugins.git import GitRepository, git

_DEADLINE_S = 10.0


class Woken:
    """Counts wakes, and waits for the next of a source."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._moved = asyncio.Event()

    def __call__(self, name: str) -> None:
        self.names.append(name)
        self._moved.set()

    async def wait_for(self, name: str) -> None:
        async with asyncio.timeout(_DEADLINE_S):
            while name not in self.names:
                self._moved.clear()
                await self._moved.wait()

    async def settle(self) -> None:
        """Wait until no wake came for a while, then forget those that did."""
        while self.names:
            self.names.clear()
            await asyncio.sleep(0.2)


@asynccontextmanager
async def _watching(targets: Mapping[str, Path], *, polling: bool = False) -> AsyncIterator[Woken]:
    woken, stop = Woken(), asyncio.Event()
    task = asyncio.create_task(watch(targets, woken, stop, polling=polling))
    try:
        yield woken
    finally:
        stop.set()
        await asyncio.wait_for(task, _DEADLINE_S)


async def _until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(_DEADLINE_S):
        for pause in itertools.repeat(0.01):
            if holds():
                return
            await asyncio.sleep(pause)


async def test_a_commit_wakes_its_source(make_repository: Callable[[str], GitRepository]) -> None:
    """A commit, a branch in a folder and packed refs each wake the source they belong to, and no other."""
    one, two = make_repository("one"), make_repository("two")
    one.commit()
    two.commit()
    async with _watching({"one": one.path, "two": two.path, "same": one.path}) as woken:
        await woken.wait_for("two")
        await woken.settle()
        one.commit({"a": "a"})
        await woken.wait_for("one")
        await woken.wait_for("same")
        assert "two" not in woken.names
        await woken.settle()
        one.git("branch", "feature/refs/deep")
        await woken.wait_for("one")
        one.git("pack-refs", "--all")
        await woken.settle()
        one.commit({"a": "b"})
        await woken.wait_for("one")
        await woken.settle()
        two.write({"uncommitted": "x"})
        two.git("add", "--all")
        two.git("update-ref", "refs/remotes/origin/main", two.head())
        one.commit({"a": "c"})
        await woken.wait_for("one")
        assert "two" not in woken.names


async def test_pushes_to_bare_repositories_and_worktrees_wake(
    tmp_path: Path, git_repository: GitRepository
) -> None:
    """A push into a bare repository and a commit in a linked worktree are noticed."""
    bare, linked = tmp_path / "bare.git", tmp_path / "linked"
    git(tmp_path, "clone", "--quiet", "--bare", str(git_repository.path), str(bare))
    git_repository.git("worktree", "add", "--quiet", "-b", "other", str(linked))
    async with _watching({"bare": bare, "linked": linked}) as woken:
        await woken.wait_for("bare")
        await woken.wait_for("linked")
        await woken.settle()
        git_repository.commit({"a": "a"})
        git_repository.git("push", "--quiet", str(bare), "main")
        await woken.wait_for("bare")
        await woken.settle()
        git(linked, "commit", "--quiet", "--allow-empty", "--message=x")
        await woken.wait_for("linked")


async def test_a_repository_may_come_and_go(tmp_path: Path, git_repository: GitRepository) -> None:
    """A repository that is missing is waited for; one that is replaced is watched again."""
    place = tmp_path / "place"
    async with _watching({"config": place}) as woken:
        shutil.copytree(git_repository.path, place)
        await woken.wait_for("config")
        await woken.settle()
        shutil.rmtree(place)
        shutil.copytree(git_repository.path, place)
        await woken.wait_for("config")
        await woken.settle()
        git(place, "commit", "--quiet", "--allow-empty", "--message=x")
        await woken.wait_for("config")


async def test_polling_finds_commits(git_repository: GitRepository) -> None:
    """On file systems that give no notice, commits are found all the same."""
    async with _watching({"config": git_repository.path}, polling=True) as woken:
        await woken.wait_for("config")
        await woken.settle()
        git_repository.commit({"a": "a"})
        await woken.wait_for("config")


async def test_without_file_watches_it_goes_on(
    git_repository: GitRepository, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the system gives no file watch, the log says so once, and commits are found all the same."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.open("/dev/null", os.O_RDONLY) for _ in range(32)]
    with caplog.at_level(logging.WARNING, logger="reconciler.source.watch"):
        try:
            # Every number below the limit is in use, so the watcher gets no descriptor.
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(taken) + 1, before[1]))
            async with _watching({"config": git_repository.path}) as woken:
                await _until(lambda: bool(caplog.records))
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
                await woken.wait_for("config")
                await woken.settle()
                git_repository.commit({"a": "a"})
                await woken.wait_for("config")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            for descriptor in taken:
                os.close(descriptor)
    assert [record.getMessage() for record in caplog.records] == ["watch.polling"]


@pytest.mark.parametrize("form", ["empty", "file"])
async def test_what_is_no_repository_is_only_waited_for(tmp_path: Path, form: str) -> None:
    """An empty folder or a file in the place of a repository is no error, and stopping is quick."""
    place = tmp_path / "place"
    place.mkdir() if form == "empty" else place.write_text("x")
    async with _watching({"config": place}) as woken:
        await asyncio.sleep(0)
        assert woken.names == []
