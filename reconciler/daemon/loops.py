"""The loops around passes: wakes set a flag, one task takes it, runs a pass, and looks again.

Any number of wakes during a pass lead to one more pass; none is lost.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

from reconciler.errors import ReconcilerError, TemporaryError
from reconciler.events import Event, TaskFailed, WakeCause, WakeReceived

RETRY_FIRST_S = 1.0
RETRY_CEILING_S = 30.0


FULL = frozenset({WakeCause.START, WakeCause.DRIFT})
"""What asks for a look at every database, not only at what a commit changed."""
TOGETHER_S = 0.02
"""How long wakes of environments are gathered, so that many that come at once are read at once."""


class SourceLoop:
    """Runs passes of one source, one at a time, whenever woken."""

    def __init__(
        self, source: str, run_pass: Callable[[str, bool], Awaitable[None]], emit: Callable[[Event], None]
    ) -> None:
        self.source = source
        self._run_pass = run_pass
        self._emit = emit
        self._wake = asyncio.Event()
        self._full = False
        self._failures = 0

    def wake(self, cause: WakeCause) -> None:
        """Ask for a pass."""
        self._emit(WakeReceived(cause=cause, source=self.source))
        self._full = self._full or cause in FULL
        self._wake.set()

    async def run(self) -> None:
        """Run until cancelled. A pass that failed is tried again, with growing pauses."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            full, self._full = self._full, False
            try:
                await self._run_pass(self.source, full)
            except ReconcilerError as error:
                if not isinstance(error, TemporaryError):
                    self._emit(TaskFailed(task=f"source {self.source}", error=str(error)))
                await self._try_again(full)
            except Exception as error:  # noqa: BLE001 - a loop of the daemon goes on
                self._emit(TaskFailed(task=f"source {self.source}", error=f"internal error: {error!r}"))
                await self._try_again(full)
            else:
                self._failures = 0

    async def _try_again(self, full: bool) -> None:
        self._failures += 1
        self._full = self._full or full
        await self._pause()

    async def _pause(self) -> None:
        """Wait before the next try, or until something wakes us; then try in any case."""
        pause = min(RETRY_FIRST_S * 2 ** min(self._failures - 1, 10), RETRY_CEILING_S)
        with suppress(TimeoutError):
            await asyncio.wait_for(self._wake.wait(), timeout=pause * random.uniform(0.7, 1.3))  # noqa: S311
        self._wake.set()


class EnvironmentLoop:
    """Passes over single environments as they are woken; those that wake meanwhile follow together.

    `run_passes` is told of each whether all of its databases are to be looked at. What fails is left to the
    passes of the sources: `failed` asks for them.
    """

    def __init__(
        self,
        run_passes: Callable[[Mapping[str, bool]], Awaitable[None]],
        failed: Callable[[], None],
        emit: Callable[[Event], None],
    ) -> None:
        self._run_passes = run_passes
        self._failed = failed
        self._emit = emit
        self._wake = asyncio.Event()
        self._names: dict[str, bool] = {}

    def wake(self, name: str, *, full: bool = True) -> None:
        """Ask for a pass of an environment; not `full`: what is known to be in sync need not be read."""
        self._names[name] = full or self._names.get(name, False)
        self._wake.set()

    async def run(self) -> None:
        """Run until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(TOGETHER_S)
            self._wake.clear()
            names, self._names = self._names, {}
            try:
                await self._run_passes(names)
            except TemporaryError:
                self._failed()
            except Exception as error:  # noqa: BLE001 - a loop of the daemon goes on
                self._emit(TaskFailed(task="environments", error=f"{error!r}"))
                self._failed()
