"""Recording rollouts: once, superseding what is older, in one transaction."""

import asyncio

import pytest

from reconciler.control import claims, environments, intents, rollouts, views
from reconciler.control.environments import DeploymentObservation
from reconciler.control.ownership import database_now
from reconciler.control.rollouts import supersede
from reconciler.control.transitions import transition
from reconciler.errors import Conflict, NotFound
from reconciler.rollout.states import OperationEvent, OperationState
from tests.plugins.control import Control, new_rollout

E = OperationEvent
A, B = "a" * 40, "b" * 40


async def test_recorded_rollout_reads_back(control: Control) -> None:
    """What was recorded is what people see."""
    rollout = await control.record("eu", "us", allow_hazards=("DELETES_DATA",))
    status = await control.rollout(rollout)
    assert (status.environment, status.commit, status.scope) == ("production", A, "full")
    assert status.state.value == "pending"
    assert [item.deployment for item in status.operations] == ["eu", "us"]
    assert [step.id for step in status.operations[0].steps] == ["s1", "s2"]
    (short,) = await views.read_rollouts(control.connection, "production")
    assert short.operations[0].steps == ()
    assert short.id == rollout
    assert await control.kinds() == ["rollout.recorded"]
    for missing in ("0", "99999", "x", "1.0", "9" * 30):
        with pytest.raises(NotFound):
            await control.rollout(missing)


