"""Printing: text that is never cut, wrapped or styled off a terminal; tables, JSON, errors.

Imports nothing heavy: every command starts with this.
"""

import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TextIO

COLORS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "bold": "1", "dim": "2"}


class Screen:
    """Where a command writes; styles appear on a terminal only, and not with --no-color or NO_COLOR."""

    def __init__(self, *, color: bool = True, out: TextIO | None = None, err: TextIO | None = None) -> None:
        self._out = out if out is not None else sys.stdout
        self._err = err if err is not None else sys.stderr
        self.terminal = self._out.isatty()
        wanted = color and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._color = wanted and self.terminal
        self._color_err = wanted and self._err.isatty()

    def line(self, text: str = "") -> None:
        """Write one line."""
        _write(self._out, text + "\n")

    def text(self, text: str) -> None:
        """Write text that brings its own line ends."""
        _write(self._out, text)

    def note(self, text: str) -> None:
        """Write one line beside the output: progress, or what to do next."""
        _write(self._err, text + "\n")

    def error(self, text: str, *, problems: Sequence[str] = (), hint: str | None = None) -> None:
        """Write an error with its problems, one a line, and the hint."""
        word = _styled("error:", ("red",), on=self._color_err)
        _write(self._err, f"{word} {text}\n")
        for problem in problems:
            _write(self._err, f"  {problem}\n")
        if hint:
            _write(self._err, f"hint: {hint}\n")

    def json(self, value: Any) -> None:
        """Write a value as JSON."""
        _write(self._out, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def styled(self, text: str, *styles: str) -> str:
        """Text in a style, where there is one."""
        return _styled(text, styles, on=self._color)

    def table(self, head: Sequence[str], rows: Iterable[Sequence[str]], *, indent: str = "") -> None:
        """Write columns side by side, as wide as they need to be; numbers stand right."""
        cells = [[printable(cell) for cell in row] for row in rows]
        widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
        right = [
            bool(cells) and all(cell.isdigit() or cell == "-" for cell in column)
            for column in zip(*cells, strict=True)
        ] or [False] * len(head)
        self.line(indent + self.styled(_row(head, widths, right), "bold"))
        for row in cells:
            self.line(indent + _row(row, widths, right))


def _styled(text: str, styles: Sequence[str], *, on: bool) -> str:
    if not on or not styles:
        return text
    return f"\x1b[{';'.join(COLORS[style] for style in styles)}m{text}\x1b[0m"


def _row(cells: Sequence[str], widths: Sequence[int], right: Sequence[bool]) -> str:
    placed = (
        cell.rjust(width) if to_right else cell.ljust(width)
        for cell, width, to_right in zip(cells, widths, right, strict=True)
    )
    return "  ".join(placed).rstrip()


def _write(stream: TextIO, text: str) -> None:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
    stream.flush()


def printable(text: str) -> str:
    """One printable line: names may hold newlines, control characters and terminal escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def printable_lines(text: str) -> str:
    """Text of several lines without control characters; a server's message keeps its lines."""
    return "\n".join(printable(line.replace("\t", "    ")) for line in text.splitlines())


def scope_mark(rollout: Mapping[str, Any]) -> str:
    """What stands behind a rollout of resources alone."""
    return " (provision-only)" if rollout["scope"] == "provision-only" else ""


def short(commit: str | None) -> str:
    """A commit id as people read it."""
    return commit[:12] if commit else "-"


def moment(text: str | None) -> datetime | None:
    """The time that an ISO 8601 text says."""
    return datetime.fromisoformat(text) if text else None


def clock(text: str | None) -> str:
    """A time to the second, in UTC."""
    at = moment(text)
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%SZ") if at is not None else "-"


def ago(text: str | None, now: datetime) -> str:
    """How long ago a time was."""
    at = moment(text)
    return "never" if at is None else f"{span((now - at).total_seconds())} ago"


def span(seconds: float) -> str:
    """A duration in its largest fitting unit."""
    seconds = max(0.0, seconds)
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def count(number: int, word: str) -> str:
    """A number with its word, in the plural where it needs one."""
    return f"{number} {word}{'' if number == 1 else 's'}"
