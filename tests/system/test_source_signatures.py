"""Signatures: only what carries one that counts becomes the good commit; all else leaves it as it was."""

import base64
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from reconciler.errors import NotFound, PermanentError, Refused, SignatureRefused
from reconciler.source.access import HistoryPolicy, SignaturePolicy, SourceAccess
from reconciler.source.repository import Repository
from tests.plugins.git import GitRepository, git
from tests.plugins.signers import MakeGpgSigner, MakeSshSigner, SshSigner, run

pytestmark = pytest.mark.system


def _open(
    tmp_path: Path, repository: GitRepository, policy: SignaturePolicy | None, **changes: object
) -> Repository:
    given: dict[str, object] = {
        "name": "config",
        "url": str(repository.path),
        "signatures": policy,
        **changes,
    }
    if not {"tag", "commit"} & set(changes):
        given["branch"] = "main"
    return Repository(SourceAccess(**given), state_dir=tmp_path / "state")  # type: ignore[arg-type]


def _gpg(*files: Path) -> SignaturePolicy:
    return SignaturePolicy(gpg_key_files=tuple(str(file) for file in files))


def _ssh(*signers: SshSigner) -> SignaturePolicy:
    return SignaturePolicy(ssh_keys=tuple(signer.public for signer in signers))


async def _refused(source: Repository, words: str) -> SignatureRefused:
    with pytest.raises(SignatureRefused, match=words) as refused:
        await source.fetch()
    return refused.value


async def test_gpg_signed_commits_come_in_and_others_do_not(
    tmp_path: Path, git_repository: GitRepository, make_gpg_signer: MakeGpgSigner
) -> None:
    """A commit by a listed key is good; unsigned and strange ones are refused; a later good one goes on."""
    ada, eve = make_gpg_signer("ada"), make_gpg_signer("eve")
    source = _open(tmp_path, git_repository, _gpg(ada.key_file))
    await _refused(source, "is not signed")
    assert source.last_good() is None
    first = ada.commit(git_repository, {"a": "1"})
    assert (await source.fetch()).commit == first
    unsigned = git_repository.commit({"a": "2"})
    error = await _refused(source, "is not signed")
    assert (error.commit, type(error).__name__) == (unsigned, "SignatureRefused")
    eve.commit(git_repository, {"a": "3"})
    await _refused(source, rf"GPG key {eve.fingerprint[-16:]}, which the settings do not name")
    good = source.last_good()
    assert good is not None
    assert good.id == first
    assert (await source.read(first)).files["a"] == b"1"
    last = ada.commit(git_repository, {"a": "4"})
    assert (await source.fetch()).commit == last


async def test_ssh_signed_commits_come_in_and_others_do_not(
    tmp_path: Path, git_repository: GitRepository, make_ssh_signer: MakeSshSigner
) -> None:
    """The same with SSH keys that are written out in the settings."""
    ada, eve = make_ssh_signer("ada"), make_ssh_signer("eve")
    source = _open(tmp_path, git_repository, _ssh(ada))
    first = ada.commit(git_repository, {"a": "1"})
    assert (await source.fetch()).commit == first
    git_repository.commit({"a": "2"})
    await _refused(source, "is not signed")
    eve.commit(git_repository, {"a": "3"})
    await _refused(source, "SSH key SHA256:.*, which the settings do not name")
    last = ada.commit(git_repository, {"a": "4"})
    assert (await source.fetch()).commit == last


async def test_an_altered_commit_is_refused(
    tmp_path: Path,
    git_repository: GitRepository,
    make_gpg_signer: MakeGpgSigner,
    make_ssh_signer: MakeSshSigner,
) -> None:
    """A signature that was put on another commit does not count, of either sort."""
    gpg, ssh = make_gpg_signer("ada"), make_ssh_signer("ada")
    policy = SignaturePolicy(gpg_key_files=(str(gpg.key_file),), ssh_keys=(ssh.public,))
    source = _open(tmp_path, git_repository, policy)
    for signer in (gpg, ssh):
        commit = signer.commit(git_repository, {"a": signer.name})
        assert (await source.fetch()).commit == commit
        raw = git_repository.git("cat-file", "commit", commit) + "\n"
        altered = git(
            git_repository.path, "hash-object", "-t", "commit", "-w", "--stdin",
            stdin=raw.replace("By ada", "By eve").encode(),
        )  # fmt: skip
        git_repository.git("update-ref", "refs/heads/main", altered)
        await _refused(source, "does not fit it")
        git_repository.git("update-ref", "refs/heads/main", commit)


