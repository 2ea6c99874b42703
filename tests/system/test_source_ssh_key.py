"""SSH keys that ssh would pass over in silence are told before it is asked."""

import subprocess
from pathlib import Path

import pytest

from reconciler.errors import NotFound, Refused
from reconciler.source import ssh_key
from reconciler.source.access import SourceAccess, SourceCredentials
from reconciler.source.repository import Repository

pytestmark = pytest.mark.system


def _key(path: Path, *options: str, passphrase: str = "") -> Path:
    command = ["ssh-keygen", "-q", "-f", str(path), "-N", passphrase, *options]
    subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL)
    return path


SORTS = [("-t", "ed25519"), ("-t", "ecdsa", "-m", "PEM"), ("-t", "rsa", "-b", "2048", "-m", "PKCS8")]


@pytest.mark.parametrize("sort", SORTS)
def test_a_key_without_a_passphrase_is_taken(tmp_path: Path, sort: tuple[str, ...]) -> None:
    """Keys of every format ssh-keygen writes may be used."""
    ssh_key.check(str(_key(tmp_path / "key", *sort)))


@pytest.mark.parametrize("sort", SORTS)
def test_a_key_with_a_passphrase_is_refused(tmp_path: Path, sort: tuple[str, ...]) -> None:
    """A key that asks a person is told, with what to use instead."""
    with pytest.raises(Refused, match="a passphrase protects it") as told:
        ssh_key.check(str(_key(tmp_path / "key", *sort, passphrase="open sesame")))
    assert "without a passphrase" in str(told.value)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """The bad mode is told with the command that mends it."""
    key = _key(tmp_path / "key", "-t", "ed25519")
    key.chmod(0o640)
    with pytest.raises(Refused, match="others may read it") as told:
        ssh_key.check(str(key))
    assert f"chmod 600 '{key}'" in str(told.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "not a private key"),
        ("ssh-ed25519 AAAA me@host\n", "not a private key"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", "damaged"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nA\n-----END OPENSSH PRIVATE KEY-----\n", "damaged"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "damaged"),
    ],
)
def test_what_is_no_private_key_is_refused(tmp_path: Path, content: str, words: str) -> None:
    """A public key or a damaged file is told as what it is."""
    key = tmp_path / "key"
    key.touch(mode=0o600)
    key.write_text(content)
    with pytest.raises(Refused, match=words):
        ssh_key.check(str(key))


def test_a_bad_key_is_told_at_the_start(tmp_path: Path) -> None:
    """A source whose key cannot be used is not opened."""
    credentials = SourceCredentials(ssh_key_file=str(tmp_path / "none"))
    access = SourceAccess(
        name="config", url="ssh://git@h.example/x", branch="main", credentials=lambda: credentials
    )
    with pytest.raises(NotFound, match="no such file"):
        Repository(access, state_dir=tmp_path / "state")
