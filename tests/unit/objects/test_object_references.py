"""What names in object files mean: objects of the project, declared externals, the server's, or a mistake."""

import pytest

from reconciler.objects.model import Mention, ObjectName, SqlObject
from reconciler.objects.project import compile_project

PROJECT = {
    "a/t.sql": "CREATE VIEW t AS SELECT 1 AS n",
    "a/f.sql": "CREATE FUNCTION f(n int) RETURNS int RETURN n",
    "b/t.sql": "CREATE MATERIALIZED VIEW t AS SELECT 2 AS n",
    'a/Q "x".sql': 'CREATE VIEW "Q ""x""" AS SELECT 1 AS n',
}
EXTERNALS = ("public.orders", "shop.orders", 'shop."Old"')
PROGRAM = """ DECLARE r a.t%ROWTYPE; BEGIN
    PERFORM a.f(1), t.n, f(2), r.n, far.away FROM orders; -- a.t
    FOR i IN 1..n LOOP EXECUTE 'DELETE FROM a.t'; END LOOP; new.n := b.t;
END """
STABLE = {"stable.sql": "SET api = stable"}


def read(text: str, *externals: str, **more: str) -> SqlObject:
    """Compile a file that makes `a.v` among others, and return that."""
    files = PROJECT | STABLE | {"a/v.sql": text} | more
    made = compile_project("p", files, externals=(*EXTERNALS, *externals), variables={})
    assert made.problems == ()
    assert made.project is not None
    return made.project.objects[ObjectName("a", "v")]


def wrong(text: str) -> list[tuple[str, str | None]]:
    """Compile a file that makes `a.v` among others, and return what is wrong with it."""
    made = compile_project("p", PROJECT | STABLE | {"a/v.sql": text}, externals=EXTERNALS, variables={})
    assert made.project is None
    return [(each.message, each.hint) for each in made.problems]


def told(made: SqlObject) -> list[str]:
    """Write the mentions of the first statement but its own: what is written, and what is meant."""

    def line(text: str, mention: Mention) -> str:
        return f"{text[mention.start : mention.end]} = {mention.target.schema}.{mention.target.name}"

    create = made.creates[0]
    every = sorted((*create.mentions[1:], *create.outside), key=lambda each: each.start)
    return [line(create.text, each) for each in every]


@pytest.mark.parametrize(
    ("query", "mentions"),
    [
        ("SELECT * FROM t", ["t = a.t"]),
        ("SELECT * FROM T, b . t AS x", ["T = a.t", "b . t = b.t"]),
        ("TABLE ONLY b.t", ["b.t = b.t"]),
        ("SELECT * FROM orders, shop.orders", ["orders = public.orders", "shop.orders = shop.orders"]),
        ('SELECT * FROM shop /* é */ . "Old"', ['shop /* é */ . "Old" = shop.Old']),
        ('SELECT \'ü\', "Q ""x""".n FROM a."Q ""x"""', ['a."Q ""x""" = a.Q "x"']),
        ("SELECT a.t.n, t.n, (a.t.*)::text FROM a.t", ["a.t = a.t", "a.t = a.t", "a.t = a.t"]),
        ("SELECT f(1), a.f(2), now(), b.t.n FROM b.t", ["f = a.f", "a.f = a.f", "b.t = b.t", "b.t = b.t"]),
        ("SELECT * FROM f(1) AS x, ROWS FROM (a.f(1), f(2))", ["f = a.f", "a.f = a.f", "f = a.f"]),
        ("SELECT NULL::t, NULL::b.t[], NULL::text, NULL::int", ["t = a.t", "b.t = b.t"]),
        ("SELECT 'a.t'::regclass, '  t'::regclass", ["a.t = a.t", "t = a.t"]),
        ("SELECT 'orders'::regclass", ["orders = public.orders"]),
        ("SELECT 'a.f(int)'::regprocedure, CAST('b.t' AS regtype)", ["a.f = a.f", "b.t = b.t"]),
        ("SELECT 'now'::regproc, 'far'::regtype", []),
        ("SELECT 'pg_class'::regclass, '1259'::regclass, 'x.y.z'::regclass", []),
        ("SELECT 'a.t', 't' || 'b.t', $$ a.t $$ FROM pg_class, information_schema.tables", []),
        ("SELECT similarity('a', 'b'), stable.similarity('a'), NULL::ext.thing", []),
        ("SELECT (SELECT n FROM t LIMIT 1) WHERE EXISTS (SELECT FROM b.t)", ["t = a.t", "b.t = b.t"]),
        ("SELECT * FROM t TABLESAMPLE system (1)", ["t = a.t"]),
        ("SELECT * FROM t FOR UPDATE OF t", ["t = a.t"]),
        ("SELECT t.n FROM orders AS t", ["orders = public.orders"]),
        ("SELECT count(*) FILTER (WHERE f(n) > 0) OVER (ORDER BY a.f(n))", ["f = a.f", "a.f = a.f"]),
        ("(SELECT * FROM t) UNION (SELECT * FROM b.t EXCEPT TABLE t)", ["t = a.t", "b.t = b.t", "t = a.t"]),
        ("SELECT * FROM stable.t", None),
    ],
)  # fmt: skip
def test_names_of_a_query(query: str, mentions: list[str] | None) -> None:
    """Each name means the nearest thing: an object of the schema, then a declared external in `public`."""
    if mentions is None:
        assert told(read(f"CREATE VIEW v AS {query}", "stable.t")) == ["stable.t = stable.t"]
    else:
        assert told(read(f"CREATE VIEW v AS {query}")) == mentions


