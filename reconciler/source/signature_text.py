"""Read signatures and what programs say of them: which sort, by which key, and why one does not count.

Pure text in, values out. It verifies nothing itself; where it cannot tell, the signature does not count.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from reconciler.errors import Refused
from reconciler.frozen import frozen

_ARMOR = re.compile(rb"^-----BEGIN ((?:PGP|SSH|SIGNED) [A-Z]+)-----$", re.MULTILINE)
_SSH_ARMOR = re.compile(
    rb"-----BEGIN SSH SIGNATURE-----\s+([A-Za-z0-9+/=\s]+)-----END SSH SIGNATURE-----", re.MULTILINE
)
_STATUS = "[GNUPG:] "
_VERDICTS = frozenset({"GOODSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "BADSIG", "ERRSIG"})
_NO_PUBLIC_KEY = "9"  # the reason that ERRSIG gives
_WORD = r'(?:[^\s"]|"[^"]*")+'
_KEY_TYPE = r"(?:sk-)?(?:ssh|ecdsa)-[A-Za-z0-9@.-]+"
_PUBLIC_KEY = re.compile(rf"(?P<type>{_KEY_TYPE})[ \t]+(?P<key>[A-Za-z0-9+/]+=*)(?:[ \t].*)?")
_SIGNER = re.compile(rf"(?P<principals>{_WORD})\s+(?:(?P<options>(?!{_KEY_TYPE}\s){_WORD})\s+)?(?P<rest>.+)")
_VALID_BEFORE = re.compile(r'(?i)(?:^|,)valid-before="?(\d{8})(\d{4})?(\d{2})?(Z?)"?(?=,|$)')
_AUTHORITY = re.compile(r"(?i)(?:^|,)cert-authority(?=,|$)")


class Sort(StrEnum):
    """The sorts of signature Git knows."""

    GPG = "GPG"
    SSH = "SSH"
    X509 = "X.509"


_SORTS = {
    b"PGP SIGNATURE": Sort.GPG,
    b"PGP MESSAGE": Sort.GPG,
    b"SSH SIGNATURE": Sort.SSH,
    b"SIGNED MESSAGE": Sort.X509,
}


@frozen
class Signature:
    """A signature as it stands in an object; `ssh_key` is the fingerprint of the key it says it is of."""

    sort: Sort
    ssh_key: str | None = None


def of_commit(content: bytes, *, id_length: int) -> Signature | None:
    """Find the signature of a commit. Of several, none is taken: Git and we might mean different ones."""
    header = b"gpgsig " if id_length == 40 else b"gpgsig-sha256 "
    head, _, _message = content.partition(b"\n\n")
    found: list[bytes] = []
    inside = False
    for line in head.split(b"\n"):
        if line.startswith(header):
            found.append(line.removeprefix(header))
            inside = True
        elif inside and line.startswith(b" "):
            found[-1] += b"\n" + line[1:]
        else:
            inside = False
    return _read(found[0]) if len(found) == 1 else None


def of_tag(content: bytes) -> Signature | None:
    """Find the signature of an annotated tag, which stands at the end of its message."""
    begins = [match.start() for match in _ARMOR.finditer(content)]
    return _read(content[begins[-1] :]) if begins else None


def tag_name(content: bytes) -> str:
    """Return the name that an annotated tag gives itself, which its signature covers."""
    head, _, _message = content.partition(b"\n\n")
    names = [line[4:] for line in head.split(b"\n") if line.startswith(b"tag ")]
    return names[0].decode(errors="replace") if len(names) == 1 else ""


def _read(armored: bytes) -> Signature | None:
    begin = _ARMOR.match(armored)
    sort = _SORTS.get(begin[1]) if begin is not None else None
    if sort is None:
        return None
    return Signature(sort=sort, ssh_key=_ssh_key_of(armored) if sort is Sort.SSH else None)


def _ssh_key_of(armored: bytes) -> str | None:
    """The fingerprint of the public key inside an SSH signature: magic, version, then the key."""
    match = _SSH_ARMOR.match(armored)
    if match is None:
        return None
    try:
        blob = base64.b64decode(b"".join(match[1].split()), validate=True)
    except binascii.Error:
        return None
    length = int.from_bytes(blob[10:14], "big")
    key = blob[14 : 14 + length]
    return fingerprint(key) if blob[:6] == b"SSHSIG" and key and len(key) == length else None


def fingerprint(key: bytes) -> str:
    """Name an SSH key as ssh-keygen does."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def why_gpg_does_not_count(status: str) -> str | None:
    """Return why a signature does not count by GnuPG's status lines; None where it is good."""
    lines = [line.removeprefix(_STATUS).split() for line in status.splitlines() if line.startswith(_STATUS)]
    verdicts = [line for line in lines if line and line[0] in _VERDICTS]
    if len(verdicts) != 1:
        return "GnuPG cannot read its signature" if not verdicts else "it carries several signatures"
    verdict, key = verdicts[0][0], verdicts[0][1] if len(verdicts[0]) > 1 else "?"
    match verdict:
        case "GOODSIG":
            is_valid = sum(line[0] == "VALIDSIG" for line in lines if line) == 1
            return None if is_valid else "GnuPG cannot check its signature"
        case "BADSIG":
            return f"its signature by GPG key {key} does not fit it: it was altered after it was signed"
        case "EXPKEYSIG":
            return f"it is signed with GPG key {key}, which has expired"
        case "REVKEYSIG":
            return f"it is signed with GPG key {key}, which was revoked"
        case "EXPSIG":
            return f"its signature by GPG key {key} has expired"
        case _:
            unknown = len(verdicts[0]) > 6 and verdicts[0][6] == _NO_PUBLIC_KEY
            what = "which the settings do not name" if unknown else "and GnuPG cannot check it"
            return f"it is signed with GPG key {key}, {what}"


