"""Events and tables as Prometheus metrics: counters and histograms from events, gauges from the tables.

Gauges are read at scrape time, so they are right after a restart, and the series of an environment that its
source no longer declares disappear. A control database that cannot be read never stops a scrape.
"""

import asyncio
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from typing_extensions import override

from reconciler import __version__, events
from reconciler.control.gauges import EnvironmentGauges, Gauges, read_gauges
from reconciler.errors import ReconcilerError
from reconciler.events import Event
from reconciler.postgres.connection import Connections, Dsn

TABLES_READ_WITHIN_S = 5.0
"""Below the ten seconds that Prometheus waits for a scrape."""

QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
SLOW = (0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
DELAYS = (0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600, 4 * 3600, 24 * 3600)


class Metrics:
    """All metrics of one daemon, in a registry of their own."""

    def __init__(
        self,
        *,
        control: Dsn | None = None,
        connections: Connections | None = None,
        version: str = __version__,
        sources: Sequence[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Series of the sources exist from the start: one that was never fetched can be alerted on."""
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._control = control
        self._connections = connections
        self._clock = clock
        self._registry = CollectorRegistry()
        self._tables = _Tables()
        self._registry.register(self._tables)
        ProcessCollector(registry=self._registry)
        build = self._gauge("build_info", "Always 1; the labels say what runs.", "version", "python_version")
        build.labels(version, platform.python_version()).set(1)
        self._make_pass_metrics()
        self._make_source_metrics(sources)
        self._make_work_metrics()

    def _make_pass_metrics(self) -> None:
        self._wakes = self._counter("wakes", "Requests for a pass, by what asked for it.", "cause")
        self._passes = self._counter(
            "passes", "Passes over environments, by how they ended.", "environment", "result"
        )
        self._pass_duration = self._histogram(
            "pass_duration_seconds", "Duration of passes over one environment, in seconds.", SLOW
        )
        self._snapshot_duration = self._histogram(
            "snapshot_duration_seconds", "Duration of reading a live state, in seconds.", QUICK, "depth"
        )
        self._diff_duration = self._histogram(
            "diff_duration_seconds", "Duration of dry runs asked for over HTTP, in seconds.", QUICK
        )
        self._commit_to_applied = self._histogram(
            "commit_to_applied_seconds",
            "Time from a commit's own time to its being applied on all deployments, in seconds.",
            DELAYS,
        )
        self._task_failures = self._counter(
            "internal_errors", "Errors that no part expected; each has a line in the log.", "task"
        )
        self._rejected = self._counter("rejected_callers", "Wrong tokens and signatures of callers.", "what")
        for what in ("token", "signature"):
            self._rejected.labels(what)
        for cause in events.WakeCause:
            self._wakes.labels(cause.value)
        for depth in ("full", "probe"):
            self._snapshot_duration.labels(depth)

    def _make_source_metrics(self, sources: Sequence[str]) -> None:
        self._fetches = self._counter(
            "source_fetches", "Fetches of a source, by how they ended.", "source", "result"
        )
        self._fetch_duration = self._histogram(
            "source_fetch_duration_seconds", "Duration of fetches, in seconds.", SLOW
        )
        self._last_fetch = self._gauge(
            "source_last_successful_fetch_timestamp_seconds",
            "When a source was last fetched, in seconds since 1970; 0 where this process never did.",
            "source",
        )
        self._signature_failures = self._counter(
            "source_signature_failures", "Commits refused for their signature.", "source"
        )
        self._refused = self._gauge(
            "source_head_refused",
            "1 where the newest commit of a source is refused for its signature.",
            "source",
        )
        self._rewrites = self._counter(
            "source_history_rewrites", "Times the history of a branch was rewritten.", "source"
        )
        self._deliveries = self._counter(
            "webhook_deliveries", "Webhooks with a right signature, by what came of them.", "source", "result"
        )
        for source in sources:
            self._last_fetch.labels(source).set(0)
            self._signature_failures.labels(source)
            self._refused.labels(source).set(0)
            self._rewrites.labels(source)
            for result in ("ok", "error"):
                self._fetches.labels(source, result)

    def _make_work_metrics(self) -> None:
        self._moves = self._counter("operation_transitions", "Times an operation came to a state.", "state")
        self._steps = self._counter("steps", "Steps carried out, by how they ended.", "kind", "result")
        self._step_duration = self._histogram(
            "step_duration_seconds", "Duration of steps, in seconds.", SLOW, "kind"
        )
        self._lease_losses = self._counter("lease_losses", "Operations lost to another worker.")
        self._repairs = self._counter(
            "repairs", "Rows of the control database that were left behind and are settled now.", "what"
        )
        for what in ("rollout", "operation", "request", "steps", "hold"):
            self._repairs.labels(what)
        self._refreshes = self._counter(
            "refreshes", "Refreshes of groups of materialized views, by how they ended.", "result"
        )
        for result in ("ok", "error"):
            self._refreshes.labels(result)
        self._scheduled_jobs = self._counter(
            "scheduled_job_runs", "Jobs run by their schedules, by how they ended.", "result"
        )
        for result in ("ok", "error"):
            self._scheduled_jobs.labels(result)
        self._refresh_duration = self._histogram(
            "refresh_duration_seconds", "Duration of refreshes of a group, in seconds.", SLOW
        )
        self._generations_removed = self._counter(
            "generations_removed", "Generations of SQL objects of which what was left is gone."
        )
        self._generation_failures = self._counter(
            "generation_upkeep_failures", "Times what is left of a generation could not be removed."
        )
        self._base_lines = self._counter(
            "base_lines_retaken", "Base lines taken anew; drift before that moment is not known."
        )
        self._heartbeat = self._gauge(
            "worker_last_heartbeat_timestamp_seconds",
            "When this process last renewed its leases, in seconds since 1970; 0 where it never did.",
        )
        for state in ("completed", "failed", "cancelled", "superseded", "retrying"):
            self._moves.labels(state)

    def observe(self, event: Event) -> None:  # noqa: C901, PLR0912 - one arm for each event
        """Count one event."""
        match event:
            case events.WakeReceived():
                self._wakes.labels(event.cause.value).inc()
            case events.PassFinished():
                self._passes.labels(event.environment, event.result.value).inc()
                self._pass_duration.observe(event.duration_s)
            case events.SourceFetched():
                self._observe_fetch(event)
            case events.HistoryRewritten():
                self._rewrites.labels(event.source).inc()
            case events.SignatureRejected():
                self._signature_failures.labels(event.source).inc()
                self._refused.labels(event.source).set(1)
            case events.OperationMoved():
                self._moves.labels(event.after).inc()
            case events.StepFinished():
                self._observe_step(event)
            case events.CommitApplied():
                self._commit_to_applied.observe(max(0.0, event.seconds))
            case events.GroupRefreshed():
                self._refreshes.labels("ok" if event.ok else "error").inc()
                self._refresh_duration.observe(event.duration_s)
            case events.ScheduledJobRan():
                self._scheduled_jobs.labels("ok" if event.ok else "error").inc()
            case events.GenerationRemoved():
                self._generations_removed.inc()
            case events.GenerationKept():
                self._generation_failures.inc()
            case events.LeaseLost():
                self._lease_losses.inc()
            case events.Repaired():
                self._repairs.labels(event.what).inc(event.count)
            case events.BaseLineRetaken():
                self._base_lines.inc()
            case events.DiffServed():
                self._diff_duration.observe(event.duration_s)
            case events.SnapshotRead():
                self._snapshot_duration.labels("full" if event.full else "probe").observe(event.duration_s)
            case events.WorkerBeat():
                if event.ok:
                    self._heartbeat.set(self._clock())
            case events.TaskFailed():
                self._task_failures.labels(event.task).inc()
            case events.DeliveryReceived():
                self._deliveries.labels(event.source, event.result.value).inc()
            case events.CallerRejected():
                self._rejected.labels(event.what).inc()
            case (
                events.RolloutRecorded()
                | events.ScriptSaid()
                | events.CertificateRenewed()
                | events.DriftFound()
                | events.VerifyFailed()
                | events.DaemonStarted()
                | events.ControlAwaited()
                | events.DaemonStopped()
            ):
                pass  # the tables and the log tell of these

    def _observe_fetch(self, event: events.SourceFetched) -> None:
        self._fetches.labels(event.source, "ok" if event.ok else "error").inc()
        self._fetch_duration.observe(event.duration_s)
        if event.ok:
            self._last_fetch.labels(event.source).set(self._clock())
            self._refused.labels(event.source).set(0)

    def _observe_step(self, event: events.StepFinished) -> None:
        result = "skipped" if event.skipped else "done" if event.ok else "failed"
        self._steps.labels(event.kind, result).inc()
        self._step_duration.labels(event.kind).observe(event.duration_s)

    async def text(self) -> bytes:
        """All metrics in the text format, with what the tables say now."""
        try:
            async with asyncio.timeout(TABLES_READ_WITHIN_S):
                gauges = await self._read()
        except (ReconcilerError, TimeoutError):
            gauges = None
        return self.render(gauges)

    async def _read(self) -> Gauges | None:
        if self._control is None or self._connections is None:
            return None
        async with self._connections.borrow(self._control, role="metrics") as connection:
            return await read_gauges(connection)

    def render(self, gauges: Gauges | None) -> bytes:
        """All metrics in the text format; `None` says that the control database cannot be read."""
        if gauges is not None:
            self._forget_removed({environment.name for environment in gauges.environments})
        self._tables.gauges = gauges
        try:
            return generate_latest(self._registry)
        finally:
            self._tables.gauges = None

    def _forget_removed(self, present: set[str]) -> None:
        counted = {
            sample.labels["environment"] for family in self._passes.collect() for sample in family.samples
        }
        for name in counted - present:
            self._passes.remove_by_labels({"environment": name})

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"reconciler_{name}", text, labels, registry=self._registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"reconciler_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"reconciler_{name}", text, labels, buckets=buckets, registry=self._registry)


class _Tables(Collector):
    """Gauges of what the tables said at this scrape."""

    def __init__(self) -> None:
        self.gauges: Gauges | None = None

    @override
    def collect(self) -> Iterable[Metric]:
        """Every family each time; series only of what there is."""
        up = _family("control_database_up", "1 where the control database could be read at this scrape.")
        up.add_metric([], float(self.gauges is not None))
        yield up
        environments = self.gauges.environments if self.gauges is not None else ()
        yield from _operations(self.gauges)
        yield from _environments(environments)
        yield from _deployments(environments)
        yield from _objects(self.gauges)
        yield from _programs(self.gauges)


def _operations(gauges: Gauges | None) -> Iterator[Metric]:
    by_state = _family("operations", "Operations that are not over, by state.", "state")
    waiting = _family(
        "oldest_waiting_operation_timestamp_seconds",
        "Since when the operation that waits longest for a worker has been waiting, in seconds since 1970.",
    )
    parked = _family(
        "oldest_waiting_promotion_timestamp_seconds",
        "Since when the operation that waits longest for its promotion has been waiting, "
        "in seconds since 1970.",
    )
    workers = _family("workers", "Workers that are alive, of all daemons on this control database.")
    if gauges is not None:
        for state, count in gauges.operations.items():
            by_state.add_metric([state.value], count)
        workers.add_metric([], gauges.workers)
        if gauges.oldest_waiting_at is not None:
            waiting.add_metric([], gauges.oldest_waiting_at.timestamp())
        if gauges.oldest_parked_at is not None:
            parked.add_metric([], gauges.oldest_parked_at.timestamp())
    yield from (by_state, waiting, parked, workers)


def _objects(gauges: Gauges | None) -> Iterator[Metric]:
    labels = ("environment", "deployment", "component", "group")
    refreshed = _family(
        "refresh_last_success_timestamp_seconds",
        "When a group of materialized views was last refreshed, in seconds since 1970.",
        *labels,
    )
    failing = _family("refresh_failures", "Refreshes of a group in a row that failed.", *labels)
    age = _family(
        "objects_data_age_seconds", "How old the oldest rows of a group's views are, in seconds.", *labels
    )
    generations = _family(
        "generations",
        "Generations of SQL objects of which something is to be removed later.",
        *("environment", "state"),
    )
    kept = _family(
        "generations_kept",
        "Those of which something could not be removed so far.",
        *("environment", "state"),
    )
    for group in gauges.groups if gauges is not None else ():
        values = [group.environment, group.deployment, group.component, group.name]
        failing.add_metric(values, group.failures)
        if group.succeeded_at is not None:
            refreshed.add_metric(values, group.succeeded_at.timestamp())
        if group.data_age_s is not None:
            age.add_metric(values, max(0.0, group.data_age_s))
    for found in gauges.generations if gauges is not None else ():
        generations.add_metric([found.environment, found.state], found.count)
        kept.add_metric([found.environment, found.state], found.kept)
    yield from (refreshed, failing, age, generations, kept)


def _programs(gauges: Gauges | None) -> Iterator[Metric]:
    found = _family(
        "components",
        "Services, jobs and routes by how they were found last; jobs by how their last run ended.",
        *("environment", "kind", "state"),
    )
    for row in gauges.programs if gauges is not None else ():
        found.add_metric([row.environment, row.kind.lower(), row.state], row.count)
    yield found


def _environments(environments: Sequence[EnvironmentGauges]) -> Iterator[Metric]:
    def family(name: str, text: str, value: Callable[[EnvironmentGauges], float | None]) -> Metric:
        made = _family(name, text, "environment")
        for environment in environments:
            number = value(environment)
            if number is not None:
                made.add_metric([environment.name], number)
        return made

    yield family(
        "environment_head_commit_timestamp_seconds",
        "Time of the newest commit of the environment's source, in seconds since 1970.",
        lambda found: _timestamp(found.head_commit_at),
    )
    yield family(
        "environment_applied_commit_timestamp_seconds",
        "Time of the commit that all deployments carry, in seconds since 1970.",
        lambda found: _timestamp(found.applied_commit_at),
    )
    yield family(
        "environment_last_pass_timestamp_seconds",
        "When a pass over the environment last ended, in seconds since 1970.",
        lambda found: _timestamp(found.last_pass_at),
    )
    yield family(
        "environment_ready",
        "1 where every deployment carries the observed commit and nothing stands in the way.",
        lambda found: float(found.ready),
    )
    yield family(
        "environment_stalled",
        "1 where waiting will not help: a person or a new commit must act.",
        lambda found: float(found.stalled),
    )
    yield family(
        "environment_failing",
        "1 where the last pass could not do its work.",
        lambda found: float(found.failing),
    )
    yield family(
        "environment_suspended",
        "1 where the environment is not reconciled on request.",
        lambda found: float(found.suspended),
    )
    yield family(
        "held_deployments",
        "Deployments on which no pass tries the commit again by itself.",
        lambda found: sum(deployment.held for deployment in found.deployments),
    )
    yield family(
        "unavailable_deployments",
        "Deployments that could not be read at the last pass.",
        lambda found: sum(deployment.unavailable for deployment in found.deployments),
    )


def _deployments(environments: Sequence[EnvironmentGauges]) -> Iterator[Metric]:
    labels = ("environment", "deployment")
    pending = _family("pending_changes", "Pending changes at the last pass.", *labels)
    drifted = _family("drifted_objects", "Drifted objects at the last pass.", *labels)
    diverged = _family(
        "diverged_changes", "Deployed changes that differ from the plan file at the last pass.", *labels
    )
    failing = _family(
        "verify_failures", "Verify scripts of deployed changes that failed when they last ran.", *labels
    )
    verified = _family("verified_timestamp_seconds", "When verify scripts last ran.", *labels)
    for environment in environments:
        for deployment in environment.deployments:
            key = [environment.name, deployment.name]
            if deployment.verified_at is not None:
                failing.add_metric(key, deployment.verify_failures or 0)
                verified.add_metric(key, deployment.verified_at.timestamp())
            pending.add_metric(key, deployment.pending)
            drifted.add_metric(key, deployment.drift)
            diverged.add_metric(key, deployment.diverged)
    yield from (pending, drifted, diverged, failing, verified)


def _family(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"reconciler_{name}", text, labels=labels)


def _timestamp(at: datetime | None) -> float | None:
    return at.timestamp() if at is not None else None
