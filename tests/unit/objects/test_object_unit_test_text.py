"""Unit tests in object files: cut out of the text, read, and checked against what the object reads."""

import pytest

from reconciler.objects.model import ObjectName, Rows, SqlObject
from reconciler.objects.project import Compiled, compile_project
from reconciler.objects.unit_test_text import cut

OTHERS = {
    "a/t.sql": "CREATE VIEW t AS SELECT 1 AS n",
    'b/T "2" .sql': 'CREATE VIEW "T ""2"" " AS SELECT 1 AS n',
}
VIEW = 'CREATE VIEW v AS SELECT t.n FROM t, b."T ""2"" ", orders;\n'


def compiled(text: str) -> Compiled:
    files = OTHERS | {"a/v.sql": text}
    return compile_project("p", files, externals=("public.orders",), variables={"x": "7"})


def read(text: str) -> SqlObject:
    made = compiled(text)
    assert made.problems == ()
    assert made.project is not None
    return made.project.objects[ObjectName("a", "v")]


def test_tests_are_read() -> None:
    """Mocks and expected rows keep their columns and queries as they are written, without comments around."""
    text = (
        VIEW
        + """
    EXECUTE UNIT TEST "First one"
      MOCK t (n int, "Other ""n"" " numeric(10, 2)[] -- a price
      ) AS (SELECT 1, '{2}' -- one row; or two
      ),
      MOCK b."T ""2"" "(n int) AS (VALUES (1), (:x)), MOCK public.orders(id text) AS (TABLE pg_class)
      EXPECTED (n int, m timestamp with time zone) AS (SELECT ')', f(';'));
    COMMENT ON VIEW v IS 'execute unit test'; execute unit test second expected(n int) as (select)
    """
    )
    first, second = read(text).tests
    assert (first.name, first.line, first.arguments) == ("First one", 3, "")
    assert first.mocks == (
        Rows(
            relation=ObjectName("a", "t"),
            columns=(("n", "int"), ('Other "n" ', "numeric(10, 2)[]")),
            query="SELECT 1, '{2}'",
        ),
        Rows(relation=ObjectName("b", 'T "2" '), columns=(("n", "int"),), query="VALUES (1), (7)"),
        Rows(relation=ObjectName("public", "orders"), columns=(("id", "text"),), query="TABLE pg_class"),
    )
    assert first.expected.columns == (("n", "int"), ("m", "timestamp with time zone"))
    assert first.expected.query == "SELECT ')', f(';')"
    assert (second.name, second.line, second.mocks) == ("second", 9, ())


def test_a_routine_says_what_it_is_called_with() -> None:
    """The arguments stand behind FOR; a routine without any has empty parentheses."""
    text = "CREATE FUNCTION v(n int) RETURNS SETOF int BEGIN ATOMIC SELECT n FROM t; END;"
    tests = """
        EXECUTE UNIT TEST one FOR v(1 + 1 /* two */ , x => ')') MOCK a.t(n int) AS (SELECT 1)
          EXPECTED (v int) AS (SELECT 1);
        EXECUTE UNIT TEST two FOR a.v() EXPECTED (v int) AS (SELECT 1);
    """
    first, second = read(text + tests).tests
    assert (first.arguments, second.arguments) == ("1 + 1 /* two */ , x => ')'", "")


def test_what_is_cut_out_leaves_places_alone() -> None:
    """Every character of a test becomes a blank, line ends excepted, so that problems behind keep theirs."""
    text = VIEW + "EXECUTE UNIT TEST x\n EXPECTED (n int) AS (SELECT 'ü');\nSELECT 1;"
    left = cut(text)
    assert len(left.text) == len(text)
    assert left.text.split() == [*VIEW.split(), "SELECT", "1;"]
    ((line, column),) = [(each.line, each.column) for each in compiled(text).problems]
    assert (line, column) == (4, 1)


EXPECTED = "EXPECTED (n int) AS (SELECT 1)"


