"""Events are counted, tables are shown as they are at the scrape, and every metric is documented."""

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from reconciler import events
from reconciler.control.gauges import (
    DeploymentGauges,
    EnvironmentGauges,
    Gauges,
    GenerationGauges,
    GroupGauges,
    ProgramGauges,
)
from reconciler.metrics import Metrics
from reconciler.rollout.states import TERMINAL, OperationState

ROOT = Path(__file__).resolve().parents[3]
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
GROUP: dict[str, Any] = {"environment": "production", "deployment": "eu", "component": "reports"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def environment(name: str = "production", **changed: Any) -> EnvironmentGauges:
    values: dict[str, Any] = {
        "name": name,
        "source": "platform",
        "head_commit_at": AT,
        "applied_commit_at": AT,
        "applied_at": AT,
        "last_pass_at": AT,
        "suspended": False,
        "failing": False,
        "stalled": True,
        "ready": False,
        "deployments": (
            DeploymentGauges(
                name="eu",
                pending=2,
                drift=1,
                diverged=0,
                held=True,
                unavailable=False,
                verified_at=AT,
                verify_failures=2,
            ),
            DeploymentGauges(name="us", pending=0, drift=0, diverged=3, held=False, unavailable=True),
        ),
    }
    return EnvironmentGauges(**{**values, **changed})


def gauges(*environments: EnvironmentGauges, oldest: datetime | None = AT) -> Gauges:
    states = {state: 0 for state in OperationState if state not in TERMINAL}
    return Gauges(
        operations={**states, OperationState.PENDING: 4},
        oldest_waiting_at=oldest,
        workers=2,
        environments=environments,
        groups=(
            GroupGauges(**GROUP, name="hourly", succeeded_at=AT, failures=0, data_age_s=90.5),
            GroupGauges(**GROUP, name="never", succeeded_at=None, failures=3, data_age_s=None),
        ),
        generations=(GenerationGauges(environment="production", state="promoted", count=2, kept=1),),
        programs=(ProgramGauges(environment="production", kind="Service", state="healthy", count=3),),
    )


def samples(text: bytes) -> dict[str, float]:
    rows = [line.rsplit(" ", 1) for line in text.decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in rows}


def finished(name: str = "production") -> events.PassFinished:
    return events.PassFinished(environment=name, result=events.PassResult.IN_SYNC, duration_s=0.02)


def step(**changed: Any) -> events.StepFinished:
    values = {
        "environment": "production",
        "deployment": "eu",
        "operation": "1",
        "step": "s",
        "kind": "deploy-change",
        "component": "c",
        "identity": "i",
        "ok": True,
        "duration_s": 0.2,
    }
    return events.StepFinished(**{**values, **changed})


def all_events() -> list[events.Event]:
    return [
        events.WakeReceived(cause=events.WakeCause.FILE),
        events.SourceFetched(source="platform", ok=True, duration_s=0.1),
        events.SourceFetched(source="platform", ok=False, duration_s=0.1, error="away"),
        events.HistoryRewritten(source="platform", before="a", after="b", policy="alert"),
        events.SignatureRejected(source="platform", commit=COMMIT, reason="none"),
        finished(),
        events.RolloutRecorded(
            environment="production", rollout="1", commit=COMMIT, deployments=("eu",), requested_by="x"
        ),
        events.OperationMoved(
            environment="production",
            deployment="eu",
            rollout="1",
            operation="1",
            before="running",
            after="failed",
        ),
        step(),
        step(ok=False),
        step(skipped=True),
        events.CommitApplied(environment="production", commit=COMMIT, committed_at=AT, seconds=0.4),
        events.DriftFound(environment="production", deployment="eu", objects=1),
        events.LeaseLost(environment="production", deployment="eu", operation="1", worker="w"),
        events.BaseLineRetaken(environment="production", deployment="eu", database="d", reason="r"),
        events.DiffServed(environment="production", duration_s=0.05),
        events.SnapshotRead(environment="production", deployment="eu", duration_s=0.05, full=False),
        events.WorkerBeat(worker="w"),
        events.DaemonStarted(version="0", listen="x", sources=(), workers=1),
        events.DaemonStopped(reason="x"),
        events.DeliveryReceived(source="platform", result=events.DeliveryResult.WOKEN, id="1"),
        events.CallerRejected(what="token", address="127.0.0.1", told=True),
        events.CertificateRenewed(file="tls.pem"),
        events.Repaired(what="rollout", count=2),
        events.TaskFailed(task="http", error="x"),
    ]


def busy() -> Metrics:
    metrics = Metrics(sources=["platform"], clock=lambda: 1000.0)
    for event in all_events():
        metrics.observe(event)
    return metrics


def test_events_are_counted() -> None:
    """Each event moves the counters and histograms that are about it."""
    found = samples(busy().render(gauges(environment())))
    assert found['reconciler_passes_total{environment="production",result="in_sync"}'] == 1
    assert found['reconciler_source_fetches_total{result="ok",source="platform"}'] == 1
    assert found['reconciler_source_fetches_total{result="error",source="platform"}'] == 1
    assert found['reconciler_source_last_successful_fetch_timestamp_seconds{source="platform"}'] == 1000
    assert found['reconciler_source_signature_failures_total{source="platform"}'] == 1
    assert found['reconciler_operation_transitions_total{state="failed"}'] == 1
    for result in ("done", "failed", "skipped"):
        assert found[f'reconciler_steps_total{{kind="deploy-change",result="{result}"}}'] == 1
    assert found['reconciler_commit_to_applied_seconds_bucket{le="0.5"}'] == 1
    assert found["reconciler_commit_to_applied_seconds_sum"] == pytest.approx(0.4)
    assert found["reconciler_lease_losses_total"] == 1
    assert found['reconciler_repairs_total{what="rollout"}'] == 2
    assert found["reconciler_worker_last_heartbeat_timestamp_seconds"] == 1000
    assert found['reconciler_internal_errors_total{task="http"}'] == 1
    assert found['reconciler_wakes_total{cause="file"}'] == 1


def test_tables_are_shown_as_they_are() -> None:
    """Gauges are what the tables say at the scrape, without any event before it."""
    never_applied = environment(applied_commit_at=None)
    found = samples(Metrics().render(gauges(never_applied)))
    assert found["reconciler_control_database_up"] == 1
    assert found['reconciler_operations{state="pending"}'] == 4
    assert found['reconciler_operations{state="running"}'] == 0
    assert found['reconciler_pending_changes{deployment="eu",environment="production"}'] == 2
    assert found['reconciler_drifted_objects{deployment="eu",environment="production"}'] == 1
    assert found['reconciler_diverged_changes{deployment="us",environment="production"}'] == 3
    assert found['reconciler_held_deployments{environment="production"}'] == 1
    assert found['reconciler_unavailable_deployments{environment="production"}'] == 1
    assert found['reconciler_environment_stalled{environment="production"}'] == 1
    assert found['reconciler_environment_ready{environment="production"}'] == 0
    stamp = 'reconciler_environment_head_commit_timestamp_seconds{environment="production"}'
    assert found[stamp] == AT.timestamp()
    assert 'reconciler_environment_applied_commit_timestamp_seconds{environment="production"}' not in found
    assert found["reconciler_oldest_waiting_operation_timestamp_seconds"] == AT.timestamp()
    assert "reconciler_oldest_waiting_operation_timestamp_seconds" not in samples(
        Metrics().render(gauges(oldest=None))
    )


def test_series_of_removed_environments_disappear() -> None:
    """An environment that its source no longer declares leaves no series behind, counted ones included."""
    metrics = Metrics()
    for name in ("production", "staging"):
        metrics.observe(finished(name))
    both = metrics.render(gauges(environment(), environment("staging"))).decode()
    assert 'environment="staging"' in both
    one = metrics.render(gauges(environment())).decode()
    assert 'environment="staging"' not in one
    assert 'reconciler_passes_total{environment="production",result="in_sync"} 1.0' in one


def test_control_database_away() -> None:
    """A scrape is answered while the control database is away, says so, and forgets no counter."""
    metrics = busy()
    found = samples(metrics.render(None))
    assert found["reconciler_control_database_up"] == 0
    assert found['reconciler_passes_total{environment="production",result="in_sync"}'] == 1
    assert not [name for name in found if name.startswith("reconciler_pending_changes")]
    assert samples(metrics.render(gauges()))["reconciler_control_database_up"] == 1


def test_no_created_series() -> None:
    """There is no second series for each counter that says when it was made."""
    assert "_created" not in busy().render(gauges(environment())).decode()


def test_hostile_names_are_escaped() -> None:
    """Quotes, backslashes and newlines in names stay inside their label."""
    name = 'a"b\\c\nd'
    text = Metrics().render(gauges(environment(name))).decode()
    assert r'reconciler_environment_ready{environment="a\"b\\c\nd"} 0.0' in text


def test_own_registry() -> None:
    """Two daemons in one process do not share a counter."""
    first, second = Metrics(), Metrics()
    first.observe(events.LeaseLost(environment="e", deployment="d", operation="o", worker="w"))
    assert samples(second.render(None))["reconciler_lease_losses_total"] == 0


def documented() -> dict[str, tuple[str, frozenset[str]]]:
    page = (ROOT / "docs/reference/metrics.md").read_text()
    rows = re.findall(r"^\| `(reconciler_\w+)` \| (\w+) \| (.*?) \| ", page, re.MULTILINE)
    rows += re.findall(r"^\| `(reconciler_\w+)` \| (\w+) \|( )\| ", page, re.MULTILINE)
    return {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


def exposed() -> dict[str, tuple[str, frozenset[str]]]:
    text = busy().render(gauges(environment())).decode()
    kinds = dict(re.findall(r"^# TYPE (reconciler_\w+) (\w+)$", text, re.MULTILINE))
    labels: dict[str, set[str]] = {name: set() for name in kinds}
    for name, inside in re.findall(r"^(reconciler_\w+)\{(.*)\} ", text, re.MULTILINE):
        family = name if name in kinds else re.sub(r"_(bucket|sum|count)$", "", name)
        labels[family] |= set(re.findall(r'(\w+)="', inside)) - {"le"}
    return {name: (kind, frozenset(labels[name])) for name, kind in kinds.items()}


def test_every_metric_is_documented() -> None:
    """The reference page and the code list the same metrics, with the same types and labels."""
    assert documented() == exposed()


def test_a_refused_head_is_shown_until_a_good_one_comes() -> None:
    """A signature that does not count sets the gauge; a failing fetch leaves it, a good one clears it."""
    metrics = Metrics(sources=["platform"])
    name = 'reconciler_source_head_refused{source="platform"}'
    away = events.SourceFetched(source="platform", ok=False, duration_s=0.1, error="away")
    seen = [samples(metrics.render(None))[name]]
    for event in (
        events.SignatureRejected(source="platform", commit=COMMIT, reason="it is not signed"),
        away,
        events.SourceFetched(source="platform", ok=True, duration_s=0.1),
    ):
        metrics.observe(event)
        seen.append(samples(metrics.render(None))[name])
    assert seen == [0, 1, 1, 0]


def test_groups_and_generations_are_told() -> None:
    """A group that was never refreshed counts its failures and has neither a time nor an age."""
    metrics = Metrics(sources=())
    refreshed = events.GroupRefreshed(**GROUP, group="hourly", ok=False, duration_s=1, error="why")
    removed = events.GenerationRemoved(**GROUP, generation="k1", state="promoted", objects=3, schemas=1)
    kept = events.GenerationKept(**GROUP, generation="k2", state="staged", error="why", retry_s=60)
    ran = events.ScheduledJobRan(**GROUP, ok=True, duration_s=1)
    for event in (refreshed, removed, kept, kept, ran):
        metrics.observe(event)
    found = samples(metrics.render(gauges()))
    hourly = 'component="reports",deployment="eu",environment="production",group="hourly"'
    never = hourly.replace("hourly", "never")
    assert found[f"reconciler_objects_data_age_seconds{{{hourly}}}"] == 90.5
    assert found[f"reconciler_refresh_last_success_timestamp_seconds{{{hourly}}}"] == AT.timestamp()
    assert found[f"reconciler_refresh_failures{{{never}}}"] == 3
    assert f"reconciler_objects_data_age_seconds{{{never}}}" not in found
    assert found['reconciler_refreshes_total{result="error"}'] == 1
    assert found['reconciler_scheduled_job_runs_total{result="ok"}'] == 1
    assert found['reconciler_generations{environment="production",state="promoted"}'] == 2
    assert found['reconciler_generations_kept{environment="production",state="promoted"}'] == 1
    assert found["reconciler_generations_removed_total"] == 1
    assert found['reconciler_components{environment="production",kind="service",state="healthy"}'] == 3
    assert found["reconciler_generation_upkeep_failures_total"] == 2
