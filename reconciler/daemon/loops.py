"""The loops around a source: wakes set a flag, one task takes it, runs a pass, and looks again.

Any number of wakes during a pass lead to one more pass; none is lost.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

from reconciler.errors import ReconcilerError, TemporaryError
from reconciler.events import Event, TaskFailed, WakeCause, WakeReceived

RETRY_FIRST_S = 1.0
RETRY_CEILING_S = 30.0


class SourceLoop:
    """Runs passes of one source, one at a time, whenever woken."""

    def __init__(
        self, source: str, run_pass: Callable[[str], Awaitable[None]], emit: Callable[[Event], None]
    ) -> None:
        self.source = source
        self._run_pass = run_pass
        self._emit = emit
        self._wake = asyncio.Event()
        self._failures = 0

    def wake(self, cause: WakeCause) -> None:
        """Ask for a pass."""
        self._emit(WakeReceived(cause=cause, source=self.source))
        self._wake.set()

    async def run(self) -> None:
        """Run until cancelled. A pass that failed is tried again, with growing pauses."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._run_pass(self.source)
            except ReconcilerError as error:
                self._failures += 1
                if not isinstance(error, TemporaryError):
                    self._emit(TaskFailed(task=f"source {self.source}", error=str(error)))
                await self._pause()
            except Exception as error:  # noqa: BLE001 - a loop of the daemon goes on
                self._failures += 1
                self._emit(TaskFailed(task=f"source {self.source}", error=f"internal error: {error!r}"))
                await self._pause()
            else:
                self._failures = 0

    async def _pause(self) -> None:
        """Wait before the next try, or until something wakes us; then try in any case."""
        pause = min(RETRY_FIRST_S * 2 ** min(self._failures - 1, 10), RETRY_CEILING_S)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), timeout=pause * random.uniform(0.7, 1.3))  # noqa: S311
        self._wake.set()
