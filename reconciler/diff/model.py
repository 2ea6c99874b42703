"""The diff of one deployment as a value: pending changes, drift and divergence, kept apart."""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from reconciler.catalog.model import CatalogObject
from reconciler.catalog.standing import Standing
from reconciler.changes.script import Script
from reconciler.errors import Problem
from reconciler.frozen import frozen
from reconciler.objects.generation import Generation
from reconciler.state.desired import (
    DesiredChange,
    DesiredDatabase,
    DesiredModule,
    DesiredObjects,
    DesiredRole,
)
from reconciler.state.programs import DesiredJob, DesiredRoute, DesiredService, Trigger
from reconciler.state.tracked import TrackedChange, TrackedComponent


class Action(StrEnum):
    """What will happen to a thing (`add`, `change`) or, for drift, what has happened to it (`added`, …)."""

    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"
    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@frozen
class PendingChange:
    """Desired differs from tracked: applying will do this."""

    component: str
    identity: str
    action: Action
    reason: str


@frozen
class Drift:
    """Live differs from tracked, and we did not do it; `detail` says what differs."""

    component: str
    identity: str
    action: Action
    detail: str


class DivergenceSort(StrEnum):
    """How the deployed history differs from what the commit says it should be."""

    EDITED = "edited"
    MISSING = "missing"
    INSERTED = "inserted"
    REORDERED = "reordered"
    RENAMED = "renamed"
    AHEAD = "ahead"
    COPY = "copy"
    ORPHANED = "orphaned"


class DivergencePolicy(StrEnum):
    """What a divergence does to its component: nothing, a warning, or no work on it."""

    ALLOW = "allow"
    WARN = "warn"
    FAIL = "fail"


@frozen
class Divergence:
    """Deployed history and plan file disagree; named, and handled by policy, never silent."""

    component: str
    identity: str
    sort: DivergenceSort
    policy: DivergencePolicy
    detail: str


@frozen
class Rename:
    """A deployed change, by its id and the name it is recorded under, that has another name in the plan."""

    change: DesiredChange
    change_id: str
    name: str


@frozen
class Adopted:
    """How another tool's registry, in `schema`, has a change: what is recorded of it beside the plan file's.

    `script_hash` is of what was deployed; `deployed_at` is ISO 8601 text.
    """

    schema: str
    recorded_id: str
    recorded_name: str
    script_hash: str
    deployed_at: str


class DatabaseNeed(StrEnum):
    """What a database needs before anything else can be done in it."""

    CREATE = "create"
    RECREATE = "recreate"
    ADOPT = "adopt"
    ADOPT_COPY = "adopt-copy"
    UPGRADE_TRACKING = "upgrade-tracking"
    TAKE_BASE_LINE = "take-base-line"


@frozen
class DatabaseDiff:
    """One `Database` component: what it needs, which extensions are missing, what drifted.

    `blocked` says why nothing can be done in it; then its modules cannot go on either. `dropped` are
    declared extensions that were dropped by hand and are not put back, as the base line has them.
    `standing` is all that differs from the base line: what our writes leave alone of it stays drift.
    `left_moving`: an interrupted attempt of the operation that plans wrote here, and its base line is to be
    settled even where no step is left.
    """

    desired: DesiredDatabase
    need: DatabaseNeed | None = None
    reason: str = ""
    extensions: tuple[tuple[str, str], ...] = ()
    """(extension, why it is missing)."""
    roles: tuple[DesiredRole, ...] = ()
    """Declared roles that the server does not have."""
    drift: tuple[Drift, ...] = ()
    diverged: tuple[Divergence, ...] = ()
    blocked: tuple[str, ...] = ()
    dropped: Mapping[str, CatalogObject] = field(default_factory=dict)
    standing: Mapping[str, Standing] = field(default_factory=dict)
    left_moving: bool = False
    access: str | None = None
    """Why the roles that others get in with are to be made, and the outputs kept; None: they are."""

    @property
    def works(self) -> bool:
        """Whether anything is pending."""
        return bool(self.need is not None or self.roles or self.extensions or self.access is not None)

    @property
    def pending(self) -> tuple[PendingChange, ...]:
        """What applying will do to the database itself."""
        rows = []
        if self.need is not None:
            makes = self.need in (DatabaseNeed.CREATE, DatabaseNeed.RECREATE)
            action = Action.ADD if makes else Action.CHANGE
            rows.append(self._row(f"database {self.desired.database}", action, self.reason))
        rows += [self._row(f"role {role.name}", Action.ADD, "not on the server") for role in self.roles]
        rows += [self._row(f"extension {name}", Action.ADD, why) for name, why in self.extensions]
        if self.access is not None:
            rows.append(self._row(f"access to database {self.desired.database}", Action.CHANGE, self.access))
        return tuple(rows)

    def _row(self, identity: str, action: Action, reason: str) -> PendingChange:
        return PendingChange(
            component=self.desired.component, identity=identity, action=action, reason=reason
        )


