"""What Git is given: the right secrets in the right place, and nothing else of the environment."""

import time
from pathlib import Path

import pytest

from reconciler.errors import PermanentError, Refused
from reconciler.source import address
from reconciler.source.access import SourceCredentials
from reconciler.source.git_command import PLAIN, GitDoor, Limits, redact


def _environment(url: str, credentials: SourceCredentials) -> dict[str, str]:
    door = GitDoor(place=address.parse(url), credentials=lambda: credentials, home=Path("/state/home"))
    return door._environment_for(Path("/state/mirror.git"), Limits(deadline=0.0), door.access())


def _configuration(environment: dict[str, str]) -> dict[str, str]:
    count = int(environment["GIT_CONFIG_COUNT"])
    return {environment[f"GIT_CONFIG_KEY_{n}"]: environment[f"GIT_CONFIG_VALUE_{n}"] for n in range(count)}


@pytest.mark.parametrize(
    ("credentials", "header"),
    [
        (SourceCredentials(bearer="t0ken"), "Authorization: Bearer t0ken"),
        (SourceCredentials(username="me", password="pass"), "Authorization: Basic bWU6cGFzcw=="),
        (SourceCredentials(password="pass"), "Authorization: Basic Z2l0OnBhc3M="),
    ],
)
def test_credentials_go_to_their_url_alone(credentials: SourceCredentials, header: str) -> None:
    """A token is sent to the address of its source, from the environment of the one process."""
    configuration = _configuration(_environment("https://h.example/a", credentials))
    assert configuration["http.https://h.example/a.extraHeader"] == header
    assert "http.extraHeader" not in configuration


@pytest.mark.parametrize("url", ["/srv/a", "ssh://git@h.example/a"])
def test_tokens_are_not_given_to_other_protocols(url: str) -> None:
    """Only HTTP remotes are sent a token."""
    environment = _environment(url, SourceCredentials(bearer="t0ken", password="pass"))
    assert not any("t0ken" in value or "extraHeader" in value for value in environment.values())


def test_each_source_speaks_its_protocol_alone() -> None:
    """The allow list of a source holds the one protocol of its address."""
    for url, protocol in (("/srv/a", "file"), ("https://h.example/a", "https"), ("h.example:a", "ssh")):
        assert _environment(url, SourceCredentials())["GIT_ALLOW_PROTOCOL"] == protocol


def test_ssh_asks_nothing_and_trusts_no_new_host(tmp_path: Path) -> None:
    """ssh runs without questions, with the given key and known hosts and no configuration."""
    key = tmp_path / "my key"
    key.touch(mode=0o600)
    key.write_text("-----BEGIN PRIVATE KEY-----\n")
    credentials = SourceCredentials(ssh_key_file=str(key), ssh_known_hosts_file="/run/known")
    command = _environment("h.example:a", credentials)["GIT_SSH_COMMAND"]
    for option in ("-F /dev/null", "BatchMode=yes", "StrictHostKeyChecking=yes", "IdentitiesOnly=yes"):
        assert option in command
    assert f"'IdentityFile=\"{key}\"'" in command
    with pytest.raises(Refused):
        _environment("h.example:a", SourceCredentials(ssh_known_hosts_file='/run/"; touch ran'))


def test_a_line_break_in_a_secret_is_refused() -> None:
    """A token cannot add a header of its own."""
    with pytest.raises(Refused) as refused:
        _environment("https://h.example/a", SourceCredentials(bearer="t0ken\r\nHost: evil"))
    assert "t0ken" not in str(refused.value)


def test_what_git_says_is_redacted() -> None:
    """Our secrets are taken out wherever they stand, others where they usually stand."""
    credentials = SourceCredentials(username="me", password="s3cret")
    place = address.parse("https://h.example/a")
    door = GitDoor(place=place, credentials=lambda: credentials, home=Path("/x"))
    said = redact(
        b"s3cret https://u:pw@h.example/ Authorization: Basic bWU6czNjcmV0\nfine \xff", door.access().secrets
    )
    assert said == "*** https://h.example/ Authorization: ***\nfine \ufffd"


def test_only_what_reaches_the_remote_is_given_secrets() -> None:
    """Reading the mirror and checking signatures run without what opens the remote."""
    credentials = SourceCredentials(bearer="t0ken")
    door = GitDoor(
        place=address.parse("https://h.example/a"), credentials=lambda: credentials, home=Path("/state/home")
    )
    plain = door._environment_for(Path("/state/mirror.git"), Limits(deadline=0.0), PLAIN)
    assert not any("t0ken" in value for value in plain.values())


def test_credentials_are_looked_up_each_time() -> None:
    """A token that was renewed is the one that is sent next."""
    tokens = iter(("first", "second"))
    door = GitDoor(
        place=address.parse("https://h.example/a"),
        credentials=lambda: SourceCredentials(bearer=next(tokens)),
        home=Path("/state/home"),
    )
    for token in ("first", "second"):
        assert door.access().configuration == {
            "http.https://h.example/a.extraHeader": f"Authorization: Bearer {token}"
        }


@pytest.mark.parametrize("writes", [False, True], ids=["reads", "writes"])
def test_git_finds_nothing_of_our_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, writes: bool
) -> None:
    """Whoever starts it, Git is given its own settings and those few variables that it may have."""
    monkeypatch.setenv("NOBODY_SECRET", "s3cret")
    monkeypatch.setenv("GIT_TRACE", "1")
    programs = tmp_path / "programs"
    programs.mkdir()
    git = programs / "git"
    git.write_text(
        '#!/bin/sh\n[ "$1" = version ] && echo git version 2.40.0 && exit\n/usr/bin/env; cat; pwd\n'
    )
    git.chmod(0o700)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    home = tmp_path / "home"
    door = GitDoor(place=address.parse("/srv/a"), credentials=SourceCredentials, home=home)
    door.prepare()
    limits = Limits(deadline=time.monotonic() + 60)
    record = tmp_path / "running" if writes else None
    said = door.run(
        ["cat-file"], git_dir=tmp_path / "mirror.git", limits=limits, stdin=b"given\n", record=record
    )
    lines = said.stdout.decode().splitlines()
    assert said.status == 0
    assert lines[-2:] == ["given", str(home)]
    names = {line.partition("=")[0] for line in lines[:-2]}
    assert not names & {"NOBODY_SECRET", "GIT_TRACE"}
    assert {
        "PATH",
        "HOME",
        "GIT_DIR",
        "GIT_ALLOW_PROTOCOL",
        "GIT_CONFIG_COUNT",
        "GIT_TERMINAL_PROMPT",
    } <= names


def test_a_missing_git_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that reads says what to install, too."""
    monkeypatch.setenv("PATH", str(tmp_path))
    door = GitDoor(place=address.parse("/srv/a"), credentials=SourceCredentials, home=tmp_path)
    with pytest.raises(PermanentError, match="git is not installed"):
        door.run(["ls-tree"], git_dir=tmp_path, limits=Limits(deadline=time.monotonic() + 60))