async def test_a_sort_of_signature_without_keys_counts_for_nothing(
    tmp_path: Path,
    git_repository: GitRepository,
    make_gpg_signer: MakeGpgSigner,
    make_ssh_signer: MakeSshSigner,
) -> None:
    """Whoever signs chooses the program that checks it; only those the settings have keys for are run."""
    gpg, ssh = make_gpg_signer("ada"), make_ssh_signer("ada")
    gpg.commit(git_repository)
    await _refused(_open(tmp_path, git_repository, _ssh(ssh)), "signed with GPG, and the settings name no")
    ssh.commit(git_repository)
    await _refused(
        _open(tmp_path, git_repository, _gpg(gpg.key_file)), "signed with SSH, and the settings name no"
    )
    raw = git_repository.git("cat-file", "commit", "HEAD").replace("SSH SIGNATURE", "SIGNED MESSAGE") + "\n"
    odd = git(git_repository.path, "hash-object", "-t", "commit", "-w", "--stdin", stdin=raw.encode())
    git_repository.git("update-ref", "refs/heads/main", odd)
    await _refused(_open(tmp_path, git_repository, _ssh(ssh)), r"signed with X\.509")


async def test_expired_and_revoked_keys_count_for_nothing(
    tmp_path: Path, git_repository: GitRepository, make_gpg_signer: MakeGpgSigner
) -> None:
    """What a key signed while it was good is refused once it is not: anybody can date a signature back."""
    old, ada = make_gpg_signer("old", expired=True), make_gpg_signer("ada")
    source = _open(tmp_path, git_repository, _gpg(old.key_file, ada.key_file))
    old.commit(git_repository, {"a": "1"})
    await _refused(source, rf"GPG key {old.fingerprint[-16:]}, which has expired")
    first = ada.commit(git_repository, {"a": "2"})
    assert (await source.fetch()).commit == first
    ada.commit(git_repository, {"a": "3"})
    ada.revoke()
    await _refused(source, rf"GPG key {ada.fingerprint[-16:]}, which was revoked")


async def test_a_subkey_counts_for_its_key(
    tmp_path: Path, git_repository: GitRepository, make_gpg_signer: MakeGpgSigner
) -> None:
    """A signature by a subkey of a listed key is good; it is found when the file is written anew."""
    ada = make_gpg_signer("ada")
    source = _open(tmp_path, git_repository, _gpg(ada.key_file))
    ada.gpg("--passphrase", "", "--quick-add-key", ada.fingerprint, "ed25519", "sign", "never")
    commit = ada.commit(git_repository)
    assert ada.fingerprint[-16:] not in git_repository.git("cat-file", "commit", commit)
    await _refused(source, "which the settings do not name")
    ada.export()
    assert (await source.fetch()).commit == commit


async def test_the_keys_of_the_user_count_for_nothing(
    tmp_path: Path,
    git_repository: GitRepository,
    make_gpg_signer: MakeGpgSigner,
    make_ssh_signer: MakeSshSigner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A key ring and a configuration of the daemon's user are not looked at, whatever they trust."""
    eve, ssh, ada = make_gpg_signer("eve"), make_ssh_signer("eve"), make_ssh_signer("ada")
    eve_file = tmp_path / "trusted"
    eve_file.write_text(f"eve {ssh.public}\n")
    monkeypatch.setenv("GNUPGHOME", str(eve.folder))
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "gpg.ssh.allowedSignersFile")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(eve_file))
    other = make_gpg_signer("other")
    policy = SignaturePolicy(gpg_key_files=(str(other.key_file),), ssh_keys=(ada.public,))
    source = _open(tmp_path, git_repository, policy)
    eve.commit(git_repository)
    await _refused(source, "which the settings do not name")
    ssh.commit(git_repository)
    await _refused(source, "which the settings do not name")


