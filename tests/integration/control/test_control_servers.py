"""Deployments that share a server: a bound on what is in flight there, whoever claims it."""

import asyncio
from collections import Counter
from dataclasses import replace

import pytest

from reconciler.control import claims, rollouts
from reconciler.control.transitions import transition
from reconciler.errors import Conflict
from reconciler.rollout.states import OperationEvent
from reconciler.rollout.summary import RolloutPolicy
from tests.plugins.control import LEASE_S, Control, new_rollout

WIDE = RolloutPolicy(order="parallel", max_parallel=100)
IN_FLIGHT = """
SELECT server, count(*) FROM reconciler_control.operations
WHERE state = 'running' GROUP BY server ORDER BY server
"""


async def _record(control: Control, environment: str, servers: dict[str, str | None]) -> str:
    new = new_rollout(*servers, environment=environment, policy=WIDE)
    operations = tuple(replace(item, server=servers[item.deployment]) for item in new.operations)
    return await rollouts.record(control.connection, replace(new, operations=operations))


async def test_no_server_gets_more_than_its_bound(control: Control) -> None:
    """Workers that claim at once fill each server exactly; one that is full stops no other."""
    for number in range(4):
        names = {f"a{index}": "alpha:5432" for index in range(6)} | {
            f"b{index}": "beta:5432" for index in range(6)
        }
        await _record(control, f"env{number}", {**names, "free": None})
    crowd = [await control.worker(f"w{number}") for number in range(6)]

    async def claim_all(worker: object) -> list[claims.Claim]:
        connection = await control.connect()
        found: list[claims.Claim] = []
        while more := await claims.claim_many(connection, worker, room=3, lease_s=LEASE_S, per_server=5):  # type: ignore[arg-type]
            found += more
        return found

    held = [claim for some in await asyncio.gather(*map(claim_all, crowd)) for claim in some]
    assert dict(await control.rows(IN_FLIGHT)) == {"alpha:5432": 5, "beta:5432": 5, None: 4}
    assert max(Counter(claim.operation for claim in held).values()) == 1
    for claim in held:
        await transition(control.connection, claim, OperationEvent.DONE)
    again = [claim for some in await asyncio.gather(*map(claim_all, crowd)) for claim in some]
    assert dict(await control.rows(IN_FLIGHT)) == {"alpha:5432": 5, "beta:5432": 5}
    assert len(again) == 10


async def test_what_was_in_flight_is_resumed_on_a_full_server(control: Control) -> None:
    """The bound is for what starts: what a worker left behind has its place already."""
    await _record(control, "production", {"a": "alpha:5432", "b": "alpha:5432", "c": "alpha:5432"})
    gone = await control.worker("gone")
    first = await claims.claim_many(control.connection, gone, room=9, lease_s=LEASE_S, per_server=2)
    await control.rows("UPDATE reconciler_control.workers SET lease_expires_at = '-infinity'")
    other = await control.worker("other")
    again = await claims.claim_many(control.connection, other, room=9, lease_s=LEASE_S, per_server=2)
    assert [claim.operation for claim in again] == [claim.operation for claim in first]
    assert len(first) == 2


async def test_a_claim_takes_as_many_as_there_is_room_for(control: Control) -> None:
    """Several at once, in rollout order, shared out between the environments that wait."""
    for name in ("one", "two"):
        await control.record(*[f"d{index}" for index in range(5)], environment=name, policy=WIDE)
    worker = await control.worker()
    found = await claims.claim_many(control.connection, worker, room=6, lease_s=LEASE_S)
    assert Counter(claim.environment for claim in found) == {"one": 3, "two": 3}
    assert [claim.deployment for claim in found] == ["d0", "d1", "d2"] * 2
    assert await claims.claim_many(control.connection, worker, room=0, lease_s=LEASE_S) == []


async def test_many_operations_are_recorded_whole_or_not_at_all(control: Control) -> None:
    """A deployment that stands twice in a rollout is refused, and nothing of the rollout is left."""
    new = new_rollout("a", "b", "a")
    with pytest.raises(Exception, match="operations_one_per_deployment"):
        await rollouts.record(control.connection, new)
    for table in ("rollouts", "operations", "steps", "events"):
        assert await control.rows(f"SELECT count(*) FROM reconciler_control.{table}") == [(0,)]
    with pytest.raises(Conflict):
        await rollouts.record(control.connection, replace(new, operations=()))
