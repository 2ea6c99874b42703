"""What Git says becomes an error with a reason and a hint."""

import pytest

from reconciler.errors import NotFound, ReconcilerError, Refused, SourceUnavailable
from reconciler.source import failure
from reconciler.source.mirror import MirrorDamaged


@pytest.mark.parametrize(
    ("stderr", "kind", "words"),
    [
        ("fatal: couldn't find remote ref refs/heads/main", NotFound, "'main' does not exist"),
        (
            "fatal: could not read Username for 'https://h': terminal prompts disabled",
            SourceUnavailable,
            "credentials",
        ),
        (
            "fatal: unable to access 'https://h/': Could not resolve host: h",
            SourceUnavailable,
            "does not resolve",
        ),
        (
            "fatal: unable to access 'x': Failed to connect to h port 443",
            SourceUnavailable,
            "cannot be reached",
        ),
        (
            "fatal: unable to access 'x': SSL certificate problem: expired",
            SourceUnavailable,
            "secure connection",
        ),
        ("Host key verification failed.\nfatal: Could not read from remote", SourceUnavailable, "host key"),
        ("git@h: Permission denied (publickey).\nfatal: x", SourceUnavailable, "forbids"),
        (
            "@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @\nHost key verification failed.\nfatal: x",
            SourceUnavailable,
            "is another than",
        ),
        ("error: cannot run ssh: No such file\nfatal: unable to fork", SourceUnavailable, "not installed"),
        ("error: RPC failed; curl 18\nfatal: early EOF", SourceUnavailable, "broke off"),
        (
            "error: RPC failed; curl 18\nerror: 30958 bytes of body are still expected\nfatal: early EOF",
            SourceUnavailable,
            "broke off",
        ),
        ("fatal: repository 'https://ssl.h/redirect/' not found", SourceUnavailable, "no repository"),
        ("fatal: write error: No space left on device", SourceUnavailable, "disk"),
        (
            "error: object abc: hasDotgit: contains '.git'\nfatal: fsck error in packed object",
            Refused,
            "refuse",
        ),
        ("fatal: bad object refs/reconciler/good", MirrorDamaged, "bad object"),
        ("remote: error: packfile x is corrupt\nfatal: weird", SourceUnavailable, "weird"),
        ("", SourceUnavailable, "git said nothing"),
    ],
)
def test_each_failure_is_told_apart(stderr: str, kind: type[ReconcilerError], words: str) -> None:
    """A remote that fails, a missing branch, a full disk and a damaged mirror are different errors."""
    error = failure.of_fetch(stderr, doing="fetching source 'x' from h", ref="main")
    assert type(error) is kind
    assert words in error.message
    assert error.message.startswith("fetching source 'x' from h: ")
