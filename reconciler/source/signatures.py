"""Decide whether a commit or a tag carries a signature that counts for its source.

Git verifies, with a key ring of ours that holds the keys of the settings and nothing else; the keys of the
daemon's user are never looked at. The ring is made anew when a key file changes. It fetches nothing and
decides nothing about history.
"""

import os
import shutil
import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from reconciler.errors import NotFound, PermanentError, Refused, SignatureRefused, SourceUnavailable
from reconciler.frozen import frozen
from reconciler.source import signature_text
from reconciler.source.access import SignaturePolicy
from reconciler.source.git_command import GitDoor, Limits, Setting
from reconciler.source.mirror import Mirror, MirrorDamaged, last_line
from reconciler.source.signature_text import Signature, Signers, Sort

_KEY_FILE_BYTES_MAX = 1024 * 1024
_OBJECT_BYTES_MAX = 1024 * 1024
_GOOD_KEPT = 256
_GPG_CONFIGURATION = """\
batch
no-tty
no-autostart
disable-dirmngr
no-auto-key-retrieve
no-auto-check-trustdb
no-random-seed-file
lock-never
trust-model always
"""


@frozen
class Signed:
    """What has to be signed: a commit, or the annotated tag of this name."""

    object_id: str
    commit: str
    tag: str | None = None

    @property
    def shown(self) -> str:
        """What it is, for people."""
        return f"tag '{self.tag}'" if self.tag is not None else f"commit {self.commit[:12]}"


@frozen
class _Keys:
    """The keys of the settings as they are on disk now; `digest` tells them from those of another time."""

    gpg: tuple[tuple[str, bytes], ...]
    ssh: Signers

    @property
    def digest(self) -> str:
        hasher = sha256(_GPG_CONFIGURATION.encode())
        for part in (*(content for _, content in self.gpg), *(line.encode() for line in self.ssh.lines)):
            hasher.update(b"%d:" % len(part))
            hasher.update(part)
        return hasher.hexdigest()[:32]


