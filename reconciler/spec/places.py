"""Where the values of a YAML text begin and end and how they are written; knows nothing of what they mean."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Literal

import yaml

from reconciler.frozen import frozen
from reconciler.spec.words import Path


@frozen
class Place:
    """A value, from its first character to behind its last one; comments behind it are not part of it.

    `style` tells how a scalar is quoted (nothing, `'`, `"`, `|` or `>`), `flow` that a list or mapping stands
    in brackets or braces. A value that was left out is as long as nothing.
    """

    start: int
    end: int
    kind: Literal["scalar", "alias", "sequence", "mapping"]
    style: str = ""
    flow: bool = False
    entries: tuple["Entry", ...] = ()
    items: tuple["Item", ...] = ()

    def entry(self, key: str) -> "Entry | None":
        """The entry of a mapping by its key."""
        return next((entry for entry in self.entries if entry.key == key), None)

    def below(self, path: Path) -> "Place | None":
        """The value at a path; None where there is none, or where an alias stands for it."""
        here: Place | None = self
        for part in path:
            if here is None:
                return None
            if isinstance(part, int):
                here = here.items[part].value if part < len(here.items) else None
            else:
                entry = here.entry(part)
                here = entry.value if entry is not None else None
        return here if here is None or here.kind != "alias" else None


@frozen
class Entry:
    """A key of a mapping with its value; no key where that is not a string."""

    key: str | None
    start: int
    key_end: int
    value: Place

    @property
    def end(self) -> int:
        """Where the value ends, or the key that has none."""
        return max(self.key_end, self.value.end)


@frozen
class Item:
    """An item of a list; one that is not in brackets stands behind a dash."""

    dash: int | None
    value: Place

    @property
    def start(self) -> int:
        """Where the item begins, with its dash."""
        return self.dash if self.dash is not None else self.value.start

    @property
    def end(self) -> int:
        """Where the item ends."""
        return self.value.end if self.dash is None else max(self.dash + 1, self.value.end)


def documents(text: str) -> tuple[Place, ...]:
    """The documents of a text that was read before, within limits, and is sound."""
    dashes = [
        token.start_mark.index
        for token in yaml.scan(text, Loader=yaml.CSafeLoader)
        if isinstance(token, yaml.BlockEntryToken)
    ]
    reader = _Reader(text, dashes)
    return tuple(reader.documents())


class _Reader:
    """Turns events into places; recursion is as deep as the text nests, which was bounded before."""

    def __init__(self, text: str, dashes: Sequence[int]) -> None:
        self._text = text
        self._dashes = dashes
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=yaml.CSafeLoader)

    def documents(self) -> Iterator[Place]:
        """Every document."""
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                yield self._place(next(self._events))

    def _place(self, event: yaml.Event) -> Place:
        start, end = _start(event), _end(event)
        match event:
            case yaml.AliasEvent():
                return Place(start=start, end=end, kind="alias")
            case yaml.SequenceStartEvent():
                return self._sequence(event, start)
            case yaml.MappingStartEvent():
                return self._mapping(event, start)
            case yaml.ScalarEvent():
                style = event.style or ""
                if style in ("|", ">"):
                    # The lines behind it that are empty are read with it.
                    end = start + len(self._text[start:end].rstrip())
                return Place(start=start, end=end, kind="scalar", style=style)
            case _:
                raise AssertionError(f"no value begins with {type(event).__name__}")

    def _sequence(self, event: yaml.SequenceStartEvent, start: int) -> Place:
        items: list[Item] = []
        flow = bool(event.flow_style)
        while not isinstance(following := next(self._events), yaml.SequenceEndEvent):
            value = self._place(following)
            dash = None if flow else self._dashes[bisect_left(self._dashes, value.start) - 1]
            if dash is not None and _is_nothing(value):
                value = Place(start=dash + 1, end=dash + 1, kind="scalar")
            items.append(Item(dash=dash, value=value))
        end = _end(following) if flow or not items else items[-1].end
        return Place(start=start, end=end, kind="sequence", flow=flow, items=tuple(items))

    def _mapping(self, event: yaml.MappingStartEvent, start: int) -> Place:
        entries: list[Entry] = []
        flow = bool(event.flow_style)
        while not isinstance(following := next(self._events), yaml.MappingEndEvent):
            key = self._place(following)
            name = following.value if isinstance(following, yaml.ScalarEvent) else None
            value = self._place(next(self._events))
            if _is_nothing(value):
                value = Place(start=key.end, end=key.end, kind="scalar")
            entries.append(Entry(key=name, start=key.start, key_end=key.end, value=value))
        end = _end(following) if flow or not entries else entries[-1].end
        return Place(start=start, end=end, kind="mapping", flow=flow, entries=tuple(entries))


def _is_nothing(value: Place) -> bool:
    return value.kind == "scalar" and value.start == value.end


def _start(event: yaml.Event) -> int:
    assert event.start_mark is not None
    return event.start_mark.index


def _end(event: yaml.Event) -> int:
    assert event.end_mark is not None
    return event.end_mark.index
