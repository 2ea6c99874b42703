"""Deliveries of webhooks: each wakes once, whoever takes it and however often it is sent."""

import asyncio

from reconciler.control import deliveries
from reconciler.control.wake import WAKE_CHANNEL, Wake, wake_from
from tests.plugins.control import Control


async def wakes(control: Control, count: int) -> list[Wake]:
    """What was notified, as far as so many arrive."""
    async with asyncio.timeout(20):
        return [wake_from(found.payload) async for found in control.connection.notifies(stop_after=count)]


async def test_a_delivery_is_taken_once(control: Control) -> None:
    """The same id of the same source is taken once; another source may use it as well."""
    await control.connection.execute(f"listen {WAKE_CHANNEL}")
    connection = await control.connect()
    taken = [
        await deliveries.take(connection, source=source, delivery="1")
        for source in ("platform", "platform", "shop")
    ]
    assert taken == [True, False, True]
    sources = [wake.source for wake in await wakes(control, 2)]
    assert sources == ["platform", "shop"]


async def test_without_an_id_each_wakes(control: Control) -> None:
    """A sender that gives no ids wakes every time, and leaves nothing behind."""
    await control.connection.execute(f"listen {WAKE_CHANNEL}")
    connection = await control.connect()
    for _ in range(2):
        assert await deliveries.take(connection, source="platform", delivery=None)
    assert await wakes(control, 2) == [Wake(source="platform", pushed=True)] * 2
    cursor = await connection.execute("select count(*) from reconciler_control.deliveries")
    assert await cursor.fetchone() == (0,)


async def test_one_of_many_at_once_takes_it(control: Control) -> None:
    """Daemons that get the same delivery at the same moment agree on who takes it."""
    connections = [await control.connect() for _ in range(6)]
    taken = await asyncio.gather(
        *(deliveries.take(each, source="platform", delivery="x") for each in connections)
    )
    assert sorted(taken) == [False] * 5 + [True]


async def test_old_ones_are_forgotten(control: Control) -> None:
    """What is older than two days goes, some at a time, whenever a new one comes; the rest stays."""
    connection = control.connection
    await connection.execute(
        "insert into reconciler_control.deliveries (source, id, received_at) "
        "select 'platform', n::text, clock_timestamp() - case when n <= 150 then interval '3 days' "
        "else interval '1 day' end from generate_series(1, 160) as n"
    )
    counts = []
    for new in ("a", "b", "c"):
        assert await deliveries.take(connection, source="platform", delivery=new)
        cursor = await connection.execute("select count(*) from reconciler_control.deliveries")
        counts.append((await cursor.fetchone() or (0,))[0])
    assert counts == [61, 12, 13]
