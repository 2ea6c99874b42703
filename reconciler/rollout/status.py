"""What people are shown of environments, rollouts and operations; read from the control schema.

Field names are the JSON names of the HTTP API and of `--output json`. Times are aware UTC.
"""

from dataclasses import field
from datetime import datetime
from typing import Any

from reconciler.frozen import frozen
from reconciler.rollout.states import OperationState, RolloutState


@frozen
class Condition:
    """One condition: `Ready`, `Reconciling`, `Stalled`, `Drifted` or `Suspended`.

    `since` is when the status last changed; `observed_commit` is the commit that it was found at.
    """

    type: str
    status: bool
    reason: str
    message: str
    since: datetime
    observed_commit: str | None = None


@frozen
class DeploymentStatus:
    """One deployment of an environment as the last pass left it.

    `verify_failures` are those of the last run of its verify scripts, where the spec asks for such runs.
    `rollout` is that of `operation`, and while it is not over `steps_done` and `current` say how far it is.
    `provisioned_commit`: it carries the resources of that commit alone, and `left_out` is what is left to
    roll out of it.
    """

    name: str
    applied_commit: str | None
    pending: int
    drift: int
    diverged: int
    held: str | None
    unavailable: str | None
    operation: str | None
    state: OperationState | None
    blocked: str | None = None
    verified_at: datetime | None = None
    verify_failures: int | None = None
    rollout: str | None = None
    steps_done: int | None = None
    steps_total: int | None = None
    current: str | None = None
    current_since: datetime | None = None
    provisioned_commit: str | None = None
    left_out: tuple[str, ...] = ()


@frozen
class LeftStatus:
    """A deployment that the spec no longer names: what is left of it, where that is known.

    `declared_commit` is the last commit known to have it; `why` says why it is as it is, or what is next.
    """

    name: str
    left_at: datetime
    applied_commit: str | None
    server: str | None
    databases: tuple[str, ...] = ()
    declared_commit: str | None = None
    why: str | None = None


@frozen
class RefreshStatus:
    """A group of materialized views that is refreshed by a schedule, and what came of its last run.

    `data_at` is from when the oldest rows of its views are, `failures` counts the last runs that failed.
    """

    deployment: str
    component: str
    name: str
    schedule: str
    due_at: datetime
    running: bool
    started_at: datetime | None = None
    ended_at: datetime | None = None
    succeeded_at: datetime | None = None
    data_at: datetime | None = None
    failures: int = 0
    error: str | None = None


@frozen
class KeptStatus:
    """What is left of a generation of SQL objects and could not be removed so far; it is tried again.

    `state`: `staged` in vain, displaced by what was `promoted`, or `reverted`.
    """

    deployment: str
    database: str
    component: str
    generation: str
    state: str
    made_at: datetime
    failures: int
    error: str
    next_try_at: datetime


@frozen
class ProgramStatus:
    """A service, a job or a route as it was applied and found last.

    `state` of a service is healthy, starting, unhealthy, exited, absent, stopped or unknown, of a route set,
    edited, absent or unknown, of a job running, done or failed; None where nobody looked yet. `applying`:
    something is being put in its place. `heals` counts how often it was put back in a row.
    """

    deployment: str
    component: str
    kind: str
    stage: str | None
    state: str | None
    reason: str | None = None
    since: datetime | None = None
    instance: str | None = None
    place: str | None = None
    commit: str | None = None
    applied_at: datetime | None = None
    applying: bool = False
    heals: int = 0


@frozen
class JobStatus:
    """A job with its last run, and when its schedule lets it run next.

    `trigger` is what that ran for, `failures` counts the last runs by schedule that failed. No `ended_at`: it
    runs; no `began_at`: it never ran.
    """

    deployment: str
    component: str
    trigger: str | None = None
    began_at: datetime | None = None
    ended_at: datetime | None = None
    exit_status: int | None = None
    error: str | None = None
    attempt: int | None = None
    schedule: str | None = None
    next_at: datetime | None = None
    failures: int = 0


@frozen
class OutputStatus:
    """What a component put out; the value of a sensitive one is told to nobody."""

    deployment: str
    component: str
    name: str
    type: str
    sensitive: bool
    value: Any
    made_at: datetime


