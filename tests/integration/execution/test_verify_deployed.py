"""Verify scripts of deployed changes on a real server: what they may do, and what is told of them."""

from collections.abc import AsyncIterator

import pytest

from reconciler.changes.script import Script
from reconciler.execution.verify import Verification, Verified, VerifyLimits, verify
from reconciler.postgres.connection import Connection, connect
from reconciler.state.program import Purpose, compile_script
from tests.plugins.postgres import Server

LIMITS = VerifyLimits(statement_timeout_s=1, lock_timeout_s=0.2, total_s=20)


@pytest.fixture
async def there(postgres_server: Server, fresh_database: str) -> AsyncIterator[Connection]:
    connection = await connect(postgres_server.dsn, database=fresh_database, role="verify")
    await connection.execute("CREATE TABLE t (id int); CREATE SEQUENCE s; INSERT INTO t VALUES (1)")
    yield connection
    await connection.close()


def script(name: str, text: str) -> Verification:
    written = Script(f"modules/shop/verify/{name}.sql", text)
    return Verification(name, compile_script(written, purpose=Purpose.VERIFY))


async def run(connection: Connection, *texts: str, limits: VerifyLimits = LIMITS) -> Verified:
    wanted = [script(f"c{number}", text) for number, text in enumerate(texts)]
    return await verify(connection, wanted, limits)


async def test_every_failure_is_told_with_the_words_of_the_server(there: Connection) -> None:
    """All that fail are listed in order, each with SQLSTATE, file and line; the others pass."""
    found = await run(
        there,
        "SELECT id FROM t WHERE false",
        "SELECT 1;\n\nSELECT id\n  FROM gone",
        "SELECT 1 / (SELECT count(*) FROM t WHERE id = 2)",
        "BEGIN;\nSELECT 1;\nROLLBACK;",
        "DO $$ BEGIN RAISE EXCEPTION 'it is wrong' USING DETAIL = 'by much'; END $$",
    )
    assert found.passed == 2
    assert [(row.change, row.sqlstate, row.line) for row in found.failed] == [
        ("c1", "42P01", 4),
        ("c2", "22012", 1),
        ("c4", "P0001", 1),
    ]
    assert found.failed[0].message == 'relation "gone" does not exist'
    assert found.failed[0].file == "modules/shop/verify/c1.sql"
    assert found.failed[2].message == "it is wrong (by much)"


async def test_nothing_is_written_unless_the_header_asks_and_then_not_kept(there: Connection) -> None:
    """A script that writes fails; one whose header says so may, and what it wrote is taken back."""
    found = await run(
        there,
        "INSERT INTO t VALUES (2)",
        "-- verify: writes\nINSERT INTO t VALUES (3);\nSELECT 1 / count(*) FROM t WHERE id = 3",
        "SELECT nextval('s')",
    )
    assert [(row.change, row.sqlstate) for row in found.failed] == [("c0", "25006"), ("c2", "25006")]
    assert found.passed == 1
    rows = await (await there.execute("SELECT id FROM t")).fetchall()
    assert rows == [(1,)]


async def test_no_script_finds_what_another_left(there: Connection) -> None:
    """Settings, roles and prepared statements end with their script."""
    left = "SET search_path = pg_catalog; SET ROLE pg_monitor; PREPARE p AS SELECT 1; SET work_mem = '64kB'"
    found = await run(
        there,
        left,
        left,
        "SELECT id FROM t; SELECT 1 / (current_setting('work_mem') <> '64kB')::int;"
        "SELECT 1 / (current_user = session_user)::int",
    )
    assert (found.failed, found.passed) == ([], 3)


async def test_script_that_never_ends_is_ended_and_the_rest_goes_on(there: Connection) -> None:
    """One statement has a limit, and a script that was ended is a failure of that script alone."""
    found = await run(there, "SELECT pg_sleep(60)", "SELECT 1")
    assert [(row.change, row.sqlstate) for row in found.failed] == [("c0", "57014")]
    assert found.passed == 1


async def test_waiting_for_others_is_no_failure(postgres_server: Server, there: Connection) -> None:
    """Who did not get a lock says nothing of the change; neither does a script there was no time for."""
    async with await connect(postgres_server.dsn, database=there.info.dbname, role="other") as other:
        await other.execute("BEGIN; LOCK TABLE t")
        found = await run(there, "SELECT 1 FROM t", "SELECT 1")
        await other.execute("ROLLBACK")
    assert ([row.change for row in found.unverified], found.failed, found.passed) == (["c0"], [], 1)
    late = await run(there, "SELECT 1", limits=VerifyLimits(total_s=-1))
    assert [row.change for row in late.unverified] == ["c0"]


async def test_writing_script_waits_for_who_has_the_fence(postgres_server: Server, there: Connection) -> None:
    """A script that writes runs beside no rollout; one that reads does."""
    async with await connect(postgres_server.dsn, database=there.info.dbname, role="other") as other:
        await other.execute("SELECT pg_advisory_lock(1380206158, 1)")
        found = await run(there, "-- verify: writes\nSELECT 1", "SELECT 1", limits=VerifyLimits(total_s=0.5))
    assert [row.change for row in found.unverified] == ["c0"]
    assert (found.failed, found.passed) == ([], 1)


async def test_many_rows_and_many_scripts_stay_small(there: Connection) -> None:
    """Rows are read a few at a time, and a thousand scripts with some failures are all told of."""
    texts = ["SELECT 1 / 0" if number % 100 == 7 else "SELECT 1" for number in range(1000)]
    found = await run(there, "SELECT repeat('x', 1000) FROM generate_series(1, 20000)", *texts)
    assert (found.passed, len(found.failed)) == (991, 10)
