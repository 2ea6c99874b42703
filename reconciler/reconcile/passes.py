"""One pass: fetch a source, plan each of its environments, record what is to be rolled out.

A pass writes to the control database only, and only what changed. Carrying out is the worker's.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial

from reconciler.control import environments, rollouts
from reconciler.control.environments import DeploymentObservation, Observation
from reconciler.errors import Conflict, ReconcilerError, TemporaryError
from reconciler.events import CommitApplied, DriftFound, Event, PassFinished, PassResult
from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.planner.planner import Assessment, Planner
from reconciler.planner.view import SourceView
from reconciler.postgres.connection import Connection
from reconciler.reconcile.heads import Head, Heads
from reconciler.reconcile.lanes import Lanes
from reconciler.reconcile.record import Recorder, RolloutRequest
from reconciler.rollout.states import TERMINAL
from reconciler.rollout.status import EnvironmentStatus, RolloutStatus
from reconciler.spec.environment import EnvironmentSpec

BY_ITSELF = "reconciler"
"""Who asked for a rollout that nobody asked for by hand."""
ROLLOUTS_LOOKED_AT = 20
"""How many of an environment's latest rollouts a pass looks at for one that is under way."""
SLOW_S = 1.0
"""From when on an environment that cannot be read counts as one that makes others wait."""
PATIENCE_S = 2.0
"""How long a pass of a source waits for its environments. Who takes longer goes on alone, and the next commit
does not wait for it."""


