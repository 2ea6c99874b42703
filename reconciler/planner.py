"""Read the three states of a deployment and make its plan; what a pass, a dry run and a worker share.

Nothing here writes anywhere. What the plan is, is decided by `diff` and `plan`; here it is only fetched.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import reconciler.plan.build as plan_build
from reconciler.control.rollouts import NewStep
from reconciler.diff.compare import compare
from reconciler.diff.databases import DatabaseContext, Versions
from reconciler.diff.model import Diff
from reconciler.errors import NotFound, ReconcilerError, SourceUnavailable, SpecError
from reconciler.events import Event, SnapshotRead
from reconciler.plan.build import Consent
from reconciler.plan.hazards import HazardCode
from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.postgres.connection import Connection, Connections, Dsn
from reconciler.snapshot.database import ServerFacts, read_database, read_server
from reconciler.snapshot.probe import ALGORITHM
from reconciler.source.repository import Repository
from reconciler.source.tree import SourceTree
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.parse import ParsedEnvironment, parse_tree
from reconciler.spec.values import SecretReference
from reconciler.state.desired import DesiredDatabase, DesiredState
from reconciler.state.live import LiveDatabase, LiveState
from reconciler.state.resolve import resolve
from reconciler.state.tracked import TrackedDatabase, TrackedState
from reconciler.tracking.install import TRACKING_VERSION
from reconciler.tracking.read import read_base_line_objects, read_tracked

VERSIONS = Versions(tracking=TRACKING_VERSION, fingerprint_algorithm=ALGORITHM)
VIEWS_BESIDE_HEADS = 6
"""Commits kept resolved in memory beyond two for each source: its head and the one before."""
SPEC_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerLimits:
    """Limits of reading, in seconds and counts."""

    read_timeout_s: float = 60.0
    deployments_in_parallel: int = 8
    databases_in_parallel: int = 4
    full_read_interval_s: float = 600.0


@dataclass(slots=True, kw_only=True)
class SourceView:
    """One commit of one source, parsed: its environments by name, and what was resolved from them so far."""

    source: str
    commit: str
    tree: SourceTree
    environments: Mapping[str, ParsedEnvironment]
    nameless: tuple[ParsedEnvironment, ...] = ()
    resolved: dict[tuple[str, str], DesiredState | SpecError] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """How to plan one deployment.

    `intended` names databases whose creation was begun; `made` tells, when asked, those that operations made
    or adopted before; `resuming` is true for the operation that left base lines moving; `allow_hazards` is
    consent beyond the spec's policy.
    """

    scope: Scope = Scope.FULL
    intended: frozenset[str] = frozenset()
    made: Callable[[], Awaitable[frozenset[str]]] | None = None
    resuming: bool = False
    allow_hazards: frozenset[str] = frozenset()
    held: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """A deployment's plan with what it was made from; all of that is None where it could not be read."""

    desired: DesiredState
    plan: DeploymentPlan
    tracked: TrackedState | None
    diff: Diff | None


Restrict = Callable[[str, tuple[ParsedEnvironment, ...]], tuple[ParsedEnvironment, ...]]
"""Adds a problem to every environment of a source that uses what the source may not."""


