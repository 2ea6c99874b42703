"""Plan the deployments of an environment side by side, and record rollouts of what they need."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial

from reconciler.control import environments, rollouts
from reconciler.control.rollouts import NewOperation, NewRollout
from reconciler.errors import DatabaseUnavailable, ReconcilerError
from reconciler.events import Event, RolloutRecorded
from reconciler.plan.encode import deployment_to_json
from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.planner.planner import Assessment, Planner, PlanRequest
from reconciler.planner.steps import steps_of
from reconciler.planner.view import SourceView
from reconciler.postgres.connection import Connection, Connections, Dsn
from reconciler.rollout.states import OperationState
from reconciler.rollout.summary import RolloutPolicy
from reconciler.spec.environment import EnvironmentSpec
from reconciler.state.desired import DesiredState
from reconciler.state.task import ModuleTask


@dataclass(frozen=True, slots=True, kw_only=True)
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


class Recorder:
    """Plans and records; `control` is None for a dry run where no control database exists yet."""

    def __init__(
        self,
        *,
        control: Dsn | None,
        connections: Connections,
        planner: Planner,
        deployments_in_parallel: int,
        emit: Callable[[Event], None],
    ) -> None:
        self._control = control
        self._connections = connections
        self._planner = planner
        self._parallel = deployments_in_parallel
        self._emit = emit

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """A connection to the control database."""
        if self._control is None:
            raise DatabaseUnavailable(
                "there is no control database yet", hint="start the daemon, or `reconciler control start`"
            )
        async with self._connections.borrow(self._control, role="control") as connection:
            yield connection

    async def held(self, name: str, commit: str) -> Mapping[str, str]:
        """Deployments on which a rollout of the commit holds, with the reason."""
        if self._control is None:
            return {}
        async with self.connection() as connection:
            return await environments.held(connection, name, commit)

    async def assess(
        self,
        spec: EnvironmentSpec,
        states: Sequence[DesiredState],
        held: Mapping[str, str],
        *,
        resuming: frozenset[str] = frozenset(),
        request: PlanRequest | None = None,
        intended: Mapping[str, frozenset[str]] | None = None,
        tasks: Mapping[str, ModuleTask] | None = None,
    ) -> list[Assessment]:
        """Plan deployments side by side, within a bound; databases intended are read where None is given.

        `tasks`, by deployment, is what is asked of modules in place of everything.
        """
        base = request or PlanRequest()
        slots = asyncio.Semaphore(self._parallel)
        if intended is None:
            intended = await self._intended(states)

        async def made(deployment: str) -> frozenset[str]:
            if self._control is None:
                return frozenset()
            async with self.connection() as connection:
                return await environments.made_databases(connection, states[0].environment, deployment)

        async def one(desired: DesiredState) -> Assessment:
            async with slots:
                own = PlanRequest(
                    scope=base.scope,
                    intended=intended.get(desired.deployment, frozenset()),
                    made=partial(made, desired.deployment),
                    resuming=desired.deployment in resuming,
                    allow_hazards=base.allow_hazards,
                    held=held.get(desired.deployment),
                    not_before=base.not_before,
                    task=base.task if tasks is None else tasks[desired.deployment],
                )
                return await self._planner.assess(spec, desired, own)

        return list(await asyncio.gather(*(one(desired) for desired in states)))

    async def _intended(self, states: Sequence[DesiredState]) -> dict[str, frozenset[str]]:
        if self._control is None or not states:
            return {}
        async with self.connection() as connection:
            return await environments.all_intended_databases(connection, states[0].environment)

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
        servers = await self._servers(view, spec)
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
                )
                for ordinal, plan in enumerate(plans)
            ),
            narrowed=request.narrowed,
            respect_holds=not request.by_hand,
            owner=owner,
            planned_from=planned_from,
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

    async def _servers(self, view: SourceView, spec: EnvironmentSpec) -> dict[str, str]:
        """The server of each deployment, as its connection string names it, where that can be told."""
        _, states = await self._planner.desired(view, spec.name)
        found: dict[str, str] = {}
        for desired in states:
            with suppress(ReconcilerError):
                found[desired.deployment] = self._planner.dsn(desired).server
        return found


def _policy(spec: EnvironmentSpec) -> RolloutPolicy:
    return RolloutPolicy(
        order=spec.rollout.order,
        on_failure=spec.rollout.on_failure,
        max_parallel=spec.rollout.max_parallel,
        promotion=spec.rollout.promotion,
    )
