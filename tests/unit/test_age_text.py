"""The form of encrypted values is judged without any key, and nothing of them is told."""

import base64

import pyrage
import pytest

from reconciler.age_text import BARE, CHARACTERS_MAX, NotEncrypted, canonical, decoded

KEY = pyrage.x25519.Identity.generate()
OTHER = pyrage.x25519.Identity.generate()
CONTENT = pyrage.encrypt(b"hunter2", [KEY.to_public(), OTHER.to_public()])
BASE64 = base64.b64encode(CONTENT).decode()
ARMORED = pyrage.encrypt(b"hunter2", [KEY.to_public()], armored=True).decode()


def made(head: bytes) -> str:
    return base64.b64encode(b"age-encryption.org/v1\n" + head + b"x" * 64).decode()


@pytest.mark.parametrize(
    "text",
    [BASE64, f"  {BASE64}\n", " ".join(BASE64[at : at + 40] for at in range(0, len(BASE64), 40))],
    ids=["plain", "spaces", "folded"],
)  # fmt: skip
def test_every_spelling_of_a_value_is_the_same_value(text: str) -> None:
    """White space counts for nothing, and what is kept is base64 on one line."""
    assert canonical(text) == BASE64
    assert decoded(canonical(text)) == CONTENT
    assert BASE64.startswith(BARE)


@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_armor_is_taken_too(newline: str) -> None:
    """What the program age writes with --armor opens as it stands."""
    content = decoded(ARMORED.replace("\n", newline))
    assert pyrage.decrypt(content, [KEY]) == b"hunter2"
    assert canonical(canonical(ARMORED)) == canonical(ARMORED)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hunter2-is-a-secret", "is not base64, nor the armor of age"),
        ("", "is not what age encrypts to"),
        ("é", "is not base64, nor the armor of age"),
        (base64.b64encode(b"hunter2").decode(), "is not what age encrypts to"),
        (BASE64[:80], "is cut off, or was altered"),
        (base64.b64encode(CONTENT[:-30]).decode(), "is cut off, or was altered"),
        (ARMORED[:-20], "is cut off: the last line of its armor is missing"),
        ("A" * (CHARACTERS_MAX + 1), f"has more than {CHARACTERS_MAX} characters"),
        (base64.b64encode(pyrage.passphrase.encrypt(b"x", "hunter2")).decode(),
         "is encrypted with a passphrase, and nobody is there to give it"),
        (made(b"-> ssh-rsa AAAA\nBBBB\n--- CCCC\n"), "is not encrypted for a key of age"),
        (made(b"-> X25519 A\n" * 65 + b"--- C\n"), "is encrypted for more than 64 keys"),
        (made(b"-> X25519 A\n" * 9000), "has more than 65536 characters"),
        (made(b"-> X25519 A\n" * 2000), "is cut off, or was altered"),
    ],
    ids=[
        "secret", "empty", "letters", "other", "head", "tail", "armor", "long", "phrase", "ssh", "many",
        "huge", "endless",
    ],
)  # fmt: skip
def test_what_has_not_the_form_is_told(text: str, why: str) -> None:
    """Each reason says what is wrong and quotes nothing."""
    with pytest.raises(NotEncrypted) as caught:
        decoded(text)
    assert caught.value.why == why
