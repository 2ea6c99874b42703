"""The part of the facade that only looks: the dry run, and what is deployed of change modules.

A command that asks for no more imports no more.
"""

from typing import Any

import reconciler.plan.build as plan_build
from reconciler.plan.model import Plan, Scope
from reconciler.planner.objects import forced_of
from reconciler.planner.planner import Planner, PlanRequest
from reconciler.postgres.connection import Connections
from reconciler.reconcile.assess import Assessor
from reconciler.reconcile.heads import Heads
from reconciler.reconcile.leaving import Ground, Leavers
from reconciler.reconcile.module_looks import ModuleLooks
from reconciler.state.module_requests import LogRequest, VerifyRequest


class Looking:
    """Everything the edges ask for that is only read."""

    def __init__(
        self, *, heads: Heads, planner: Planner, assessor: Assessor, connections: Connections
    ) -> None:
        self._heads = heads
        self._assessor = assessor
        self._leavers = Leavers(planner=planner, assessor=assessor)
        self._looks = ModuleLooks(heads=heads, planner=planner, assessor=assessor, connections=connections)

    async def preview(
        self,
        name: str,
        *,
        ref: str | None = None,
        deployment: str | None = None,
        scope: str | None = None,
        posted: bytes | None = None,
        redeploy: frozenset[str] = frozenset(),
    ) -> Plan:
        """The dry run: the plan of a commit, made and shown, nothing written anywhere.

        A posted spec stands in for the one of the commit; no pass would apply it, so nothing holds it either.
        `redeploy` are schemas of SQL objects to be built anew, as people write them.
        """
        where = await self._heads.look_up(name, ref=ref, deployment=deployment, posted=posted, to_plan=True)
        held = await self._assessor.held(name, where.view.commit) if posted is None else {}
        chosen = Scope(scope) if scope is not None else Scope(where.spec.policy.scope)
        forced = forced_of(where.states, redeploy)
        request = PlanRequest(
            scope=chosen, not_before=where.read_since, forced=forced, unfollowed=where.unfollowed
        )
        found = await self._assessor.assess(where.spec, where.states, held, request=request)
        ground = Ground(view=where.view, spec=where.spec, held=held, request=request, head=where.head)
        leavers = await self._leavers.known(name, where.spec) if deployment is None else ()
        leaving = await self._leavers.look(ground, leavers)
        plans = [*(item.plan for item in found), *leaving.plans]
        return plan_build.whole(name, where.view.commit, chosen, plans, leaving.rows)

    async def module_status(
        self, name: str, *, deployment: str | None = None, module: str | None = None
    ) -> dict[str, Any]:
        """Per deployment and module: what is deployed, pending and diverged."""
        return await self._looks.status(name, deployment=deployment, module=module)

    async def module_log(
        self, name: str, request: LogRequest, *, deployment: str | None = None
    ) -> dict[str, Any]:
        """Per deployment and database: what was deployed, and what failed, newest first."""
        return await self._looks.log(name, request, deployment=deployment)

    async def module_verify(
        self, name: str, request: VerifyRequest, *, deployment: str | None = None
    ) -> dict[str, Any]:
        """Run the verify scripts of what is deployed; nothing is changed by that."""
        return await self._looks.verify(name, request, deployment=deployment)
