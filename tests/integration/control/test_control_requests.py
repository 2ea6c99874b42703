"""What operators ask: durable, done at once where it can be, settled with a reason in the end."""

import pytest

from reconciler.control import claims, environments
from reconciler.control.requests import RequestStatus, submit
from reconciler.control.transitions import transition
from reconciler.errors import InvalidInput, NotFound
from reconciler.rollout.states import OperationEvent, OperationState
from reconciler.rollout.summary import RolloutPolicy
from tests.plugins.control import Control, new_rollout

E = OperationEvent
A = "a" * 40


async def ask(control: Control, rollout: str, verb: str, deployment: str | None = None) -> RequestStatus:
    return await submit(
        control.connection, rollout=rollout, verb=verb, deployment=deployment, requested_by="ada"
    )


async def reread(control: Control, request: RequestStatus) -> tuple[str, str]:
    rows = await control.rows(
        "SELECT state::text, reason FROM reconciler_control.requests WHERE id = %s", int(request.id)
    )
    return rows[0]


async def test_cancel_ends_what_waits_and_holds_it(control: Control) -> None:
    """An operation that no worker holds is cancelled before the request is acknowledged."""
    rollout = await control.record("eu", "us")
    request = await ask(control, rollout, "cancel", "us")
    assert (request.state, request.verb, request.deployment) == ("completed", "cancel", "us")
    assert await control.states(rollout) == {"eu": "pending", "us": "cancelled"}
    assert set(await environments.held(control.connection, "production", A)) == {"us"}
    assert (await ask(control, rollout, "cancel")).state == "completed"
    assert (await control.rollout(rollout)).state.value == "cancelled"


async def test_cancel_of_a_running_operation_waits_for_its_worker(control: Control) -> None:
    """The worker sees the request at its next safe point, and the request is settled when it acted."""
    rollout = await control.record("eu", "us")
    claim = await control.must_claim(await control.worker())
    request = await ask(control, rollout, "cancel")
    assert request.state == "pending"
    assert (await ask(control, rollout, "cancel")).id == request.id
    assert await control.states(rollout) == {"eu": "running", "us": "cancelled"}
    assert await claims.interruption(control.connection, claim) == "cancel"
    await transition(control.connection, claim, E.CANCEL, reason="at a safe point")
    state, reason = await reread(control, request)
    assert state == "completed"
    assert "eu" in reason


async def test_cancel_that_comes_too_late_says_so(control: Control) -> None:
    """A request whose operation completed meanwhile fails with that reason."""
    rollout = await control.record("eu")
    claim = await control.must_claim(await control.worker())
    request = await ask(control, rollout, "cancel")
    await transition(control.connection, claim, E.DONE)
    state, reason = await reread(control, request)
    assert state == "failed"
    assert "completed" in reason
    again = await ask(control, rollout, "cancel")
    assert (again.state, again.id != request.id) == ("failed", True)


async def test_cancel_reaches_an_operation_that_starts_retrying(control: Control) -> None:
    """A request that waits for a worker is carried out as soon as the worker lets go."""
    rollout = await control.record("eu")
    claim = await control.must_claim(await control.worker())
    request = await ask(control, rollout, "cancel")
    await transition(control.connection, claim, E.RETRY, reason="busy", delay_s=60)
    assert await control.states(rollout) == {"eu": "cancelled"}
    assert (await reread(control, request))[0] == "completed"


async def test_cancel_works_while_suspended(control: Control) -> None:
    """An operation whose worker died is ended also where nothing else may be done."""
    rollout = await control.record("eu")
    worker = await control.worker()
    await claims.hand_back(control.connection, await control.must_claim(worker))
    await environments.suspend(control.connection, "production", reason="incident", actor="ada")
    assert await control.claim(worker) is None
    await ask(control, rollout, "cancel")
    claim = await control.must_claim(worker)
    assert await claims.interruption(control.connection, claim) == "cancel"


