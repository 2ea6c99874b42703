"""Variables in object files: what is one, what it becomes, and places of problems behind it."""

import pytest

from reconciler.objects.model import ObjectName
from reconciler.objects.project import compile_project
from reconciler.objects.variables import TEXT_MAX, substitute

VALUES = {"x": "1", "who": "o'Neil \\", "name": 'Q "1"', "empty": "", "lines": "1,\n\n2", "again": ":x"}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("SELECT :x, :'x', :\"x\"", "SELECT 1, '1', \"1\""),
        ("SELECT :'who', :\"name\"", 'SELECT E\'o\'\'Neil \\\\\', "Q ""1"""'),
        ("SELECT :x::text, a[1:2], a[ :x ], '1'::int", "SELECT 1::text, a[1:2], a[ 1 ], '1'::int"),
        ("SELECT ':x', \":x\", $$:x$$, $a$:x$a$, E'\\':x' -- :x\n/* :x /* :x */ */", None),
        ("SELECT x:=1, a ? :x || :empty || :again", "SELECT x:=1, a ? 1 ||  || :x"),
        ("SELECT :x:x, :'x':x", "SELECT 11, '1'1"),
        ("SELECT 'open :x", None),
        (":x", "1"),
        ("SELECT : x, :'x y', :''", None),
    ],
)
def test_variables_are_those_of_psql(text: str, read: str | None) -> None:
    """Names behind a colon are replaced outside of quotes, comments and dollar quotes, values as they are."""
    found, findings = substitute(text, VALUES)
    assert found.text == (text if read is None else read)
    assert findings == ()


def test_characters_know_where_they_came_from() -> None:
    """Behind a variable places are those of the written text; within one they are the variable's."""
    text = "SELECT :lines, :'x' AS n, y"
    found, _ = substitute(text, VALUES)
    assert found.text == "SELECT 1,\n\n2, '1' AS n, y"
    for word in ("SELECT", "AS", ", y", ", y"):
        assert found.written(found.text.index(word)) == text.index(word)
    assert {found.written(place) for place in range(7, 12)} == {text.index(":lines")}
    assert found.written(found.text.index("'1'") + 2) == text.index(":'x'")
    assert found.written(len(found.text)) == len(text)


def test_unknown_variables_are_told_all_at_once() -> None:
    """A name that nobody declared is a mistake, with the nearest that is, or all."""
    made = compile_project(
        "p",
        {"a/v.sql": "CREATE VIEW v AS\nSELECT :lime, b[1:zz], :'y'"},
        externals=(),
        variables={"line": "1"},
    )
    assert [(each.line, each.column, each.message, each.hint) for each in made.problems] == [
        (
            2, 8, "unknown variable 'lime'",
            "did you mean 'line'?; a slice of an array is written with a blank behind the colon",
        ),
        (
            2, 18, "unknown variable 'zz'",
            "known variables: line; a slice of an array is written with a blank behind the colon",
        ),
        (2, 24, "unknown variable 'y'", "known variables: line"),
    ]  # fmt: skip


def test_places_are_those_of_the_file_as_it_is_written() -> None:
    """Lines of statements and places of problems do not move with the values of variables."""
    text = 'CREATE VIEW v AS SELECT :lines,\n  * FROM nothing;\nGRANT SELECT ON :"n" TO r'
    made = compile_project("p", {"a/v.sql": text}, externals=(), variables={"n": "v", **VALUES})
    ((line, column, excerpt),) = [(each.line, each.column, each.excerpt) for each in made.problems]
    assert (line, column, excerpt) == (2, 10, "  * FROM nothing;\n         ^^^^^^^")
    made = compile_project(
        "p", {"a/v.sql": text}, externals=("public.nothing",), variables={"n": "v", **VALUES}
    )
    assert made.project is not None
    read = made.project.objects[ObjectName("a", "v")]
    assert [each.line for each in (*read.creates, *read.grants)] == [1, 3]
    assert read.creates[0].text == "CREATE VIEW v AS SELECT 1,\n\n2,\n  * FROM nothing"


def test_an_excerpt_shows_no_value() -> None:
    """What is drawn is the file as it is written, for a value may be nobody's business."""
    made = compile_project(
        "p", {"a/v.sql": "CREATE VIEW v AS SELECT :'k' FROM nothing"}, externals=(), variables={"k": "s3cret"}
    )
    assert "s3cret" not in str(made.problems)


def test_values_decide_what_a_file_says() -> None:
    """The same file with another value is another object; a variable that it does not use changes nothing."""

    def hashed(text: str, **variables: str) -> str:
        made = compile_project("p", {"a/v.sql": text}, externals=(), variables=variables)
        assert made.project is not None
        return made.project.objects[ObjectName("a", "v")].hash

    text = "CREATE VIEW v AS SELECT :'k' AS k"
    assert hashed(text, k="1") == hashed(text, k="1", other="2") != hashed(text, k="2")


def test_replaced_text_is_bounded() -> None:
    """Variables cannot make a text longer than a file may be."""
    found, findings = substitute(":x " * 2000, {"x": "y" * (TEXT_MAX // 1000)})
    assert found.text == ""
    assert "more than 8388608 characters" in findings[0].message
