"""Projects of object files: names from paths, what files may hold, and everything that is wrong at once."""

from collections.abc import Mapping

import pytest

from reconciler.catalog import sql_text
from reconciler.errors import Problem
from reconciler.objects.files import OBJECTS_MAX
from reconciler.objects.model import ObjectName, ObjectSort, SqlObject
from reconciler.objects.project import Compiled, compile_project

VIEW = "CREATE VIEW v AS SELECT 1; "
KEPT = "CREATE MATERIALIZED VIEW v AS SELECT 1; "

TWO = "CREATE FUNCTION v(n int) RETURN 1; CREATE FUNCTION v(n text) RETURN 1; "


def compiled(files: Mapping[str, str] | str, *externals: str, **variables: str) -> Compiled:
    """Compile files, or one that is to make `a.v`."""
    given = {"a/v.sql": files} if isinstance(files, str) else files
    return compile_project("objects/shop", given, externals=externals, variables=variables)


def problems(files: Mapping[str, str] | str, *externals: str, **variables: str) -> tuple[Problem, ...]:
    """Return what is wrong, which leaves no project."""
    found = compiled(files, *externals, **variables)
    assert (found.project is None) == bool(found.problems)
    return found.problems


def objects(files: Mapping[str, str], *externals: str, **variables: str) -> Mapping[ObjectName, SqlObject]:
    """Return the objects of a project that compiles."""
    found = compiled(files, *externals, **variables)
    assert found.problems == ()
    assert found.project is not None
    return found.project.objects


def test_paths_are_names() -> None:
    """Folder and file name are schema and object as the catalog has them, whatever their letters."""
    files = {
        "Sales/Daily Sales.sql": 'CREATE VIEW "Daily Sales" AS SELECT 1 AS n',
        "select/order.sql": 'CREATE VIEW "select"."order" AS SELECT n FROM "Sales"."Daily Sales"',
        "a/twice.sql": "CREATE FUNCTION a.Twice(n int) RETURNS int RETURN 2 * n",
        "a/keep.sql": "CREATE MATERIALIZED VIEW keep AS SELECT twice(1)",
        "a/do.sql": "CREATE PROCEDURE a.do() LANGUAGE plpgsql AS $$ BEGIN END $$",
        "a/README.md": "not SQL",
    }
    made = objects(files)
    assert {name: each.sort for name, each in made.items()} == {
        ObjectName("Sales", "Daily Sales"): ObjectSort.VIEW,
        ObjectName("select", "order"): ObjectSort.VIEW,
        ObjectName("a", "twice"): ObjectSort.FUNCTION,
        ObjectName("a", "keep"): ObjectSort.MATERIALIZED_VIEW,
        ObjectName("a", "do"): ObjectSort.PROCEDURE,
    }
    assert made[ObjectName("a", "do")].path == "objects/shop/a/do.sql"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("a/b/c.sql", "too deep in folders"),
        ("a/v.SQL", "files end in '.sql'"),
        ("pg_a/v.sql", "the server's own"),
        ("information_schema/v.sql", "the server's own"),
        (f"a/{'x' * 64}.sql", "cuts names to 63 bytes"),
        ("a/.sql", "a name cannot be empty"),
        ("a/it's.sql", "a quote or a control character"),
        ("a/x\x01.sql", "a quote or a control character"),
    ],
)
def test_paths_that_name_nothing(path: str, message: str) -> None:
    """A file whose path is no name of an object is told, with what a path should be."""
    (problem,) = problems({path: "CREATE VIEW v AS SELECT 1"})
    assert problem.file == f"objects/shop/{path}"
    assert message in problem.message


