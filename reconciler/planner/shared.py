"""One piece of work at a time for each key, its outcome shared; it does no work itself."""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Made = TypeVar("Made")


@dataclass(slots=True, eq=False)
class _Work(Generic[Made]):
    """`waiting` counts those who wait for it: work nobody waits for any more is ended."""

    began: float
    task: asyncio.Task[Made]
    waiting: int = 0
    weight: int = 0


class Shared(Generic[Key, Made]):
    """Shares outcomes, errors among them, with all who accept one that began when this began.

    Outcomes are kept `keep_s` after the beginning and up to a total weight, those used last longest. Belongs
    to one event loop.
    """

    def __init__(
        self,
        *,
        keep_s: float,
        weight_max: int,
        weigh: Callable[[Made], int],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keep_s = keep_s
        self._weight_max = weight_max
        self._weigh = weigh
        self._clock = clock
        self._works: OrderedDict[Key, _Work[Made]] = OrderedDict()
        self._weight = 0
        self._sweeper: asyncio.TimerHandle | None = None

    async def get(self, key: Key, make: Callable[[], Awaitable[Made]], *, not_before: float | None) -> Made:
        """The outcome of work that began at `not_before` or later; None accepts only work that begins now."""
        now = self._clock()
        work = self._works.get(key)
        if work is None or not_before is None or work.began < not_before or work.began + self._keep_s < now:
            work = self._begin(key, make, now)
        else:
            self._works.move_to_end(key)
        work.waiting += 1
        try:
            return await asyncio.shield(work.task)
        finally:
            work.waiting -= 1
            if not work.waiting and not work.task.done():
                self._forget(key, work)
                work.task.cancel()
                # Nothing of it is left behind when we are gone.
                await asyncio.wait({work.task})

    def ready(self, key: Key, *, not_before: float) -> Made | None:
        """The outcome of work that began then or later, where it is there already and was no error."""
        work = self._works.get(key)
        if work is None or work.began < not_before or not work.task.done() or work.task.cancelled():
            return None
        return work.task.result() if work.task.exception() is None else None

    def _begin(self, key: Key, make: Callable[[], Awaitable[Made]], now: float) -> _Work[Made]:
        async def made() -> Made:
            return await make()

        work = _Work(began=now, task=asyncio.create_task(made(), name="shared read"))
        before = self._works.pop(key, None)
        if before is not None:
            # Whoever waits for it still gets it.
            self._weight -= before.weight
        self._works[key] = work
        work.task.add_done_callback(lambda task: self._ended(key, work, task))
        return work

    def _ended(self, key: Key, work: _Work[Made], task: asyncio.Task[Made]) -> None:
        failed = task.cancelled() or task.exception() is not None
        if self._works.get(key) is not work:
            return
        if task.cancelled():
            self._forget(key, work)
            return
        work.weight = 1 if failed else self._weigh(task.result())
        self._weight += work.weight
        while self._weight > self._weight_max:
            self._forget(*next((key, work) for key, work in self._works.items() if work.weight))
        self._sweep_later()

    def _forget(self, key: Key, work: _Work[Made]) -> None:
        if self._works.get(key) is work:
            del self._works[key]
            self._weight -= work.weight

    def _sweep_later(self) -> None:
        """Nothing that is done stays in memory for longer than it may be used."""
        if self._sweeper is None and self._works:
            self._sweeper = asyncio.get_running_loop().call_later(self._keep_s, self._sweep)

    def _sweep(self) -> None:
        self._sweeper = None
        now = self._clock()
        for key, work in list(self._works.items()):
            if work.task.done() and work.began + self._keep_s <= now:
                self._forget(key, work)
        self._sweep_later()
