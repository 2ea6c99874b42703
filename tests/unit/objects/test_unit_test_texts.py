"""The SQL of unit tests, what is wrong with them before they run, and what came of them as text."""

from dataclasses import replace
from xml.etree import ElementTree as ET

import pytest

from reconciler.catalog.sql_text import split
from reconciler.errors import InvalidInput, NotFound
from reconciler.objects.model import ObjectSort, Project, Rows, SqlObject, UnitTest
from reconciler.objects.stable import Column
from reconciler.objects.unit_test_results import (
    DifferingRow,
    Outcome,
    UnitTestResult,
    difference,
    junit,
    summary,
)
from reconciler.objects.unit_test_sql import (
    ROWS_MAX,
    UnitTestTexts,
    check,
    mock_problems,
    result_problems,
    selected,
    texts,
)
from tests.plugins.object_projects import named, project, sql_object

FUNCTION = ObjectSort.FUNCTION
ONE = (("one", "integer"),)


def rows(relation: str | None, query: str = "SELECT 1") -> Rows:
    return Rows(relation=named(relation) if relation else None, columns=ONE, query=query)


def unit_test(name: str, *mocks: str, arguments: str = "") -> UnitTest:
    return UnitTest(
        name=name,
        line=7,
        mocks=tuple(rows(mock) for mock in mocks),
        expected=rows(None),
        arguments=arguments,
    )


CORE = sql_object("core.open")
LATE = sql_object("ops.late", "core.open")
API = sql_object("api.late", "ops.late")


def setup(made: UnitTestTexts) -> list[str]:
    return [one.text for one in made.setup]


def problems(wanted: SqlObject, test: UnitTest, *others: SqlObject) -> list[str]:
    with pytest.raises(InvalidInput) as refused:
        texts(wanted, test, project(*others, wanted), scratch="unit")
    return [str(problem) for problem in refused.value.problems]


def test_relations_stand_in_schemas_of_their_own_under_their_names() -> None:
    """The object is made with its text as it is, over views that have the names of what it reads."""
    made = texts(LATE, unit_test("empty", "core.open"), project(CORE, LATE), scratch="unit")
    assert setup(made)[:3] == ["CREATE SCHEMA unit_0", "CREATE SCHEMA unit_1", "CREATE SCHEMA unit_rows"]
    assert setup(made)[3].startswith("CREATE VIEW unit_0.open AS SELECT CAST(given.one AS integer) AS one")
    assert setup(made)[4] == "CREATE view unit_1.late AS SELECT 1 AS one FROM unit_0.open"
    assert setup(made)[5] == "CREATE VIEW unit_rows.actual AS SELECT * FROM unit_1.late"
    assert made.mocked == {named("core.open"): named("unit_0.open")}
    for text in (*setup(made), made.compare):
        assert len(split(text)) == 1


def test_both_sides_are_subtracted_with_duplicates() -> None:
    """Rows are compared both ways, each as often as it stands there, and labelled by who lacks them."""
    made = texts(LATE, unit_test("empty", "core.open"), project(CORE, LATE), scratch="unit")
    assert made.compare == (
        "WITH actual AS MATERIALIZED (SELECT one FROM unit_rows.actual), "
        "expected AS MATERIALIZED (SELECT one FROM unit_rows.expected) "
        "SELECT 'MISSING', CAST(one AS text) FROM "
        "(SELECT one FROM expected EXCEPT ALL SELECT one FROM actual) AS differing UNION ALL "
        "SELECT 'UNEXPECTED', CAST(one AS text) FROM "
        "(SELECT one FROM actual EXCEPT ALL SELECT one FROM expected) AS differing "
        f"ORDER BY 1, 2 LIMIT {ROWS_MAX + 1}"
    )


def test_types_without_equality_are_compared_as_others() -> None:
    """Values that PostgreSQL cannot compare are, as what it can."""
    expected = Rows(relation=None, columns=(("one", "JSON"), ("Two", "xml")), query="SELECT '{}', '<a/>'")
    test = replace(unit_test("x"), expected=expected)
    made = texts(CORE, test, project(CORE), scratch="unit")
    assert (
        'SELECT CAST(one AS jsonb) AS one, CAST("Two" AS text) AS "Two" FROM unit_rows.actual' in made.compare
    )