def test_projects_are_bounded() -> None:
    """More objects than the limit are refused before any is read."""
    (problem,) = problems({f"a/{number}.sql": "" for number in range(OBJECTS_MAX + 1)})
    assert "more than the limit of 20000" in problem.message


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "makes no object 'a.v'", "a file makes one view"),
        ("CREATE VIEW w AS SELECT 1", "makes 'w', where its path says 'a.v'", "the name of its file"),
        ("CREATE VIEW b.v AS SELECT 1", "makes 'b.v', where its path says 'a.v'", "the name of its file"),
        ("CREATE VIEW V2 AS SELECT 1", "makes 'v2'", "the name of its file"),
        ("CREATE TABLE v (n int)", "CREATE TABLE cannot stand", "belong to a Module"),
        ("CREATE TABLE v AS SELECT 1", "CREATE TABLE AS cannot stand", "belong to a Module"),
        ("CREATE SEQUENCE v", "CREATE SEQUENCE cannot stand", "belong to a Module"),
        ("CREATE TYPE v AS ENUM ()", "CREATE TYPE cannot stand", "belong to a Module"),
        ("CREATE TRIGGER v AFTER INSERT ON t EXECUTE FUNCTION f()", "CREATE TRIGGER cannot", "Module"),
        ("CREATE TEMP VIEW v AS SELECT 1", "cannot be temporary", "leave the word out"),
        ("CREATE UNLOGGED MATERIALIZED VIEW v AS SELECT 1", "cannot be unlogged", "leave the word out"),
        ("CREATE MATERIALIZED VIEW IF NOT EXISTS v AS SELECT 1", "IF NOT EXISTS", "leave IF NOT EXISTS out"),
        ("CREATE MATERIALIZED VIEW v AS SELECT 1 WITH NO DATA", "cannot stay empty", "WITH NO DATA out"),
        ("CREATE OR REPLACE MATERIALIZED VIEW v AS SELECT 1", "syntax error", "leave OR REPLACE out"),
        ("\\set x 1\nCREATE VIEW v AS SELECT 1", "syntax error", "commands of psql"),
        (VIEW + "SELECT 2", "SELECT cannot stand", "nothing that runs"),
        (VIEW + "DROP VIEW w", "DROP VIEW cannot stand", "goes when its file does"),
        (VIEW + "SET jit = off", "SET cannot stand", "are in SCHEMA.sql"),
        (VIEW + "BEGIN", "BEGIN cannot stand", "built in transactions"),
        (VIEW + "ALTER VIEW v SET (a = b)", "ALTER TABLE cannot stand", "its CREATE"),
        (VIEW + "SECURITY LABEL ON VIEW v IS 'x'", "cannot stand", "a file makes one"),
        (VIEW + "CREATE VIEW w AS SELECT 1", "makes 'w'", "the name of its file"),
        (VIEW + "CREATE VIEW v AS SELECT 2", "a second object", "a file of its own"),
        (VIEW + "CREATE INDEX ON v (n)", "a view cannot have an index", "Module"),
        (VIEW + "CREATE INDEX ON w (n)", "is about 'w', not about 'a.v'", "in the file"),
        (KEPT + "CREATE INDEX CONCURRENTLY i ON v (n)", "concurrently", "leave"),
        (KEPT + "CREATE INDEX IF NOT EXISTS i ON v (n)", "IF NOT", "leave"),
        (VIEW + "GRANT SELECT ON v, w TO r", "about the object of the file alone", "ON v"),
        (VIEW + "GRANT SELECT ON w TO r", "is about 'w'", "in the file of"),
        (VIEW + "GRANT SELECT ON ALL TABLES IN SCHEMA a TO r", "alone", "SCHEMA.sql"),
        (VIEW + "GRANT USAGE ON SCHEMA a TO r", "alone", "SCHEMA.sql"),
        (VIEW + "GRANT a TO b", "GRANT ROLE cannot stand", "members of roles"),
        (VIEW + "COMMENT ON TABLE v IS 'x'", "about the view", "COMMENT ON VIEW v IS"),
        (VIEW + "COMMENT ON VIEW w IS 'x'", "is about 'w'", "in the file of"),
        (VIEW + "COMMENT ON COLUMN w.n IS 'x'", "is about 'w'", "in the file of"),
        (VIEW + "COMMENT ON COLUMN n IS 'x'", "about the view", "COMMENT ON VIEW"),
        (VIEW + "COMMENT ON VIEW v IS 'x'; COMMENT ON VIEW a.v IS 'y'", "twice", "leave"),
        (KEPT + "COMMENT ON INDEX i IS 'x'", "no such index 'i'", "none"),
        ("CREATE FUNCTION v() RETURN 1; CREATE FUNCTION v() RETURN 2", "twice", "overloads differ"),
        ("CREATE FUNCTION v() RETURN 1; CREATE PROCEDURE v(n int) BEGIN ATOMIC END", "a second", "its own"),
        (TWO + "GRANT ALL ON FUNCTION v TO r", "does not say which 'a.v' it is about", "write v(TYPE, …)"),
        (TWO + "COMMENT ON FUNCTION a.v IS 'x'", "does not say which 'a.v' it is about", "write v(TYPE, …)"),
        (TWO + "GRANT ALL ON PROCEDURE v(int) TO r", "about the object of the file alone", "ON FUNCTION v"),
        ("CREATE FUNCTION v() LANGUAGE sql AS E'SELECT \\'1\\''", "with escapes", "dollar quotes"),
        ("CREATE FUNCTION v() LANGUAGE sql AS $$ SELECT FROM; x $$", "in the body: syntax error", ""),
        ('CREATE VIEW U&"\\0076" AS SELECT 1', "written with escapes", "write it plainly"),
    ],
)  # fmt: skip
def test_what_a_file_may_not_hold(text: str, message: str, hint: str) -> None:
    """Each thing that a file of an object cannot hold is told once, with what to do instead."""
    (problem,) = problems(text)
    assert message in problem.message
    assert hint in (problem.hint or "")


