"""Breaks off what takes long where somebody asks for that; what it had done is for its callers to keep."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

LOOK_EVERY_S = 0.25


async def breakable(work: Coroutine[Any, Any, None], urgent: Callable[[], None] | None) -> None:
    """Do work beside which `urgent` is asked again and again; what that raises is raised, the work undone."""
    if urgent is None:
        await work
        return
    task = asyncio.create_task(work)
    try:
        while not task.done():
            await asyncio.wait({task}, timeout=LOOK_EVERY_S)
            if not task.done():
                urgent()
    except BaseException:
        await _end(task)
        raise
    await task


async def _end(task: "asyncio.Task[None]") -> None:
    """Cancel it and wait until the server has taken back what it was at."""
    task.cancel()
    await asyncio.wait({task})