@frozen
class EnvironmentStatus:
    """One environment: what is desired, applied, live and running.

    `attempted_commit` is that of the last rollout, whatever came of it; `applied_commit` is carried by every
    deployment. `owner` is the daemon that passes over it. `left` are deployments that it had before.
    `refreshes` are groups of views that are refreshed, `kept` what could not be removed of SQL objects.
    """

    name: str
    source: str
    path: str
    head_commit: str | None
    head_commit_at: datetime | None
    observed_commit: str | None
    applied_commit: str | None
    applied_at: datetime | None
    suspended: bool
    suspended_reason: str | None
    last_pass_at: datetime | None
    error: str | None
    attempted_commit: str | None = None
    attempted_at: datetime | None = None
    mode: str | None = None
    owner: str | None = None
    deployments: tuple[DeploymentStatus, ...] = ()
    conditions: tuple[Condition, ...] = ()
    left: tuple[LeftStatus, ...] = ()
    refreshes: tuple[RefreshStatus, ...] = ()
    kept: tuple[KeptStatus, ...] = ()
    programs: tuple[ProgramStatus, ...] = ()
    """Its services, jobs and routes."""
    stopped: bool = False
    """Its services and routes are to be off, because a person said so."""


@frozen
class StepStatus:
    """One step of an operation: `pending`, `running`, `done`, `skipped` or `failed`.

    `hazards` are {"code", "message"}, of plans that somebody agrees to or agreed to.
    """

    id: str
    ordinal: int
    stage: str
    kind: str
    component: str
    identity: str
    state: str
    reason: str | None = None
    said: str | None = None
    """What its scripts said with `\\echo`, or how far it is that takes long."""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    hazards: tuple[dict[str, str], ...] = ()


@frozen
class ParkedStatus:
    """What waits for its promotion: a generation of a component, and since when."""

    component: str | None
    generation: str | None
    since: datetime


@frozen
class OperationStatus:
    """One operation: one rollout on one deployment.

    `error` is {"what", "where", "why", "next", "sqlstate"} of the last failure. `current` is the step that
    runs, `waits_for` why nothing does; `superseded_by` is the rollout that took its place. `blocked` is what
    it left out, done as far as might be. `by_hand`: it failed or was cancelled, and was of modules by hand.
    `parked` is what waits to go live, `granted` whether that was let go already, `promoted_at` when it first
    made something live, `applied_at` when its revert window opened, and `revert_until` how long what is live
    may be taken back. `waits_for_person`: nothing happens to it before somebody decides.
    """

    id: str
    deployment: str
    state: OperationState
    attempts: int
    plan_digest: str
    reason: str | None
    error: dict[str, Any] | None
    next_attempt_at: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    worker: str | None
    steps: tuple[StepStatus, ...] = ()
    steps_done: int | None = None
    steps_total: int | None = None
    current: str | None = None
    current_since: datetime | None = None
    waits_for: str | None = None
    superseded_by: str | None = None
    blocked: tuple[str, ...] = ()
    wave: int = 0
    by_hand: bool = False
    parked: ParkedStatus | None = None
    granted: bool = False
    promoted_at: datetime | None = None
    applied_at: datetime | None = None
    revert_until: datetime | None = None
    waits_for_person: bool = False


@frozen
class RequestStatus:
    """What an operator asked of a rollout: `pending`, `completed` or `failed` with a reason.

    `why` are the words of whoever asked, `digest` what they agreed to. `already`: the same was asked before
    and still waits; this is that request.
    """

    id: str
    rollout: str
    deployment: str | None
    verb: str
    state: str
    reason: str | None
    requested_by: str
    created_at: datetime
    resolved_at: datetime | None
    why: str | None = None
    digest: str | None = None
    already: bool = False


@frozen
class ApprovalStatus:
    """Who agreed to the plan of an operation, and what became of that.

    Neither `used_at` nor `void_at`: it stands, and nothing began yet.
    """

    operation: str
    deployment: str
    request: str
    plan_digest: str
    approved_by: str
    approved_at: datetime
    used_at: datetime | None
    void_at: datetime | None
    void_reason: str | None


@frozen
class RolloutStatus:
    """One rollout with its operations in rollout order.

    `counts` are all of its operations by state, also where only some are given. `digest` is what is agreed to
    where plans wait for approval, `replaces` and `replaced_by` are the rollouts before and after it in their
    places. `next` says what can be done about it, each with the command.
    """

    id: str
    environment: str
    commit: str
    scope: str
    state: RolloutState
    reason: str
    requested_by: str
    created_at: datetime
    finished_at: datetime | None
    operations: tuple[OperationStatus, ...] = field(default=())
    order: str | None = None
    on_failure: str | None = None
    max_parallel: int | None = None
    promotion: str | None = None
    released: bool = False
    wave_pause_s: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    digest: str | None = None
    replaces: tuple[str, ...] = ()
    replaced_by: tuple[str, ...] = ()
    requests: tuple[RequestStatus, ...] = ()
    approvals: tuple[ApprovalStatus, ...] = ()
    next: tuple[str, ...] = ()


@frozen
class EventRecord:
    """One line of the append-only audit: `id` counts up."""

    id: int
    at: datetime
    kind: str
    environment: str | None
    deployment: str | None
    rollout: str | None
    operation: str | None
    message: str
    data: dict[str, Any]
