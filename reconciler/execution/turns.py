"""Who of the steps of a phase waits for whom, and who has which connection; it carries out nothing."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from reconciler.execution.course import Parked
from reconciler.execution.module_tasks import Stopped
from reconciler.execution.resources import Resources
from reconciler.plan.steps import AnyStep

WRITERS_PER_DATABASE_MAX = 4
"""Modules of one database that are written side by side; each beyond the first needs a connection."""
PARALLEL_PROGRAMS_MAX = 256
"""Services, jobs and routes that are seen to side by side; most of that is waiting for them."""


class Turns:
    """Who of one phase waits for whom: edges between components, and bounds on what goes on at once."""

    def __init__(
        self, steps: Sequence[AnyStep], edges: Mapping[str, tuple[str, ...]], *, databases: int
    ) -> None:
        self._after = edges
        self._left = Counter(step.component for step in steps)
        self._done = {component: asyncio.Event() for component in self._left}
        self._parked: dict[str, Parked] = {}
        self._stop = asyncio.Event()
        self.errors: list[BaseException] = []
        """What went wrong, the first one first."""
        # Held while steps run and never while one waits for another: all could wait for who has none.
        self._databases = asyncio.Semaphore(databases)
        self._programs = asyncio.Semaphore(PARALLEL_PROGRAMS_MAX)

    def stop(self, error: BaseException) -> None:
        """Something failed: nothing more is begun."""
        self.errors.append(error)
        self._stop.set()

    def go_on(self) -> None:
        """Raise if something failed."""
        if self._stop.is_set():
            raise Stopped

    def slot(self, database: str) -> asyncio.Semaphore:
        """What is held while a step runs that goes to a database, or to none."""
        return self._databases if database else self._programs

    async def wait(self, component: str) -> None:
        """Return once everything before `component` is done."""
        for before in self._after.get(component, ()):
            if before in self._done:
                waits = [asyncio.create_task(event.wait()) for event in (self._done[before], self._stop)]
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in waits:
                        task.cancel()
                if before in self._parked:
                    raise self._parked[before]
        self.go_on()

    def park(self, steps: Sequence[AnyStep], parked: Parked) -> None:
        """Components wait for a promotion, and what comes behind them with them; others go on."""
        self.errors.append(parked)
        for step in steps:
            if self._left[step.component] > 0:
                self._parked[step.component] = parked
                self._done[step.component].set()

    def done(self, component: str, count: int) -> None:
        """Note `count` finished steps of a component."""
        self._left[component] -= count
        if self._left[component] <= 0:
            self._done[component].set()


class Writers:
    """Hands out resources to lanes: lanes of one database that run at the same time have a writer each."""

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._first: set[str] = set()
        self._free: dict[str, list[Resources]] = {}
        self._bounds: dict[str, asyncio.Semaphore] = {}

    @asynccontextmanager
    async def one(self, database: str) -> AsyncIterator[Resources]:
        """Resources whose writer to a database nobody else uses meanwhile; for no database, just those."""
        if not database:
            yield self._resources
            return
        bound = self._bounds.setdefault(database, asyncio.Semaphore(WRITERS_PER_DATABASE_MAX))
        async with bound:
            own = await self._take(database)
            try:
                yield own
            finally:
                self._free.setdefault(database, []).append(own)

    async def _take(self, database: str) -> Resources:
        free = self._free.get(database, [])
        if free:
            return free.pop()
        if database not in self._first:
            self._first.add(database)
            return self._resources
        return await self._resources.beside(database)
