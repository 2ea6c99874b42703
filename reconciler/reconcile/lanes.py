"""One job at a time for each name, side by side within a bound; names that make others wait go apart.

A job that is asked for while one of its name is under way runs after it; of several, only the newest.
"""

import asyncio
from collections.abc import Awaitable, Callable

Job = Callable[[], Awaitable[bool]]
"""Does something for a name; true where it waited for somebody who did not answer. Never raises."""


class Lanes:
    """Runs jobs. What does not answer takes places of its own, so that it never takes all of the others'."""

    def __init__(self, in_parallel: int) -> None:
        self._quick = asyncio.Semaphore(in_parallel)
        self._slow = asyncio.Semaphore(max(1, in_parallel // 4))
        self._waited: set[str] = set()
        self._asked: dict[str, Job] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def ask(self, name: str, job: Job) -> "asyncio.Task[None]":
        """Have a job done; the task ends when nothing is asked for that name any more."""
        self._asked[name] = job
        if name not in self._tasks:
            self._tasks[name] = asyncio.create_task(self._run(name), name=f"pass {name}")
        return self._tasks[name]

    def is_slow(self, name: str) -> bool:
        """Whether the last job of a name waited for somebody who did not answer."""
        return name in self._waited

    async def close(self) -> None:
        """Cancel what is under way and forget what was asked."""
        self._asked.clear()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, name: str) -> None:
        try:
            while name in self._asked:
                async with self._slow if name in self._waited else self._quick:
                    # Taken once it is our turn: it may be a newer one by then.
                    if await self._asked.pop(name)():
                        self._waited.add(name)
                    else:
                        self._waited.discard(name)
        finally:
            # No await between the last look and this, so nothing asked is forgotten.
            del self._tasks[name]
