"""The SQL of unit tests on a real server: what passes, and what each sort of failure says."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from reconciler.errors import TemporaryError
from reconciler.execution.unit_tests import run_unit_tests
from reconciler.objects.model import ObjectSort, Project, Rows, SqlObject, UnitTest
from reconciler.objects.project import compile_project
from reconciler.objects.unit_test_results import Outcome, UnitTestResult
from reconciler.objects.unit_test_sql import check, selected
from reconciler.postgres.dsn import Dsn
from tests.plugins.object_projects import named, project, sql_object, statement

ORDERS = named("public.orders")
RATE = replace(
    sql_object("core.rate", sort=ObjectSort.FUNCTION),
    creates=(
        statement(
            "CREATE FUNCTION ",
            named("core.rate"),
            "(n integer) RETURNS numeric LANGUAGE sql AS $$ SELECT n * 2.0 $$",
        ),
    ),
)
DAILY = replace(
    sql_object("Shop.daily", "core.rate"),
    creates=(
        statement(
            "CREATE MATERIALIZED VIEW ",
            named("Shop.daily"),
            " AS SELECT orders.day, ",
            named("core.rate"),
            "(orders.n) AS total, orders.note FROM ",
            ORDERS,
            " -- no semicolon",
            outside=[ORDERS],
        ),
    ),
    externals=frozenset([ORDERS]),
)
MOCK = Rows(
    relation=ORDERS,
    columns=(("day", "date"), ("n", "integer"), ("note", "json")),
    query="VALUES ('2024-01-01', '1', '{\"a\": 1}'), ('2024-01-01', '1', '{\"a\":1}') -- twice",
)
EXPECTED = (("day", "date"), ("total", "numeric(10, 2)"), ("note", "json"))


PASSING = "VALUES ('2024-01-01', 2, '{\"a\":1}'), ('2024-01-01', 2.00, '{\"a\":1}')"


@pytest.fixture
async def connection(database_dsn: Dsn) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(database_dsn.reveal()) as opened:
        await opened.execute("SET search_path = ''")
        yield opened


async def came(connection: Any, wanted: SqlObject, test: UnitTest, of: Project) -> UnitTestResult:
    (result,) = await run_unit_tests(connection, of, [(wanted, test)])
    return result


async def rows(connection: Any, wanted: SqlObject, test: UnitTest, of: Project) -> list[tuple[Any, ...]]:
    result = await came(connection, wanted, test, of)
    assert result.message == ""
    assert result.outcome is (Outcome.FAILED if result.rows else Outcome.PASSED)
    return [(row.label, *row.values) for row in result.rows]


def expecting(query: str) -> UnitTest:
    return UnitTest(
        name="x",
        line=1,
        mocks=(MOCK,),
        expected=Rows(relation=None, columns=EXPECTED, query=query),
    )


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (PASSING, []),
        ("SELECT '2024-01-01', 2, '{\"a\":1}'", [("UNEXPECTED", "2024-01-01", "2.0", '{"a": 1}')]),
        (
            "SELECT '2024-01-01'::date, g, '{\"a\":1}' FROM generate_series(2, 3) AS g",
            [
                ("MISSING", "2024-01-01", "3.00", '{"a": 1}'),
                ("UNEXPECTED", "2024-01-01", "2.0", '{"a": 1}'),
            ],
        ),
    ],
    ids=["pass", "duplicate", "both"],
)
async def test_rows_are_compared(connection: Any, query: str, found: list[tuple[Any, ...]]) -> None:
    """Equal rows pass however they are written; one row too few or too many is told, and nothing stays."""
    of = project(RATE, DAILY)
    assert await rows(connection, DAILY, expecting(query), of) == found
    left = await connection.execute(
        "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname ~ '^unit_test'"
    )
    assert await left.fetchall() == []


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT 1", "making the mock of public.orders: each UNION query must have the same number"),
        ("SELECT 1, 2, 3, 4", "making the mock of public.orders: each UNION query must have the same number"),
        ("SELECT 'soon', 1, '{}'", 'making view "Shop".daily: invalid input syntax for type date'),
    ],
    ids=["too few columns", "too many columns", "wrong type"],
)
async def test_mock_that_does_not_fit_is_an_error(connection: Any, query: str, said: str) -> None:
    """A mock with other columns than it declares never goes unnoticed, and the next test is not troubled."""
    test = replace(expecting(PASSING), mocks=(replace(MOCK, query=query),))
    result = await came(connection, DAILY, test, project(RATE, DAILY))
    assert result.outcome is Outcome.ERROR
    assert result.message.startswith(said)
    assert await rows(connection, DAILY, expecting(PASSING), project(RATE, DAILY)) == []


async def test_columns_of_the_result_have_to_agree(connection: Any) -> None:
    """Another type than expected and a column that is not expected are told, rows are not compared then."""
    columns = (("day", "timestamp"), ("total", "numeric"))
    test = expecting(PASSING)
    test = replace(test, expected=Rows(relation=None, columns=columns, query="SELECT now(), 1"))
    result = await came(connection, DAILY, test, project(RATE, DAILY))
    assert result.outcome is Outcome.ERROR
    assert "column note is not expected" in result.message
    assert "the result has column day as date, declared is timestamp without time zone" in result.message


async def test_mock_is_held_against_the_live_relation(connection: Any) -> None:
    """Where the relation is there, its columns have to be those of the mock."""
    await connection.execute("CREATE TABLE public.orders (day date, n bigint)")
    result = await came(connection, DAILY, expecting(PASSING), project(RATE, DAILY))
    assert result.outcome is Outcome.ERROR
    assert "in its mock, public.orders has no column note" in result.message
    assert "in its mock, public.orders has column n as bigint, declared is integer" in result.message


async def test_test_that_does_not_end_is_ended(connection: Any) -> None:
    """A statement that takes longer than it may is an error of its test."""
    endless = expecting("SELECT d, 1, '{}' FROM (SELECT now()::date, pg_sleep(1000)) AS never (d, n)")
    (result,) = await run_unit_tests(connection, project(RATE, DAILY), [(DAILY, endless)], timeout_s=0.2)
    assert result.outcome is Outcome.ERROR
    assert result.message.startswith("comparing rows: ")


async def test_what_is_not_mocked_is_an_error(connection: Any) -> None:
    """A test that would read a live relation does not run."""
    result = await came(connection, DAILY, replace(expecting(PASSING), mocks=()), project(RATE, DAILY))
    assert result.outcome is Outcome.ERROR
    assert "nothing stands for public.orders" in result.message


async def test_function_is_called(connection: Any) -> None:
    """A function's result is compared under the names of the columns expected."""
    test = UnitTest(
        name="x",
        line=1,
        mocks=(),
        expected=Rows(relation=None, columns=(("doubled", "numeric"),), query="SELECT 4"),
        arguments="2 -- two",
    )
    assert await rows(connection, RATE, test, project(RATE)) == []
    assert await rows(connection, RATE, replace(test, arguments="3"), project(RATE)) == [
        ("MISSING", "4"),
        ("UNEXPECTED", "6.0"),
    ]


