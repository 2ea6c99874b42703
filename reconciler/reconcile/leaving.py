"""Deployments that left the spec: what becomes of each, and the rollout that takes back what they deployed.

It is decided here for passes, dry runs and rollouts by hand alike. The databases themselves stay.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from reconciler.control import intents
from reconciler.control.intents import Leaver
from reconciler.errors import ReconcilerError
from reconciler.frozen import frozen
from reconciler.plan.hazards import HazardCode
from reconciler.plan.model import DeploymentPlan, LeftDeployment, Scope
from reconciler.planner.left import Namesake
from reconciler.planner.planner import Planner, PlanRequest
from reconciler.planner.view import SourceView
from reconciler.reconcile.assess import Assessor, Before
from reconciler.spec.environment import EnvironmentSpec
from reconciler.state.desired import DesiredState

PLANNED_MAX = 100
"""Deployments that are looked into at once; the turn of the next ones comes when these are taken back."""
MANY_SHARE = 10
"""Of so many deployments one may go without more consent; a list that was cut short loses more."""
NOTHING = "nothing is done to it"
OFF = f"{NOTHING}: policy.prune is off"
PART = f"{NOTHING} by a rollout of resources alone"
TURN = f"its turn comes when the first {PLANNED_MAX} are taken back"
NO_MORE = f"{NOTHING}: nothing that this environment deployed is there any more"
TAKEN_BACK = "what it deployed is taken back by its revert scripts; its databases stay"


@frozen
class Ground:
    """What is known where a deployment left: the commit without it, and what of it is held.

    `head` is the commit that is followed, where a dry run is of another.
    """

    view: SourceView
    spec: EnvironmentSpec
    held: Mapping[str, str]
    request: PlanRequest
    head: SourceView | None = None


@frozen
class Leaving:
    """What becomes of the deployments that left, and the plans of those that are taken back."""

    rows: tuple[LeftDeployment, ...] = ()
    plans: tuple[DeploymentPlan, ...] = ()


class Leavers:
    """Looks into deployments that left; it writes nowhere."""

    def __init__(self, *, planner: Planner, assessor: Assessor) -> None:
        self._planner = planner
        self._assessor = assessor

    async def known(self, environment: str, spec: EnvironmentSpec) -> tuple[Leaver, ...]:
        """The deployments that the environment had and the spec does not; none without a control database."""
        if not self._assessor.has_control:
            return ()
        async with self._assessor.connection() as connection:
            return await intents.leavers(connection, environment, [place.name for place in spec.deployments])

    async def look(self, ground: Ground, leavers: Sequence[Leaver]) -> Leaving:
        """Say of each deployment what becomes of it, and plan what is taken back."""
        if not leavers:
            return Leaving()
        if not ground.spec.policy.prune:
            return Leaving(rows=tuple(_row(each, OFF) for each in leavers))
        if ground.request.scope is Scope.PROVISION_ONLY:
            return Leaving(rows=tuple(_row(each, PART) for each in leavers))
        said: dict[str, str] = {}
        states: list[DesiredState] = []
        namesakes: dict[str, tuple[Namesake, ...]] = {}
        for each in sorted(leavers, key=lambda one: (one.name in ground.held, _turn(one))):
            state = await self._state(ground, each, namesakes, said)
            if state is None:
                continue
            if len(states) == PLANNED_MAX:
                said[each.name] = NO_MORE if each.why == NO_MORE else TURN
            else:
                states.append(state)
        assessed = await self._assessor.assess(
            ground.spec,
            states,
            ground.held,
            request=replace(ground.request, task=None),
            before=Before(gates_due=()),
        )
        plans: list[DeploymentPlan] = []
        unread = 0
        for item in assessed:
            plan = item.plan
            unread += plan.unavailable is not None
            said[plan.name], taken = _becomes(plan)
            if taken and plan.held is None:
                why = await self._elsewhere(ground, item.desired, namesakes[plan.name])
                taken, said[plan.name] = why is None, why or said[plan.name]
            if taken:
                plans.append(plan)
        later = sum(why == TURN for why in said.values())
        plans = _with_many(ground, plans, len(plans) + unread + later)
        said |= {plan.name: _becomes(plan)[0] for plan in plans}
        chosen = {plan.name for plan in plans}
        rows = tuple(_row(each, said[each.name], prune=each.name in chosen) for each in leavers)
        return Leaving(rows=rows, plans=tuple(plans))

    async def _state(
        self,
        ground: Ground,
        leaver: Leaver,
        namesakes: dict[str, tuple[Namesake, ...]],
        said: dict[str, str],
    ) -> DesiredState | None:
        """What is to be of a deployment, with its namesakes; None, and why, where nobody can say."""
        if leaver.declared_commit is None:
            said[leaver.name] = f"{NOTHING}: nobody knows which commit had it last"
            return None
        try:
            state = await self._planner.left(
                ground.view, ground.spec.name, leaver.name, leaver.declared_commit
            )
        except ReconcilerError as error:
            at = leaver.declared_commit[:12]
            said[leaver.name] = f"{NOTHING}: as commit {at}, the last one with it, has it: {error}"
            return None
        try:
            namesakes[leaver.name] = await self._planner.check_unclaimed(
                ground.view, ground.spec, state, head=ground.head
            )
        except ReconcilerError as error:
            said[leaver.name] = f"{NOTHING}: {error}"
            return None
        return state

    async def _elsewhere(self, ground: Ground, state: DesiredState, found: Sequence[Namesake]) -> str | None:
        """Why its databases are not its own, for all that is known; None where they are."""
        try:
            await self._planner.check_elsewhere(state, found, not_before=ground.request.not_before)
        except ReconcilerError as error:
            return f"{NOTHING}: {error}"
        return None


def _row(leaver: Leaver, detail: str, *, prune: bool = False) -> LeftDeployment:
    return LeftDeployment(
        name=leaver.name,
        leaves=leaver.leaves,
        prune=prune,
        detail=detail,
        declared_at=leaver.declared_commit,
        server=leaver.server,
        databases=leaver.databases,
    )


def _turn(leaver: Leaver) -> int:
    """Those that nothing could be done to come last, and behind them those with nothing there.

    So they are in nobody's way, and whoever waited for a turn has it next.
    """
    if leaver.why == NO_MORE:
        return 2
    return int(leaver.why is not None and leaver.why.startswith(NOTHING))


def _with_many(ground: Ground, plans: Sequence[DeploymentPlan], many: int) -> list[DeploymentPlan]:
    """The plans, with what asks for consent where so many go that a list may have been cut short.

    `many` counts those too whose turn has not come or that nobody can read now: they go by and by.
    """
    everyone = len(ground.spec.deployments) + many
    allowed = frozenset(ground.spec.policy.allow_hazards) | ground.request.allow_hazards
    if many < 2 or many * MANY_SHARE <= everyone or HazardCode.PRUNES_MANY.value in allowed:
        return list(plans)
    why = f"hazard {HazardCode.PRUNES_MANY.value}: {many} of {everyone} deployments left, and all of them go"
    return [replace(plan, refused=(*plan.refused, why)) for plan in plans]


def _becomes(plan: DeploymentPlan) -> tuple[str, bool]:
    """What becomes of a deployment that was looked into, and whether its plan is shown."""
    if plan.unavailable is not None:
        return f"{NOTHING}: it cannot be read: {plan.unavailable}", False
    if plan.blocked:
        return f"{NOTHING}: {'; '.join(plan.blocked)}", False
    if not plan.steps:
        return NO_MORE, False
    if plan.held is not None:
        return f"it is held: {plan.held}", True
    if plan.refused:
        return f"{NOTHING} before somebody consents: {'; '.join(plan.refused)}", True
    return TAKEN_BACK, True


def ready(leaving: Leaving, *, asks: bool = False) -> list[DeploymentPlan]:
    """The plans that may be carried out: none that is held, none without consent unless it is asked for."""
    return [plan for plan in leaving.plans if plan.held is None and (asks or not plan.refused)]


def whys(leaving: Leaving, *, waits: str | None, names: Collection[str]) -> dict[str, str]:
    """What is told of each deployment that left; `waits`: what those named wait for."""
    return {
        row.name: f"{row.detail}; {waits}" if waits is not None and row.name in names else row.detail
        for row in leaving.rows
    }
