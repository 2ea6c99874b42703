"""What operators ask: durable, done at once where it can be, settled with a reason in the end."""

import asyncio

import pytest

from reconciler.control import claims, environments, intents, rollouts
from reconciler.control.requests import RequestStatus, submit
from reconciler.control.rollouts import supersede, supersede_moved
from reconciler.control.transitions import transition
from reconciler.errors import InvalidInput, NotFound
from reconciler.rollout.states import OperationEvent, OperationState
from reconciler.rollout.summary import RolloutPolicy
from reconciler.rollout.verbs import approval_digest
from tests.plugins.control import Control, new_rollout, until

E = OperationEvent
A = "a" * 40


async def ask(
    control: Control,
    rollout: str,
    verb: str,
    deployment: str | None = None,
    *,
    why: str = "",
    digest: str | None = None,
) -> RequestStatus:
    if verb == "approve" and digest is None:
        digest = "sha256:1"
    return await submit(
        control.connection,
        rollout=rollout,
        verb=verb,
        deployment=deployment,
        requested_by="ada",
        why=why,
        digest=digest,
    )


async def record_waiting(control: Control, *names: str, digest: str = "sha256:1", commit: str = A) -> str:
    waits = OperationState.WAITING_FOR_APPROVAL
    return await control.record(
        *names, commit=commit, operations=new_rollout(*names, initial=waits, digest=digest).operations
    )


async def approvals(control: Control) -> list[tuple[str, str, bool, str | None]]:
    return [
        (row[0], row[1], row[2], row[3])
        for row in await control.rows(
            "SELECT o.deployment, a.plan_digest, a.used_at IS NOT NULL, a.void_reason "
            "FROM reconciler_control.approvals AS a "
            "JOIN reconciler_control.operations AS o ON o.id = a.operation ORDER BY o.id"
        )
    ]


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
    assert set(await intents.held(control.connection, "production", A)) == {"us"}
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
    assert set(await intents.held(control.connection, "production", "b" * 40)) == {"eu"}
    assert await control.claim(worker) is None
    assert (await ask(control, other, "start")).state == "completed"
    assert await intents.held(control.connection, "production", "b" * 40) == {}
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
    assert await intents.held(control.connection, "production", A) == {}
    async for notification in listener.notifies(timeout=60, stop_after=1):
        assert notification.payload == "moved:production"
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
    rollout = await record_waiting(control, "eu")
    assert (await ask(control, rollout, "approve")).state == "completed"
    assert await control.states(rollout) == {"eu": "pending"}
    assert (await ask(control, rollout, "approve")).state == "failed"
    assert await approvals(control) == [("eu", "sha256:1", False, None)]
    claim = await control.must_claim(await control.worker())
    assert claim.approved == "sha256:1"


async def test_approve_is_of_exactly_the_plan_that_waits(control: Control) -> None:
    """Another digest agrees to nothing, and is told which plan waits; the digest is not left out."""
    rollout = await record_waiting(control, "eu", "us")
    both = approval_digest([("eu", "sha256:1"), ("us", "sha256:1")])
    refused = await ask(control, rollout, "approve", digest="sha256:1")
    assert refused.state == "failed"
    assert f"the plan that waits is {both}, and not sha256:1" in str(refused.reason)
    assert await approvals(control) == []
    assert (await ask(control, rollout, "approve", "us", digest="sha256:1")).state == "completed"
    assert await control.states(rollout) == {"eu": "waiting_for_approval", "us": "pending"}
    assert (await ask(control, rollout, "approve", digest=both)).state == "failed"
    assert (await ask(control, rollout, "approve", digest="sha256:1")).state == "completed"
    for verb, digest in (("approve", None), ("stop", "sha256:1")):
        with pytest.raises(InvalidInput, match="digest"):
            await submit(
                control.connection,
                rollout=rollout,
                verb=verb,
                deployment=None,
                requested_by="ada",
                digest=digest,
            )


@pytest.mark.parametrize("verb", ["cancel", "stop", "newer"])
async def test_what_becomes_of_an_approval(control: Control, verb: str) -> None:
    """Cancelled or superseded before it began, nobody has agreed any more; stopped, it keeps its place."""
    rollout = await record_waiting(control, "eu")
    await ask(control, rollout, "approve")
    if verb == "newer":
        await control.record("eu", commit="b" * 40)
    else:
        await ask(control, rollout, verb)
    found = (await approvals(control))[0][3]
    if verb == "stop":
        assert found is None
        assert (await ask(control, rollout, "start")).state == "completed"
        assert (await control.must_claim(await control.worker())).approved == "sha256:1"
    else:
        assert ("takes its place" if verb == "newer" else "asked for by ada") in str(found)


