"""Laws of compiled projects: order, hashes and places, for any graph, any layout and any text."""

from collections.abc import Mapping

from hypothesis import given, settings
from hypothesis import strategies as st

from reconciler.catalog import sql_lexer, sql_text
from reconciler.catalog.sql_lexer import TokenKind
from reconciler.objects.hashing import qualified, splice
from reconciler.objects.model import ObjectName, Project, SqlStatement
from reconciler.objects.order import cycles, in_order
from reconciler.objects.project import compile_project
from reconciler.objects.variables import substitute

NAMES = [ObjectName(schema, name) for schema in ("a", "B c") for name in ("v", "Wide é", "select", 'q"t')]
FILES = st.dictionaries(st.text(max_size=12), st.text(max_size=30), max_size=4)
GRAPHS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), max_size=16)
TEXTS = (
    "CREATE VIEW a.v WITH (security_barrier) AS WITH t AS (SELECT * FROM t) SELECT a.t.n, f(t.n) FROM t, a.t",
    """CREATE MATERIALIZED VIEW v AS SELECT n FROM t UNION SELECT 'a.t'::regclass::int FROM b."T";
    CREATE UNIQUE INDEX i ON a.v (n); CREATE INDEX j ON v (f(n)); GRANT SELECT ON v TO r;
    COMMENT ON COLUMN v.n IS 'a.t'""",
    """CREATE FUNCTION v(x t, y int DEFAULT f(1)) RETURNS SETOF a.t
    LANGUAGE sql AS 'SELECT * FROM t, a.t -- ''t'''""",
    """CREATE FUNCTION v() RETURNS int BEGIN ATOMIC SELECT f(n) FROM b."T"; END;
    REVOKE ALL ON FUNCTION v FROM PUBLIC""",
)
OTHERS = {
    "a/t.sql": "CREATE VIEW t AS SELECT 1 AS n",
    "a/f.sql": "CREATE FUNCTION f(n int) RETURNS int RETURN n",
    "b/T.sql": 'CREATE VIEW "T" AS SELECT 1 AS n',
}
TEST = "EXECUTE UNIT TEST x MOCK t(n int) AS (SELECT 1) EXPECTED "
BLANKS = st.sampled_from([" ", "\n", "\t \r\n", ' -- b."T" it\'s\n', "/* a.t 'x /* é */ */", " /*:x*/\n\n"])


def compiled(files: Mapping[str, str]) -> Project:
    made = compile_project("p", files, externals=(), variables={})
    assert made.problems == ()
    assert made.project is not None
    return made.project


@given(GRAPHS)
def test_the_order_is_a_topological_one(edges: list[tuple[int, int]]) -> None:
    """Without circles each object stands behind what it reads, all stand there, and the order is one."""
    reads = {name: {NAMES[low] for low, high in edges if low < high == at} for at, name in enumerate(NAMES)}
    files = {
        f"{name.schema}/{name.name}.sql": f"CREATE VIEW {_quoted(name)} AS SELECT 1 AS n"
        + "".join(f" UNION SELECT n FROM {_quoted(each)}" for each in sorted(reads[name]))
        for name in NAMES
    }
    ordered = list(compiled(files).objects)
    assert sorted(ordered) == sorted(NAMES)
    for name, needed in reads.items():
        assert all(ordered.index(each) < ordered.index(name) for each in needed)
    assert list(compiled(dict(reversed(files.items()))).objects) == ordered


@given(GRAPHS)
def test_what_cannot_be_ordered_is_in_circles(edges: list[tuple[int, int]]) -> None:
    """Circles are told exactly where no order takes in everything, and each is one."""
    needs = {
        name: {NAMES[low] for low, high in edges if high == at and low != high}
        for at, name in enumerate(NAMES)
    }
    found = cycles(needs)
    assert bool(found) == (len(in_order(needs)) < len(needs))
    for cycle in found:
        assert cycle[0] == min(cycle)
        assert len(set(cycle)) == len(cycle) >= 2
        for item, following in zip(cycle, (*cycle[1:], cycle[0]), strict=True):
            assert following in needs[item]


