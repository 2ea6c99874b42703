"""The audit: in order, readable from any point on without missing anything."""

from reconciler.control import events
from tests.plugins.control import Control


async def test_events_read_back_in_order(control: Control) -> None:
    """What was appended is read in order, by environment, by rollout, and after a number."""
    rollout = await control.record("eu")
    await events.append(
        control.connection,
        kind="environment.refused",
        message="no\x00good",
        environment="other",
        data={"detail": ["a\x00b", 1, None]},
    )
    every = await events.read_events(control.connection)
    assert [event.kind for event in every] == ["rollout.recorded", "environment.refused"]
    assert every[1].data == {"detail": ["a\ufffdb", 1, None]}
    assert every[0].rollout == rollout
    assert [e.id for e in await events.read_events(control.connection, environment="other")] == [every[1].id]
    assert [e.id for e in await events.read_events(control.connection, rollout=rollout)] == [every[0].id]
    assert await events.read_events(control.connection, rollout="x") == ()
    assert await events.read_events(control.connection, after=every[1].id) == ()
    assert [e.id for e in await events.read_events(control.connection, limit=1)] == [every[-1].id]
    assert [e.id for e in await events.read_events(control.connection, after=0, limit=1)] == [every[0].id]


async def test_no_event_is_missed_by_reading_on(control: Control) -> None:
    """An event of a slower transaction is not skipped, though a later number is visible before it."""
    slow = await control.connect()
    await events.append(control.connection, kind="test.first", message="1")
    async with slow.transaction():
        await events.append(slow, kind="test.slow", message="2")
        await events.append(control.connection, kind="test.quick", message="3")
        seen = await events.read_events(control.connection, after=0)
        assert [event.kind for event in seen] == ["test.first"]
    rest = await events.read_events(control.connection, after=seen[-1].id)
    assert [event.kind for event in rest] == ["test.slow", "test.quick"]


async def test_gap_of_a_transaction_that_failed_is_passed_in_time(control: Control) -> None:
    """A number that will never come does not hold up readers for ever."""
    slow = await control.connect()
    await events.append(control.connection, kind="test.first", message="1")
    async with slow.transaction(force_rollback=True):
        await events.append(slow, kind="test.gone", message="2")
    await events.append(control.connection, kind="test.after", message="3")
    assert len(await events.read_events(control.connection, after=0)) == 1
    async with control.connection.transaction():
        await control.rows("SET LOCAL session_replication_role = 'replica'")
        await control.rows("UPDATE reconciler_control.events SET at = at - interval '1 minute'")
    assert [e.kind for e in await events.read_events(control.connection, after=0)] == [
        "test.first",
        "test.after",
    ]