@pytest.mark.parametrize(
    ("test", "column", "message"),
    [
        ("EXECUTE UNIT TEST", 18, "expected the name of the test, found the end"),
        ("EXECUTE UNIT TEST x", 20, "expected MOCK or EXPECTED, found the end"),
        ("EXECUTE UNIT TEST a.x " + EXPECTED, 23, "the name of a unit test has one part"),
        ("EXECUTE UNIT TEST x MOCK t (n int) AS (SELECT 1)", 49, "expected MOCK or EXPECTED, found the end"),
        ("EXECUTE UNIT TEST x MOCK t AS (SELECT 1)", 28, "expected '(', found 'as'"),
        ("EXECUTE UNIT TEST x EXPECTED (n int AS (SELECT 1)", 30, "the parenthesis is never closed"),
        ("EXECUTE UNIT TEST x EXPECTED () AS (SELECT 1)", 33, "a column is a name and a type"),
        ("EXECUTE UNIT TEST x EXPECTED (n) AS (SELECT 1)", 31, "a column is a name and a type"),
        ("EXECUTE UNIT TEST x EXPECTED (n int,) AS (SELECT 1)", 39, "a column is a name and a type"),
        ("EXECUTE UNIT TEST x EXPECTED (n int, n int) AS (SELECT 1)", 31, "two columns have one name"),
        ("EXECUTE UNIT TEST x EXPECTED (n no such) AS (SELECT 1)", 36, 'syntax error at or near "such"'),
        ("EXECUTE UNIT TEST x EXPECTED (n int) (SELECT 1)", 38, "expected AS (query), found '('"),
        ("EXECUTE UNIT TEST x EXPECTED (n int) AS (SELECT FROM FROM)", 54, 'syntax error at or near "FROM"'),
        ("EXECUTE UNIT TEST x EXPECTED (n int) AS (DELETE FROM t)", 42, "must be one query"),
        ("EXECUTE UNIT TEST x EXPECTED (n int) AS (SELECT 1; SELECT 2)", 42, "must be one query"),
        ("EXECUTE UNIT TEST x EXPECTED (n int) AS (SELECT 1 INTO y)", 42, "must be one query"),
        ("EXECUTE UNIT TEST x EXPECTED (n int) AS ()", 41, "must be one query"),
        (f"EXECUTE UNIT TEST x {EXPECTED} AND", 52, "expected ';', found 'and'"),
        (f"EXECUTE UNIT TEST x FOR w {EXPECTED}", 25, "is for another object than 'a.v'"),
        (f"EXECUTE UNIT TEST x FOR v(1) {EXPECTED}", 25, "a view takes no arguments"),
        (f"EXECUTE UNIT TEST x {EXPECTED}; EXECUTE UNIT TEST X {EXPECTED}", 53, "'x' stands twice"),
        (f"EXECUTE UNIT TEST x MOCK w (n int) AS (SELECT 1) {EXPECTED}", 26, "mocks 'w', which the"),
        (f"EXECUTE UNIT TEST x MOCK b.t (n int) AS (SELECT 1) {EXPECTED}", 26, "mocks 'b.t', which the view"),
        (f"EXECUTE UNIT TEST x {'MOCK t (n int) AS (TABLE t) ' * 2}{EXPECTED}", 1, "mocks one relation"),
    ],
)  # fmt: skip
def test_tests_that_do_not_read_on(test: str, column: int, message: str) -> None:
    """What is wrong with a test is told where it is wrong, and the rest of the file is read all the same."""
    (problem,) = compiled(VIEW + test).problems
    assert message in problem.message
    assert (problem.line, problem.column) == (2, column)


def test_a_function_must_be_called_and_a_procedure_cannot() -> None:
    """A test of a function says what it calls; a procedure returns no rows to compare."""
    function = f"CREATE FUNCTION v() RETURN 1; EXECUTE UNIT TEST x {EXPECTED}"
    procedure = f"CREATE PROCEDURE v() BEGIN ATOMIC END; EXECUTE UNIT TEST x FOR v() {EXPECTED}"
    assert "does not say what it calls" in compiled(function).problems[0].message
    assert "returns no rows to test" in compiled(procedure).problems[0].message
