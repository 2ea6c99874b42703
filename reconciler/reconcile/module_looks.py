"""What is deployed of change modules, what was done with them, and whether it verifies; writes nothing."""

import asyncio
from collections.abc import Sequence
from typing import Any

from reconciler.diff.databases import gone
from reconciler.diff.model import DivergencePolicy, DivergenceSort, ModuleDiff
from reconciler.diff.reverts import left_behind
from reconciler.errors import NotFound, Refused
from reconciler.planner.planner import Assessment, Planner, PlanRequest
from reconciler.postgres.connection import Connections, DatabaseMissing
from reconciler.reconcile.assess import Assessor
from reconciler.reconcile.heads import Found, Heads
from reconciler.state.desired import DesiredModule, DesiredState
from reconciler.state.module_requests import LogRequest, VerifyRequest
from reconciler.state.task import find_module
from reconciler.tracking.read import LoggedEvent, read_log

DATABASES_IN_PARALLEL = 4
ORPHANED = DivergenceSort.ORPHANED.value
"""The state of a module that left the spec while changes of it are deployed."""


class ModuleLooks:
    """Status, log and verification of modules at the head of their source."""

    def __init__(
        self, *, heads: Heads, planner: Planner, assessor: Assessor, connections: Connections
    ) -> None:
        self._heads = heads
        self._planner = planner
        self._assessor = assessor
        self._connections = connections

    async def status(
        self, name: str, *, deployment: str | None = None, module: str | None = None
    ) -> dict[str, Any]:
        """Per deployment and module: what is deployed, pending and diverged."""
        where = await self._heads.look_up(name, deployment=deployment, to_plan=True)
        request = PlanRequest(not_before=where.read_since)
        found = await self._assessor.assess(where.spec, where.states, {}, request=request)
        deployments = [
            {
                "name": item.desired.deployment,
                "unavailable": item.plan.unavailable or (gone(item.diff.databases) if item.diff else None),
                "modules": [
                    *(_row(item, part) for part in _declared(item.desired, module)),
                    *_left_behind(item, module),
                ],
            }
            for item in found
        ]
        if not any(place["modules"] for place in deployments):
            for desired in where.states:
                _chosen(desired, module)
        return {"environment": name, "commit": where.view.commit, "deployments": deployments}

    async def log(self, name: str, request: LogRequest, *, deployment: str | None = None) -> dict[str, Any]:
        """Per deployment and database: what was done, and what failed, newest first."""
        where = await self._heads.look_up(name, deployment=deployment)
        slots = asyncio.Semaphore(DATABASES_IN_PARALLEL)

        async def one(desired: DesiredState, database: str) -> dict[str, Any]:
            own = _declared(desired, request.module) if request.module is not None else ()
            async with slots:
                # What is in no spec any more may be a project that was deployed once.
                project = own[0].project if own else request.module
                log = await self._read_log(desired, database, project, request)
            return {"deployment": desired.deployment, "database": database, "events": list(log)}

        rows = await asyncio.gather(
            *(one(desired, database) for desired, database in _databases(where, request.module))
        )
        if not any(row["events"] for row in rows):
            for desired in where.states:
                _chosen(desired, request.module)
        return {"environment": name, "commit": where.view.commit, "databases": list(rows)}

    async def _read_log(
        self, desired: DesiredState, database: str, project: str | None, request: LogRequest
    ) -> tuple[LoggedEvent, ...]:
        try:
            dsn = await self._planner.dsn_of(desired, database)
            async with self._connections.borrow(dsn, database=database) as connection:
                return await read_log(
                    connection, project, request.limit, change=request.change, kind=request.kind
                )
        except DatabaseMissing:
            # Nothing was done in a database that is not there.
            return ()

    async def verify(
        self, name: str, request: VerifyRequest, *, deployment: str | None = None
    ) -> dict[str, Any]:
        """Run the verify scripts of what is deployed; all that fail are told, and nothing is changed."""
        from reconciler.execution.verify import VerifyLimits
        from reconciler.reconcile.verifying import Verifier

        where = await self._heads.look_up(name, deployment=deployment, to_plan=True)
        for desired in where.states:
            modules = _declared(desired, request.module)
            if (request.first or request.last) and len(modules) > 1:
                raise Refused(
                    f"'{request.first or request.last}' is a change of one module, and environment '{name}' "
                    f"has {len(modules)}",
                    hint="name the module",
                )
        request_to_plan = PlanRequest(not_before=where.read_since)
        found = await self._assessor.assess(where.spec, where.states, {}, request=request_to_plan)
        verifier = Verifier(planner=self._planner, connections=self._connections, limits=VerifyLimits())
        verified = await verifier.deployments(found, request)
        if not any(part.modules or part.unavailable for part in verified):
            for desired in where.states:
                _chosen(desired, request.module)
        return {
            "environment": name,
            "commit": where.view.commit,
            "ok": not any(part.unavailable or part.failed or part.unverified for part in verified),
            "deployments": list(verified),
        }


