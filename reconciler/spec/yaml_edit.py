"""Change values of a YAML text and leave every other byte as it is; knows nothing of what they mean.

What a change has to make of the values is worked out beside the text, and the new text is read again: where
the two do not agree (an anchor that others use, a layout that cannot be kept), nothing is edited.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from reconciler.frozen import frozen
from reconciler.spec import yaml_text
from reconciler.spec.places import Entry, Item, Place, documents
from reconciler.spec.words import Path, path_text

Fields = Mapping[str, str]
Value = str | bool | Sequence[Fields]

_WORDS_OF_OTHERS = frozenset({"y", "n", "yes", "no", "on", "off"})
"""Strings to us, true or false to other readers of YAML: they get quotes."""
_ESCAPES = {2: "x", 4: "u", 8: "U"}


class CannotEdit(Exception):
    """A text that is not edited; `line` is where it stands, where that is known."""

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.line = line


@frozen
class SetKey:
    """Give a key of the mapping at a path a value; a new key comes behind the last of `after`, else first."""

    path: Path
    key: str
    value: Value
    after: tuple[str, ...] = ()


@frozen
class DropKey:
    """Take a key out of the mapping at a path."""

    path: Path
    key: str


@frozen
class InsertItem:
    """Put a mapping into the list at a path."""

    path: Path
    index: int
    value: Fields


@frozen
class DropItem:
    """Take an item out of the list at a path."""

    path: Path
    index: int


@frozen
class MoveItem:
    """Move an item of the list at a path to where it stands afterwards."""

    path: Path
    index: int
    to: int


Change = SetKey | DropKey | InsertItem | DropItem | MoveItem
Splice = tuple[int, int, str]
"""From, to, and what stands there instead."""


def edit(content: bytes, document: int, changes: Sequence[Change]) -> bytes:
    """Carry changes out on one document of a sound text; each names its place as it was before all of them.

    Raises CannotEdit.
    """
    text, problem = yaml_text.decoded("", content)
    loaded = yaml_text.load("", content)
    if problem is not None or loaded.problems:
        raise CannotEdit("the text is not sound")
    root = documents(text)[document]
    splices = sorted(splice for change in changes for splice in _splices(text, root, change))
    parts, at = [], 0
    for start, end, replacement in splices:
        if start < at:
            raise CannotEdit("the changes are too close to each other", _line(text, start))
        parts += [text[at:start], replacement]
        at = end
    edited = "".join([*parts, text[at:]])
    expected = [each.plain() for each in loaded.documents]
    for change in changes:
        _carry_out(expected[document], change)
    made = yaml_text.load("", edited.encode())
    if made.problems or [each.plain() for each in made.documents] != expected:
        raise CannotEdit(
            f"the layout of {path_text(changes[0].path)} cannot be kept, or an anchor would change more",
            _line(text, splices[0][0]),
        )
    mark = "\ufeff" if content.startswith(b"\xef\xbb\xbf") else ""
    return (mark + edited).encode()


def _carry_out(data: Any, change: Change) -> None:
    """Make a change in values."""
    target = data
    for part in change.path:
        target = target[part]
    match change:
        case SetKey():
            target[change.key] = deepcopy(change.value)
        case DropKey():
            del target[change.key]
        case InsertItem():
            target.insert(change.index, dict(change.value))
        case DropItem():
            del target[change.index]
        case MoveItem():
            target.insert(change.to, target.pop(change.index))


def _splices(text: str, root: Place, change: Change) -> Iterator[Splice]:
    place = root.below(change.path)
    if place is None:
        raise CannotEdit(f"an alias stands for {path_text(change.path)}", _line(text, root.start))
    match change:
        case SetKey():
            yield _set_key(text, place, change)
        case DropKey():
            yield _drop_key(text, place, change.key)
        case InsertItem():
            yield _insert_item(text, place, change)
        case DropItem():
            yield _drop_item(text, place, change.index)
        case MoveItem():
            yield from _move_item(text, place, change)


def _set_key(text: str, place: Place, change: SetKey) -> Splice:
    entry = place.entry(change.key)
    if entry is not None:
        return _set_value(text, place, entry, change.value)
    before = [each for each in place.entries if each.key in change.after]
    if not place.entries:
        raise CannotEdit("an empty mapping takes no key", _line(text, place.start))
    if place.flow:
        pair = f"{change.key}: {_flow(change.value)}"
        if before:
            return (before[-1].end, before[-1].end, f", {pair}")
        return (place.entries[0].start, place.entries[0].start, f"{pair}, ")
    indent = " " * _column(text, place.entries[0].start)
    pair = f"{change.key}:{_behind_key(text, change.value, indent)}"
    if before:
        at = _line_end(text, before[-1].end)
        return (at, at, f"{_newline(text)}{indent}{pair}")
    at = place.entries[0].start
    return (at, at, f"{pair}{_newline(text)}{indent}")


def _set_value(text: str, place: Place, entry: Entry, value: Value) -> Splice:
    old = entry.value
    if old.start != old.end and isinstance(value, str | bool) and old.kind == "scalar":
        return (old.start, old.end, _scalar(value, quote=old.style, flow=place.flow))
    colon = text.find(":", entry.key_end)
    end = max(colon + 1, old.end)
    if place.flow:
        return (colon + 1, end, f" {_flow(value)}")
    indent = " " * _column(text, entry.start)
    return (colon + 1, end, _behind_key(text, value, indent))


def _behind_key(text: str, value: Value, indent: str) -> str:
    """What stands behind the colon of a key of a mapping that is not in braces."""
    if isinstance(value, str | bool):
        return f" {_scalar(value, quote='', flow=False)}"
    newline = _newline(text)
    lines = []
    for fields in value:
        lines += [f"{indent}  {line}" for line in _item_lines(fields, "- ")]
    return newline + newline.join(lines)


def _drop_key(text: str, place: Place, key: str) -> Splice:
    index = next(number for number, entry in enumerate(place.entries) if entry.key == key)
    spans = [(entry.start, entry.end) for entry in place.entries]
    if place.flow:
        return _out_of_list(text, spans, index)
    start, end = spans[index]
    line = _line_start(text, start)
    if text[line:start].strip() == "" and line > 0:
        return (_line_end(text, line - 1), _line_end(text, end), "")
    # It stands behind a dash: what comes next takes its place, or the rest of the line.
    following = spans[index + 1][0] if index + 1 < len(spans) else end
    return (start, following if "#" not in text[end:following] else end, "")


def _insert_item(text: str, place: Place, change: InsertItem) -> Splice:
    if not place.items:
        raise CannotEdit("an empty list takes no item", _line(text, place.start))
    if place.flow:
        if change.index > 0:
            at = place.items[change.index - 1].end
            return (at, at, f", {_flow_fields(change.value)}")
        at = place.items[0].start
        return (at, at, f"{_flow_fields(change.value)}, ")
    model = place.items[max(0, change.index - 1)]
    lines, newline = _like(text, model, change.value), _newline(text)
    if change.index > 0:
        at = _line_end(text, model.end)
        return (at, at, "".join(f"{newline}{line}" for line in lines))
    at = _chunks(text, place)[0][0]
    return (at, at, "".join(f"{line}{newline}" for line in lines))


def _like(text: str, model: Item, fields: Fields) -> list[str]:
    """The lines of an item that is written as another one is."""
    indent = " " * _column(text, model.start)
    if model.value.flow:
        return [f"{indent}{text[model.start : model.value.start]}{_flow_fields(fields)}"]
    gap = text[model.start : model.value.start]
    return [f"{indent}{line}" for line in _item_lines(fields, gap if "\n" not in gap else "- ")]


def _item_lines(fields: Fields, dash: str) -> list[str]:
    pairs = [f"{key}: {_scalar(value, quote='', flow=False)}" for key, value in fields.items()]
    return [dash + pairs[0], *(" " * len(dash) + pair for pair in pairs[1:])]


def _drop_item(text: str, place: Place, index: int) -> Splice:
    if place.flow:
        return _out_of_list(text, [(item.start, item.end) for item in place.items], index)
    item = place.items[index]
    line = _line_start(text, item.start)
    if text[line : item.start].strip() or line == 0:
        raise CannotEdit("the list does not begin on a line of its own", _line(text, item.start))
    return (_line_end(text, line - 1), _line_end(text, item.end), "")


def _out_of_list(text: str, spans: Sequence[tuple[int, int]], index: int) -> Splice:
    """Take one of several that commas part, with one of the commas."""
    if len(spans) == 1:
        raise CannotEdit("nothing would be left", _line(text, spans[0][0]))
    if index > 0:
        start, end, gap = spans[index - 1][1], spans[index][1], (spans[index - 1][1], spans[index][0])
    else:
        start, end, gap = spans[0][0], spans[1][0], (spans[0][1], spans[1][0])
    if "#" in text[gap[0] : gap[1]]:
        raise CannotEdit("a comment stands between what commas part", _line(text, start))
    return (start, end, "")


def _move_item(text: str, place: Place, change: MoveItem) -> Iterator[Splice]:
    """Put every item between the two places into its new one; what stands between items stays there."""
    spans = [(item.start, item.end) for item in place.items] if place.flow else _chunks(text, place)
    order = list(range(len(spans)))
    order.insert(change.to, order.pop(change.index))
    for number, origin in enumerate(order):
        if number != origin:
            start, end = spans[origin]
            yield (*spans[number], text[start:end])


def _chunks(text: str, place: Place) -> list[tuple[int, int]]:
    """The lines of each item: those it is written on, and comments right above it, as far in as its dash."""
    found: list[tuple[int, int]] = []
    floor = 0
    for item in place.items:
        start = _line_start(text, item.start)
        if text[start : item.start].strip():
            raise CannotEdit("the list does not begin on a line of its own", _line(text, item.start))
        head = text[start : item.start] + "#"
        while start > floor and text.startswith(head, above := _line_start(text, start - 1)):
            if above < floor:
                break
            start = above
        end = _line_end(text, item.end)
        found.append((start, end))
        floor = end
    return found


def _flow(value: Value) -> str:
    if isinstance(value, str | bool):
        return _scalar(value, quote="", flow=True)
    return f"[{', '.join(_flow_fields(fields) for fields in value)}]"


def _flow_fields(fields: Fields) -> str:
    return f"{{{', '.join(f'{key}: {_flow(value)}' for key, value in fields.items())}}}"


def _scalar(value: str | bool, *, quote: str, flow: bool) -> str:
    """A scalar, quoted as the one before it was, or only where it has to be."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if quote == "'" and value.isprintable():
        return "'" + value.replace("'", "''") + "'"
    if quote != '"' and value.casefold() not in _WORDS_OF_OTHERS and _reads_as(value, flow=flow):
        return value
    return '"' + "".join(_escaped(char) for char in value) + '"'


