"""The text of a value that was encrypted with age: whether it has the form of one; it decrypts nothing.

Nothing here quotes any of it.
"""

import base64
import binascii

CHARACTERS_MAX = 64 * 1024
STANZAS_MAX = 64
"""Lines in the head of a value that say for whom it is."""
ARMOR = ("-----BEGIN AGE ENCRYPTED FILE-----", "-----END AGE ENCRYPTED FILE-----")
BARE = "YWdlLWVuY3J5cHRpb24ub3JnL3Yx"
"""What every value in base64 begins with, for all begin with `age-encryption.org/v1`."""

_FIRST_LINE = b"age-encryption.org/v1"
_HEAD_BYTES_MAX = 16 * 1024
_PAYLOAD_BYTES_MIN = 16 + 16
"""The nonce of a value, and the tag of one that is empty."""


class NotEncrypted(Exception):
    """A text that is no value encrypted with age, or none for a key; `why` says so without quoting it."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


def canonical(text: str) -> str:
    """The value as base64 on one line, however it was written. Raises NotEncrypted."""
    return base64.b64encode(decoded(text)).decode()


def decoded(text: str) -> bytes:
    """The encrypted bytes of a value in armor or in base64. Raises NotEncrypted."""
    if len(text) > CHARACTERS_MAX:
        raise NotEncrypted(f"has more than {CHARACTERS_MAX} characters")
    body = text.strip()
    if body.startswith(ARMOR[0]):
        if not body.endswith(ARMOR[1]):
            raise NotEncrypted("is cut off: the last line of its armor is missing")
        body = body.removeprefix(ARMOR[0]).removesuffix(ARMOR[1])
    try:
        content = base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError):
        raise NotEncrypted("is not base64, nor the armor of age") from None
    _check_head(content)
    return content


def _check_head(content: bytes) -> None:
    first, _, rest = content[:_HEAD_BYTES_MAX].partition(b"\n")
    if first != _FIRST_LINE:
        raise NotEncrypted("is not what age encrypts to")
    kinds: list[bytes] = []
    at = len(first) + 1
    for line in rest.split(b"\n"):
        at += len(line) + 1
        if line.startswith(b"-> "):
            kinds.append(line.split(b" ")[1])
        elif line.startswith(b"---"):
            break
    else:
        raise NotEncrypted("is cut off, or was altered")
    if len(kinds) > STANZAS_MAX:
        raise NotEncrypted(f"is encrypted for more than {STANZAS_MAX} keys")
    if b"scrypt" in kinds:
        raise NotEncrypted("is encrypted with a passphrase, and nobody is there to give it")
    if b"X25519" not in kinds:
        raise NotEncrypted("is not encrypted for a key of age")
    if len(content) - at < _PAYLOAD_BYTES_MIN:
        raise NotEncrypted("is cut off, or was altered")
