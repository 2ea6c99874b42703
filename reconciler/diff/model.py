"""The diff of one deployment as a value: pending changes, drift and divergence, kept apart."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from reconciler.catalog.model import CatalogObject
from reconciler.catalog.standing import Standing
from reconciler.state.desired import DesiredChange, DesiredDatabase, DesiredModule


class Action(StrEnum):
    """What will happen to a thing (`add`, `change`) or, for drift, what has happened to it (`added`, …)."""

    ADD = "add"
    CHANGE = "change"
    REMOVE = "remove"
    ADDED = "added"
    CHANGED = "changed"
    REMOVED = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingChange:
    """Desired differs from tracked: applying will do this."""

    component: str
    identity: str
    action: Action
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
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
    AHEAD = "ahead"
    COPY = "copy"


class DivergencePolicy(StrEnum):
    """What a divergence does to its component: nothing, a warning, or no work on it."""

    ALLOW = "allow"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """Deployed history and plan file disagree; named, and handled by policy, never silent."""

    component: str
    identity: str
    sort: DivergenceSort
    policy: DivergencePolicy
    detail: str


class DatabaseNeed(StrEnum):
    """What a database needs before anything else can be done in it."""

    CREATE = "create"
    RECREATE = "recreate"
    ADOPT = "adopt"
    ADOPT_COPY = "adopt-copy"
    UPGRADE_TRACKING = "upgrade-tracking"
    TAKE_BASE_LINE = "take-base-line"


@dataclass(frozen=True, slots=True, kw_only=True)
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
    drift: tuple[Drift, ...] = ()
    diverged: tuple[Divergence, ...] = ()
    blocked: tuple[str, ...] = ()
    dropped: Mapping[str, CatalogObject] = field(default_factory=dict)
    standing: Mapping[str, Standing] = field(default_factory=dict)
    left_moving: bool = False

    @property
    def pending(self) -> tuple[PendingChange, ...]:
        """What applying will do to the database itself."""
        rows = []
        if self.need is not None:
            makes = self.need in (DatabaseNeed.CREATE, DatabaseNeed.RECREATE)
            action = Action.ADD if makes else Action.CHANGE
            rows.append(self._row(f"database {self.desired.database}", action, self.reason))
        rows += [self._row(f"extension {name}", Action.ADD, why) for name, why in self.extensions]
        return tuple(rows)

    def _row(self, identity: str, action: Action, reason: str) -> PendingChange:
        return PendingChange(
            component=self.desired.component, identity=identity, action=action, reason=reason
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModuleDiff:
    """One `Module` component: what is left to deploy, and how its history diverged."""

    desired: DesiredModule
    deploy: tuple[DesiredChange, ...] = ()
    tags: tuple[tuple[DesiredChange, str], ...] = ()
    """(deployed change, tag name) of tags that are not recorded yet."""
    extensions: tuple[str, ...] = ()
    diverged: tuple[Divergence, ...] = ()
    blocked: tuple[str, ...] = ()

    @property
    def pending(self) -> tuple[PendingChange, ...]:
        """What applying will do for the module."""
        rows = [
            (f"extension {name}", f"required by module '{self.desired.project}'") for name in self.extensions
        ]
        rows += [(f"change {change.name}", "not deployed") for change in self.deploy]
        rows += [(f"tag @{tag}", f"not recorded on change '{change.name}'") for change, tag in self.tags]
        return tuple(
            PendingChange(
                component=self.desired.component, identity=identity, action=Action.ADD, reason=reason
            )
            for identity, reason in rows
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """What differs for one deployment, each part in the order of the spec."""

    databases: tuple[DatabaseDiff, ...]
    modules: tuple[ModuleDiff, ...]

    @property
    def parts(self) -> tuple[DatabaseDiff | ModuleDiff, ...]:
        """Databases, then modules."""
        return (*self.databases, *self.modules)

    @property
    def pending(self) -> tuple[PendingChange, ...]:
        """Desired differs from tracked."""
        return tuple(row for part in self.parts for row in part.pending)

    @property
    def drift(self) -> tuple[Drift, ...]:
        """Live differs from tracked."""
        return tuple(row for part in self.databases for row in part.drift)

    @property
    def diverged(self) -> tuple[Divergence, ...]:
        """Deployed history differs from what the commit says."""
        return tuple(row for part in self.parts for row in part.diverged)

    @property
    def blocked(self) -> tuple[str, ...]:
        """Why components cannot go on, each naming its component."""
        return tuple(f"{part.desired.component}: {why}" for part in self.parts for why in part.blocked)