class Passes:
    """Runs passes; `ask_work` is called when a pass recorded something to work on.

    With `only_look` a pass records what it found and no rollout: what a command without a daemon does.
    """

    def __init__(
        self,
        *,
        heads: Heads,
        planner: Planner,
        recorder: Recorder,
        environments_in_parallel: int,
        only_look: bool = False,
        emit: Callable[[Event], None],
        ask_work: Callable[[], None],
    ) -> None:
        self._heads = heads
        self._planner = planner
        self._recorder = recorder
        self._emit = emit
        self._ask_work = ask_work
        self._lanes = Lanes(environments_in_parallel)
        self._only_look = only_look
        self._applied: dict[str, str | None] = {}
        self._drift: dict[tuple[str, str], frozenset[str]] = {}

    async def pass_source(self, source: str) -> None:
        """Fetch a source and run a pass over each of its environments; one never stops or delays another.

        Raises what came between us and the control database, so that the pass is tried again soon.
        """
        head = await self._heads.fetch(source)
        view = await self._planner.view(source, head.commit)
        async with self._recorder.connection() as connection:
            known = {
                status.name: status
                for status in await environments.read_environments(connection)
                if status.source == source
            }
            refused = await self._claim_names(connection, source, set(view.environments) - set(known))
            unreadable = _unreadable(view, known)
            if head.error is None:
                await environments.retire_missing(
                    connection, source, sorted({*view.environments, *unreadable} - set(refused))
                )
        for name, why in refused.items():
            self._emit(PassFinished(environment=name, result=PassResult.FAILED, duration_s=0.0, error=why))
        for name, (path, why) in unreadable.items():
            await self._report(view, head, name, path, why)
        failures: list[TemporaryError] = []
        tasks = {
            name: self._lanes.ask(
                name, partial(self._guarded_pass, view, head, name, known.get(name), failures.append)
            )
            for name in sorted(view.environments)
            if name not in refused
        }
        # Who was slow the last time is not waited for again.
        awaited = {task for name, task in tasks.items() if self._only_look or not self._lanes.is_slow(name)}
        if awaited:
            await asyncio.wait(awaited, timeout=None if self._only_look else PATIENCE_S)
        if failures:
            raise failures[0]

    async def close(self) -> None:
        """End the passes that are under way."""
        await self._lanes.close()

    async def _claim_names(self, connection: Connection, source: str, names: set[str]) -> dict[str, str]:
        """Environment names belong to the source that declared them first; say which are another's."""
        refused = {}
        for name in sorted(names):
            try:
                await environments.claim_name(connection, name, source)
            except Conflict as error:
                refused[name] = str(error)
        return refused

    async def _report(self, view: SourceView, head: Head, name: str, path: str, why: str) -> None:
        """Report an environment whose file cannot be read any more; what is applied stays."""
        with suppress(ReconcilerError):
            await self._observe_error(view, head, name, why, path=path)
        self._emit(
            PassFinished(
                environment=name,
                result=PassResult.FAILED,
                duration_s=0.0,
                source=view.source,
                commit=view.commit,
                error=why,
            )
        )

    async def _guarded_pass(
        self,
        view: SourceView,
        head: Head,
        name: str,
        known: EnvironmentStatus | None,
        tell: Callable[[TemporaryError], None],
    ) -> bool:
        """The boundary of a pass: every error becomes the environment's own, and counts.

        True where somebody did not answer. A deployment that cannot be read is no error of the pass, so one
        that may pass is the control database's: it is told.
        """
        self._tell_applied(name, known)
        began = time.monotonic()
        outcome = _Outcome(result=PassResult.FAILED)
        failure: str | None = None
        try:
            outcome = await self._pass(view, head, name, known)
        except ReconcilerError as error:
            failure = str(error)
            if isinstance(error, TemporaryError):
                tell(error)
        except Exception as error:  # noqa: BLE001 - the boundary of a pass
            failure = f"internal error: {error!r}"
        if failure is not None:
            with suppress(ReconcilerError):
                await self._observe_error(view, head, name, failure)
        self._emit(
            PassFinished(
                environment=name,
                result=outcome.result,
                duration_s=time.monotonic() - began,
                source=view.source,
                commit=view.commit,
                pending=outcome.pending,
                drift=outcome.drift,
                diverged=outcome.diverged,
                held=outcome.held,
                rollout=outcome.rollout,
                error=failure,
            )
        )
        return outcome.waited and time.monotonic() - began > SLOW_S

    async def _pass(
        self, view: SourceView, head: Head, name: str, known: EnvironmentStatus | None
    ) -> "_Outcome":
        if known is not None and known.suspended:
            async with self._recorder.connection() as connection:
                await environments.observe(connection, _observation(view, head, name, None, None))
            return _Outcome(result=PassResult.SUSPENDED)
        spec, states = await self._planner.desired(view, name)
        async with self._recorder.connection() as connection:
            recent = await rollouts.read_rollouts(connection, name, limit=ROLLOUTS_LOOKED_AT)
            held = await environments.held(connection, name, view.commit)
        active = _active(recent, view.commit)
        found = await self._recorder.assess(spec, states, held, resuming=frozenset(active))
        recorded = await self._record_pending(view, spec, found, active)
        if recorded is None:
            await self._supersede(name, view.commit, recent)
        deployments = tuple(_observed(item.plan, active) for item in found)
        observation = _observation(view, head, name, spec.policy.mode, deployments)
        async with self._recorder.connection() as connection:
            await environments.observe(connection, observation)
        if recorded:
            self._ask_work()
        plans = [item.plan for item in found]
        self._tell_drift(name, plans)
        return _Outcome(
            result=_result(plans, recorded),
            pending=sum(len(plan.pending) for plan in plans),
            drift=sum(len(plan.drift) for plan in plans),
            diverged=sum(len(plan.diverged) for plan in plans),
            held=sum(1 for plan in plans if plan.held is not None),
            waited=any(plan.unavailable is not None for plan in plans),
            rollout=recorded,
        )

    async def _supersede(self, name: str, commit: str, recent: Sequence[RolloutStatus]) -> None:
        """End what is under way for older commits, where this one needs no rollout of its own."""
        older = [
            rollout
            for rollout in recent
            if rollout.commit != commit
            and rollout.requested_by == BY_ITSELF
            and any(operation.state not in TERMINAL for operation in rollout.operations)
        ]
        if older:
            async with self._recorder.connection() as connection:
                await rollouts.supersede(connection, name, commit)

    def _tell_applied(self, name: str, known: EnvironmentStatus | None) -> None:
        """Tell once that a commit is applied everywhere; a restart tells nothing again."""
        commit = known.applied_commit if known is not None else None
        before = self._applied.get(name)
        first = name not in self._applied
        self._applied[name] = commit
        if known is None or commit is None or first or commit == before:
            return
        if known.head_commit_at is None or known.applied_at is None or known.head_commit != commit:
            return
        self._emit(
            CommitApplied(
                environment=name,
                commit=commit,
                committed_at=known.head_commit_at,
                seconds=max(0.0, (known.applied_at - known.head_commit_at).total_seconds()),
            )
        )

    def _tell_drift(self, name: str, plans: Sequence[DeploymentPlan]) -> None:
        """Tell drift when it is new, not on every pass."""
        for plan in plans:
            if plan.unavailable is not None:
                continue
            now = frozenset(row.identity for row in plan.drift)
            if now and now != self._drift.get((name, plan.name)):
                self._emit(
                    DriftFound(
                        environment=name,
                        deployment=plan.name,
                        objects=len(now),
                        examples=tuple(sorted(now)[:5]),
                    )
                )
            self._drift[name, plan.name] = now

    async def _record_pending(
        self,
        view: SourceView,
        spec: EnvironmentSpec,
        found: Sequence[Assessment],
        active: Mapping[str, RolloutStatus],
    ) -> str | None:
        """Record a rollout for the deployments that have something to do and may do it by themselves."""
        if self._only_look or spec.policy.mode == "observe":
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
        request = RolloutRequest(scope=Scope(spec.policy.scope), reason="commit", requested_by=BY_ITSELF)
        try:
            return await self._recorder.record(view, spec, ready, request)
        except Conflict:
            # Held since we looked; the next pass says so.
            return None

    async def _observe_error(
        self, view: SourceView, head: Head, name: str, error: str, *, path: str | None = None
    ) -> None:
        observation = Observation(
            name=name,
            source=view.source,
            path=path or view.environments[name].file,
            head_commit=head.commit,
            head_commit_at=head.committed_at,
            observed_commit=None,
            error=error,
            mode=None,
            deployments=None,
        )
        async with self._recorder.connection() as connection:
            await environments.observe(connection, observation)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    result: PassResult
    pending: int = 0
    drift: int = 0
    diverged: int = 0
    held: int = 0
    waited: bool = False
    rollout: str | None = None