FILES = {
    "core/open.sql": "CREATE VIEW open AS SELECT id, total FROM orders WHERE open",
    "core/rate.sql": (
        "CREATE FUNCTION rate(bound numeric) RETURNS TABLE (id integer) LANGUAGE sql AS $$\n"
        "  SELECT id FROM core.open WHERE total >= bound  -- those of core.open\n"
        "$$;\n"
        "EXECUTE UNIT TEST at_least FOR rate(10.5)\n"
        "  MOCK core.open(id integer, total numeric) AS (VALUES (1, 10), (2, 11) /* ) */)\n"
        "  EXPECTED(id integer) AS (SELECT 2);\n"
    ),
    "Ops/late.sql": (
        "CREATE VIEW late AS SELECT o.id, core.open.total FROM public.orders AS o JOIN core.open USING (id)\n"
        "  WHERE o.id IN (SELECT id FROM core.rate(5));\n"
        "EXECUTE UNIT TEST joined\n"
        "  MOCK public.orders(id integer) AS (VALUES (1), (2), (2))\n"
        "  MOCK core.open(id integer, total numeric) AS (VALUES (1, 1), (2, 7))\n"
        "  EXPECTED(id integer, total numeric) AS (VALUES (2, 7), (2, 7));\n"
    ),
    "Ops/rated.sql": (
        "CREATE VIEW rated AS SELECT r.id FROM core.rate(5) AS r;\n"
        "EXECUTE UNIT TEST through_a_routine\n"
        "  MOCK core.open(id integer, total numeric) AS (VALUES (1, 1), (2, 7))\n"
        "  EXPECTED(id integer) AS (VALUES (2));\n"
    ),
}


async def test_tests_of_files_run_as_they_are_written(connection: Any) -> None:
    """Unit tests that stand in compiled files pass over their mocks alone; none of the relations is there."""
    found = compile_project("objects", FILES, externals=["public.orders"], variables={})
    assert not found.problems
    assert found.project is not None
    of = found.project
    assert check(of) == ()
    told: list[str] = []

    async def tell(result: UnitTestResult) -> None:
        told.append(result.title)

    results = await run_unit_tests(connection, of, selected(of), told=tell)
    assert {result.test: result.outcome for result in results} == dict.fromkeys(
        ["at_least", "joined", "through_a_routine"], Outcome.PASSED
    )
    assert sorted(told) == [
        '"Ops".late#joined',
        '"Ops".rated#through_a_routine',
        "core.rate#at_least",
    ]


async def test_server_that_is_gone_is_no_result(connection: Any) -> None:
    """A lost connection ends the run with an error that may pass, and fails no test."""
    fatal = "SELECT now()::date, 1, '{}' FROM pg_terminate_backend(pg_backend_pid())"
    test = replace(expecting(PASSING), mocks=(replace(MOCK, query=fatal),))
    with pytest.raises(TemporaryError):
        await came(connection, DAILY, test, project(RATE, DAILY))
