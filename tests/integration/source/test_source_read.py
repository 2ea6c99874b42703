"""Reading a commit: bytes out of the object database, within limits, never through a work tree."""

from pathlib import Path

import pytest

from reconciler.errors import NotFound, Refused
from reconciler.source import tree
from reconciler.source.access import SourceAccess
from reconciler.source.repository import Repository
from tests.plugins.git import GitRepository


async def _fetched(tmp_path: Path, repository: GitRepository) -> tuple[Repository, str]:
    source = Repository(
        SourceAccess(name="config", url=str(repository.path), branch="main"), state_dir=tmp_path / "state"
    )
    return source, (await source.fetch()).commit


async def test_files_come_back_byte_for_byte(tmp_path: Path, git_repository: GitRepository) -> None:
    """Every file of the commit is read as it was committed, whatever its bytes and its name."""
    files = {
        "empty": b"",
        "binary": bytes(range(256)) * 10,
        "crlf": b"a\r\nb\r\n",
        "dir/ü b\nc.yaml": b"x: 1",
        "-dash": b"no option",
        "big": b"0123456789" * 200_000,
    }
    git_repository.commit({**files, ".gitattributes": b"* text=auto eol=lf\n-dash -text\ncrlf -text\n"})
    source, commit = await _fetched(tmp_path, git_repository)
    read = await source.read(commit)
    assert {path: read.files[path] for path in files} == files
    assert read.commit == commit
    assert set(read.blobs) == set(read.files)
    assert read.blobs["empty"] == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert await source.list_tree(commit) == read.blobs


async def test_a_prefix_limits_what_is_read(tmp_path: Path, git_repository: GitRepository) -> None:
    """Only files below the folder are read, with paths from the root; pathspec magic means nothing."""
    git_repository.commit({"env/a.yaml": "a", "env/sub/b.yaml": "b", "environment": "c", ":(top)x": "d"})
    source, commit = await _fetched(tmp_path, git_repository)
    assert set((await source.read(commit, "env/")).files) == {"env/a.yaml", "env/sub/b.yaml"}
    assert set((await source.read(commit, "env/sub")).files) == {"env/sub/b.yaml"}
    assert set((await source.read(commit, ":(top)x")).files) == {":(top)x"}
    for missing in ("nope", "en*", "env/a.yaml/x", ":(top)env"):
        with pytest.raises(NotFound, match="no such path"):
            await source.read(commit, missing)
    for outside in ("..", "/etc", "env/../.."):
        with pytest.raises(Refused):
            await source.read(commit, outside)


async def test_links_and_submodules_are_never_followed(tmp_path: Path, git_repository: GitRepository) -> None:
    """A symbolic link to a secret and a submodule are named with a reason, and nothing of them is read."""
    (git_repository.path / "secret").symlink_to("/etc/passwd")
    (git_repository.path / "envs").symlink_to("/etc")
    git_repository.git("update-index", "--add", "--cacheinfo", f"160000,{git_repository.head()},module")
    git_repository.git("add", "secret", "envs")
    git_repository.git("commit", "--quiet", "--message=links")
    source, commit = await _fetched(tmp_path, git_repository)
    read = await source.read(commit)
    assert set(read.files) == {"README"}
    reasons = {skipped.path: skipped.reason for skipped in read.skipped}
    assert "symbolic link" in reasons["secret"]
    assert "submodule" in reasons["module"]
    assert not any(b"root:" in content for content in read.files.values())
    for prefix in ("envs", "secret", "module"):
        with pytest.raises(Refused, match="never followed"):
            await source.read(commit, prefix)


async def test_a_huge_file_is_left_out_alone(tmp_path: Path, git_repository: GitRepository) -> None:
    """A file over the limit is named with its size; its neighbours are read."""
    git_repository.commit({"huge.yaml": b"x" * (tree.BLOB_BYTES_MAX + 1), "good.yaml": b"x" * 100})
    source, commit = await _fetched(tmp_path, git_repository)
    read = await source.read(commit)
    assert set(read.files) == {"README", "good.yaml"}
    assert [(skipped.path, str(tree.BLOB_BYTES_MAX + 1) in skipped.reason) for skipped in read.skipped] == [
        ("huge.yaml", True)
    ]


async def test_too_much_in_all_is_refused(
    tmp_path: Path, git_repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit whose files are too many bytes together is an error before any is read."""
    monkeypatch.setattr(tree, "TOTAL_BYTES_MAX", 10)
    git_repository.commit({"a": b"123456", "b": b"123456"})
    source, commit = await _fetched(tmp_path, git_repository)
    with pytest.raises(Refused, match="more than"):
        await source.read(commit)


async def test_large_reads_are_cut_into_batches(
    tmp_path: Path, git_repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Contents beyond one batch come back whole and in order."""
    monkeypatch.setattr(tree, "_BATCH_BYTES", 1000)
    files = {f"f{index}": f"{index}".encode() * 100 for index in range(40)}
    git_repository.commit(files)
    source, commit = await _fetched(tmp_path, git_repository)
    read = await source.read(commit)
    assert {path: read.files[path] for path in files} == files


async def test_names_that_are_not_utf8_are_left_out(tmp_path: Path, git_repository: GitRepository) -> None:
    """A name that is no text is skipped with a reason, and the rest is read."""
    blob = git_repository.git("rev-parse", "HEAD:README")
    (git_repository.path / "index-info").write_bytes(b"100644 " + blob.encode() + b"\tbad-\xff-name\n")
    with (git_repository.path / "index-info").open("rb") as given:
        from tests.plugins.git import git

        git(git_repository.path, "update-index", "--index-info", stdin=given.read())
    git_repository.git("commit", "--quiet", "--message=odd")
    source, commit = await _fetched(tmp_path, git_repository)
    read = await source.read(commit)
    assert set(read.files) == {"README"}
    assert [skipped.reason for skipped in read.skipped] == ["its name is not UTF-8"]


async def test_unchanged_blobs_are_not_read_again(
    tmp_path: Path, git_repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A commit that changes one file of many reads one blob, and the same commit again starts no process."""
    git_repository.commit({f"f{index}": str(index) for index in range(50)})
    source, commit = await _fetched(tmp_path, git_repository)
    await source.read(commit)
    newer = git_repository.commit({"f7": "new"})
    await source.fetch()
    asked: list[int] = []
    read_batch = tree._read_batch
    monkeypatch.setattr(
        tree,
        "_read_batch",
        lambda mirror, blobs, *rest: asked.append(len(blobs)) or read_batch(mirror, blobs, *rest),
    )
    assert (await source.read(newer)).files["f7"] == b"new"
    assert (await source.read(commit)).files["f7"] == b"7"
    assert asked == [1]


async def test_the_cache_is_bounded(tmp_path: Path, git_repository: GitRepository) -> None:
    """Blobs kept between reads never take more than their limit."""
    reader = tree.TreeReader(cache_bytes=1000)
    reader._keep({f"{index}": b"x" * 300 for index in range(20)})
    assert reader._cache_bytes <= 1000
    assert len(reader._cache) == 2, "each takes some bytes beside its content"


@pytest.mark.parametrize("commit", ["HEAD", "main", "-x", "abc1234", "", "1" * 39, "HEAD^{tree}"])
async def test_only_whole_commit_ids_are_read(
    tmp_path: Path, git_repository: GitRepository, commit: str
) -> None:
    """A read names one exact commit; names are resolved first."""
    source, _ = await _fetched(tmp_path, git_repository)
    with pytest.raises(Refused, match="whole commit id"):
        await source.read(commit)
