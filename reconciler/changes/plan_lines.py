"""Read one line of a plan file, as Sqitch or as pgpm would; it knows nothing of the other lines."""

import re
from datetime import datetime

from reconciler.frozen import frozen

BLANKS = " \t\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
PGPM_DATE = "2017-08-11T08:11:51Z"
PGPM_PLANNER = "constructive"
PGPM_EMAIL = "constructive@5b0c196eeb62"

_PUNCTUATION = frozenset("-!\"#$%&'()*+,./:;<=>?@[\\]^`{|}~")
_NAME_RUN = re.compile(rf"[^{BLANKS}:@#\\\[\]]+")
_SYMBOLIC_END = re.compile(r"[~/=%^\[\]]\d+\Z")
_WORD_END = re.compile(r"\w\Z")
_SHA = re.compile(r"[0-9a-f]{40}")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_OFFSET_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.]+(?:[+-][0-9:]+)?")
_ESCAPES = {"\\n": "\n", "\\r": "\r", "\\\\": "\\"}
_ESCAPE = re.compile(r"\\[\\nr]")
_NOTE_SPACE = "\t\n\v\f\r \x85\u2028\u2029" + BLANKS
_NAME_HINT = (
    "names begin and end with a letter, a digit or '_', hold no blank and none of : @ # \\ [ ], "
    "and do not end in a sign with digits after it"
)
_RESERVED = frozenset({"HEAD", "ROOT"})


class BadLine(Exception):
    """A line cannot be read: what is wrong with it, and what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@frozen
class ChangeLine:
    """A change as its line has it; `dependencies` are as written, conflicts with their `!`."""

    name: str
    dependencies: tuple[str, ...]
    planned_at: str
    planner: str
    note: str
    reverts: bool = False


@frozen
class TagLine:
    """A tag as its line has it; `change` is the change it names itself, which only pgpm allows."""

    name: str
    change: str | None
    planned_at: str
    planner: str
    note: str


def is_name(text: str) -> bool:
    """Say whether a text can name a change, a tag or a project."""
    return (
        bool(_NAME_RUN.fullmatch(text))
        and text[0] not in _PUNCTUATION
        and bool(_WORD_END.search(text))
        and not _SYMBOLIC_END.search(text)
        and text != "0"
    )


def cut_note(line: str) -> tuple[str, str]:
    """Split a line at its first `#` into content and note, the note without its escapes."""
    content, _, note = line.partition("#")
    return content.rstrip(BLANKS), _ESCAPE.sub(lambda match: _ESCAPES[match[0]], trim_note(note))


def trim_note(note: str) -> str:
    """Leave out what Sqitch takes for space at either end of a note."""
    return note.strip(_NOTE_SPACE)


def check_name(name: str, *, is_tag: bool) -> None:
    """Hold the name of a new change or tag to Sqitch's rules; raises `BadLine`."""
    if not is_name(name):
        raise BadLine(f"invalid {'tag' if is_tag else 'change'} name {name[:100]!r}", _NAME_HINT)
    _refuse_confusing(name, is_tag=is_tag)
    if is_tag:
        _refuse_slash(name)


def read_sqitch(line: str) -> ChangeLine | TagLine:
    """Read a change or a tag as Sqitch does: timestamp and planner are required."""
    content, note = cut_note(line)
    rest = content.lstrip(BLANKS)
    is_tag, reverts = rest.startswith("@"), rest.startswith("-")
    if is_tag:
        rest = rest[1:]
    elif rest[:1] in ("+", "-"):
        rest = rest[1:].lstrip(BLANKS)
    name, rest = _name(rest, is_tag=is_tag)
    bracket, rest = _bracket(rest)
    date, rest = _date(rest, content)
    planner = _planner(rest, missing=date is None)
    if date is None:
        raise BadLine("missing timestamp", _date_hint(content))
    _refuse_confusing(name, is_tag=is_tag)
    if not is_tag:
        dependencies = _sqitch_dependencies(bracket)
        return ChangeLine(
            name=name, dependencies=dependencies, planned_at=date, planner=planner, note=note, reverts=reverts
        )
    if bracket is not None:
        raise BadLine("tags may not specify dependencies", "a tag is on the change above it")
    _refuse_slash(name)
    return TagLine(name=name, change=None, planned_at=date, planner=planner, note=note)


