"""What a script is once the language of psql is out of it, with the place that each character is from.

These are values only; making them is `psql`'s part.
"""

import re
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from reconciler.errors import Problem
from reconciler.frozen import frozen

CHUNK_CHARACTERS = 64 * 1024
"""Data of a `COPY` are sent in pieces of this size."""
_COPY_LINE = re.compile(r"^COPY .*?, \S+ (\d+)")


class Origin(NamedTuple):
    """Where the text from `start` on comes from: a place in one of the files.

    `verbatim`: each further character comes from the next one there; else all of them from that place.
    """

    start: int
    file: int
    offset: int
    verbatim: bool


class Place(NamedTuple):
    """A place in a file; line and column count from 1."""

    file: str
    line: int
    column: int


class SourceText(NamedTuple):
    """A file that text comes from."""

    path: str
    text: str


@frozen
class CopyData:
    """Data that stand in a script: a part of the text of a file."""

    source: SourceText
    start: int
    end: int

    def chunks(self) -> Iterator[bytes]:
        """The data in pieces, as they are sent."""
        for start in range(self.start, self.end, CHUNK_CHARACTERS):
            yield self.source.text[start : min(start + CHUNK_CHARACTERS, self.end)].encode()

    def place(self, context: str | None) -> Place | None:
        """The place of the line that the server complains of, by the context of its error."""
        found = _COPY_LINE.search(context or "")
        if found is None:
            return None
        return Place(self.source.path, position(self.source.text, self.start)[0] + int(found[1]) - 1, 1)


@frozen
class Message:
    """What a script says with `\\echo`, before the statement that begins at or after `offset`."""

    offset: int
    text: str
    place: Place


@frozen
class Expansion:
    """A script as SQL.

    `copies` belong to the statements `COPY … FROM stdin` of `text`, in their order. `names` are the variables
    that had a say. With `problems`, the script cannot be run. `meaning` is a hash that layout, comments, the
    case of words and the values of variables do not move; edits of the script and of what it includes do.
    """

    text: str
    files: tuple[SourceText, ...]
    origins: tuple[Origin, ...]
    meaning: str
    digest: bytes
    copies: tuple[CopyData, ...] = ()
    messages: tuple[Message, ...] = ()
    names: tuple[str, ...] = ()
    problems: tuple[Problem, ...] = ()
    copy_ends: tuple[int, ...] = ()
    """Where in the text each statement that takes data ends, behind its line."""

    def place(self, offset: int) -> Place:
        """Where a character of the text comes from."""
        index = bisect_right(self.origins, offset, key=lambda origin: origin.start) - 1
        if index < 0:
            return Place(self.files[0].path, 1, 1)
        origin = self.origins[index]
        source = self.files[origin.file]
        inside = origin.offset + (offset - origin.start if origin.verbatim else 0)
        return Place(source.path, *position(source.text, min(inside, len(source.text))))

    def self_contained(self) -> str:
        """The same script as one text that needs no other file and no variable.

        The comments at its top are the script's own: those of a file that it includes first ask for nothing.
        """
        whole = "".join(self._parts())
        if len(self.files) == 1:
            return whole
        return "".join(f"{line}\n" for line in _first_comments(self.files[0].text)) + ";\n" + whole

    def _parts(self) -> Iterator[str]:
        start = 0
        for copy, end in zip(self.copies, self.copy_ends, strict=True):
            yield self.text[start:end]
            data = copy.source.text[copy.start : copy.end]
            yield data if data.endswith("\n") or not data else f"{data}\n"
            yield "\\.\n"
            start = end
        yield self.text[start:]


def _first_comments(text: str) -> Iterator[str]:
    """The lines of comment before the first statement of a script for psql."""
    for line in text.splitlines():
        bare = line.lstrip(" \t\ufeff")
        if bare.startswith("--"):
            yield bare
        elif bare and not bare.startswith("\\"):
            return


def position(text: str, offset: int) -> tuple[int, int]:
    """Return the 1-based line and column of a character."""
    return text.count("\n", 0, offset) + 1, offset - text.rfind("\n", 0, offset)
