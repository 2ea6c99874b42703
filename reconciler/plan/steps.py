"""The closed union of steps. A step says all that execution needs; nothing is left to choose."""

from enum import StrEnum

from reconciler.frozen import frozen
from reconciler.plan.hazards import Hazard


class StepKind(StrEnum):
    """Stable names of the kinds of step, as plans and records show them."""

    CREATE_DATABASE = "create-database"
    ADOPT_DATABASE = "adopt-database"
    INSTALL_TRACKING = "install-tracking"
    TAKE_BASE_LINE = "take-base-line"
    CREATE_ROLE = "create-role"
    CREATE_EXTENSION = "create-extension"
    DEPLOY_CHANGE = "deploy-change"
    RECORD_TAG = "record-tag"
    RENAME_CHANGE = "rename-change"
    RECORD_CHANGE = "record-change"
    REVERT_CHANGE = "revert-change"
    VERIFY_REMAINING = "verify-remaining"
    DISCARD_OBJECTS = "discard-objects"
    STAGE_OBJECTS = "stage-objects"
    READY_OBJECTS = "ready-objects"
    PROMOTE_OBJECTS = "promote-objects"
    ALTER_OBJECTS = "alter-objects"
    RUN_DEFERRED = "run-deferred"
    CHECK_GATE = "check-gate"
    PROVIDE_ACCESS = "provide-access"
    PREPARE_PROGRAM = "prepare-program"
    ROLL_SERVICE = "roll-service"
    RUN_JOB = "run-job"
    SET_ROUTE = "set-route"
    REMOVE_ROUTE = "remove-route"
    REMOVE_SERVICE = "remove-service"
    FORGET_JOB = "forget-job"
    DROP_DATABASE = "drop-database"
    CONSUME_OUTPUTS = "consume-outputs"


@frozen
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

    @property
    def prepares(self) -> bool:
        """Whether it belongs to the first phase of its stage, in which nothing that runs is touched."""
        return self.kind in PREPARING


PREPARING = frozenset({StepKind.PREPARE_PROGRAM})
"""Kinds of the first phase of a stage; all of them are done before any of the others begins."""


@frozen
class CreateDatabase(Step):
    """Make a database from template0 and install the tracking schema in it."""


@frozen
class AdoptDatabase(Step):
    """Take an existing database under management: tracking schema, and what stands there as base line."""

    copy: bool = False


@frozen
class InstallTracking(Step):
    """Install or upgrade the tracking schema of a database that is already managed."""


@frozen
class TakeBaseLine(Step):
    """Take the base line anew: it is missing, was left moving, or is another server version's."""


@frozen
class CreateRole(Step):
    """Make a role of the server; one that is there by then is left as it is.

    `attributes` are those it gets. A password is taken from where the spec says it stands.
    """

    role: str
    attributes: tuple[str, ...] = ()
    member_of: tuple[str, ...] = ()
    with_password: bool = False


@frozen
class CreateExtension(Step):
    """`CREATE EXTENSION` of one extension."""

    extension: str


@frozen
class DeployChange(Step):
    """Run one change's deploy script, verify it and record it, in one transaction.

    Not `transactional`: the script runs outside of transactions, and is verified and recorded behind that.
    `late`: it stands before deployed changes in the plan file, and its module allows that.
    """

    project: str
    change_id: str
    change: str
    script: str
    script_hash: str
    transaction: str
    late: bool = False
    transactional: bool = True


@frozen
class RenameChange(Step):
    """Give the record of a deployed change the name that the plan file gave the change; nothing is run."""

    project: str
    change_id: str
    change: str


@frozen
class RecordTag(Step):
    """Record a tag that the plan file gained on a change that is deployed already.

    `recorded_id` is the id of the change in the record, where that is not the one of the plan file.
    """

    project: str
    change_id: str
    change: str
    tag: str
    recorded_id: str | None = None


@frozen
class RecordChange(Step):
    """Record a change as deployed; nothing is run.

    The last four are what another tool's registry has of it, where it is taken over from there.
    """

    project: str
    change_id: str
    change: str
    script: str
    script_hash: str
    late: bool = False
    recorded_id: str | None = None
    recorded_name: str | None = None
    recorded_hash: str | None = None
    deployed_at: str | None = None


@frozen
class RevertChange(Step):
    """Run the revert script of a deployed change and remove its record, in one transaction.

    `stored`: the script is the one that was kept when the change was deployed.
    """

    project: str
    change_id: str
    change: str
    script: str
    stored: bool


@frozen
class VerifyRemaining(Step):
    """Run the verify scripts of what is still deployed in a database from which changes were taken back.

    It reads only. `project` is the module that was reverted.
    """

    project: str


@frozen
class DiscardObjects(Step):
    """Drop a generation that was staged and whose turn never came; nothing of it was ever live."""

    generation: str


