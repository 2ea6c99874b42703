"""Environments: what passes write, and that a pass which finds nothing new writes nothing."""

from datetime import UTC, datetime

import pytest

from reconciler.control import environments, gauges, intents
from reconciler.control.environments import DeploymentObservation, Observation, observe
from reconciler.control.transitions import transition
from reconciler.errors import Conflict, NotFound
from reconciler.rollout.states import OperationEvent
from reconciler.rollout.status import EnvironmentStatus
from tests.plugins.control import Control

EU = DeploymentObservation(name="eu", in_sync=True)
A, B = "a" * 40, "b" * 40


async def read(control: Control) -> EnvironmentStatus:
    (status,) = await environments.read_environments(control.connection, ["production"])
    return status


def true_conditions(status: EnvironmentStatus) -> set[str]:
    return {condition.type for condition in status.conditions if condition.status}


async def test_pass_that_finds_nothing_new_writes_nothing(control: Control) -> None:
    """The second of two equal passes leaves every row as it is, down to the version of the row."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    versions = """
        SELECT 'environment', xmin::text, ctid::text FROM reconciler_control.environments
        UNION ALL SELECT 'deployment', xmin::text, ctid::text FROM reconciler_control.environment_deployments
        UNION ALL SELECT 'event', xmin::text, ctid::text FROM reconciler_control.events
        ORDER BY 1, 2, 3
    """
    await control.observe(EU, head_commit_at=at)
    before = await control.rows(versions)
    await control.observe(EU, head_commit_at=at)
    assert await control.rows(versions) == before


async def test_pass_says_now_and_then_that_it_was_there(control: Control) -> None:
    """Once ten seconds went by, a pass that found nothing new moves the time of the last pass."""
    await control.observe(EU)
    await control.rows(
        "UPDATE reconciler_control.environments SET last_pass_at = clock_timestamp() - interval '11 s'"
    )
    old = (await read(control)).last_pass_at
    await control.observe(EU)
    new = (await read(control)).last_pass_at
    assert old is not None
    assert new is not None
    assert (new - old).total_seconds() > 10
    assert await control.kinds() == ["environment.applied"]


async def test_in_sync_everywhere_is_applied(control: Control) -> None:
    """The commit counts as applied once every deployment carries it."""
    us = DeploymentObservation(name="us", pending=1)
    await control.observe(EU, us)
    status = await read(control)
    assert status.applied_commit is None
    assert status.deployments[0].applied_commit == A
    assert true_conditions(status) == set()
    await control.observe(EU, DeploymentObservation(name="us", in_sync=True))
    status = await read(control)
    assert status.applied_commit == A
    assert true_conditions(status) == {"Ready"}
    await control.observe(EU, DeploymentObservation(name="us", pending=1), observed_commit=B, head_commit=B)
    status = await read(control)
    assert (status.applied_commit, status.head_commit) == (A, B)
    assert [item.applied_commit for item in status.deployments] == [B, A]
    assert (await control.kinds()).count("environment.applied") == 1


async def test_error_keeps_what_was_known(control: Control) -> None:
    """A pass that failed reports why, once, and leaves the last good observation in place."""
    await control.observe(EU)
    failed = Observation(
        name="production", source="platform", path="environments/production.yaml", error="bad YAML"
    )
    for _ in range(2):
        await observe(control.connection, failed)
    status = await read(control)
    assert (status.error, status.observed_commit, status.applied_commit) == ("bad YAML", A, A)
    assert [item.name for item in status.deployments] == ["eu"]
    assert true_conditions(status) == {"Stalled"}
    await control.observe(EU)
    status = await read(control)
    assert status.error is None
    assert true_conditions(status) == {"Ready"}
    kinds = await control.kinds()
    assert kinds == ["environment.applied", "environment.failed", "environment.recovered"]


async def test_drift_is_told_when_it_changes(control: Control) -> None:
    """Drift is an event when it appears, grows and goes, not on every pass."""
    for drift in (0, 2, 2, 3, 0, 0):
        await control.observe(DeploymentObservation(name="eu", drift=drift, in_sync=True))
        status = await read(control)
        assert ("Drifted" in true_conditions(status)) == bool(drift)
        assert status.deployments[0].drift == drift
    kinds = [kind for kind in await control.kinds() if kind.startswith("drift.")]
    assert kinds == ["drift.found", "drift.found", "drift.cleared"]


async def test_since_survives_passes(control: Control) -> None:
    """A condition keeps its time as long as its status, over any number of passes."""
    await control.observe(DeploymentObservation(name="eu", drift=1))
    first = {condition.type: condition for condition in (await read(control)).conditions}
    await control.observe(DeploymentObservation(name="eu", drift=5))
    second = {condition.type: condition for condition in (await read(control)).conditions}
    assert first["Drifted"].since == second["Drifted"].since
    assert first["Drifted"].message != second["Drifted"].message


async def test_unavailable_blocked_and_removed_deployments(control: Control) -> None:
    """Each deployment shows what keeps it back, and one that left the spec is gone."""
    await control.observe(
        DeploymentObservation(name="eu", unavailable="no route"),
        DeploymentObservation(name="us", blocked="history diverged", pending=1),
    )
    status = await read(control)
    assert status.deployments[0].unavailable == "no route"
    assert true_conditions(status) == {"Stalled"}
    await control.observe(EU)
    assert [item.name for item in (await read(control)).deployments] == ["eu"]
    kinds = await control.kinds()
    assert kinds[:2] == ["deployment.unavailable", "deployment.blocked"]
    assert "deployment.available" in kinds


async def test_suspend_and_resume(control: Control) -> None:
    """Suspending shows who, why and since when, once; resuming takes it back."""
    await control.observe(EU)
    for _ in range(2):
        await environments.suspend(control.connection, "production", reason="incident 7", actor="ada")
    status = await read(control)
    assert (status.suspended, status.suspended_reason) == (True, "incident 7")
    assert true_conditions(status) == {"Ready", "Suspended"}
    for _ in range(2):
        await environments.resume(control.connection, "production", actor="ada")
    assert true_conditions(await read(control)) == {"Ready"}
    kinds = await control.kinds()
    assert kinds.count("environment.suspended") == kinds.count("environment.resumed") == 1
    with pytest.raises(NotFound):
        await environments.suspend(control.connection, "nowhere", reason="x", actor="ada")


async def test_names_belong_to_their_first_source(control: Control) -> None:
    """Another source's claim to a name is refused, whatever it does first."""
    await environments.claim_name(control.connection, "production", "platform")
    await environments.claim_name(control.connection, "production", "platform")
    with pytest.raises(Conflict, match="platform"):
        await environments.claim_name(control.connection, "production", "rogue")
    with pytest.raises(Conflict):
        await control.observe(EU, source="rogue")
    await environments.retire_missing(control.connection, "rogue", ())
    assert (await read(control)).source == "platform"
    assert "environment.orphaned" not in await control.kinds()


