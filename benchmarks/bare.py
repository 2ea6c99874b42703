"""Bare baselines: what a loop of psycopg calls needs for the same work, without plan, record, lock or log."""

import asyncio
import subprocess
import sys
import time
from collections.abc import Sequence

import psycopg
from psycopg import conninfo

from reconciler.snapshot.transaction import QUERIES as SNAPSHOT
from reconciler.tracking.sql import QUERIES as TRACKING

READS_SIDE_BY_SIDE = 8
WRITES_SIDE_BY_SIDE = 4
RECORD = (
    b"CREATE TABLE IF NOT EXISTS public.bare_record (name text, at timestamptz DEFAULT clock_timestamp());"
    b"INSERT INTO public.bare_record VALUES ('change')"
)


async def read_all(dsn: str, databases: Sequence[str]) -> float:
    """Seconds to connect to each database and ask what a pass has to ask, eight side by side."""
    slots = asyncio.Semaphore(READS_SIDE_BY_SIDE)

    async def one(database: str) -> None:
        async with slots:
            target = conninfo.make_conninfo(dsn, dbname=database)
            async with await psycopg.AsyncConnection.connect(target, autocommit=True) as connection:
                for query in (TRACKING["find_tracking"], TRACKING["read_tracked"]):
                    await (await connection.execute(query)).fetchall()
                async with connection.transaction():
                    for query in (
                        SNAPSHOT["database_facts"],
                        SNAPSHOT["probe"],
                        SNAPSHOT["system_identifier"],
                    ):
                        await (await connection.execute(query)).fetchall()

    began = time.perf_counter()
    await asyncio.gather(*(one(database) for database in databases))
    return time.perf_counter() - began


async def write_all(dsn: str, scripts: Sequence[str]) -> float:
    """Seconds to connect and commit each script with a record of it, four side by side.

    Each goes to a database of its own that no daemon looks at, made before and dropped after.
    """
    slots = asyncio.Semaphore(WRITES_SIDE_BY_SIDE)

    async def one(number: int, script: str) -> None:
        async with slots:
            target = conninfo.make_conninfo(dsn, dbname=f"bare_{number}")
            async with await psycopg.AsyncConnection.connect(target) as connection:
                await connection.execute(script.encode())
                await connection.execute(RECORD)

    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as server:
        for number in range(len(scripts)):
            await server.execute(f"CREATE DATABASE bare_{number}".encode())
        try:
            began = time.perf_counter()
            await asyncio.gather(*(one(number, script) for number, script in enumerate(scripts)))
            return time.perf_counter() - began
        finally:
            for number in range(len(scripts)):
                await server.execute(f"DROP DATABASE bare_{number} WITH (FORCE)".encode())


async def claims(dsn: str, rounds: int) -> list[float]:
    """Seconds from a row that is written and notified to its being taken by a listener, on the server's clock."""
    taken = []
    async with (
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as writer,
        await psycopg.AsyncConnection.connect(dsn, autocommit=True) as listener,
    ):
        await writer.execute(
            "CREATE TABLE bare_queue (id int, at timestamptz DEFAULT clock_timestamp(), taken timestamptz)"
        )
        await listener.execute("LISTEN bare_queue")
        try:
            for number in range(rounds):
                async with writer.transaction():
                    await writer.execute("INSERT INTO bare_queue (id) VALUES (%s)", (number,))
                    await writer.execute("NOTIFY bare_queue")
                async for _ in listener.notifies(timeout=10, stop_after=1):
                    break
                cursor = await listener.execute(
                    "UPDATE bare_queue SET taken = clock_timestamp() WHERE id = (SELECT id FROM bare_queue"
                    " WHERE taken IS NULL LIMIT 1 FOR UPDATE SKIP LOCKED)"
                    " RETURNING extract(epoch FROM taken - at)::float8"
                )
                row = await cursor.fetchone()
                assert row is not None
                taken.append(row[0])
        finally:
            await writer.execute("DROP TABLE bare_queue")
    return taken


def takeovers(dsn: str, rounds: int) -> list[float]:
    """Seconds from the death of a process that holds a session lock until somebody who polls for it has it."""
    program = (
        "import psycopg, sys, time; c = psycopg.connect(sys.argv[1], autocommit=True);"
        "c.execute('SELECT pg_advisory_lock(1, 1)'); print('held', flush=True); c.execute('SELECT pg_sleep(60)')"
    )
    taken = []
    with psycopg.connect(dsn, autocommit=True) as other:
        for _ in range(rounds):
            process = subprocess.Popen([sys.executable, "-c", program, dsn], stdout=subprocess.PIPE)
            assert process.stdout is not None
            process.stdout.readline()
            process.kill()
            began = time.perf_counter()
            # What the dead one had asked for goes on until the server notices: we end it, as a fence does.
            other.execute(
                "SELECT pg_terminate_backend(l.pid) FROM pg_locks AS l WHERE l.locktype = 'advisory'"
                " AND l.classid = 1 AND l.objid = 1 AND l.pid <> pg_backend_pid()"
            )
            while True:
                row = other.execute("SELECT pg_try_advisory_lock(1, 1)").fetchone()
                if row is not None and row[0]:
                    break
                time.sleep(0.01)
            taken.append(time.perf_counter() - began)
            other.execute("SELECT pg_advisory_unlock(1, 1)")
            process.wait(timeout=20)
            process.stdout.close()
    return taken
