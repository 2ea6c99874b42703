"""Look at the file of an SSH key before ssh does: it passes over one it cannot use, and does not say so.

Reads the file and never shows what is in it.
"""

import base64
import binascii
import os
import stat
from pathlib import Path

from reconciler.errors import NotFound, Refused

_BYTES_MAX = 64 * 1024
_MAGIC = b"openssh-key-v1\0"
_OPENSSH = "-----BEGIN OPENSSH PRIVATE KEY-----"


def check(path: str) -> None:
    """Raise where ssh could not use the key: missing, readable by others, locked, or not a private key."""
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            text = file.read(_BYTES_MAX).decode(errors="replace")
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise NotFound(
            f"reading SSH key '{path}': {reason}", hint="check auth.ssh_key of the source"
        ) from None
    if status.st_uid == os.geteuid() and stat.S_IMODE(status.st_mode) & 0o077:
        raise Refused(
            f"reading SSH key '{path}': others may read it, and ssh takes no such key",
            hint=f"chmod 600 '{path}'",
        )
    problem = problem_of(text)
    if problem is not None:
        raise Refused(f"reading SSH key '{path}': {problem[0]}", hint=problem[1])


def problem_of(text: str) -> tuple[str, str] | None:
    """Return what keeps a key from being used without a person, and what to do; None where nothing does."""
    locked = (
        "a passphrase protects it, and nobody is there to type one",
        "use a key of its own without a passphrase that may only read: 'ssh-keygen -N \"\" -t ed25519'",
    )
    lines = text.strip().splitlines()
    if not lines or not (lines[0].startswith("-----BEGIN ") and lines[0].endswith("PRIVATE KEY-----")):
        return "it is not a private key", "name the private key, not the one that ends in .pub"
    if lines[0] != _OPENSSH:
        is_locked = "ENCRYPTED" in lines[0] or any("ENCRYPTED" in line for line in lines[1:4])
        return locked if is_locked else None
    try:
        content = base64.b64decode("".join(line for line in lines[1:] if not line.startswith("-----")))
    except binascii.Error:
        return "it is damaged", "make a new one"
    cipher = content[len(_MAGIC) + 4 :][: int.from_bytes(content[len(_MAGIC) : len(_MAGIC) + 4], "big")]
    if not content.startswith(_MAGIC) or not cipher:
        return "it is damaged", "make a new one"
    return None if cipher == b"none" else locked
