"""The SQL of unit tests on a real server: what passes, and what each sort of failure says."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from reconciler.objects.model import ObjectSort, Project, Rows, SqlObject, UnitTest
from reconciler.objects.project import compile_project
from reconciler.objects.unit_test_sql import selected, texts
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


@pytest.fixture
async def connection(database_dsn: Dsn) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(database_dsn.reveal()) as opened:
        await opened.execute("SET search_path = ''")
        yield opened


async def rows(connection: Any, wanted: SqlObject, test: UnitTest, of: Project) -> list[tuple[Any, ...]]:
    made = texts(wanted, test, of, scratch="unit_test")
    async with connection.transaction(force_rollback=True):
        for text in made.setup:
            await connection.execute(text)
        return await (await connection.execute(made.compare)).fetchall()


def expecting(query: str, *, mock: Rows = MOCK) -> UnitTest:
    return UnitTest(
        name="x",
        line=1,
        mocks=(mock,),
        expected=Rows(relation=None, columns=EXPECTED, query=query),
    )


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("VALUES ('2024-01-01', 2, '{\"a\":1}'), ('2024-01-01', 2.00, '{\"a\":1}')", []),
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
    ("mock", "said"),
    [
        (replace(MOCK, query="SELECT 1"), "each UNION query must have the same number of columns"),
        (replace(MOCK, query="SELECT 1, 2, 3, 4"), "each UNION query must have the same number of columns"),
        (replace(MOCK, query="SELECT 'soon', 1, '{}'"), "invalid input syntax for type date"),
    ],
    ids=["too few columns", "too many columns", "wrong type"],
)
async def test_mock_that_does_not_fit_is_refused(connection: Any, mock: Rows, said: str) -> None:
    """A mock with other columns than it declares never goes unnoticed."""
    with pytest.raises(psycopg.Error, match=said):
        await rows(connection, DAILY, expecting("SELECT NULL, 1, NULL", mock=mock), project(RATE, DAILY))


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
}


async def test_tests_of_files_run_as_they_are_written(connection: Any) -> None:
    """Unit tests that stand in compiled files pass over their mocks alone; none of the relations is there."""
    found = compile_project("objects", FILES, externals=["public.orders"], variables={})
    assert not found.problems
    assert found.project is not None
    of = found.project
    came = {test.name: await rows(connection, wanted, test, of) for wanted, test in selected(of)}
    assert came == {"at_least": [], "joined": []}
