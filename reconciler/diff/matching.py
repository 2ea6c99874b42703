"""Pair what is deployed of a module with the lines of its plan file; it judges nothing.

Ids alone would not do: editing a note, a planner, a date or a line before moves the ids of all that follows.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from reconciler.frozen import frozen
from reconciler.state.desired import DesiredChange, DesiredModule
from reconciler.state.tracked import TrackedChange


@frozen
class Pair:
    """A deployed change and its place in the plan, None where it has none.

    `renamed`: the same script stands there under another name.
    """

    row: TrackedChange
    place: int | None
    renamed: bool = False


def pair(desired: DesiredModule, deployed: Sequence[TrackedChange]) -> tuple[Pair, ...]:
    """Pair every deployed change with a line of the plan, in the order of deployment.

    By id; else by name and script; else, between its neighbours, by whichever of name and script comes first;
    at last by script alone. So what is deployed is never taken for something new, wherever it went.
    """
    pairing = _Pairing(desired, deployed)
    pairing.by_id()
    pairing.by_name_and_script()
    pairing.in_place()
    pairing.by_script()
    return tuple(
        Pair(row=row, place=place, renamed=place is not None and pairing.is_renamed(row, place))
        for row, place in zip(deployed, pairing.places, strict=True)
    )


def plain_name(name: str) -> str:
    """The name of a change without the tag that tells an older instance of a reworked one."""
    return name.split("@", 1)[0]


_Named = TypeVar("_Named", TrackedChange, DesiredChange)
_Key = Callable[[DesiredChange], str | None]
_RowKey = Callable[[TrackedChange], str | None]
_SCRIPTS: tuple[tuple[_RowKey, _Key], ...] = (
    (lambda row: row.script_hash, lambda change: change.script_hash),
    (lambda row: row.parse_hash, lambda change: change.parse_hash),
)
"""Two scripts are the same by their bytes, or else by what they mean."""


class _Pairing:
    def __init__(self, desired: DesiredModule, deployed: Sequence[TrackedChange]) -> None:
        self._changes = desired.changes
        self._deployed = deployed
        self._beyond = frozenset(name for _id, name in desired.beyond_target)
        self._beyond_ids = frozenset(change_id for change_id, _name in desired.beyond_target)
        self._free = dict.fromkeys(range(len(self._changes)))
        self.places: list[int | None] = [None] * len(deployed)

    def is_renamed(self, row: TrackedChange, place: int) -> bool:
        return plain_name(row.name) != plain_name(self._changes[place].name)

    def by_id(self) -> None:
        known = {change.change_id: place for place, change in enumerate(self._changes)}
        for number, row in enumerate(self._deployed):
            if row.change_id in known:
                self._take(number, known[row.change_id])

    def by_name_and_script(self) -> None:
        for row_script, script in _SCRIPTS:
            rows = self._rows_by(partial(_named_script, of=row_script))
            places = self._places_by(partial(_named_script, of=script))
            for key, numbers in rows.items():
                for number, place in self._zip(numbers, places.get(key, [])):
                    self._take(number, place)

    def in_place(self) -> None:
        """Tell an edited change from a renamed one: between the same neighbours, what comes first is it."""
        named = self._named()
        by_script = [self._places_by(script) for _row, script in _SCRIPTS]
        following = self._following()
        before = -1
        for number, row in enumerate(self._deployed):
            place = self.places[number]
            if place is None:
                after = following[number]
                same = named.get(number)
                same = same if same in self._free else None
                other = None if self._is_beyond(row) else self._script_between(row, by_script, before, after)
                renamed = other is not None and not (same is not None and before < same < other)
                place = other if renamed else same
                if place is None:
                    continue
                self._take(number, place)
            before = place

    def by_script(self) -> None:
        """Pair what is left: renamed, and moved as well."""
        for row_script, script in _SCRIPTS:
            rows = self._rows_by(partial(self._unless_beyond, of=row_script))
            places = self._places_by(script)
            for key, numbers in rows.items():
                for number, place in zip(numbers, places.get(key, []), strict=False):
                    self._take(number, place)

    def _take(self, number: int, place: int) -> None:
        self.places[number] = place
        del self._free[place]

    def _unless_beyond(self, row: TrackedChange, *, of: _RowKey) -> str | None:
        return None if self._is_beyond(row) else of(row)

    def _is_beyond(self, row: TrackedChange) -> bool:
        return row.change_id in self._beyond_ids or row.name in self._beyond

    def _rows_by(self, key: Callable[[TrackedChange], object]) -> dict[object, list[int]]:
        found: dict[object, list[int]] = {}
        for number, row in enumerate(self._deployed):
            if self.places[number] is None and (value := key(row)) is not None:
                found.setdefault(value, []).append(number)
        return found

    def _places_by(self, key: Callable[[DesiredChange], object]) -> dict[object, list[int]]:
        found: dict[object, list[int]] = {}
        for place in sorted(self._free):
            if (value := key(self._changes[place])) is not None:
                found.setdefault(value, []).append(place)
        return found

    def _zip(self, numbers: Sequence[int], places: Sequence[int]) -> list[tuple[int, int]]:
        """Pair instances of one change in order: a rework adds the newer ones at the end.

        Where the plan has fewer of them, those with the same name first.
        """
        if len(numbers) <= len(places):
            return list(zip(numbers, places, strict=False))
        by_name = {self._changes[place].name: place for place in places}
        exact = [
            (number, place)
            for number in numbers
            if (place := by_name.pop(self._deployed[number].name, None)) is not None
        ]
        taken = {number for number, _place in exact}
        others = [number for number in numbers if number not in taken]
        return exact + list(zip(others, sorted(by_name.values()), strict=False))

    def _named(self) -> dict[int, int]:
        rows = self._rows_by(lambda row: plain_name(row.name))
        places = self._places_by(lambda change: plain_name(change.name))
        return dict(
            pair_ for name, numbers in rows.items() for pair_ in self._zip(numbers, places.get(name, []))
        )

    def _following(self) -> list[int]:
        """For every deployed change the place of the next one that has one."""
        found = [len(self._changes)] * len(self._deployed)
        following = len(self._changes)
        for number in range(len(self._deployed) - 1, -1, -1):
            found[number] = following
            following = self.places[number] if self.places[number] is not None else following  # type: ignore[assignment]
        return found

    def _script_between(
        self, row: TrackedChange, by_script: Sequence[dict[object, list[int]]], before: int, after: int
    ) -> int | None:
        for (row_script, _script), known in zip(_SCRIPTS, by_script, strict=True):
            places = known.get(row_script(row), [])
            for place in places[bisect_right(places, before) :]:
                if place >= after:
                    break
                if place in self._free:
                    return place
        return None


def _named_script(change: _Named, *, of: Callable[[_Named], str | None]) -> tuple[str, str] | None:
    """The name with the script; None where the script is not known."""
    script = of(change)
    return (plain_name(change.name), script) if script is not None else None
