"""Remotes that fail: each failure is told, bounded and redacted, and the last good commit stays."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.errors import ReconcilerError, Refused, SourceUnavailable
from reconciler.source.access import SourceAccess, SourceCredentials
from reconciler.source.repository import Repository
from tests.plugins.git import GitRepository
from tests.plugins.git_hosts import GitHost

_SECRET = "p1a:nted/s3cret"
_SECRET_IN_URL = "p1a%3Anted%2Fs3cret"


def _open(tmp_path: Path, url: str, **changes: object) -> Repository:
    given: dict[str, object] = {"name": "config", "url": url, "branch": "main", **changes}
    return Repository(SourceAccess(**given), state_dir=tmp_path / "state")  # type: ignore[arg-type]


def _git_processes(state_dir: Path) -> list[str]:
    """List the processes that work on a mirror below this state directory."""
    return [command for command in _commands() if str(state_dir) in command]


async def _all_ended(state_dir: Path) -> None:
    """What was killed is gone as soon as the system has come to it."""
    deadline = time.monotonic() + 10
    while running := _git_processes(state_dir):
        assert time.monotonic() < deadline, running
        await asyncio.sleep(0.01)


def _commands() -> Iterator[str]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                environment = (entry / "environ").read_bytes().decode(errors="replace")
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if "git" in command.split("\0")[0]:
                yield f"{command} {environment}"


async def test_a_remote_is_fetched_over_http(
    tmp_path: Path, git_repository: GitRepository, git_server: GitHost
) -> None:
    """A remote is cloned, a new commit fetched, and a name or an unadvertised commit found on demand."""
    source = _open(tmp_path, git_server.url(git_repository))
    first = await source.fetch()
    assert first.commit == git_repository.head()
    newer = git_repository.commit({"a": "a"})
    git_repository.commit({"b": "b"})
    assert (await source.resolve(newer)).id == newer
    assert (await source.fetch()).commit == git_repository.head()
    assert not (await source.fetch()).changed
    assert set((await source.read(git_repository.head())).files) == {"README", "a", "b"}


@pytest.mark.parametrize(
    ("fault", "words"), [("500", r"broke off|500"), ("cut", "broke off"), ("redirect", "redirect")]
)
async def test_a_remote_that_fails_keeps_the_last_good_commit(
    tmp_path: Path, git_repository: GitRepository, git_server: GitHost, fault: str, words: str
) -> None:
    """Errors, packs cut short and redirects are told; afterwards the fetch goes on without help."""
    source = _open(tmp_path, git_server.url(git_repository))
    first = await source.fetch()
    git_repository.commit({"big": os.urandom(200_000)})
    git_server.fault = fault
    with pytest.raises(SourceUnavailable, match=words):
        await source.fetch()
    good = source.last_good()
    assert good is not None
    assert good.id == first.commit
    assert set((await source.read(first.commit)).files) == {"README"}
    assert not list((tmp_path / "state").rglob("tmp_*"))
    git_server.fault = None
    assert (await source.fetch()).commit == git_repository.head()


async def test_a_refusing_remote_is_told(tmp_path: Path, closed_port: int) -> None:
    """A port where nothing listens is an unreachable remote."""
    with pytest.raises(SourceUnavailable, match="cannot be reached"):
        await _open(tmp_path, f"http://127.0.0.1:{closed_port}/x").fetch()


async def test_a_redirect_is_never_followed(
    tmp_path: Path, git_repository: GitRepository, git_server: GitHost
) -> None:
    """A redirect leads nowhere, neither to another path of the same host nor to a file."""
    for target in (f"http://127.0.0.1:{git_server.port}/other", f"file://{git_repository.path}"):
        git_server.fault, git_server.redirect_to = "redirect", target
        with pytest.raises(SourceUnavailable):
            await _open(tmp_path, git_server.url(git_repository)).fetch()
    assert not any(path.startswith("/other") for path in git_server.requests)


async def test_a_hanging_remote_is_ended_at_the_deadline(
    tmp_path: Path, git_repository: GitRepository, git_server: GitHost
) -> None:
    """A remote that never answers is given up in time, with no process left behind."""
    source = _open(tmp_path, git_server.url(git_repository), fetch_timeout_s=1.0)
    git_server.fault = "hang"
    began = time.monotonic()
    with pytest.raises(SourceUnavailable, match="did not end in time"):
        await source.fetch()
    assert 0.9 < time.monotonic() - began < 5
    assert git_server.held.is_set()
    await _all_ended(tmp_path / "state")


async def test_reading_goes_on_while_a_fetch_hangs(
    tmp_path: Path, git_repository: GitRepository, git_server: GitHost
) -> None:
    """A commit that is here is read while the remote hangs; a cancelled fetch ends its processes at once."""
    source = _open(tmp_path, git_server.url(git_repository))
    first = await source.fetch()
    git_server.fault = "hang"
    fetching = asyncio.create_task(source.fetch())
    assert await asyncio.to_thread(git_server.held.wait, 10)
    assert set((await source.read(first.commit)).files) == {"README"}
    assert (await source.resolve(first.commit)).id == first.commit
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    await _all_ended(tmp_path / "state")


async def test_closing_ends_what_runs(
    tmp_path: Path, git_repository: GitRepository, git_server: GitHost
) -> None:
    """Closing a source ends a fetch under way, and later calls are refused."""
    source = _open(tmp_path, git_server.url(git_repository))
    git_server.fault = "hang"
    fetching = asyncio.create_task(source.fetch())
    assert await asyncio.to_thread(git_server.held.wait, 10)
    await source.close()
    with pytest.raises(SourceUnavailable, match="cancelled"):
        await fetching
    await _all_ended(tmp_path / "state")
    with pytest.raises(SourceUnavailable, match="closed"):
        await source.fetch()


async def test_credentials_are_asked_for_without_a_prompt(
    tmp_path: Path, git_repository: GitRepository, git_server: GitHost
) -> None:
    """Missing or wrong credentials are an error at once, right ones are sent, rotated ones are told."""
    git_server.login = ("me", _SECRET)
    url = git_server.url(git_repository)
    with pytest.raises(SourceUnavailable, match="credentials"):
        await _open(tmp_path, url).fetch()
    wrong = SourceCredentials(username="me", password="wr0ng-one")
    with pytest.raises(SourceUnavailable, match="credentials") as refused:
        await _open(tmp_path, url, credentials=lambda: wrong).fetch()
    assert "wr0ng-one" not in _everything(refused.value)
    right = _open(tmp_path, url, credentials=lambda: SourceCredentials(username="me", password=_SECRET))
    assert (await right.fetch()).commit == git_repository.head()
    git_server.login = ("me", "rotated")
    with pytest.raises(SourceUnavailable, match="credentials"):
        await right.fetch()
    assert right.last_good() is not None


async def test_a_secret_in_the_url_never_shows(
    tmp_path: Path, git_repository: GitRepository, git_server: GitHost, caplog: pytest.LogCaptureFixture
) -> None:
    """A user and a token in the url open the remote and stand in no error, file, argument or log."""
    caplog.set_level(0)
    git_server.login = ("me", _SECRET)
    url = git_server.url(git_repository, userinfo=f"me:{_SECRET_IN_URL}")
    source = _open(tmp_path, url, fetch_timeout_s=2.0)
    assert (await source.fetch()).commit == git_repository.head()
    seen = [repr(source.place), repr(vars(source)), repr(SourceAccess(name="x", url=url, branch="main"))]
    for fault in ("500", "cut", "redirect"):
        git_repository.commit({"x": os.urandom(50_000)})
        git_server.fault = fault
        with pytest.raises(ReconcilerError) as failed:
            await source.fetch()
        seen.append(_everything(failed.value))
    git_server.fault = "hang"
    fetching = asyncio.create_task(source.fetch())
    assert await asyncio.to_thread(git_server.held.wait, 10)
    running = _git_processes(tmp_path / "state")
    assert running
    seen += [command.split(" ", 1)[0] for command in running]
    with pytest.raises(ReconcilerError) as failed:
        await fetching
    seen += [_everything(failed.value), caplog.text]
    seen += [path.read_text(errors="replace") for path in (tmp_path / "state").rglob("*") if path.is_file()]
    for text in seen:
        assert _SECRET not in text
        assert _SECRET_IN_URL not in text


def _everything(error: BaseException) -> str:
    parts = [repr(error), str(error)]
    if error.__cause__ is not None:
        parts.append(_everything(error.__cause__))
    return "\n".join(parts)


@pytest.mark.parametrize("ref", ["--upload-pack=touch ran", "-h", "refs/heads/../../x", "a b", "x\n--help"])
async def test_hostile_names_are_refused(tmp_path: Path, git_repository: GitRepository, ref: str) -> None:
    """A ref that is an option or a path never reaches Git."""
    source = _open(tmp_path, str(git_repository.path))
    with pytest.raises(Refused):
        await source.resolve(ref)
    with pytest.raises(Refused):
        _open(tmp_path, str(git_repository.path), branch=ref)


@pytest.mark.parametrize(
    "url", ["--upload-pack=touch ran", "ext::sh -c 'touch ran'", "ssh://-oProxyCommand=touch%20ran/x"]
)
def test_hostile_urls_are_refused(tmp_path: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A url that would run a command is refused before any process starts."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Refused):
        _open(tmp_path, url)
    assert not (tmp_path / "ran").exists()


async def test_an_unknown_host_key_is_no_question(tmp_path: Path) -> None:
    """An ssh remote is never trusted at first sight, and never asks."""
    credentials = SourceCredentials(ssh_known_hosts_file=str(tmp_path / "known"))
    source = _open(tmp_path, "ssh://git@127.0.0.1:9/x", credentials=lambda: credentials, fetch_timeout_s=20.0)
    with pytest.raises(SourceUnavailable, match=r"cannot be reached|host key"):
        await source.fetch()


async def test_hostile_objects_are_refused(
    tmp_path: Path, git_repository: GitRepository, git_server: GitHost
) -> None:
    """A commit with a folder named `.git` or a submodule url that runs a command never gets in."""
    blob = git_repository.git("rev-parse", "HEAD:README")
    from tests.plugins.git import git

    inner = git(git_repository.path, "mktree", stdin=f"100644 blob {blob}\tconfig\n".encode())
    outer = git(git_repository.path, "mktree", stdin=f"040000 tree {inner}\t.git\n".encode())
    commit = git_repository.git("commit-tree", "-p", "HEAD", "-m", "x", outer)
    source = _open(tmp_path, git_server.url(git_repository))
    first = await source.fetch()
    git_repository.git("update-ref", "refs/heads/main", commit)
    with pytest.raises(Refused, match="checks refuse"):
        await source.fetch()
    good = source.last_good()
    assert good is not None
    assert good.id == first.commit
    git_repository.git("update-ref", "refs/heads/main", first.commit)
    git_repository.git("reset", "--quiet", "--hard")
    git_repository.commit({".gitmodules": '[submodule "x"]\n\tpath = x\n\turl = ext::sh -c touch% ran\n'})
    git_repository.commit({".gitmodules": '[submodule "x"]\n\tpath = x\n\turl = -u./payload\n'})
    with pytest.raises(Refused, match="checks refuse"):
        await source.fetch()
