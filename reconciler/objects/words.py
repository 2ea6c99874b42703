"""The words that problems of object files are told in: findings in a text, quoted names, near names."""

import difflib
from collections.abc import Iterable
from itertools import islice

from reconciler.catalog.identifier import quote_qualified
from reconciler.frozen import frozen
from reconciler.objects.model import ObjectName

_NEAR_OF = 2_000
"""Names that are compared at most; comparing costs some microseconds each."""
_SHOWN_MAX = 140


@frozen
class Finding:
    """One thing wrong in a text, by its characters from 0: from where to where, what, and what to do."""

    offset: int
    message: str
    hint: str | None = None
    end: int | None = None


def shown(name: ObjectName) -> str:
    """Write a name as SQL has it, in quotes for people."""
    return f"'{quote_qualified(name.schema, name.name)[:_SHOWN_MAX]}'"


def meant(word: str, known: Iterable[str]) -> str | None:
    """Return `did you mean` with the nearest of some names, if one is near."""
    folded = {name.casefold(): name for name in islice(known, _NEAR_OF)}
    near = difflib.get_close_matches(word[:_SHOWN_MAX].casefold(), folded, n=1, cutoff=0.6)
    return f"did you mean '{folded[near[0]]}'?" if near else None


def joined(*hints: str | None) -> str | None:
    """Join hints into one."""
    return "; ".join(hint for hint in hints if hint) or None
