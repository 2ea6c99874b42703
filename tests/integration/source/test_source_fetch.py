"""Fetching a source: what is new comes in, what is wrong is said, and the last good commit stays."""

import asyncio
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from reconciler.errors import NotFound, Refused, SourceUnavailable
from reconciler.source.access import HistoryPolicy, SourceAccess
from reconciler.source.repository import Repository
from tests.plugins.git import GitRepository, git


def _open(tmp_path: Path, repository: GitRepository, **changes: object) -> Repository:
    given: dict[str, object] = {"name": "config", "url": str(repository.path), "branch": "main", **changes}
    return Repository(SourceAccess(**given), state_dir=tmp_path / "state")  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["{}", "file://{}"])
async def test_a_new_commit_comes_in(tmp_path: Path, git_repository: GitRepository, form: str) -> None:
    """A commit pushed to a local path or a file url is fetched, and fetching again changes nothing."""
    source = _open(tmp_path, git_repository, url=form.format(git_repository.path))
    first = await source.fetch()
    assert (first.commit, first.previous, first.changed) == (git_repository.head(), None, True)
    again = await source.fetch()
    assert (again.commit, again.changed, again.rewritten) == (first.commit, False, False)
    newer = git_repository.commit({"a.yaml": "a: 1\n"})
    result = await source.fetch()
    assert (result.commit, result.previous, result.changed) == (newer, first.commit, True)
    assert (result.rewritten, result.recloned) == (False, False)
    assert result.committed_at.timestamp() == int(git_repository.git("log", "-1", "--format=%ct"))
    assert result.fetched_at >= result.committed_at.replace(microsecond=0)


async def test_the_last_good_commit_survives_a_restart(tmp_path: Path, git_repository: GitRepository) -> None:
    """A new process knows the last good commit and can read it while the source is away."""
    fetched = await _open(tmp_path, git_repository).fetch()
    git_repository.path.rename(tmp_path / "moved")
    source = _open(tmp_path, git_repository)
    good = source.last_good()
    assert good is not None
    assert (good.id, good.committed_at) == (fetched.commit, fetched.committed_at)
    with pytest.raises(SourceUnavailable, match="no repository at this address"):
        await source.fetch()
    assert source.last_good() == good
    assert set((await source.read(good.id)).files) == {"README"}
    (tmp_path / "moved").rename(git_repository.path)
    assert not (await source.fetch()).changed


async def test_tags_and_commits_can_be_wanted(tmp_path: Path, git_repository: GitRepository) -> None:
    """A source may follow a tag of either kind, or stand at one commit."""
    git_repository.git("tag", "light")
    git_repository.git("tag", "--annotate", "--message=x", "heavy")
    head = git_repository.head()
    for index, wanted in enumerate(({"tag": "light"}, {"tag": "heavy"}, {"commit": head})):
        source = _open(tmp_path, git_repository, name=f"s{index}", branch=None, **wanted)
        assert (await source.fetch()).commit == head
        assert not (await source.fetch()).changed
    newer = git_repository.commit({"b": "b"})
    git_repository.git("tag", "--force", "--annotate", "--message=y", "heavy")
    moved = await _open(tmp_path, git_repository, name="s1", branch=None, tag="heavy").fetch()
    assert (moved.commit, moved.changed, moved.rewritten) == (newer, True, False)


@pytest.mark.parametrize("wanted", [{}, {"branch": "main", "tag": "x"}, {"commit": "abc1234"}, {"tag": "-x"}])
def test_exactly_one_thing_is_wanted(tmp_path: Path, wanted: dict[str, str]) -> None:
    """A source that wants nothing, two things or a malformed one is refused when opened."""
    with pytest.raises(Refused):
        Repository(SourceAccess(name="x", url="/srv/x", **wanted), state_dir=tmp_path)  # type: ignore[arg-type]


async def test_a_deleted_branch_keeps_the_last_good_commit(
    tmp_path: Path, git_repository: GitRepository
) -> None:
    """A branch that goes away is an error that names it; when it is back all is well again."""
    source = _open(tmp_path, git_repository)
    fetched = await source.fetch()
    git_repository.git("checkout", "--quiet", "--detach")
    git_repository.git("branch", "--delete", "--force", "main")
    with pytest.raises(NotFound, match="'refs/heads/main' does not exist"):
        await source.fetch()
    assert source.last_good() is not None
    assert set((await source.read(fetched.commit)).files) == {"README"}
    git_repository.git("checkout", "--quiet", "-b", "main")
    assert (await source.fetch()).commit == fetched.commit


