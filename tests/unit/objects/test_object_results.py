"""What readers get of objects before and after: told from texts as far as these name columns."""

import pytest

from reconciler.objects.dirty import dirty
from reconciler.objects.generation import Generation, plan
from reconciler.objects.model import Project
from reconciler.objects.project import compile_project
from reconciler.objects.results import Results, answers, asked_names, column_names, foreseen
from reconciler.objects.stable import Column, Signature
from tests.plugins.object_projects import named, production

STABLE = {"api.sql": "SET api = stable;"}
ID, TOTAL = Column(name="id", type="integer"), Column(name="total", type="numeric")


def compiled(files: dict[str, str]) -> Project:
    found = compile_project("objects", files, externals=["public.orders"], variables={})
    assert found.project is not None, found.problems
    return found.project


def generation(before: dict[str, str], after: dict[str, str]) -> tuple[Project, Generation]:
    of, live = compiled(after), production(compiled(before))
    return of, plan(of, live, dirty(of, live), key="k")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("CREATE VIEW v AS SELECT id, total AS sum FROM orders;", ("id", "sum")),
        ("CREATE VIEW v AS SELECT o.id FROM orders AS o UNION SELECT 1;", ("id",)),
        ("CREATE VIEW v (a, b) AS SELECT id, total, paid FROM orders;", ("a", "b", "paid")),
        ("CREATE VIEW v AS VALUES (1, 2), (3, 4);", ("column1", "column2")),
        ('CREATE MATERIALIZED VIEW v ("A") AS SELECT id FROM orders;', ("A",)),
        ("CREATE VIEW v AS SELECT * FROM orders;", None),
        ("CREATE VIEW v AS SELECT o.* FROM orders AS o;", None),
        ("CREATE VIEW v AS SELECT id + 1 FROM orders;", None),
        ("CREATE FUNCTION v() RETURNS int LANGUAGE sql AS 'SELECT 1';", None),
    ],
)
def test_columns_are_named_by_texts(text: str, names: tuple[str, ...] | None) -> None:
    """Where a text leaves a name to the server, nothing is said."""
    of = compiled({"core/v.sql": text})
    assert column_names(of.objects[named("core.v")]) == names


def test_a_column_taken_from_a_stable_view_is_refused_before_anything_is_built() -> None:
    """The columns that are live, and those that the text names, show it with a diff."""
    of, made = generation(
        {**STABLE, "api/v.sql": "CREATE VIEW v AS SELECT id, total FROM orders;"},
        {**STABLE, "api/v.sql": "CREATE VIEW v AS SELECT id, paid FROM orders;"},
    )
    problems, changed = foreseen(of, made, Results(columns={named("api.v"): (ID, TOTAL)}))
    assert changed == ()
    (why,) = (str(one) for one in problems)
    assert why.startswith(
        "objects/api/v.sql: view api.v is in a stable schema, and its columns may only be added"
    )
    assert ": - total numeric; + paid (its type is known once it is built)" in why


def test_a_column_that_a_stable_view_gains_is_no_problem() -> None:
    """Columns are appended in place."""
    of, made = generation(
        {**STABLE, "api/v.sql": "CREATE VIEW v AS SELECT id FROM orders;"},
        {**STABLE, "api/v.sql": "CREATE VIEW v AS SELECT id, total FROM orders;"},
    )
    assert foreseen(of, made, Results(columns={named("api.v"): (ID,)})) == ((), ())


def test_changed_columns_of_a_swapped_view_are_told() -> None:
    """Readers hear of it, and so do people; a view with the columns it had is not told of."""
    of, made = generation(
        {"core/v.sql": "CREATE VIEW v AS SELECT id, total FROM orders;"},
        {"core/v.sql": "CREATE VIEW v AS SELECT id FROM orders;"},
    )
    assert asked_names(made) == (named("core.v"),)
    live = Results(columns={named("core.v"): (ID, TOTAL)})
    assert foreseen(of, made, live) == ((), (("view core.v", "- total numeric"),))
    assert foreseen(of, made, Results(columns={named("core.v"): (ID,)})) == ((), ())
    assert foreseen(of, made, Results()) == ((), ())


def test_types_are_compared_once_it_is_built() -> None:
    """Of swapped ones readers are warned; what cannot be done in place is a problem, of routines too."""
    rate = "CREATE FUNCTION rate(a int) RETURNS int LANGUAGE sql AS 'SELECT {}';"
    of, made = generation(
        {
            **STABLE,
            "api/v.sql": "CREATE VIEW v AS SELECT id FROM orders;",
            "api/rate.sql": rate.format(1),
            "core/w.sql": "CREATE VIEW w AS SELECT id FROM orders;",
            "core/f.sql": "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1';",
        },
        {
            **STABLE,
            "api/v.sql": "CREATE VIEW v AS SELECT id::text AS id FROM orders;",
            "api/rate.sql": rate.format(2).replace("RETURNS int", "RETURNS bigint"),
            "core/w.sql": "CREATE VIEW w AS SELECT id::text AS id FROM orders;",
            "core/f.sql": "CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT 1::text';",
        },
    )
    text = Column(name="id", type="text")
    before = Results(
        columns={named("api.v"): (ID,), named("core.w"): (ID,)},
        signatures={
            named("api.rate"): (Signature(types="integer", parameters="a integer", result="integer"),),
            named("core.f"): (Signature(types="", parameters="", result="integer"),),
        },
    )
    after = Results(
        columns={named("api.v"): (text,), named("core.w"): (text,)},
        signatures={
            named("api.rate"): (Signature(types="integer", parameters="a integer", result="bigint"),),
            named("core.f"): (Signature(types="", parameters="", result="text"),),
        },
    )
    problems, warnings = answers(of, made, before, after)
    assert [one.file for one in problems] == ["objects/api/rate.sql", "objects/api/v.sql"]
    assert "(integer) returns integer -> bigint" in problems[0].message
    assert [one.file for one in warnings] == ["objects/core/f.sql", "objects/core/w.sql"]
    assert answers(of, made, before, before) == ((), ())
