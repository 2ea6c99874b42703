"""Digests of plans and of the states they were made from: SHA-256 over canonical JSON."""

import hashlib
import json
from collections.abc import Iterator
from typing import Any

_LEVELS = 4
"""So deep a value is written piece by piece: down to the steps of the stages of a plan."""
_JSON = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def digest(value: Any) -> str:
    """`sha256:` and the hash of a JSON-able value; the order of keys does not matter.

    An iterator counts as the list of what it gives, and its items are not kept: long plans are digested so.
    """
    found = hashlib.sha256()
    for piece in _pieces(value, _LEVELS):
        found.update(piece.encode("utf-8", "surrogatepass"))
    return "sha256:" + found.hexdigest()


def _pieces(value: Any, levels: int) -> Iterator[str]:
    """The canonical text of a value, a long one never as a whole."""
    if isinstance(value, dict) and levels:
        before = "{"
        for key in sorted(value):
            yield f"{before}{_JSON.encode(key)}:"
            yield from _pieces(value[key], levels - 1)
            before = ","
        yield "}" if value else "{}"
    elif isinstance(value, list | tuple | Iterator) and levels:
        before = "["
        for item in value:
            yield before
            yield from _pieces(item, levels - 1)
            before = ","
        yield "]" if before == "," else "[]"
    else:
        yield _JSON.encode(value)
