"""Bounds of what callers may ask: how often, and how much side by side; it knows nothing of HTTP.

Everything here belongs to one event loop, and holds a bounded number of entries whoever asks.
"""

import asyncio
import math
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

from reconciler.errors import TemporaryError
from reconciler.frozen import frozen

NAMES_MAX = 4096
"""Names a bucket is kept for; the one that was silent longest is forgotten, which is to have a full one."""


@frozen
class RequestLimits:
    """The bounds of one application."""

    in_parallel: int = 256
    webhooks_in_parallel: int = 64
    dry_runs_in_parallel: int = 8
    dry_runs_waiting: int = 32
    dry_run_waits_s: float = 30.0
    writes_per_minute: int = 600
    failures_per_minute: int = 60
    webhook_bytes: int = 1024 * 1024


class Buckets:
    """So many a minute for each name, at once or spread over it."""

    def __init__(self, per_minute: int, *, now: Callable[[], float] = time.monotonic) -> None:
        self._size = float(per_minute)
        self._now = now
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str) -> int:
        """Take one: 0, or the seconds after which there is one again."""
        now = self._now()
        left, since = self._left.pop(name, (self._size, now))
        left = min(self._size, left + (now - since) * self._size / 60)
        taken = left >= 1
        self._left[name] = (left - 1 if taken else left, now)
        if len(self._left) > NAMES_MAX:
            self._left.popitem(last=False)
        return 0 if taken else max(1, math.ceil((1 - left) * 60 / self._size))


class Room:
    """Room for so many at once; whoever comes then is sent away."""

    def __init__(self, size: int, what: str) -> None:
        self._size = size
        self._what = what
        self._taken = 0

    @contextmanager
    def place(self) -> Iterator[None]:
        """Take a place for a while. Raises TemporaryError where there is none."""
        if self._taken >= self._size:
            raise TemporaryError(f"{self._size} {self._what} are under way already")
        self._taken += 1
        try:
            yield
        finally:
            self._taken -= 1


class Turns:
    """So many at once, so many waiting for their turn, and none of them for longer than a while."""

    def __init__(self, *, at_once: int, waiting: int, waits_s: float, what: str) -> None:
        self._slots = asyncio.Semaphore(at_once)
        self._queue = Room(waiting, f"{what} beside the {at_once} that are made")
        self._waits_s = waits_s
        self._what = what

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn and have it. Raises TemporaryError where the queue is full, or too slow."""
        if self._slots.locked():
            with self._queue.place():
                await self._wait()
        else:
            await self._slots.acquire()
        try:
            yield
        finally:
            self._slots.release()

    async def _wait(self) -> None:
        try:
            async with asyncio.timeout(self._waits_s):
                await self._slots.acquire()
        except TimeoutError:
            raise TemporaryError(f"no turn among the {self._what} within {self._waits_s:g} s") from None
