"""HTTPS: passwords, tokens and certificates, right and wrong; what opens a remote goes nowhere else."""

import asyncio
import os
from pathlib import Path

import pytest

from reconciler.daemon.readers import access
from reconciler.daemon.secrets import Secrets
from reconciler.errors import ReconcilerError, SourceUnavailable
from reconciler.settings import Settings
from reconciler.source.access import SourceAccess, SourceCredentials
from reconciler.source.repository import Repository
from tests.plugins.git import GitRepository, git
from tests.plugins.git_hosts import Authority, GitHost, MakeGitHost

PASSWORD = "p1a:nted/s3cret"
TOKEN = "t0ken-that-opens-the-remote"


@pytest.fixture
def host(make_git_host: MakeGitHost, authority: Authority) -> GitHost:
    """A host that speaks TLS and asks for a password."""
    made = make_git_host(authority.certificate())
    made.login = ("me", PASSWORD)
    return made


def _open(tmp_path: Path, url: str, credentials: SourceCredentials, **changes: object) -> Repository:
    given: dict[str, object] = {"name": "config", "url": url, "branch": "main", **changes}
    return Repository(
        SourceAccess(credentials=lambda: credentials, **given),  # type: ignore[arg-type]
        state_dir=tmp_path / "state",
    )


async def test_a_password_or_a_token_opens_the_remote(
    tmp_path: Path, git_repository: GitRepository, host: GitHost, authority: Authority
) -> None:
    """The right one is let in; a wrong or missing one is told at once, and the last good commit stays."""
    ca, url = str(authority.file), host.url(git_repository)
    for wrong in (
        SourceCredentials(tls_ca_file=ca),
        SourceCredentials(username="me", password="wr0ng-one", tls_ca_file=ca),
        SourceCredentials(bearer="wr0ng-one", tls_ca_file=ca),
    ):
        with pytest.raises(SourceUnavailable, match="refused the credentials") as told:
            await _open(tmp_path, url, wrong).fetch()
        assert "wr0ng-one" not in str(told.value)
    right = SourceCredentials(username="me", password=PASSWORD, tls_ca_file=ca)
    assert (await _open(tmp_path, url, right).fetch()).commit == git_repository.head()
    host.login, host.bearer = None, TOKEN
    newer = git_repository.commit({"a": "a"})
    with pytest.raises(SourceUnavailable, match="refused the credentials"):
        await _open(tmp_path, url, right).fetch()
    token = SourceCredentials(bearer=TOKEN, tls_ca_file=ca)
    assert (await _open(tmp_path, url, token).fetch()).commit == newer


async def test_a_certificate_that_is_not_trusted_is_refused(
    tmp_path: Path, git_repository: GitRepository, make_git_host: MakeGitHost, authority: Authority
) -> None:
    """Unknown authority, another name, past its time: refused before anything is sent, with what to do."""
    trusted = SourceCredentials(bearer=TOKEN, tls_ca_file=str(authority.file))
    unknown = make_git_host(authority.certificate())
    other = make_git_host(authority.certificate("elsewhere.example"))
    expired = make_git_host(authority.certificate(expired=True))
    for host, credentials in (
        (unknown, SourceCredentials(bearer=TOKEN)),
        (other, trusted),
        (expired, trusted),
    ):
        with pytest.raises(SourceUnavailable, match="secure connection") as told:
            await _open(tmp_path, host.url(git_repository), credentials).fetch()
        assert "auth.ca" in str(told.value)
        assert host.requests == []


async def test_a_missing_authority_file_is_told(
    tmp_path: Path, git_repository: GitRepository, host: GitHost
) -> None:
    """A file of authorities that is not there, or holds none, is no reason to trust everybody."""
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing\n")
    for file in (tmp_path / "none.pem", empty):
        credentials = SourceCredentials(username="me", password=PASSWORD, tls_ca_file=str(file))
        with pytest.raises(SourceUnavailable, match="secure connection"):
            await _open(tmp_path, host.url(git_repository), credentials).fetch()
    assert host.requests == []


async def test_credentials_do_not_follow_a_redirect(
    tmp_path: Path,
    git_repository: GitRepository,
    host: GitHost,
    make_git_host: MakeGitHost,
    authority: Authority,
) -> None:
    """A redirect to another host is told and not followed: that host hears nothing at all."""
    thief = make_git_host(authority.certificate())
    host.fault, host.redirect_to = "redirect", f"https://127.0.0.1:{thief.port}"
    credentials = SourceCredentials(username="me", password=PASSWORD, tls_ca_file=str(authority.file))
    with pytest.raises(SourceUnavailable, match="redirect"):
        await _open(tmp_path, host.url(git_repository), credentials).fetch()
    assert len(host.requests) == 1
    assert thief.requests == []