def read_pgpm(line: str) -> ChangeLine | TagLine:
    """Read a change or a tag as pgpm does: what is missing is filled in as pgpm itself writes it."""
    content, note = cut_note(line)
    rest = content.strip()
    is_tag = rest.startswith("@")
    name, rest = _name(rest[1:] if is_tag else rest, is_tag=is_tag)
    bracket, rest = (None, rest) if is_tag else _bracket(rest)
    of_change: str | None = None
    if is_tag and rest and not _DATE.match(rest):
        of_change, rest = _name(rest, is_tag=False)
    date, rest = _date(rest, content)
    if is_tag:
        planner = _planner(rest, missing=date is None)
        if date is None:
            raise BadLine("missing timestamp", _date_hint(content))
        _refuse_slash(name)
        return TagLine(name=name, change=of_change, planned_at=date, planner=planner, note=note)
    if date is None and rest:
        raise BadLine("expected a timestamp after the name and the dependencies", _date_hint(content))
    dependencies = tuple(dict.fromkeys(_words(bracket or "")))
    return ChangeLine(
        name=name,
        dependencies=dependencies,
        planned_at=date or PGPM_DATE,
        planner=_lenient_planner(rest),
        note=note,
    )


def _name(rest: str, *, is_tag: bool) -> tuple[str, str]:
    match = _NAME_RUN.match(rest)
    end = match.end() if match else 0
    name = rest[:end]
    if not is_name(name) or (rest[end : end + 1] not in ("", "[") and rest[end] not in BLANKS):
        what = "tag" if is_tag else "change"
        shown = rest.split(maxsplit=1)[0][:100] if rest.strip() else ""
        if shown.startswith("%"):
            raise BadLine(
                "a pragma after the first blank line", "pragmas stand together at the top of the file"
            )
        raise BadLine(f"invalid {what} name {shown!r}", _NAME_HINT)
    return name, rest[end:].lstrip(BLANKS)


def _bracket(rest: str) -> tuple[str | None, str]:
    if not rest.startswith("["):
        return None, rest
    inside, closed, after = rest[1:].partition("]")
    if not closed:
        raise BadLine("the dependencies are not closed", "end them with ]")
    return inside, after.lstrip(BLANKS)


def _sqitch_dependencies(bracket: str | None) -> tuple[str, ...]:
    if bracket is None:
        return ()
    if not bracket:
        raise BadLine("empty dependencies", "leave [] out")
    words = _words(bracket)
    if words and bracket[0] in BLANKS:
        raise BadLine("a blank before the first dependency", "remove it")
    seen: set[str] = set()
    for word in words:
        if word in seen:
            raise BadLine(f"duplicate dependency '{word}'", "name it once")
        seen.add(word)
    return tuple(words)


def _words(text: str) -> list[str]:
    return [word for word in re.split(f"[{BLANKS}]+", text) if word]


def _date(rest: str, content: str) -> tuple[str | None, str]:
    match = _DATE.match(rest)
    if match is None:
        if _DATE.search(content):
            raise BadLine(
                "the timestamp is out of its place",
                "a line is: name [dependencies] timestamp planner <email>",
            )
        return None, rest
    if not _is_time(match[0]):
        raise BadLine(f"there is no such time as {match[0]}", "correct the timestamp")
    return match[0], rest[match.end() :].lstrip(BLANKS)


def _is_time(text: str) -> bool:
    try:
        # Newer Pythons take hour 24, which Sqitch does not.
        return datetime.fromisoformat(text).hour == int(text[11:13])
    except ValueError:
        return False


def _date_hint(content: str) -> str:
    if _OFFSET_DATE.search(content):
        return "timestamps are UTC and end in Z, like 2026-01-31T12:00:00Z"
    return "write it after the name, like 2026-01-31T12:00:00Z"


def _planner(rest: str, *, missing: bool) -> str:
    """Read `name <email>` to the end; the blanks inside are kept, for they enter the id."""
    if not rest:
        if missing:
            raise BadLine(
                "missing timestamp and planner name and email", "add: 2026-01-31T12:00:00Z Name <email>"
            )
        raise BadLine("missing planner name and email", "add after the timestamp: Name <email>")
    name, opened, after = rest.partition("<")
    email, closed, beyond = after.partition(">")
    if not (opened and closed and email and name[-1:] and name[-1] in BLANKS and name.strip(BLANKS)):
        raise BadLine("missing planner name and email", "write the planner as: Name <email>")
    if beyond:
        raise BadLine(f"unexpected text after the planner: {beyond.strip()[:100]!r}", "a note begins with #")
    return f"{name[:-1]} <{email}>"


def _lenient_planner(rest: str) -> str:
    name, _, after = rest.partition("<")
    email, closed, beyond = after.partition(">")
    if after and (not closed or beyond.strip()):
        raise BadLine("the planner is not well-formed", "write the planner as: Name <email>")
    return f"{name.strip() or PGPM_PLANNER} <{email or PGPM_EMAIL}>"


def _refuse_confusing(name: str, *, is_tag: bool) -> None:
    if name in _RESERVED:
        raise BadLine(f"'{'@' if is_tag else ''}{name}' is a reserved name", "choose another name")
    if _SHA.match(name):
        raise BadLine(f"'{name}' could be confused with the id of a change", "choose another name")


def _refuse_slash(name: str) -> None:
    if "/" in name:
        raise BadLine(
            f"tag '{name}' contains the illegal character '/'", "write another sign, such as - or _"
        )
