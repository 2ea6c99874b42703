"""Operations at which workers die: counted while nothing gets done, tried one by one, free of charge."""

import pytest

from reconciler.control import claims, workers
from reconciler.control.claims import SUSPECT_CRASHES, Claim
from reconciler.control.transitions import finish_many, transition
from reconciler.errors import LeaseLost
from reconciler.rollout.states import OperationEvent as E
from reconciler.rollout.states import OperationState as S
from tests.plugins.control import LEASE_S, Control, until


async def die(control: Control) -> None:
    """End the lease of every worker there is."""
    await control.rows("UPDATE reconciler_control.workers SET lease_expires_at = '-infinity'")


async def resume(control: Control, most: int = 10) -> list[Claim]:
    """Let all workers die, and a new one take what it gets."""
    await die(control)
    successor = await control.worker("successor")
    return await claims.claim_many(control.connection, successor, room=most, lease_s=LEASE_S)


async def test_crashes_in_a_row_are_counted(control: Control) -> None:
    """Each death without a step done counts, a step that got done begins anew, and no attempt is spent."""
    await control.record("eu")
    claim = await control.must_claim(await control.worker())
    assert (claim.crashes, claim.crashed_at) == (0, None)
    for count in (1, 2, 3):
        (claim,) = await resume(control)
        assert (claim.crashes, claim.crashed_at, claim.attempts) == (count, "shop: change one", 1)
    await finish_many(control.connection, claim, ["s1"])
    for count in (1, 2):
        (claim,) = await resume(control)
        assert (claim.crashes, claim.crashed_at) == (count, "shop: change two")
    resumed = await control.rows(
        "SELECT data ->> 'crashes' FROM reconciler_control.events WHERE kind LIKE '%.resumed' ORDER BY id"
    )
    assert [row[0] for row in resumed] == ["1", "2", "3", "1", "2"]


async def test_deaths_among_others_are_told_apart(control: Control) -> None:
    """Whether a worker that died had nothing else in hand is known, also of what it had claimed and ended."""
    await control.record("eu", "us")
    worker = await control.worker()
    both = await claims.claim_many(control.connection, worker, room=10, lease_s=LEASE_S)
    assert len(both) == 2
    both = await resume(control)
    assert [(claim.crashes, claim.crashed_alone) for claim in both] == [(1, False)] * 2
    (one,) = await resume(control, most=1)
    assert (one.crashes, one.crashed_alone) == (2, False)
    # Alone with it now; the other is a stray, and no worker takes two that workers died at.
    (again,) = await resume(control, most=1)
    assert (again.operation, again.crashes, again.crashed_alone) == (one.operation, 3, True)
    await transition(control.connection, again, E.DONE)
    last = await control.must_claim(await control.worker("last"))
    assert (last.crashes, last.crashed_alone) == (2, False)


async def test_what_ended_is_no_company(control: Control) -> None:
    """A heartbeat after the others ended says that the worker has nothing else in hand any more."""
    await control.record("eu", "us")
    worker = await control.worker()
    first, second = await claims.claim_many(control.connection, worker, room=10, lease_s=LEASE_S)
    await transition(control.connection, first, E.DONE)
    await workers.heartbeat(control.connection, worker, LEASE_S)
    (claim,) = await resume(control)
    assert (claim.operation, claim.crashes, claim.crashed_alone) == (second.operation, 1, True)


async def test_what_ends_by_itself_begins_anew(control: Control) -> None:
    """A worker that lived to record an outcome clears the count, whatever the outcome is."""
    await control.record("eu")
    await control.must_claim(await control.worker())
    (claim,) = await resume(control)
    assert claim.crashes == 1
    assert await transition(control.connection, claim, E.RETRY, reason="away", delay_s=0) is S.RETRYING
    assert (await control.must_claim(await control.worker())).crashes == 0


async def test_leaving_is_no_crash(control: Control) -> None:
    """Handing back, leaving and losing the session while the process lives cost neither crash nor attempt."""
    await control.record("eu")
    worker = await control.worker()
    claim = await control.must_claim(worker)
    await claims.hand_back(control.connection, claim)
    claim = await control.must_claim(worker)
    assert (claim.crashes, claim.attempts) == (0, 1)
    await die(control)
    again = await control.worker()
    await workers.release_former(control.connection, worker)
    claim = await control.must_claim(again)
    assert (claim.crashes, claim.attempts) == (0, 1)


async def test_a_worker_without_its_session_claims_nothing(control: Control) -> None:
    """What it took would be anybody's at once: it would take the same again and again, each as a crash."""
    await control.record("eu")
    session = await control.connect()
    worker = await control.register(session, name="worker")
    await control.must_claim(worker)
    await session.close()

    async def gone() -> bool:
        return await control.rows("SELECT FROM reconciler_control.living_workers") == []

    await until(gone, deadline_s=30)
    with pytest.raises(LeaseLost, match="its session is gone"):
        await control.claim(worker)
    assert (await control.must_claim(await control.worker("successor"))).crashes == 1


@pytest.mark.parametrize("environments", [1, 2])
async def test_suspects_are_resumed_one_by_one(control: Control, environments: int) -> None:
    """No worker tries two that workers died at, each worker one, and what is not suspect goes on beside."""
    names = ["production", "staging"][:environments]
    for name in names:
        await control.record("eu", "us", environment=name)
    first = await control.worker()
    taken = await claims.claim_many(control.connection, first, room=10, lease_s=LEASE_S)
    many = len(taken)
    assert many == 2 * environments
    for count in range(1, SUSPECT_CRASHES):
        found = await resume(control)
        assert {claim.crashes for claim in found} == {count}
        assert len(found) == many
    await die(control)
    await control.record("asia", environment="innocent")
    workers_left = [await control.worker("successor"), await control.worker("another")]
    for left in range(many, 0, -2):
        tried = []
        for worker in workers_left:
            found = await claims.claim_many(control.connection, worker, room=10, lease_s=LEASE_S)
            suspects = [claim for claim in found if claim.crashes]
            # The death that makes suspects of them is counted before they are tried, not after it.
            assert [claim.crashes for claim in suspects] == [SUSPECT_CRASHES]
            others = {claim.environment for claim in found if not claim.crashes}
            assert others == ({"innocent"} if left == many and worker is workers_left[0] else set())
            assert await claims.claim_many(control.connection, worker, room=10, lease_s=LEASE_S) == []
            tried += suspects
        for claim in tried:
            await transition(control.connection, claim, E.DONE)


async def test_a_session_that_ended_is_a_crash_too(control: Control) -> None:
    """Whether the lease ran out or the session is gone, it is counted once."""
    await control.record("eu")
    session = await control.connect()
    await control.must_claim(await control.register(session, name="dying", lease_s=3600), lease_s=3600)
    await session.close()
    successor = await control.worker()
    found: list[Claim] = []

    async def resumed() -> bool:
        claim = await control.claim(successor)
        found.extend([claim] if claim is not None else [])
        return bool(found)

    await until(resumed, deadline_s=30)
    assert found[0].crashes == 1
