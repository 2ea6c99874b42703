"""Says how the grants on an object differ, in the words of GRANT; pure.

A definition holds what differs from the privileges an object has by default: `grants` beyond them, `revoked`
out of them, as PostgreSQL writes access control items (`bob=r*w/owner`).
"""

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

_WORDS = {
    "r": "SELECT",
    "a": "INSERT",
    "w": "UPDATE",
    "d": "DELETE",
    "D": "TRUNCATE",
    "x": "REFERENCES",
    "t": "TRIGGER",
    "m": "MAINTAIN",
    "X": "EXECUTE",
    "U": "USAGE",
    "C": "CREATE",
    "c": "CONNECT",
    "T": "TEMPORARY",
    "s": "SET",
    "A": "ALTER SYSTEM",
}
_ITEM = re.compile(
    r'(?P<grantee>"(?:[^"]|"")*"|[^=]*)=(?P<letters>(?:[a-zA-Z]\*?)*)/(?P<grantor>.*)', re.DOTALL
)
_LETTER = re.compile(r"[a-zA-Z]\*?")


def describe_grants(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Compare `grants` and `revoked` of two definitions."""
    if before.get("grants") == after.get("grants") and before.get("revoked") == after.get("revoked"):
        return []
    old, new = _net(before), _net(after)
    details = []
    for word, change in (("removed", old - new), ("added", new - old)):
        for grantee in sorted({grantee for grantee, _letter in change}):
            letters = [letter for who, letter in change if who == grantee]
            privileges = ", ".join(sorted(_privilege(letter) for letter in letters))
            details.append(f"grant {privileges} to {grantee} {word}")
    if details:
        return details
    return [] if before.get("owner") != after.get("owner") else ["who granted its privileges differs"]


def _net(attributes: Mapping[str, Any]) -> Counter[tuple[str, str]]:
    """Privileges beyond the default count up, those taken out of it count down."""
    net: Counter[tuple[str, str]] = Counter()
    for key, sign in (("grants", 1), ("revoked", -1)):
        items = attributes.get(key)
        for item in items if isinstance(items, list) else ():
            match = _ITEM.fullmatch(str(item))
            if match is None:
                continue
            grantee = match["grantee"] or "PUBLIC"
            for letter in _LETTER.findall(match["letters"]):
                net[grantee, letter] += sign
    return net


def _privilege(letter: str) -> str:
    word = _WORDS.get(letter[0], letter[0])
    return f"{word} with grant option" if letter.endswith("*") else word
