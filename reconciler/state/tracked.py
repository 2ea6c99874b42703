"""Tracked state: what the tracking schema of the managed databases records as applied."""

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from reconciler.catalog.model import CatalogObject, DatabaseIdentity
from reconciler.frozen import frozen


@frozen
class TrackedChange:
    """One deployed change; `position` counts up in the order of deployment within its module."""

    change_id: str
    name: str
    script_hash: str | None
    parse_hash: str | None
    position: int
    tags: tuple[str, ...] = ()


@frozen
class TrackedModule:
    """What is deployed of one project, in the order of deployment.

    `environment` and `deployment` are whose it is; None where an older version recorded it. `late` are the
    ids of changes that were deployed after changes that follow them in the plan file.
    """

    project: str
    component: str
    changes: tuple[TrackedChange, ...]
    environment: str | None = None
    deployment: str | None = None
    late: frozenset[str] = frozenset()


@frozen
class Revertible:
    """What is stored of a deployed change for taking it back: its scripts, and what it required.

    `requires` is as the plan file wrote it, `requires_ids` the changes that met it, as far as they are known.
    """

    script: str | None
    verify: str | None = None
    requires: tuple[str, ...] = ()
    requires_ids: tuple[str, ...] = ()


@frozen
class Unfinished:
    """How far a change outside of transactions is that is not recorded as deployed.

    `done` and `running` are hashes of units of its script, `transaction_id` is what the running one commits
    as, `there_before` what was there before it began, `words` name it for people.
    """

    change_id: str
    project: str
    name: str
    script_hash: str | None
    done: tuple[str, ...] = ()
    running: str | None = None
    transaction_id: str | None = None
    there_before: tuple[str, ...] = ()
    words: str = ""


@frozen
class TrackedObjects:
    """Whose schemas of SQL objects are: component, environment, deployment; and their names."""

    component: str
    environment: str
    deployment: str
    schemas: tuple[str, ...]


@frozen
class BaseLine:
    """The fingerprints of a database after our last write, from which drift is measured.

    `moving` is set while an operation writes. `objects` is None where it was not read, because `probe` (the
    server-side hash over the catalog) equals the live one and so nothing can differ.
    """

    moving: bool
    identity: DatabaseIdentity
    algorithm: int
    probe: str
    objects: Mapping[str, CatalogObject] | None = None


@frozen
class TrackedDatabase:
    """Tracked state of one database; `installed` is false where it has no tracking schema.

    `version` is the number of the newest migration of the tracking schema there. `busy`: somebody who is
    alive holds the fence, so that a base line which is moving is on its way to being settled. `epoch` is that
    of the fence where nobody had it: for who takes it next and gets the one after, all of this still holds.
    """

    installed: bool = False
    version: int = 0
    modules: Mapping[str, TrackedModule] = field(default_factory=dict)
    base_line: BaseLine | None = None
    busy: bool = False
    unfinished: Mapping[str, Unfinished] = field(default_factory=dict)
    """Changes outside of transactions that were begun and are not done, by change id."""
    objects: tuple[TrackedObjects, ...] = ()
    epoch: int | None = field(default=None, compare=False)


@frozen
class TrackedComponent:
    """What was last applied of a service, a job or a route, as the control database has it.

    `definition` is what it was, as JSON, with references and no secrets: enough to run or remove it without
    the spec. `instance` is the one that is live, `applying` one that was being put in its place and may be
    there. `place` is the machine its runtime is on. `heals` counts how often it was put back since anything
    else was done to it, and before `heal_after` (seconds since 1970) it is not put back again.
    """

    component: str
    kind: str
    stage: str
    definition_hash: str
    definition: Mapping[str, Any] = field(default_factory=dict)
    instance: str | None = None
    applying: str | None = None
    place: str | None = None
    commit: str = ""
    heals: int = 0
    heal_after: float | None = None


@frozen
class TrackedOutput:
    """An output that is kept; its value is not here. `inputs_hash` is of what it was made from."""

    component: str
    name: str
    inputs_hash: str
    sensitive: bool = False


@frozen
class TrackedPrograms:
    """Services, jobs and routes of one deployment by component, and outputs by `component.name`.

    `jobs` are the hashes of the inputs that jobs last ran to their end with. `stopped`: a person stopped the
    environment. `started`: it was applied before, since a person started it last. `ran` are jobs that ran to
    their end since then for that start, or for the stop where it is stopped. `read_at` is when this was read
    (seconds since 1970, by the clock of the control database); None where nothing was asked.
    """

    components: Mapping[str, TrackedComponent] = field(default_factory=dict)
    outputs: Mapping[str, TrackedOutput] = field(default_factory=dict)
    jobs: Mapping[str, str] = field(default_factory=dict)
    stopped: bool = False
    started: bool = False
    ran: frozenset[str] = frozenset()
    read_at: float | None = field(default=None, compare=False)


@frozen
class TrackedState:
    """Tracked state of one deployment, by database name."""

    databases: Mapping[str, TrackedDatabase]
    programs: TrackedPrograms = field(default_factory=TrackedPrograms)
