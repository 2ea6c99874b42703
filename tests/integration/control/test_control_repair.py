"""What was left behind in the control database settles by itself, and what lives is left alone."""

import asyncio

import pytest

from reconciler.control.promotions import begin_promotion
from reconciler.control.repair import Repaired, repair
from reconciler.control.requests import submit
from reconciler.control.transitions import step_started, transition
from reconciler.errors import LeaseLost
from reconciler.rollout.states import OperationEvent as E
from reconciler.rollout.states import OperationState as S
from reconciler.rollout.summary import RolloutPolicy
from tests.plugins.control import Control

ENDED = """
UPDATE reconciler_control.operations
SET state = %s, started_at = clock_timestamp(), attempts = 1, finished_at = clock_timestamp(),
    lease_token = NULL, worker = NULL, superseded_at = CASE WHEN %s = 'superseded' THEN clock_timestamp() END,
    error = CASE WHEN %s = 'failed' THEN '{"why": "by hand"}'::jsonb END
WHERE rollout = %s
"""
OVER = "UPDATE reconciler_control.rollouts SET state = %s, finished_at = clock_timestamp() WHERE id = %s"


async def end_by_hand(control: Control, rollout: str, state: str) -> None:
    """End all operations of a rollout, and not the rollout."""
    await control.rows(ENDED, state, state, state, int(rollout))


async def told(control: Control, kind: str) -> int:
    rows = await control.rows("SELECT count(*) FROM reconciler_control.events WHERE kind = %s", kind)
    return int(rows[0][0])


@pytest.mark.parametrize("state", ["completed", "failed", "cancelled", "superseded"])
async def test_stranded_parent(control: Control, state: str) -> None:
    """A rollout whose operations are all over ends as they did, with its event, once."""
    rollout = await control.record("eu", "us")
    await end_by_hand(control, rollout, state)
    assert await repair(control.connection) == Repaired(rollouts=1)
    found = await control.rollout(rollout)
    assert found.state.value == state
    assert found.finished_at is not None
    assert await told(control, f"rollout.{state}") == 1
    assert await told(control, "rollout.repaired") == 1
    assert await repair(control.connection) == Repaired()
    assert (await control.rollout(rollout)).finished_at == found.finished_at


@pytest.mark.parametrize(
    ("over", "before", "after"),
    [
        ("failed", S.PENDING, "cancelled"),
        ("cancelled", S.RETRYING, "cancelled"),
        ("completed", S.PENDING, "superseded"),
        ("completed", S.RUNNING, "superseded"),
        ("superseded", S.STOPPED, "superseded"),
        ("failed", S.RUNNING, "cancelled"),
        ("completed", S.REVERTING, "failed"),
        ("completed", S.WAITING_FOR_PROMOTION, "superseded"),
        ("failed", S.WAITING_FOR_PROMOTION, "cancelled"),
        ("completed", S.PROMOTING, "failed"),
        ("completed", S.REVERT_WINDOW, "completed"),
    ],
)
async def test_stranded_child(control: Control, over: str, before: S, after: str) -> None:
    """What its rollout left behind ends as the rollout did, held only where that was a failure."""
    rollout = await control.record("eu", "us", policy=RolloutPolicy(order="rolling"))
    if before is not S.PENDING:
        claim = await control.must_claim(await control.worker())
        if before is S.RETRYING:
            await transition(control.connection, claim, E.RETRY, reason="away", delay_s=3600)
        if before is S.REVERTING:
            await transition(control.connection, claim, E.OPEN_REVERT_WINDOW)
            await control.rows(
                "UPDATE reconciler_control.operations SET state = 'reverting', lease_token = 9 WHERE id = %s",
                int(claim.operation),
            )
        if before is S.STOPPED:
            await transition(control.connection, claim, E.STOP)
        if before is S.WAITING_FOR_PROMOTION:
            await transition(control.connection, claim, E.PARK)
        if before is S.PROMOTING:
            assert await begin_promotion(control.connection, claim, component="views", generation="g1")
        if before is S.REVERT_WINDOW:
            await transition(control.connection, claim, E.OPEN_REVERT_WINDOW)
    await control.rows("UPDATE reconciler_control.workers SET lease_expires_at = '-infinity'")
    await control.rows(OVER, over, int(rollout))
    assert await repair(control.connection) == Repaired(operations=2)
    states = await control.states(rollout)
    assert states["eu"] == after
    assert (await control.rollout(rollout)).state.value == over
    assert await told(control, "operation.repaired") == 2
    held = await control.rows("SELECT deployment FROM reconciler_control.holds ORDER BY 1")
    assert bool(held) == (after in ("failed", "cancelled"))
    assert await repair(control.connection) == Repaired()


