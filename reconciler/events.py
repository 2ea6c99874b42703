"""What happened, as values: the only thing the parts that do the work tell metrics and logs.

Readers are `reconciler.metrics` and `reconciler.logs`; nothing here counts, prints or reads a clock, and no
value ever holds a secret. Durations are seconds; times are aware UTC.
"""

from datetime import datetime
from enum import StrEnum

from reconciler.frozen import frozen


class PassResult(StrEnum):
    """How one pass over an environment ended."""

    IN_SYNC = "in_sync"
    PENDING = "pending"
    RECORDED = "recorded"
    HELD = "held"
    SUSPENDED = "suspended"
    FAILED = "failed"


class WakeCause(StrEnum):
    """What asked for a pass."""

    TIMER = "timer"
    FILE = "file"
    WEBHOOK = "webhook"
    OPERATOR = "operator"
    OPERATION = "operation"
    START = "start"
    DRIFT = "drift"
    PEERS = "peers"


@frozen
class WakeReceived:
    """Something asked for a pass; many wakes may lead to one pass."""

    cause: WakeCause
    source: str | None = None
    environment: str | None = None


@frozen
class SourceFetched:
    """A fetch of a source ended; `commit` is its head where it is known, `error` why it failed."""

    source: str
    ok: bool
    duration_s: float
    changed: bool = False
    commit: str | None = None
    error: str | None = None


@frozen
class HistoryRewritten:
    """A branch no longer contains the commit that was its head; `policy` says what was done about it."""

    source: str
    before: str
    after: str
    policy: str


@frozen
class SignatureRejected:
    """The head of a source was refused: its signature is missing or does not count. Told once a commit."""

    source: str
    commit: str
    reason: str


@frozen
class PassFinished:
    """One pass over one environment ended; the counts are over all its deployments.

    `unavailable` says of each deployment that could not be read which it is, and why.
    """

    environment: str
    result: PassResult
    duration_s: float
    source: str | None = None
    commit: str | None = None
    pending: int = 0
    drift: int = 0
    diverged: int = 0
    held: int = 0
    unavailable: tuple[str, ...] = ()
    rollout: str | None = None
    error: str | None = None


@frozen
class RolloutRecorded:
    """A rollout was recorded: operations stand in the control database for workers to claim."""

    environment: str
    rollout: str
    commit: str
    deployments: tuple[str, ...]
    requested_by: str
    reason: str = ""


@frozen
class OperationMoved:
    """An operation went from one state to another; `before` and `after` are names of operation states."""

    environment: str
    deployment: str
    rollout: str
    operation: str
    before: str
    after: str
    worker: str | None = None
    attempts: int = 0
    reason: str | None = None


@frozen
class StepFinished:
    """A step of a plan ended; `sqlstate` and `error` say why where it did not work."""

    environment: str
    deployment: str
    operation: str
    step: str
    kind: str
    component: str
    identity: str
    ok: bool
    duration_s: float
    skipped: bool = False
    sqlstate: str | None = None
    error: str | None = None


@frozen
class ScriptSaid:
    """What the scripts of a step said with `\\echo`, in lines."""

    environment: str
    deployment: str
    operation: str
    step: str
    component: str
    identity: str
    text: str


@frozen
class CommitApplied:
    """All deployments of an environment carry a commit; `seconds` counts from the commit's own time."""

    environment: str
    commit: str
    committed_at: datetime
    seconds: float


@frozen
class DriftFound:
    """Live state differs from tracked state, and we did not do it; sent when it is new, not on every pass."""

    environment: str
    deployment: str
    objects: int
    examples: tuple[str, ...] = ()


@frozen
class VerifyFailed:
    """Verify scripts of what is deployed fail; sent when their number is news, not on every run."""

    environment: str
    deployment: str
    failures: int
    examples: tuple[str, ...] = ()