async def test_an_allowed_signers_file_says_who_and_when(
    tmp_path: Path, git_repository: GitRepository, make_ssh_signer: MakeSshSigner
) -> None:
    """Signers past their time, of another namespace, or missing count for nothing; the file is read anew."""
    ada, signers = make_ssh_signer("ada"), tmp_path / "signers"
    signers.write_text("# nobody yet\n")
    source = _open(tmp_path, git_repository, SignaturePolicy(ssh_allowed_signers_file=str(signers)))
    commit = ada.commit(git_repository)
    await _refused(source, "do not name")
    now = datetime.now(UTC)
    ended, later = (f"{now + timedelta(days=days):%Y%m%d}Z" for days in (-2, 2))
    signers.write_text(f'ada@example.org valid-before="{ended}" {ada.public}\n')
    await _refused(source, "do not name or no longer")
    signers.write_text(f'ada@example.org namespaces="file" {ada.public}\n')
    await _refused(source, "not one for Git")
    signers.write_text(f'ada@example.org valid-after="{later}" {ada.public}\n')
    await _refused(source, "not at its date")
    signers.write_text(f'ada@example.org namespaces="git,file",valid-before="{later}" {ada.public}\n')
    assert (await source.fetch()).commit == commit


async def test_a_commit_dated_back_does_not_bring_an_ended_key_to_life(
    tmp_path: Path, git_repository: GitRepository, make_ssh_signer: MakeSshSigner
) -> None:
    """Git asks whether a key was good at the date that the commit claims; we ask whether it is good now."""
    ada, signers = make_ssh_signer("ada"), tmp_path / "signers"
    signers.write_text(f'ada valid-before="20210101" {ada.public}\n')
    source = _open(tmp_path, git_repository, SignaturePolicy(ssh_allowed_signers_file=str(signers)))
    date = "2020-06-01T00:00:00Z"
    ada.commit(git_repository, GIT_COMMITTER_DATE=date, GIT_AUTHOR_DATE=date)
    await _refused(source, "no longer")


async def test_a_signature_made_for_something_else_is_refused(
    tmp_path: Path, git_repository: GitRepository, make_ssh_signer: MakeSshSigner
) -> None:
    """An SSH signature of the same bytes in another namespace is none of Git's."""
    ada = make_ssh_signer("ada")
    raw = git_repository.git("cat-file", "commit", "HEAD") + "\n"
    payload = tmp_path / "payload"
    payload.write_text(raw)
    run("ssh-keygen", "-q", "-Y", "sign", "-n", "file", "-f", str(ada.private), str(payload))
    armored = (tmp_path / "payload.sig").read_text().strip().replace("\n", "\n ")
    head, _, message = raw.partition("\n\n")
    forged = git(
        git_repository.path, "hash-object", "-t", "commit", "-w", "--stdin",
        stdin=f"{head}\ngpgsig {armored}\n\n{message}".encode(),
    )  # fmt: skip
    git_repository.git("update-ref", "refs/heads/main", forged)
    await _refused(_open(tmp_path, git_repository, _ssh(ada)), "not one for Git")


async def test_of_a_tag_the_tag_is_signed(
    tmp_path: Path,
    git_repository: GitRepository,
    make_ssh_signer: MakeSshSigner,
    make_gpg_signer: MakeGpgSigner,
) -> None:
    """A source that follows an annotated tag wants the tag signed, under its own name; else the commit."""
    ada, gpg = make_ssh_signer("ada"), make_gpg_signer("ada")
    policy = SignaturePolicy(gpg_key_files=(str(gpg.key_file),), ssh_keys=(ada.public,))
    source = _open(tmp_path, git_repository, policy, tag="live")
    git_repository.git("tag", "live")
    await _refused(source, "commit .* is not signed")
    ada.tag(git_repository, "live")
    first = git_repository.head()
    assert (await source.fetch()).commit == first
    second = git_repository.commit({"a": "2"})
    gpg.tag(git_repository, "live")
    assert (await source.fetch()).commit == second
    ada.commit(git_repository, {"a": "3"})
    git_repository.git("tag", "--force", "-a", "-m", "by nobody", "live")
    await _refused(source, "tag 'live' is refused: it is not signed")
    ada.tag(git_repository, "other")
    git_repository.git("update-ref", "refs/tags/live", git_repository.git("rev-parse", "refs/tags/other"))
    await _refused(source, "calls itself 'other'")
    git_repository.git("tag", "--force", "live", "HEAD")
    assert (await source.fetch()).commit == git_repository.head()