async def test_long_plans_are_recorded_in_parts(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many steps a statement takes, all operations are there, in order, with all their steps."""
    monkeypatch.setattr(rollouts, "STEPS_AT_ONCE", 7)
    names = [f"tenant-{number:02}" for number in range(11)]
    status = await control.rollout(await control.record(*names))
    assert [item.deployment for item in status.operations] == names
    assert [len(item.steps) for item in status.operations] == [2] * 11
    rows = await control.rows("SELECT array_agg(ordinal ORDER BY id) FROM reconciler_control.operations")
    assert rows == [(list(range(11)),)]


async def test_recording_again_while_in_flight_records_nothing(control: Control) -> None:
    """Passes that come while a rollout of the commit is under way get that rollout."""
    rollout = await control.record("eu", "us")
    assert await control.record("eu", "us") == rollout
    worker = await control.worker()
    claim = await control.must_claim(worker)
    other = new_rollout("eu", digest="sha256:rest")
    assert await control.record("eu", operations=other.operations) == rollout
    await transition(control.connection, claim, E.RETRY, reason="busy", delay_s=60)
    assert await control.record("eu") == rollout
    assert len(await control.rows("SELECT id FROM reconciler_control.rollouts")) == 1


async def test_ten_recordings_at_once_make_one_rollout(control: Control) -> None:
    """Daemons that pass at the same time record one rollout."""
    connections = [await control.connect() for _ in range(10)]
    found = await asyncio.gather(*(rollouts.record(each, new_rollout("eu")) for each in connections))
    assert len(set(found)) == 1


async def test_newer_commit_supersedes(control: Control) -> None:
    """What waits ends at once; what runs ends at its worker's next safe point; nothing of it starts again."""
    older = await control.record("eu", "us", "asia", commit=A)
    worker = await control.worker()
    running = await control.must_claim(worker)
    waiting = await control.must_claim(worker)
    await transition(control.connection, waiting, E.RETRY, reason="busy", delay_s=0)
    newer = await control.record("eu", "us", commit=B)
    assert await control.states(older) == {"eu": "running", "us": "superseded", "asia": "superseded"}
    assert await claims.interruption(control.connection, running) == "superseded"
    await transition(control.connection, running, E.SUPERSEDE, reason="newer commit")
    assert (await control.rollout(older)).state.value == "superseded"
    assert (await control.rollout(newer)).state.value == "pending"
    assert await intents.held(control.connection, "production", A) == {}
    assert (await control.must_claim(worker)).rollout == newer


async def test_narrowed_rollout_leaves_other_deployments_alone(control: Control) -> None:
    """A rollout asked for one deployment does not take the place of others' operations."""
    older = await control.record("eu", "us", commit=A)
    await control.record("eu", commit=B, narrowed=True)
    assert await control.states(older) == {"eu": "superseded", "us": "pending"}


async def test_same_commit_on_another_deployment_is_another_rollout(control: Control) -> None:
    """A deployment that joins later does not disturb what is under way."""
    first = await control.record("eu")
    second = await control.record("us")
    assert first != second
    assert await control.states(first) == {"eu": "pending"}


async def test_commit_that_needs_no_rollout_ends_older_ones(control: Control) -> None:
    """When a newer commit has nothing to do, what waits for an older one is not carried out after it."""
    older = await control.record("eu", "us", commit=A)
    claim = await control.must_claim(await control.worker())
    assert await supersede(control.connection, "production", A) == 0
    assert await supersede(control.connection, "production", B) == 2
    assert await control.states(older) == {"eu": "running", "us": "superseded"}
    assert await claims.interruption(control.connection, claim) == "superseded"
    assert await supersede(control.connection, "production", B) == 0


async def test_approval_is_asked_again_for_another_plan(control: Control) -> None:
    """A plan nobody agreed to is replaced by the one made from what is there now; the same stays."""
    waits = OperationState.WAITING_FOR_APPROVAL
    first = await control.record("eu", operations=new_rollout("eu", initial=waits).operations)
    assert (await control.rollout(first)).state.value == "waiting_for_approval"
    same = await control.record("eu", operations=new_rollout("eu", initial=waits).operations)
    assert same == first
    other = new_rollout("eu", initial=waits, digest="sha256:2").operations
    second = await control.record("eu", operations=other)
    assert await control.states(first) == {"eu": "superseded"}
    by_hand = await control.record("eu", operations=new_rollout("eu", digest="sha256:2").operations)
    assert await control.states(second) == {"eu": "superseded"}
    assert await control.states(by_hand) == {"eu": "pending"}


async def test_holds(control: Control) -> None:
    """A held commit is refused to whoever respects holds; a rollout by hand or of a new commit ends it."""
    await control.record("eu")
    await transition(
        control.connection, await control.must_claim(await control.worker()), E.FAIL, reason="bad"
    )
    with pytest.raises(Conflict, match="bad"):
        await control.record("eu", respect_holds=True)
    await control.record("eu", commit=B, respect_holds=True)
    assert await intents.held(control.connection, "production", A) == {}
    await environments.hold(control.connection, "production", "eu", B, reason="reverted", actor="ada")
    assert await intents.held(control.connection, "production", B) == {"eu": "reverted"}
    freed = await environments.release_holds(
        control.connection, "production", ["eu", "us"], actor="ada", reason="apply"
    )
    assert freed == ("eu",)
    assert await intents.held(control.connection, "production", B) == {}


async def test_hold_shows_where_the_environment_does(control: Control) -> None:
    """A failed rollout makes its deployment held and its environment stalled, before any further pass."""
    await control.observe(DeploymentObservation(name="eu", pending=1))
    await control.record("eu")
    await transition(
        control.connection, await control.must_claim(await control.worker()), E.FAIL, reason="bad"
    )
    (status,) = await environments.read_environments(control.connection)
    assert "bad" in (status.deployments[0].held or "")
    assert status.deployments[0].state is OperationState.FAILED
    assert {c.type for c in status.conditions if c.status} == {"Stalled"}
    await environments.release_holds(control.connection, "production", None, actor="ada")
    (status,) = await environments.read_environments(control.connection)
    assert status.deployments[0].held is None
    assert {c.type for c in status.conditions if c.status} == set()


async def test_recording_is_all_or_nothing(control: Control) -> None:
    """A rollout that cannot be recorded whole leaves nothing behind."""
    twice = new_rollout("eu").operations * 2
    with pytest.raises(Exception, match="duplicate"):
        await control.record("eu", operations=twice)
    assert await control.rows("SELECT id FROM reconciler_control.rollouts") == []
    with pytest.raises(Conflict):
        await control.record()


async def test_workers_are_told(control: Control) -> None:
    """Recording a rollout notifies whoever waits for work, with the environment."""
    listener = await control.connect()
    await listener.execute("LISTEN reconciler_operations")
    await control.record("eu")
    async for notification in listener.notifies(timeout=60, stop_after=1):
        assert notification.payload == "production"
        break
    else:
        pytest.fail("nobody was told")


async def test_plan_of_before_the_end_records_nothing(control: Control) -> None:
    """A pass that read a database before a rollout of its commit ended there does not record it again."""
    before = await database_now(control.connection)
    rollout = await control.record("eu")
    claim = await control.must_claim(await control.worker())
    assert await control.record("eu", planned_from=before) == rollout
    await transition(control.connection, claim, E.DONE, reason="all stages done")
    with pytest.raises(Conflict, match=claim.operation):
        await control.record("eu", planned_from=before)
    assert len(await views.read_rollouts(control.connection, "production")) == 1
    other = await control.record("eu", commit=B, planned_from=before)
    again = await control.record("us", planned_from=before)
    later = await control.record("eu", planned_from=await database_now(control.connection))
    assert len({rollout, other, again, later}) == 4
