"""The facade that the API and the command line call: coroutines over values, nothing of HTTP or terminals."""

import asyncio
from collections.abc import Callable, Sequence

from reconciler.control import deliveries, environments, job_schedules, left, programs, requests, stops, views
from reconciler.control import events as control_events
from reconciler.control.wake import wake, wake_source
from reconciler.diff.modules import DIVERGES
from reconciler.errors import DatabaseUnavailable, NotFound, ReconcilerError, Refused
from reconciler.plan.model import NOTHING_ASKED, DeploymentPlan, ObjectsAsked, Plan, Scope
from reconciler.planner.objects import forced_of
from reconciler.planner.planner import Planner, PlanRequest
from reconciler.postgres.connection import Connections
from reconciler.reconcile.heads import Heads, no_environment
from reconciler.reconcile.leaving import Ground, Leaving, ready
from reconciler.reconcile.looking import Looking
from reconciler.reconcile.module_tasks import ModuleTasks
from reconciler.reconcile.record import Recorder, RolloutRequest
from reconciler.reconcile.removing import Removing
from reconciler.rollout.status import (
    EnvironmentStatus,
    EventRecord,
    JobStatus,
    OutputStatus,
    RequestStatus,
    RolloutStatus,
)
from reconciler.spec.environment import EnvironmentSpec
from reconciler.state.task import ModuleTask, TaskVerb

DELIVERY_TAKEN_WITHIN_S = 2.0
"""Senders of webhooks wait a few seconds; what cannot be noted until then wakes this process alone."""


