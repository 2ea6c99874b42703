"""A claim that is being stolen: what its old holder writes waits until that is known, and changes nothing."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from reconciler.control import claims, transitions, workers
from reconciler.control.claims import Claim
from reconciler.errors import LeaseLost
from reconciler.postgres.connection import Connection
from reconciler.rollout.states import OperationEvent
from tests.plugins.control import Control, until

Write = Callable[[Connection, Claim], Awaitable[object]]


async def _done(connection: Connection, claim: Claim) -> object:
    return await transitions.transition(connection, claim, OperationEvent.DONE)


async def _failed(connection: Connection, claim: Claim) -> object:
    return await transitions.transition(connection, claim, OperationEvent.FAIL, reason="no")


async def _started(connection: Connection, claim: Claim) -> object:
    return await transitions.step_started(connection, claim, "s1")


async def _finished(connection: Connection, claim: Claim) -> object:
    return await transitions.step_finished(connection, claim, "s1", "failed", "no")


async def _finished_many(connection: Connection, claim: Claim) -> object:
    return await transitions.finish_many(connection, claim, ["s1", "s2"])


async def _handed_back(connection: Connection, claim: Claim) -> object:
    return await claims.hand_back(connection, claim)


async def _replaced(connection: Connection, claim: Claim) -> object:
    return await transitions.replace_plan(connection, claim, {"name": "other"}, "sha256:2", ())


WRITES = {
    "done": _done,
    "failed": _failed,
    "step started": _started,
    "step finished": _finished,
    "steps finished": _finished_many,
    "handed back": _handed_back,
    "plan replaced": _replaced,
}
WAITING = "SELECT count(*) FROM pg_locks WHERE pid = %s AND NOT granted"
EVERYTHING = """
SELECT
    (SELECT jsonb_agg(to_jsonb(o) ORDER BY o.id) FROM reconciler_control.operations AS o),
    (SELECT jsonb_agg(to_jsonb(s) ORDER BY s.id) FROM reconciler_control.steps AS s),
    (SELECT count(*) FROM reconciler_control.events)
"""


@pytest.mark.parametrize("what", WRITES)
async def test_a_write_beside_a_steal_waits_and_then_fails(control: Control, what: str) -> None:
    """While the steal is not committed the old holder waits; then it is told, and nothing is altered."""
    await control.record("eu")
    before = await control.must_claim(await control.worker("slow"))
    await control.rows("UPDATE reconciler_control.workers SET lease_expires_at = '-infinity'")
    thief, old = await control.worker("quick"), await control.connect()
    async with control.connection.transaction():
        taken = await control.must_claim(thief)
        assert taken.operation == before.operation
        writing = asyncio.create_task(WRITES[what](old, before))  # type: ignore[arg-type]
        watching = await control.connect()

        async def waits() -> bool:
            cursor = await watching.execute(WAITING, [old.info.backend_pid])
            row = await cursor.fetchone()
            return row is not None and row[0] > 0

        await until(waits, deadline_s=30)
        assert not writing.done()
        found = await control.rows(EVERYTHING)
    with pytest.raises(LeaseLost):
        await writing
    assert await control.rows(EVERYTHING) == found
    assert await claims.interruptions(control.connection, [before, taken]) == {taken.operation: None}


async def test_a_steal_that_is_taken_back_leaves_the_holder_what_it_has(control: Control) -> None:
    """Who waited for a steal that did not happen goes on as if nothing had been."""
    await control.record("eu")
    before = await control.must_claim(await control.worker("slow"))
    await control.rows("UPDATE reconciler_control.workers SET lease_expires_at = '-infinity'")
    thief = await control.worker("quick")
    async with control.connection.transaction(force_rollback=True):
        await control.must_claim(thief)
    assert await transitions.step_started(control.connection, before, "s1") is transitions.Mark.WRITTEN


async def test_a_heartbeat_after_the_lease_is_refused_also_before_anybody_stole(control: Control) -> None:
    """Who is once dead to the others stays so, whether or not a successor has committed."""
    await control.record("eu")
    session = await control.connect()
    slow = await control.register(session, name="slow")
    await control.must_claim(slow)
    await control.rows("UPDATE reconciler_control.workers SET lease_expires_at = '-infinity'")
    thief = await control.worker("quick")
    async with control.connection.transaction():
        await control.must_claim(thief)
        with pytest.raises(LeaseLost):
            await workers.heartbeat(session, slow, 60.0)


async def test_what_is_handed_back_is_another_workers_at_once(control: Control) -> None:
    """A clean end waits for no lease: the next look of another worker has it, with no attempt spent."""
    await control.record("eu", "us")
    session = await control.connect()
    leaving = await control.register(session, name="leaving", lease_s=3600)
    first = await claims.claim_many(control.connection, leaving, room=2, lease_s=3600)
    await workers.deregister(session, leaving)
    other = await control.worker("other")
    again = await claims.claim_many(control.connection, other, room=2, lease_s=3600)
    assert [claim.operation for claim in again] == [claim.operation for claim in first]
    assert [claim.attempts for claim in again] == [1, 1]
    assert not any(claim.first for claim in again)