def test_routines_are_made_as_they_are_with_what_they_call() -> None:
    """Nothing stands for a routine; what it reads is mocked, and what it calls is made first."""
    base = sql_object("core.base", "core.open", sort=FUNCTION)
    rate = sql_object("core.rate", "core.base", sort=FUNCTION)
    view = sql_object("ops.late", "core.rate")
    made = texts(view, unit_test("x", "core.open"), project(CORE, base, rate, view), scratch="unit")
    creates = [text for text in setup(made) if "$$" in text]
    assert [text.split("(")[0] for text in creates] == [
        "CREATE function unit_0.base",
        "CREATE function unit_0.rate",
    ]
    assert "FROM unit_0.open $$" in creates[0]


def test_routine_is_called_with_its_arguments() -> None:
    """The result of a function is compared under the names of the columns expected."""
    rate = sql_object("core.rate", sort=FUNCTION)
    made = texts(rate, unit_test("x", arguments="1, 'a' -- first"), project(rate), scratch="unit")
    assert setup(made)[-2] == (
        "CREATE VIEW unit_rows.actual AS SELECT * FROM unit_0.rate(\n1, 'a' -- first\n) AS result (one)"
    )


def test_every_dependency_is_mocked_and_nothing_else() -> None:
    """What nothing stands for, what is not read and what stands twice are told together."""
    view = replace(LATE, externals=frozenset([named("public.orders")]))
    found = problems(view, unit_test("x", "core.other", "core.other"), CORE, sql_object("core.other"))
    place = "objects/ops/late.sql:7: unit test 'x' of view ops.late: "
    shape = "(column type, …) AS (query)"
    assert [told.removeprefix(place) for told in found] == [
        f"nothing stands for core.open, which it reads (add MOCK core.open{shape})",
        f"nothing stands for public.orders, which it reads (add MOCK public.orders{shape})",
        "core.other is mocked, and it does not read it (take it out)",
        "core.other is mocked twice (keep one of them)",
    ]


def test_what_a_called_routine_reads_is_mocked_too() -> None:
    """A relation that is only read by a routine that is called is named with that routine."""
    rate = sql_object("core.rate", "core.open", sort=FUNCTION)
    (told,) = problems(sql_object("ops.late", "core.rate"), unit_test("x"), CORE, rate)
    assert "nothing stands for core.open, which function core.rate, which it calls, reads" in told


def test_tests_are_checked_without_being_run() -> None:
    """All that files show to be wrong with tests is told of the whole project at once."""
    wrong = replace(LATE, tests=(unit_test("x"), unit_test("y", "core.open")))
    found = check(project(CORE, wrong, replace(API, tests=(unit_test("z"),))))
    assert [problem.message.partition(":")[0] for problem in found] == [
        "unit test 'x' of view ops.late",
        "unit test 'z' of view api.late",
    ]


def test_only_what_has_rows_is_tested() -> None:
    """A procedure has no result, and a view takes no arguments."""
    procedure = sql_object("core.p", sort=ObjectSort.PROCEDURE)
    (told,) = problems(procedure, unit_test("x"))
    assert "a procedure has no result that could be compared" in told
    (told,) = problems(CORE, unit_test("x", arguments="1"))
    assert "a view is called with nothing" in told


def columns(text: str) -> tuple[Column, ...]:
    pairs = (part.strip().split(" ") for part in text.split(",") if part.strip())
    return tuple(Column(name=name, type=type_name) for name, type_name in pairs)


def test_columns_of_a_result_have_to_agree() -> None:
    """Missing, surplus and other columns are told; their order is not looked at."""
    test = unit_test("x")
    assert result_problems(LATE, test, columns("a int, b text"), columns("b text, a int")) == ()
    found = result_problems(LATE, test, columns("a int, b text, d int"), columns("a bigint, b text, c int"))
    assert [problem.message.partition(": ")[2] for problem in found] == [
        "column c is not in the result",
        "column d is not expected",
        "the result has column a as int, declared is bigint",
    ]


def test_columns_of_a_mock_are_those_of_the_live_relation() -> None:
    """A mock may have fewer columns than what it stands for, and no other ones."""
    test = unit_test("x", "core.open")
    relation = named("core.open")
    assert mock_problems(LATE, test, relation, columns("a int, b text"), columns("b text")) == ()
    found = mock_problems(LATE, test, relation, columns("a int"), columns("a text, c int"))
    assert [problem.message.partition(": ")[2] for problem in found] == [
        "in its mock, core.open has no column c",
        "in its mock, core.open has column a as int, declared is text",
    ]


def with_tests() -> Project:
    first = replace(CORE, tests=(unit_test("empty"), unit_test("full")))
    second = replace(LATE, tests=(unit_test("empty", "core.open"),))
    return project(first, second)


