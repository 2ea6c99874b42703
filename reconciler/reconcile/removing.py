"""Removes environments that left their source: the plan of it, and the rollout that carries it out.

It happens only when a person asks for it. Databases stay unless they are named.
"""

from collections.abc import Sequence

import reconciler.plan.build as plan_build
from reconciler.control import removals
from reconciler.control.removals import RemovalGround
from reconciler.errors import NotFound, ReconcilerError, Refused, SourceUnavailable
from reconciler.frozen import frozen
from reconciler.plan.hazards import HazardCode
from reconciler.plan.model import DeploymentPlan, Plan, Scope
from reconciler.planner.planner import Planner, PlanRequest
from reconciler.planner.view import SourceView
from reconciler.reconcile.record import Recorder, RolloutRequest
from reconciler.spec.environment import EnvironmentSpec
from reconciler.state.desired import DesiredState
from reconciler.state.removal import Removal

CONSENTS = frozenset({HazardCode.DELETES_DATA.value})
"""What whoever names a database and agrees to the plan agrees to."""


@frozen
class RemovalPlans:
    """The plans of a removal, and the commit they were made from."""

    view: SourceView
    spec: EnvironmentSpec
    plans: tuple[DeploymentPlan, ...]


class Removing:
    """Plans removals, and records rollouts of them."""

    def __init__(self, *, planner: Planner, recorder: Recorder) -> None:
        self._planner = planner
        self._recorder = recorder

    async def plan(self, name: str, databases: Sequence[str] = ()) -> RemovalPlans:
        """Plan the removal on every deployment of the last commit that has the environment.

        Raises NotFound where there is no such environment or database, Refused where its source declares it.
        """
        async with self._recorder.connection() as connection:
            ground = await removals.read_ground(connection, name)
        view, spec, states = await self._declared(name, _checked(name, ground))
        _check_databases(name, states, databases)
        request = PlanRequest(removal=Removal(databases=tuple(databases)), allow_hazards=CONSENTS)
        found = await self._recorder.assess(spec, states, {}, request=request)
        return RemovalPlans(view=view, spec=spec, plans=tuple(item.plan for item in found))

    async def preview(self, name: str, databases: Sequence[str] = ()) -> Plan:
        """The dry run: what a removal would do; nothing is written anywhere."""
        made = await self.plan(name, databases)
        return plan_build.whole(name, made.view.commit, Scope.FULL, made.plans)

    async def record(
        self, name: str, databases: Sequence[str], *, reason: str, requested_by: str
    ) -> str | None:
        """Record the rollout that removes it; None where nothing is left, and it is gone at once.

        Raises Refused where something of it cannot be seen: nothing is removed then.
        """
        made = await self.plan(name, databases)
        why = [f"{plan.name}: {one}" for plan in made.plans for one in _hindered(plan)]
        if why:
            raise Refused(
                f"removing environment '{name}': {'; '.join(why)}",
                hint="nothing is removed before all of it can be",
            )
        todo = [plan for plan in made.plans if plan.steps]
        if not todo:
            async with self._recorder.connection() as connection:
                await removals.nothing_left(connection, name, actor=requested_by)
            return None
        request = RolloutRequest(
            scope=Scope.FULL,
            reason=reason,
            requested_by=requested_by,
            allow_hazards=CONSENTS,
            by_hand=True,
            removes=True,
        )
        return await self._recorder.record(made.view, made.spec, todo, request)

    async def _declared(
        self, name: str, ground: RemovalGround
    ) -> tuple[SourceView, EnvironmentSpec, Sequence[DesiredState]]:
        """The environment as the last commit that is known to have it declares it."""
        if ground.commit is None:
            raise Refused(
                f"removing environment '{name}': no commit with it was ever read",
                hint="nothing was deployed by it",
            )
        try:
            view = await self._planner.view(ground.source, ground.commit)
            spec, states = await self._planner.desired(view, name)
        except KeyError as error:
            raise SourceUnavailable(
                f"removing environment '{name}': its source '{ground.source}' is not in the settings"
            ) from error
        except ReconcilerError as error:
            raise Refused(
                f"removing environment '{name}', as commit {ground.commit[:12]} has it: {error}",
                hint="put that commit, or a sound spec of the environment, into the source once more",
            ) from error
        return view, spec, states


def _checked(name: str, ground: RemovalGround | None) -> RemovalGround:
    if ground is None or ground.removed:
        raise NotFound(f"environment '{name}' does not exist")
    if not ground.orphaned and not ground.removing:
        raise Refused(
            f"removing environment '{name}': source '{ground.source}' declares it, and would deploy it again",
            hint="take its file out of the source, and wait until `reconciler status` calls it not declared",
        )
    return ground


def _check_databases(name: str, states: Sequence[DesiredState], databases: Sequence[str]) -> None:
    known = {part.component for state in states for part in state.databases}
    known |= {part.database for state in states for part in state.databases}
    unknown = [database for database in databases if database not in known]
    if unknown:
        raise NotFound(
            f"environment '{name}' has no database {', '.join(map(repr, unknown))}",
            hint=f"it has: {', '.join(sorted(known)) or 'none'}",
        )


def _hindered(plan: DeploymentPlan) -> Sequence[str]:
    if plan.unavailable is not None:
        return (plan.unavailable,)
    return (*plan.blocked, *plan.refused)