def _reads_as(value: str, *, flow: bool) -> bool:
    """Whether a text without quotes is read as itself, in brackets or behind a key."""
    if not value.isprintable():
        return False
    loaded = yaml_text.load("", (f"[{value}]" if flow else f"k: {value}").encode())
    found = [document.plain() for document in loaded.documents]
    return not loaded.problems and found == ([[value]] if flow else [{"k": value}])


def _escaped(char: str) -> str:
    if char in '"\\':
        return f"\\{char}"
    if char.isprintable():
        return char
    number = ord(char)
    width = 2 if number < 0x100 else 4 if number < 0x10000 else 8
    return f"\\{_ESCAPES[width]}{number:0{width}x}"


def _newline(text: str) -> str:
    """What ends the lines of a text: what ends its first one."""
    at = text.find("\n")
    return "\r\n" if at > 0 and text[at - 1] == "\r" else "\n"


def _line_start(text: str, index: int) -> int:
    return text.rfind("\n", 0, index) + 1


def _line_end(text: str, index: int) -> int:
    """Where the line of a place ends, before what ends it."""
    at = text.find("\n", index)
    if at < 0:
        return len(text)
    return at - 1 if at > 0 and text[at - 1] == "\r" else at


def _column(text: str, index: int) -> int:
    return index - _line_start(text, index)


def _line(text: str, index: int) -> int:
    return text.count("\n", 0, index) + 1
