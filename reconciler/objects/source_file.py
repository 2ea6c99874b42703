"""A file of a project as it was written and as it is read, and problems with their places in it."""

from bisect import bisect_right
from collections.abc import Collection

from reconciler.errors import Problem
from reconciler.objects.variables import Substituted
from reconciler.objects.words import Finding

FINDINGS_MAX = 100
"""Of one file; more would only be scrolled past."""
_BEFORE_CARET = 80
_EXCERPT_MAX = 110


class SourceFile:
    """A file: its path from the root of the source, the text as it is written and with variables replaced."""

    __slots__ = ("_line_starts", "_read", "_written", "path", "text")

    def __init__(self, path: str, written: str, read: Substituted | None = None) -> None:
        self.path = path
        self._written = written
        self._read = Substituted(text=written) if read is None else read
        self.text = self._read.text
        self._line_starts: list[int] | None = None

    def line(self, offset: int) -> int:
        """Return the line, as it is written, of a character of the text as it is read."""
        return self._line_and_start(self._read.written(offset))[0]

    def problems(self, findings: Collection[Finding]) -> tuple[Problem, ...]:
        """Give findings their places, each once, in the order of the file."""
        if not findings:
            return ()
        ordered = sorted(dict.fromkeys(findings), key=lambda each: (each.offset, each.message))
        told = [self._problem(each) for each in ordered[:FINDINGS_MAX]]
        if (more := len(ordered) - FINDINGS_MAX) > 0:
            told.append(Problem(file=self.path, message=f"and {more} more problems"))
        return tuple(told)

    def _problem(self, finding: Finding) -> Problem:
        at = min(self._read.written(finding.offset), len(self._written))
        line, start = self._line_and_start(at)
        width = 1
        if finding.end is not None and finding.end > finding.offset:
            width = max(self._read.written(finding.end - 1) + 1 - at, 1)
        return Problem(
            file=self.path,
            line=line,
            column=at - start + 1,
            message=finding.message,
            hint=finding.hint,
            excerpt=self._excerpt(start, at, width),
        )

    def _line_and_start(self, at: int) -> tuple[int, int]:
        if self._line_starts is None:
            starts = [0]
            found = self._written.find("\n")
            while found >= 0:
                starts.append(found + 1)
                found = self._written.find("\n", found + 1)
            self._line_starts = starts
        line = bisect_right(self._line_starts, at)
        return line, self._line_starts[line - 1]

    def _excerpt(self, start: int, at: int, width: int) -> str | None:
        """Draw the line with carets below what is meant; of a long line only what is near it."""
        first = start if at - start <= _BEFORE_CARET else at - _BEFORE_CARET
        end = self._written.find("\n", at)
        last = min(len(self._written) if end < 0 else end, first + _EXCERPT_MAX)
        shown = self._written[first:last]
        plain = "".join(letter if letter.isprintable() else " " for letter in shown).rstrip()
        if not plain:
            return None
        carets = max(min(width, last - at), 1)
        return f"{plain}\n{' ' * (at - first)}{'^' * carets}"