async def test_environment_that_left_its_source(control: Control) -> None:
    """It is marked, kept, not worked on, and comes back when it is declared again."""
    await control.observe(EU)
    await control.record("eu")
    for _ in range(2):
        await environments.retire_missing(control.connection, "platform", ["other"])
    worker = await control.worker()
    assert await control.claim(worker) is None
    assert {c.reason for c in (await read(control)).conditions if c.type == "Ready"} == {"Orphaned"}
    assert (await gauges.read_gauges(control.connection)).environments == ()
    await control.observe(EU)
    assert (await control.must_claim(worker)).deployment == "eu"
    kinds = await control.kinds()
    assert kinds.count("environment.orphaned") == kinds.count("environment.returned") == 1


async def test_intents(control: Control) -> None:
    """A database about to be made is remembered until it is made."""
    await control.observe(EU)
    where = (control.connection, "production", "eu")
    for _ in range(2):
        await environments.intend_database(*where, "db:5432", "shop")
    assert await intents.intended_databases(*where) == {"shop"}
    assert await intents.all_intended_databases(control.connection, "production") == {"eu": {"shop"}}
    assert await intents.intended_databases(control.connection, "production", "us") == frozenset()
    await environments.forget_intent(*where, "db:5432", "shop")
    assert await intents.all_intended_databases(control.connection, "production") == {}


async def test_gauges_count_what_the_tables_say(control: Control) -> None:
    """Metrics read at scrape time are right whoever wrote, and after any restart."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    await control.observe(
        DeploymentObservation(name="eu", pending=1, drift=2),
        DeploymentObservation(name="us", pending=3, unavailable="down"),
        head_commit_at=at,
    )
    await control.record("eu", "us", "asia")
    worker = await control.worker()
    claim = await control.must_claim(worker)
    await transition(control.connection, claim, OperationEvent.FAIL, reason="bad")
    await control.record("eu", environment="other")
    found = await gauges.read_gauges(control.connection)
    assert found.workers == 1
    assert found.operations["pending"] == 1  # type: ignore[index]
    assert found.operations["running"] == 0  # type: ignore[index]
    assert found.oldest_waiting_at is not None
    numbers = {item.name: item for item in found.environments}["production"]
    assert numbers.head_commit_at == at
    assert numbers.stalled
    assert [(item.name, item.pending, item.drift, item.held) for item in numbers.deployments] == [
        ("eu", 1, 2, True),
        ("us", 3, 0, True),
    ]
    await environments.ping(control.connection)


async def test_reading_is_set_wise(control: Control) -> None:
    """Reading all environments takes as many queries for fifty as for one."""
    for number in range(50):
        await control.observe(EU, name=f"env{number:02}")
    queries = 0
    execute = control.connection.cursor

    def counting(*arguments: object, **named: object) -> object:
        nonlocal queries
        queries += 1
        return execute(*arguments, **named)  # type: ignore[call-overload]

    control.connection.cursor = counting  # type: ignore[method-assign,assignment]
    found = await environments.read_environments(control.connection)
    assert len(found) == 50
    assert queries <= 6