@frozen
class StageObjects(Step):
    """Build a generation of SQL objects in schemas beside those that are live.

    `schemas` are (schema, what becomes of it, schema beside it or empty), `objects` (object, what becomes of
    it), both as people read them; the digest of the plan covers them. `hash` is of the texts that are sent.
    """

    generation: str
    schemas: tuple[tuple[str, str, str], ...]
    objects: tuple[tuple[str, str], ...]
    waves: int = 0
    """How many times something has to be there before the rest can be made."""
    hash: str


@frozen
class ReadyObjects(Step):
    """Fill what was staged, gather statistics, and check it: unit tests, assertions, age of the data."""

    generation: str
    views: tuple[str, ...] = ()
    """Materialized views that are filled."""
    assertions: tuple[str, ...] = ()
    tests: int = 0
    within_s: float


@frozen
class PromoteObjects(Step):
    """Make a generation live in one transaction; what it displaces is kept for `retain_s` seconds.

    The operation may have to wait before it, until somebody lets it go on or its turn comes.
    """

    generation: str
    schemas: tuple[str, ...]
    retain_s: float
    dependents: str
    hand_made: str
    altered: str


@frozen
class AlterObjects(Step):
    """Bring grants, comments and options of live objects and schemas to what their files say, in place."""

    objects: tuple[str, ...]
    hash: str


@frozen
class RunDeferred(Step):
    """Do once what waits for a switch: inside of the database with its record, else until it is answered."""

    generation: str
    action: str
    outside: bool = False


@frozen
class CheckGate(Step):
    """Ask a database whether the next wave may start; anything but true fails it. It reads only."""

    wave: int
    sql: str
    timeout_s: float


@frozen
class ProvideAccess(Step):
    """Make the roles others get in with, with generated passwords and their grants, and keep the outputs.

    `produces` are outputs as `component.name`; `inputs_hash` is what they are kept under.
    """

    owner: str
    reader: str
    inputs_hash: str
    produces: tuple[str, ...]
    consumes: tuple[str, ...] = ()


@frozen
class PrepareProgram(Step):
    """Do what can be done before anything starts: check a program, pull or build its image."""

    runtime: str
    image: str | None = None
    build: str | None = None
    """Hash of what the image is built from."""


@frozen
class RollService(Step):
    """Start an instance of a service, wait until it is healthy and stays so, switch routes, end the old one.

    `beside`: the old one (`replaces`) runs on until then; else it is ended before. `action` is add, change,
    heal, or settle: then the instance runs, and what else there is of it is ended, and its outputs are kept.
    `routes` are the components of routes that are switched with it; `produces` is kept under `outputs_hash`.
    """

    runtime: str
    instance: str
    definition_hash: str
    action: str
    beside: bool
    replaces: str | None = None
    routes: tuple[str, ...] = ()
    consumes: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()
    outputs_hash: str = ""


@frozen
class RunJob(Step):
    """Run a job to its end, `attempts` times at most; what it writes is checked and kept."""

    runtime: str
    trigger: str
    inputs_hash: str
    timeout_s: float
    attempts: int
    consumes: tuple[str, ...] = ()
    produces: tuple[str, ...] = ()


@frozen
class SetRoute(Step):
    """Lead requests for a host and a path to a port of a service that is healthy.

    `heals`: it was set before, and is put back as it was.
    """

    proxy: str | None
    host: str
    path: str
    service: str
    port: str
    definition_hash: str
    heals: bool = False
    consumes: tuple[str, ...] = ()


@frozen
class RemoveRoute(Step):
    """Take a route out of its proxy."""

    host: str
    path: str


@frozen
class RemoveService(Step):
    """End all instances of a service in the grace they are given.

    `keeps_record`: its environment was stopped, and it will be started again. `data` are folders that stay.
    """

    runtime: str
    keeps_record: bool = False
    data: tuple[str, ...] = ()


@frozen
class ForgetJob(Step):
    """Forget a job and its outputs; nothing is run."""


@frozen
class DropDatabase(Step):
    """Drop a database that a person named while removing its environment."""


@frozen
class ConsumeOutputs(Step):
    """Take note of outputs whose consumers a provision-only plan leaves out; nothing is run."""

    consumes: tuple[str, ...]


AnyStep = (
    CreateDatabase
    | AdoptDatabase
    | InstallTracking
    | TakeBaseLine
    | CreateRole
    | CreateExtension
    | DeployChange
    | RecordTag
    | RenameChange
    | RecordChange
    | RevertChange
    | VerifyRemaining
    | DiscardObjects
    | StageObjects
    | ReadyObjects
    | PromoteObjects
    | AlterObjects
    | RunDeferred
    | CheckGate
    | ProvideAccess
    | PrepareProgram
    | RollService
    | RunJob
    | SetRoute
    | RemoveRoute
    | RemoveService
    | ForgetJob
    | DropDatabase
    | ConsumeOutputs
)