class Verifier:
    """Judges the signatures of one source, and remembers the good ones. All calls block."""

    def __init__(
        self,
        policy: SignaturePolicy,
        *,
        name: str,
        folder: Path,
        door: GitDoor,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Raises where a program or a file that it needs is missing: that is better known at the start."""
        self._policy = policy
        self._name = name
        self._folder = folder
        self._door = door
        self._clock = clock
        self._gpg = self._program("gpg", "gnupg") if policy.wants_gpg else None
        self._ssh_keygen = self._program("ssh-keygen", "openssh-client") if policy.wants_ssh else None
        self._good: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._guard = threading.Lock()
        self._read_keys()

    def judge(self, mirror: Mirror, signed: Signed, limits: Limits, *, doing: str) -> None:
        """Raise SignatureRefused unless a signature that counts is there."""
        with self._guard:  # one ring is made at a time, and one object judged
            keys = self._read_keys()
            key = (keys.digest, signed.object_id)
            if key in self._good:
                return
            why = self._why_not(mirror, signed, keys, limits)
            if why is None:
                self._good[key] = None
                while len(self._good) > _GOOD_KEPT:
                    self._good.popitem(last=False)
                return
        raise SignatureRefused(
            f"{doing}: {signed.shown} is refused: {why}",
            commit=signed.commit,
            why=why,
            hint="push one that is signed with a key of the source's signatures, or add its key there",
        )

    def _why_not(self, mirror: Mirror, signed: Signed, keys: _Keys, limits: Limits) -> str | None:
        kind = "tag" if signed.tag is not None else "commit"
        content = _content(mirror, kind, signed.object_id, limits)
        if signed.tag is not None:
            named = signature_text.tag_name(content)
            if named != signed.tag:
                return f"it calls itself {named[:100]!r}: it was made for another name"
            signature = signature_text.of_tag(content)
        else:
            signature = signature_text.of_commit(content, id_length=len(signed.object_id))
        if signature is None:
            return "it is not signed"
        setting = self._setting(signature.sort, keys, limits)
        if setting is None:
            return f"it is signed with {signature.sort}, and the settings name no such key"
        said = mirror.look([f"verify-{kind}", "--raw", signed.object_id], limits, setting=setting)
        if signature.sort is Sort.GPG:
            why = signature_text.why_gpg_does_not_count(said.stderr)
            return why or (None if said.status == 0 else "Git does not accept its signature")
        return None if said.status == 0 else _why_ssh_does_not_count(signature, keys.ssh)

    def _setting(self, sort: Sort, keys: _Keys, limits: Limits) -> Setting | None:
        """What Git is given to verify this sort of signature; None where no key of the sort counts."""
        if (sort is Sort.GPG and self._gpg is None) or (sort is Sort.SSH and self._ssh_keygen is None):
            return None
        if sort is Sort.X509:
            return None
        ring = self._ring(keys, limits)
        own = {"GNUPGHOME": str(ring), "TMPDIR": str(ring)}
        if sort is Sort.GPG:
            return Setting(configuration={"gpg.program": str(self._gpg)}, environment=own)
        configuration = {
            "gpg.ssh.program": str(self._ssh_keygen),
            "gpg.ssh.allowedSignersFile": str(ring / "allowed_signers"),
        }
        return Setting(configuration=configuration, environment=own)

    def _ring(self, keys: _Keys, limits: Limits) -> Path:
        """Return the folder of the key ring, made whole or not at all."""
        ring = self._folder / keys.digest
        if (ring / "allowed_signers").is_file():
            return ring
        # Another process of ours may make the same one.
        fresh = self._folder / f"{keys.digest}.{os.getpid()}"
        try:
            shutil.rmtree(fresh, ignore_errors=True)
            fresh.mkdir(mode=0o700, parents=True)
            (fresh / "gpg.conf").write_text(_GPG_CONFIGURATION)
            for path, content in keys.gpg:
                self._import(path, content, fresh, limits)
            (fresh / "allowed_signers").write_text("".join(f"{line}\n" for line in keys.ssh.lines))
            _put(fresh, ring)
            self._forget_others(ring)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise SourceUnavailable(
                f"making the key ring of source {self._name!r} in the state directory: {reason}",
                hint="check the space and the permissions of the state directory",
            ) from error
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        return ring

    def _import(self, path: str, content: bytes, ring: Path, limits: Limits) -> None:
        said = self._door.run_gpg(
            str(self._gpg), ["--status-fd=1", "--import"], home=ring, limits=limits, stdin=content
        )
        problem = signature_text.import_problem(said.stdout.decode(errors="replace"))
        if problem is not None:
            raise Refused(
                f"reading GPG key file '{path}' of source {self._name!r}: {problem}",
                hint="write one with 'gpg --armor --export KEY'",
            )

    def _forget_others(self, ring: Path) -> None:
        for path in self._folder.iterdir():
            if path != ring:
                shutil.rmtree(path, ignore_errors=True)

    def _read_keys(self) -> _Keys:
        now = self._clock()
        file = self._policy.ssh_allowed_signers_file
        signers = signature_text.read_keys(self._policy.ssh_keys)
        if file is not None:
            text = self._read(file).decode(errors="replace")
            listed = signature_text.read_signers(text, file=file, now=now)
            signers = Signers(
                lines=(*listed.lines, *signers.lines),
                fingerprints=listed.fingerprints | signers.fingerprints,
            )
        return _Keys(gpg=tuple((path, self._read(path)) for path in self._policy.gpg_key_files), ssh=signers)

    def _read(self, path: str) -> bytes:
        try:
            with Path(path).open("rb") as file:
                content = file.read(_KEY_FILE_BYTES_MAX + 1)
        except OSError as error:
            reason = os.strerror(error.errno or 0).lower()
            raise NotFound(
                f"reading key file '{path}' of source {self._name!r}: {reason}",
                hint="without it no signature can be told good; check the signatures of the source",
            ) from None
        if len(content) > _KEY_FILE_BYTES_MAX:
            raise Refused(f"reading key file '{path}' of source {self._name!r}: it has more than 1 MiB")
        return content

    def _program(self, name: str, package: str) -> str:
        found = shutil.which(name)
        if found is None:
            raise PermanentError(
                f"opening source {self._name!r}: its signatures take {name}, which is not installed",
                hint=f"install {name} (Debian: {package})",
            )
        return str(Path(found).absolute())


def _put(fresh: Path, ring: Path) -> None:
    """Move a ring to its place, unless another process just did."""
    try:
        fresh.rename(ring)
    except OSError:
        if not ring.is_dir():
            raise


def _content(mirror: Mirror, kind: str, object_id: str, limits: Limits) -> bytes:
    bounded = Limits(deadline=limits.deadline, stdout_bytes=_OBJECT_BYTES_MAX, cancelled=limits.cancelled)
    read = mirror.look(["cat-file", kind, object_id], bounded)
    if read.status != 0:
        raise MirrorDamaged(f"reading {kind} {object_id[:12]}: {last_line(read.stderr)}")
    return read.stdout


def _why_ssh_does_not_count(signature: Signature, signers: Signers) -> str:
    key = signature.ssh_key or "of an unknown sort"
    if key in signers.fingerprints:
        return f"its signature by SSH key {key} does not fit it, or not at its date, or is not one for Git"
    return f"it is signed with SSH key {key}, which the settings do not name or no longer"
