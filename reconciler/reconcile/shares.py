"""Which daemon passes over which environments: every daemon comes to the same answer by itself.

Highest random weight: when a daemon comes or goes, only the environments it takes or leaves change hands.
"""

from collections.abc import Collection, Iterable
from hashlib import blake2b


def share(names: Iterable[str], me: str, everyone: Collection[str]) -> frozenset[str]:
    """The names that are mine, among all who are alive (me included); nobody alive means that all are."""
    ranked = sorted(everyone)
    if not ranked:
        return frozenset(names)
    return frozenset(name for name in names if max(ranked, key=lambda who: _weight(name, who)) == me)


def _weight(name: str, who: str) -> bytes:
    return blake2b(f"{who}\0{name}".encode(), digest_size=8).digest()
