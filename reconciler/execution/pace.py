"""How many changes are sent at once: few where they take their time, as safe points are between messages.

It knows durations and nothing else.
"""

from collections.abc import Sequence

from reconciler.execution.messages import CHARACTERS_MAX, weight
from reconciler.state.program import Program

AT_ONCE_MAX = 64
"""Transactions in one message."""
QUICK_S = 0.3
"""How long a message may take for the next one to be larger; whoever asks to stop is heard after it."""


class Pace:
    """The size of the next message, from how long the last one took; `alone` keeps it at one change."""

    def __init__(self, *, alone: bool) -> None:
        self._alone = alone
        self.at_once = 1

    def failed(self) -> None:
        """Something did not come through: what is next is sent alone."""
        self.at_once = 1

    def took(self, seconds: float) -> None:
        """A message came through."""
        if self._alone:
            return
        if seconds < QUICK_S:
            self.at_once = min(2 * self.at_once, AT_ONCE_MAX)
        else:
            self.at_once = max(1, self.at_once // 4)


def fitting(programs: Sequence[Program]) -> int:
    """How many programs, from the first, go in one message; one at the least."""
    characters = 0
    for number, program in enumerate(programs):
        characters += weight(program)
        if number and characters > CHARACTERS_MAX:
            return number
    return len(programs)