@frozen
class ModuleDiff:
    """One `Module` component: what is left to deploy, and how its history diverged.

    `late` are the ids of changes to deploy that stand before deployed ones in the plan, each with the name of
    the next of these.
    """

    desired: DesiredModule
    deploy: tuple[DesiredChange, ...] = ()
    late: Mapping[str, str] = field(default_factory=dict)
    renames: tuple[Rename, ...] = ()
    tags: tuple[tuple[DesiredChange, str], ...] = ()
    """(deployed change, tag name) of tags that are not recorded yet."""
    recorded_ids: Mapping[str, str] = field(default_factory=dict)
    """Ids that deployed changes are recorded under, by the ids they have in the plan, where these differ."""
    extensions: tuple[str, ...] = ()
    awaits: tuple[str, ...] = ()
    """Components that have to deploy something first, for what is pending here requires it."""
    adopted: Mapping[str, Adopted] = field(default_factory=dict)
    """What another tool's registry says of changes to deploy, by their ids: these are recorded, not run."""
    diverged: tuple[Divergence, ...] = ()
    blocked: tuple[str, ...] = ()

    @property
    def works(self) -> bool:
        """Whether anything is pending; all of it may be thousands of rows."""
        return bool(self.deploy or self.extensions or self.renames or self.tags)

    @property
    def pending(self) -> tuple[PendingChange, ...]:
        """What applying will do for the module."""
        rows = [
            (f"extension {name}", Action.ADD, f"required by module '{self.desired.project}'")
            for name in self.extensions
        ]
        rows += [
            (f"change {one.change.name}", Action.CHANGE, f"recorded as '{one.name}': its record is renamed")
            for one in self.renames
        ]
        rows += [(f"change {change.name}", Action.ADD, self._why(change)) for change in self.deploy]
        rows += [
            (f"tag @{tag}", Action.ADD, f"not recorded on change '{change.name}'")
            for change, tag in self.tags
        ]
        return tuple(
            PendingChange(component=self.desired.component, identity=identity, action=action, reason=reason)
            for identity, action, reason in rows
        )

    def _why(self, change: DesiredChange) -> str:
        if change.change_id in self.adopted:
            there = self.adopted[change.change_id]
            return f"deployed at {there.deployed_at} as schema '{there.schema}' has it: to be recorded"
        before = self.late.get(change.change_id)
        late = f"; late: it stands before the deployed change '{before}'" if before is not None else ""
        return f"not deployed{late}"


@frozen
class ToRevert:
    """A deployed change to take back, and the script that does it; `stored`: the one kept at deployment.

    `doubt` says why a person decides whether a script that was interrupted is gone on with. `verify` is the
    script that said that the change is there.
    """

    component: str
    project: str
    change: TrackedChange
    script: Script | None
    stored: bool
    hazards: tuple[str, ...] = ()
    doubt: str | None = None
    verify: Script | None = None


