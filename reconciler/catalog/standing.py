"""Drift that stands while we write: kept out of the next base line, so that it stays drift."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from reconciler.catalog.identifier import quote_identifier
from reconciler.catalog.model import CatalogObject


@dataclass(frozen=True, slots=True)
class Standing:
    """One object that differed before we wrote: as the base line has it, and as it was; None for absent."""

    base: CatalogObject | None
    live: CatalogObject | None


def standing(base: Mapping[str, CatalogObject], live: Mapping[str, CatalogObject]) -> dict[str, Standing]:
    """What differs between the base line and what is there, by identity."""
    return {
        key: Standing(base.get(key), live.get(key))
        for key in base.keys() | live.keys()
        if not _same(base.get(key), live.get(key))
    }


def base_line_after(
    live: Mapping[str, CatalogObject], before: Mapping[str, Standing]
) -> Mapping[str, CatalogObject]:
    """The base line to store after our writes: what is there, but for drift that our writes did not touch.

    What we altered is ours from here on, whatever a person had done to it before.
    """
    untouched = {key: was for key, was in before.items() if _same(was.live, live.get(key))}
    if not untouched:
        return live
    after = dict(live)
    for key, was in untouched.items():
        if was.base is None:
            after.pop(key, None)
        else:
            after[key] = was.base
    return after


def but_of(before: Mapping[str, Standing], schemas: Collection[str]) -> Mapping[str, Standing]:
    """Leave out what is of schemas that are gone for good, as the base line had them."""
    if not before or not schemas:
        return before
    names = {quote_identifier(name) for name in schemas}
    inside = tuple(f"{name}." for name in names)
    return {
        key: was
        for key, was in before.items()
        if was.base is None or not (was.base.name in names or was.base.name.startswith(inside))
    }


def _same(one: CatalogObject | None, other: CatalogObject | None) -> bool:
    if one is None or other is None:
        return one is other
    return one.fingerprint == other.fingerprint