async def test_living_rollouts_are_left_alone(control: Control) -> None:
    """What workers hold, what waits its turn and what waits for a person stays as it is, also left behind."""
    rollout = await control.record("eu", "us")
    asked = await control.record("asia", environment="staging")
    worker = await control.worker()
    claim = await control.must_claim(worker)
    await step_started(control.connection, claim, "s1")
    await submit(
        control.connection, rollout=rollout, verb="stop", deployment=claim.deployment, requested_by="ada"
    )
    assert await repair(control.connection) == Repaired()
    assert set((await control.states(rollout)).values()) == {"running", "pending"}
    assert await control.states(asked) == {"asia": "pending"}
    # Its rollout is over, and it lives: its worker is who ends it.
    await control.rows(OVER, "completed", int(rollout))
    assert (await repair(control.connection)).operations == 1
    assert "running" in (await control.states(rollout)).values()
    assert await transition(control.connection, claim, E.DONE) is S.COMPLETED


async def test_a_dead_worker_that_was_left_behind_writes_nothing(control: Control) -> None:
    """Once an operation was ended for it, its lease token is worth nothing."""
    rollout = await control.record("eu")
    claim = await control.must_claim(await control.worker())
    await control.rows("UPDATE reconciler_control.workers SET lease_expires_at = '-infinity'")
    await control.rows(OVER, "superseded", int(rollout))
    assert await repair(control.connection) == Repaired(operations=1)
    with pytest.raises(LeaseLost):
        await transition(control.connection, claim, E.DONE)


async def test_requests_steps_and_holds(control: Control) -> None:
    """Requests nobody will answer are answered, steps nobody is at are put right, so are holds."""
    over = await control.record("eu")
    await end_by_hand(control, over, "completed")
    open_ = await control.record("us", environment="staging")
    await control.rows(
        "INSERT INTO reconciler_control.requests (rollout, verb, requested_by) "
        "VALUES (%s, 'stop', 'ada'), (%s, 'start', 'ada'), (%s, 'stop', 'ada')",
        *(int(over), int(over), int(open_)),
    )
    (operation,) = (await control.rollout(open_)).operations
    await control.rows(
        "INSERT INTO reconciler_control.holds (environment, deployment, commit, reason, operation) "
        "VALUES ('staging', 'us', %s, 'by hand', %s)",
        *("a" * 40, int(operation.id)),
    )
    await control.rows(
        "UPDATE reconciler_control.operations SET started_at = clock_timestamp() WHERE id = %s",
        int(operation.id),
    )
    await control.rows(
        "UPDATE reconciler_control.steps SET state = 'running', started_at = now() WHERE operation = %s",
        int(operation.id),
    )
    found = await repair(control.connection)
    assert found == Repaired(rollouts=1, requests=3, steps=1, holds=1)
    rows = await control.rows(
        "SELECT rollout, verb::text, state::text FROM reconciler_control.requests ORDER BY id"
    )
    assert rows == [
        (int(over), "stop", "failed"),
        (int(over), "start", "failed"),
        (int(open_), "stop", "completed"),
    ]
    assert await control.states(open_) == {"us": "stopped"}
    steps = await control.rows(
        "SELECT DISTINCT state::text FROM reconciler_control.steps WHERE operation = %s", int(operation.id)
    )
    assert steps == [("pending",)]
    assert await repair(control.connection) == Repaired()


async def test_two_at_once_repair_once(control: Control) -> None:
    """Daemons that repair at the same time do nothing twice."""
    rollouts = [await control.record("eu", environment=f"e{number}") for number in range(5)]
    for rollout in rollouts:
        await end_by_hand(control, rollout, "completed")
    connections = [await control.connect() for _ in range(3)]
    done = await asyncio.gather(*(repair(connection) for connection in connections))
    assert sum(each.rollouts for each in done) == 5
    assert await told(control, "rollout.completed") == 5
