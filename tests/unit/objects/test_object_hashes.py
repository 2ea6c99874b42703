"""Hashes of objects: what they mean moves them, how they are written does not."""

from itertools import pairwise

import pytest

from reconciler.catalog.sql_text import parse_hash
from reconciler.objects.hashing import qualified, splice
from reconciler.objects.model import ObjectName, SqlObject, SqlStatement
from reconciler.objects.project import compile_project

OTHERS = {
    "a/t.sql": "CREATE VIEW t AS SELECT 1 AS n",
    "a/f.sql": "CREATE FUNCTION f(n int) RETURNS int RETURN n",
    "b/Old.sql": 'CREATE VIEW "Old" AS SELECT 1 AS n',
}


def read(text: str) -> SqlObject:
    """Compile a file that makes `a.v`."""
    made = compile_project("p", OTHERS | {"a/v.sql": text}, externals=("public.orders",), variables={})
    assert made.problems == ()
    assert made.project is not None
    return made.project.objects[ObjectName("a", "v")]


KEPT = "CREATE MATERIALIZED VIEW v AS SELECT n FROM t; "
SAME = [
    (
        "CREATE VIEW v AS SELECT t.n, f(t.n) FROM t, orders",
        "-- about\ncreate or replace view a.v as\n\tselect T.n, a.F(t.n) /* x */ from A.t, public.orders\n;",
    ),
    ("CREATE VIEW v AS SELECT 1", 'CREATE VIEW "a"."v" WITH (security_barrier) AS SELECT 1'),
    (
        KEPT + "CREATE INDEX i ON v (n); CREATE INDEX j ON v (f(n))",
        KEPT + "create index j on a.v using btree (a.f(n)); create index i on v(n)",
    ),
    (
        "CREATE FUNCTION v() RETURNS int LANGUAGE sql AS 'SELECT n FROM t'",
        "CREATE OR REPLACE FUNCTION a.v() RETURNS integer LANGUAGE SQL AS $$ select n\nfrom a.t -- all\n $$",
    ),
    (
        "CREATE FUNCTION v(x t) RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN a.f(1); END $$",
        "CREATE FUNCTION v(X a.t) RETURNS int LANGUAGE plpgsql AS ' BEGIN RETURN A . \"f\"(1); END '",
    ),
    (
        "CREATE FUNCTION v(n int) RETURN n; CREATE FUNCTION v(n text) RETURN n",
        "CREATE FUNCTION v(n text) RETURN n; CREATE FUNCTION v(n int) RETURN n",
    ),
    (
        "CREATE VIEW v AS SELECT 1 AS n",
        "CREATE VIEW v AS SELECT 1 AS n; GRANT ALL ON v TO r;EXECUTE UNIT TEST x EXPECTED (n t) AS (TABLE u)",
    ),
]
OTHER = [
    ("CREATE VIEW v AS SELECT n FROM t", 'CREATE VIEW v AS SELECT n FROM b."Old"'),
    ("CREATE VIEW v AS SELECT n FROM t", "CREATE VIEW v AS SELECT n FROM t AS x"),
    ("CREATE VIEW v AS SELECT 1", "CREATE MATERIALIZED VIEW v AS SELECT 1"),
    ("CREATE VIEW v AS SELECT 1", "CREATE VIEW v (n) AS SELECT 1"),
    ("CREATE VIEW v AS SELECT 'a'", "CREATE VIEW v AS SELECT 'A'"),
    ("CREATE VIEW v AS SELECT 1", "CREATE VIEW v AS SELECT 1 WITH CHECK OPTION"),
    (KEPT, KEPT + "CREATE INDEX i ON v (n)"),
    (KEPT + "CREATE INDEX i ON v (n)", KEPT + "CREATE INDEX j ON v (n)"),
    (KEPT + "CREATE INDEX i ON v (n)", KEPT + "CREATE UNIQUE INDEX i ON v (n)"),
    (
        "CREATE FUNCTION v() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION v() RETURNS int LANGUAGE sql AS 'SELECT 2'",
    ),
    (
        "CREATE FUNCTION v() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'",
        "CREATE FUNCTION v() RETURNS int LANGUAGE plpgsql AS 'BEGIN  RETURN 1; END'",
    ),
    ("CREATE FUNCTION v() RETURN 1", "CREATE FUNCTION v() IMMUTABLE RETURN 1"),
    (
        "CREATE FUNCTION v() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "CREATE FUNCTION v() RETURNS int LANGUAGE sql RETURN 1",
    ),
]


@pytest.mark.parametrize(("one", "other"), SAME, ids=range(len(SAME)))
def test_what_means_the_same_hashes_the_same(one: str, other: str) -> None:
    """Layout, comments, case, qualification, OR REPLACE, options and order of indexes are no change."""
    assert read(one).hash == read(other).hash


@pytest.mark.parametrize(("one", "other"), OTHER, ids=range(len(OTHER)))
def test_what_means_something_else_hashes_otherwise(one: str, other: str) -> None:
    """Whatever a reader could tell from the object itself moves the hash."""
    assert read(one).hash != read(other).hash


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (
            "GRANT SELECT ON v TO r; GRANT SELECT ON v TO s",
            "grant select on a.v to S; grant select on v to r",
            True,
        ),
        ("COMMENT ON VIEW v IS 'x'", "COMMENT ON VIEW v IS 'y'", False),
        ("COMMENT ON VIEW v IS 'x'", "-- y\ncomment on view a.V is 'x';", True),
        ("GRANT SELECT ON v TO r", "GRANT SELECT ON v TO r WITH GRANT OPTION", False),
        ("GRANT ALL ON v TO r", "REVOKE ALL ON v FROM r", False),
        ("GRANT ALL ON v TO r; REVOKE ALL ON v FROM r", "REVOKE ALL ON v FROM r; GRANT ALL ON v TO r", False),
        ("", "EXECUTE UNIT TEST x EXPECTED (n int) AS (SELECT 1)", True),
    ],
)
def test_metadata_has_a_hash_of_its_own(one: str, other: str, same: bool) -> None:
    """Grants and comments are told apart from definitions; their order counts only where one takes away."""
    first, second = (read(f"CREATE VIEW v AS SELECT 1 AS n; {text}") for text in (one, other))
    assert first.hash == second.hash
    assert (first.metadata_hash == second.metadata_hash) is same


def test_options_are_metadata() -> None:
    """An option is changed in place: it moves the metadata's hash and not the definition's."""
    first, second, third = (
        read(f"CREATE VIEW v WITH (security_barrier = {value}) AS SELECT 1")
        for value in ("on", "true", "off")
    )
    assert first.hash == second.hash == third.hash
    assert first.metadata_hash == second.metadata_hash != third.metadata_hash


@pytest.mark.parametrize("number", range(len(SAME) + len(OTHER)))
def test_mentions_stand_where_the_names_do(number: int) -> None:
    """With every mention written in full an object is the same, and mentions are in order without overlap."""
    for text in (*SAME, *OTHER)[number]:
        made = read(text)
        full = "; ".join(
            in_full(each) for each in (*made.creates, *(each.statement for each in made.indexes))
        )
        assert read(full).hash == made.hash


def in_full(statement: SqlStatement) -> str:
    """Write a statement with all its names qualified."""
    mentions = sorted((*statement.mentions, *statement.outside), key=lambda each: each.start)
    for earlier, later in pairwise(mentions):
        assert earlier.end <= later.start
    full = splice(statement.text, [(each.start, each.end, qualified(each)) for each in mentions])
    assert parse_hash(full).startswith("pg18:")
    return full