@pytest.mark.parametrize(
    ("query", "mentions"),
    [
        ("WITH t AS (SELECT * FROM t) SELECT * FROM t", ["t = a.t"]),
        ("WITH x AS (SELECT * FROM t), t AS (SELECT * FROM x) SELECT * FROM t, x", ["t = a.t"]),
        ("WITH RECURSIVE t AS (SELECT 1 UNION SELECT * FROM t) SELECT * FROM t", []),
        ("WITH RECURSIVE x AS (SELECT * FROM t), t AS (SELECT 1) SELECT * FROM x", []),
        ("WITH t AS (SELECT 1) SELECT * FROM t, a.t", ["a.t = a.t"]),
        ("SELECT * FROM (WITH t AS (SELECT 1) TABLE t) AS x, t", ["t = a.t"]),
        ("WITH t AS (SELECT 1) SELECT (SELECT n FROM t), (WITH u AS (TABLE t) TABLE u)", []),
        ("(WITH t AS (SELECT 1) TABLE t) UNION TABLE t", ["t = a.t"]),
        ("WITH x AS (WITH t AS (SELECT 1) TABLE t) SELECT * FROM x, t", ["t = a.t"]),
        ("WITH t AS (SELECT 1) SELECT * FROM f(1) AS n WHERE EXISTS (SELECT FROM t)", ["f = a.f"]),
    ],
)
def test_common_table_expressions_hide_relations_where_they_are_seen(query: str, mentions: list[str]) -> None:
    """What a WITH names hides a relation for what comes behind it, and with RECURSIVE for all of it."""
    assert told(read(f"CREATE VIEW v AS {query}")) == mentions


def test_a_recursive_view_is_no_circle() -> None:
    """The view's own name within CREATE RECURSIVE VIEW is a common table expression."""
    made = read("CREATE RECURSIVE VIEW v (n) AS SELECT 1 UNION ALL SELECT n + 1 FROM v, t")
    assert told(made) == ["t = a.t"]


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("() RETURNS SETOF t LANGUAGE sql AS $$ SELECT * FROM t $$", ["t = a.t", "t = a.t"]),
        ("() LANGUAGE sql AS 'SELECT ''t'', n FROM t -- ''\n, b.t'", ["t = a.t", "b.t = b.t"]),
        ("(x t, y b.t.n%TYPE DEFAULT f(1)) RETURN f(x.n)", ["t = a.t", "b.t = b.t", "f = a.f", "f = a.f"]),
        ("() BEGIN ATOMIC SELECT * FROM t; SELECT f(1); END", ["t = a.t", "f = a.f"]),
        ("() LANGUAGE sql AS $b$ WITH t AS (TABLE b.t) DELETE FROM t USING t $b$", ["b.t = b.t", "t = a.t"]),
        ("() LANGUAGE sql AS $$ WITH t AS (SELECT 1) INSERT INTO t TABLE t $$", ["t = a.t"]),
        ("() LANGUAGE sql AS ''", []),
        (f"() LANGUAGE plpgsql AS $${PROGRAM}$$", ["a.t = a.t", "a.f = a.f", "b.t = b.t"]),
        ("() LANGUAGE plpgsql AS 'BEGIN PERFORM ''x'', a.\"t\".n; END'", ['a."t" = a.t']),
        ("() LANGUAGE c AS 'a.t', 'a.f'", []),
    ],
)  # fmt: skip
def test_names_of_routines(text: str, mentions: list[str]) -> None:
    """SQL bodies are parsed; of others only names in full count that the project has."""
    made = read(f"CREATE FUNCTION v{text}")
    assert told(made) == mentions