async def test_what_opens_the_remote_shows_nowhere(
    tmp_path: Path,
    git_repository: GitRepository,
    host: GitHost,
    authority: Authority,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No argument of any process, no file below the state directory, no error and no log holds a password."""
    caplog.set_level(0)
    credentials = SourceCredentials(username="me", password=PASSWORD, tls_ca_file=str(authority.file))
    source = _open(tmp_path, host.url(git_repository), credentials)
    await source.fetch()
    git_repository.commit({"big": os.urandom(200_000)})
    seen = [repr(source.place), repr(vars(source))]
    for fault in ("500", "redirect", "cut"):
        host.fault = fault
        with pytest.raises(ReconcilerError) as failed:
            await source.fetch()
        seen.append(repr(failed.value))
    host.fault = "hang"
    fetching = asyncio.create_task(source.fetch())
    assert await asyncio.to_thread(host.held.wait, 20)
    encoded = host.authorizations[-1].removeprefix("Basic ")
    given, arguments = _processes(encoded)
    assert arguments == []
    # Git's own processes, which send it, and nobody else's.
    assert given
    assert all("git" in name for name in given), given
    fetching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await fetching
    seen += [*_texts(tmp_path), caplog.text]
    assert not any(secret in text for text in seen for secret in (PASSWORD, encoded))


def _texts(folder: Path) -> list[str]:
    return [path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file()]


def _processes(secret: str) -> tuple[list[str], list[str]]:
    """Names of the processes with a secret in their environment, and of those with it in their arguments."""
    given, arguments = [], []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            name = (entry / "comm").read_text().strip()
            environment, command = (
                (entry / file).read_bytes().decode(errors="replace") for file in ("environ", "cmdline")
            )
        except OSError:
            continue
        if secret in environment:
            given.append(name)
        if secret in command or PASSWORD in command:
            arguments.append(name)
    return given, arguments


async def test_reading_needs_no_password(
    tmp_path: Path, git_repository: GitRepository, host: GitHost, authority: Authority
) -> None:
    """What is here is read though the secret cannot be looked up any more, and a fetch says why it fails."""
    there = True

    def look_up() -> SourceCredentials:
        if not there:
            raise SourceUnavailable("secret file '/x' cannot be read")
        return SourceCredentials(username="me", password=PASSWORD, tls_ca_file=str(authority.file))

    url = host.url(git_repository)
    source = Repository(
        SourceAccess(name="config", url=url, branch="main", credentials=look_up), state_dir=tmp_path / "state"
    )
    commit = (await source.fetch()).commit
    there = False
    assert set((await source.read(commit)).files) == {"README"}
    with pytest.raises(SourceUnavailable, match="cannot be read"):
        await source.fetch()
    assert source.last_good() is not None


async def test_a_renewed_token_needs_no_restart(
    tmp_path: Path, git_repository: GitRepository, host: GitHost, authority: Authority
) -> None:
    """A token in a file is read anew for each fetch, and the new one is as little shown as the old one."""
    file = tmp_path / "token"
    file.write_text("first-token\n")
    host.login, host.bearer = None, "first-token"
    settings = Settings.model_validate(
        {
            "sources": [
                {
                    "name": "config",
                    "url": host.url(git_repository),
                    "auth": {"token": {"file": str(file)}, "ca": str(authority.file)},
                }
            ]
        }
    )
    forbidden: list[str] = []
    opened = access(settings.sources[0], Secrets({}, forbidden.append))
    source = Repository(opened, state_dir=tmp_path / "state")
    await source.fetch()
    host.bearer = "second-token"
    commit = git_repository.commit({"a": "a"})
    with pytest.raises(SourceUnavailable, match="refused the credentials"):
        await source.fetch()
    file.write_text("second-token\n")
    assert (await source.fetch()).commit == commit
    assert forbidden[-1] == "second-token"


async def test_an_answer_that_stops_half_way_ends_at_the_deadline(
    tmp_path: Path, git_repository: GitRepository, host: GitHost, authority: Authority
) -> None:
    """A host that goes silent in the middle of an answer is given up in time."""
    credentials = SourceCredentials(username="me", password=PASSWORD, tls_ca_file=str(authority.file))
    source = _open(tmp_path, host.url(git_repository), credentials, fetch_timeout_s=1.5)
    host.fault = "stall"
    with pytest.raises(SourceUnavailable, match=r"did not end in time|broke off"):
        await source.fetch()


async def test_a_large_push_comes_in_whole(
    tmp_path: Path, git_repository: GitRepository, host: GitHost, authority: Authority
) -> None:
    """A push of many megabytes through the host is fetched and read byte for byte."""
    clone = tmp_path / "clone"
    url = host.url(git_repository, userinfo="me:p1a%3Anted%2Fs3cret")
    options = ("-c", f"http.sslCAInfo={authority.file}")
    git(tmp_path, *options, "clone", "--quiet", url, str(clone))
    contents = {f"f{number}": os.urandom(3_000_000) for number in range(6)}
    for name, content in contents.items():
        (clone / name).write_bytes(content)
    git(clone, "add", "--all")
    git(clone, "commit", "--quiet", "-m", "large")
    git(clone, *options, "push", "--quiet", "origin", "main")
    credentials = SourceCredentials(username="me", password=PASSWORD, tls_ca_file=str(authority.file))
    source = _open(tmp_path, host.url(git_repository), credentials)
    found = await source.read((await source.fetch()).commit)
    assert {name: found.files[name] for name in contents} == contents


async def test_a_shallow_repository_is_told(
    tmp_path: Path, git_repository: GitRepository, make_git_host: MakeGitHost
) -> None:
    """A repository whose history is cut off is refused with what to do; made whole, it is fetched."""
    for number in range(3):
        git_repository.commit({"a": str(number)})
    shallow = tmp_path / "repositories" / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{git_repository.path}", str(shallow))
    served = make_git_host()
    for url in (f"http://127.0.0.1:{served.port}/shallow/.git", str(shallow)):
        with pytest.raises(ReconcilerError, match="shallow") as told:
            await _open(tmp_path / "x", url, SourceCredentials()).fetch()
        assert "--unshallow" in str(told.value)
    git(shallow, "fetch", "--quiet", "--unshallow")
    source = _open(tmp_path / "x", str(shallow), SourceCredentials())
    assert (await source.fetch()).commit == git_repository.head()
