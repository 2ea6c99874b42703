"""Read YAML text into nodes that know their places, within limits; knows nothing of what the text means.

The C parser hands over one event at a time, and reading stops at the first limit that is passed. So deep
nesting, which costs libyaml time that grows with the square of the depth, is never scanned to its end, and
nothing is ever built from an alias bomb. Scalars follow the YAML 1.2 core schema, less what surprises:
`no`, `012`, `1:30` and dates are strings.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import yaml

from reconciler.errors import Problem
from reconciler.spec.words import Path, path_text, shown

FILE_BYTES_MAX = 1024 * 1024
DOCUMENTS_MAX = 100
DEPTH_MAX = 64
NODES_MAX = 150_000
"""Counted with every alias replaced by what it stands for."""
ALIASES_MAX = 1_000
SCALAR_CHARACTERS_MAX = 64 * 1024
TAG_DIRECTIVES_MAX = 16
"""libyaml compares each `%TAG` with all before it."""
PROBLEMS_MAX = 100
"""Of one file; more would only be scrolled past."""

Scalar = str | int | float | bool | None

_CONTROL_CHARACTER = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ufffe\uffff]")
_TAG_DIRECTIVE = re.compile(r"(?:\A|[\r\n\x85\u2028\u2029])%TAG\b")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,39})|0o[0-7]{1,40}|0x[0-9a-fA-F]{1,40}")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]{1,40}|(?:0|[1-9][0-9]{0,39})(?:\.[0-9]{0,40})?)(?:[eE][-+]?[0-9]{1,4})?"
)
_CONSTANTS: Mapping[str, bool | float | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_WIDE_ENCODINGS = (b"\xff\xfe", b"\xfe\xff", b"\x00\x00\xfe\xff")


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a file, both counted from 1; columns count characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class ScalarNode:
    """A single value."""

    mark: Mark
    value: Scalar
    size: int = 1
    height: int = 0


@dataclass(frozen=True, slots=True)
class SequenceNode:
    """A list; `size` counts all values from here on, `height` the levels of lists and mappings."""

    mark: Mark
    items: tuple["Node", ...]
    size: int
    height: int


@dataclass(frozen=True, slots=True)
class MappingNode:
    """A mapping, with the places of its keys."""

    mark: Mark
    entries: Mapping[str, "Node"]
    keys: Mapping[str, Mark]
    size: int
    height: int


Node = ScalarNode | SequenceNode | MappingNode


@dataclass(frozen=True, slots=True)
class Document:
    """One YAML document and what is wrong with its text.

    `complete` is false where reading stopped inside it: then what it lacks may only have been cut off.
    """

    root: Node
    complete: bool
    problems: tuple[Problem, ...] = ()

    def plain(self) -> object:
        """Return the document as dicts, lists and scalars."""
        return plain(self.root)

    def mark(self, path: Path) -> Mark:
        """Return the place of the value at a path, or of the nearest value above it."""
        return _walk(self.root, path)[0].mark

    def key_mark(self, path: Path) -> Mark:
        """Return the place of the key a path ends in, or of the nearest value above it."""
        node, depth = _walk(self.root, path[:-1])
        if depth == len(path) - 1 and isinstance(node, MappingNode):
            return node.keys.get(str(path[-1]), node.mark)
        return node.mark


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a file holds, and what is wrong with it as YAML text, `stray` problems being of no document."""

    documents: tuple[Document, ...]
    stray: tuple[Problem, ...] = ()

    @property
    def problems(self) -> tuple[Problem, ...]:
        """All problems of the file, in order of place."""
        return (*(problem for document in self.documents for problem in document.problems), *self.stray)


def plain(node: Node) -> object:
    """Return a node as dicts, lists and scalars."""
    match node:
        case ScalarNode():
            return node.value
        case SequenceNode():
            return [plain(item) for item in node.items]
        case MappingNode():
            return {key: plain(value) for key, value in node.entries.items()}


def load(file: str, content: bytes) -> Loaded:
    """Read all documents of a file; never raises for bad text, and takes bounded time and memory."""
    text, problem = decoded(file, content)
    if problem is not None:
        return Loaded((), (problem,))
    reader = _Reader(file=file, text=text, events=yaml.parse(text, Loader=yaml.CSafeLoader))
    documents = tuple(reader.documents())
    return Loaded(documents, tuple(reader.problems))


def _walk(node: Node, path: Path) -> tuple[Node, int]:
    """Follow a path as far as it goes; return where that ends and how many parts it took."""
    for depth, part in enumerate(path):
        if isinstance(node, MappingNode) and isinstance(part, str) and part in node.entries:
            node = node.entries[part]
        elif isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.items):
            node = node.items[part]
        else:
            return node, depth
    return node, len(path)