@frozen
class Reverts:
    """Changes to take back in one database, newest first, over modules; or why none of them may go.

    `verify`: what remains is verified behind them, also where an earlier attempt has taken all of them back.
    """

    component: str
    project: str
    database: str
    stage: str
    changes: tuple[ToRevert, ...] = ()
    blocked: tuple[str, ...] = ()
    verify: bool = False

    @property
    def works(self) -> bool:
        """Whether anything is pending."""
        return bool(self.changes)

    @property
    def pending(self) -> tuple[PendingChange, ...]:
        """What applying will take back."""
        return tuple(
            PendingChange(
                component=one.component,
                identity=f"change {one.change.name}",
                action=Action.REMOVE,
                reason="deployed; to be reverted",
            )
            for one in self.changes
        )


@frozen
class OpenGeneration:
    """A generation of a component that is recorded and was never live; `state` is how far it is.

    `state` is staging, staged or ready, as `tracking.generations` has it, or failed where what was made of it
    is still there.
    """

    key: str
    state: str
    commit: str
    operation: str


@frozen
class LeftDeferred:
    """What is still to be done behind the switch to a generation that is live; `outside` of the database."""

    key: str
    name: str
    outside: bool = False


@frozen
class ObjectsDiff:
    """One `Objects` component: what a rollout will do with its objects, and the rows that say so.

    `begun` is this very generation where an attempt before staged it already; `discard` are others that were
    staged and whose turn never came. `deferred` is left of switches before, where nothing is built now.
    `changed_results` are objects whose columns or results change for readers, with how. `blocked` says why
    nothing can be done; `warnings` are said and hinder nothing.
    """

    desired: DesiredObjects
    generation: Generation
    begun: OpenGeneration | None = None
    discard: tuple[OpenGeneration, ...] = ()
    deferred: tuple[LeftDeferred, ...] = ()
    changed_results: tuple[tuple[str, str], ...] = ()
    pending: tuple[PendingChange, ...] = ()
    warnings: tuple[Problem, ...] = ()
    diverged: tuple[Divergence, ...] = ()
    blocked: tuple[str, ...] = ()

    @property
    def works(self) -> bool:
        """Whether anything is pending."""
        return self.generation.works or bool(self.discard or self.deferred)


class ServiceAction(StrEnum):
    """What is done about a service; `settle` starts nothing, and does what is left around what runs."""

    ADD = "add"
    CHANGE = "change"
    HEAL = "heal"
    SETTLE = "settle"


@frozen
class ServiceDiff:
    """One `Service` component: whether an instance of what it should be is to be started, and why.

    `replaces` is the instance that is live now, `beside` whether it runs until the new one is healthy,
    `strays` others of ours that are there and nobody needs. `routes` are components of routes that lead to it
    already and are switched with it. `produces` are outputs as `component.name`, kept under `outputs_hash`.
    `leaves` is the data of the instance before that the new one does not get.
    """

    desired: DesiredService
    action: ServiceAction | None = None
    reason: str = ""
    beside: bool = False
    replaces: str | None = None
    strays: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    routes: tuple[str, ...] = ()
    consumes: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()
    outputs_hash: str = ""
    drift: tuple[Drift, ...] = ()
    blocked: tuple[str, ...] = ()
    diverged: tuple[Divergence, ...] = ()

    @property
    def works(self) -> bool:
        """Whether anything is pending."""
        return self.action is not None

    @property
    def pending(self) -> tuple[PendingChange, ...]:
        """What applying will do; putting back what drifted is told too."""
        if not self.works:
            return ()
        action = Action.ADD if self.action is ServiceAction.ADD else Action.CHANGE
        return (
            PendingChange(
                component=self.desired.component,
                identity=f"service {self.desired.component}",
                action=action,
                reason=self.reason,
            ),
        )


@frozen
class JobDiff:
    """One `Job` component: whether it runs, and what for."""

    desired: DesiredJob
    trigger: Trigger | None = None
    reason: str = ""
    consumes: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    diverged: tuple[Divergence, ...] = ()

    @property
    def works(self) -> bool:
        """Whether anything is pending."""
        return self.trigger is not None

    @property
    def pending(self) -> tuple[PendingChange, ...]:
        """What applying will do."""
        if self.trigger is None:
            return ()
        identity = f"job {self.desired.component}"
        return (
            PendingChange(
                component=self.desired.component, identity=identity, action=Action.CHANGE, reason=self.reason
            ),
        )