@pytest.mark.parametrize(
    ("filters", "found"),
    [
        ([], ["core.open#empty", "core.open#full", "ops.late#empty"]),
        (["core.open#full"], ["core.open#full"]),
        (["core.open"], ["core.open#empty", "core.open#full"]),
        (["*#empty"], ["core.open#empty", "ops.late#empty"]),
        (["ops.*", "*#full"], ["core.open#full", "ops.late#empty"]),
    ],
    ids=["all", "one", "object", "name", "two"],
)
def test_filters_select_tests(filters: list[str], found: list[str]) -> None:
    """A filter names object and test, with stars; several of them add up."""
    chosen = selected(with_tests(), filters)
    assert [f"{one.name.schema}.{one.name.name}#{test.name}" for one, test in chosen] == found


def test_filter_that_matches_nothing_is_an_error() -> None:
    """A mistyped filter never passes for success."""
    with pytest.raises(NotFound, match=r"no unit test matches 'ops\.lat#empty'"):
        selected(with_tests(), ["core.open", "ops.lat#empty"])


def result(outcome: Outcome, *found: DifferingRow, message: str = "", test: str = "x") -> UnitTestResult:
    return UnitTestResult(
        name=named("ops.late"),
        path="objects/ops/late.sql",
        line=7,
        test=test,
        outcome=outcome,
        columns=("day", "total"),
        rows=found,
        message=message,
    )


MISSING_ROW = DifferingRow(label="MISSING", values=("2024-01-01", None))
UNEXPECTED_ROW = DifferingRow(label="UNEXPECTED", values=("2024-01-01", "1\n2"))


def test_difference_is_a_table() -> None:
    """Rows that differ stand under the names of their columns, labelled, each on one line."""
    assert difference(result(Outcome.FAILED, MISSING_ROW, UNEXPECTED_ROW)) == (
        "           | day        | total",
        "MISSING    | 2024-01-01 | NULL",
        "UNEXPECTED | 2024-01-01 | 1\\n2",
    )


def test_difference_is_bounded() -> None:
    """Of many rows and long values as much is shown as a person reads."""
    long = DifferingRow(label="MISSING", values=("x" * 10_000, ""))
    lines = difference(result(Outcome.FAILED, *[long] * (ROWS_MAX + 1)))
    assert len(lines) == ROWS_MAX + 2
    assert lines[-1] == "and more"
    assert max(map(len, lines)) < 300


def test_summary_counts() -> None:
    """One line says how many passed, failed and could not be compared."""
    passed, failed = result(Outcome.PASSED), result(Outcome.FAILED, MISSING_ROW)
    assert summary([passed]) == "1 unit test: 1 passed"
    assert summary([passed, failed, failed]) == "3 unit tests: 1 passed, 2 failed"
    assert summary([]) == "0 unit tests"


def test_junit_names_every_case() -> None:
    """JUnit XML has a suite for each object and counts failures and errors apart."""
    root = ET.fromstring(
        junit(
            [
                result(Outcome.PASSED),
                result(Outcome.FAILED, MISSING_ROW, UNEXPECTED_ROW, test="rows"),
                result(Outcome.ERROR, message='relation "x" does not exist\nLINE 1', test="error"),
            ]
        )
    )
    assert (root.attrib["tests"], root.attrib["failures"], root.attrib["errors"]) == ("3", "1", "1")
    (suite,) = root
    assert suite.attrib["name"] == "ops.late"
    passed, failed, broken = suite
    assert list(passed) == []
    assert failed[0].tag == "failure"
    assert failed[0].attrib["message"] == "rows differ: 1 MISSING, 1 UNEXPECTED"
    assert (failed[0].text or "").startswith("           | day")
    assert broken[0].tag == "error"
    assert broken[0].attrib["message"] == 'relation "x" does not exist'
    assert (passed.attrib["file"], passed.attrib["line"]) == ("objects/ops/late.sql", "7")


def test_junit_is_xml_whatever_it_holds() -> None:
    """Characters that XML cannot hold, markup and endless messages give a document that reads on."""
    noise = "\x00\x1b]]><a b='\ud800" + "x" * 200_000
    root = ET.fromstring(junit([result(Outcome.ERROR, message=noise, test="<&\x01>")]))
    (case,) = root[0]
    assert case.attrib["name"] == "<&\ufffd>"
    assert len(case[0].text or "") < 70_000
