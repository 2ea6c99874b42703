"""Desired state: a spec resolved at a commit, for one deployment.

Resolving (from a spec and the files of a commit to these values) is `reconciler.state.resolve`.
"""

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum

from reconciler.changes.script import Script
from reconciler.errors import Problem
from reconciler.frozen import frozen
from reconciler.objects.model import ObjectName, Project
from reconciler.spec.values import SecretReference
from reconciler.state.programs import (
    DesiredAccess,
    DesiredJob,
    DesiredPrograms,
    DesiredRoute,
    DesiredServer,
    DesiredService,
)


class TransactionMode(StrEnum):
    """How much of a module commits at once."""

    CHANGE = "change"
    MODULE = "module"


@frozen
class DesiredChange:
    """One change of a module as the commit has it.

    `name` is unique within the module: a rework's older instances are `name@tag`.
    `requires` names changes as the plan file writes them; `script_hash` is the SHA-1 of the deploy script's
    bytes (as Sqitch computes it), `parse_hash` a hash that layout and comments do not move.
    """

    change_id: str
    name: str
    requires: tuple[str, ...]
    conflicts: tuple[str, ...]
    tags: tuple[tuple[str, str], ...]
    note: str
    planned_at: str
    planner: str
    deploy: Script
    revert: Script | None
    verify: Script | None
    script_hash: str
    parse_hash: str
    hazards: tuple[str, ...] = ()
    late: bool = False
    """Deployed after changes that follow it, as its plan says."""
    transactional: bool = True


@frozen
class DesiredModule:
    """A `Module` component: the changes of its plan file up to the target, in plan order."""

    component: str
    stage: str
    database_component: str
    database: str
    path: str
    project: str
    uri: str | None
    target: str | None
    changes: tuple[DesiredChange, ...]
    beyond_target: tuple[tuple[str, str], ...] = ()
    """Ids and names of plan changes after the target; deployed ones mean that the target lies behind."""
    requires_extensions: tuple[str, ...] = ()
    requires_modules: tuple[str, ...] = ()
    transaction: TransactionMode = TransactionMode.CHANGE
    after: tuple[str, ...] = ()
    skip: bool = False
    """It stays out of plans and rollouts."""
    divergence: Mapping[str, str] = field(default_factory=dict)
    """What the spec says of sorts of divergence, by sort; what it leaves out is the default."""


@frozen
class DesiredRole:
    """A role that modules expect on the server; `attributes` are those that the spec speaks of.

    `outside` are those of `member_of` that no component declares. The password is used when it is made.
    """

    name: str
    attributes: tuple[tuple[str, bool], ...] = ()
    member_of: tuple[str, ...] = ()
    password: SecretReference | None = None
    outside: tuple[str, ...] = ()


@frozen
class DesiredDatabase:
    """A `Database` component: a database on the deployment's server, with its extensions and roles."""

    component: str
    stage: str
    database: str
    extensions: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    roles: tuple[DesiredRole, ...] = ()
    """In an order in which they can be made."""
    skip: bool = False
    on: DesiredServer | None = None
    """The service of the environment that it lives on; None: the deployment's server."""
    access: DesiredAccess | None = None
    """What others are given to get in; None where nobody asks for it."""


@frozen
class DesiredAssertion:
    """A query over what is staged that must give no row before it goes live."""

    name: str
    sql: str


@frozen
class DesiredRefresh:
    """A group of materialized views that are refreshed together; `schedule`: the five fields of cron, UTC."""

    name: str
    schedule: str
    views: tuple[ObjectName, ...]


@frozen
class DesiredDeferred:
    """What is done once, behind the switch; inside of the database, in one transaction with its record.

    `url`: it is outside instead, a POST of that address, which is repeated until it is answered.
    """

    name: str
    sql: str | None = None
    url: str | None = None


@frozen
class DesiredObjects:
    """An `Objects` component: SQL objects that are built beside what is live, and take its place.

    `dependents` (refuse, adopt), `hand_made` (refuse, carry, leave) and `altered` (refuse, replace) say what
    a switch does about what it finds. `data_age_s`: how old what views hold may be when it is made.
    """

    component: str
    stage: str
    database_component: str
    database: str
    path: str
    project: Project
    after: tuple[str, ...] = ()
    retain_s: float = 3600.0
    ready_within_s: float = 1800.0
    data_age_s: float | None = None
    dependents: str = "refuse"
    hand_made: str = "refuse"
    altered: str = "refuse"
    assertions: tuple[DesiredAssertion, ...] = ()
    refresh: tuple[DesiredRefresh, ...] = ()
    deferred: tuple[DesiredDeferred, ...] = ()
    warnings: tuple[Problem, ...] = ()
    skip: bool = False


@frozen
class DesiredGate:
    """What a deployment is asked at the end of its work, for others come after its wave."""

    component: str
    database: str
    wave: int
    sql: str
    timeout_s: float


DesiredComponent = (
    DesiredDatabase | DesiredModule | DesiredObjects | DesiredService | DesiredJob | DesiredRoute
)


@frozen
class LeftOut:
    """A component that a provision-only plan leaves to another."""

    component: str
    stage: str


@frozen
class DesiredState:
    """Everything one deployment of one environment should be at one commit.

    `prune_from`: the deployment left the spec, and nothing of what that commit, the last one with it, made of
    it is to stay but the databases.
    """

    environment: str
    deployment: str
    commit: str
    postgres: SecretReference
    stages: tuple[str, ...]
    databases: tuple[DesiredDatabase, ...]
    modules: tuple[DesiredModule, ...]
    objects: tuple[DesiredObjects, ...] = ()
    gate: DesiredGate | None = None
    wave: int = 0
    prune_from: str | None = None
    programs: DesiredPrograms = DesiredPrograms()
    provision_postgres: SecretReference | None = None
    """Narrower credentials, for plans that only provision."""
    provision_only: bool = False
    """It was narrowed to resources, and what they need."""
    left_out: tuple[LeftOut, ...] = ()
    """What was left out of it then, by stage and name."""

    @property
    def components(self) -> tuple[DesiredComponent, ...]:
        """Databases, then modules, SQL objects, services, jobs and routes."""
        own = self.programs
        return (*self.databases, *self.modules, *self.objects, *own.services, *own.jobs, *own.routes)

    @property
    def skipped(self) -> tuple[str, ...]:
        """The components that are skipped, by stage and name."""
        skipped = (part for part in self.components if part.skip)
        places = {name: place for place, name in enumerate(self.stages)}
        return tuple(
            part.component for part in sorted(skipped, key=lambda each: (places[each.stage], each.component))
        )
