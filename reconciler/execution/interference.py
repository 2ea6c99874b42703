"""Named points of an operation at which a test may end the process; in use nothing happens at them.

The points are `before ID`, `inside ID` and `after ID` for every step id, and `settle` before the base
line is stored.
"""

import os
import signal

from typing_extensions import override


class Interference:
    """Does nothing."""

    active = False

    def at(self, point: str) -> None:
        """The operation reached a point."""


class KillAt(Interference):
    """Ends the process as a crash would, at one point."""

    active = True

    def __init__(self, point: str) -> None:
        self._point = point

    @override
    def at(self, point: str) -> None:
        """Kill this process if it is the point."""
        if point == self._point:
            os.kill(os.getpid(), signal.SIGKILL)