@settings(max_examples=50)
@given(st.sampled_from(TEXTS), st.data())
def test_layout_and_case_move_no_hash(text: str, data: st.DataObject) -> None:
    """However a file is laid out and its words are written, definition and metadata hash the same."""
    again = _laid_out(text, data)
    one, other = (
        compiled(OTHERS | {"a/v.sql": each}).objects[ObjectName("a", "v")] for each in (text, again)
    )
    assert (one.hash, one.metadata_hash) == (other.hash, other.metadata_hash)
    assert (one.depends_on, one.options, one.sort) == (other.depends_on, other.options, other.sort)


@settings(max_examples=50)
@given(st.sampled_from(TEXTS), st.data())
def test_mentions_are_where_names_are(text: str, data: st.DataObject) -> None:
    """With every mention of a file written in full, it compiles to the same hashes."""
    given_text = _laid_out(text, data)
    made = compiled(OTHERS | {"a/v.sql": given_text}).objects[ObjectName("a", "v")]
    statements = (*made.creates, *(each.statement for each in made.indexes), *made.grants, *made.comments)
    full = ";\n".join(_in_full(each) for each in statements)
    again = compiled(OTHERS | {"a/v.sql": full}).objects[ObjectName("a", "v")]
    assert (made.hash, made.metadata_hash) == (again.hash, again.metadata_hash)


@given(st.sampled_from(TEXTS), st.data())
def test_no_text_breaks_the_compiler(text: str, data: st.DataObject) -> None:
    """Whatever is cut out of a file or put into it, problems have places in the file, or there are none."""
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 12)))
    put = data.draw(
        st.text(max_size=6)
        | st.sampled_from([";", "'", '"', "$$", "(", ")", ":x", ":'x'", "U&", "\\", "/*", "\0", TEST])
    )
    broken = text[:start] + put + text[end:]
    made = compile_project("p", OTHERS | {"a/v.sql": broken}, externals=(), variables={"x": "'é"})
    assert (made.project is None) == bool(made.problems)
    lines = broken.split("\n")
    for problem in made.problems:
        if problem.line is not None and problem.file == "p/a/v.sql":
            assert problem.line <= len(lines)
            assert 1 <= (problem.column or 0) <= len(lines[problem.line - 1]) + 1
        assert problem.file is None or str(problem)


@given(FILES, st.lists(st.text(max_size=12), max_size=3))
def test_no_paths_and_no_externals_break_the_compiler(files: dict[str, str], externals: list[str]) -> None:
    """Any names of files and any declarations give problems or a project, never anything else."""
    named = files | {f"{key}.sql": text for key, text in files.items()}
    made = compile_project("p", named, externals=externals, variables={"x": "1"})
    assert (made.project is None) == bool(made.problems)


@given(
    st.text(alphabet="ab :'\"x\n$1[", max_size=40),
    st.dictionaries(st.sampled_from("abx"), st.text(max_size=5)),
)
def test_replaced_text_knows_where_it_came_from(text: str, values: dict[str, str]) -> None:
    """Every character that is no value is the one of the written text that its place says."""
    found, _ = substitute(text, values)
    places = [found.written(offset) for offset in range(len(found.text) + 1)]
    assert places == sorted(places)
    assert all(0 <= place <= len(text) for place in places)
    for at, place in enumerate(places[:-1]):
        assert found.text[at] == text[place] or text[place] == ":"


def _quoted(name: ObjectName) -> str:
    return ".".join('"' + part.replace('"', '""') + '"' for part in (name.schema, name.name))


def _laid_out(text: str, data: st.DataObject) -> str:
    """Write a text anew: other blanks and comments between tokens, words in other case, no other strings."""
    parts: list[str] = []
    for token in sql_lexer.tokens(text):
        written = text[token.start : token.end]
        if token.kind is TokenKind.WORD and data.draw(st.booleans()):
            written = written.upper()
        before = text[token.start - 1 : token.start]
        if parts and not before == "'" == written[:1]:
            parts.append(data.draw(BLANKS if before.isspace() else st.just("") | BLANKS))
        parts.append(written)
    return "".join(parts)


def _in_full(statement: SqlStatement) -> str:
    every = sorted((*statement.mentions, *statement.outside), key=lambda each: each.start)
    full = splice(statement.text, [(each.start, each.end, qualified(each)) for each in every])
    assert len(sql_text.split(full)) == 1
    return full