def test_mentions_in_strings_are_told_from_those_in_the_tree() -> None:
    """What stands in the text of a body is resolved when that runs, and is marked so."""
    made = read("CREATE FUNCTION v(x t) RETURNS int LANGUAGE sql AS $$ SELECT f(n) FROM t $$")
    assert [(each.target.name, each.routine, each.in_body) for each in made.creates[0].mentions] == [
        ("v", True, False),
        ("t", False, False),
        ("f", True, True),
        ("t", False, True),
    ]


@pytest.mark.parametrize(
    ("query", "message", "hint"),
    [
        (
            "SELECT * FROM nothing",
            "undeclared external 'nothing': schema 'a' of the project has no such object",
            "declare it on the component: externals: [public.nothing]",
        ),
        (
            'SELECT * FROM shop."Orders"',
            "undeclared external 'shop.\"Orders\"'",
            "declare it on the component: externals: ['shop.\"Orders\"']",
        ),
        (
            "SELECT * FROM a.tt",
            "no such object 'a.tt' in the project",
            "did you mean 't'?",
        ),
        (
            "SELECT b.far(1)",
            "no such object 'b.far' in the project",
            "the project makes all of schema 'b'; tables belong to another schema",
        ),
        (
            "SELECT * FROM stable.far",
            "no such object 'stable.far' in the project",
            "what others make in a stable schema is declared: externals: [stable.far]",
        ),
        ("SELECT a.t(1)", "'a.t' is a view, which is read, not called", None),
        ("SELECT * FROM f", "'a.f' is a function, which is called, not read", None),
        (
            "SELECT 'nothing'::regclass",
            "undeclared external 'nothing': schema 'a' of the project has no such object",
            "declare it on the component: externals: [public.nothing]",
        ),
        (
            "SELECT NULL::a.nothing",
            "no such object 'a.nothing' in the project",
            "the project makes all of schema 'a'; tables belong to another schema",
        ),
        (
            'SELECT * FROM U&"\\0074"',
            "the name of 'a.t' is written with escapes",
            "write it plainly, in double quotes if need be",
        ),
        (
            "SELECT E'a\\056t'::regclass",
            "the name of 'a.t' is written with escapes",
            "write it plainly, in double quotes if need be",
        ),
    ],
)
def test_names_that_mean_nothing(query: str, message: str, hint: str | None) -> None:
    """A name that nothing is known of is a mistake, told with what to write."""
    assert wrong(f"CREATE VIEW v AS {query}") == [(message, hint)]


def test_externals_are_relations_in_full_that_the_project_does_not_make() -> None:
    """Declarations that cannot be are problems, each named by its place in the list."""
    externals = (
        "orders",
        "a.b.c",
        "public.x y",
        "",
        "pg_catalog.pg_class",
        "a.table",
        "stable.table",
        'x."Y"',
    )
    made = compile_project("p", PROJECT | STABLE, externals=externals, variables={})
    assert [(each.path, each.message) for each in made.problems] == [
        ("externals[0]", "external 'orders' is no name in full"),
        ("externals[1]", "external 'a.b.c' is no name in full"),
        ("externals[2]", "external 'public.x y' is no name in full"),
        ("externals[3]", "external '' is no name in full"),
        ("externals[4]", "external 'pg_catalog.pg_class' is the server's own"),
        ("externals[5]", "external 'a.table' is in a schema that the project makes"),
    ]


def test_externals_that_nothing_reads_are_warned_of() -> None:
    """A declaration that is of no use is a warning; a word in a body that no parser reads is a use."""
    body = "CREATE PROCEDURE v() LANGUAGE plpgsql AS $$ BEGIN DELETE FROM orders; END $$"
    files = PROJECT | {"a/v.sql": body, "a/w.sql": "CREATE VIEW w AS TABLE shop.orders"}
    made = compile_project(
        "p", files, externals=("public.orders", "shop.orders", "public.lines"), variables={}
    )
    assert made.project is not None
    assert [(each.path, each.message) for each in made.warnings] == [
        ("externals[2]", "external 'public.lines' is declared, and no object reads it")
    ]
    assert made.project.objects[ObjectName("a", "w")].externals == {ObjectName("shop", "orders")}


def test_very_deep_expressions_are_read() -> None:
    """A chain of operators that is deeper than Python's recursion still gives its names."""
    chain = " + ".join(["f(1)", *["1"] * 1_000, "a.f(2)"])
    assert told(read(f"CREATE VIEW v AS SELECT {chain} FROM t")) == ["f = a.f", "a.f = a.f", "t = a.t"]