class Reconciler(Looking):
    """Everything the edges ask for."""

    def __init__(
        self,
        *,
        heads: Heads,
        planner: Planner,
        recorder: Recorder,
        connections: Connections,
        ask_pass: Callable[[str], None],
        ask_work: Callable[[], None],
    ) -> None:
        """`ask_pass(source)` and `ask_work()` wake the loops of this process, where it has any."""
        super().__init__(heads=heads, planner=planner, assessor=recorder, connections=connections)
        self._recorder = recorder
        self._tasks = ModuleTasks(heads=heads, planner=planner, recorder=recorder)
        self._removing = Removing(planner=planner, recorder=recorder)
        self._ask_pass = ask_pass
        self._ask_work = ask_work

    async def environments(self) -> tuple[EnvironmentStatus, ...]:
        """All environments of the control database."""
        async with self._recorder.connection() as connection:
            return await environments.read_environments(connection)

    async def environment(self, name: str) -> EnvironmentStatus:
        """One environment; raises NotFound with the nearest name there is."""
        async with self._recorder.connection() as connection:
            found = await environments.read_environments(connection, [name])
            if found:
                return found[0]
            everyone = await environments.read_environments(connection)
        raise no_environment(name, [status.name for status in everyone])

    async def apply(
        self,
        name: str,
        *,
        ref: str | None = None,
        deployment: str | None = None,
        scope: str | None = None,
        reason: str,
        requested_by: str,
        allow_hazards: frozenset[str] = frozenset(),
        objects: ObjectsAsked = NOTHING_ASKED,
    ) -> RolloutStatus | None:
        """Record one rollout now, held or not; None where there is nothing to do.

        `objects` names schemas as people write them.

        Raises Refused where nothing may be done, with every reason.
        """
        where = await self._heads.look_up(name, ref=ref, deployment=deployment)
        reason = _explained(where.spec, reason, requested_by)
        await self._heads.check_may_apply(where, ref)
        async with self._recorder.connection() as connection:
            await environments.claim_name(connection, name, where.view.source)
            known = await environments.read_environments(connection, [name])
        _refuse_suspended(name, known)
        chosen = Scope(scope) if scope is not None else Scope(where.spec.policy.scope)
        request = PlanRequest(
            scope=chosen,
            allow_hazards=allow_hazards,
            forced=forced_of(where.states, objects.redeploy),
            keep_failed=objects.keep_failed,
            insist=True,
        )
        found = await self._recorder.assess(where.spec, where.states, {}, request=request)
        plans = [item.plan for item in found]
        _refuse(name, plans)
        todo = [plan for plan in plans if plan.steps]
        if ref is None and deployment is None:
            ground = Ground(view=where.view, spec=where.spec, held={}, request=request)
            left_ones = await self._taken_back(ground)
            todo += ready(left_ones)
            if not todo:
                _refuse(name, left_ones.plans)
        if not todo:
            return None
        async with self._recorder.connection() as connection:
            await environments.release_holds(
                connection, name, [plan.name for plan in todo], actor=requested_by, reason=reason
            )
        why = RolloutRequest(
            scope=chosen,
            reason=reason,
            requested_by=requested_by,
            allow_hazards=allow_hazards,
            by_hand=True,
            narrowed=deployment is not None,
        )
        rollout = await self._recorder.record(where.view, where.spec, todo, why)
        self._ask_work()
        return await self.rollout(rollout)

    async def _taken_back(self, ground: Ground) -> Leaving:
        """What becomes of what left the spec, noted first: who carries it out is to find it noted."""
        name = ground.spec.name
        leavers = await self._leavers.known(name, ground.spec)
        if any(each.leaves for each in leavers):
            async with self._recorder.connection() as connection:
                await left.note_left(connection, name, [place.name for place in ground.spec.deployments])
            leavers = await self._leavers.known(name, ground.spec)
        return await self._leavers.look(ground, leavers)

    async def forget(self, name: str, deployment: str, *, reason: str, requested_by: str) -> None:
        """Stop telling of a deployment that left the spec; its databases stay as they are."""
        await self.environment(name)
        async with self._recorder.connection() as connection:
            await left.forget(connection, name, deployment, why=reason, actor=requested_by)

    async def preview_removal(self, name: str, databases: Sequence[str] = ()) -> Plan:
        """The dry run of a removal; nothing is written anywhere."""
        return await self._removing.preview(name, databases)

    async def remove(
        self, name: str, databases: Sequence[str] = (), *, reason: str, requested_by: str
    ) -> RolloutStatus | None:
        """Record the rollout that removes an environment which left its source.

        None where nothing is left to remove, and it is gone. Raises Refused with every reason.
        """
        rollout = await self._removing.record(name, databases, reason=reason, requested_by=requested_by)
        if rollout is None:
            return None
        self._ask_work()
        return await self.rollout(rollout)

    async def stop(self, name: str, *, reason: str, requested_by: str) -> None:
        """Want the services and routes of an environment off; the next rollout ends them."""
        await self.environment(name)
        async with self._recorder.connection() as connection:
            await stops.stop(connection, name, reason=reason, actor=requested_by)

    async def start(self, name: str, *, reason: str, requested_by: str) -> None:
        """Want them on again; the next rollout starts them."""
        await self.environment(name)
        async with self._recorder.connection() as connection:
            await stops.start(connection, name, reason=reason, actor=requested_by)

    async def preview_module(
        self,
        name: str,
        task: ModuleTask,
        *,
        deployment: str | None = None,
        allow_hazards: frozenset[str] = frozenset(),
    ) -> Plan:
        """The dry run of a deploy or a revert of modules by hand; nothing is written anywhere."""
        return await self._tasks.preview(name, task, deployment=deployment, allow_hazards=allow_hazards)

    async def run_module(
        self,
        name: str,
        task: ModuleTask,
        *,
        deployment: str | None = None,
        reason: str,
        requested_by: str,
        allow_hazards: frozenset[str] = frozenset(),
    ) -> RolloutStatus | None:
        """Record a rollout of a deploy or a revert of modules; None where there is nothing to do.

        Raises Refused where nothing may be done, with every reason.
        """
        rollout = await self.record_module(
            name,
            task,
            deployment=deployment,
            reason=reason,
            requested_by=requested_by,
            allow_hazards=allow_hazards,
        )
        return await self.rollout(rollout) if rollout is not None else None

    async def record_module(
        self,
        name: str,
        task: ModuleTask,
        *,
        deployment: str | None,
        reason: str,
        requested_by: str,
        allow_hazards: frozenset[str],
    ) -> str | None:
        """The same, for who does not want to see all of its steps before they begin; gives its id."""
        made = await self._tasks.plan(name, task, deployment=deployment, allow_hazards=allow_hazards)
        async with self._recorder.connection() as connection:
            known = await environments.read_environments(connection, [name])
        _refuse_suspended(name, known)
        _refuse(name, made.plans, task)
        rollout = await self._tasks.record(
            made, reason=reason, requested_by=requested_by, allow_hazards=allow_hazards
        )
        if rollout is not None:
            self._ask_work()
        return rollout

    async def rollouts(self, name: str, *, limit: int = 20) -> tuple[RolloutStatus, ...]:
        """The latest rollouts of an environment, newest first."""
        await self.environment(name)
        async with self._recorder.connection() as connection:
            return await views.read_rollouts(connection, name, limit=limit)

    async def rollout(self, rollout: str, *, steps: bool = True) -> RolloutStatus:
        """One rollout with its operations and their steps, which may be many."""
        async with self._recorder.connection() as connection:
            return await views.read_rollout(connection, rollout, steps=steps)

    async def progress(self, rollout: str, seen: views.StepsSeen) -> RolloutStatus:
        """The same for one who follows it: of its steps those that ended since it was last asked."""
        async with self._recorder.connection() as connection:
            return await views.read_progress(connection, rollout, seen)

    async def request(
        self,
        rollout: str,
        verb: str,
        *,
        deployment: str | None,
        requested_by: str,
        reason: str = "",
        digest: str | None = None,
    ) -> RequestStatus:
        """Note what an operator asks of a rollout; durable before this returns.

        `digest` names the plan that is agreed to; approve needs it.
        """
        async with self._recorder.connection() as connection:
            status = await requests.submit(
                connection,
                rollout=rollout,
                verb=verb,
                deployment=deployment,
                requested_by=requested_by,
                why=reason,
                digest=digest,
            )
            environment = await views.environment_of(connection, rollout)
        self._ask_work()
        await self._ask(environment)
        return status

    async def suspend(self, name: str, *, reason: str, requested_by: str) -> None:
        """Stop reconciling an environment."""
        await self.environment(name)
        async with self._recorder.connection() as connection:
            await environments.suspend(connection, name, reason=reason, actor=requested_by)

    async def resume(self, name: str, *, requested_by: str) -> None:
        """Reconcile an environment again."""
        await self.environment(name)
        async with self._recorder.connection() as connection:
            await environments.resume(connection, name, actor=requested_by)
        await self._ask(name)

    async def reconcile(self, name: str, *, requested_by: str) -> None:
        """Ask for a pass now, and for a look at the source first where it has something new."""
        del requested_by
        status = await self.environment(name)
        await self._ask(name)
        async with self._recorder.connection() as connection:
            await wake_source(connection, status.source)

    async def delivered(self, source: str, *, delivery: str | None) -> bool:
        """Wake a source in every daemon that has it; false where the delivery was taken before.

        While the control database is away the loop of this process is woken, and nothing is noted.
        """
        try:
            async with asyncio.timeout(DELIVERY_TAKEN_WITHIN_S), self._recorder.connection() as connection:
                return await deliveries.take(connection, source=source, delivery=delivery)
        except (ReconcilerError, TimeoutError):
            self._ask_pass(source)
            return True

    async def outputs(self, name: str, *, deployment: str | None = None) -> tuple[OutputStatus, ...]:
        """What the components of an environment put out, without sensitive values; raises NotFound."""
        known = await self.environment(name)
        if deployment is not None and all(row.name != deployment for row in known.deployments):
            raise NotFound(f"environment '{name}' has no deployment '{deployment}'")
        async with self._recorder.connection() as connection:
            return await programs.read_outputs(connection, name, deployment)

    async def jobs(self, name: str) -> tuple[JobStatus, ...]:
        """The jobs of an environment, with their last runs and next times; raises NotFound."""
        await self.environment(name)
        async with self._recorder.connection() as connection:
            return await job_schedules.read(connection, name)

    async def events(
        self,
        *,
        environment: str | None = None,
        rollout: str | None = None,
        after: int | None = None,
        limit: int = 100,
    ) -> tuple[EventRecord, ...]:
        """Events in order of their ids: those after `after`, else the newest."""
        async with self._recorder.connection() as connection:
            return await control_events.read_events(
                connection, environment=environment, rollout=rollout, after=after, limit=limit
            )

    async def ready(self) -> tuple[bool, str]:
        """Whether the control database is reachable and every source was tried once, and why not."""
        try:
            async with asyncio.timeout(5):
                async with self._recorder.connection() as connection:
                    await environments.ping(connection)
        except (ReconcilerError, TimeoutError) as error:
            return False, f"the control database cannot be reached: {error}"
        if not self._heads.tried:
            return False, "the first fetch of a source is still under way"
        return True, "ready"

    async def _ask(self, name: str) -> None:
        """Ask for a pass of an environment, wherever its daemon runs."""
        async with self._recorder.connection() as connection:
            await wake(connection, name)


