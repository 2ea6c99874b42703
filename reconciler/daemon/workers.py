"""Build a worker, and what clears up behind it; shared by the daemon and by commands without one."""

from collections.abc import Callable

from reconciler.control.workers import Peer
from reconciler.daemon.parts import Parts
from reconciler.daemon.readers import Hooks
from reconciler.execution.session import Limits
from reconciler.postgres.connection import Dsn
from reconciler.settings import Settings
from reconciler.worker import Worker, WorkerHooks, WorkerLimits
from reconciler.worker.lease import ControlAccess
from reconciler.worker.leftovers import Leftovers
from reconciler.worker.scheduled_jobs import ScheduledJobs

SLOW_PLACES = 3
"""Places for operations that take long, for each of those for all, so that they keep nobody waiting."""


def build_worker(
    settings: Settings,
    parts: Parts,
    control: Dsn,
    name: str,
    hooks: Hooks,
    *,
    passes: bool,
    on_peers: Callable[[str | None, tuple[Peer, ...]], None] | None = None,
) -> Worker:
    """Build a worker of the control database; `passes` says whether this process runs passes too."""
    limits = settings.limits
    parts.scheduling.runner = _scheduled_jobs(settings, parts, control, name, hooks)
    return Worker(
        name=name,
        control=control,
        connections=parts.control_connections,
        planner=parts.planner,
        limits=WorkerLimits(
            operations_in_parallel=settings.workers,
            operations_per_server=limits.operations_per_server,
            slow_in_parallel=settings.workers * SLOW_PLACES,
            lease_s=limits.lease_s,
            heartbeat_s=limits.heartbeat_s,
            attempts=limits.attempts,
            crashes=limits.crashes,
            retry_base_s=limits.retry_base_s,
            retry_ceiling_s=limits.retry_ceiling_s,
            stop_grace_s=limits.stop_grace_s,
            writes=_writes(settings),
        ),
        sources=frozenset(source.name for source in settings.sources),
        passes=passes,
        hooks=WorkerHooks(
            emit=hooks.emit,
            on_peers=on_peers,
            interference=hooks.interference,
            machine=parts.machine,
            sealer=parts.secrets,
        ),
    )


def _scheduled_jobs(settings: Settings, parts: Parts, control: Dsn, name: str, hooks: Hooks) -> ScheduledJobs:
    return ScheduledJobs(
        name=name,
        control=ControlAccess(control, parts.control_connections, timeout_s=settings.limits.lease_s),
        planner=parts.planner,
        machine=parts.machine,
        sealer=parts.secrets,
        interference=hooks.interference,
    )


def build_leftovers(settings: Settings, parts: Parts, control: Dsn, hooks: Hooks) -> Leftovers:
    """Build what removes the leftovers of generations; it waits to be told of a worker of this process."""
    return Leftovers(
        control=ControlAccess(control, parts.control_connections, timeout_s=settings.limits.lease_s),
        planner=parts.planner,
        limits=_writes(settings),
        emit=hooks.emit,
        interference=hooks.interference,
    )


def _writes(settings: Settings) -> Limits:
    limits = settings.limits
    return Limits(
        lock_timeout_s=limits.lock_timeout_s,
        statement_timeout_s=limits.statement_timeout_s,
        connect_timeout_s=limits.connect_timeout_s,
    )