async def test_an_empty_repository_is_no_empty_source(
    tmp_path: Path, make_repository: Callable[[str], GitRepository]
) -> None:
    """A repository without a commit is an error, and works once it has one."""
    empty = make_repository("empty")
    source = _open(tmp_path, empty)
    with pytest.raises(NotFound, match="does not exist"):
        await source.fetch()
    assert source.last_good() is None
    commit = empty.commit({"a": "a"})
    assert (await source.fetch()).commit == commit


@pytest.mark.parametrize("policy", list(HistoryPolicy))
async def test_rewritten_history_follows_the_policy(
    tmp_path: Path, git_repository: GitRepository, policy: HistoryPolicy
) -> None:
    """A forced push is refused under `reject`, let in and told under `alert` and `accept`."""
    source = _open(tmp_path, git_repository, history=policy)
    git_repository.commit({"a": "1"})
    before = await source.fetch()
    rewritten = git_repository.rewrite({"a": "2"})
    if policy is HistoryPolicy.REJECT:
        for _ in range(2):
            with pytest.raises(Refused, match="history was rewritten") as refused:
                await source.fetch()
            assert before.commit[:12] in refused.value.message
        good = source.last_good()
        assert good is not None
        assert good.id == before.commit
        assert (await source.read(before.commit)).files["a"] == b"1"
    else:
        result = await source.fetch()
        assert (result.commit, result.rewritten, result.changed) == (rewritten, True, True)
        assert not (await source.fetch()).rewritten


async def test_going_back_is_rewriting(tmp_path: Path, git_repository: GitRepository) -> None:
    """A branch reset to an older commit does not descend from the last good one."""
    source = _open(tmp_path, git_repository, history=HistoryPolicy.REJECT)
    git_repository.commit({"a": "1"})
    await source.fetch()
    git_repository.git("reset", "--quiet", "--hard", "HEAD~1")
    with pytest.raises(Refused, match="rewritten"):
        await source.fetch()


async def test_merges_and_many_commits_are_no_rewriting(
    tmp_path: Path, git_repository: GitRepository
) -> None:
    """A fast-forward over several commits and a merge is told from a rewrite."""
    source = _open(tmp_path, git_repository, history=HistoryPolicy.REJECT)
    await source.fetch()
    git_repository.git("checkout", "--quiet", "-b", "side")
    git_repository.commit({"side": "1"})
    git_repository.git("checkout", "--quiet", "main")
    for index in range(3):
        git_repository.commit({"a": str(index)})
    git_repository.git("merge", "--quiet", "--no-ff", "--message=merge", "side")
    assert (await source.fetch()).commit == git_repository.head()


async def test_another_branch_is_another_history(tmp_path: Path, git_repository: GitRepository) -> None:
    """Naming another branch of the source is the operator's will, never a rewrite."""
    await _open(tmp_path, git_repository, history=HistoryPolicy.REJECT).fetch()
    git_repository.git("checkout", "--quiet", "--orphan", "other")
    other = git_repository.commit({"x": "x"})
    source = _open(tmp_path, git_repository, branch="other", history=HistoryPolicy.REJECT)
    assert source.last_good() is None
    assert (await source.fetch()).commit == other


async def test_any_ref_is_resolved_on_demand(tmp_path: Path, git_repository: GitRepository) -> None:
    """A branch, a tag or a commit is found and readable, and the last good commit does not move."""
    source = _open(tmp_path, git_repository)
    first = await source.fetch()
    git_repository.git("checkout", "--quiet", "-b", "feature/x")
    feature = git_repository.commit({"f": "f"})
    git_repository.git("tag", "--annotate", "--message=x", "v1")
    git_repository.git("checkout", "--quiet", "main")
    unfetched = git_repository.commit({"m": "m"})
    for ref in ("feature/x", "refs/heads/feature/x", "v1", "refs/tags/v1", feature, feature[:9]):
        assert (await source.resolve(ref)).id == feature, ref
    assert set((await source.read(feature)).files) == {"README", "f"}
    assert (await source.resolve(unfetched)).id == unfetched
    good = source.last_good()
    assert good is not None
    assert good.id == first.commit


