"""Claims: each operation is held once, by a worker that lives, in the order of its rollout."""

import asyncio
from collections import Counter

import pytest

from reconciler.control import claims, environments, requests, workers
from reconciler.control.claims import Claim
from reconciler.control.transitions import transition
from reconciler.errors import LeaseLost
from reconciler.rollout.states import OperationEvent, OperationState
from reconciler.rollout.summary import RolloutPolicy
from tests.plugins.control import LEASE_S, Control, new_rollout, until

E = OperationEvent
S = OperationState


async def claim_all(control: Control, worker: workers.Worker) -> list[Claim]:
    """Claim on a connection of one's own until nothing is left."""
    connection = await control.connect()
    found = []
    while (claim := await claims.claim(connection, worker, lease_s=LEASE_S)) is not None:
        found.append(claim)
    return found


async def test_many_workers_hold_each_operation_once(control: Control) -> None:
    """Workers that claim at once get every operation, and none of them twice."""
    policy = RolloutPolicy(order="parallel", max_parallel=100)
    for number in range(4):
        names = [f"d{index}" for index in range(8)]
        await control.record(*names, environment=f"env{number}", policy=policy)
    held = await asyncio.gather(
        *[claim_all(control, await control.worker(f"w{number}")) for number in range(6)]
    )
    counted = Counter(claim.operation for claims_ in held for claim in claims_)
    assert len(counted) == 32
    assert set(counted.values()) == {1}
    tokens = [claim.lease_token for claims_ in held for claim in claims_]
    assert len(set(tokens)) == 32


async def test_max_parallel_is_never_exceeded(control: Control) -> None:
    """However many claim at once, no more run than the rollout allows."""
    policy = RolloutPolicy(order="parallel", max_parallel=3)
    rollout = await control.record(*[f"d{index}" for index in range(12)], policy=policy)
    living = [await control.worker(f"w{number}") for number in range(8)]
    held = await asyncio.gather(*[claim_all(control, worker) for worker in living])
    found = [claim for claims_ in held for claim in claims_]
    assert [claim.deployment for claim in sorted(found, key=lambda c: int(c.operation))] == ["d0", "d1", "d2"]
    await transition(control.connection, found[0], E.DONE)
    again = await asyncio.gather(*[claim_all(control, worker) for worker in living])
    assert sum(len(claims_) for claims_ in again) == 1
    assert Counter((await control.states(rollout)).values())["running"] == 3


async def test_rolling_starts_the_next_after_the_one_before_is_done(control: Control) -> None:
    """A rolling rollout goes through its deployments one by one, in order."""
    rollout = await control.record("eu", "us", policy=RolloutPolicy(order="rolling", max_parallel=5))
    worker = await control.worker()
    first = await control.must_claim(worker)
    assert first.deployment == "eu"
    assert first.first
    assert first.attempts == 1
    assert first.plan() == {"name": "eu"}
    assert first.policy == RolloutPolicy(order="rolling", max_parallel=5)
    assert await control.claim(worker) is None
    await transition(control.connection, first, E.DONE)
    assert (await control.must_claim(worker)).deployment == "us"
    assert (await control.rollout(rollout)).state.value == "running"


async def test_environments_take_turns(control: Control) -> None:
    """An environment with many operations does not keep a later one waiting."""
    policy = RolloutPolicy(order="parallel", max_parallel=50)
    await control.record(*[f"d{index}" for index in range(10)], environment="big", policy=policy)
    await control.record("d0", environment="small", policy=policy)
    worker = await control.worker()
    got = [(await control.must_claim(worker)).environment for _ in range(3)]
    assert "small" in got


async def test_only_one_rollout(control: Control) -> None:
    """A worker of one rollout claims nothing else."""
    await control.record("eu", environment="other")
    rollout = await control.record("eu")
    worker = await control.worker()
    claim = await claims.claim(control.connection, worker, lease_s=LEASE_S, only_rollout=rollout)
    assert claim is not None
    assert claim.rollout == rollout
    assert await claims.claim(control.connection, worker, lease_s=LEASE_S, only_rollout=rollout) is None
    assert await claims.claim(control.connection, worker, lease_s=LEASE_S, only_rollout="nonsense") is None


async def test_stolen_after_the_lease(control: Control) -> None:
    """A worker that holds its session but not its lease loses what it claimed; no attempt is spent."""
    await control.record("eu")
    slow = await control.worker("slow", lease_s=0.2)
    before = await control.must_claim(slow, lease_s=0.2)
    quick = await control.worker("quick")
    taken: list[Claim] = []

    async def stolen() -> bool:
        claim = await control.claim(quick)
        taken.extend([claim] if claim is not None else [])
        return bool(taken)

    await until(stolen)
    assert taken[0].operation == before.operation
    assert taken[0].lease_token > before.lease_token
    assert taken[0].attempts == before.attempts == 1
    assert not taken[0].first
    with pytest.raises(LeaseLost):
        await transition(control.connection, before, E.DONE)
    with pytest.raises(LeaseLost):
        await claims.interruption(control.connection, before)
    with pytest.raises(LeaseLost):
        await claims.hand_back(control.connection, before)
    assert await transition(control.connection, taken[0], E.DONE) is S.COMPLETED
    assert "operation.resumed" in await control.kinds()


