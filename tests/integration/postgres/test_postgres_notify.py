"""Notifications arrive, and listening goes on through everything that ends a connection."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from reconciler.errors import PermanentError, TemporaryError
from reconciler.postgres.connection import Dsn, connect
from reconciler.postgres.notify import listen, notify
from tests.plugins.postgres import OwnServer
from tests.plugins.proxy import Proxy


async def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.02)


async def test_payload_arrives_and_stop_ends_it(database_dsn: Dsn) -> None:
    """A listener hears what is sent on its channel, whatever its name, until it is stopped."""
    heard: list[str] = []
    stop = asyncio.Event()
    task = asyncio.create_task(listen(database_dsn, 'chan"nel', heard.append, stop))
    await until(lambda: heard == [""])
    async with await connect(database_dsn, role="test") as connection:
        await notify(connection, 'chan"nel', "one")
        await notify(connection, "another", "two")
        async with connection.transaction():
            await notify(connection, 'chan"nel', "three")
    await until(lambda: heard == ["", "one", "three"])
    stop.set()
    await asyncio.wait_for(task, 60)


async def test_listening_goes_on_after_a_restart(private_postgres: OwnServer) -> None:
    """After a crash of the server the listener comes back by itself, and says that it was away."""
    heard: list[str] = []
    lost: list[TemporaryError] = []
    stop = asyncio.Event()
    task = asyncio.create_task(listen(private_postgres.dsn, "c", heard.append, stop, on_lost=lost.append))
    await until(lambda: heard == [""])
    await asyncio.to_thread(private_postgres.restart)
    await until(lambda: heard == ["", ""])
    assert lost
    async with await connect(private_postgres.dsn, role="test") as connection:
        await notify(connection, "c", "again")
    await until(lambda: heard == ["", "", "again"])
    stop.set()
    await asyncio.wait_for(task, 60)


async def test_cut_connection_is_made_again(
    database_dsn: Dsn, make_proxy: Callable[[str], Awaitable[Proxy]]
) -> None:
    """A connection that is reset on its way is replaced."""
    proxy = await make_proxy(database_dsn.reveal())
    heard: list[str] = []
    stop = asyncio.Event()
    task = asyncio.create_task(listen(Dsn(proxy.text(database_dsn.reveal())), "c", heard.append, stop))
    await until(lambda: heard == [""])
    proxy.cut()
    await until(lambda: heard == ["", ""])
    stop.set()
    await asyncio.wait_for(task, 60)


async def test_what_cannot_pass_is_raised() -> None:
    """A connection string that will never work ends the listening instead of being tried for ever."""
    with pytest.raises(PermanentError, match="cannot be parsed"):
        await listen(Dsn("nonsense"), "c", lambda _: None, asyncio.Event())


async def test_oversized_payload_is_refused(database_dsn: Dsn) -> None:
    """PostgreSQL's limit of a payload is told before the server does."""
    async with await connect(database_dsn, role="test") as connection:
        with pytest.raises(PermanentError, match="7999 bytes"):
            await notify(connection, "c", "x" * 8000)