@frozen
class GroupRefreshed:
    """A group of materialized views was refreshed, or could not be; `is_news`: before it was otherwise."""

    environment: str
    deployment: str
    component: str
    group: str
    ok: bool
    duration_s: float
    error: str | None = None
    is_news: bool = False


@frozen
class ScheduledJobRan:
    """A job was run by its schedule, and is done or failed; `is_news`: before it was otherwise."""

    environment: str
    deployment: str
    component: str
    ok: bool
    duration_s: float
    error: str | None = None
    is_news: bool = False


@frozen
class GenerationRemoved:
    """What was left of a generation of SQL objects is gone: all of it, or what it displaced."""

    environment: str
    deployment: str
    component: str
    generation: str
    state: str
    objects: int
    schemas: int


@frozen
class GenerationKept:
    """What is left of a generation could not be removed now; it is tried again after `retry_s`."""

    environment: str
    deployment: str
    component: str
    generation: str
    state: str
    error: str
    retry_s: float
    is_news: bool = False


@frozen
class LeaseLost:
    """A worker lost the operation it was on; it wrote nothing more."""

    environment: str
    deployment: str
    operation: str
    worker: str


@frozen
class BaseLineRetaken:
    """A base line was taken anew, so drift before this moment is not known; `reason` says why."""

    environment: str
    deployment: str
    database: str
    reason: str


@frozen
class DiffServed:
    """A dry run was answered."""

    environment: str
    duration_s: float
    ok: bool = True
    ref: str | None = None


@frozen
class SnapshotRead:
    """A live state was read; `full` is false where the probe showed that nothing moved."""

    environment: str
    deployment: str
    duration_s: float
    full: bool


@frozen
class WorkerBeat:
    """A worker renewed its leases, or could not: then `error` says why."""

    worker: str
    ok: bool = True
    error: str | None = None


@frozen
class DaemonStarted:
    """The daemon serves: it listens, its control database is reachable, its sources are watched."""

    version: str
    listen: str
    sources: tuple[str, ...]
    workers: int


@frozen
class ControlAwaited:
    """The control database does not answer a daemon that starts and tries for `for_s` seconds."""

    error: str
    for_s: float


@frozen
class DaemonStopped:
    """The daemon ended on request; `handed_back` operations are claimable by others."""

    reason: str
    handed_back: int = 0


class DeliveryResult(StrEnum):
    """What came of a delivery of a webhook."""

    WOKEN = "woken"
    IGNORED = "ignored"
    REPEATED = "repeated"


@frozen
class DeliveryReceived:
    """A webhook whose signature is right arrived; `id` is what the provider calls the delivery."""

    source: str
    result: DeliveryResult
    id: str | None = None


@frozen
class CallerRejected:
    """Somebody sent a wrong token or signature; `told` is false where one address sends them in masses."""

    what: str
    address: str
    told: bool


@frozen
class CertificateRenewed:
    """The files of the API's certificate changed, and were taken; `error` says why they could not be."""

    file: str
    error: str | None = None


@frozen
class Repaired:
    """Rows of the control database that somebody left behind were settled; `what` is one of a closed list."""

    what: str
    count: int


@frozen
class TaskFailed:
    """A part of the daemon met an error it did not expect; it goes on, and this must be looked at."""

    task: str
    error: str


Event = (
    WakeReceived
    | SourceFetched
    | HistoryRewritten
    | SignatureRejected
    | PassFinished
    | RolloutRecorded
    | OperationMoved
    | StepFinished
    | ScriptSaid
    | CommitApplied
    | DriftFound
    | VerifyFailed
    | GroupRefreshed
    | ScheduledJobRan
    | GenerationRemoved
    | GenerationKept
    | LeaseLost
    | BaseLineRetaken
    | DiffServed
    | SnapshotRead
    | WorkerBeat
    | DaemonStarted
    | ControlAwaited
    | DaemonStopped
    | DeliveryReceived
    | CallerRejected
    | CertificateRenewed
    | Repaired
    | TaskFailed
)
"""Everything that can happen."""
