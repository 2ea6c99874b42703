"""SQL text: statements, their places, and the hash that layout does not move."""

import subprocess
import sys

import pytest

from reconciler.catalog import sql_text
from reconciler.catalog.sql_text import SyntaxProblem


def test_statements_have_their_places() -> None:
    """Offset and line count characters of the whole text, comments before a statement left out."""
    text = "-- é\n;; SELECT 'ü;' ; /* ß */\n\nCREATE TABLE t (a int)\n; -- end\nSELECT 2 -- tail"
    first, second, third = sql_text.split(text)
    assert [(each.text, each.line, each.kind) for each in (first, second)] == [
        ("SELECT 'ü;'", 2, "SELECT"),
        ("CREATE TABLE t (a int)", 4, "CREATE TABLE"),
    ]
    assert (third.line, third.node) == (6, "SelectStmt")
    for each in (first, second, third):
        assert text[each.offset :].startswith(each.text)


@pytest.mark.parametrize("text", ["", " \n", "-- only a comment", ";;", "/* ; */"])
def test_a_text_may_hold_no_statement(text: str) -> None:
    """Nothing to run is nothing, not an error."""
    assert sql_text.split(text) == ()


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("DROP MATERIALIZED VIEW v", "DROP MATERIALIZED VIEW"),
        ("ALTER TABLE t ADD c int", "ALTER TABLE"),
        ("GRANT SELECT ON t TO r", "GRANT"),
        ("REVOKE SELECT ON t FROM r", "REVOKE"),
        ("END", "COMMIT"),
        ("CREATE EXTENSION e", "CREATE EXTENSION"),
        ("INSERT INTO t VALUES (1)", "INSERT"),
        ("CREATE VIEW v AS SELECT 1", "CREATE VIEW"),
        ("DO 'x'", "DO"),
    ],
)
def test_statements_are_named_for_people(text: str, kind: str) -> None:
    """The kind reads as PostgreSQL's own command tags do."""
    assert sql_text.split(text)[0].kind == kind


def test_bodies_are_one_statement() -> None:
    """Semicolons inside a body end nothing."""
    text = "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; SELECT 2; END; DO $$ BEGIN NULL; END $$"
    assert [each.kind for each in sql_text.split(text)] == ["CREATE FUNCTION", "DO"]


@pytest.mark.parametrize(
    "text",
    [
        "MERGE INTO t USING s ON t.id = s.id WHEN NOT MATCHED BY SOURCE THEN DELETE RETURNING merge_action()",
        "SELECT * FROM JSON_TABLE('[]', '$[*]' COLUMNS (a int PATH '$.a')) AS j",
        "CREATE TABLE t (a int, b int GENERATED ALWAYS AS (a * 2) VIRTUAL)",
        "CREATE TABLE t (id int4range, p daterange, PRIMARY KEY (id, p WITHOUT OVERLAPS))",
        "UPDATE t SET a = 1 RETURNING old.a, new.a",
        "ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT ENFORCED",
    ],
)
def test_the_grammar_is_that_of_postgresql_18(text: str) -> None:
    """Syntax of the newest server is read."""
    assert len(sql_text.split(text)) == 1


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("SELECT 'é';\nSELEC 1", 2, 1, 'syntax error at or near "SELEC"'),
        ("SELECT 'éé', FROM t", 1, 14, 'syntax error at or near "FROM"'),
        ("SELECT (", 1, 9, "syntax error at end of input"),
        ("SELECT 1;\n  'open", 2, 3, 'unterminated quoted string at or near "\'open"'),
        (
            "SELECT 1;\n  'open\n" + "more\n" * 9_999,
            2,
            3,
            "unterminated quoted string at or near \"'open…",
        ),
        ("SELECT 1;\0", 1, 10, "a NUL character, which PostgreSQL cannot take"),
        ("SELECT '\ud800'", 1, 9, "a character that is not valid Unicode"),
    ],
)
def test_syntax_problems_have_their_places(text: str, line: int, column: int, message: str) -> None:
    """Line and column count characters, and the words are PostgreSQL's."""
    with pytest.raises(SyntaxProblem) as caught:
        sql_text.split(text)
    assert (caught.value.line, caught.value.column, caught.value.message_alone) == (line, column, message)


@pytest.mark.parametrize("unit", ["1 + ", "1 UNION SELECT ", "a::int - "])
def test_a_chain_without_end_cannot_end_the_process(unit: str) -> None:
    """What would overflow the parser's stack is refused before it gets there."""
    with pytest.raises(SyntaxProblem, match="too deep to parse safely"):
        sql_text.split("SELECT " + unit * 200_000 + "1")


@pytest.mark.parametrize("count", [100, 2_000, 19_000])
def test_long_chains_are_read(count: int) -> None:
    """What the server takes is read, also where it nests deeper than Python does."""
    (statement,) = sql_text.split("SELECT " + "1 + " * count + "1")
    assert statement.kind == "SELECT"


