"""One pass: fetch a source, plan each of its environments, record what is to be rolled out.

A pass writes to the control database only, and only what changed. Carrying out is the worker's.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from reconciler.control import environments, rollouts
from reconciler.control import events as control_events
from reconciler.control.environments import DeploymentObservation, Observation
from reconciler.errors import Conflict, InvalidInput, ReconcilerError
from reconciler.events import Event, PassFinished
from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.planner import Assessment, Planner, SourceView
from reconciler.postgres.connection import Connection
from reconciler.reconcile.heads import Head, Heads
from reconciler.reconcile.record import Recorder, RolloutRequest
from reconciler.rollout.states import TERMINAL
from reconciler.rollout.status import EnvironmentStatus, RolloutStatus
from reconciler.spec.environment import EnvironmentSpec, PolicyMode

ROLLOUTS_LOOKED_AT = 20
"""How many of an environment's latest rollouts a pass looks at for one that is under way."""


class Passes:
    """Runs passes; `ask_work` is called when a pass recorded something to work on."""

    def __init__(
        self,
        *,
        heads: Heads,
        planner: Planner,
        recorder: Recorder,
        environments_in_parallel: int,
        emit: Callable[[Event], None],
        ask_work: Callable[[], None],
    ) -> None:
        self._heads = heads
        self._planner = planner
        self._recorder = recorder
        self._emit = emit
        self._ask_work = ask_work
        self._slots = asyncio.Semaphore(environments_in_parallel)

    async def pass_source(self, source: str) -> None:
        """Fetch a source and run a pass over each of its environments; one never stops another."""
        head = await self._heads.fetch(source)
        view = await self._planner.view(source, head.commit)
        names = sorted(view.environments)
        async with self._recorder.connection() as connection:
            refused = await self._claim_names(connection, source, names)
            if head.error is None:
                await environments.retire_missing(connection, source, names)
            known = {
                status.name: status for status in await environments.read_environments(connection, names)
            }
        await asyncio.gather(
            *(self._guarded_pass(view, head, name, known.get(name)) for name in names if name not in refused)
        )

    async def _claim_names(self, connection: Connection, source: str, names: Sequence[str]) -> dict[str, str]:
        """Environment names belong to the source that declared them first; say which are another's."""
        refused = {}
        for name in names:
            try:
                await environments.claim_name(connection, name, source)
            except Conflict as error:
                refused[name] = str(error)
                await control_events.append(
                    connection, kind="environment.refused", message=str(error), environment=name
                )
        return refused

    async def _guarded_pass(
        self, view: SourceView, head: Head, name: str, known: EnvironmentStatus | None
    ) -> None:
        """The boundary of a pass: every error becomes the environment's own, and counts."""
        began = time.monotonic()
        result, outcome = "failed", None
        async with self._slots:
            try:
                outcome = await self._pass(view, head, name, known)
                result = outcome.result
            except InvalidInput as error:
                await self._observe_error(view, head, name, str(error))
                result = "invalid"
            except ReconcilerError as error:
                with suppress(ReconcilerError):
                    await self._observe_error(view, head, name, str(error))
            except Exception as error:  # noqa: BLE001 - the boundary of a pass
                with suppress(ReconcilerError):
                    await self._observe_error(view, head, name, f"internal error: {error!r}")
        self._emit(
            PassFinished(
                environment=name,
                result=result,
                duration_s=time.monotonic() - began,
                commit=view.commit,
                pending=outcome.pending if outcome else 0,
                drift=outcome.drift if outcome else 0,
            )
        )

    async def _pass(
        self, view: SourceView, head: Head, name: str, known: EnvironmentStatus | None
    ) -> "_Outcome":
        parsed = view.environments[name]
        if known is not None and known.suspended:
            async with self._recorder.connection() as connection:
                await environments.observe(connection, _observation(view, head, name, observed=None))
            return _Outcome(result="suspended")
        spec, states = await self._planner.desired(view, name)
        async with self._recorder.connection() as connection:
            recent = await rollouts.read_rollouts(connection, name, limit=ROLLOUTS_LOOKED_AT)
            held = await environments.held(connection, name, view.commit)
        active = _active(recent, view.commit)
        found = await self._recorder.assess(spec, states, held, resuming=frozenset(active))
        recorded = await self._record_pending(view, spec, found, active)
        observation = _observation(
            view,
            head,
            name,
            observed=view.commit,
            mode=spec.policy.mode.value,
            file=parsed.file,
            deployments=tuple(_observed(item.plan, active) for item in found),
        )
        async with self._recorder.connection() as connection:
            await environments.observe(connection, observation)
        if recorded:
            self._ask_work()
        return _Outcome(
            result="recorded"
            if recorded
            else "in_sync"
            if all(not i.plan.pending for i in found)
            else "pending",
            pending=sum(len(item.plan.pending) for item in found),
            drift=sum(len(item.plan.drift) for item in found),
        )

    async def _record_pending(
        self,
        view: SourceView,
        spec: EnvironmentSpec,
        found: Sequence[Assessment],
        active: Mapping[str, RolloutStatus],
    ) -> str | None:
        """Record a rollout for the deployments that have something to do and may do it by themselves."""
        if spec.policy.mode is PolicyMode.OBSERVE:
            return None
        ready = [
            item.plan
            for item in found
            if item.plan.steps
            and item.plan.held is None
            and not item.plan.refused
            and item.plan.name not in active
        ]
        if not ready:
            return None
        request = RolloutRequest(scope=Scope(spec.policy.scope), reason="commit", requested_by="reconciler")
        return await self._recorder.record(view, spec, ready, request)

    async def _observe_error(self, view: SourceView, head: Head, name: str, error: str) -> None:
        observation = _observation(view, head, name, observed=None, error=error)
        async with self._recorder.connection() as connection:
            await environments.observe(connection, observation)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    result: str
    pending: int = 0
    drift: int = 0


def _active(recent: Sequence[RolloutStatus], commit: str) -> dict[str, RolloutStatus]:
    """Deployments on which an operation for this commit is under way."""
    return {
        operation.deployment: rollout
        for rollout in recent
        if rollout.commit == commit
        for operation in rollout.operations
        if operation.state not in TERMINAL
    }


def _observation(
    view: SourceView,
    head: Head,
    name: str,
    *,
    observed: str | None,
    error: str | None = None,
    mode: str | None = None,
    file: str | None = None,
    deployments: tuple[DeploymentObservation, ...] | None = None,
) -> Observation:
    parsed = view.environments[name]
    return Observation(
        name=name,
        source=view.source,
        path=file or parsed.file,
        head_commit=head.commit,
        head_commit_at=head.committed_at,
        observed_commit=observed,
        error=error or head.error,
        mode=mode,
        deployments=deployments,
    )


def _observed(plan: DeploymentPlan, active: Mapping[str, RolloutStatus]) -> DeploymentObservation:
    return DeploymentObservation(
        name=plan.name,
        pending=len(plan.pending),
        drift=len(plan.drift),
        diverged=len(plan.diverged),
        held=plan.held,
        unavailable=plan.unavailable,
        blocked="; ".join((*plan.blocked, *plan.refused)) or None,
        in_sync=not plan.pending
        and not plan.blocked
        and plan.unavailable is None
        and plan.name not in active,
    )
