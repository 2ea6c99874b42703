"""Verify what is deployed: on demand, and in passes as a check for drift; it changes nothing anywhere."""

import asyncio
from collections.abc import Sequence
from dataclasses import field

from reconciler.diff.databases import gone
from reconciler.diff.reverts import left_behind
from reconciler.diff.verifiable import ToVerify, as_declared, to_verify
from reconciler.errors import NotFound, ReconcilerError
from reconciler.execution.verify import Failed, Unverified, VerifyLimits, prepare, verify
from reconciler.frozen import frozen
from reconciler.planner.planner import Assessment, Planner
from reconciler.postgres.connection import Connection, Connections
from reconciler.state.desired import DesiredModule
from reconciler.state.module_requests import VerifyRequest
from reconciler.state.task import find_module
from reconciler.state.tracked import TrackedModule, TrackedState
from reconciler.tracking.read import read_verify_scripts

DATABASES_IN_PARALLEL = 2
DEPLOYMENTS_IN_PARALLEL = 4


@frozen
class ModuleVerified:
    """What came of verifying one module; field names are those of the JSON that people get."""

    component: str
    project: str
    database: str
    deployed: int
    passed: int = 0
    failed: tuple[Failed, ...] = ()
    unverified: tuple[Unverified, ...] = ()
    without_script: tuple[str, ...] = ()


@frozen
class DeploymentVerified:
    """What came of verifying one deployment; `unavailable` says why it could not be read."""

    name: str
    unavailable: str | None = None
    modules: tuple[ModuleVerified, ...] = field(default=())

    @property
    def failed(self) -> tuple[Failed, ...]:
        """All failures, over its modules."""
        return tuple(row for module in self.modules for row in module.failed)

    @property
    def unverified(self) -> tuple[Unverified, ...]:
        """Everything nobody knows, over its modules."""
        return tuple(row for module in self.modules for row in module.unverified)


class Verifier:
    """Runs verify scripts over borrowed connections, one to a database, beside whatever rollout runs."""

    def __init__(self, *, planner: Planner, connections: Connections, limits: VerifyLimits) -> None:
        self._planner = planner
        self._connections = connections
        self._limits = limits

    async def deployments(
        self, found: Sequence[Assessment], request: VerifyRequest
    ) -> tuple[DeploymentVerified, ...]:
        """Verify deployments side by side, within a bound."""
        slots = asyncio.Semaphore(DEPLOYMENTS_IN_PARALLEL)

        async def one(item: Assessment) -> DeploymentVerified:
            async with slots:
                return await self.deployment(item, request)

        return tuple(await asyncio.gather(*(one(item) for item in found)))

    async def deployment(self, item: Assessment, request: VerifyRequest) -> DeploymentVerified:
        """Verify one deployment; a module that it does not have gives nothing, a change raises NotFound."""
        name = item.desired.deployment
        modules = _meant(item, request.module)
        if item.tracked is None:
            return DeploymentVerified(name=name, unavailable=item.plan.unavailable)
        if item.diff is not None and (lost := gone(item.diff.databases)) is not None:
            return DeploymentVerified(name=name, unavailable=lost)
        by_database: dict[str, list[DesiredModule]] = {}
        for module in modules:
            by_database.setdefault(module.database, []).append(module)
        slots = asyncio.Semaphore(DATABASES_IN_PARALLEL)

        async def one(database: str) -> list[ModuleVerified]:
            async with slots:
                return await self._database(item, database, by_database[database], request)

        try:
            parts = await asyncio.gather(*(one(database) for database in by_database))
        except NotFound:
            raise
        except ReconcilerError as error:
            return DeploymentVerified(name=name, unavailable=str(error))
        verified = {(part.database, part.project): part for group in parts for part in group}
        return DeploymentVerified(
            name=name, modules=tuple(verified[module.database, module.project] for module in modules)
        )

    async def _database(
        self, item: Assessment, database: str, modules: Sequence[DesiredModule], request: VerifyRequest
    ) -> list[ModuleVerified]:
        assert item.tracked is not None
        wanted = [
            (
                module,
                to_verify(module, _recorded(item.tracked, module), first=request.first, last=request.last),
            )
            for module in modules
        ]
        nothing = [module for module, rows in wanted if not rows]
        verified = [_of(module, item.tracked) for module in nothing]
        if len(nothing) == len(modules):
            return verified
        dsn = await self._planner.dsn_of(item.desired, database)
        async with self._connections.borrow(dsn, database=database, role="verify") as connection:
            return verified + [
                await self._module(connection, module, rows, item.tracked) for module, rows in wanted if rows
            ]

    async def _module(
        self,
        connection: Connection,
        module: DesiredModule,
        rows: Sequence[ToVerify],
        tracked: TrackedState,
    ) -> ModuleVerified:
        stored = [row.change_id for row in rows if row.stored]
        scripts = await read_verify_scripts(connection, stored) if stored else {}
        ready = prepare(rows, scripts)
        found = await verify(connection, ready.wanted, self._limits)
        return ModuleVerified(
            component=module.component,
            project=module.project,
            database=module.database,
            deployed=_deployed(tracked, module),
            passed=found.passed,
            failed=(*ready.broken, *found.failed),
            unverified=tuple(found.unverified),
            without_script=ready.without_script,
        )


def _meant(item: Assessment, name: str | None) -> Sequence[DesiredModule]:
    """All modules, or the one of a name, also where that left the spec while changes of it are deployed."""
    if name is None:
        return item.desired.modules
    try:
        return (find_module(item.desired, name),)
    except NotFound:
        left = left_behind(item.desired, item.tracked) if item.tracked is not None else ()
        return tuple(
            as_declared(recorded, database, item.desired.stages[-1])
            for database, recorded in left
            if name in {recorded.component, recorded.project}
        )


def _recorded(tracked: TrackedState, module: DesiredModule) -> TrackedModule | None:
    database = tracked.databases.get(module.database)
    return database.modules.get(module.project) if database is not None else None


def _deployed(tracked: TrackedState, module: DesiredModule) -> int:
    recorded = _recorded(tracked, module)
    return len(recorded.changes) if recorded is not None else 0


def _of(module: DesiredModule, tracked: TrackedState) -> ModuleVerified:
    """A module of which nothing is to be verified."""
    return ModuleVerified(
        component=module.component,
        project=module.project,
        database=module.database,
        deployed=_deployed(tracked, module),
    )
