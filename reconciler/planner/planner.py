"""Plans deployments from their three states; what a pass, a dry run and a worker share.

Nothing here writes anywhere. What the plan is, is decided by `diff` and `plan`; here it is only fetched.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import reconciler.plan.build as plan_build
from reconciler.diff.compare import compare
from reconciler.diff.databases import DatabaseContext, Versions
from reconciler.diff.model import Diff
from reconciler.errors import NotFound, ReconcilerError, SourceUnavailable, SpecError
from reconciler.events import Event, SnapshotRead
from reconciler.plan.build import Consent
from reconciler.plan.hazards import HazardCode
from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.planner.reads import StateReader
from reconciler.planner.view import Restrict, SourceView, parse_view, resolve_or_error
from reconciler.postgres.connection import Connections, Dsn
from reconciler.snapshot.probe import ALGORITHM
from reconciler.source.repository import Repository
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.values import SecretReference
from reconciler.state.desired import DesiredState
from reconciler.state.tracked import TrackedState
from reconciler.tracking.install import TRACKING_VERSION

VERSIONS = Versions(tracking=TRACKING_VERSION, fingerprint_algorithm=ALGORITHM)
VIEWS_BESIDE_HEADS = 6
"""Commits kept resolved in memory beyond two for each source: its head and the one before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannerLimits:
    """Limits of reading, in seconds and counts."""

    read_timeout_s: float = 60.0
    deployments_in_parallel: int = 8
    databases_in_parallel: int = 4
    full_read_interval_s: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """How to plan one deployment.

    `intended` names databases whose creation was begun; `made` tells, when asked, those that operations made
    or adopted before; `resuming` is true for the operation that left base lines moving; `allow_hazards` is
    consent beyond the spec's policy. What was read of a server or a database since `not_before` (monotonic)
    may serve; None reads anew.
    """

    scope: Scope = Scope.FULL
    intended: frozenset[str] = frozenset()
    made: Callable[[], Awaitable[frozenset[str]]] | None = None
    resuming: bool = False
    allow_hazards: frozenset[str] = frozenset()
    held: str | None = None
    not_before: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """A deployment's plan with what it was made from; all of that is None where it could not be read."""

    desired: DesiredState
    plan: DeploymentPlan
    tracked: TrackedState | None
    diff: Diff | None


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
        self._resolve_secret = resolve_secret
        self._limits = limits
        self._emit = emit
        self._views: OrderedDict[tuple[str, str], SourceView] = OrderedDict()
        self._reader = StateReader(
            connections,
            databases_in_parallel=limits.databases_in_parallel,
            full_read_interval_s=limits.full_read_interval_s,
        )
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
            self._views[key] = await asyncio.to_thread(
                parse_view, source, commit, tree, folder=self._paths[source], restrict=self._restrict
            )
            while len(self._views) > self._views_max:
                self._views.popitem(last=False)
        self._views.move_to_end(key)
        return self._views[key]

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
                view.resolved[key] = await asyncio.to_thread(
                    resolve_or_error, parsed.spec, deployment.name, view
                )
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
                tracked, live = await self._reader.read(self.dsn(desired), desired)
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