async def test_a_held_commit_is_signed_too(
    tmp_path: Path, git_repository: GitRepository, make_ssh_signer: MakeSshSigner
) -> None:
    """A source that holds a commit wants that commit signed."""
    ada = make_ssh_signer("ada")
    plain = git_repository.head()
    signed = ada.commit(git_repository)
    await _refused(_open(tmp_path, git_repository, _ssh(ada), commit=plain), "is not signed")
    assert (await _open(tmp_path, git_repository, _ssh(ada), commit=signed).fetch()).commit == signed


async def test_any_ref_may_be_read_and_only_signed_ones_applied(
    tmp_path: Path, git_repository: GitRepository, make_ssh_signer: MakeSshSigner
) -> None:
    """A dry run of an unsigned branch works; `verify`, which applying asks first, refuses it."""
    ada = make_ssh_signer("ada")
    good = ada.commit(git_repository, {"a": "1"})
    source = _open(tmp_path, git_repository, _ssh(ada))
    await source.fetch()
    git_repository.git("checkout", "--quiet", "-b", "topic")
    unsigned = git_repository.commit({"a": "2"})
    found = await source.resolve("topic")
    assert (await source.read(found.id)).files["a"] == b"2"
    with pytest.raises(SignatureRefused, match=r"verifying 'topic' .* is not signed"):
        await source.verify(found.id, ref="topic")
    with pytest.raises(SignatureRefused):
        await source.verify(unsigned)
    ada.tag(git_repository, "v1")
    assert (await source.resolve("v1")).id == unsigned
    await source.verify(unsigned, ref="v1")
    await source.verify(good)
    signed = ada.commit(git_repository, {"a": "3"})
    await source.resolve("topic")
    await source.verify(signed, ref="topic")


async def test_without_signatures_everything_may_be_applied(
    tmp_path: Path, git_repository: GitRepository
) -> None:
    """A source that asks for none verifies nothing."""
    source = _open(tmp_path, git_repository, None)
    await source.verify((await source.fetch()).commit)


async def test_what_came_in_unsigned_is_no_good_commit_any_more(
    tmp_path: Path, git_repository: GitRepository, make_ssh_signer: MakeSshSigner
) -> None:
    """Once signatures are asked for, the good commit from before does not stand in for a signed one."""
    ada = make_ssh_signer("ada")
    await _open(tmp_path, git_repository, None).fetch()
    source = _open(tmp_path, git_repository, _ssh(ada))
    assert source.last_good() is None
    await _refused(source, "is not signed")
    commit = ada.commit(git_repository)
    assert (await source.fetch()).commit == commit
    assert not (await _open(tmp_path, git_repository, _ssh(ada)).fetch()).changed


async def test_a_good_commit_stays_good_when_its_key_ends(
    tmp_path: Path, git_repository: GitRepository, make_ssh_signer: MakeSshSigner
) -> None:
    """Keys are asked for when a commit arrives: the end of one stops nothing, and lets nothing more in."""
    ada, signers = make_ssh_signer("ada"), tmp_path / "signers"
    signers.write_text(f"ada {ada.public}\n")
    policy = SignaturePolicy(ssh_allowed_signers_file=str(signers))
    first = ada.commit(git_repository)
    await _open(tmp_path, git_repository, policy).fetch()
    signers.write_text("")
    source = _open(tmp_path, git_repository, policy)
    assert (await source.fetch()).commit == first
    ada.commit(git_repository)
    await _refused(source, "no longer")


async def test_an_older_signed_commit_is_a_rewritten_history(
    tmp_path: Path, git_repository: GitRepository, make_ssh_signer: MakeSshSigner
) -> None:
    """Going back to what was signed once needs no key; the policy for rewritten history decides on it."""
    ada = make_ssh_signer("ada")
    older = ada.commit(git_repository)
    source = _open(tmp_path, git_repository, _ssh(ada), history=HistoryPolicy.REJECT)
    ada.commit(git_repository, {"a": "2"})
    await source.fetch()
    git_repository.git("reset", "--quiet", "--hard", older)
    with pytest.raises(Refused, match="rewritten"):
        await source.fetch()


