"""Timers that wake sources at their intervals, whatever happens to the clock of the machine; they do no work.

APScheduler goes by the time of day: were the clock set back by an hour, its timers would stand still for one.
"""

import asyncio
import time
from collections.abc import Callable, Sequence

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.interval import IntervalTrigger

from reconciler.events import WakeCause
from reconciler.settings import SourceSettings

JITTER = 0.1
"""Part of an interval by which a timer may be late, so that many do not wake at once."""
LOOK_EVERY_S = 5.0
JUMP_S = 1.0
"""By how much the clock has to differ from what passed to be taken for set."""


class Timers:
    """Two timers for each source: to fetch it, and to look at all of its environments for drift."""

    def __init__(self, sources: Sequence[SourceSettings], wake: Callable[[str, WakeCause], None]) -> None:
        self._scheduler = AsyncIOScheduler()
        for source in sources:
            for cause, seconds in (
                (WakeCause.TIMER, source.interval_s),
                (WakeCause.DRIFT, source.drift_interval_s),
            ):
                self._scheduler.add_job(
                    wake,
                    _every(seconds),
                    args=[source.name, cause],
                    id=f"{source.name} {cause.value}",
                    coalesce=True,
                    max_instances=1,
                    misfire_grace_time=None,
                )

    async def run(self) -> None:
        """Run until cancelled; timers begin anew when the clock was set."""
        self._scheduler.start()
        try:
            offset = _offset()
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                before, offset = offset, _offset()
                if abs(offset - before) > JUMP_S:
                    self._begin_anew()
        finally:
            self._scheduler.shutdown(wait=False)

    def _begin_anew(self) -> None:
        for job in self._scheduler.get_jobs():
            # A trigger counts from when it was made, so each job gets a new one.
            job.reschedule(_every(job.trigger.interval_length))


def _every(seconds: float) -> IntervalTrigger:
    return IntervalTrigger(seconds=seconds, jitter=seconds * JITTER)


def _offset() -> float:
    """How far the time of day is from the clock that only goes forward."""
    return time.time() - time.monotonic()
