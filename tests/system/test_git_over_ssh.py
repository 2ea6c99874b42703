"""SSH against a real sshd on loopback: keys, host keys, and servers that go silent."""

import getpass
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from reconciler.errors import SourceUnavailable
from reconciler.source.access import SourceAccess, SourceCredentials
from reconciler.source.repository import Repository
from tests.plugins.git import GitRepository
from tests.plugins.postgres import free_port
from tests.system.conftest import until

pytestmark = pytest.mark.system


def _key(path: Path) -> str:
    """Make a key pair and return its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=60)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


class SshServer:
    """An sshd with a host key of its own that takes one key and nothing else."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.port = free_port()
        self.key = folder / "client"
        self.known_hosts = folder / "known_hosts"
        self.authorized = folder / "authorized"
        self.host_key = _key(folder / "host")
        self.trust(self.host_key)
        self.authorized.write_text(_key(self.key) + "\n")
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\n"
            f"AuthorizedKeysFile {self.authorized}\nPidFile none\nUsePAM no\nStrictModes no\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True)  # where sshd of root locks its helper up
        program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
        assert program is not None
        self.log = folder / "log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [program, "-D", "-e", "-f", str(folder / "sshd_config")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        until(lambda: "listening on" in self.log.read_text(), self.log.read_text, deadline_s=90.0)

    def trust(self, host_key: str) -> None:
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {host_key}\n")

    def url(self, repository: GitRepository) -> str:
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}{repository.path}"

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=60)


@pytest.fixture
def ssh_server(tmp_path: Path) -> Iterator[SshServer]:
    """An sshd for the test's repositories."""
    server = SshServer(tmp_path / "sshd")
    yield server
    server.close()


OpenSource = Callable[..., Repository]


@pytest.fixture
def open_source(tmp_path: Path, git_repository: GitRepository, ssh_server: SshServer) -> OpenSource:
    """Open the repository over SSH with a key and known hosts."""

    def open_it(
        key: Path | None, known_hosts: Path | None = ssh_server.known_hosts, **changes: object
    ) -> Repository:
        credentials = SourceCredentials(
            ssh_key_file=str(key) if key is not None else None,
            ssh_known_hosts_file=str(known_hosts) if known_hosts is not None else None,
        )
        given: dict[str, object] = {"fetch_timeout_s": 30.0, **changes}
        access = SourceAccess(
            name="config",
            url=ssh_server.url(git_repository),
            branch="main",
            credentials=lambda: credentials,
            **given,  # type: ignore[arg-type]
        )
        return Repository(access, state_dir=tmp_path / "state")

    return open_it


async def test_the_key_of_the_source_opens_it_and_no_other(
    tmp_path: Path, git_repository: GitRepository, ssh_server: SshServer, open_source: OpenSource
) -> None:
    """The right key fetches, another or none is told; a key that is replaced on disk is used from then on."""
    source = open_source(ssh_server.key)
    assert (await source.fetch()).commit == git_repository.head()
    for key in (tmp_path / "other", None):
        if key is not None:
            _key(key)
        with pytest.raises(SourceUnavailable, match="does not take the key") as told:
            await open_source(key).fetch()
        assert "auth.ssh_key" in str(told.value)
    newer = git_repository.commit({"a": "a"})
    ssh_server.authorized.write_text((tmp_path / "other.pub").read_text())
    with pytest.raises(SourceUnavailable, match="does not take the key"):
        await source.fetch()
    (tmp_path / "other.pub").rename(
        ssh_server.key.with_suffix(".pub")
    )  # ssh offers what stands beside the key
    (tmp_path / "other").rename(ssh_server.key)
    assert (await source.fetch()).commit == newer


async def test_a_host_is_trusted_by_its_key_alone(
    tmp_path: Path, ssh_server: SshServer, open_source: OpenSource
) -> None:
    """A host that is not known, or has another key than it had, is refused, with what to do."""
    empty = tmp_path / "empty"
    empty.touch()
    for known_hosts in (empty, None):
        with pytest.raises(SourceUnavailable, match="not in the known hosts file") as told:
            await open_source(ssh_server.key, known_hosts).fetch()
        assert "ssh-keyscan" in str(told.value)
    assert empty.read_text() == ""
    ssh_server.trust(_key(tmp_path / "strange"))
    before = ssh_server.known_hosts.read_text()
    with pytest.raises(SourceUnavailable, match="is another than") as told:
        await open_source(ssh_server.key).fetch()
    assert "fingerprint" in str(told.value)
    assert ssh_server.known_hosts.read_text() == before


