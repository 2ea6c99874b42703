"""Waves in the control database: one after the other, with a pause, whoever claims."""

import asyncio
from dataclasses import replace

from reconciler.control import claims, promotions, rollouts, windows
from reconciler.control.transitions import transition
from reconciler.rollout.states import OperationEvent
from reconciler.rollout.summary import RolloutPolicy
from tests.plugins.control import LEASE_S, PARALLEL, Control, new_rollout

E = OperationEvent


async def record(control: Control, waves: dict[str, int], *, pause_s: float = 0.0, **how: object) -> str:
    policy = RolloutPolicy(**{"order": "parallel", "max_parallel": 10, **how})  # type: ignore[arg-type]
    new = new_rollout(*waves, policy=policy)
    operations = tuple(replace(one, wave=waves[one.deployment]) for one in new.operations)
    return await rollouts.record(
        control.connection, replace(new, operations=operations, wave_pause_s=pause_s)
    )


async def test_waves_go_one_after_the_other(control: Control) -> None:
    """Nothing of a wave is claimed before all of the wave before it is done, wherever it stands."""
    rollout = await record(control, {"eu": 1, "canary": 0, "us": 1, "test": 0})
    worker = await control.worker()
    first = [await control.must_claim(worker) for _ in range(2)]
    assert [claim.deployment for claim in first] == ["canary", "test"]
    assert await control.claim(worker) is None
    await transition(control.connection, first[0], E.DONE)
    assert await control.claim(worker) is None
    await transition(control.connection, first[1], E.DONE)
    again = [await control.must_claim(worker) for _ in range(2)]
    assert [claim.deployment for claim in again] == ["eu", "us"]
    shown = await control.rollout(rollout)
    assert [(one.deployment, one.wave) for one in shown.operations] == [
        ("canary", 0),
        ("test", 0),
        ("eu", 1),
        ("us", 1),
    ]


async def test_a_failed_wave_halts_those_after_it(control: Control) -> None:
    """What has not started is cancelled with the reason, and the rollout is over."""
    rollout = await record(control, {"canary": 0, "eu": 1, "us": 2})
    claim = await control.must_claim(await control.worker())
    await transition(control.connection, claim, E.FAIL, reason="the gate said no")
    shown = await control.rollout(rollout)
    assert shown.state.value == "failed"
    assert [one.state.value for one in shown.operations] == ["failed", "cancelled", "cancelled"]
    assert "'canary' failed" in (shown.operations[1].reason or "")


async def test_who_waits_for_a_wave_says_so(control: Control) -> None:
    """A person sees which wave holds what."""
    rollout = await record(control, {"canary": 0, "eu": 1})
    await control.must_claim(await control.worker())
    shown = await control.rollout(rollout)
    assert shown.operations[1].waits_for == "wave 0, of which 1 is not done"


async def test_a_wave_rests_for_its_pause(control: Control) -> None:
    """The pause counts from the last end of the waves before, by the clock of the database."""
    rollout = await record(control, {"canary": 0, "test": 0, "eu": 1}, pause_s=600.0)
    worker = await control.worker()
    for _ in range(2):
        await transition(control.connection, await control.must_claim(worker), E.DONE)
    assert await control.claim(worker) is None
    shown = await control.rollout(rollout)
    assert shown.state.value == "running"
    assert (shown.operations[2].waits_for or "").startswith("the pause before wave 1, until ")
    await _age(control, "canary")
    assert await control.claim(worker) is None, "the last one to end counts"
    await _age(control, "test")
    assert (await control.must_claim(worker)).deployment == "eu"


async def test_barrier_and_pause_are_of_a_wave(control: Control) -> None:
    """A wave goes live before the next one starts, which rests from when all of it is, windows or not."""
    await record(control, {"canary": 0, "eu": 1}, order="barrier", pause_s=600.0)
    worker = await control.worker()
    claim = await control.must_claim(worker)
    connection, what = control.connection, {"component": "analytics", "generation": "g1"}
    assert await promotions.begin_promotion(connection, claim, **what), "the next wave holds nobody up"
    (until,) = (await control.rows("SELECT clock_timestamp() + interval '1 hour'"))[0]
    await promotions.promoted(connection, claim, database="shop", retained_until=until, **what)
    await transition(connection, claim, E.OPEN_REVERT_WINDOW)
    assert await control.claim(worker) is None
    await control.rows("UPDATE reconciler_control.operations SET applied_at = applied_at - interval '1 hour'")
    await control.rows("UPDATE reconciler_control.operations SET revert_until = '-infinity'")
    assert await windows.expire_windows(connection) == 1
    assert (await control.must_claim(worker)).deployment == "eu"


async def _age(control: Control, deployment: str) -> None:
    times = ", ".join(
        f"{name} = {name} - interval '601 s'" for name in ("created_at", "started_at", "finished_at")
    )
    await control.rows(f"UPDATE reconciler_control.operations SET {times} WHERE deployment = %s", deployment)


async def test_who_rests_takes_no_turn_of_others(control: Control) -> None:
    """An environment whose wave rests is no candidate, so that nobody looks at it again and again."""
    await record(control, {"canary": 0, "eu": 1}, pause_s=600.0)
    worker = await control.worker()
    await transition(control.connection, await control.must_claim(worker), E.DONE)
    assert await claims._candidates(control.connection, worker, None, ()) == []
    await control.record("d0", environment="other", policy=PARALLEL)
    assert (await control.must_claim(worker)).environment == "other"


async def test_the_bound_holds_over_waves_under_simultaneous_claims(control: Control) -> None:
    """Eight who claim at once never have more than allowed, and never one of a later wave too soon."""
    names = {f"d{number}": number // 6 for number in range(18)}
    await record(control, names, max_parallel=4)
    living = [await control.worker(f"w{number}") for number in range(8)]
    connections = [await control.connect() for _ in living]
    seen: list[str] = []
    while len(seen) < len(names):
        found = await asyncio.gather(
            *(
                claims.claim_many(connection, worker, room=3, lease_s=LEASE_S)
                for connection, worker in zip(connections, living, strict=True)
            )
        )
        held = [claim for each in found for claim in each]
        assert 0 < len(held) <= 4
        assert len({names[claim.deployment] for claim in held}) == 1
        seen += [claim.deployment for claim in held]
        await asyncio.gather(
            *(transition(connections[number % 8], claim, E.DONE) for number, claim in enumerate(held))
        )
    assert sorted(seen) == sorted(names)
    assert [names[name] for name in seen] == sorted(names.values())