def _result(plans: Sequence[DeploymentPlan], recorded: str | None) -> PassResult:
    if recorded is not None:
        return PassResult.RECORDED
    if any(plan.held is not None for plan in plans):
        return PassResult.HELD
    if any(plan.pending or plan.blocked or plan.unavailable is not None for plan in plans):
        return PassResult.PENDING
    return PassResult.IN_SYNC


def _unreadable(view: SourceView, known: Mapping[str, EnvironmentStatus]) -> dict[str, tuple[str, str]]:
    """Known environments whose file no longer says whose it is, with file and problems.

    They did not leave the source; nobody can tell what they are to be.
    """
    broken: dict[str, list[str]] = {}
    for item in view.nameless:
        broken.setdefault(item.file, []).extend(str(problem) for problem in item.problems)
    return {
        name: (status.path, "\n".join(broken[status.path]))
        for name, status in known.items()
        if status.path in broken and name not in view.environments
    }


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
    mode: str | None,
    deployments: tuple[DeploymentObservation, ...] | None,
) -> Observation:
    return Observation(
        name=name,
        source=view.source,
        path=view.environments[name].file,
        head_commit=head.commit,
        head_commit_at=head.committed_at,
        observed_commit=view.commit if deployments is not None else None,
        error=head.error,
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
