"""The language of psql: what becomes of a script, and where each part of it is from."""

import pytest

from reconciler.changes.expansion import Expansion
from reconciler.changes.psql import Surroundings, expand
from reconciler.changes.psql_lexer import may_need_psql

VALUES = {"schema": "shop", "who": "it's", "odd": 'a"b', "slash": "a\\b", "stmt": "SELECT :'who'", "n": "3"}


def expanded(text: str, files: dict[str, str] | None = None, **values: str) -> Expansion:
    """Expand a text as the script of a module in `m`."""
    texts = {path: content.encode() for path, content in (files or {}).items()}
    made = expand("m/deploy/a.sql", text, Surroundings(root="m", texts=texts, values={**VALUES, **values}))
    assert made is not None
    return made


def sql(text: str, files: dict[str, str] | None = None, **values: str) -> str:
    """Return the SQL of a script without problems, with blanks as single ones."""
    made = expanded(text, files, **values)
    assert made.problems == ()
    return " ".join(made.text.split())


def problems(text: str, files: dict[str, str] | None = None) -> list[str]:
    """Return the problems of a script, without hints."""
    return [str(problem).partition(" (")[0] for problem in expanded(text, files).problems]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SELECT :n, :'who', :\"odd\", :'slash'", "SELECT 3, 'it''s', \"a\"\"b\", E'a\\\\b'"),
        ("CREATE TABLE :schema.t (a int)", "CREATE TABLE shop.t (a int)"),
        ("CREATE TABLE x_:schema()", "CREATE TABLE x_shop()"),
        (":stmt;", "SELECT 'it''s';"),
        ("SELECT ':n', \":n\", $$:n$$, :n -- :n", "SELECT ':n', \":n\", $$:n$$, 3 -- :n"),
        ("SELECT $a$:n$a$, E'\\':n', :n", "SELECT $a$:n$a$, E'\\':n', 3"),
        ("SELECT /* :n /* :n */ :n */ :n", "SELECT /* :n /* :n */ :n */ 3"),
        ("SELECT a::int, f(b := :n), U&'\\0041:n'", "SELECT a::int, f(b := 3), U&'\\0041:n'"),
        ("SELECT a[1:n], a[1:zz], a[:n][b:2]", "SELECT a[13], a[1:zz], a[3][b:2]"),
        ("SELECT :{?n}, :{?zz}", "SELECT TRUE, FALSE"),
        ("\\set x a :n 'b c' :\"odd\" ''\nSELECT :'x'", "SELECT 'a3b c\"a\"\"b\"'"),
        ("\\set x 'a\\tb\\x41\\101''c'\nSELECT :'x'", "SELECT 'a\tbAA''c'".replace("\t", " ")),
        ("\\set x 1 \\set y 2\nSELECT :x, :y", "SELECT 1, 2"),
        ("\\set x 1 \\\\ SELECT :x", "SELECT 1"),
        ("\\set n\nSELECT 1:n", "SELECT 1"),
        ("\\unset n\nSELECT :{?n}", "SELECT FALSE"),
    ],
)  # fmt: skip
def test_variables_go_where_psql_puts_them(text: str, expected: str) -> None:
    """Outside of quotes and comments only, in each of the four forms, and in arguments of commands."""
    assert sql(text) == expected


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        *((word, True) for word in ("true", "ON", "1", "y", "tr", ":{?n}", "'yes'")),
        *((word, False) for word in ("false", "off", "of", "0", "n", ":{?zz}")),
    ],
)
def test_conditions_are_psqls(condition: str, holds: bool) -> None:
    """Booleans may be shortened, as psql has it."""
    text = f"SELECT \\if {condition}\n1\n\\else\n:nosuch\n\\endif\n"
    if holds:
        assert sql(text) == "SELECT 1"
    else:
        assert problems(text) == ["m/deploy/a.sql:4:1: unknown variable 'nosuch'"]


