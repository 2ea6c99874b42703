"""Whether a webhook was signed with a secret; looks at bytes and headers only, and parses no body.

Every comparison takes the same time whatever was sent, and every check makes the same computations.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from enum import StrEnum
from hashlib import sha256

STANDARD_PREFIX = "whsec_"
"""How secrets of the form begin that the Standard Webhooks describe; GitLab calls them signing tokens."""
SIGNED_WITHIN_S = 24 * 3600
"""A signed time further from ours is refused; until then the delivery's id is remembered."""


class Provider(StrEnum):
    """Whose form a webhook has."""

    GITHUB = "github"
    GITLAB = "gitlab"
    GITEA = "gitea"
    FORGEJO = "forgejo"
    HMAC = "hmac"


_SIGNATURES = {
    Provider.GITHUB: ("x-hub-signature-256",),
    Provider.GITLAB: (),
    Provider.GITEA: ("x-gitea-signature", "x-hub-signature-256"),
    Provider.FORGEJO: ("x-forgejo-signature", "x-gitea-signature", "x-hub-signature-256"),
    Provider.HMAC: ("x-signature-256",),
}
"""Headers with the signature of the body in hexadecimal digits; the first that is there is checked."""

_DELIVERIES = {
    Provider.GITHUB: ("x-github-delivery",),
    Provider.GITLAB: ("webhook-id", "idempotency-key", "x-gitlab-event-uuid"),
    Provider.GITEA: ("x-gitea-delivery",),
    Provider.FORGEJO: ("x-forgejo-delivery", "x-gitea-delivery"),
    Provider.HMAC: ("x-delivery",),
}

_EVENTS = {
    Provider.GITHUB: "x-github-event",
    Provider.GITLAB: "x-gitlab-event",
    Provider.GITEA: "x-gitea-event",
    Provider.FORGEJO: "x-forgejo-event",
}


def is_signed(provider: Provider, secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether what arrived was signed with the secret; `now` is seconds since 1970."""
    digest = hmac.new(secret.encode(), body, sha256).hexdigest()
    shown = _same(_first(headers, _SIGNATURES[provider]).removeprefix("sha256="), digest)
    token = _same(headers.get("x-gitlab-token", ""), secret)
    standard = _is_standard(secret, headers, body, now)
    if provider is not Provider.GITLAB:
        return shown
    return standard if secret.startswith(STANDARD_PREFIX) else token


def _is_standard(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> bool:
    try:
        key = base64.b64decode(secret.removeprefix(STANDARD_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    identity, moment = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    text = f"{identity}.{moment}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.new(key, text, sha256).digest()).decode()
    found = False
    for signature in headers.get("webhook-signature", "").split(" ")[:8]:
        found |= _same(signature, wanted)
    recent = (
        moment.isascii()
        and moment.isdigit()
        and len(moment) <= 12
        and abs(now - int(moment)) <= SIGNED_WITHIN_S
    )
    return found and recent and len(key) > 0


def delivery_of(provider: Provider, headers: Mapping[str, str]) -> str | None:
    """What the provider calls the delivery, where it does; an id that cannot be kept is none."""
    found = _first(headers, _DELIVERIES[provider])
    return found if 0 < len(found) <= 200 and found.isascii() and found.isprintable() else None


def event_of(provider: Provider, headers: Mapping[str, str]) -> str:
    """What happened, in the words of the provider; empty where it does not say."""
    name = _EVENTS.get(provider)
    found = headers.get(name, "") if name is not None else ""
    return found or (headers.get("x-gitea-event", "") if provider is Provider.FORGEJO else "")


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((headers[name] for name in names if name in headers), "")


def _same(given: str, wanted: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), wanted.encode())