def test_everything_is_told_at_once_in_order() -> None:
    """All files are read to the end; problems stand in the order of their places, each once."""
    files = {
        "a/broken.sql": "CREATE VIEW broken AS SELECT FROM FROM",
        "a/other.sql": "CREATE VIEW other AS SELECT * FROM broken;\nSELECT 1; SELECT * FROM a.nothing",
        "a/third.sql": "CREATE VIEW third AS SELECT * FROM nothing, a.nothing,\n  other",
    }
    assert [(each.file, each.line, each.column) for each in problems(files)] == [
        ("objects/shop/a/broken.sql", 1, 35),
        ("objects/shop/a/other.sql", 2, 1),
        ("objects/shop/a/other.sql", 2, 11),
        ("objects/shop/a/third.sql", 1, 36),
        ("objects/shop/a/third.sql", 1, 45),
    ]


def test_problems_are_drawn() -> None:
    """A problem carries its line with carets below what is meant; of a long line what is near."""
    (problem,) = problems("CREATE VIEW v AS\n\tSELECT 'ü', *   FROM shop.orders -- all")
    assert problem.excerpt == " SELECT 'ü', *   FROM shop.orders -- all\n                      ^^^^^^^^^^^"
    (problem,) = problems(
        f"CREATE VIEW v AS SELECT '{'x' * 1000}' FROM orders, {'y' * 500}", f"public.{'y' * 63}"
    )
    line, carets = (problem.excerpt or "").split("\n")
    assert line[carets.index("^") : carets.rindex("^") + 1] == "orders"
    assert len(line) <= 110


def test_problems_of_one_file_are_bounded() -> None:
    """Of very many problems the first are told, and how many there are."""
    found = problems("CREATE VIEW v AS SELECT 1;" + "SELECT 1;" * 150)
    assert len(found) == 101
    assert found[0].message == "and 50 more problems"


def test_statements_are_cut_to_their_tokens() -> None:
    """Statements have their text without comments around, and the line where they begin."""
    text = (
        "-- about\nCREATE VIEW v AS -- inside\nSELECT 1 AS n -- behind\n;\n\nGRANT SELECT ON v TO r /* end */"
    )
    made = objects({"a/v.sql": text})[ObjectName("a", "v")]
    assert [(each.text, each.line) for each in (*made.creates, *made.grants)] == [
        ("CREATE VIEW v AS -- inside\nSELECT 1 AS n", 2),
        ("GRANT SELECT ON v TO r", 6),
    ]