async def test_a_plan_that_moved_asks_anew(control: Control) -> None:
    """Where the state moved, the next plan says so and names what it takes the place of."""
    first = await record_waiting(control, "eu")
    second = await record_waiting(control, "eu", digest="sha256:2")
    assert await control.states(first) == {"eu": "superseded"}
    assert (await control.rollout(second)).reason == (
        f"commit; the state moved since it was asked for in rollout {first} ('eu')"
    )
    await ask(control, second, "approve", digest="sha256:2")
    claim = await control.must_claim(await control.worker())
    await transition(control.connection, claim, E.SUPERSEDE, reason="the state moved")
    assert (await approvals(control))[0][3] == "the state moved"
    third = await record_waiting(control, "eu", digest="sha256:3")
    assert (await control.rollout(third)).reason == (
        f"commit; the state moved since ada approved rollout {second} ('eu')"
    )
    rows = await control.rows(
        "SELECT rollout, superseded_by FROM reconciler_control.operations ORDER BY rollout"
    )
    assert rows == [(int(first), int(second)), (int(second), int(third)), (int(third), None)]


async def test_a_plan_of_which_nothing_is_left_waits_no_more(control: Control) -> None:
    """Where somebody did by hand what the plan was to do, nobody is asked any more."""
    rollout = await record_waiting(control, "eu", "us")
    ended = await supersede_moved(control.connection, "production", A, ["us"], owner=None)
    assert ended == 1
    assert await control.states(rollout) == {"eu": "waiting_for_approval", "us": "superseded"}
    assert await supersede_moved(control.connection, "production", A, ["us"], owner=None) == 0


async def test_nothing_goes_past_a_stop_that_waits(control: Control) -> None:
    """While a worker has not stopped yet, what lets the rollout go on is refused and names the stop."""
    rollout = await control.record("eu", "us")
    claim = await control.must_claim(await control.worker())
    stop = await ask(control, rollout, "stop", why="incident 7")
    assert (stop.state, stop.already) == ("pending", False)
    again = await ask(control, rollout, "stop")
    assert (again.id, again.already, again.why) == (stop.id, True, "incident 7")
    for verb in ("start", "release", "retry", "approve"):
        refused = await ask(control, rollout, verb)
        assert refused.state == "failed"
        assert f"ada asked to stop it (request {stop.id})" in str(refused.reason)
    await transition(control.connection, claim, E.STOP, reason="at a safe point")
    assert (await ask(control, rollout, "start")).state == "completed"
    assert await control.states(rollout) == {"eu": "pending", "us": "pending"}
    kept = await control.rows("SELECT verb::text FROM reconciler_control.requests ORDER BY id")
    assert [row[0] for row in kept] == ["stop", "start", "release", "retry", "approve", "start"]


async def test_a_stop_that_is_not_committed_yet_beats_a_claim(control: Control) -> None:
    """A claim that saw the operation pending waits for the stop that is under way, and gets nothing."""
    rollout = await control.record("eu", "us")
    worker = await control.worker()
    other = await control.connect()
    async with other.transaction():
        await submit(other, rollout=rollout, verb="stop", deployment=None, requested_by="ada")
        claiming = asyncio.create_task(control.claim(worker))

        async def waits() -> bool:
            query = "SELECT 1 FROM pg_locks WHERE NOT granted AND pid = %s"
            cursor = await other.execute(query, (control.connection.info.backend_pid,))
            return await cursor.fetchone() is not None

        await until(waits, deadline_s=30.0)
    assert await claiming is None
    assert await control.states(rollout) == {"eu": "stopped", "us": "stopped"}


async def test_start_of_what_something_newer_replaced_is_refused(control: Control) -> None:
    """Stopped at a safe point after a newer commit came, an operation is over: nothing brings it back."""
    rollout = await control.record("eu")
    claim = await control.must_claim(await control.worker())
    await ask(control, rollout, "stop")
    newer = await control.record("eu", commit="b" * 40)
    await transition(control.connection, claim, E.STOP, reason="at a safe point")
    assert await control.states(rollout) == {"eu": "superseded"}
    assert (await ask(control, rollout, "start")).state == "failed"
    assert await control.states(newer) == {"eu": "pending"}


async def test_what_a_newer_commit_waits_for_is_not_tried_again(control: Control) -> None:
    """An attempt that fails for a while after a newer commit came is the last one."""
    rollout = await control.record("eu")
    claim = await control.must_claim(await control.worker())
    await supersede(control.connection, "production", "b" * 40)
    await transition(control.connection, claim, E.RETRY, reason="busy", delay_s=3600)
    assert await control.states(rollout) == {"eu": "superseded"}


async def test_start_is_refused_where_another_operation_has_the_deployment(control: Control) -> None:
    """What runs there now, or was recorded later, is named; the operation stays stopped."""
    rollout = await control.record("eu", "us")
    await ask(control, rollout, "stop")
    other = await control.record("eu", "us", commit="b" * 40)
    claim = await control.must_claim(await control.worker())
    # As it would be where nothing had superseded it: two rollouts that know nothing of each other.
    await control.rows(
        "UPDATE reconciler_control.operations SET state = 'stopped', finished_at = NULL, "
        "superseded_at = NULL, superseded_by = NULL WHERE rollout = %s",
        int(rollout),
    )
    taken = await ask(control, rollout, "start")
    assert taken.state == "failed"
    assert f"'{claim.deployment}' stays stopped: rollout {other} is at work there" in str(taken.reason)
    assert f"'us' stays stopped: rollout {other} is newer there" in str(taken.reason)
    assert await control.states(rollout) == {"eu": "stopped", "us": "stopped"}


