"""The diff of one deployment as a value."""

from dataclasses import dataclass
from enum import StrEnum


class Action(StrEnum):
    """What happens, or happened, to a thing. `ADDED`… are drift's, the others are pending changes'."""

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
    """How the deployed history of a module differs from its plan file."""

    EDITED = "edited"
    MISSING = "missing"
    INSERTED = "inserted"
    REORDERED = "reordered"
    AHEAD = "ahead"
    COPY = "copy"


class DivergencePolicy(StrEnum):
    """What a divergence does to its module: nothing, a warning, or no deploy."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Diff:
    """What differs for one deployment, each part in a stable order."""

    pending: tuple[PendingChange, ...]
    drift: tuple[Drift, ...]
    diverged: tuple[Divergence, ...]
