"""Who passes over an environment: taken once, kept while alive, and checked by everything a pass writes."""

import asyncio
from datetime import UTC, datetime

import pytest

from reconciler.control import environments, ownership, rollouts, views
from reconciler.control.environments import DeploymentObservation, Observation
from reconciler.control.rollouts import NewOperation, NewRollout
from reconciler.errors import LeaseLost
from reconciler.rollout.summary import RolloutPolicy
from tests.plugins.control import Control
from tests.plugins.site import holds

A, B = "a" * 40, "b" * 40
AT = datetime(2026, 1, 1, tzinfo=UTC)
NAMES = ["one", "two", "three"]


async def _declare(control: Control) -> None:
    await environments.claim_names(control.connection, NAMES, "platform")


def _seen(name: str, commit: str = A, **more: object) -> Observation:
    return Observation(
        name=name,
        source="platform",
        path=f"environments/{name}.yaml",
        head_commit=commit,
        head_commit_at=AT,
        observed_commit=commit,
        inputs="i1",
        mode="auto",
        deployments=(DeploymentObservation(name="eu", in_sync=True, **more),),  # type: ignore[arg-type]
    )


def _rollout(owner: str | None) -> NewRollout:
    return NewRollout(
        environment="one",
        source="platform",
        commit=B,
        scope="full",
        policy=RolloutPolicy(order="rolling"),
        reason="commit",
        requested_by="reconciler",
        operations=(NewOperation(deployment="eu", ordinal=0, plan={}, plan_digest="d"),),
        owner=owner,
    )


async def test_environments_are_taken_once_and_kept_while_their_owner_lives(control: Control) -> None:
    """A second worker gets nothing, and takes over once the first is gone."""
    await _declare(control)
    session = await control.connect()
    first, second = await control.register(session, name="first"), await control.worker()
    mine = await ownership.own(control.connection, first.id, "platform", NAMES)
    assert mine == frozenset(NAMES)
    assert await ownership.own(control.connection, second.id, "platform", NAMES) == frozenset()
    assert await ownership.give_up(control.connection, first.id, ["one"]) == {"one"}
    assert await ownership.own(control.connection, second.id, "platform", NAMES) == {"one"}
    await session.close()

    async def taken() -> frozenset[str]:
        return await ownership.own(control.connection, second.id, "platform", NAMES)

    assert await holds(taken, "the lock of the first to be released") == {"two", "three"}


async def test_what_a_pass_writes_is_refused_once_another_owns_the_environment(control: Control) -> None:
    """A process that was frozen records neither what it found nor a rollout."""
    await _declare(control)
    frozen, other = await control.worker(), await control.worker()
    await ownership.own(control.connection, frozen.id, "platform", ["one"])
    await ownership.give_up(control.connection, frozen.id, ["one"])
    await ownership.own(control.connection, other.id, "platform", ["one"])
    with pytest.raises(LeaseLost):
        await environments.observe(control.connection, _seen("one"), owner=frozen.id)
    with pytest.raises(LeaseLost):
        await rollouts.record(control.connection, _rollout(frozen.id))
    with pytest.raises(LeaseLost):
        await rollouts.supersede(control.connection, "one", A, owner=frozen.id)
    assert await views.read_rollouts(control.connection, "one") == ()
    assert await rollouts.record(control.connection, _rollout(other.id))


async def test_a_commit_is_carried_only_to_what_it_leaves_as_it_is(control: Control) -> None:
    """What has other content, is not in sync, or has an error of its own is looked at."""
    await _declare(control)
    await environments.observe(control.connection, _seen("one"))
    await environments.observe(control.connection, _seen("two", pending=1))
    await environments.observe(control.connection, _seen("three"))
    inputs = {"one": "i1", "two": "i1", "three": "i2"}
    found = await ownership.settled(control.connection, inputs, commit=B, owner=None)
    assert {name: row.is_behind for name, row in found.items()} == {"one": True}
    carried = await ownership.advance(control.connection, set(inputs), commit=B, committed_at=AT, owner=None)
    assert "one" in carried
    status = (await environments.read_environments(control.connection, ["one"]))[0]
    assert (status.head_commit, status.observed_commit, status.applied_commit) == (B, B, B)
    assert status.deployments[0].applied_commit == B
    assert {condition.observed_commit for condition in status.conditions} == {B}


async def test_no_commit_is_carried_past_a_rollout_that_is_just_recorded(control: Control) -> None:
    """Whoever waits for the one that records it sees the rollout afterwards."""
    await _declare(control)
    await environments.observe(control.connection, _seen("one"))
    recording, carrying = await control.connect(), await control.connect()
    async with recording.transaction():
        await rollouts.record(recording, _rollout(None))
        carried = asyncio.create_task(
            ownership.advance(carrying, {"one"}, commit=B, committed_at=AT, owner=None)
        )

        async def waits() -> bool:
            rows = await control.rows(
                "SELECT FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'",
                carrying.info.backend_pid,
            )
            return bool(rows)

        await holds(waits, "the carrying to wait for the recording")
    assert await carried == frozenset()
    status = (await environments.read_environments(control.connection, ["one"]))[0]
    assert status.applied_commit == A


async def test_attempted_and_applied_commit_stand_apart(control: Control) -> None:
    """A rollout that was recorded shows what is tried, whatever is applied."""
    await _declare(control)
    await environments.observe(control.connection, _seen("one"))
    worker = await control.worker()
    await ownership.own(control.connection, worker.id, "platform", ["one"])
    await rollouts.record(control.connection, _rollout(worker.id))
    status = (await environments.read_environments(control.connection, ["one"]))[0]
    assert (status.applied_commit, status.attempted_commit) == (A, B)
    assert status.attempted_at is not None
    assert status.owner == worker.name


async def test_what_was_declared_after_the_fetch_is_not_retired(control: Control) -> None:
    """An older commit does not undo what a newer one, read by another, declared meanwhile."""
    fetched_at = await ownership.database_now(control.connection)
    await _declare(control)
    await environments.retire_missing(control.connection, "platform", [], fetched_at=fetched_at)
    rows = await environments.read_environments(control.connection)
    assert not any(condition.reason == "Orphaned" for row in rows for condition in row.conditions)
    later = await ownership.database_now(control.connection)
    await environments.retire_missing(control.connection, "platform", ["one"], fetched_at=later)
    facts = await control.rows(
        "SELECT name FROM reconciler_control.environments WHERE orphaned_at IS NOT NULL"
    )
    assert sorted(row[0] for row in facts) == ["three", "two"]