async def test_start_sees_what_was_recorded_while_it_waited(control: Control) -> None:
    """Start looks again under the lock of the environment, so a rollout recorded meanwhile wins."""
    rollout = await control.record("eu")
    await ask(control, rollout, "stop")
    other = await control.connect()
    starting: asyncio.Task[RequestStatus]
    async with other.transaction():
        await rollouts.record(other, new_rollout("eu", commit="b" * 40))
        starting = asyncio.create_task(ask(control, rollout, "start"))

        async def waits() -> bool:
            query = "SELECT 1 FROM pg_locks WHERE NOT granted AND pid = %s"
            cursor = await other.execute(query, (control.connection.info.backend_pid,))
            return await cursor.fetchone() is not None

        await until(waits, deadline_s=30.0)
    assert (await starting).state == "failed"
    assert await control.states(rollout) == {"eu": "superseded"}


async def test_retry_of_what_is_not_the_newest_is_refused(control: Control) -> None:
    """A rollout that another one followed on its deployment, or whose commit did, is not tried again."""
    going = RolloutPolicy(order="parallel", on_failure="continue", max_parallel=2)
    rollout = await control.record("eu", "us", policy=going)
    worker = await control.worker()
    for _ in range(2):
        await transition(control.connection, await control.must_claim(worker), E.FAIL, reason="bad")
    again = await control.record("eu", narrowed=True)
    request = await ask(control, rollout, "retry")
    assert request.state == "completed"
    assert "tries again on us" in str(request.reason)
    assert f"'eu' stays as it is: rollout {again} is newer there; retry that one" in str(request.reason)
    await control.observe(head_commit="b" * 40)
    late = await ask(control, rollout, "retry", "us")
    assert late.state == "failed"
    assert "its commit aaaaaaaaaaaa is not followed any more, bbbbbbbbbbbb is" in str(late.reason)


async def test_release_is_a_latch(control: Control) -> None:
    """A failed release latches nothing; the one that had its effect is for good."""
    policy = RolloutPolicy(order="rolling", on_failure="pause")
    rollout = await control.record("eu", "us", "jp", policy=policy)
    assert (await ask(control, rollout, "release")).state == "failed"
    worker = await control.worker()
    await transition(control.connection, await control.must_claim(worker), E.FAIL, reason="bad")
    assert (await control.rollout(rollout)).state.value == "paused"
    assert (await ask(control, rollout, "release", "us")).state == "failed"
    assert await control.claim(worker) is None
    assert (await ask(control, rollout, "release")).state == "completed"
    await transition(control.connection, await control.must_claim(worker), E.FAIL, reason="bad too")
    assert (await control.must_claim(worker)).deployment == "jp"
    assert "before" in str((await ask(control, rollout, "release")).reason)


async def test_release_frees_what_was_stopped_while_paused(control: Control) -> None:
    """Stopped in a paused rollout, a deployment is started after the release: nobody is locked in."""
    policy = RolloutPolicy(order="rolling", on_failure="pause")
    rollout = await control.record("eu", "us", policy=policy)
    await transition(
        control.connection, await control.must_claim(await control.worker()), E.FAIL, reason="bad"
    )
    await ask(control, rollout, "stop")
    assert "release it first" in str((await ask(control, rollout, "start")).reason)
    assert (await ask(control, rollout, "release")).state == "completed"
    assert (await ask(control, rollout, "start")).state == "completed"
    assert await control.states(rollout) == {"eu": "failed", "us": "pending"}


@pytest.mark.parametrize(
    ("verb", "reason"),
    [
        (
            "promote",
            "nothing of this rollout waits to be promoted: 'eu' is pending; it is not staged and ready yet",
        ),
        (
            "revert",
            "nothing of this rollout is in its revert window, so nothing can be taken back: 'eu' is pending",
        ),
        (
            "skip-revert",
            (
                "nothing of this rollout is in its revert window, so nothing is kept to go back to: "
                "'eu' is pending"
            ),
        ),
        ("start", "\"start\" is not possible in this state: 'eu' is pending"),
        ("approve", "nothing of it waits for approval: 'eu' is pending"),
        ("retry", "\"retry\" is not possible in this state: 'eu' is pending"),
    ],
)
async def test_what_is_not_possible_is_answered_with_the_state(
    control: Control, verb: str, reason: str
) -> None:
    """A verb without an effect fails with a reason that names where the operations stand."""
    rollout = await control.record("eu")
    request = await ask(control, rollout, verb)
    assert (request.state, request.reason) == ("failed", reason)
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