async def test_a_living_worker_keeps_its_claim(control: Control) -> None:
    """Nobody takes what a worker with lease and session holds, the worker itself included."""
    await control.record("eu")
    worker = await control.worker()
    await control.must_claim(worker)
    assert await control.claim(worker) is None
    assert await control.claim(await control.worker("other")) is None


async def test_stolen_at_once_when_the_session_is_gone(control: Control) -> None:
    """The successor of a process that died does not wait for its lease."""
    await control.record("eu")
    session = await control.connect()
    dead = await control.register(session, name="daemon", lease_s=3600)
    before = await control.must_claim(dead, lease_s=3600)
    await session.close()
    successor = await control.worker("daemon")
    taken: list[Claim] = []

    async def resumed() -> bool:
        claim = await control.claim(successor)
        taken.extend([claim] if claim is not None else [])
        return bool(taken)

    await until(resumed)
    assert taken[0].operation == before.operation


async def test_heartbeat_keeps_claims_and_a_stranger_has_none(control: Control) -> None:
    """One statement renews the lease of all claims; a worker nobody knows is told so."""
    await control.record("eu")
    session = await control.connect()
    worker = await control.register(session, name="w", lease_s=5.0)
    await control.must_claim(worker, lease_s=5.0)
    await workers.heartbeat(session, worker, 60.0)
    rows = await control.rows(
        "SELECT lease_expires_at > clock_timestamp() + interval '50 s' FROM reconciler_control.workers"
    )
    assert rows == [(True,)]
    assert await control.claim(await control.worker("other")) is None
    await workers.deregister(session, worker)
    with pytest.raises(LeaseLost):
        await workers.heartbeat(session, worker, 60.0)
    with pytest.raises(LeaseLost):
        await control.claim(worker)


async def test_heartbeat_tells_who_lives(control: Control) -> None:
    """Who came, left or died is seen at the next heartbeat, with what it can read and whether it passes."""
    one, two = await control.connect(), await control.connect()
    first = await control.register(one, name="one", sources=("b", "a"))
    second = await control.register(two, name="two", sources=("a",), passes=False)
    both = {first.id: (frozenset({"a", "b"}), True), second.id: (frozenset({"a"}), False)}
    peers = (await workers.heartbeat(one, first, 60.0)).peers
    assert {peer.id: (peer.sources, peer.passes) for peer in peers} == both
    assert [peer.id for peer in peers] == sorted(both)
    await two.close()

    async def alone() -> bool:
        beat = await workers.heartbeat(one, first, 60.0)
        return [peer.id for peer in beat.peers] == [first.id]

    await until(alone)


async def test_heartbeat_tells_whether_there_is_work(control: Control) -> None:
    """What a claim would find is told without one: pending, handed back, to be ended; and nothing else is."""
    session, elsewhere = await control.connect(), await control.connect()
    worker = await control.register(session, name="one")
    stranger = await control.register(elsewhere, name="two", sources=("elsewhere",))

    async def work() -> bool:
        return (await workers.heartbeat(session, worker, 60.0)).work

    assert not await work()
    rollout = await control.record("eu")
    assert await work()
    assert not (await workers.heartbeat(elsewhere, stranger, 60.0)).work
    claim = await control.must_claim(worker)
    assert not await work()
    await claims.hand_back(control.connection, claim)
    assert await work()
    await environments.suspend(control.connection, "production", reason="incident", actor="ada")
    assert not await work()
    await requests.submit(
        control.connection, rollout=rollout, verb="stop", deployment=None, requested_by="ada"
    )
    assert await work()


async def test_who_was_dead_stays_so(control: Control) -> None:
    """A worker whose lease ran out registers anew: neither a heartbeat nor a claim brings it back to life."""
    await control.record("eu")
    session = await control.connect()
    worker = await control.register(session, name="frozen", lease_s=0.0)
    with pytest.raises(LeaseLost):
        await workers.heartbeat(session, worker, 60.0)
    with pytest.raises(LeaseLost):
        await control.claim(worker)
    session = await control.connect()
    other = await control.register(session, name="other")
    peers = (await workers.heartbeat(session, other, 60.0)).peers
    assert [peer.id for peer in peers] == [other.id]


