"""What is read of signatures, of signers, and of what programs say of them."""

from datetime import UTC, datetime

import pytest

from reconciler.errors import Refused
from reconciler.source import signature_text
from reconciler.source.signature_text import Sort

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAILy/3jXNSeIFJiROtyFN7bqiEslGPXQYodtTF+Y7ujrr"
FULL = "6D4DE263B31687A974C44900F3D5C2DE5B03CB0C"
GOOD = f"[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG F3D5C2DE5B03CB0C ada\n[GNUPG:] VALIDSIG {FULL} 2026-11-21 1 0\n"


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (GOOD, None),
        (GOOD.replace("GOODSIG", "EXPKEYSIG"), "has expired"),
        (GOOD.replace("GOODSIG", "REVKEYSIG"), "was revoked"),
        (GOOD.replace("GOODSIG", "EXPSIG"), "has expired"),
        (GOOD.replace("GOODSIG", "BADSIG"), "does not fit"),
        ("[GNUPG:] ERRSIG D1DEFFF27B69F7CA 22 8 00 1 9 635D\n", "do not name"),
        ("[GNUPG:] ERRSIG D1DEFFF27B69F7CA 22 8 00 1 4 635D\n", "cannot check"),
        ("[GNUPG:] ERRSIG\n", "cannot check"),
        ("[GNUPG:] GOODSIG F3D5C2DE5B03CB0C ada\n", "cannot check"),
        (GOOD + GOOD, "several"),
        (GOOD + "[GNUPG:] BADSIG F3D5C2DE5B03CB0C eve\n", "several"),
        ("", "cannot read"),
        ("gpg: Good signature\nGOODSIG x y\nVALIDSIG x\n", "cannot read"),
    ],
)
def test_only_one_good_and_valid_signature_counts(status: str, words: str | None) -> None:
    """Anything but exactly one good signature is refused with its reason, by status lines alone."""
    why = signature_text.why_gpg_does_not_count(status)
    assert (why is None) if words is None else (why is not None and words in why)


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("[GNUPG:] IMPORT_RES 1 0 1 0 0 0 0 0 0 0 0 0 0 0 0", None),
        ("[GNUPG:] IMPORT_RES 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0", "no public key"),
        ("[GNUPG:] IMPORT_RES 1 0 1 0 0 0 0 0 0 1 0 0 0 0 0", "private key"),
        ("", "cannot read"),
    ],
)
def test_key_files_hold_public_keys(status: str, words: str | None) -> None:
    """A file without a key, or with a private one, is not taken."""
    problem = signature_text.import_problem(status)
    assert (problem is None) if words is None else (problem is not None and words in problem)


def _commit(*headers: str, message: str = "words\n") -> bytes:
    return ("tree 0\nauthor a\n" + "".join(f"{header}\n" for header in headers) + "\n" + message).encode()


def test_a_signature_is_found_in_its_header_alone() -> None:
    """What a message says is no signature, and of two signatures none is taken."""
    pgp = "gpgsig -----BEGIN PGP SIGNATURE-----\n \n AAAA\n -----END PGP SIGNATURE-----"
    found = signature_text.of_commit(_commit(pgp), id_length=40)
    assert found is not None
    assert found.sort is Sort.GPG
    assert signature_text.of_commit(_commit(pgp), id_length=64) is None
    assert signature_text.of_commit(_commit(pgp, pgp), id_length=40) is None
    assert signature_text.of_commit(_commit(message=f"\n{pgp}\n"), id_length=40) is None
    assert signature_text.of_commit(_commit("gpgsig rot13"), id_length=40) is None


def test_a_tag_says_its_name_in_its_header() -> None:
    """The name is of the header, once; a message that looks like one names nothing."""
    assert signature_text.tag_name(b"object 0\ntype commit\ntag v1\ntagger x\n\ntag v2\n") == "v1"
    assert signature_text.tag_name(b"object 0\ntag v1\ntag v2\n\nx") == ""


@pytest.mark.parametrize("armored", ["AAAA", "U1NIU0lHAAAAAf////8=", "!", ""])
def test_an_odd_ssh_signature_names_no_key(armored: str) -> None:
    """Lengths that lead out of the signature and things that are no signature name no key."""
    text = f"gpgsig -----BEGIN SSH SIGNATURE-----\n {armored}\n -----END SSH SIGNATURE-----"
    found = signature_text.of_commit(_commit(text), id_length=40)
    assert found is not None
    assert (found.sort, found.ssh_key) == (Sort.SSH, None)


def test_signers_are_read_with_their_options() -> None:
    """Comments and signers whose time is over are left out; a certificate authority is no key by itself."""
    text = (
        "# who may\n\n"
        f"ada@example.org,bob@example.org {KEY} ada\n"
        f'"eve smith" namespaces="git",valid-before="20260501" {KEY}\n'
        f'bob valid-after="20200101",valid-before="20260501130000Z" {KEY}\n'
        f"*@example.org cert-authority {KEY}\n"
    )
    signers = signature_text.read_signers(text, file="signers", now=NOW)
    assert [line.split()[0] for line in signers.lines] == [
        "ada@example.org,bob@example.org",
        "bob",
        "*@example.org",
    ]
    assert signers.fingerprints == {"SHA256:ssUwKBrgVOugbV5HvSqal/7hC+Tp+w7FSaY2o4wQj/0"}


@pytest.mark.parametrize(
    "line",
    [
        KEY,
        "ada",
        f"ada {KEY[:-20]}!",
        "ada ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAILy/3jXNSeIFJiROtyFN7bqiEslGPXQYodtTF+Y7ujrr",
        f'ada valid-before="soon" {KEY}',
        f'ada valid-before="20261301" {KEY}',
    ],
)
def test_a_malformed_signer_is_refused_with_its_line(line: str) -> None:
    """A line that ssh-keygen would pass over in silence is an error that names it."""
    with pytest.raises(Refused, match="line 2 of 'signers'"):
        signature_text.read_signers(f"ada {KEY}\n{line}\n", file="signers", now=NOW)


def test_keys_of_the_settings_count_for_git_alone() -> None:
    """A key that is written out gets a line of its own, for Git's namespace; what is no key is refused."""
    assert signature_text.read_keys([f" {KEY} ada@host\n"]).lines == (f'key1 namespaces="git" {KEY}',)
    for text in (
        "ada " + KEY,
        f'command="x" {KEY}',
        f"{KEY}\neve {KEY}",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
    ):
        with pytest.raises(Refused, match="number 2 of ssh_keys"):
            signature_text.read_keys([KEY, text])
