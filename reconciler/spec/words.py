"""The words that problems are told in: places, quoted names, hints; never a value that may be a secret."""

import difflib
import re
from collections.abc import Iterable
from heapq import nlargest

Path = tuple[str | int, ...]
"""Keys and list positions from the root of a document."""

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]{1,63}|[?]")
_SHOWN_MAX = 63
_NAMES_MAX = 12
_COMPARED_MAX = 100


def path_text(path: Path) -> str:
    """Write a path as people do: `spec.components[2].database`."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif _PLAIN_KEY.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{shown(part)}]"
    return text


def shown(value: str) -> str:
    """Quote a value that a person wrote, unless it is long, unprintable or looks like a connection string."""
    if len(value) > _SHOWN_MAX:
        return f"of {len(value)} characters"
    if "://" in value or "password" in value.lower():
        return "that looks like a connection string"
    return f"'{value}'" if value.isprintable() else f"'{value.encode('unicode_escape').decode('ascii')}'"


def with_article(kind: str) -> str:
    """Return a kind as a sentence has it: a Module, an Objects component."""
    return f"an {kind} component" if kind[:1] in {"A", "E", "I", "O", "U"} else f"a {kind}"


def did_you_mean(word: str, known: Iterable[str], what: str) -> str:
    """Return the hint for an unknown word: the nearest known one, else all of them."""
    names = sorted(set(known))
    if not names:
        return f"there are no {what}"
    folded = {name.casefold(): name for name in names}
    wanted = word[:_SHOWN_MAX].casefold()
    likely = _likely(wanted, folded) if len(folded) > _COMPARED_MAX else folded
    if near := difflib.get_close_matches(wanted, likely, n=1, cutoff=0.6):
        return f"did you mean '{folded[near[0]]}'?"
    listed = ", ".join(names[:_NAMES_MAX])
    rest = f" and {len(names) - _NAMES_MAX} more" if len(names) > _NAMES_MAX else ""
    return f"known {what}: {listed}{rest}"


def _likely(word: str, names: Iterable[str]) -> list[str]:
    """Those of many names that begin or end as a word does: comparing it with each in full takes long."""

    def alike(name: str) -> tuple[int, int]:
        begin = _common(name, word)
        return begin + _common(name[begin:][::-1], word[begin:][::-1]), -len(name)

    return nlargest(_COMPARED_MAX, names, key=alike)


def _common(name: str, word: str) -> int:
    """How many characters two texts begin with alike."""
    pairs = enumerate(zip(name, word, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(name), len(word)))