def decoded(file: str, content: bytes, what: str = "YAML text") -> tuple[str, Problem | None]:
    """Decode a text file and make the checks that need no parser; the problem where it is not sound."""
    if len(content) > FILE_BYTES_MAX:
        size = f"the file has {len(content)} bytes, more than the limit of {FILE_BYTES_MAX}"
        return "", Problem(file=file, message=size, hint="split it into several files")
    if content.startswith(_WIDE_ENCODINGS):
        return "", Problem(
            file=file, line=1, column=1, message="the file is UTF-16 or UTF-32", hint="save it as UTF-8"
        )
    try:
        text = content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = content[: error.start].decode("utf-8").removeprefix("\ufeff")
        wrong = f"byte 0x{content[error.start]:02x} is not UTF-8"
        return "", _problem(file, _mark_at(before, len(before)), wrong, hint="save the file as UTF-8")
    if (found := _CONTROL_CHARACTER.search(text)) is not None:
        wrong = f"control character U+{ord(found[0]):04X} is not allowed in {what}"
        hint = "remove it, or write it as an escape in double quotes"
        return "", _problem(file, _mark_at(text, found.start()), wrong, hint=hint)
    if sum(1 for _ in _TAG_DIRECTIVE.finditer(text)) > TAG_DIRECTIVES_MAX:
        return "", Problem(
            file=file, message=f"more than {TAG_DIRECTIVES_MAX} %TAG directives", hint="remove them"
        )
    return text, None


