"""Laws of scripts: nothing is lost between the file and what is sent, and layout means nothing."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from reconciler.catalog import sql_lexer, sql_text
from reconciler.catalog.sql_text import SyntaxProblem
from reconciler.changes.psql import Surroundings, expand
from reconciler.changes.script import Script
from reconciler.errors import ScriptError
from reconciler.state import program
from reconciler.state.program import Purpose, compile_script

PURPOSES = st.sampled_from(list(Purpose))
PLAIN = st.sampled_from(
    [
        "SELECT 'é; -- not a comment'",
        "CREATE TABLE t (a int, b text DEFAULT $$;$$)",
        "DO $x$ BEGIN PERFORM 1; /* ; */ END $x$",
        "UPDATE \"ü;\" SET a = E'\\';'",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1; END",
        "DELETE FROM t WHERE a = 1",
        "SET search_path = a, b",
    ]
)
CONTROL = st.sampled_from(
    ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT s", "START TRANSACTION", "END", "ROLLBACK TO s"]
)
LAYOUT = st.sampled_from([" ", "\n", "\t", "\r\n", " -- ü; '\n", " /* ; ' /* $$ */ */ ", "\n\n"])
FRAGMENTS = st.one_of(
    st.text(max_size=10),
    st.sampled_from(
        [
            "SELECT 1",
            ";",
            "'",
            '"',
            "$$",
            "$a$",
            "--",
            "/*",
            "*/",
            "\\",
            "\\.\n",
            "COPY t FROM stdin;\n",
            "(",
            ")",
        ]
    ),
)


@given(statements=st.lists(PLAIN, max_size=6), layout=st.lists(LAYOUT, min_size=14, max_size=14))
def test_statements_are_slices_of_the_text(statements: list[str], layout: list[str]) -> None:
    """Each statement stands at its offset, on its line, and all of them are there."""
    text = "".join(f"{layout[2 * i]}{each}{layout[2 * i + 1]};" for i, each in enumerate(statements))
    found = sql_text.split(text)
    assert len(found) == len(statements)
    for statement, source in zip(found, statements, strict=True):
        assert statement.text.startswith(source)
        assert text[statement.offset : statement.offset + len(statement.text)] == statement.text
        assert statement.line == text.count("\n", 0, statement.offset) + 1


@given(
    statements=st.lists(st.one_of(PLAIN, CONTROL), max_size=7),
    wrapped=st.booleans(),
    purpose=PURPOSES,
)
def test_only_the_outermost_pair_is_left_out(statements: list[str], wrapped: bool, purpose: Purpose) -> None:
    """A program holds every statement of its script in order, but for one pair around it."""
    inner = ["BEGIN", *statements, "COMMIT"] if wrapped else statements
    script = Script(path="a.sql", text=";\n".join(inner))
    try:
        made = compile_script(script, purpose=purpose)
    except ScriptError:
        return
    whole = [each.text for each in sql_text.split(script.text)]
    kept = [each.text for each in made.statements]
    plain = [each.text for each in sql_text.split(script.text) if not each.facts.begins_or_ends]
    if made.transactional:
        assert kept == plain
        assert len(whole) - len(kept) in (0, 2)
    else:
        assert kept == whole
    for index in range(len(kept)):
        line, column = program.locate(made, index, 1)
        assert script.text.split("\n")[line - 1][column - 1 :].startswith(
            kept[index].split("\n", maxsplit=1)[0]
        )


@given(statement=PLAIN, layout=st.lists(LAYOUT, min_size=2, max_size=2))
def test_layout_does_not_move_the_hash(statement: str, layout: list[str]) -> None:
    """Blanks and comments around and between statements mean nothing."""
    assert sql_text.parse_hash(f"{layout[0]}{statement}{layout[1]};SELECT 1") == sql_text.parse_hash(
        f"{statement};{layout[1]}SELECT{layout[0]}1{layout[0]};"
    )


@given(
    words=st.lists(st.sampled_from(["a", "b", "1", "'x'", "+"]), min_size=1, max_size=9),
    layout=st.lists(LAYOUT, min_size=10, max_size=10),
)
def test_layout_inside_a_statement_does_not_move_the_hash(words: list[str], layout: list[str]) -> None:
    """Blanks and comments between tokens mean nothing either, whatever the statement."""
    text = "SELECT " + " ".join(words)
    with suppress(SyntaxProblem):
        sql_text.split(text)
        # strings on two lines are one string, so a line break between two of them is not only layout
        other = "select" + "".join(f"{blank}{word}" for blank, word in zip(layout, words, strict=False))
        if "'x' 'x'" not in text:
            assert sql_text.parse_hash(text) == sql_text.parse_hash(other)


@given(fragments=st.lists(FRAGMENTS, max_size=25), purpose=PURPOSES)
def test_any_text_is_a_program_or_a_script_error(fragments: list[str], purpose: Purpose) -> None:
    """No text makes the compiler fail in another way, and every problem has a place inside the text."""
    text = "".join(fragments)
    assert sql_text.parse_hash(text)
    problems = None
    try:
        compile_script(Script(path="a.sql", text=text), purpose=purpose)
    except ScriptError as error:
        problems = error.problems
    lines = range(1, text.count("\n") + 2)
    assert problems is None or (
        problems and all(each.file == "a.sql" and each.line in lines for each in problems)
    )


@given(fragments=st.lists(FRAGMENTS, max_size=25))
def test_chains_are_bounded_by_the_text(fragments: list[str]) -> None:
    """No text is said to nest deeper than it is long."""
    text = "".join(fragments)
    assert sql_lexer.longest_chain(text) <= len(text)


VALUES = {"a": "x", "schema": "shop", "b": 'it\'s \\ "q"', "self": ":self", "sql": "1; SELECT 2"}
PSQL = st.one_of(
    FRAGMENTS,
    st.sampled_from(
        [
            " :a ", ":'b'", ':"b"', ":{?a}", "::int", ":=", "[1:a]", "[1:zz]", ":self", ":sql", ":zz",
            "\n", "\n\\if :{?a}\n", "\n\\elif 0\n", "\n\\else\n", "\n\\endif\n", "\n\\i inc.sql\n", "\\\\",
            "\n\\ir self.sql\n", "\n\\set a 'x' :b\n", "\n\\echo :a hi\n", "\n\\gexec\n", "`id`", " 'x' ",
        ]
    ),
)  # fmt: skip
AROUND = Surroundings(
    root="m",
    texts={"m/inc.sql": b"SELECT :'a', ':b';", "m/self.sql": b"\\ir self.sql\n", "m/open.sql": b"'"},
    values=VALUES,
)


@given(fragments=st.lists(PSQL, max_size=15))
def test_any_script_for_psql_is_expanded_or_a_problem(fragments: list[str]) -> None:
    """Every character has a place in a file, whatever the text; what is kept of it means the same."""
    made = expand("m/deploy/a.sql", "".join(fragments), AROUND)
    if made is None:
        return
    texts = {source.path: source.text for source in made.files}
    for offset in range(0, len(made.text), 7):
        place = made.place(offset)
        assert 1 <= place.line <= texts[place.file].count("\n") + 1
    if made.problems:
        assert all(problem.file in texts and problem.line for problem in made.problems)
        return
    with suppress(ScriptError):
        first = compile_script(Script("a.sql", "", made), purpose=Purpose.REVERT)
        kept = Script("a.sql", Script("a.sql", "", made).self_contained())
        again = compile_script(kept, purpose=Purpose.REVERT)
        assert [each.text for each in again.statements] == [each.text for each in first.statements]
        data = [
            [b"".join(each.chunks()).rstrip(b"\n") for each in made.copies.values()]
            for made in (first, again)
        ]
        assert data[0] == data[1]
