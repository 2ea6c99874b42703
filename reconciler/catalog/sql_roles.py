"""Which roles a text names and which it makes, from its trees; it parses nothing itself."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reconciler.frozen import frozen

_MAKES = re.compile(
    r"\bcreate\s+(?:role|user)\s+(?:if\s+not\s+exists\s+)?(\"(?:[^\"]|\"\")+\"|\w+)", re.IGNORECASE
)
_SERVERS = "pg_"
"""What names of roles that the server brings begin with."""


@frozen
class Roles:
    """Roles that statements name outright, and those that the text makes, also in the bodies of `DO`."""

    named: frozenset[str]
    made: frozenset[str]


def read(trees: Iterable[Mapping[str, Any]], text: str) -> Roles:
    """Take the roles out of the trees of a text's statements; those of the server itself are left out."""
    named = {name for tree in trees for name in _named(tree)}
    return Roles(
        named=frozenset(name for name in named if not name.startswith(_SERVERS)),
        made=frozenset(_plain(found) for found in _MAKES.findall(text)),
    )


def _named(tree: Mapping[str, Any]) -> Iterator[str]:
    pending: list[tuple[str, Any]] = [("", tree)]
    while pending:
        node, value = pending.pop()
        if isinstance(value, Mapping):
            if value.get("roletype") == "ROLESPEC_CSTRING":
                yield str(value.get("rolename"))
            if node == "GrantRoleStmt":
                granted = value.get("granted_roles") or []
                yield from (str(each["AccessPriv"]["priv_name"]) for each in granted)
            # What is being made is no role that has to be there.
            pending.extend(item for item in value.items() if item[0] != "CreateRoleStmt")
        elif isinstance(value, list):
            pending.extend(("", item) for item in value)


def _plain(written: str) -> str:
    if written.startswith('"'):
        return written[1:-1].replace('""', '"')
    return written.lower()
