"""Named points of an operation at which a test may strike the process; in use nothing happens at them.

The points are `before ID`, `inside ID` and `after ID` for every step id, and `settle` before the base
line is stored.
"""

import os
import signal
from collections.abc import Mapping

from typing_extensions import override

SWITCHES = {
    "RECONCILER_TEST_KILL_AT": signal.SIGKILL,
    "RECONCILER_TEST_FREEZE_AT": signal.SIGSTOP,
}
"""Environment variables by which tests name a point, and what happens there; never set them elsewhere."""


class Interference:
    """Does nothing."""

    active = False

    def at(self, point: str) -> None:
        """The operation reached a point."""


class StrikeAt(Interference):
    """Sends this process a signal when it reaches a point for the first time."""

    active = True

    def __init__(self, point: str, number: signal.Signals) -> None:
        self._point: str | None = point
        self._number = number

    @override
    def at(self, point: str) -> None:
        """Strike if it is the point."""
        if point == self._point:
            self._point = None
            os.kill(os.getpid(), self._number)


def asked_for(environ: Mapping[str, str]) -> Interference:
    """What the environment asks for; nothing, as a rule."""
    for name, number in SWITCHES.items():
        if point := environ.get(name):
            return StrikeAt(point, number)
    return Interference()