def _mark_at(text: str, index: int) -> Mark:
    before = text[:index].replace("\r\n", "\n").replace("\r", "\n")
    return Mark(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


def _problem(file: str, mark: Mark, message: str, *, path: Path = (), hint: str | None = None) -> Problem:
    return Problem(
        file=file,
        line=mark.line,
        column=mark.column,
        path=path_text(path) or None,
        message=message,
        hint=hint,
    )


def _resolve(text: str) -> Scalar:
    """Give a plain scalar its type."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if _INTEGER.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


@dataclass(slots=True, kw_only=True)
class _Reader:
    """Turns events into nodes. After the first limit passed or syntax error no event comes any more, so every
    loop ends and what was read so far is kept."""

    file: str
    text: str
    events: Iterator[yaml.Event]
    problems: list[Problem] = field(default_factory=list)
    path: list[str | int] = field(default_factory=list)
    anchors: dict[str, Node | None] = field(default_factory=dict)
    nodes: int = 0
    aliases: int = 0
    stopped: bool = False

    def documents(self) -> Iterator[Document]:
        """Give the documents one by one; what is left in `problems` then belongs to none of them."""
        count = 0
        event = self._next()
        while event is not None:
            if not isinstance(event, yaml.DocumentStartEvent):
                event = self._next()
                continue
            count += 1
            if count > DOCUMENTS_MAX:
                self._stop(
                    event, f"more than {DOCUMENTS_MAX} documents in one file", "split it into several files"
                )
                return
            if event.tags:
                self._report(event, "%TAG directives are not supported", "remove them")
            self.anchors.clear()
            first = self._next()
            if first is None:
                return
            root = self._node(first)
            complete = not self.stopped
            # What cannot follow a document is a mistake in it: nobody meant a document to end there.
            event = self._after_document()
            yield Document(root, complete, tuple(self.problems))
            self.problems.clear()

    def _after_document(self) -> yaml.Event | None:
        event = self._next()
        return self._next() if isinstance(event, yaml.DocumentEndEvent) else event

    def _next(self) -> yaml.Event | None:
        if self.stopped:
            return None
        try:
            return next(self.events, None)
        except yaml.MarkedYAMLError as error:
            self._syntax(error)
        except (yaml.YAMLError, ValueError):
            # What the parser says here may quote the text; the checks before it leave little to be said.
            self.problems.append(Problem(file=self.file, message="not valid YAML: the text cannot be read"))
        self.stopped = True
        return None

    def _syntax(self, error: yaml.MarkedYAMLError) -> None:
        mark = error.problem_mark or error.context_mark
        place = Mark(mark.line + 1, mark.column + 1) if mark is not None else Mark(1, 1)
        context = f", {error.context}" if error.context else ""
        if error.context and error.context_mark is not None and error.context_mark.line + 1 != place.line:
            context += f" from line {error.context_mark.line + 1}"
        at = self.text[mark.index : mark.index + 1] if mark is not None else ""
        hint = {
            "\t": "indent with spaces, not tabs",
            "@": "a value that starts with @ needs quotes",
            "`": "a value that starts with ` needs quotes",
            "%": "a value that starts with % needs quotes",
        }.get(at)
        message = f"not valid YAML: {error.problem or 'the text cannot be read'}{context}"
        self.problems.append(_problem(self.file, place, message, path=tuple(self.path), hint=hint))

    def _report(self, event: yaml.Event, message: str, hint: str | None = None) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(_problem(self.file, _mark(event), message, path=tuple(self.path), hint=hint))

    def _stop(self, event: yaml.Event, message: str, hint: str | None = None) -> None:
        self.problems.append(_problem(self.file, _mark(event), message, hint=hint))
        self.stopped = True

    def _node(self, event: yaml.Event) -> Node:
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        self._count(event, 1)
        if getattr(event, "tag", None) is not None:
            self._report(event, "tags are not supported", "remove the tag")
        anchor = getattr(event, "anchor", None)
        if anchor is not None:
            self.anchors[anchor] = None
        node: Node
        if isinstance(event, yaml.CollectionStartEvent) and len(self.path) >= DEPTH_MAX:
            self._stop(event, f"nested more than {DEPTH_MAX} levels deep")
            node = ScalarNode(_mark(event), None)
        elif isinstance(event, yaml.MappingStartEvent):
            node = self._mapping(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            node = self._sequence(event)
        else:
            node = self._scalar(event)
        if anchor is not None:
            self.anchors[anchor] = node
        return node

    def _alias(self, event: yaml.AliasEvent) -> Node:
        name, nothing = event.anchor or "", ScalarNode(_mark(event), None)
        self.aliases += 1
        if self.aliases > ALIASES_MAX:
            self._stop(event, f"more than {ALIASES_MAX} aliases in one file")
            return nothing
        if name not in self.anchors:
            # Not named: an unquoted password may begin with a star.
            hint = "a value that starts with * needs quotes"
            self._report(event, "the alias has no anchor before it", hint)
            return nothing
        node = self.anchors[name]
        if node is None:
            self._report(event, "the alias stands inside its own anchor")
            return nothing
        self._count(event, node.size)
        if len(self.path) + node.height > DEPTH_MAX:
            self._stop(event, f"nested more than {DEPTH_MAX} levels deep")
        return nothing if self.stopped else replace(node, mark=_mark(event))

    def _count(self, event: yaml.Event, nodes: int) -> None:
        self.nodes += nodes
        if self.nodes > NODES_MAX and not self.stopped:
            self._stop(
                event, f"more than {NODES_MAX} values in one file, aliases counted as what they stand for"
            )

    def _sequence(self, start: yaml.Event) -> SequenceNode:
        items: list[Node] = []
        while (event := self._next()) is not None and not isinstance(event, yaml.SequenceEndEvent):
            self.path.append(len(items))
            items.append(self._node(event))
            self.path.pop()
        size = 1 + sum(item.size for item in items)
        return SequenceNode(_mark(start), tuple(items), size, 1 + max((i.height for i in items), default=0))

    def _mapping(self, start: yaml.Event) -> MappingNode:
        entries: dict[str, Node] = {}
        keys: dict[str, Mark] = {}
        size = height = 0
        while (event := self._next()) is not None and not isinstance(event, yaml.MappingEndEvent):
            key = self._key(event, keys)
            following = self._next()
            if following is None:
                break
            self.path.append("?" if key is None else key)
            value = self._node(following)
            self.path.pop()
            size, height = size + 1 + value.size, max(height, value.height)
            if key is not None and key not in entries:
                keys[key] = _mark(event)
                entries[key] = _beside(value, keys[key])
        return MappingNode(_mark(start), entries, keys, 1 + size, 1 + height)

    def _key(self, event: yaml.Event, keys: Mapping[str, Mark]) -> str | None:
        """Return a key, or nothing (having said why) where it is not one."""
        if not isinstance(event, yaml.ScalarEvent):
            self._report(event, "a key must be a string, not a list, mapping or alias")
            self.path.append("?")
            self._node(event)
            self.path.pop()
            return None
        node = self._node(event)
        key = node.value if isinstance(node, ScalarNode) else None
        if key == "<<" and event.implicit[0]:
            self._report(event, "merge keys are not supported", "write the keys out")
            return None
        if not isinstance(key, str):
            self._report(event, f"a key must be a string, not {_type(key)}", "put it in quotes")
            return None
        if key in keys:
            self._report(event, f"duplicate key {shown(key)}", f"the first one is on line {keys[key].line}")
        return key

    def _scalar(self, event: yaml.Event) -> ScalarNode:
        assert isinstance(event, yaml.ScalarEvent)
        if len(event.value) > SCALAR_CHARACTERS_MAX:
            self._report(
                event,
                f"a value of {len(event.value)} characters, more than the limit of {SCALAR_CHARACTERS_MAX}",
            )
            return ScalarNode(_mark(event), "")
        is_plain = event.style is None or event.style == ""
        return ScalarNode(_mark(event), _resolve(event.value) if is_plain else event.value)


def _beside(value: Node, key: Mark) -> Node:
    """Place a value that was left out at its key; the parser places it where the next thing is."""
    if isinstance(value, ScalarNode) and value.value is None and value.mark.line != key.line:
        return replace(value, mark=key)
    return value


def _type(value: Scalar) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case _:
            return "a number"


def _mark(event: yaml.Event) -> Mark:
    mark = event.start_mark
    return Mark(1, 1) if mark is None else Mark(mark.line + 1, mark.column + 1)
