"""Record rollouts of what the deployments of an environment need."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from reconciler.control import rollouts
from reconciler.control.rollouts import NewOperation, NewRollout
from reconciler.errors import ReconcilerError
from reconciler.events import RolloutRecorded
from reconciler.frozen import frozen
from reconciler.plan.encode import deployment_to_json
from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.planner.steps import steps_of
from reconciler.planner.view import SourceView
from reconciler.reconcile.assess import Assessor
from reconciler.rollout.states import OperationState
from reconciler.rollout.summary import RolloutPolicy
from reconciler.spec.environment import EnvironmentSpec


@frozen
class RolloutRequest:
    """Why and how a rollout is to be recorded, and who asked for it.

    One by hand does not mind holds; a narrowed one is for some deployments and leaves the others' alone.
    """

    scope: Scope
    reason: str
    requested_by: str
    allow_hazards: frozenset[str] = frozenset()
    by_hand: bool = False
    narrowed: bool = False
    removes: bool = False


class Recorder(Assessor):
    """Plans and records."""

    async def record(
        self,
        view: SourceView,
        spec: EnvironmentSpec,
        plans: Sequence[DeploymentPlan],
        request: RolloutRequest,
        *,
        owner: str | None = None,
        planned_from: datetime | None = None,
    ) -> str:
        """Record one rollout with an operation for each plan; gives its id.

        LeaseLost where `owner` is given and passes over the environment no more, Conflict where the commit
        came to an end there after `planned_from`.
        """
        waits = spec.policy.mode == "approve" and not request.by_hand
        initial = OperationState.WAITING_FOR_APPROVAL if waits else OperationState.PENDING
        servers, waves = await self._servers(view, spec, plans), _waves(spec, plans)
        new = NewRollout(
            environment=spec.name,
            source=view.source,
            commit=view.commit,
            scope=request.scope.value,
            policy=_policy(spec),
            reason=request.reason,
            requested_by=request.requested_by,
            allow_hazards=tuple(sorted(frozenset(spec.policy.allow_hazards) | request.allow_hazards)),
            operations=tuple(
                NewOperation(
                    deployment=plan.name,
                    ordinal=ordinal,
                    plan=deployment_to_json(plan),
                    plan_digest=plan.digest,
                    initial=initial,
                    steps=steps_of(plan),
                    server=servers.get(plan.name),
                    wave=waves.get(plan.name, 0),
                )
                for ordinal, plan in enumerate(plans)
            ),
            narrowed=request.narrowed,
            respect_holds=not request.by_hand,
            owner=owner,
            planned_from=planned_from,
            wave_pause_s=spec.rollout.waves.pause_s,
            removes=request.removes,
        )
        async with self.connection() as connection:
            rollout = await rollouts.record(connection, new)
        self._emit(
            RolloutRecorded(
                environment=spec.name,
                rollout=rollout,
                commit=view.commit,
                deployments=tuple(plan.name for plan in plans),
                requested_by=request.requested_by,
                reason=request.reason,
            )
        )
        return rollout

    async def _servers(
        self, view: SourceView, spec: EnvironmentSpec, plans: Sequence[DeploymentPlan]
    ) -> dict[str, str]:
        """The server of each deployment, as its connection string names it, where that can be told."""
        _, states = await self._planner.desired(view, spec.name)
        found: dict[str, str] = {}
        for desired in states:
            with suppress(ReconcilerError):
                found[desired.deployment] = self._planner.dsn(desired).server
        for plan in plans:
            if plan.prune_from is not None:
                with suppress(ReconcilerError):
                    left = await self._planner.left(view, spec.name, plan.name, plan.prune_from)
                    found[plan.name] = self._planner.dsn(left).server
        return found


def _waves(spec: EnvironmentSpec, plans: Sequence[DeploymentPlan]) -> dict[str, int]:
    """The wave of each deployment; those that left are taken back behind all others."""
    others = [spec.waves.get(plan.name, 0) for plan in plans if plan.prune_from is None]
    last = max(others, default=-1) + 1
    return {
        plan.name: last if plan.prune_from is not None else spec.waves.get(plan.name, 0) for plan in plans
    }


def _policy(spec: EnvironmentSpec) -> RolloutPolicy:
    return RolloutPolicy(
        order=spec.rollout.order,
        on_failure=spec.rollout.on_failure,
        max_parallel=spec.rollout.max_parallel,
        promotion=spec.rollout.promotion,
    )
