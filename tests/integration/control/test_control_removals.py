"""Environments that left their source: open to nothing but the rollout that removes them, then gone."""

from dataclasses import replace

import pytest

from reconciler.control import environments, intents, removals, rollouts, stops
from reconciler.control.environments import DeploymentObservation
from reconciler.control.requests import submit
from reconciler.control.transitions import transition
from reconciler.errors import Conflict
from reconciler.rollout.states import OperationEvent
from reconciler.rollout.summary import RolloutPolicy
from tests.plugins.control import Control, new_rollout


async def orphan(control: Control) -> None:
    await control.observe(DeploymentObservation(name="eu", in_sync=True))
    await environments.retire_missing(control.connection, "platform", [])


async def known(control: Control) -> list[str]:
    return [status.name for status in await environments.read_environments(control.connection)]


async def remove(control: Control) -> str:
    return await rollouts.record(control.connection, replace(new_rollout("eu"), removes=True))


async def test_orphan_is_open_to_its_removal_alone_and_then_gone(control: Control) -> None:
    """What else waits is not claimed; once all is removed nobody is told of it, and its name is free."""
    await control.observe(DeploymentObservation(name="eu", pending=1))
    await control.record("eu")
    await environments.retire_missing(control.connection, "platform", [])
    worker = await control.worker()
    assert await control.claim(worker) is None
    removal = await remove(control)
    claim = await control.must_claim(worker)
    assert claim.rollout == removal
    # A pass that does not find it in the source leaves it open until it is over.
    await environments.retire_missing(control.connection, "platform", [])
    await transition(control.connection, claim, OperationEvent.DONE)
    assert await known(control) == []
    assert (await control.kinds()).count("environment.removed") == 1
    found = await removals.read_ground(control.connection, "production")
    assert found is not None
    assert (found.removed, found.removing) == (True, False)
    assert await environments.claim_names(control.connection, ["production"], "other") == {}
    assert await known(control) == ["production"]


async def test_removal_that_fails_leaves_it_orphaned(control: Control) -> None:
    """It is shown still, and can be removed again."""
    await orphan(control)
    await remove(control)
    claim = await control.must_claim(await control.worker())
    await transition(control.connection, claim, OperationEvent.FAIL, reason="no", error={"why": "no"})
    found = await removals.read_ground(control.connection, "production")
    assert found is not None
    assert (found.orphaned, found.removing, found.removed) == (True, False, False)
    assert await known(control) == ["production"]
    await remove(control)


async def test_what_its_source_declares_is_not_removed(control: Control) -> None:
    """It would be deployed again by the next pass; nothing is recorded."""
    await control.observe(DeploymentObservation(name="eu", in_sync=True))
    with pytest.raises(Conflict, match="declares it again"):
        await remove(control)
    assert await control.rows("SELECT id FROM reconciler_control.rollouts") == []


async def test_environment_that_comes_back_is_not_removed_any_more(control: Control) -> None:
    """A pass that finds it declared ends what was asked for before."""
    await orphan(control)
    await remove(control)
    await control.observe(DeploymentObservation(name="eu", pending=1))
    found = await removals.read_ground(control.connection, "production")
    assert found is not None
    assert (found.orphaned, found.removing) == (False, False)


async def test_nothing_left_is_gone_at_once(control: Control) -> None:
    """There is no rollout of nothing."""
    await orphan(control)
    await removals.nothing_left(control.connection, "production", actor="ada")
    assert await known(control) == []


async def test_stop_and_start_are_told_once(control: Control) -> None:
    """Saying it twice is nothing new."""
    await control.observe(DeploymentObservation(name="eu", in_sync=True))
    for _ in range(2):
        await stops.stop(control.connection, "production", reason="holidays", actor="ada")
    for _ in range(2):
        await stops.start(control.connection, "production", reason="", actor="ada")
    kinds = await control.kinds()
    assert (kinds.count("environment.stopped"), kinds.count("environment.started")) == (1, 1)


async def test_what_failed_keeps_nothing_from_starting(control: Control) -> None:
    """A person who stops or starts an environment asks for more than its commit; what one holds stays so."""
    await control.observe(DeploymentObservation(name="eu"), DeploymentObservation(name="us"))
    connection, commit = control.connection, "a" * 40
    await control.record("eu", "us", policy=RolloutPolicy(order="rolling"))
    claim = await control.must_claim(await control.worker())
    await transition(connection, claim, OperationEvent.FAIL, reason="no such table")
    assert set(await intents.held(connection, "production", commit)) == {"eu", "us"}
    await stops.start(connection, "production", reason="", actor="ada")
    assert await intents.held(connection, "production", commit) == {}
    rollout = await control.record("eu")
    await submit(connection, rollout=rollout, verb="cancel", requested_by="ada", deployment=None)
    await stops.stop(connection, "production", reason="", actor="ada")
    assert set(await intents.held(connection, "production", commit)) == {"eu"}
