"""Run unit tests of SQL objects in a database, each in a transaction that is rolled back; it keeps nothing.

The database may be empty: what a test reads is made of its mocks. What is made by names of the test's own
schemas is in nobody's way.
"""

import time
from collections.abc import Awaitable, Callable, Sequence

import psycopg

from reconciler.errors import InvalidInput
from reconciler.objects.model import ObjectName, Project, SqlObject, UnitTest
from reconciler.objects.stable import Column
from reconciler.objects.unit_test_results import DifferingRow, Outcome, UnitTestResult
from reconciler.objects.unit_test_sql import UnitTestTexts, mock_problems, result_problems, texts
from reconciler.postgres.connection import Connection, translate
from reconciler.postgres.queries import Queries

SCRATCH = "unit_test"
"""What the names of scratch schemas begin with."""

TIMEOUT_S = 60.0
"""What one statement of a test may take."""

Told = Callable[[UnitTestResult], Awaitable[None]]

_QUERIES = Queries.load("reconciler.execution")


async def _nobody(_result: UnitTestResult) -> None:
    return


async def run_unit_tests(
    connection: Connection,
    project: Project,
    chosen: Sequence[tuple[SqlObject, UnitTest]],
    *,
    timeout_s: float = TIMEOUT_S,
    told: Told = _nobody,
) -> tuple[UnitTestResult, ...]:
    """Run tests one after another and tell each result; only a server that is gone raises."""
    results = []
    for wanted, test in chosen:
        begun = time.monotonic()
        outcome, columns, rows, message = await _run(connection, project, wanted, test, timeout_s)
        result = UnitTestResult(
            name=wanted.name,
            path=wanted.path,
            line=test.line,
            test=test.name,
            outcome=outcome,
            columns=columns,
            rows=rows,
            message=message,
            duration_s=time.monotonic() - begun,
        )
        results.append(result)
        await told(result)
    return tuple(results)


_Came = tuple[Outcome, tuple[str, ...], tuple[DifferingRow, ...], str]


async def _run(
    connection: Connection, project: Project, wanted: SqlObject, test: UnitTest, timeout_s: float
) -> _Came:
    try:
        made = texts(wanted, test, project, scratch=SCRATCH)
    except InvalidInput as error:
        return _broken(str(error))
    running = _Running(connection, made)
    try:
        async with connection.transaction(force_rollback=True):
            await connection.execute(
                _QUERIES["limit_unit_test"], {"timeout_ms": str(round(timeout_s * 1000))}
            )
            await running.set_up()
            problems = await running.problems(wanted, test)
            rows = () if problems else await running.compared()
    except psycopg.Error as error:
        failure = translate(error, running.doing)
        if connection.closed or not error.sqlstate:
            raise failure from error
        return _broken(str(failure))
    if problems:
        return _broken("\n".join(problems))
    columns = tuple(name for name, _ in test.expected.columns)
    return (Outcome.FAILED if rows else Outcome.PASSED), columns, rows, ""


def _broken(message: str) -> _Came:
    return Outcome.ERROR, (), (), message


class _Running:
    """One test on its way; `doing` is what it is at."""

    def __init__(self, connection: Connection, made: UnitTestTexts) -> None:
        self._connection = connection
        self._made = made
        self.doing = "limiting the transaction"

    async def set_up(self) -> None:
        """Make mocks and objects."""
        for one in self._made.setup:
            self.doing = f"making {one.makes}"
            await self._connection.execute(one.text.encode())

    async def problems(self, wanted: SqlObject, test: UnitTest) -> tuple[str, ...]:
        """Hold the columns of the result and of the mocks against those that they should have."""
        self.doing = "comparing columns"
        made = self._made
        mocked = tuple(made.mocked.items())
        asked = [made.actual, made.expected, *(each for pair in mocked for each in pair)]
        actual, expected, *others = await self._columns(asked)
        found = list(result_problems(wanted, test, actual, expected))
        for number, (relation, _) in enumerate(mocked):
            live, mock = others[2 * number : 2 * number + 2]
            if live:  # a scratch database has none of them
                found += mock_problems(wanted, test, relation, live, mock)
        return tuple(str(problem) for problem in found)

    async def compared(self) -> tuple[DifferingRow, ...]:
        """Return the rows that differ."""
        self.doing = "comparing rows"
        cursor = await self._connection.execute(self._made.compare.encode())
        return tuple(DifferingRow(label=row[0], values=row[1:]) for row in await cursor.fetchall())

    async def _columns(self, relations: Sequence[ObjectName]) -> list[list[Column]]:
        cursor = await self._connection.execute(
            _QUERIES["unit_test_columns"],
            {
                "schemas": [name.schema for name in relations],
                "relations": [name.name for name in relations],
            },
        )
        columns: list[list[Column]] = [[] for _ in relations]
        for place, name, type_name in await cursor.fetchall():
            columns[place - 1].append(Column(name=name, type=type_name))
        return columns
