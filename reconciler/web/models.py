"""The shapes of requests and answers that are not view values; from them the OpenAPI document is made."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from reconciler.events import DeliveryResult
from reconciler.rollout.status import EnvironmentStatus, EventRecord, JobStatus, OutputStatus, RolloutStatus


class Body(BaseModel):
    """A request body: strict, for whoever misspells a key means something by it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


PRINTABLE = r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*$"
"""No control characters, no ends of lines, nothing that turns the direction: it ends up in messages."""

Reason = Annotated[
    str, Field(max_length=1000, pattern=r"^[^\x00]*$", description="why, for the audit; without NUL")
]
DeploymentName = Annotated[
    str, Field(min_length=1, max_length=255, pattern=PRINTABLE, description="only this deployment")
]


SCHEMAS_MAX = 200
"""Schemas of SQL objects that one request names."""


class RolloutBody(Body):
    """What to apply."""

    ref: Annotated[str, Field(min_length=1, max_length=255, pattern=PRINTABLE)] | None = Field(
        None, description="branch, tag or commit; left out: the head of the source"
    )
    deployment: DeploymentName | None = None
    scope: Literal["full", "provision-only"] | None = None
    reason: Reason = ""
    allow_hazards: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=32)] = []
    redeploy_schemas: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=255, pattern=PRINTABLE)]],
        Field(max_length=SCHEMAS_MAX, description="schemas of SQL objects to be built anew in any case"),
    ] = []
    keep_failed: bool = Field(
        False, description="what was made of SQL objects stays as it is where staging them fails"
    )


class VerbBody(Body):
    """What a verb is about."""

    deployment: DeploymentName | None = None
    reason: Reason = ""
    digest: Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")] | None = Field(
        None, description="approve only, and needed there: the digest of the plan that is agreed to"
    )


class ForgetBody(Body):
    """Which deployment that left is forgotten, and why."""

    deployment: Annotated[str, Field(min_length=1, max_length=255, pattern=PRINTABLE)]
    reason: Reason = ""


class RemovalBody(Body):
    """Which databases go with the environment, and why; the others stay."""

    databases: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=255, pattern=PRINTABLE)], ...],
        Field(max_length=SCHEMAS_MAX, strict=False),
    ] = ()
    reason: Reason = ""


class ReasonBody(Body):
    """Why something is asked for."""

    reason: Reason = ""


ModuleEventKind = Literal["deploy", "revert", "fail", "rename"]
ChangeName = Annotated[str, Field(min_length=1, max_length=1024, pattern=PRINTABLE)]


class VerifyModulesBody(Body):
    """What to verify; left out: everything that is deployed."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    deployment: DeploymentName | None = None
    module: Annotated[str, Field(min_length=1, max_length=255, pattern=PRINTABLE)] | None = Field(
        None, description="only this module: its component, or its project"
    )
    first: ChangeName | None = Field(
        None, alias="from", description="the first change to verify, of the one module"
    )
    to: ChangeName | None = Field(None, description="the last change to verify, of the one module")


class NoBody(Body):
    """Nothing; an empty object, or no body at all."""


class Answer(BaseModel):
    """An answer; made by us, so it is described and not checked."""

    model_config = ConfigDict(frozen=True)


class ProblemDetails(Answer):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    hint: str | None = None
    problems: list[dict[str, Any]] | None = None


class Environments(Answer):
    """All environments, by name."""

    environments: list[EnvironmentStatus]


class Outputs(Answer):
    """What components put out, by deployment, component and name; the `value` of a sensitive one is null."""

    outputs: list[OutputStatus]


class Jobs(Answer):
    """Jobs, by deployment and component, with their last runs; `next_at` of those with a `schedule`."""

    jobs: list[JobStatus]


class Rollouts(Answer):
    """Rollouts, newest first, without their steps."""

    rollouts: list[RolloutStatus]


class Applied(Answer):
    """The rollout that was recorded; null where there was nothing to do."""

    rollout: RolloutStatus | None


class Events(Answer):
    """Events by rising id; ask again with `after=next`."""

    events: list[EventRecord]
    next: int


class Delivery(Answer):
    """What came of a webhook."""

    source: str
    result: DeliveryResult


class Hazard(Answer):
    """A danger of a step."""

    code: str
    message: str


class PlanStep(Answer):
    """A step; what else it holds depends on its kind."""

    model_config = ConfigDict(extra="allow")

    id: str
    kind: str
    component: str
    identity: str
    database: str
    hazards: list[Hazard]


class PlanStage(Answer):
    """A stage in run order."""

    name: str
    skipped: str | None
    steps: list[PlanStep]


class Stages(Answer):
    """The stages of a deployment's plan."""

    stages: list[PlanStage]


