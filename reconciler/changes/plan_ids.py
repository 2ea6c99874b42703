"""Sqitch's ids of changes and tags: SHA-1 over their canonical text; nothing else identifies a change."""

import hashlib
import re

_UNSAFE = re.compile(r"[^A-Za-z0-9\-_.!~*'();/?:@&=+$,#%]")
_ESCAPE = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.!~*'()")
_HIERARCHY = re.compile(r"([A-Za-z][A-Za-z0-9.+-]*):(?://([^/?#]*))?([^#]*)(.*)", re.DOTALL)
_DEFAULT_PORTS = {
    "http": "80",
    "https": "443",
    "ftp": "21",
    "ssh": "22",
    "git": "9418",
    "ws": "80",
    "wss": "443",
}


def change_id(
    *,
    head: tuple[str, ...],
    name: str,
    parent: str | None,
    signature: tuple[str, str],
    dependencies: tuple[tuple[str, ...], tuple[str, ...]],
    note: str,
) -> str:
    """Return the id of a change; `head` is from `head_lines`, `signature` the planner and the date."""
    requires, conflicts = dependencies
    lines = [*head, f"change {name}"]
    if parent is not None:
        lines.append(f"parent {parent}")
    lines += [f"planner {signature[0]}", f"date {signature[1]}"]
    if requires:
        lines += ["requires", *(f"  + {each}" for each in requires)]
    if conflicts:
        lines += ["conflicts", *(f"  - {each}" for each in conflicts)]
    return _digest("change", lines, note)


def tag_id(*, head: tuple[str, ...], name: str, change: str, signature: tuple[str, str], note: str) -> str:
    """Return the id of a tag on the change with a given id."""
    lines = [*head, f"tag @{name}", f"change {change}", f"planner {signature[0]}", f"date {signature[1]}"]
    return _digest("tag", lines, note)


def head_lines(project: str, uri: str | None) -> tuple[str, ...]:
    """Return the lines that all ids of a project begin with."""
    return (f"project {project}", f"uri {canonical_uri(uri)}") if uri else (f"project {project}",)


def _digest(kind: str, lines: list[str], note: str) -> str:
    if note and note != "0":  # Sqitch is Perl, where the text "0" counts as none
        lines = [*lines, "", note]
    text = "\n".join(lines).encode("utf-8", "surrogatepass")
    return hashlib.sha1(b"%s %d\0" % (kind.encode(), len(text)) + text, usedforsecurity=False).hexdigest()


def canonical_uri(uri: str) -> str:
    """Write a URI as Perl's `URI->canonical` does, as far as project URIs go."""
    match = _HIERARCHY.fullmatch(_UNSAFE.sub(_escaped, uri))
    if match is None:
        return _ESCAPE.sub(_normal_escape, _UNSAFE.sub(_escaped, uri))
    scheme, authority, rest, fragment = match[1].lower(), match[2], match[3], match[4]
    rest, fragment = _ESCAPE.sub(_normal_escape, rest), _ESCAPE.sub(_normal_escape, fragment)
    if authority is None:
        return f"{scheme}:{rest}{fragment}"
    place = _canonical_authority(authority, uri, _DEFAULT_PORTS.get(scheme))
    if scheme in ("http", "https") and not rest.startswith("/"):
        rest = "/" + rest
    return f"{scheme}://{place}{rest}{fragment}"


def _canonical_authority(authority: str, uri: str, default_port: str | None) -> str:
    user, at, host = authority.rpartition("@")
    if "%" in host:
        host = _internationalised(uri) or host
    name, colon, port = host.partition(":")
    if colon and port in ("", default_port):
        colon = port = ""
    return f"{_ESCAPE.sub(_normal_escape, user)}{at}{name.lower()}{colon}{port}"


def _internationalised(uri: str) -> str | None:
    """Return the host of a URI with non-ASCII letters as DNS writes it."""
    authority = uri.split("//", 1)[1].split("/", 1)[0]
    try:
        return authority.rpartition("@")[2].encode("idna").decode("ascii")
    except UnicodeError:
        return None


def _escaped(match: re.Match[str]) -> str:
    return "".join(f"%{byte:02X}" for byte in match[0].encode("utf-8", "surrogatepass"))


def _normal_escape(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else f"%{match[1].upper()}"