def test_only_one_branch_counts() -> None:
    """Nothing of the others is looked at but conditions: no commands, no variables, no data."""
    text = (
        "\\if 0\n\\gexec\nCOPY t FROM stdin;\nit's\n\\.\n\\elif 1\nSELECT 1;\n\\if no\n\\if :nosuch\n\\else\n"
        "\\endif\n\\else\nSELECT 2;\n\\endif\n\\elif :nosuch\nSELECT 3;\n\\else\n:nosuch\n\\endif\nSELECT 4;"
    )
    assert sql(text) == "SELECT 1; SELECT 2; SELECT 4;"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("\\if maybe\n\\endif", "1:1: 'maybe' is no boolean in '\\if'"),
        ("\\if o\n\\endif", "1:1: 'o' is no boolean in '\\if'"),
        ("\\if 1", "1:1: \\if without \\endif"),
        ("\\endif", "1:1: \\endif without \\if"),
        ("\\else", "1:1: \\else without \\if"),
        ("\\if 1\n\\else\n\\elif 1\n\\endif", "3:1: \\elif after \\else"),
        ("SELECT 1;\n  \\gexec", "2:3: '\\gexec' of psql is not carried out"),
        ("\\copy t from 'x'", "1:1: '\\copy' of psql is not carried out"),
        ("\\! rm -r /", "1:1: '\\!' of psql is not carried out"),
        ("\\.", "1:1: '\\.' of psql is not carried out"),
        ("\\set x `id`", "1:8: text between backquotes runs a program"),
        ("\\set x 'a", "1:8: a quote in the arguments is not closed"),
        ("\\set 1x 2", "1:1: '1x' is not the name of a variable"),
        ("\\set ON_ERROR_STOP off", "1:1: '\\set ON_ERROR_STOP off' cannot be followed: an error always"),
        ("\\encoding LATIN1", "1:1: '\\encoding' takes UTF8 only: scripts are UTF-8"),
        ("SELECT :'nosuch'", "1:8: unknown variable 'nosuch'"),
        ("\\echo :nosuch", "1:7: unknown variable 'nosuch'"),
        ("\\set a :a\n\\set a ':a'\n:a", "1:8: unknown variable 'a'"),
        ("\\set a ':a'\n:a", "2:1: the value of variable 'a' uses itself"),
        ("\\set a '\\\\\\\\i b'\n:a", "2:1: the value of a variable holds a command of psql"),
        ("COPY t FROM stdin; SELECT 1;\n\\.", "1:19: something follows COPY … FROM stdin on its line"),
        ("SELECT \\i b.sql", "1:8: '\\i' stands inside a statement"),
        ("\\i", "1:1: '\\i' needs the path of one file"),
        ("\\i /etc/passwd", "1:1: '/etc/passwd' lies outside of the module"),
        ("\\i ../../x.sql", "1:1: '../../x.sql' lies outside of the module"),
        ("\\ir ../../../x.sql", "1:1: '../../../x.sql' lies outside of the module"),
        ("\\i b.sq", "1:1: there is no file 'm/b.sq' in the module to include"),
        ("\\i loop.sql", "m/loop.sql:1:1: files include each other: m/loop.sql → m/loop.sql"),
        ("\\i open.sql", "m/open.sql:1:8: a quote or comment is not closed at the end of the file"),
        ("\\i bad.sql", "m/bad.sql:2:1: '\\q' of psql is not carried out"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_a_problem_with_its_place(text: str, problem: str) -> None:
    """Nothing is passed over in silence that would mean something else here."""
    files = {
        "m/b.sql": "SELECT 1;",
        "m/loop.sql": "\\ir loop.sql\n",
        "m/open.sql": "SELECT 'x;",
        "m/bad.sql": "\n\\q\n",
    }
    found = problems(text, files)[0]
    assert found.removeprefix("m/deploy/a.sql:").startswith(problem)


def test_all_problems_come_at_once_with_what_to_do() -> None:
    """A script is mended in one go."""
    made = expanded("SELECT :shema;\n\\gexec\n\\i incl.sql\n", {"m/inc.sql": ""})
    assert [problem.hint for problem in made.problems] == [
        "did you mean 'schema'?",
        "write the statements out, or run them with EXECUTE in a DO block",
        "did you mean 'm/inc.sql'?",
    ]


def test_files_of_the_module_are_included() -> None:
    """`\\i` starts from the module's folder and `\\ir` from the file's; variables go in and come out."""
    files = {
        "m/lib/one.sql": "SELECT :n;\n\\ir two.sql\n\\set n 5\n",
        "m/lib/two.sql": "\\echo in :n\nSELECT 'two'",
    }
    made = expanded("-- Deploy a\n\\i lib/one.sql\nSELECT :n, nosuch;", files)
    assert made.problems == ()
    assert " ".join(made.text.split()) == "-- Deploy a SELECT 3; SELECT 'two' ; SELECT 5, nosuch;"
    assert made.place(made.text.index("'two'")) == ("m/lib/two.sql", 2, 8)
    assert made.place(made.text.index("nosuch")) == ("m/deploy/a.sql", 3, 12)
    assert made.place(made.text.index("5")) == ("m/deploy/a.sql", 3, 8)
    assert [(message.text, message.place.file) for message in made.messages] == [("in 3", "m/lib/two.sql")]
    assert made.names == ("n",)


def test_includes_and_values_are_bounded() -> None:
    """Files that include others twice, and values that double, end at a limit instead of in memory."""
    files = {f"m/{i}.sql": f"\\i {i + 1}.sql\n\\i {i + 1}.sql\n" for i in range(40)}
    assert "more than 1000 files" in problems("\\i 0.sql", files)[0]
    doubling = "\\set a aaaaaaaaaa\n" + "\\set a :a:a\n" * 25 + "SELECT ':a', :a;"
    assert "more than" in problems(doubling)[0]


def test_data_of_copy_are_taken_as_they_stand() -> None:
    """Nothing in them is looked at but the line that ends them."""
    text = (
        "COPY :schema.t FROM stdin;\n1\t:n\n\\N\t'\n\\\\.\n\\.\nSELECT 1;\n"
        "copy u from STDIN with (format csv);\na,b"
    )
    made = expanded(text)
    assert made.problems == ()
    assert [b"".join(each.chunks()) for each in made.copies] == [b"1\t:n\n\\N\t'\n\\\\.\n", b"a,b"]
    assert " ".join(made.text.split()) == (
        "COPY shop.t FROM stdin; SELECT 1; copy u from STDIN with (format csv);"
    )
    assert made.copies[0].place("COPY t, line 2, column x: y") == ("m/deploy/a.sql", 3, 1)
    assert made.self_contained().replace("shop", ":schema") == f"{text}\n\\.\n"


def test_text_without_anything_for_psql_is_no_expansion() -> None:
    """Backslashes and colons in strings, bodies and casts fool nobody."""
    text = "SELECT E'\\n', '\\set', $$ :x \\i $$, a::int, '{\"a\":b}', b[1:c] -- :x \\i stdin\n;"
    assert expand("a.sql", text, Surroundings(values=VALUES)) is None
    assert expand("a.sql", "SELECT 1", Surroundings()) is None


def test_values_and_layout_do_not_move_the_meaning() -> None:
    """Edits of the script, of an included file and of data do."""
    text = "\\set x 1\nSELECT :n ;\n\\if :{?y}\n\\i b.sql\n\\endif\n-- note\n"
    files = {"m/b.sql": "SELECT 'b';"}
    base = expanded(text, files).meaning
    assert expanded(text, files, n="4", y="1").meaning == base
    assert expanded(text.replace("SELECT", "select /* x */").replace("-- note", ""), files).meaning == base
    assert expanded(text, {"m/b.sql": "  select 'b'\n;"}).meaning == base
    others = [
        expanded(text.replace(":n", ":'n'"), files),
        expanded(text.replace("x 1", "x 2"), files),
        expanded(text, {"m/b.sql": "SELECT 'B';"}),
        expanded(text + "COPY t FROM stdin;\n1\n\\.\n", files),
        expanded(text + "COPY t FROM stdin;\n2\n\\.\n", files),
    ]
    assert len({base, *(each.meaning for each in others)}) == 1 + len(others)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-- Deploy shop:items to pg\n\n-- see \\d\nSELECT 1;", False),
        ("-- Deploy shop:items to pg\nSELECT :items;", True),
        ("-- Deploy shop:items to pg\n\\set items 1\n", True),
        ("SELECT 1; -- shop:items", True),
        ("/* shop:items */", True),
        ("SELECT a::int, b[1:2];", False),
    ],
)
def test_a_comment_at_the_top_is_not_for_psql(text: str, expected: bool) -> None:
    """Scripts say there what they are, in words that look like variables; elsewhere nothing is sure."""
    assert may_need_psql(text) == expected
    if not expected:
        assert expand("m/deploy/a.sql", text, Surroundings(values=VALUES)) is None
