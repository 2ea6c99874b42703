"""Borrowing connections: bounded, clean, and alive."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest

from reconciler.errors import DatabaseUnavailable
from reconciler.postgres.connection import Connection, Connections, Dsn, connect
from tests.plugins.postgres import OwnServer, Server


@pytest.fixture
async def connections() -> AsyncIterator[Connections]:
    cache = Connections(per_database=2, total=3, wait_s=0.3)
    yield cache
    await cache.close()


async def pid_of(connection: Connection) -> int:
    cursor = await connection.execute("SELECT pg_catalog.pg_backend_pid()")
    row = await cursor.fetchone()
    assert row is not None
    return int(row[0])


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a Path would open one more


async def sessions(server: Server, database: str) -> int:
    rows = await asyncio.to_thread(
        server.run, f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"
    )
    return int(rows[0][0])


async def test_connection_is_lent_again(connections: Connections, database_dsn: Dsn) -> None:
    """One borrower after the other gets the same session, named for each."""
    async with connections.borrow(database_dsn, role="pass") as connection:
        first = await pid_of(connection)
    async with connections.borrow(database_dsn, role="control") as connection:
        assert await pid_of(connection) == first
        cursor = await connection.execute("SHOW application_name")
        assert await cursor.fetchone() == ("reconciler/control",)


async def test_an_idle_connection_is_given_away_once(connections: Connections, database_dsn: Dsn) -> None:
    """Who takes one out owns it: nobody else is lent it, it takes no place, and closing all spares it."""
    assert await connections.take_out(database_dsn, role="fence") is None
    async with connections.borrow(database_dsn, role="pass", self_contained=True) as connection:
        first = await pid_of(connection)
        assert await connections.take_out(database_dsn, role="fence") is None
    taken = await connections.take_out(database_dsn, role="fence")
    assert taken is not None
    try:
        assert await pid_of(taken) == first
        cursor = await taken.execute("SHOW application_name")
        assert await cursor.fetchone() == ("reconciler/fence",)
        async with connections.borrow(database_dsn) as one, connections.borrow(database_dsn) as two:
            assert first not in {await pid_of(one), await pid_of(two)}
        await connections.close()
        assert await pid_of(taken) == first
    finally:
        await taken.close()


async def test_nothing_is_left_to_the_next_borrower(connections: Connections, database_dsn: Dsn) -> None:
    """Settings, roles, temporary tables, locks and subscriptions of one borrower are gone for the next."""
    async with connections.borrow(database_dsn) as connection:
        first = await pid_of(connection)
        await connection.execute("SET search_path = information_schema")
        await connection.execute("SET lock_timeout = '1s'")
        await connection.execute("CREATE TEMPORARY TABLE leftover ()")
        await connection.execute("SELECT pg_advisory_lock(1)")
        await connection.execute("LISTEN somewhere")
        await connection.execute("SET ROLE pg_monitor")
    async with connections.borrow(database_dsn) as connection:
        assert await pid_of(connection) == first
        cursor = await connection.execute(
            """
            SELECT
                current_setting('search_path'),
                current_setting('lock_timeout'),
                current_user = session_user,
                to_regclass('pg_temp.leftover'),
                (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
                (SELECT count(*) FROM pg_listening_channels())
            """
        )
        assert await cursor.fetchone() == ("", "0", True, None, 0, 0)


async def test_a_session_that_nothing_is_left_in_stays_prepared(
    connections: Connections, database_dsn: Dsn
) -> None:
    """The next of its role finds it as it was, without an exchange; any other one prepared for itself."""
    shown = "SELECT current_setting('application_name'), current_setting('search_path'), pg_backend_pid()"
    last = "SELECT state_change FROM pg_stat_activity WHERE pid = %s"

    async def look(connection: Any) -> tuple[Any, ...]:
        return tuple(await (await connection.execute(shown)).fetchone())

    async with connections.borrow(database_dsn, role="control", leaves_nothing=True) as connection:
        first = await look(connection)
    assert first[:2] == ("reconciler/control", "")
    watcher = await connect(database_dsn, role="watcher")
    try:
        before = await (await watcher.execute(last, [first[2]])).fetchone()
        async with connections.borrow(database_dsn, role="control", leaves_nothing=True) as connection:
            assert await (await watcher.execute(last, [first[2]])).fetchone() == before
            assert await look(connection) == first
    finally:
        await watcher.close()
    async with connections.borrow(database_dsn, role="metrics", leaves_nothing=True) as connection:
        assert await look(connection) == ("reconciler/metrics", "", first[2])
    async with connections.borrow(database_dsn, role="pass") as connection:
        assert await look(connection) == ("reconciler/pass", "", first[2])
    async with connections.borrow(database_dsn, role="control", leaves_nothing=True) as connection:
        assert await look(connection) == first


async def test_prepared_statements_survive_the_reset(connections: Connections, database_dsn: Dsn) -> None:
    """What the driver prepared in one borrowing still works in the next."""
    for _ in range(4):
        async with connections.borrow(database_dsn) as connection:
            for number in range(8):
                cursor = await connection.execute("SELECT %s::int4 + 1", [number])
                assert await cursor.fetchone() == (number + 1,)


async def test_waiting_for_a_connection_is_bounded(connections: Connections, database_dsn: Dsn) -> None:
    """Past the limit a borrower waits, for a bounded time, and is told what the limit is."""
    async with connections.borrow(database_dsn), connections.borrow(database_dsn):
        with pytest.raises(DatabaseUnavailable, match="at most 2 to a database"):
            async with connections.borrow(database_dsn):
                pass
    async with connections.borrow(database_dsn):
        pass


async def test_waiter_gets_what_comes_back(database_dsn: Dsn) -> None:
    """Twenty borrowers share two connections, and each has its turn."""
    cache = Connections(per_database=2, total=2, wait_s=20)
    open_now = 0

    async def use() -> int:
        nonlocal open_now
        async with cache.borrow(database_dsn) as connection:
            open_now += 1
            assert open_now <= 2
            try:
                return await pid_of(connection)
            finally:
                open_now -= 1

    pids = await asyncio.gather(*(use() for _ in range(20)))
    assert len(set(pids)) <= 2
    await cache.close()


async def test_idle_ones_make_room_for_others(
    postgres_server: Server, connections: Connections, fresh_database: str, control_database: Dsn
) -> None:
    """Idle connections to one database never keep another one waiting, and the total is never passed."""
    one = postgres_server.dsn
    async with (
        connections.borrow(one, database=fresh_database),
        connections.borrow(one, database=fresh_database),
    ):
        pass
    assert await sessions(postgres_server, fresh_database) == 2
    async with connections.borrow(control_database), connections.borrow(control_database):
        deadline = time.monotonic() + 10
        while await sessions(postgres_server, fresh_database) > 1:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.02)


async def test_connection_left_in_a_transaction_is_closed(
    connections: Connections, database_dsn: Dsn
) -> None:
    """A transaction that a borrower left open is rolled back with its session."""
    async with connections.borrow(database_dsn) as connection:
        first = await pid_of(connection)
        await connection.execute("BEGIN")
        await connection.execute("CREATE TABLE public.half_way ()")
    async with connections.borrow(database_dsn) as connection:
        assert await pid_of(connection) != first
        cursor = await connection.execute("SELECT to_regclass('public.half_way')")
        assert await cursor.fetchone() == (None,)


async def test_error_of_a_borrower_passes_and_keeps_the_connection(
    connections: Connections, database_dsn: Dsn
) -> None:
    """An error in autocommit mode breaks no session."""
    used: list[int] = []

    async def fail() -> None:
        async with connections.borrow(database_dsn) as connection:
            used.append(await pid_of(connection))
            await connection.execute("SELECT 1/0")

    with pytest.raises(psycopg.errors.DivisionByZero):
        await fail()
    async with connections.borrow(database_dsn) as connection:
        assert used == [await pid_of(connection)]


async def test_cancelled_borrower_gives_its_place_back(connections: Connections, database_dsn: Dsn) -> None:
    """A task that is cancelled in the middle of a query leaves neither a busy session nor a lost place."""

    async def hang() -> None:
        async with connections.borrow(database_dsn) as connection:
            started.set()
            await connection.execute("SELECT pg_sleep(600)")

    for _ in range(3):
        started = asyncio.Event()
        task = asyncio.create_task(hang())
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    async with connections.borrow(database_dsn) as one, connections.borrow(database_dsn) as other:
        assert await pid_of(one) != await pid_of(other)


async def test_restart_of_the_server_is_not_noticed(private_postgres: OwnServer) -> None:
    """Connections that died with their server are replaced; borrowers see only the time it was away."""
    cache = Connections(per_database=2)
    async with cache.borrow(private_postgres.dsn), cache.borrow(private_postgres.dsn):
        pass
    await asyncio.to_thread(private_postgres.stop_immediate)
    with pytest.raises(DatabaseUnavailable):
        async with cache.borrow(private_postgres.dsn):
            pass
    await asyncio.to_thread(private_postgres.start)
    for _ in range(3):
        async with cache.borrow(private_postgres.dsn) as connection:
            assert await pid_of(connection)
    await cache.close()


async def test_session_ended_by_the_server_is_replaced(
    postgres_server: Server, connections: Connections, database_dsn: Dsn
) -> None:
    """An idle session that somebody ended is not lent again."""
    async with connections.borrow(database_dsn) as connection:
        first = await pid_of(connection)
    await asyncio.to_thread(postgres_server.run, f"SELECT pg_terminate_backend({first}, 5000)")
    async with connections.borrow(database_dsn) as connection:
        assert await pid_of(connection) != first


async def test_idle_connections_are_closed_after_a_while(
    postgres_server: Server, fresh_database: str, database_dsn: Dsn
) -> None:
    """A database that nobody asks for any more has no session of ours."""
    cache = Connections(idle_s=0.1)
    async with cache.borrow(database_dsn):
        pass
    deadline = time.monotonic() + 10
    while await sessions(postgres_server, fresh_database):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    await cache.close()


async def test_closing_closes_what_is_lent_too(
    postgres_server: Server, fresh_database: str, database_dsn: Dsn
) -> None:
    """After close, nothing is lent, and what comes back is closed; no file descriptor stays open."""
    before = open_files()
    cache = Connections()
    async with cache.borrow(database_dsn) as connection:
        await cache.close()
        assert await pid_of(connection)
        with pytest.raises(DatabaseUnavailable, match="stopping"):
            async with cache.borrow(database_dsn):
                pass
    assert connection.closed
    assert open_files() == before