def test_companions_are_kept_with_their_object() -> None:
    """Indexes, grants and comments stand with the object, options as values."""
    text = """
        CREATE MATERIALIZED VIEW v WITH (fillfactor = 70, autovacuum_enabled = off) AS SELECT 1 AS n;
        CREATE UNIQUE INDEX v_key ON v (n); CREATE INDEX ON a.v (lower(n::text)) WITH (fillfactor = 50);
        GRANT SELECT ON TABLE v TO r; REVOKE SELECT ON v FROM PUBLIC;
        COMMENT ON MATERIALIZED VIEW v IS 'x'; COMMENT ON COLUMN a.v.n IS 'y'; COMMENT ON INDEX v_key IS NULL;
    """
    made = objects({"a/v.sql": text})[ObjectName("a", "v")]
    assert [(each.name, each.unique) for each in made.indexes] == [("v_key", True), ("", False)]
    assert dict(made.options) == {"autovacuum_enabled": "false", "fillfactor": "70"}
    assert (len(made.grants), len(made.comments)) == (2, 3)
    (mention,) = made.comments[2].mentions
    assert (mention.target, mention.index) == (ObjectName("a", "v"), "v_key")


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("security_barrier", {"security_barrier": "true"}),
        (
            "security_barrier = on, security_invoker = 0",
            {"security_barrier": "true", "security_invoker": "false"},
        ),
        ("check_option = 'local'", {"check_option": "local"}),
        ("a = 1.5, toast.b = word", {"a": "1.5", "toast.b": "word"}),
    ],
)
def test_options_are_values(options: str, wanted: dict[str, str]) -> None:
    """Options of a view are kept by name, switches however they are written."""
    made = objects({"a/v.sql": f"CREATE VIEW v (n) WITH ({options}) AS SELECT 1"})
    assert made[ObjectName("a", "v")].options == wanted


def test_overloads_share_a_file() -> None:
    """One routine may be made for several sorts of arguments; comments and grants say which."""
    text = """
        CREATE FUNCTION v(n int) RETURNS int RETURN n;
        CREATE FUNCTION v(n text, OUT m text) RETURN v(1)::text;
        COMMENT ON FUNCTION v(int) IS 'one'; COMMENT ON FUNCTION a.v(text) IS 'two';
        GRANT EXECUTE ON FUNCTION v(int) TO r; REVOKE ALL ON ROUTINE a.v(text) FROM PUBLIC;
    """
    made = objects({"a/v.sql": text})[ObjectName("a", "v")]
    assert (len(made.creates), len(made.comments), len(made.grants)) == (2, 2, 2)
    assert made.depends_on == frozenset()


def test_index_names_are_taken_once_in_a_schema() -> None:
    """Indexes and relations of a schema share their names; those of other schemas do not matter."""
    view = "CREATE MATERIALIZED VIEW {0} AS SELECT 1 AS n; CREATE INDEX {1} ON {0} (n)"
    assert problems({"a/v.sql": view.format("v", "i"), "b/w.sql": view.format("w", "i")}) == ()
    for other in ("i", "v", "w"):
        (problem,) = problems({"a/v.sql": view.format("v", "i"), "a/w.sql": view.format("w", other)})
        assert problem.hint == "rename the index"


def test_a_name_with_a_dot_is_one_name() -> None:
    """Names are compared as parts: `a."b.c"` is never taken for `"a.b".c`."""
    files = {
        "a/b.c.sql": 'CREATE VIEW "b.c" AS SELECT 1 AS n',
        "a.b/c.sql": 'CREATE VIEW c AS SELECT n FROM a."b.c"',
    }
    assert objects(files)[ObjectName("a.b", "c")].depends_on == {ObjectName("a", "b.c")}


def test_the_order_is_that_of_dependencies() -> None:
    """Objects stand behind what they need, and by name where that leaves a choice."""
    files = {
        "a/a.sql": "CREATE VIEW a AS SELECT * FROM z, b.m",
        "a/z.sql": "CREATE VIEW z AS SELECT f(1)",
        "a/f.sql": "CREATE FUNCTION f(n int) RETURNS int LANGUAGE sql AS 'SELECT n FROM b.m'",
        "b/m.sql": "CREATE VIEW m AS SELECT 1 AS n",
        "b/a.sql": "CREATE VIEW a AS SELECT 1",
    }
    assert [f"{name.schema}.{name.name}" for name in objects(files)] == ["b.a", "b.m", "a.f", "a.z", "a.a"]