@frozen
class RouteDiff:
    """One `Route` component: whether it is set, and why; `heals`: it was, and is put back."""

    desired: DesiredRoute
    action: Action | None = None
    reason: str = ""
    heals: bool = False
    consumes: tuple[str, ...] = ()
    drift: tuple[Drift, ...] = ()
    blocked: tuple[str, ...] = ()
    diverged: tuple[Divergence, ...] = ()

    @property
    def works(self) -> bool:
        """Whether anything is pending."""
        return self.action is not None

    @property
    def pending(self) -> tuple[PendingChange, ...]:
        """What applying will do."""
        if self.action is None:
            return ()
        identity = f"route {self.desired.host}{self.desired.path}"
        return (
            PendingChange(
                component=self.desired.component, identity=identity, action=self.action, reason=self.reason
            ),
        )


@frozen
class LeftComponent:
    """A service, job or route that is tracked and not in the spec; it is removed only with consent.

    `stops`: it is in the spec, and to be off because its environment was stopped. `instances` are there.
    """

    tracked: TrackedComponent
    removes: bool
    reason: str
    instances: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()
    stops: bool = False

    @property
    def diverged(self) -> tuple[Divergence, ...]:
        """It is told where it stays, too."""
        if self.stops:
            return ()
        own = self.tracked
        return (
            Divergence(
                component=own.component,
                identity=f"{own.kind.lower()} {own.component}",
                sort=DivergenceSort.ORPHANED,
                policy=DivergencePolicy.WARN,
                detail=self.reason,
            ),
        )

    @property
    def pending(self) -> tuple[PendingChange, ...]:
        """What applying will remove."""
        if not self.removes:
            return ()
        own = self.tracked
        identity = f"{own.kind.lower()} {own.component}"
        return (
            PendingChange(
                component=own.component, identity=identity, action=Action.REMOVE, reason=self.reason
            ),
        )


ProgramDiff = ServiceDiff | JobDiff | RouteDiff
AnyPart = DatabaseDiff | ModuleDiff | ObjectsDiff | ServiceDiff | JobDiff | RouteDiff


@frozen
class Diff:
    """What differs for one deployment, each part in the order of the spec.

    `left_behind` are modules that left the spec, with what is done about them.
    """

    databases: tuple[DatabaseDiff, ...]
    modules: tuple[ModuleDiff, ...]
    objects: tuple[ObjectsDiff, ...] = ()
    reverts: tuple[Reverts, ...] = ()
    left_behind: tuple[Divergence, ...] = ()
    programs: tuple[ProgramDiff, ...] = ()
    """Services, jobs and routes, in the order of the spec."""
    left: tuple[LeftComponent, ...] = ()

    @property
    def parts(self) -> tuple[AnyPart, ...]:
        """Databases, then modules, SQL objects, and services, jobs and routes."""
        return (*self.databases, *self.modules, *self.objects, *self.programs)

    @property
    def pending(self) -> tuple[PendingChange, ...]:
        """Desired differs from tracked."""
        return tuple(row for part in (*self.parts, *self.reverts, *self.left) for row in part.pending)

    @property
    def drift(self) -> tuple[Drift, ...]:
        """Live differs from tracked."""
        found = [row for part in self.databases for row in part.drift]
        return (
            *found,
            *(row for part in self.programs if not isinstance(part, JobDiff) for row in part.drift),
        )

    @property
    def diverged(self) -> tuple[Divergence, ...]:
        """Deployed history differs from what the commit says."""
        own = (row for part in (*self.parts, *self.left) for row in part.diverged)
        return (*own, *self.left_behind)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What hinders nothing and is said, each naming its component."""
        return tuple(f"{part.desired.component}: {one}" for part in self.objects for one in part.warnings)

    @property
    def blocked(self) -> tuple[str, ...]:
        """Why components cannot go on, each naming its component."""
        return (
            *(f"{part.desired.component}: {why}" for part in self.parts for why in part.blocked),
            *(f"{part.component}: {why}" for part in self.reverts for why in part.blocked),
            *(f"{part.tracked.component}: {why}" for part in self.left for why in part.blocked),
        )