class Planner:
    """Plans deployments. Holds caches of parsed commits and of when a catalog was last read in full."""

    def __init__(
        self,
        *,
        sources: Mapping[str, Repository],
        paths: Mapping[str, str],
        restrict: Restrict | None = None,
        connections: Connections,
        resolve_secret: Callable[[SecretReference], str],
        limits: PlannerLimits,
        emit: Callable[[Event], None],
    ) -> None:
        self._sources = sources
        self._paths = paths
        self._restrict = restrict or (lambda _source, parsed: parsed)
        self._connections = connections
        self._resolve_secret = resolve_secret
        self._limits = limits
        self._emit = emit
        self._views: OrderedDict[tuple[str, str], SourceView] = OrderedDict()
        self._full_reads: dict[tuple[str, str], float] = {}
        self._views_max = 2 * len(sources) + VIEWS_BESIDE_HEADS

    def dsn(self, desired: DesiredState) -> Dsn:
        """The connection string of a deployment; raises NotFound without quoting anything of it."""
        return Dsn(self._resolve_secret(desired.postgres))

    async def view(self, source: str, commit: str) -> SourceView:
        """A commit, read and parsed once."""
        key = (source, commit)
        if key not in self._views:
            if source not in self._sources:
                raise SourceUnavailable(
                    f"source '{source}' is not among those this process knows",
                    hint="name it in the settings of every daemon on this control database",
                )
            tree = await self._sources[source].read(commit)
            self._views[key] = await asyncio.to_thread(self._parse, source, commit, tree)
            while len(self._views) > self._views_max:
                self._views.popitem(last=False)
        self._views.move_to_end(key)
        return self._views[key]

    def _parse(self, source: str, commit: str, tree: SourceTree) -> SourceView:
        root = self._paths[source].strip("/")
        prefix = f"{root}/" if root and root != "." else ""
        specs = {
            path: content
            for path, content in tree.files.items()
            if path.startswith(prefix) and path.endswith(SPEC_SUFFIXES)
        }
        parsed = self._restrict(source, parse_tree(specs))
        return SourceView(
            source=source,
            commit=commit,
            tree=tree,
            environments={item.name: item for item in parsed if item.name is not None},
            nameless=tuple(item for item in parsed if item.name is None and item.problems),
        )

    async def desired(self, view: SourceView, environment: str) -> tuple[EnvironmentSpec, list[DesiredState]]:
        """Spec and desired states of an environment, in rollout order.

        Raises NotFound where the commit does not declare it, SpecError with everything wrong in it.
        """
        parsed = view.environments.get(environment)
        if parsed is None:
            raise NotFound(f"environment '{environment}' is not declared at commit {view.commit[:12]}")
        if parsed.spec is None or parsed.problems:
            raise SpecError(parsed.problems)
        states = []
        for deployment in parsed.spec.deployments:
            key = (environment, deployment.name)
            if key not in view.resolved:
                view.resolved[key] = await asyncio.to_thread(_resolve, parsed.spec, deployment.name, view)
            found = view.resolved[key]
            if isinstance(found, SpecError):
                raise found
            states.append(found)
        return parsed.spec, states

    async def assess(self, spec: EnvironmentSpec, desired: DesiredState, request: PlanRequest) -> Assessment:
        """Read the states of one deployment and plan it; one that cannot be read says so in its plan."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._limits.read_timeout_s):
                tracked, live = await self._states(desired)
        except (ReconcilerError, TimeoutError) as error:
            why = str(error) or f"reading it took longer than {self._limits.read_timeout_s:g} s"
            plan = plan_build.unavailable(desired, why)
            return Assessment(desired=desired, plan=plan, tracked=None, diff=None)
        self._emit(
            SnapshotRead(
                environment=desired.environment,
                deployment=desired.deployment,
                duration_s=time.monotonic() - began,
                full=any(database.catalog is not None for database in live.databases.values()),
            )
        )
        gone = [name for name, database in live.databases.items() if not database.exists]
        made = await request.made() if gone and request.made is not None else frozenset()
        allowed = frozenset(spec.policy.allow_hazards) | request.allow_hazards
        contexts = {
            database.database: DatabaseContext(
                versions=VERSIONS,
                drift=spec.policy.drift,
                intended=database.database in request.intended,
                made=database.database in made,
                resuming=request.resuming,
                adopt_copies=HazardCode.ADOPTS_DATABASE_COPY.value in allowed,
            )
            for database in desired.databases
        }
        diff = compare(desired, tracked, live, contexts)
        plan = plan_build.build(
            desired,
            diff,
            (tracked, live),
            scope=request.scope,
            consent=Consent(allowed=allowed),
            held=request.held,
        )
        return Assessment(desired=desired, plan=plan, tracked=tracked, diff=diff)

    async def _states(self, desired: DesiredState) -> tuple[TrackedState, LiveState]:
        dsn = self.dsn(desired)
        async with self._connections.borrow(dsn) as connection:
            server = await read_server(connection)
        slots = asyncio.Semaphore(self._limits.databases_in_parallel)

        async def read(database: DesiredDatabase) -> tuple[TrackedDatabase, LiveDatabase]:
            async with slots:
                return await self._database(dsn, database.database, server)

        pairs = await asyncio.gather(*(read(database) for database in desired.databases))
        names = [database.database for database in desired.databases]
        return (
            TrackedState(
                databases={name: tracked for name, (tracked, _live) in zip(names, pairs, strict=True)}
            ),
            LiveState(
                server_major=server.server_major,
                databases={name: live for name, (_tracked, live) in zip(names, pairs, strict=True)},
                available_extensions=server.available_extensions,
            ),
        )

    async def _database(
        self, dsn: Dsn, database: str, server: ServerFacts
    ) -> tuple[TrackedDatabase, LiveDatabase]:
        if database not in server.databases:
            return TrackedDatabase(), LiveDatabase()
        async with self._connections.borrow(dsn, database=database) as connection:
            tracked = await read_tracked(connection)
            live = await read_database(
                connection,
                known_probe=self._known_probe(dsn, database, tracked),
                beside=lambda: self._connections.borrow(dsn, database=database),
            )
            return await _with_objects(connection, tracked, live), live

    def _known_probe(self, dsn: Dsn, database: str, tracked: TrackedDatabase) -> str | None:
        """The probe that makes a full read needless; None when one is due anyway."""
        base_line = tracked.base_line
        if base_line is None or base_line.moving or base_line.algorithm != ALGORITHM:
            return base_line.probe if base_line is not None else ""
        key = (dsn.server, database)
        now = time.monotonic()
        last = self._full_reads.setdefault(key, now)
        if now - last < self._limits.full_read_interval_s:
            return base_line.probe
        self._full_reads[key] = now
        return None


async def _with_objects(
    connection: Connection, tracked: TrackedDatabase, live: LiveDatabase
) -> TrackedDatabase:
    """Add the objects of the base line where the catalog was read, so that the two can be compared."""
    base_line = tracked.base_line
    if base_line is None or base_line.moving or live.catalog is None:
        return tracked
    objects = await read_base_line_objects(connection)
    return TrackedDatabase(
        installed=tracked.installed,
        version=tracked.version,
        modules=tracked.modules,
        base_line=type(base_line)(
            moving=base_line.moving,
            identity=base_line.identity,
            algorithm=base_line.algorithm,
            probe=base_line.probe,
            objects=objects,
        ),
    )


def _resolve(spec: EnvironmentSpec, deployment: str, view: SourceView) -> DesiredState | SpecError:
    try:
        return resolve(spec, deployment, view.commit, view.tree.files)
    except SpecError as error:
        return error


def steps_of(plan: DeploymentPlan) -> tuple[NewStep, ...]:
    """The steps of a plan as rows to record."""
    rows = [(stage.name, step) for stage in plan.stages for step in stage.steps]
    return tuple(
        NewStep(
            id=step.id,
            ordinal=ordinal,
            stage=stage,
            kind=step.kind.value,
            component=step.component,
            identity=step.identity,
        )
        for ordinal, (stage, step) in enumerate(rows)
    )
