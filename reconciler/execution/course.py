"""Which of several steps in a row runs, and how long each took; it carries out none."""

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from reconciler.execution.interference import Interference
from reconciler.plan.steps import AnyStep, DiscardObjects, PromoteObjects, StageObjects


class Parked(Exception):
    """The operation waits before a promotion, and holds no worker meanwhile; nothing is wrong."""

    def __init__(self, step: PromoteObjects) -> None:
        super().__init__(f"waits before the promotion of generation {step.generation} of '{step.component}'")
        self.step = step


class Journal(Protocol):
    """Where the progress of steps goes; `safe_point` raises to stop before the next one."""

    async def started(self, step: AnyStep, *, instead_of: AnyStep | None = None) -> None:
        """A step begins, `instead_of` one that waits from now on for what it shares a transaction with."""

    async def finished(self, step: AnyStep, duration_s: float) -> None:
        """A step is done."""

    async def failed(self, step: AnyStep, duration_s: float, error: BaseException) -> None:
        """A step failed."""

    async def safe_point(self) -> None:
        """Nothing is under way."""

    async def progressed(self, step: AnyStep, text: str) -> None:
        """A step that takes long got on; `text` says how far it is."""

    async def staging(self, step: StageObjects, server: str) -> None:
        """A generation is about to be made: from now on something of it may be there."""

    async def discarded(self, step: DiscardObjects) -> None:
        """Nothing of a generation is there any more."""

    async def may_promote(self, step: PromoteObjects) -> None:
        """Return once the promotion may be made at once; raises Parked where it has to wait."""

    async def promoted(self, step: PromoteObjects, retained_until: datetime | None) -> None:
        """The switch is made; until then what it displaced is kept."""


class Course:
    """Steps that are done one after the other, and how far that is.

    In one transaction several run before the first of them is done.
    """

    def __init__(self, steps: Sequence[AnyStep], journal: Journal, interference: Interference) -> None:
        self._steps = steps
        self._journal = journal
        self._interference = interference
        self._since = time.monotonic()
        self._runs = -1
        self._spent: dict[int, float] = {}
        self.position = 0
        """How many are done."""

    async def begin(self) -> None:
        """The first one that is not done begins, unless one behind it does already."""
        if self.position < len(self._steps) and self._runs < self.position:
            self._interference.at(f"before {self._steps[self.position].id}")
            self._runs, self._since = self.position, time.monotonic()
            await self._journal.started(self._steps[self.position])

    async def runs(self, number: int) -> None:
        """A step behind it runs, of those that share a transaction."""
        if number == self._runs or not self.position <= number < len(self._steps):
            return
        before, now = self._runs, time.monotonic()
        self._spent[before] = self._spent.get(before, 0.0) + now - self._since
        self._runs, self._since = number, now
        await self._journal.started(self._steps[number], instead_of=self._steps[before])

    async def done(self) -> None:
        """The first one that is not done is, and the next begins."""
        step, took = self._steps[self.position], self._took(self.position)
        await self._journal.finished(step, took)
        self.position += 1
        await self.begin()

    async def failed(self, number: int, error: Exception) -> None:
        """A step failed."""
        await self._journal.failed(self._steps[number], self._took(number), error)

    def _took(self, number: int) -> float:
        under_way = time.monotonic() - self._since if number == self._runs else 0.0
        return self._spent.get(number, 0.0) + under_way
