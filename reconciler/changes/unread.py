"""Say why a path of a source was not read: what was left out must not pass for what is not there."""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

NOTHING: Mapping[str, str] = MappingProxyType({})
HINT = "commit a plain file of 8 MiB at most in its place; links are not followed"


def why_unread(path: str, unread: Mapping[str, str]) -> str | None:
    """Return why a path was not read, itself or a folder it would be in; None where neither was left out.

    `unread` are the paths that were left out, from the root of the source, with the reason of each.
    """
    if not unread:
        return None
    if path in unread:
        return f"'{path}' was not read: {unread[path]}"
    for folder in _above(path):
        if folder in unread:
            return f"'{path}' was not read: '{folder}' is no folder: {unread[folder]}"
    return None


def _above(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path
