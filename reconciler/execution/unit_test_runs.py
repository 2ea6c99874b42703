"""Run the unit tests of a project where there is a place for them: a scratch database, or one that is live.

In a live one nothing stays either: each test is a transaction that is rolled back.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import psycopg
from psycopg import sql

from reconciler.execution.scratch import scratch_database
from reconciler.execution.unit_tests import Told, run_unit_tests
from reconciler.frozen import frozen
from reconciler.objects.model import Project, SqlObject, UnitTest
from reconciler.objects.unit_test_results import UnitTestResult
from reconciler.postgres.connection import Connection, Dsn, connect, translate
from reconciler.postgres.queries import Queries

_ROLE = "unit-tests"
_QUERIES = Queries.load("reconciler.execution")


@frozen
class UnitTestRun:
    """Tests of one project; `extensions` are made in a scratch database before."""

    project: Project
    chosen: Sequence[tuple[SqlObject, UnitTest]]
    extensions: tuple[str, ...] = ()


async def run_in_scratch(
    server: Dsn, run: UnitTestRun, *, timeout_s: float, told: Told
) -> tuple[UnitTestResult, ...]:
    """Run tests in a database that is made for them and dropped."""
    async with scratch_database(server) as database, _connected(server, database) as connection:
        for extension in run.extensions:
            try:
                query = _QUERIES["create_extension"].format(extension=sql.Identifier(extension))
                await connection.execute(query)
            except psycopg.Error as error:
                raise translate(error, f"creating extension '{extension}' for unit tests") from error
        return await run_unit_tests(connection, run.project, run.chosen, timeout_s=timeout_s, told=told)


async def run_in_live(
    server: Dsn, database: str, run: UnitTestRun, *, timeout_s: float, told: Told
) -> tuple[UnitTestResult, ...]:
    """Run tests in a database that is there; what is live in it says of what types columns have to be."""
    async with _connected(server, database) as connection:
        return await run_unit_tests(connection, run.project, run.chosen, timeout_s=timeout_s, told=told)


@asynccontextmanager
async def _connected(server: Dsn, database: str) -> AsyncIterator[Connection]:
    connection = await connect(server, database=database, role=_ROLE)
    try:
        yield connection
    finally:
        await connection.close()
