"""Tells the control database how far an operation is, in batches; the truth is in the tracking schema."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime

from reconciler.control import transitions
from reconciler.errors import LeaseLost, ReconcilerError
from reconciler.events import BaseLineRetaken, Event, ScriptSaid, StepFinished
from reconciler.plan.steps import AnyStep, DiscardObjects, PromoteObjects, StageObjects, StepKind
from reconciler.postgres.redact import redact
from reconciler.worker.lease import ControlAccess, Interrupted, Running
from reconciler.worker.promotion import Promotions

FLUSH_INTERVAL_S = 0.25
"""How often finished steps are written to the control database while an operation runs."""


class Journal:
    """Notes steps as they go, and is where an operation hears that it has to stop."""

    def __init__(self, running: Running, control: ControlAccess, emit: Callable[[Event], None]) -> None:
        self._running = running
        self._control = control
        self._emit = emit
        self.promotions = Promotions(running, control)
        self._finished: list[str] = []
        self._said: dict[str, str] = {}
        self._started: dict[str, None] = {}
        self._waiting: set[str] = set()
        self.current: AnyStep | None = None
        self.broken: AnyStep | None = None

    async def started(self, step: AnyStep, *, instead_of: AnyStep | None = None) -> None:
        """A step begins, `instead_of` one that waits from now on for what it shares a transaction with."""
        self.current = step
        self._started[step.id] = None
        if instead_of is not None:
            self._waiting.add(instead_of.id)
            self._started.pop(instead_of.id, None)

    async def finished(self, step: AnyStep, duration_s: float) -> None:
        """A step is done."""
        self._finished.append(step.id)
        self._started.pop(step.id, None)
        self._emit(self._event(step, duration_s, None))
        if step.kind is StepKind.TAKE_BASE_LINE:
            self.retaken(step.database, "planned")

    async def done_before(self, step_ids: Sequence[str]) -> None:
        """What an attempt before this one did and could not note; told at once, for this may end so too."""
        self._finished += step_ids
        await self.flush()

    def said(self, step: AnyStep, text: str) -> None:
        """The scripts of a step said something; what looks like a secret is masked before anybody sees it."""
        text = redact(text)
        self._said[step.id] = text
        claim = self._running.claim
        self._emit(
            ScriptSaid(
                environment=claim.environment,
                deployment=claim.deployment,
                operation=claim.operation,
                step=step.id,
                component=step.component,
                identity=step.identity,
                text=text,
            )
        )

    async def failed(self, step: AnyStep, duration_s: float, error: BaseException) -> None:
        """A step failed; one that was only interrupted did not."""
        if not isinstance(error, Exception) or isinstance(error, Interrupted):
            return
        self.broken = self.broken or step
        self._emit(self._event(step, duration_s, error))
        with suppress(ReconcilerError):
            await self.flush()
            async with self._control.connection() as connection:
                await transitions.step_finished(
                    connection, self._running.claim, step.id, "failed", reason=str(error)
                )
        self._started.pop(step.id, None)

    async def progressed(self, step: AnyStep, text: str) -> None:
        """A step that takes long got on; only the newest of it is shown."""
        self._said[step.id] = redact(text)

    async def safe_point(self) -> None:
        """Nothing is under way: stop here if the operation has to."""
        self._running.checkpoint()

    async def staging(self, step: StageObjects, server: str) -> None:
        """A generation is about to be made: from now on something of it may be there."""
        await self.promotions.staging(step, server)

    async def discarded(self, step: DiscardObjects) -> None:
        """Nothing of a generation is there any more."""
        await self.promotions.discarded(step)

    async def may_promote(self, step: PromoteObjects) -> None:
        """Return once the promotion may be made at once; raises Parked where it has to wait."""
        await self.flush()
        self.current = step
        await self.promotions.may_promote(step)

    async def promoted(self, step: PromoteObjects, retained_until: datetime | None) -> None:
        """The switch is made; until then what it displaced is kept."""
        await self.promotions.promoted(step, retained_until)

    def retaken(self, database: str, reason: str) -> None:
        """Tell that a base line is taken anew."""
        claim = self._running.claim
        self._emit(
            BaseLineRetaken(
                environment=claim.environment, deployment=claim.deployment, database=database, reason=reason
            )
        )

    def _event(self, step: AnyStep, duration_s: float, error: Exception | None) -> StepFinished:
        claim = self._running.claim
        return StepFinished(
            environment=claim.environment,
            deployment=claim.deployment,
            operation=claim.operation,
            step=step.id,
            kind=step.kind.value,
            component=step.component,
            identity=step.identity,
            ok=error is None,
            duration_s=duration_s,
            sqlstate=getattr(error, "sqlstate", None),
            error=str(error) if error is not None else None,
        )

    async def flush(self) -> None:
        """Write what finished since the last time, as one statement."""
        finished, self._finished = self._finished, []
        started, self._started = self._started, {}
        said, self._said = self._said, {}
        waiting, self._waiting = self._waiting, set()
        if not finished and not said and not started:
            return
        try:
            async with self._control.connection() as connection:
                for step_id, text in said.items():
                    # Before its step is done: whoever looks then has all of it.
                    await transitions.step_said(connection, self._running.claim, step_id, text)
                if finished:
                    await transitions.finish_many(connection, self._running.claim, finished)
                for step_id in [each for each in started if each not in finished]:
                    await transitions.step_started(connection, self._running.claim, step_id, sorted(waiting))
                    waiting = set()
        except BaseException:
            self._finished = finished + self._finished
            self._said = {**said, **self._said}
            self._started = {**started, **self._started}
            self._waiting |= waiting
            raise

    async def flush_regularly(self) -> None:
        """Flush until cancelled; a control database that is away costs nothing but progress shown late."""
        while True:
            await asyncio.sleep(FLUSH_INTERVAL_S)
            try:
                await self.flush()
            except LeaseLost:
                self._running.lose()
            except ReconcilerError:
                continue