def _chosen(desired: DesiredState, module: str | None) -> Sequence[DesiredModule]:
    return desired.modules if module is None else (find_module(desired, module),)


def _declared(desired: DesiredState, module: str | None) -> Sequence[DesiredModule]:
    """The modules meant, as `_chosen`; none where that one is not in the spec, for it may have left it."""
    try:
        return _chosen(desired, module)
    except NotFound:
        return ()


def _databases(where: Found, module: str | None) -> list[tuple[DesiredState, str]]:
    found = []
    for desired in where.states:
        names = [database.database for database in desired.databases]
        if module is not None and (own := _declared(desired, module)):
            names = [own[0].database]
        found += [(desired, name) for name in names]
    return found


def _row(item: Assessment, module: DesiredModule) -> dict[str, Any]:
    database = item.tracked.databases.get(module.database) if item.tracked else None
    recorded = database.modules.get(module.project) if database else None
    deployed = recorded.changes if recorded else ()
    tags = [tag for change in deployed for tag in change.tags]
    part = (
        next((each for each in item.diff.modules if each.desired.component == module.component), None)
        if item.diff is not None
        else None
    )
    pending = [row.identity for row in item.plan.pending if row.component == module.component]
    return {
        "component": module.component,
        "project": module.project,
        "database": module.database,
        "target": module.target,
        "state": _state(item, module.component, part, pending),
        "deployed": len(deployed),
        "last": deployed[-1].name if deployed else None,
        "tag": tags[-1] if tags else None,
        "pending": pending,
        "blocked": list(part.blocked) if part is not None else [],
        "diverged": _diverged(item, module.component),
    }


def _left_behind(item: Assessment, module: str | None) -> list[dict[str, Any]]:
    """The modules that left the spec, or the one meant of them; what is deployed of them is told as well."""
    if item.tracked is None:
        return []
    rows = []
    for database, recorded in left_behind(item.desired, item.tracked):
        if module is not None and module not in (recorded.component, recorded.project):
            continue
        tags = [tag for change in recorded.changes for tag in change.tags]
        rows.append(
            {
                "component": recorded.component,
                "project": recorded.project,
                "database": database.database,
                "target": None,
                "state": ORPHANED,
                "deployed": len(recorded.changes),
                "last": recorded.changes[-1].name,
                "tag": tags[-1] if tags else None,
                "pending": [],
                "blocked": [],
                "diverged": _diverged(item, recorded.component, orphan=recorded.project),
            }
        )
    return rows


def _diverged(item: Assessment, component: str, *, orphan: str | None = None) -> list[dict[str, Any]]:
    """What differs of a module; a project that left the spec may have had the same component."""
    return [
        {
            "identity": row.identity,
            "sort": row.sort.value,
            "policy": row.policy.value,
            "detail": row.detail,
        }
        for row in item.plan.diverged
        if row.component == component
        and (row.identity == f"module {orphan}" if orphan else row.sort is not DivergenceSort.ORPHANED)
    ]


def _state(item: Assessment, component: str, part: ModuleDiff | None, pending: Sequence[str]) -> str:
    """The state of a module in a word or two, the worst first."""
    if item.plan.unavailable is None and part is None and component in item.plan.skipped:
        return "skipped"
    if item.plan.unavailable is not None or part is None or (item.diff and gone(item.diff.databases)):
        return "unknown"
    policies = {row.policy for row in part.diverged}
    if DivergencePolicy.FAIL in policies:
        return "diverged"
    if part.blocked:
        return "blocked"
    if pending:
        return "pending"
    return "diverged" if DivergencePolicy.WARN in policies else "in sync"
