"""How workers come, go and come back: who else lives is told, and no operation is left behind."""

import asyncio

from reconciler.events import LeaseLost
from tests.plugins.site import Gate, Process, Site, holds

GATED = {"gate": "create table gate ();", "behind": Gate.SCRIPT, "last": "create table last ();"}


async def told(process: Process, count: int) -> None:
    """Wait until so many living workers were told of."""

    async def counted() -> bool:
        return bool(process.peers) and len(process.peers[-1][1]) == count

    await holds(counted, f"{count} workers to be told of")


async def test_who_lives_is_told(site: Site) -> None:
    """Once at the start, whenever somebody comes or goes, and when the registration ended."""
    one, two = site.process("one"), site.process("two")
    one.work()
    await told(one, 1)
    two.work()
    await told(two, 2)
    await told(one, 2)
    (mine, peers) = one.peers[-1]
    assert mine in {peer.id for peer in peers}
    assert {(peer.sources, peer.passes) for peer in peers} == {(frozenset({"shop"}), True)}
    assert two.peers[-1][1] == peers
    await two.stop()
    assert two.peers[-1] == (None, ())
    await told(one, 1)
    assert [len(peers) for _worker, peers in one.peers] == [1, 2, 1]


async def test_work_is_found_without_a_wake(site: Site) -> None:
    """Nobody listens here: the next heartbeat finds what was recorded, and what waits to be tried again."""
    process = site.process()
    process.work()
    await told(process, 1)
    for number in range(3):
        site.commit({f"change{each}": "select 1;" for each in range(number + 1)}, site.spec())
        await process.look()

        async def completed() -> bool:
            return await process.states() == ["completed"]

        await holds(completed, "the rollout to be found")
    assert site.deployed() == ["change0", "change1", "change2"]


async def test_a_worker_that_was_taken_for_dead_registers_anew(site: Site) -> None:
    """It is told that its registration ended, what it held is resumed, and it goes on under a new one."""
    process = site.process()
    site.commit({"gate": GATED["gate"]}, site.spec())
    await process.look()
    process.work()

    async def completed() -> bool:
        return await process.states() == ["completed"]

    await holds(completed, "the first change")
    gate = Gate(site)
    await gate.close()
    site.commit(GATED)
    await process.look()
    process.worker.wake()
    await gate.until_waited_for()
    before = process.peers[-1][0]
    await site.control_rows("update reconciler_control.workers set lease_expires_at = '-infinity'")

    async def ended() -> bool:
        return (None, ()) in process.peers

    await holds(ended, "the end of the registration")
    await gate.open()
    await holds(completed, "the operation to be resumed")
    assert process.peers[-1][0] not in (None, before)
    assert site.deployed() == list(GATED)


async def test_an_operation_is_not_left_behind_by_a_lease_that_was_short(site: Site) -> None:
    """Its worker dropped it, and went on living: it takes the operation up again."""
    process = site.process()
    site.commit({"gate": GATED["gate"]}, site.spec())
    await process.look()
    process.work()

    async def completed() -> bool:
        return await process.states() == ["completed"]

    await holds(completed, "the first change")
    gate = Gate(site)
    await gate.close()
    site.commit(GATED)
    await process.look()
    process.worker.wake()
    await gate.until_waited_for()
    (running,) = process.worker._running
    # As if it had been frozen for a lease by its own clock, and the database did not think so.
    running.lose()
    await gate.open()

    async def dropped() -> bool:
        return bool(process.told(LeaseLost))

    await holds(dropped, "the operation to be dropped")
    await holds(completed, "the operation to be taken up again")
    assert await asyncio.to_thread(site.deployed) == list(GATED)
    assert len(process.peers) == 1