async def test_a_verified_commit_is_not_verified_again(
    tmp_path: Path,
    git_repository: GitRepository,
    make_ssh_signer: MakeSshSigner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The second look at a good commit starts no process of a signature program."""
    ada = make_ssh_signer("ada")
    commit = ada.commit(git_repository)
    source = _open(tmp_path, git_repository, _ssh(ada))
    await source.resolve("main")
    await source.verify(commit)
    from reconciler.source.mirror import Mirror

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a process was started")

    monkeypatch.setattr(Mirror, "look", fail)
    await source.verify(commit)


async def test_the_key_ring_is_ours_alone(
    tmp_path: Path, git_repository: GitRepository, make_gpg_signer: MakeGpgSigner
) -> None:
    """It can be read by nobody else, is made anew for other keys, and leaves no agent behind."""
    ada, bob = make_gpg_signer("ada"), make_gpg_signer("bob")
    ada.commit(git_repository)
    await _open(tmp_path, git_repository, _gpg(ada.key_file)).fetch()
    (ring,) = (tmp_path / "state/sources/config/keys").iterdir()
    assert ring.stat().st_mode & 0o777 == 0o700
    assert not any(path.is_socket() for path in ring.iterdir())
    bob.commit(git_repository)
    await _open(tmp_path, git_repository, _gpg(ada.key_file, bob.key_file)).fetch()
    (other,) = (tmp_path / "state/sources/config/keys").iterdir()
    assert other.name != ring.name


@pytest.mark.parametrize(
    ("content", "words"), [("no key", "no public key"), ("secret", "private key"), (None, "no such file")]
)
async def test_a_bad_gpg_key_file_is_told(
    tmp_path: Path,
    git_repository: GitRepository,
    make_gpg_signer: MakeGpgSigner,
    content: str | None,
    words: str,
) -> None:
    """A key file that is missing, empty or private is an error that names it, not a refused commit."""
    ada = make_gpg_signer("ada")
    ada.commit(git_repository)
    file = tmp_path / "key.asc"
    if content == "secret":
        file.write_text(ada.gpg("--armor", "--export-secret-keys", ada.fingerprint))
    elif content is not None:
        file.write_text(content)
    with pytest.raises(PermanentError, match=words) as told:
        await _open(tmp_path, git_repository, _gpg(ada.key_file, file)).fetch()
    assert not isinstance(told.value, SignatureRefused)
    assert str(file) in str(told.value)


def test_a_missing_program_is_told_at_the_start(
    tmp_path: Path,
    git_repository: GitRepository,
    make_ssh_signer: MakeSshSigner,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without gpg or ssh-keygen the source is not opened where its signatures need it."""
    key = tmp_path / "key.asc"
    key.write_text("x")
    public = make_ssh_signer("ada").public
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PermanentError, match="gpg, which is not installed") as told:
        _open(tmp_path, git_repository, _gpg(key))
    assert "gnupg" in str(told.value)
    with pytest.raises(PermanentError, match="ssh-keygen, which is not installed"):
        _open(tmp_path, git_repository, SignaturePolicy(ssh_keys=(public,)))
    monkeypatch.setenv("PATH", os.defpath)
    with pytest.raises(NotFound, match="no such file"):
        _open(tmp_path, git_repository, SignaturePolicy(ssh_allowed_signers_file=str(tmp_path / "none")))


async def test_a_broken_signature_is_refused(
    tmp_path: Path, git_repository: GitRepository, make_gpg_signer: MakeGpgSigner
) -> None:
    """Armor around garbage, and a signature twice, are refused and hurt nothing."""
    ada = make_gpg_signer("ada")
    source = _open(tmp_path, git_repository, _gpg(ada.key_file))
    signed = ada.commit(git_repository)
    raw = git_repository.git("cat-file", "commit", signed) + "\n"
    garbage = base64.b64encode(os.urandom(60)).decode()
    head, _, message = git_repository.git("cat-file", "commit", "HEAD~1").partition("\n\n")
    sort = "PGP SIGNATURE"
    for text in (
        f"{head}\ngpgsig -----BEGIN {sort}-----\n \n {garbage}\n -----END {sort}-----\n\n{message}\n",
        raw.replace("\n\nBy", "\n" + raw[raw.index("gpgsig ") : raw.index("\n\nBy")] + "\n\nBy", 1),
    ):
        odd = git(
            git_repository.path,
            "hash-object",
            "-t",
            "commit",
            "-w",
            "--stdin",
            "--literally",
            stdin=text.encode(),
        )
        git_repository.git("update-ref", "refs/heads/main", odd)
        await _refused(source, r"GnuPG cannot|is not signed")
    git_repository.git("update-ref", "refs/heads/main", signed)
    assert (await source.fetch()).commit == signed
