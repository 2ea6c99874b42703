"""Reading a commit for a command: what is kept of it is not asked of Git, and is what Git would say."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import SourceUnavailable
from reconciler.source import git_command, kept_tree, sparing
from reconciler.source.access import SourceAccess
from reconciler.source.repository import Repository
from tests.plugins.git import GitRepository


class Memory:
    """Keeps in memory what files keep."""

    def __init__(self) -> None:
        self.content: bytes | None = None
        self.made_by = "us"

    def read(self) -> bytes | None:
        return self.content

    def write(self, content: bytes) -> None:
        self.content = content


@pytest.fixture
def kept() -> Memory:
    return Memory()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What Git was asked for."""
    words: list[str] = []
    real = git_command.GitDoor.run

    def run(self: git_command.GitDoor, arguments: Any, **rest: Any) -> Any:
        words.append(arguments[0])
        return real(self, arguments, **rest)

    monkeypatch.setattr(git_command.GitDoor, "run", run)
    return words


def source(tmp_path: Path, repository: GitRepository, kept: Memory | None = None) -> Repository:
    """As each command opens it anew."""
    access = SourceAccess(name="config", url=str(repository.path), branch="main")
    return Repository(access, state_dir=tmp_path / "state", kept=kept)


def files(**changed: str) -> Mapping[str, str]:
    scripts = {f"deploy/{number}.sql": f"SELECT {number};\n" for number in range(5)}
    return {"env.yaml": "kind: Environment\n", "ü b.txt": "x", **scripts, **changed}


async def test_a_commit_is_asked_of_git_once(
    tmp_path: Path, git_repository: GitRepository, kept: Memory, asked: list[str]
) -> None:
    """The next command finds all of it kept, and a new commit is read anew."""
    commit = git_repository.commit(files())
    first = source(tmp_path, git_repository, kept)
    await first.fetch()
    await first.read(commit)
    asked.clear()
    again = await source(tmp_path, git_repository, kept).read(commit)
    assert dict(again.files) == {path: text.encode() for path, text in files(README="sample\n").items()}
    assert asked == []
    plain = await source(tmp_path, git_repository).read(commit)
    assert (dict(again.files), again.blobs, again.size) == (dict(plain.files), plain.blobs, plain.size)
    newer = git_repository.commit({"env.yaml": "kind: Other\n"})
    third = source(tmp_path, git_repository, kept)
    await third.fetch()
    assert (await third.read(newer)).files["env.yaml"] == b"kind: Other\n"
    assert (await third.read(commit)).files["env.yaml"] == b"kind: Environment\n"


async def test_many_scripts_are_read_when_one_is_asked_for(
    tmp_path: Path,
    git_repository: GitRepository,
    kept: Memory,
    asked: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Until then they are only listed; what is listed is there, and nothing else."""
    monkeypatch.setattr(sparing, "LATE_MIN", 3)
    commit = git_repository.commit(files())
    opened = source(tmp_path, git_repository, kept)
    await opened.fetch()
    read = await opened.read(commit)
    asked.clear()
    assert read.files["env.yaml"] == b"kind: Environment\n"
    assert ("deploy/1.sql" in read.files, "deploy/9.sql" in read.files, len(read.files)) == (True, False, 8)
    assert (read.files.get("deploy/9.sql"), asked) == (None, [])
    assert [read.files[f"deploy/{number}.sql"] for number in (3, 1)] == [b"SELECT 3;\n", b"SELECT 1;\n"]
    assert asked == ["cat-file"]


async def test_scripts_of_a_source_that_was_closed_are_not_read(
    tmp_path: Path, git_repository: GitRepository, kept: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for them too late is told so."""
    monkeypatch.setattr(sparing, "LATE_MIN", 3)
    commit = git_repository.commit(files())
    opened = source(tmp_path, git_repository, kept)
    await opened.fetch()
    read = await opened.read(commit)
    await opened.close()
    with pytest.raises(SourceUnavailable, match="closed"):
        read.files["deploy/1.sql"]


@pytest.mark.parametrize("spoilt", ["flipped", "short", "foreign", "another commit"])
async def test_what_is_kept_is_used_whole_or_not_at_all(
    spoilt: str, tmp_path: Path, git_repository: GitRepository, kept: Memory, asked: list[str]
) -> None:
    """Damage, another program and another commit are made good by asking Git."""
    commit = git_repository.commit(files())
    opened = source(tmp_path, git_repository, kept)
    await opened.fetch()
    plain = await opened.read(commit)
    assert kept.content is not None
    match spoilt:
        case "flipped":
            kept.content = kept.content.replace(b"kind: E", b"kind: e")
        case "short":
            kept.content = kept.content[:-1]
        case "foreign":
            kept.made_by = "them"
        case _:
            listing, contents = kept_tree.decode(kept.content, "us", commit, "") or pytest.fail("not kept")
            kept.content = kept_tree.encode("us", "2" * 40, "", listing, contents)
    asked.clear()
    again = await source(tmp_path, git_repository, kept).read(commit)
    assert dict(again.files) == dict(plain.files)
    assert "ls-tree" in asked


async def test_contents_that_are_not_their_blobs_are_not_used(
    tmp_path: Path, git_repository: GitRepository, kept: Memory, asked: list[str]
) -> None:
    """What is kept under a blob id is what has that id."""
    commit = git_repository.commit(files())
    opened = source(tmp_path, git_repository, kept)
    await opened.fetch()
    await opened.read(commit)
    assert kept.content is not None
    listing, contents = kept_tree.decode(kept.content, "us", commit, "") or pytest.fail("not kept")
    wrong = {**contents, listing.blobs["env.yaml"]: b"kind: Forged\n"}
    kept.content = kept_tree.encode("us", commit, "", listing, wrong)
    assert (await source(tmp_path, git_repository, kept).read(commit)).files["env.yaml"] != b"kind: Forged\n"
    assert "ls-tree" in asked
