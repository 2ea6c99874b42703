"""Makes few wakes of many: hosts send a webhook for each ref, each hook and each retry, often all at once.

The first of a burst passes at once, and the rest as one when it is over; none is lost.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

QUIET_S = 0.5
LONGEST_S = 5.0


@dataclass(slots=True, kw_only=True)
class _Burst:
    """A burst under way: until when it may last, the timer of its end, whether anything waits for that."""

    lasts_until: float
    timer: asyncio.TimerHandle
    more: bool = False


class Bursts:
    """Passes wakes on; belongs to one event loop, and keeps one entry for each name at most."""

    def __init__(
        self, wake: Callable[[str], None], *, quiet_s: float = QUIET_S, longest_s: float = LONGEST_S
    ) -> None:
        """`wake(name)` is called at the first wake, and once after the last that came within `quiet_s`."""
        self._act = wake
        self._quiet_s = quiet_s
        self._longest_s = longest_s
        self._bursts: dict[str, _Burst] = {}

    def wake(self, name: str) -> None:
        """Pass a wake on, at once or when the burst is over."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        burst = self._bursts.get(name)
        if burst is None:
            timer = loop.call_later(self._quiet_s, self._end, name)
            self._bursts[name] = _Burst(lasts_until=now + self._longest_s, timer=timer)
            self._act(name)
            return
        burst.more = True
        burst.timer.cancel()
        burst.timer = loop.call_at(min(now + self._quiet_s, burst.lasts_until), self._end, name)

    def _end(self, name: str) -> None:
        burst = self._bursts.pop(name)
        if burst.more:
            self.wake(name)

    def close(self) -> None:
        """Forget what waits."""
        for burst in self._bursts.values():
            burst.timer.cancel()
        self._bursts.clear()
