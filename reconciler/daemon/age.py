"""Open and make values encrypted with age; the only place that uses its library, and only where it is needed.

No error tells anything of a value or of a secret key; keys are named by their public halves.
"""

import base64
from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import Any

from reconciler import age_text
from reconciler.errors import InvalidInput, NotFound, Problem, Refused
from reconciler.frozen import frozen

KEYS_MAX = 100
"""In one file of keys."""
RECIPIENTS_MAX = 20
_SECRET_KEY = "AGE-SECRET-KEY-1"  # noqa: S105 - what every key begins with


@frozen
class KeyPair:
    """A new key: the half that encrypts, which anybody may know, and the half that opens values."""

    recipient: str
    secret: str = field(repr=False)


def new_key() -> KeyPair:
    """Make a key."""
    made = _library().x25519.Identity.generate()
    return KeyPair(recipient=str(made.to_public()), secret=str(made))


def keys_of(texts: Iterable[str]) -> tuple[Any, ...]:
    """The keys that files of keys hold, one a line, between comments. Raises InvalidInput."""
    library = _library()
    found: list[Any] = []
    for number, text in enumerate(texts):
        lines = [line.strip() for line in text.splitlines()]
        keys = [line for line in lines if line and not line.startswith("#")]
        where = f"secrets.age_keys[{number}]"
        if not keys or len(keys) > KEYS_MAX or not all(key.startswith(_SECRET_KEY) for key in keys):
            hint = "`reconciler secret keygen` writes one"
            raise InvalidInput([Problem(message=f"{where} holds no keys of age", hint=hint)])
        try:
            found += [library.x25519.Identity.from_str(key) for key in keys]
        except library.IdentityError:
            # Not relayed: what it says may come from the key.
            raise InvalidInput([Problem(message=f"{where} holds a key that is damaged")]) from None
    return tuple(found)


def recipients_of(keys: Iterable[Any]) -> tuple[str, ...]:
    """The public halves of keys."""
    return tuple(str(key.to_public()) for key in keys)


def opened(value: str, keys: Sequence[Any]) -> str:
    """What an encrypted value holds; white space around it is no part of it. Raises NotFound and Refused."""
    if not keys:
        raise NotFound(
            "an encrypted value cannot be opened: the settings name no key",
            hint="name one under secrets.age_keys; `reconciler secret keygen` makes it",
        )
    library = _library()
    try:
        content = library.decrypt(age_text.decoded(value), list(keys))
        text = content.decode("utf-8").strip()
    except age_text.NotEncrypted as error:
        raise Refused(f"an encrypted value cannot be opened: it {error.why}") from None
    except library.DecryptError as error:
        raise _not_opened(str(error), keys) from None
    except UnicodeDecodeError:
        raise Refused("an encrypted value holds something else than UTF-8 text") from None
    if not text:
        raise NotFound("an encrypted value is empty", hint="encrypt it again")
    return str(text)


def _not_opened(said: str, keys: Sequence[Any]) -> Refused:
    if "key" in said.lower():
        listed = ", ".join(recipients_of(keys)[:3])
        return Refused(
            "an encrypted value cannot be opened: it is for none of the keys of the settings, or was altered",
            hint=f"encrypt it again for {listed}",
        )
    return Refused("an encrypted value cannot be opened: it was altered", hint="encrypt it again")


def encrypted(secret: str, recipients: Sequence[str]) -> str:
    """A secret encrypted for each of the recipients, as it stands in a spec. Raises InvalidInput."""
    library = _library()
    if not 0 < len(recipients) <= RECIPIENTS_MAX:
        raise InvalidInput([Problem(message=f"a value is encrypted for 1 to {RECIPIENTS_MAX} recipients")])
    found = []
    for recipient in recipients:
        try:
            found.append(library.x25519.Recipient.from_str(recipient))
        except library.RecipientError:
            wrong = "a recipient is not the public half of a key of age"
            hint = "it begins with age1, and `reconciler secret keygen` tells it"
            raise InvalidInput([Problem(message=wrong, hint=hint)]) from None
    return base64.b64encode(library.encrypt(secret.encode(), found)).decode()


def _library() -> Any:
    try:
        import pyrage
    except ImportError:
        raise Refused(
            "encrypted values need the extra 'age', which is not installed",
            hint="pip install 'pg-reconciler[age]'",
        ) from None
    return pyrage
