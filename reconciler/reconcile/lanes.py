"""One job at a time for each name, side by side within a bound; what is urgent goes first.

A job that is asked for while one of its name is under way runs after it; of several, only the newest. Names
that make others wait take places of their own, so that they never take all of the others'.
"""

import asyncio
from collections.abc import Awaitable, Callable

Job = Callable[[], Awaitable[bool]]
"""Does something for a name; true where it waited for somebody who did not answer. Never raises."""


class _Lane:
    """Places that jobs take, and the names that wait for one: urgent ones before the others."""

    def __init__(self, places: int) -> None:
        self.free = places
        self.urgent: dict[str, None] = {}
        self.others: dict[str, None] = {}

    def next(self) -> str | None:
        """The name whose turn it is, taken out, if there is a place for it."""
        waiting = self.urgent or self.others
        if not self.free or not waiting:
            return None
        name = next(iter(waiting))
        del waiting[name]
        return name


class Lanes:
    """Runs jobs: quick names in one lane, those that kept others waiting in a narrower one."""

    def __init__(self, in_parallel: int) -> None:
        self._quick = _Lane(in_parallel)
        self._slow = _Lane(max(1, in_parallel // 4))
        self._waited: set[str] = set()
        self._asked: dict[str, Job] = {}
        self._ends: dict[str, asyncio.Future[None]] = {}
        self._running: dict[str, asyncio.Task[None]] = {}

    def ask(self, name: str, job: Job, *, urgent: bool = True) -> "asyncio.Future[None]":
        """Have a job done; the future ends when nothing is asked for that name any more."""
        self._asked[name] = job
        if name not in self._ends:
            self._ends[name] = asyncio.get_running_loop().create_future()
        if name not in self._running:
            self._queue(name, urgent=urgent)
        end = self._ends[name]
        self._start()
        return end

    def give_way(self, name: str) -> None:
        """End the job of a name that is under way, where another one was asked for after it began."""
        if name in self._running and name in self._asked:
            self._running[name].cancel()

    def is_slow(self, name: str) -> bool:
        """Whether the last job of a name waited for somebody who did not answer."""
        return name in self._waited

    def is_asked(self, name: str) -> bool:
        """Whether a job of a name waits for its turn."""
        return name in self._asked

    def has(self, name: str) -> bool:
        """Whether a job of a name waits or is under way."""
        return name in self._ends

    def is_busy(self, name: str) -> bool:
        """Whether a job of a name is under way."""
        return name in self._running

    async def close(self) -> None:
        """Cancel what is under way and forget what was asked."""
        self._asked.clear()
        for lane in (self._quick, self._slow):
            lane.urgent.clear()
            lane.others.clear()
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for end in self._ends.values():
            end.cancel()
        self._ends.clear()

    def _lane(self, name: str) -> _Lane:
        return self._slow if name in self._waited else self._quick

    def _queue(self, name: str, *, urgent: bool) -> None:
        lane = self._lane(name)
        if urgent:
            lane.others.pop(name, None)
            lane.urgent[name] = None
        elif name not in lane.urgent:
            lane.others[name] = None

    def _start(self) -> None:
        for lane in (self._quick, self._slow):
            while (name := lane.next()) is not None:
                lane.free -= 1
                self._running[name] = asyncio.create_task(self._run(name, lane), name=f"pass {name}")

    async def _run(self, name: str, lane: _Lane) -> None:
        try:
            if await self._asked.pop(name)():
                self._waited.add(name)
            else:
                self._waited.discard(name)
        finally:
            # No await from here on, so nothing that is asked meanwhile is forgotten.
            lane.free += 1
            del self._running[name]
            if name in self._asked:
                self._queue(name, urgent=True)
            elif not (end := self._ends.pop(name)).done():
                end.set_result(None)
            self._start()