def import_problem(status: str) -> str | None:
    """Return what is wrong with a file of GPG keys by the status lines of its import, None if nothing is."""
    for line in status.splitlines():
        words = line.removeprefix(_STATUS).split()
        if line.startswith(_STATUS) and words[:1] == ["IMPORT_RES"] and len(words) > 10:
            if words[10] != "0":
                return "it holds a private key"
            return "it holds no public key" if words[1] == "0" else None
    return "GnuPG cannot read it"


@frozen
class Signers:
    """SSH keys that count: lines of an allowed signers file, and the fingerprints of the keys in them."""

    lines: tuple[str, ...] = ()
    fingerprints: frozenset[str] = frozenset()


def read_signers(text: str, *, file: str, now: datetime) -> Signers:
    """Read an allowed signers file; what is malformed is refused, and who is past `valid-before` left out."""
    lines, known = [], set()
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        signer = _SIGNER.fullmatch(line)
        key = _key_of(signer["rest"]) if signer is not None else None
        if signer is None or key is None:
            raise Refused(
                f"reading SSH signers: line {number} of '{file}' is not a signer",
                hint="write: NAME [OPTIONS] KEY-TYPE KEY, as for gpg.ssh.allowedSignersFile",
            )
        options = signer["options"] or ""
        if _has_ended(options, now, where=f"line {number} of '{file}'"):
            continue
        lines.append(line)
        if not _AUTHORITY.search(options):
            known.add(fingerprint(key))
    return Signers(lines=tuple(lines), fingerprints=frozenset(known))


def read_keys(keys: Sequence[str]) -> Signers:
    """Make signers of public keys; they count for Git's signatures and for nothing else."""
    lines, known = [], set()
    for number, text in enumerate(keys, start=1):
        match = _PUBLIC_KEY.fullmatch(text.strip())
        key = _key_of(text.strip())
        if match is None or key is None:
            raise Refused(
                f"reading SSH signers: number {number} of ssh_keys is not a public key",
                hint="write it as it stands in a .pub file: KEY-TYPE KEY",
            )
        lines.append(f'key{number} namespaces="git" {match["type"]} {match["key"]}')
        known.add(fingerprint(key))
    return Signers(lines=tuple(lines), fingerprints=frozenset(known))


def _key_of(text: str) -> bytes | None:
    """Return the key of `KEY-TYPE KEY [COMMENT]`; it names its own type once more inside."""
    match = _PUBLIC_KEY.fullmatch(text)
    if match is None:
        return None
    try:
        key = base64.b64decode(match["key"], validate=True)
    except binascii.Error:
        return None
    length = int.from_bytes(key[:4], "big")
    return key if key[4 : 4 + length] == match["type"].encode() else None


def _has_ended(options: str, now: datetime, *, where: str) -> bool:
    """Whether a signer's time is over now; Git asks the commit's date, which its author chooses."""
    match = _VALID_BEFORE.search(options)
    if match is None:
        if "valid-before" in options.lower():
            raise Refused(
                f"reading SSH signers: valid-before of {where} is not a time", hint="YYYYMMDD[HHMM]"
            )
        return False
    try:
        end = datetime.strptime(f"{match[1]}{match[2] or '0000'}{match[3] or '00'}+0000", "%Y%m%d%H%M%S%z")
    except ValueError:
        raise Refused(f"reading SSH signers: valid-before of {where} is not a time") from None
    # Without a Z it is meant in the time zone of the system.
    if not match[4]:
        end = end.replace(tzinfo=None).astimezone()
    return end <= now