async def test_claims_are_of_ones_own_sources(control: Control) -> None:
    """An operation of a source that a worker cannot read is left to those who can, also to resume it."""
    await control.record("eu")
    stranger = await control.worker("stranger", sources=("elsewhere",))
    assert await control.claim(stranger) is None
    session = await control.connect()
    before = await control.must_claim(await control.register(session, name="one"))
    await claims.hand_back(control.connection, before)
    assert await control.claim(stranger) is None
    assert (await control.must_claim(await control.worker("two"))).operation == before.operation


async def test_handed_back_is_claimable_at_once(control: Control) -> None:
    """What a worker hands back goes on elsewhere, without an attempt; the worker may not write any more."""
    await control.record("eu")
    claim = await control.must_claim(await control.worker())
    await claims.hand_back(control.connection, claim)
    assert await control.rows("SELECT state, worker FROM reconciler_control.operations") == [
        ("running", None)
    ]
    again = await control.must_claim(await control.worker("next"))
    assert again.attempts == 1
    with pytest.raises(LeaseLost):
        await transition(control.connection, claim, E.DONE)


async def test_leaving_hands_everything_back(control: Control) -> None:
    """A worker that leaves gives up all its claims, and is forgotten."""
    await control.record("eu", "us")
    session = await control.connect()
    worker = await control.register(session, name="leaver")
    held = [await control.must_claim(worker) for _ in range(2)]
    await workers.deregister(session, worker)
    next_ = await control.worker("next")
    again = [await control.must_claim(next_) for _ in range(2)]
    assert {claim.operation for claim in held} == {claim.operation for claim in again}
    assert (await control.kinds()).count("operation.handed_back") == 2


async def test_nothing_is_claimed_for_suspended_environments(control: Control) -> None:
    """Suspended means that nothing starts, resumes or is tried again, until it is resumed."""
    await control.record("eu")
    worker = await control.worker()
    await environments.suspend(control.connection, "production", reason="incident", actor="ada")
    assert await control.claim(worker) is None
    await environments.resume(control.connection, "production", actor="ada")
    claim = await control.must_claim(worker)
    await claims.hand_back(control.connection, claim)
    await environments.suspend(control.connection, "production", reason="incident", actor="ada")
    assert await control.claim(worker) is None


async def test_retrying_waits_for_its_time(control: Control) -> None:
    """An operation that failed for a reason that may pass comes back when it is due, as another attempt."""
    await control.record("eu")
    worker = await control.worker()
    claim = await control.must_claim(worker)
    assert await transition(control.connection, claim, E.RETRY, reason="busy", delay_s=3600) is S.RETRYING
    assert await control.claim(worker) is None
    await control.rows("UPDATE reconciler_control.operations SET next_attempt_at = clock_timestamp()")
    again = await control.must_claim(worker)
    assert again.attempts == 2
    assert not again.first


async def test_no_two_in_flight_on_one_deployment(control: Control) -> None:
    """Two rollouts never work on one deployment at the same time."""
    await control.record("eu", "us", commit="a" * 40)
    worker = await control.worker()
    claim = await control.must_claim(worker)
    newer = await control.record("eu", "us", commit="b" * 40)
    other = await control.must_claim(worker)
    assert (other.rollout, other.deployment) == (newer, "us")
    assert await control.claim(worker) is None
    assert await claims.interruption(control.connection, claim) == "superseded"
    await transition(control.connection, claim, E.SUPERSEDE, reason="newer")
    assert (await control.must_claim(worker)).deployment == "eu"


async def test_reverting_resumes_as_reverting(control: Control) -> None:
    """A way back that failed for a while is taken up again as a way back."""
    await control.record("eu")
    worker = await control.worker()
    claim = await control.must_claim(worker)
    await control.rows("UPDATE reconciler_control.operations SET state = 'reverting'")
    await transition(control.connection, claim, E.RETRY, reason="busy", delay_s=0)
    again = await control.must_claim(worker)
    assert await transition(control.connection, again, E.DONE) is S.REVERTED


async def test_operations_that_wait_for_approval_are_not_claimed(control: Control) -> None:
    """Nothing starts that a person has not agreed to."""
    new = new_rollout("eu", initial=S.WAITING_FOR_APPROVAL)
    await control.record("eu", operations=new.operations)
    assert await control.claim(await control.worker()) is None


async def test_what_a_worker_does_not_work_on_is_handed_back(control: Control) -> None:
    """A claim whose answer was lost is not kept for ever by a worker that knows nothing of it."""
    await control.record("eu", "us")
    worker, other = await control.worker(), await control.worker("other")
    known, lost = await control.must_claim(worker), await control.must_claim(worker)
    await workers.release_strays(control.connection, worker, [known.operation])
    assert (await control.must_claim(other)).operation == lost.operation
    assert await claims.interruption(control.connection, known) is None
    with pytest.raises(LeaseLost):
        await claims.interruption(control.connection, lost)
