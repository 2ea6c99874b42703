"""The conditions of psql, `\\if … \\elif … \\else … \\endif`: which of the text between them counts."""

from collections.abc import Callable
from dataclasses import dataclass

DEPTH_MAX = 100


class NotAllowed(Exception):
    """A command of a condition stands where it must not."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(slots=True)
class _Open:
    """`outer`: whether the text around it counts; `done`: whether a branch of it was taken."""

    at: int
    outer: bool
    active: bool
    done: bool
    last: bool = False


class Conditions:
    """The open conditions of one file."""

    def __init__(self) -> None:
        self._open: list[_Open] = []

    @property
    def active(self) -> bool:
        """Whether the text here counts."""
        return self._open[-1].active if self._open else True

    @property
    def open_at(self) -> int | None:
        """Where the innermost open condition began."""
        return self._open[-1].at if self._open else None

    def begin(self, at: int, *, holds: bool) -> None:
        """`\\if`."""
        if len(self._open) >= DEPTH_MAX:
            raise NotAllowed(f"conditions nest more than {DEPTH_MAX} deep")
        outer = self.active
        self._open.append(_Open(at, outer=outer, active=outer and holds, done=holds))

    def otherwise_if(self, holds: Callable[[], bool]) -> bool:
        """`\\elif`; its condition is looked at only where it matters, and the answer is whether it was."""
        inner = self._branch("\\elif")
        matters = inner.outer and not inner.done
        inner.active = matters and holds()
        inner.done = inner.done or inner.active
        return matters

    def otherwise(self) -> None:
        """`\\else`."""
        inner = self._branch("\\else")
        inner.active = inner.outer and not inner.done
        inner.done = inner.last = True

    def end(self) -> None:
        """`\\endif`."""
        if not self._open:
            raise NotAllowed("\\endif without \\if")
        self._open.pop()

    def _branch(self, command: str) -> _Open:
        if not self._open:
            raise NotAllowed(f"{command} without \\if")
        if self._open[-1].last:
            raise NotAllowed(f"{command} after \\else")
        return self._open[-1]


def as_boolean(text: str) -> bool | None:
    """Read a boolean as psql does: whole or shortened as far as it is clear; None where it is none."""
    word = text.strip().lower()
    if word in ("1", "0"):
        return word == "1"
    if not word or word == "o":
        return None
    for full, value in (("true", True), ("false", False), ("yes", True), ("no", False)):
        if full.startswith(word):
            return value
    if word == "on":
        return True
    return False if "off".startswith(word) else None
