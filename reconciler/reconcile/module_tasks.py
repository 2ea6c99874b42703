"""Plans and records what a person asks of change modules: a deploy, or a revert, by hand.

What passes would undo at once is held: the deployment keeps what the person made of it until a new commit, or
until somebody applies.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import reconciler.plan.build as plan_build
from reconciler.control import environments
from reconciler.diff import adoption
from reconciler.diff.model import DivergenceSort
from reconciler.errors import Refused
from reconciler.frozen import frozen
from reconciler.plan.model import DeploymentPlan, Plan, Scope
from reconciler.planner import tasks
from reconciler.planner.planner import Assessment, Planner, PlanRequest
from reconciler.reconcile.heads import Found, Heads
from reconciler.reconcile.record import Recorder, RolloutRequest
from reconciler.state.desired import DesiredState
from reconciler.state.task import ModuleTask, TaskVerb


@frozen
class TaskPlans:
    """What a task does, planned: where the environment was found, and its deployments' plans.

    What these were made from is let go: it is as long as they are, and nobody asks for it again.
    """

    where: Found
    plans: tuple[DeploymentPlan, ...]


class ModuleTasks:
    """Plans tasks, and records rollouts of them."""

    def __init__(self, *, heads: Heads, planner: Planner, recorder: Recorder) -> None:
        self._heads = heads
        self._planner = planner
        self._recorder = recorder

    async def plan(
        self,
        name: str,
        task: ModuleTask,
        *,
        deployment: str | None,
        allow_hazards: frozenset[str] = frozenset(),
    ) -> TaskPlans:
        """Plan a task on every deployment, or on one; raises Refused where its target lies behind."""
        where = await self._heads.look_up(name, deployment=deployment, to_plan=True)
        _spec, narrowed = await self._planner.desired(where.view, name, task=task)
        chosen = [state for state in narrowed if deployment in (None, state.deployment)]
        held = await self._recorder.held(name, where.view.commit)
        by_deployment = await self._held_after(where, chosen, task, held)
        request = PlanRequest(scope=Scope.FULL, allow_hazards=allow_hazards, not_before=where.read_since)
        found = await self._recorder.assess(where.spec, chosen, {}, request=request, tasks=by_deployment)
        _check_behind(name, task, found)
        _check_adopted(name, task, found)
        _check_created(name, task, found)
        return TaskPlans(where=where, plans=tuple(item.plan for item in found))

    async def preview(
        self, name: str, task: ModuleTask, *, deployment: str | None, allow_hazards: frozenset[str]
    ) -> Plan:
        """The dry run of a task; it writes nothing."""
        made = await self.plan(name, task, deployment=deployment, allow_hazards=allow_hazards)
        return plan_build.whole(name, made.where.view.commit, Scope.FULL, made.plans)

    async def record(
        self,
        made: TaskPlans,
        *,
        reason: str,
        requested_by: str,
        allow_hazards: frozenset[str],
    ) -> str | None:
        """Record a rollout of what was planned; gives its id, or None where there is nothing to do."""
        where = made.where
        ready = [plan for plan in made.plans if plan.steps]
        if not ready:
            return None
        async with self._recorder.connection() as connection:
            await environments.claim_name(connection, where.spec.name, where.view.source)
        request = RolloutRequest(
            scope=Scope.FULL,
            reason=reason,
            requested_by=requested_by,
            allow_hazards=allow_hazards,
            by_hand=True,
            narrowed=True,
        )
        return await self._recorder.record(where.view, where.spec, ready, request)

    async def _held_after(
        self, where: Found, chosen: Sequence[DesiredState], task: ModuleTask, held: Mapping[str, str]
    ) -> dict[str, ModuleTask]:
        """The task of each deployment, with why it is held after it."""
        if task.verb is TaskVerb.REVERT or tasks.narrows(where.states, chosen, task):
            mine = replace(task, hold=_why_held(task))
            return {state.deployment: mine for state in chosen}
        kept = await self._still_held(where, chosen, held) if held else {}
        return {state.deployment: replace(task, hold=kept.get(state.deployment)) for state in chosen}

    async def _still_held(
        self, where: Found, chosen: Sequence[DesiredState], held: Mapping[str, str]
    ) -> dict[str, str]:
        """Holds that stay: something else is pending, and was held too."""
        names = {state.deployment for state in chosen}
        whole = [state for state in where.states if state.deployment in names & set(held)]
        deployed = {state.deployment: {part.component for part in state.modules} for state in chosen}
        found = await self._recorder.assess(where.spec, whole, {})
        return {
            item.plan.name: held[item.plan.name]
            for item in found
            if any(row.component not in deployed[item.plan.name] for row in item.plan.pending)
        }


def _why_held(task: ModuleTask) -> str:
    if task.verb is TaskVerb.DEPLOY:
        return f"module '{task.module}' was deployed to '{task.to}' by hand, and not further"
    if task.everything:
        return f"module '{task.module}' was reverted by hand, all of it"
    how = f"to '{task.to}'" if task.to is not None else "by its last change"
    return f"module '{task.module}' was reverted by hand, {how}"


def _check_adopted(name: str, task: ModuleTask, found: Sequence[Assessment]) -> None:
    """An adoption that may not be is no adoption of nothing."""
    if task.verb is not TaskVerb.ADOPT:
        return
    reasons = [
        f"'{item.plan.name}': {why}"
        for item in found
        for why in (*([item.plan.unavailable] if item.plan.unavailable else []), *item.plan.blocked)
    ]
    if reasons:
        no_database = all(adoption.NOT_WRITABLE in why for why in reasons)
        unread = any(item.plan.unavailable for item in found)
        raise Refused(
            f"taking over what is deployed in environment '{name}': {'; '.join(reasons[:10])}",
            hint="check which database its component declares, and on which server: where another tool has "
            f"deployed, it is there; `reconciler diff {name}` says what is the matter with it"
            if no_database or unread
            else "`--registry` names the schema; changes that the plan file lacks must stand in it, and its "
            "target must not lie before them",
        )


def _check_created(name: str, task: ModuleTask, found: Sequence[Assessment]) -> None:
    """A deploy that has no database to deploy to is no deploy of nothing."""
    reasons = [
        f"'{item.plan.name}': {why}"
        for item in found
        if item.diff is not None
        for why in tasks.lacking(item.diff, task).values()
    ]
    if reasons:
        raise Refused(
            f"deploying modules of environment '{name}': {'; '.join(reasons[:10])}",
            hint="--createdb (over HTTP `createdb: true`) makes it, as its component declares it; so does "
            f"`reconciler apply {name}`",
        )


def _check_behind(name: str, task: ModuleTask, found: Sequence[Assessment]) -> None:
    if task.verb is not TaskVerb.DEPLOY or task.to is None:
        return
    for item in found:
        ahead = [
            row.identity.removeprefix("change ")
            for row in item.plan.diverged
            if row.sort is DivergenceSort.AHEAD
        ]
        if ahead:
            named = ", ".join(f"'{each}'" for each in ahead[:5])
            more = f" and {len(ahead) - 5} more" if len(ahead) > 5 else ""
            raise Refused(
                f"deploying module '{task.module}' of environment '{name}' to '{task.to}': that lies behind "
                f"what is deployed on '{item.plan.name}': {named}{more}",
                hint=f"`reconciler module revert {name} {task.module} --to {task.to}` takes back what "
                "was deployed after it",
            )
