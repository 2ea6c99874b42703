"""Who may ask for what: tokens with roles, and what is allowed where no token is configured."""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from hashlib import sha256
from ipaddress import ip_address
from urllib.parse import urlsplit


class Role(IntEnum):
    """What a token may do; each role may do what the ones before it may."""

    READ = 1
    PROVISION = 2
    OPERATE = 3
    ADMIN = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A configured token; its value never shows in a repr."""

    name: str
    role: Role
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who sent a request: a token's name, or `local` where none is configured."""

    name: str
    role: Role


LOCAL = Caller(name="local", role=Role.ADMIN)


def authenticate(tokens: Sequence[Token], authorization: str | None) -> Caller | None:
    """Find whose bearer token it is; the time taken does not tell how near a guess was."""
    scheme, _, given = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not given:
        return None
    offered = _digest(given.strip())
    found: Caller | None = None
    for token in tokens:
        if hmac.compare_digest(_digest(token.value), offered):
            found = Caller(name=token.name, role=token.role)
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