async def test_stop_beats_cancel_and_start_goes_on(control: Control) -> None:
    """A stopped operation keeps its place, is held, and goes on when it is started."""
    rollout = await control.record("eu", "us", policy=RolloutPolicy(order="rolling"))
    worker = await control.worker()
    claim = await control.must_claim(worker)
    await ask(control, rollout, "cancel")
    await ask(control, rollout, "stop")
    assert await claims.interruption(control.connection, claim) == "stop"
    await transition(control.connection, claim, E.STOP, reason="asked")
    # Both were asked for: it stopped at a safe point, and what is stopped is cancelled without a worker.
    assert await control.states(rollout) == {"eu": "cancelled", "us": "cancelled"}

    other = await control.record("eu", commit="b" * 40)
    await ask(control, other, "stop")
    assert await control.states(other) == {"eu": "stopped"}
    assert (await control.rollout(other)).state.value == "stopped"
    assert set(await environments.held(control.connection, "production", "b" * 40)) == {"eu"}
    assert await control.claim(worker) is None
    assert (await ask(control, other, "start")).state == "completed"
    assert await environments.held(control.connection, "production", "b" * 40) == {}
    assert (await control.must_claim(worker)).rollout == other


async def test_retry_releases_holds_of_a_failed_rollout_and_wakes(control: Control) -> None:
    """Retry lets the next pass record a rollout anew, and asks for that pass."""
    rollout = await control.record("eu", "us", policy=RolloutPolicy(order="rolling"))
    await transition(
        control.connection, await control.must_claim(await control.worker()), E.FAIL, reason="bad"
    )
    listener = await control.connect()
    await listener.execute("LISTEN reconciler_wake")
    request = await ask(control, rollout, "retry")
    assert request.state == "completed"
    assert await environments.held(control.connection, "production", A) == {}
    async for notification in listener.notifies(timeout=5, stop_after=1):
        assert notification.payload == "environment:production"
        break
    else:
        pytest.fail("nobody was woken")
    assert await control.record("eu", "us", respect_holds=True) != rollout
    assert (await ask(control, rollout, "retry")).state == "failed"


async def test_retry_makes_a_waiting_attempt_due(control: Control) -> None:
    """Retry of an operation that waits for its time means now."""
    rollout = await control.record("eu")
    worker = await control.worker()
    claim = await control.must_claim(worker)
    await transition(control.connection, claim, E.RETRY, reason="busy", delay_s=3600)
    assert (await ask(control, rollout, "retry", "eu")).state == "completed"
    assert (await control.must_claim(worker)).attempts == 2


async def test_release_lets_a_paused_rollout_go_on(control: Control) -> None:
    """Only a paused rollout is released, and then it starts what is left."""
    rollout = await control.record("eu", "us", policy=RolloutPolicy(order="rolling", on_failure="pause"))
    assert (await ask(control, rollout, "release")).state == "failed"
    worker = await control.worker()
    await transition(control.connection, await control.must_claim(worker), E.FAIL, reason="bad")
    assert (await ask(control, rollout, "release")).state == "completed"
    assert (await control.must_claim(worker)).deployment == "us"


async def test_approve_lets_it_start(control: Control) -> None:
    """An approved operation may be claimed."""
    waits = new_rollout("eu", initial=OperationState.WAITING_FOR_APPROVAL).operations
    rollout = await control.record("eu", operations=waits)
    assert (await ask(control, rollout, "approve")).state == "completed"
    assert await control.states(rollout) == {"eu": "pending"}
    assert (await ask(control, rollout, "approve")).state == "failed"


@pytest.mark.parametrize("verb", ["promote", "revert", "skip-revert", "start", "approve", "retry", "release"])
async def test_what_is_not_possible_is_answered_with_the_state(control: Control, verb: str) -> None:
    """A verb without an effect fails with a reason that names where the operations stand."""
    rollout = await control.record("eu")
    request = await ask(control, rollout, verb)
    assert request.state == "failed"
    assert request.reason == f'"{verb}" is not possible in this state: "eu" is pending'
    assert (await control.kinds())[-2:] == ["request.recorded", "request.failed"]


async def test_unknown_things_are_refused(control: Control) -> None:
    """A rollout, deployment or verb that does not exist is an error, and nothing is noted."""
    rollout = await control.record("eu")
    with pytest.raises(NotFound):
        await ask(control, "77", "stop")
    with pytest.raises(NotFound):
        await ask(control, "x'; --", "stop")
    with pytest.raises(NotFound, match="eu"):
        await ask(control, rollout, "stop", "mars")
    with pytest.raises(InvalidInput):
        await ask(control, rollout, "explode")
    assert await control.rows("SELECT id FROM reconciler_control.requests") == []
