"""Conditions of an environment from what is known of it."""

from datetime import UTC, datetime, timedelta

from reconciler.rollout.conditions import DeploymentFacts, EnvironmentFacts, conditions
from reconciler.rollout.states import RolloutState
from reconciler.rollout.status import Condition

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def of(facts: EnvironmentFacts) -> dict[str, Condition]:
    return {condition.type: condition for condition in conditions(facts, (), NOW)}


def test_in_sync_is_ready() -> None:
    """An environment with nothing to do is ready and nothing else."""
    found = of(EnvironmentFacts(observed=True, deployments=(DeploymentFacts(name="eu"),)))
    assert [name for name, condition in found.items() if condition.status] == ["Ready"]


def test_drift_does_not_make_it_unready() -> None:
    """Drift has a condition of its own."""
    found = of(EnvironmentFacts(observed=True, deployments=(DeploymentFacts(name="eu", drift=2),)))
    assert found["Drifted"].status
    assert "eu: 2" in found["Drifted"].message
    assert found["Ready"].status


def test_held_is_stalled_and_not_ready() -> None:
    """A held deployment needs a person, and the message says why."""
    held = DeploymentFacts(name="eu", held="step failed")
    found = of(EnvironmentFacts(observed=True, deployments=(held,)))
    assert found["Stalled"].status
    assert not found["Ready"].status
    assert found["Stalled"].message == found["Ready"].message == "eu: step failed"


def test_under_way_pending_error_and_suspended() -> None:
    """Each fact shows in its condition."""
    assert of(EnvironmentFacts(observed=True, rollouts=(RolloutState.RUNNING,)))["Reconciling"].status
    assert of(EnvironmentFacts(observed=True, rollouts=(RolloutState.PAUSED,)))["Stalled"].status
    assert of(EnvironmentFacts(observed=True, error="bad"))["Stalled"].reason == "Failed"
    assert of(EnvironmentFacts(observed=False))["Ready"].reason == "NotObserved"
    assert of(EnvironmentFacts(observed=True, suspended="incident"))["Suspended"].message == "incident"
    pending = DeploymentFacts(name="eu", pending=1)
    assert of(EnvironmentFacts(observed=True, deployments=(pending,)))["Ready"].message == "1 pending change"


def test_attempt_that_failed_is_told_while_the_rollout_goes_on() -> None:
    """What is tried again says why it has to be, and is not taken for something that needs a person."""
    trying = DeploymentFacts(name="eu", failed="another writer is at work there")
    found = of(EnvironmentFacts(observed=True, deployments=(trying,), rollouts=(RolloutState.RUNNING,)))
    assert found["Reconciling"].message.endswith("eu: another writer is at work there")
    assert not found["Stalled"].status


def test_since_is_kept_while_the_status_is() -> None:
    """A condition keeps the time since when it is so, whatever its message says meanwhile."""
    before = conditions(EnvironmentFacts(observed=True, error="one"), (), NOW)
    later = NOW + timedelta(hours=1)
    after = {c.type: c for c in conditions(EnvironmentFacts(observed=True, error="two"), before, later)}
    assert after["Stalled"].since == NOW
    assert after["Stalled"].message == "two"
    healed = {c.type: c for c in conditions(EnvironmentFacts(observed=True), before, later)}
    assert healed["Stalled"].since == later


def test_resources_alone_are_not_all_of_a_commit() -> None:
    """Where a part of the commit was left to another rollout, it is not ready, and says what is left."""
    eu = DeploymentFacts(name="eu", left_out=("api", "edge"))
    us = DeploymentFacts(name="us")
    found = of(EnvironmentFacts(observed=True, name="shop", deployments=(eu, us)))["Ready"]
    assert (found.status, found.reason) == (False, "Provisioned")
    assert "left out on eu: api, edge;" in found.message
    assert found.message.endswith("reconciler apply shop --full")
    pending = DeploymentFacts(name="eu", left_out=("api",), pending=1)
    assert of(EnvironmentFacts(observed=True, deployments=(pending,)))["Ready"].reason == "Pending"


def test_messages_are_bounded() -> None:
    """A message of any length is cut."""
    assert len(of(EnvironmentFacts(observed=True, error="x" * 100_000))["Stalled"].message) <= 1000