def test_facts_survive_a_deep_neighbour() -> None:
    """A deep statement does not hide what the others do."""
    text = f"DROP TABLE t; SELECT {'1 + ' * 3_000}1; TRUNCATE u"
    first, _, third = sql_text.split(text)
    assert [each.facts.deletes[0].message for each in (first, third)] == ["drops table t", "truncates u"]


@pytest.mark.parametrize("opening", ["(", "(SELECT ", "CASE WHEN true THEN "])
def test_deep_nesting_is_an_error(opening: str) -> None:
    """Where the parser's own stack ends, its words come back."""
    with pytest.raises(SyntaxProblem, match="memory exhausted"):
        sql_text.split("SELECT " + opening * 50_000)


def test_texts_are_bounded() -> None:
    """A text beyond the limit is refused before it is parsed."""
    with pytest.raises(SyntaxProblem, match="more than the limit"):
        sql_text.split(" " * (sql_text.TEXT_MAX + 1))


SAME = [
    "SELECT a, 'x' FROM t WHERE b = 1;",
    "select a, 'x' from t where b = 1",
    "-- about\nSELECT a,\n\t'x' /* y */ FROM T\r\nWHERE b=1 ;;",
]
OTHER = [
    "SELECT a, 'X' FROM t WHERE b = 1",
    "SELECT a, 'x' FROM \"T\" WHERE b = 1",
    "SELECT a, 'x' FROM t WHERE b = 2",
    "SELECT a, 'x' FROM t WHERE b = 1; SELECT 1",
    "",
]


def test_the_hash_follows_the_meaning() -> None:
    """Layout, comments and the case of keywords do not move the hash; contents do."""
    assert len({sql_text.parse_hash(text) for text in SAME}) == 1
    assert len({sql_text.parse_hash(text) for text in [SAME[0], *OTHER]}) == 1 + len(OTHER)


def test_the_hash_holds_bodies_as_text() -> None:
    """A function's body counts as it stands, for its text is what the server keeps."""
    text = "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$"
    assert sql_text.parse_hash(text) != sql_text.parse_hash(text.replace("SELECT", "select"))


def test_strings_that_look_like_places_count() -> None:
    """Text that looks like a place in the tree is content all the same."""
    text = """SELECT '"location":5,', '"stmt_len":7'"""
    assert sql_text.parse_hash(text) != sql_text.parse_hash(text.replace("5", "6"))
    assert sql_text.parse_hash(text) != sql_text.parse_hash(text.replace("7", "8"))


def test_the_hash_stays_what_databases_have_recorded() -> None:
    """Lists, arrays and several statements hash as they always did: the hashes stand in tracked state."""
    text = "SELECT ARRAY[a, 1], b IN (1, 2) FROM s.t; GRANT SELECT ON t TO r"
    hashed = "pg18:ecd66b3b78f3e4f1718cfc8c2d0fab793f4d7482f6ac9b43272b7e1744446820"
    assert sql_text.parse_hash(text) == hashed


def test_trees_have_the_places_of_their_tokens() -> None:
    """A tree reaches from its first to its last token in characters; comments around it are left out."""
    text = "-- é\n;; SELECT 'ü' -- tail\n; /* ß */ CREATE VIEW \"ä\".v AS SELECT 1 /* x */ -- end"
    first, second = sql_text.trees(text)
    assert (text[first.start : first.end], first.node, first.kind) == ("SELECT 'ü'", "SelectStmt", "SELECT")
    assert text[second.start : second.end] == 'CREATE VIEW "ä".v AS SELECT 1'
    view = second.places.character(second.body["view"]["location"])
    assert text[view:].startswith('"ä".v')


def test_trees_are_whole_however_deep() -> None:
    """A chain deeper than Python's recursion keeps all its names, where statements alone may lose some."""
    text = f"SELECT {'+'.join(f'a{number}' for number in range(1_000))}, '\"[' || b FROM t"
    (tree,) = sql_text.trees(text)
    value = tree.body["targetList"][0]["ResTarget"]["val"]
    depth = 0
    while "A_Expr" in value:
        value, depth = value["A_Expr"]["lexpr"], depth + 1
    assert depth == 999
    assert value["ColumnRef"]["fields"] == [{"String": {"sval": "a0"}}]
    assert tree.body["fromClause"][0]["RangeVar"]["relname"] == "t"


def test_the_hash_of_what_does_not_parse() -> None:
    """A text that is no SQL is hashed as it stands, and says so."""
    assert sql_text.parse_hash("SELECT 1").startswith("pg18:")
    assert sql_text.parse_hash("\\set a").startswith("text:")
    assert sql_text.parse_hash("\\set a") != sql_text.parse_hash("\\set  a")


def test_the_parser_is_loaded_when_it_is_needed() -> None:
    """Importing the module loads neither the library nor ctypes, for start-up time counts."""
    code = (
        "import sys, reconciler.catalog.sql_text; print('ctypes' in sys.modules, 'postgast' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False False\n"
