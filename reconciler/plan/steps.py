"""The closed union of steps. A step says all that execution needs; nothing is left to choose."""

from dataclasses import dataclass
from enum import StrEnum

from reconciler.plan.hazards import Hazard


class StepKind(StrEnum):
    """Stable names of the kinds of step, as plans and records show them."""

    CREATE_DATABASE = "create-database"
    ADOPT_DATABASE = "adopt-database"
    INSTALL_TRACKING = "install-tracking"
    TAKE_BASE_LINE = "take-base-line"
    CREATE_EXTENSION = "create-extension"
    DEPLOY_CHANGE = "deploy-change"
    RECORD_TAG = "record-tag"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What every step has.

    `id` is unique within a plan and the same for the same inputs; `database` names the one it writes to.
    """

    id: str
    kind: StepKind
    component: str
    identity: str
    database: str
    hazards: tuple[Hazard, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateDatabase(Step):
    """Make a database from template0 and install the tracking schema in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptDatabase(Step):
    """Take an existing database under management: tracking schema, and what stands there as base line."""

    copy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallTracking(Step):
    """Install or upgrade the tracking schema of a database that is already managed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TakeBaseLine(Step):
    """Take the base line anew: it is missing, was left moving, or is another server version's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateExtension(Step):
    """`CREATE EXTENSION` of one extension."""

    extension: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeployChange(Step):
    """Run one change's deploy script, verify it and record it, in one transaction."""

    project: str
    change_id: str
    change: str
    script: str
    script_hash: str
    transaction: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordTag(Step):
    """Record a tag that the plan file gained on a change that is deployed already."""

    project: str
    change_id: str
    change: str
    tag: str


AnyStep = (
    CreateDatabase
    | AdoptDatabase
    | InstallTracking
    | TakeBaseLine
    | CreateExtension
    | DeployChange
    | RecordTag
)
