"""Read the JSON that the parser writes of a tree, however deep; it knows nothing of SQL."""

import json
import re
from typing import Any

_MARK = re.compile(rb'"(?:[^"\\]++|\\.)*+"|[{}\[\]]|[^\s,:\[\]{}"]+')
_OPENING = {b"{": dict, b"[": list}


def loads(tree: bytes) -> Any:
    """Read JSON; what is nested deeper than the recursion of Python's reader goes is read by marks."""
    try:
        return json.loads(tree)
    except RecursionError:
        return _loads_deep(tree)


def _loads_deep(tree: bytes) -> Any:
    """Read JSON that is known to be well-formed, with a stack of its own: some twenty times as slow."""
    top: list[Any] = []
    open_now: list[Any] = [top]
    keys: list[str | None] = [None]
    for mark in _MARK.finditer(tree):
        text = mark.group()
        around = open_now[-1]
        if text in (b"}", b"]"):
            open_now.pop()
            keys.pop()
            continue
        if type(around) is dict and keys[-1] is None:
            keys[-1] = json.loads(text)
            continue
        opening = _OPENING.get(text)
        value = json.loads(text) if opening is None else opening()
        if type(around) is dict:
            around[keys[-1]] = value
            keys[-1] = None
        else:
            around.append(value)
        if opening is not None:
            open_now.append(value)
            keys.append(None)
    return top[0]
