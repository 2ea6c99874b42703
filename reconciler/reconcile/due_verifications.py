"""Run the verify scripts of environments whose specs ask for it, when they are due, beside the passes.

A pass only says what is due: nobody's pass waits for scripts, however long these take.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from reconciler.control import verifications
from reconciler.control.verifications import VerificationFound
from reconciler.errors import ReconcilerError
from reconciler.events import Event, TaskFailed, VerifyFailed
from reconciler.frozen import frozen
from reconciler.planner.planner import Assessment
from reconciler.reconcile.record import Recorder
from reconciler.reconcile.verifying import DeploymentVerified, Verifier
from reconciler.state.module_requests import VerifyRequest

AT_ONCE = 2
"""Environments verified side by side, in places of their own."""
WAITING_MAX = 64
"""Environments that wait for such a place; who finds none is due again at the next pass."""
TOLD_MAX = 5


@frozen
class Due:
    """What is due of one environment: deployments as a pass assessed them, at a commit."""

    environment: str
    commit: str
    found: Sequence[Assessment]
    owner: str | None


def is_due(interval_s: float, known: Mapping[str, Mapping[str, Any]], deployment: str) -> bool:
    """Whether the last run on a deployment, by the control database's clock, is too long ago, or none was."""
    return deployment not in known or known[deployment]["age_s"] >= interval_s


def due_of(
    interval_s: float, known: Mapping[str, Mapping[str, Any]], found: Sequence[Assessment]
) -> list[Assessment]:
    """Deployments that were read and whose last run, by the control database's clock, is too long ago."""
    return [
        item
        for item in found
        if item.tracked is not None and is_due(interval_s, known, item.desired.deployment)
    ]


class DueVerifications:
    """Runs what is due, an environment at a time each, and records what was found."""

    def __init__(self, *, recorder: Recorder, emit: Callable[[Event], None]) -> None:
        self.verifier: Verifier | None = None
        self._recorder = recorder
        self._emit = emit
        self._slots = asyncio.Semaphore(AT_ONCE)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def ask(self, due: Due) -> None:
        """Have an environment verified soon, unless it is being so already."""
        if self.verifier is None or not due.found or due.environment in self._tasks:
            return
        if len(self._tasks) >= AT_ONCE + WAITING_MAX:
            return
        task = asyncio.create_task(self._run(due, self.verifier), name=f"verify {due.environment}")
        self._tasks[due.environment] = task

    async def forget(self, environment: str, owner: str | None) -> None:
        """The spec does not ask for it any more."""
        async with self._recorder.connection() as connection:
            await verifications.forget(connection, environment, owner=owner)

    async def close(self) -> None:
        """Cancel what is under way; it is due again then."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, due: Due, verifier: Verifier) -> None:
        try:
            async with self._slots:
                for item in due.found:
                    verified = await verifier.deployment(item, VerifyRequest())
                    if verified.unavailable is None:
                        await self._note(due, verified)
        except ReconcilerError:
            # It is due again at the next pass, which tells of databases that cannot be reached.
            return
        except Exception as error:  # noqa: BLE001 - the boundary of a task of its own
            self._emit(TaskFailed(task=f"verify {due.environment}", error=repr(error)))
        finally:
            del self._tasks[due.environment]

    async def _note(self, due: Due, verified: DeploymentVerified) -> None:
        found = VerificationFound(
            deployment=verified.name,
            commit=due.commit,
            passed=sum(module.passed for module in verified.modules),
            failures=len(verified.failed),
            unverified=len(verified.unverified),
            summary=_summary(verified),
        )
        async with self._recorder.connection() as connection:
            is_news = await verifications.note(connection, due.environment, found, owner=due.owner)
        if is_news and found.failures:
            self._emit(
                VerifyFailed(
                    environment=due.environment,
                    deployment=verified.name,
                    failures=found.failures,
                    examples=tuple(row.change for row in verified.failed[:TOLD_MAX]),
                )
            )


def _summary(verified: DeploymentVerified) -> str | None:
    """The first failures, in words."""
    rows = [
        f"{module.component}: {row.change}: {row.message}"
        for module in verified.modules
        for row in module.failed
    ]
    if not rows:
        return None
    more = f"; and {len(rows) - TOLD_MAX} more" if len(rows) > TOLD_MAX else ""
    return "; ".join(rows[:TOLD_MAX]) + more