class PendingRow(Answer):
    """Desired differs from tracked."""

    component: str
    identity: str
    action: Literal["add", "change", "remove"]
    reason: str


class DriftRow(Answer):
    """Live differs from tracked, and we did not do it."""

    component: str
    identity: str
    action: Literal["added", "changed", "removed"]
    detail: str


class DivergedRow(Answer):
    """Deployed history differs from the plan file."""

    component: str
    identity: str
    sort: str
    policy: str
    detail: str


class Task(Answer):
    """What a person asked of modules in place of everything."""

    verb: Literal["deploy", "revert", "adopt"]
    module: str | None
    to: str | None
    everything: bool
    with_dependents: bool
    log_only: bool
    hold: str | None
    adopt_from: Literal["sqitch", "pgpm"] | None
    registry: str | None
    createdb: bool


class DeploymentDiff(Answer):
    """What differs on one deployment, and what applying does about it."""

    name: str
    digest: str
    base: str
    held: str | None
    unavailable: str | None
    task: Task | None
    blocked: list[str]
    refused: list[str]
    diverged: list[DivergedRow]
    pending: list[PendingRow]
    drift: list[DriftRow]
    plan: Stages
    warnings: list[str] = []
    skipped: list[str] = Field([], description="components that the spec leaves out of plans and rollouts")
    prune_from: str | None = Field(
        None, description="it left the spec, and what it deployed is taken back: the last commit with it"
    )
    left_out: list[str] = Field([], description="components that a provision-only plan leaves to another")
    kept_outputs: list[str] = Field([], description="outputs that steps take and that are kept from before")
    wanted_outputs: list[str] = Field(
        [], description="outputs that steps make and none takes: for who is as it should be, or to be kept"
    )


class LeftDeployment(Answer):
    """A deployment that the environment had and the commit does not.

    `leaves`: it would leave with this commit; else it left before. `prune`: what it deployed is taken back,
    as the plan of that name says.
    """

    name: str
    leaves: bool
    prune: bool
    detail: str
    declared_at: str | None
    server: str | None
    databases: list[str]


class Diff(Answer):
    """The dry run: the same inputs give the same bytes."""

    environment: str
    commit: str
    scope: Literal["full", "provision-only"]
    in_sync: bool
    digest: str
    deployments: list[DeploymentDiff]
    left: list[LeftDeployment] = []


class ModuleStatus(Answer):
    """What is deployed, pending and diverged of every module."""

    model_config = ConfigDict(extra="allow")

    environment: str
    commit: str
    deployments: list[dict[str, Any]]


class FailedChange(Answer):
    """A verify script that failed, in the words of the server."""

    change: str
    message: str
    sqlstate: str | None
    file: str | None
    line: int | None


class UnverifiedChange(Answer):
    """A change of which nobody knows, and why."""

    change: str
    reason: str


class VerifiedModule(Answer):
    """What came of verifying a module."""

    component: str
    project: str
    database: str
    deployed: int
    passed: int
    failed: list[FailedChange]
    unverified: list[UnverifiedChange]
    without_script: list[str]


class VerifiedDeployment(Answer):
    """What came of verifying a deployment; `unavailable` says why it could not be read."""

    name: str
    unavailable: str | None
    modules: list[VerifiedModule]


class ModuleVerify(Answer):
    """What came of verifying; `ok`: all that is deployed verifies, as far as it has a script."""

    environment: str
    commit: str
    ok: bool
    deployments: list[VerifiedDeployment]


class ModuleLog(Answer):
    """What was deployed and what failed, newest first."""

    model_config = ConfigDict(extra="allow")

    environment: str
    commit: str
    databases: list[dict[str, Any]]


class Health(Answer):
    """Whether this process lives, or serves."""

    status: str
    detail: str