async def test_what_is_not_there_is_not_found(tmp_path: Path, git_repository: GitRepository) -> None:
    """A missing branch, commit or short id is an error that says what to do."""
    source = _open(tmp_path, git_repository)
    await source.fetch()
    for ref in ("nope", "refs/tags/nope", "abcdef012"):
        with pytest.raises(NotFound):
            await source.resolve(ref)
    with pytest.raises((NotFound, SourceUnavailable)):
        await source.resolve("1" * 40)
    with pytest.raises(NotFound, match="was not fetched"):
        await source.read("1" * 40)


async def test_a_tag_of_a_file_is_no_commit(tmp_path: Path, git_repository: GitRepository) -> None:
    """A tag that names something else than a commit is refused with words."""
    git_repository.git("tag", "blob", git_repository.git("rev-parse", "HEAD:README"))
    source = _open(tmp_path, git_repository)
    with pytest.raises(NotFound, match="does not name a commit"):
        await source.resolve("blob")


async def test_linked_worktrees_and_packed_refs(tmp_path: Path, git_repository: GitRepository) -> None:
    """A linked worktree is a source too, and packing refs is no change."""
    linked = tmp_path / "linked"
    git_repository.git("worktree", "add", "--quiet", "-b", "other", str(linked))
    source = _open(tmp_path, git_repository, url=str(linked), branch="other")
    first = await source.fetch()
    git_repository.git("pack-refs", "--all")
    assert not (await source.fetch()).changed
    newer = git(linked, "commit-tree", "-p", first.commit, "-m", "x", f"{first.commit}^{{tree}}")
    git(linked, "update-ref", "refs/heads/other", newer)
    assert (await source.fetch()).commit == newer


async def test_two_fetches_at_once_take_turns(tmp_path: Path, git_repository: GitRepository) -> None:
    """Fetches of one mirror from several places wait for each other and all succeed."""
    sources = [_open(tmp_path, git_repository) for _ in range(4)]
    results = await asyncio.gather(*(source.fetch() for source in sources))
    assert {result.commit for result in results} == {git_repository.head()}


async def test_the_repository_of_another_user_is_served(
    tmp_path: Path, git_repository: GitRepository
) -> None:
    """A local repository named in the settings is read whoever owns it, as far as file modes let it."""
    head = git_repository.head()
    if os.getuid() == 0:
        for path in (git_repository.path, git_repository.git_dir):
            os.chown(path, 65534, 65534)
    assert (await _open(tmp_path, git_repository).fetch()).commit == head


async def test_the_state_is_private(tmp_path: Path, git_repository: GitRepository) -> None:
    """What is kept of a source can be read by its owner alone."""
    await _open(tmp_path, git_repository).fetch()
    folder = tmp_path / "state" / "sources" / "config"
    assert [stat.S_IMODE(path.stat().st_mode) for path in (folder, folder / "mirror.git")] == [0o700, 0o700]


async def test_hooks_and_configuration_of_others_are_not_obeyed(
    tmp_path: Path, git_repository: GitRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the environment, the home folder nor the repository can make a fetch run a command."""
    mark = tmp_path / "ran"
    home = tmp_path / "home"
    home.mkdir()
    command = f"touch {mark}"
    (home / ".gitconfig").write_text(f'[core]\n\tfsmonitor = "{command}"\n\tsshCommand = "{command}"\n')
    for name in ("post-checkout", "reference-transaction", "pre-receive", "update"):
        hook = git_repository.git_dir / "hooks" / name
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f"#!/bin/sh\n{command}\n")
        hook.chmod(0o755)
    with (git_repository.git_dir / "config").open("a") as config:
        config.write(f'[uploadpack]\n\tpackObjectsHook = "{command}; exec"\n')
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", command)
    monkeypatch.setenv("GIT_SSH_COMMAND", command)
    monkeypatch.setenv("GIT_CONFIG_COUNT", "broken")
    monkeypatch.setenv("GIT_CONFIG_PARAMETERS", "'core.fsmonitor'='touch x'")
    monkeypatch.setenv("GIT_TRACE", str(tmp_path / "trace"))
    source = _open(tmp_path, git_repository)
    assert (await source.fetch()).commit
    assert not mark.exists()
    assert not (tmp_path / "trace").exists()


async def test_forgotten_mirrors_are_made_anew(tmp_path: Path, git_repository: GitRepository) -> None:
    """A mirror somebody removed is cloned again, with the last good commit still known."""
    source = _open(tmp_path, git_repository)
    first = await source.fetch()
    shutil.rmtree(tmp_path / "state" / "sources" / "config" / "mirror.git")
    result = await source.fetch()
    assert (result.commit, result.changed, result.previous) == (first.commit, False, first.commit)
