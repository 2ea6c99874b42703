"""Who may ask for what: tokens with roles, and what is allowed where no token is configured."""

import hmac
from collections.abc import Sequence
from dataclasses import field
from enum import IntEnum
from fnmatch import fnmatchcase
from hashlib import sha256
from ipaddress import ip_address
from urllib.parse import urlsplit

from reconciler.errors import Refused
from reconciler.frozen import frozen

SECRET_CHARACTERS_MIN = 16
"""What is shorter can be guessed by whoever saw one signature, or has patience."""
ALL = ("*",)


class Role(IntEnum):
    """What a token may do; each role may do what the ones before it may."""

    READ = 1
    PROVISION = 2
    OPERATE = 3
    ADMIN = 4


@frozen
class Token:
    """A configured token; its value never shows in a repr."""

    name: str
    role: Role
    value: str = field(repr=False)
    environments: tuple[str, ...] = ALL


@frozen
class Caller:
    """Who sent a request: a token's name, or `local` where none is configured."""

    name: str
    role: Role
    environments: tuple[str, ...] = ALL

    @property
    def sees_all(self) -> bool:
        """Nothing is hidden from it."""
        return "*" in self.environments

    def sees(self, environment: str | None) -> bool:
        """Whether an environment is there for it; what is of no environment is for those who see all."""
        if self.sees_all:
            return True
        return environment is not None and any(fnmatchcase(environment, glob) for glob in self.environments)


LOCAL = Caller(name="local", role=Role.ADMIN)


def check_tokens(tokens: Sequence[Token]) -> None:
    """Refuse tokens that are short, and values that two names share: nobody could tell who asked."""
    owners: dict[bytes, str] = {}
    for token in tokens:
        if len(token.value) < SECRET_CHARACTERS_MIN:
            raise Refused(
                f"token '{token.name}' has less than {SECRET_CHARACTERS_MIN} characters",
                hint="make one with `openssl rand -hex 32`",
            )
        before = owners.setdefault(_digest(token.value), token.name)
        if before != token.name:
            raise Refused(
                f"tokens '{before}' and '{token.name}' have the same value", hint="give each one of its own"
            )


def authenticate(tokens: Sequence[Token], authorization: str | None) -> Caller | None:
    """Find whose bearer token it is; the time taken does not tell how near a guess was."""
    scheme, _, given = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not given:
        return None
    offered = _digest(given.strip())
    found: Caller | None = None
    for token in tokens:
        if hmac.compare_digest(_digest(token.value), offered):
            found = Caller(name=token.name, role=token.role, environments=token.environments)
    return found


def _digest(value: str) -> bytes:
    return sha256(value.encode("utf-8", "surrogateescape")).digest()


def is_loopback_host(host: str | None) -> bool:
    """Whether a Host header names this machine from within: what DNS rebinding cannot fake."""
    if host is None:
        return False
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name is not None and is_loopback_name(name)


def is_loopback_name(name: str) -> bool:
    """`localhost`, or an address of the loopback interface."""
    if name.lower().rstrip(".") == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


def is_own_origin(origin: str, host: str) -> bool:
    """Whether a request that a page sent comes from a page of ours."""
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and parts.netloc.lower() == host.lower()
