"""References to changes as plan files write them: taken apart, and nothing looked up."""

import re
from difflib import get_close_matches

from reconciler.changes.plan_lines import is_name
from reconciler.frozen import frozen

_ID = re.compile(r"[0-9a-f]{40}")
_SUGGEST_AMONG = 5_000


@frozen
class Reference:
    """`[project:](name[@tag] | @tag | id)`, taken apart."""

    project: str | None = None
    name: str | None = None
    tag: str | None = None
    id: str | None = None

    @property
    def key(self) -> str:
        """The reference without its project."""
        return self.id or (self.name or "") + (f"@{self.tag}" if self.tag is not None else "")


def parse(text: str) -> Reference | None:
    """Take a reference apart; None where it is not well-formed."""
    before, colon, after = text.partition(":")
    project, rest = (before, after) if colon else (None, text)
    if project is not None and not is_name(project):
        return None
    if _ID.fullmatch(rest):
        return Reference(project=project, id=rest)
    name, at, tag = rest.partition("@")
    if (name and not is_name(name)) or (at and not is_name(tag)) or not rest:
        return None
    return Reference(project=project, name=name or None, tag=tag if at else None)


def closest(wanted: str, known: list[str]) -> str | None:
    """Return the name that was most likely meant."""
    found = get_close_matches(wanted, known[:_SUGGEST_AMONG], n=1)
    return found[0] if found else None
