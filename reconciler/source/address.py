"""Judge addresses and names before Git sees them: URLs, paths, branch names, commit ids.

Pure text in, values or `Refused` out. It reads no file and never relays a user, a password or a query.
"""

import re
from dataclasses import field
from enum import StrEnum
from posixpath import normpath
from urllib.parse import SplitResult, unquote, urlsplit

from reconciler.errors import Refused
from reconciler.frozen import frozen

_URL_CHARACTERS_MAX = 2048
_REF_CHARACTERS_MAX = 255
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\]")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+@-]*")
_SCP_LIKE = re.compile(r"(?:(?P<user>[^@/:]*)@)?(?P<host>\[[^\]]*\]|[^@/:]+):(?P<path>.+)")
_TRANSPORT_HELPER = re.compile(r"[A-Za-z0-9+.-]*::")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
_COMMIT_ID = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")
_SHORT_ID = re.compile(r"[0-9a-f]{7,63}")
_SOURCE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class Protocol(StrEnum):
    """The protocols a source may speak, as Git's allow list spells them."""

    FILE = "file"
    HTTPS = "https"
    HTTP = "http"
    SSH = "ssh"


@frozen
class Address:
    """Where a source is. `url` is what Git is given, `shown` what people see; neither holds a password."""

    protocol: Protocol
    url: str = field(repr=False)
    shown: str
    path: str | None = None  # the absolute path of a local source
    username: str | None = None
    password: str | None = field(default=None, repr=False)


def parse(url: str, *, relative_to: str = "/") -> Address:
    """Read a URL, an scp-like address or a local path; refuse whatever Git might take for something else."""
    _refuse_odd_text(url)
    if "://" in url:
        return _from_url(url)
    scp_like = _SCP_LIKE.fullmatch(url)
    if scp_like:
        return _from_scp_like(scp_like)
    return _local(url if url.startswith("/") else f"{relative_to}/{url}")


def _refuse_odd_text(url: str) -> None:
    if not url or len(url) > _URL_CHARACTERS_MAX:
        raise Refused("reading the url of a source: it is empty or longer than 2048 characters")
    if url.startswith("-"):
        raise Refused("reading the url of a source: it begins with '-', which git would take for an option")
    if _TRANSPORT_HELPER.match(url):
        raise Refused(
            "reading the url of a source: it names a transport helper ('helper::address')",
            hint="use https://, ssh://, file:// or a local path",
        )
    if any(character.isspace() and character != " " for character in url) or not url.isprintable():
        raise Refused("reading the url of a source: it holds control characters")


def _from_url(url: str) -> Address:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Refused("reading the url of a source: it is not a well-formed url") from None
    protocol = next((known for known in Protocol if known.value == parts.scheme), None)
    if protocol is None:
        raise Refused(
            f"reading the url of a source: the protocol {parts.scheme!r} is not allowed",
            hint="use https://, ssh://, file:// or a local path",
        )
    if protocol is Protocol.FILE:
        return _from_file_url(parts)
    if " " in url:
        raise Refused("reading the url of a source: it holds a space")
    return _from_network_url(parts, protocol, port)


def _from_file_url(parts: SplitResult) -> Address:
    path = unquote(parts.path)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not path.isprintable():
        raise Refused(
            "reading the url of a source: a file:// url is 'file:///absolute/path' and nothing more"
        )
    return _local(path)


def _from_network_url(parts: SplitResult, protocol: Protocol, port: int | None) -> Address:
    host = _host_of(parts)
    if protocol is Protocol.HTTP and host not in _LOOPBACK:
        raise Refused(
            f"reading the url of a source: plain http to {host!r} is not allowed", hint="use https://"
        )
    if parts.query or parts.fragment or parts.path in ("", "/"):
        raise Refused(
            f"reading the url of a source at {host!r}: it must have a path, and no query or fragment",
            hint="give a token as the credentials of the source",
        )
    place = f"{host}:{port}" if port else host
    shown = f"{protocol}://{place}{parts.path}"
    if protocol is Protocol.SSH:
        return _ssh(parts, place, shown)
    return Address(
        protocol=protocol,
        url=shown,
        shown=shown,
        username=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
    )


def _host_of(parts: SplitResult) -> str:
    name = parts.hostname or ""
    host = f"[{name}]" if ":" in name else name
    if not _HOST.fullmatch(host):
        raise Refused("reading the url of a source: its host is missing or malformed")
    return host


def _ssh(parts: SplitResult, place: str, shown: str) -> Address:
    if parts.password is not None:
        raise Refused(
            "reading the url of a source: an ssh url must not hold a password", hint="use a key file instead"
        )
    user = unquote(parts.username or "")
    _check_user(user)
    url = f"ssh://{user}@{place}{parts.path}" if user else shown
    return Address(protocol=Protocol.SSH, url=url, shown=shown)


def _check_user(user: str) -> None:
    if user and not _USER.fullmatch(user):
        raise Refused("reading the url of a source: its ssh user is malformed")


def _from_scp_like(match: re.Match[str]) -> Address:
    user, host, path = match["user"] or "", match["host"], match["path"]
    _check_user(user)
    if not _HOST.fullmatch(host) or path.startswith("-") or " " in path:
        raise Refused("reading the url of a source: its ssh host or path is malformed")
    shown = f"{host}:{path}"
    return Address(protocol=Protocol.SSH, url=f"{user}@{shown}" if user else shown, shown=shown)


def _local(path: str) -> Address:
    if not path.startswith("/"):
        raise Refused("reading the url of a source: a local path must be absolute")
    clean = "/" + normpath(path).lstrip("/")
    return Address(protocol=Protocol.FILE, url=clean, shown=clean, path=clean)


def check_source_name(name: str) -> None:
    """Refuse a source name that is not one plain path segment."""
    if not _SOURCE_NAME.fullmatch(name) or name.endswith(".lock"):
        raise Refused(f"opening source {name!r}: a name is letters, digits, '.', '_' and '-', 63 at most")


def is_commit_id(text: str) -> bool:
    """Whether the text is a whole commit id."""
    return _COMMIT_ID.fullmatch(text) is not None


def is_short_id(text: str) -> bool:
    """Whether the text could be the beginning of a commit id, long enough to mean one."""
    return _SHORT_ID.fullmatch(text) is not None


def is_ref_name(name: str) -> bool:
    """Whether Git would take the text as the name of a branch or a tag (the rules of check-ref-format)."""
    if (
        not name
        or len(name) > _REF_CHARACTERS_MAX
        or name.startswith(("-", "/"))
        or name.endswith(("/", "."))
    ):
        return False
    if name == "@" or any(bad in name for bad in ("..", "//", "@{")):
        return False
    if any(ord(character) < 33 or character in '~^:?*[\\\x7f"' for character in name):
        return False
    if not name.isprintable():
        return False
    return not any(part.startswith(".") or part.endswith(".lock") for part in name.split("/"))


def check_ref_name(name: str, kind: str) -> str:
    """Return the name of a branch or tag, or refuse it."""
    if not is_ref_name(name):
        raise Refused(f"reading {kind} {name[:_REF_CHARACTERS_MAX]!r}: git does not allow such a name")
    return name


def check_prefix(prefix: str) -> str:
    """Return a folder of a commit in its plain form, '' for the whole; refuse one that leads outside."""
    plain = prefix.strip("/")
    if plain in ("", "."):
        return ""
    if prefix.startswith("/") or "\0" in prefix or any(part in ("", ".", "..") for part in plain.split("/")):
        raise Refused(f"reading {prefix!r}: a path is relative to the root of the source and never leads up")
    return plain