def _explained(spec: EnvironmentSpec, reason: str, requested_by: str) -> str:
    """The reason of a rollout; raises Refused where the spec asks for one and nobody gave any."""
    if spec.policy.require_reason and not reason.strip():
        raise Refused(
            f"environment '{spec.name}' asks why it is to be rolled out: policy.requireReason is set",
            hint=f"`reconciler apply {spec.name} --reason TEXT`",
        )
    return reason or f"applied by {requested_by}"


def _refuse_suspended(name: str, known: Sequence[EnvironmentStatus]) -> None:
    if known and known[0].suspended:
        raise Refused(
            f"environment '{name}' is suspended: nothing of a rollout would be carried out",
            hint=f"`reconciler resume {name}` first",
        )


def _refuse(name: str, plans: Sequence[DeploymentPlan], task: ModuleTask | None = None) -> None:
    """Raise where a person asked for a rollout and something may not be done, with every reason."""
    unreadable = [f"{plan.name}: {plan.unavailable}" for plan in plans if plan.unavailable is not None]
    if unreadable:
        raise DatabaseUnavailable(f"environment '{name}' cannot be planned: {'; '.join(unreadable)}")
    refused = [f"{plan.name}: {why}" for plan in plans for why in plan.refused]
    if refused:
        raise Refused(
            f"environment '{name}' needs consent: {'; '.join(refused)}",
            hint=_how_to_consent(task),
        )
    blocked = [f"{plan.name}: {why}" for plan in plans for why in plan.blocked]
    if blocked and not any(plan.steps for plan in plans):
        diverges = any(DIVERGES in why for why in blocked)
        raise Refused(
            f"environment '{name}' is blocked: {'; '.join(blocked)}",
            hint=f"`reconciler module check {name}` lists all that differs; the plan file, or `divergence` "
            "of the module, settles it"
            if diverges
            else f"`reconciler diff {name}` shows the plan, `reconciler module status {name}` the modules",
        )


def _how_to_consent(task: ModuleTask | None) -> str:
    named = "name the hazards with --allow-hazard, or in policy.allowHazards"
    if task is None or not (task.log_only or task.verb in (TaskVerb.REVERT, TaskVerb.ADOPT)):
        return named
    return f"--yes consents to what this verb is about, once you have seen its --dry-run; else {named}"
