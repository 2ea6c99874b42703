"""Has jobs take turns, so that those who wait for somebody silent keep nobody waiting; it knows no job."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TypeVar

SLOW_S = 2.0
"""After so long a job gives its place back, for it most likely waits for somebody who does not answer."""
SLOW_TIMES = 4
"""Jobs under way at once, those that gave their places back included, for each place."""
DOUBTFUL_PART = 4
"""Doubtful jobs have places of their own, one for so many of the others'."""

Made = TypeVar("Made")
Job = Callable[[], Awaitable[Made]]


async def in_turns(
    jobs: Mapping[str, Job[Made]],
    in_parallel: int,
    *,
    doubtful: Collection[str] = (),
    patience_s: Callable[[Collection[Made]], float | None] = lambda _made: None,
) -> dict[str, Made]:
    """What jobs make, by name; an error of one is raised at once, and ends the others.

    `doubtful` ones most likely wait in vain: `patience_s` tells, once all the others are done and what they
    made, how long to wait for them still; None is to their ends. Who is not waited for is missing.
    """
    quick = _Places(in_parallel)
    slow = _Places(max(1, in_parallel // DOUBTFUL_PART))
    tasks = {
        name: asyncio.create_task((slow if name in doubtful else quick).run(job), name=f"turn of {name}")
        for name, job in jobs.items()
    }
    late = [task for name, task in tasks.items() if name in doubtful]
    try:
        made = list(await asyncio.gather(*(task for name, task in tasks.items() if name not in doubtful)))
        if late:
            await asyncio.wait(late, timeout=patience_s(made))
        return {name: task.result() for name, task in tasks.items() if task.done()}
    finally:
        for task in tasks.values():
            task.cancel()
        await asyncio.gather(*tasks.values(), return_exceptions=True)


class _Places:
    """Places side by side; who takes long goes on without one."""

    def __init__(self, count: int) -> None:
        self._places = asyncio.Semaphore(count)
        self._all = asyncio.Semaphore(count * SLOW_TIMES)

    async def run(self, job: Job[Made]) -> Made:
        """Do a job when there is a place for it."""
        async with self._all:
            async with self._places:
                work = asyncio.ensure_future(job())
                try:
                    await asyncio.wait({work}, timeout=SLOW_S)
                except BaseException:
                    work.cancel()
                    await asyncio.wait({work})
                    raise
            return await work