def test_a_cycle_is_named_in_full() -> None:
    """Objects that need each other are told as the whole circle, where its first object uses the next."""
    files = {
        "a/v.sql": "CREATE VIEW v AS\nSELECT * FROM b.w",
        "b/w.sql": "CREATE VIEW w AS SELECT f()",
        "b/f.sql": "CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN PERFORM 1 FROM a.v; END $$",
        "b/x.sql": "CREATE VIEW x AS SELECT * FROM w",
    }
    (problem,) = problems(files)
    path = "view a.v → view b.w → function b.f → view a.v"
    assert problem.message == f"objects need each other in a circle: {path}"
    assert (problem.file, problem.line, problem.column) == ("objects/shop/a/v.sql", 2, 15)


def test_each_cycle_is_told() -> None:
    """Circles that share nothing are all told at once."""
    pairs = [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c"), ("e", "a")]
    files = {f"s/{one}.sql": f"CREATE VIEW {one} AS SELECT * FROM {other}" for one, other in pairs}
    assert [each.message.partition(": ")[2] for each in problems(files)] == [
        "view s.a → view s.b → view s.a",
        "view s.c → view s.d → view s.c",
    ]


def test_a_very_long_cycle_is_cut_in_the_middle() -> None:
    """Of a circle of very many objects the first are named, how many more there are, and the end."""
    files = {f"a/v{at:03}.sql": f"CREATE VIEW v{at:03} AS TABLE v{(at + 1) % 200:03}" for at in range(200)}
    (problem,) = problems(files)
    assert problem.message.endswith("view a.v097 → view a.v098 → 101 more → view a.v000")


def test_a_routine_may_call_itself_and_a_view_may_not_read_itself() -> None:
    """Recursion of a routine is no circle; a view that reads itself is one."""
    body = "SELECT CASE WHEN n < 2 THEN 1 ELSE v(n - 1) + a.v(n - 2) END"
    made = objects({"a/v.sql": f"CREATE FUNCTION v(n int) RETURNS int LANGUAGE sql AS $$ {body} $$"})
    assert made[ObjectName("a", "v")].depends_on == frozenset()
    (problem,) = problems("CREATE VIEW v AS SELECT * FROM a.v")
    assert problem.message == "view 'a.v' reads itself"


def test_compiling_again_reads_only_what_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What files say is kept by their contents: a change of one file reads that file alone."""
    files = {f"a/v{number}.sql": f"CREATE VIEW v{number} AS SELECT {number}, 'again'" for number in range(20)}
    first = compiled(files)
    parsed: list[str] = []
    known = sql_text.trees

    def trees(text: str) -> tuple[sql_text.Tree, ...]:
        parsed.append(text)
        return known(text)

    monkeypatch.setattr(sql_text, "trees", trees)
    assert compiled(files) == first
    assert parsed == []
    changed = files | {"a/v7.sql": "CREATE VIEW v7 AS SELECT * FROM v1"}
    again = compiled(changed)
    assert parsed == [changed["a/v7.sql"]]
    assert again.project is not None
    assert again.project.objects[ObjectName("a", "v7")].depends_on == {ObjectName("a", "v1")}


def test_what_is_kept_of_a_file_follows_the_names_around_it() -> None:
    """A file that did not change means something else once another file makes what it names."""
    view = {"a/v.sql": "CREATE VIEW v AS SELECT * FROM orders, kept('x')"}
    before = objects(view, "public.orders")[ObjectName("a", "v")]
    routine = {"a/kept.sql": "CREATE FUNCTION kept(n text) RETURNS SETOF int RETURN 1"}
    after = objects(view | routine, "public.orders")[ObjectName("a", "v")]
    assert before.depends_on == frozenset()
    assert after.depends_on == {ObjectName("a", "kept")}
    assert before.hash != after.hash
    assert objects(view, "public.orders")[ObjectName("a", "v")] == before