@pytest.fixture
def agent(ssh_server: SshServer, tmp_path: Path) -> Iterator[Path]:
    """The socket of an agent that holds the right key."""
    place = tmp_path / "agent"
    running = subprocess.Popen(["ssh-agent", "-D", "-a", str(place)], stdout=subprocess.DEVNULL)
    try:
        until(place.exists, lambda: "the agent", deadline_s=90.0)
        environ = {**os.environ, "SSH_AUTH_SOCK": str(place)}
        subprocess.run(["ssh-add", "-q", str(ssh_server.key)], check=True, timeout=20, env=environ)
        yield place
    finally:
        running.terminate()
        running.wait(timeout=60)


async def test_an_agent_is_not_asked(
    agent: Path, open_source: OpenSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys in the agent of the daemon's user open nothing."""
    monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
    with pytest.raises(SourceUnavailable, match="does not take the key"):
        await open_source(None).fetch()


FETCH = """
import asyncio, sys
from pathlib import Path
from reconciler.errors import ReconcilerError
from reconciler.source.access import SourceAccess, SourceCredentials
from reconciler.source.repository import Repository
url, state, known = sys.argv[1:]
given = SourceCredentials(ssh_known_hosts_file=known or None)
access = SourceAccess(name="config", url=url, branch="main", credentials=lambda: given)
try:
    print(asyncio.run(Repository(access, state_dir=Path(state)).fetch()).commit)
except ReconcilerError as error:
    print(error)
"""


def test_the_files_of_the_user_are_not_read(
    tmp_path: Path, git_repository: GitRepository, ssh_server: SshServer
) -> None:
    """A home folder whose configuration trusts every host and whose default key fits opens nothing."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    shutil.copy(ssh_server.key, home / "id_ed25519")
    shutil.copy(ssh_server.known_hosts, home / "known_hosts")
    (home / "config").write_text(f"Host *\n  StrictHostKeyChecking no\n  IdentityFile {ssh_server.key}\n")
    real = Path("~").expanduser() / ".ssh"
    for known, words in (
        ("", "not in the known hosts file"),
        (str(ssh_server.known_hosts), "not take the key"),
    ):
        # In a view of the file system of its own, where this is the user's folder.
        script = 'mkdir -p "$1" && mount --bind "$2" "$1" && shift 2 && exec "$@"'
        fetch = [sys.executable, "-c", FETCH, ssh_server.url(git_repository), str(tmp_path / "state"), known]
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script, "sh", str(real), str(home), *fetch],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert words in done.stdout, done.stdout + done.stderr


async def test_a_server_that_goes_silent_is_ended_at_the_deadline(
    ssh_server: SshServer, open_source: OpenSource, tmp_path: Path
) -> None:
    """An sshd that takes the key and then says nothing is given up in time, and no process is left."""
    ssh_server.authorized.write_text(f'command="sleep 300" {ssh_server.authorized.read_text()}')
    source = open_source(ssh_server.key, fetch_timeout_s=2.0)
    began = time.monotonic()
    with pytest.raises(SourceUnavailable, match="did not end in time"):
        await source.fetch()
    assert time.monotonic() - began < 20
    until(
        lambda: not _of(str(tmp_path / "state")),
        lambda: f"an end of {_of(str(tmp_path / 'state'))}",
        deadline_s=60.0,
    )


def _of(state_dir: str) -> list[str]:
    """The Git and ssh processes that work below a state directory."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            name = (entry / "comm").read_text().strip() if entry.name.isdigit() else ""
            environment = (entry / "environ").read_bytes() if name in ("git", "ssh") else b""
        except OSError:
            continue
        if state_dir.encode() in environment:
            found.append(name)
    return found
