"""Where objects come from and what comes from them, as people and programs are told."""

from dataclasses import replace

import pytest

from reconciler.errors import NotFound
from reconciler.objects.dirty import dirty
from reconciler.objects.generation import plan
from reconciler.objects.lineage import LINES_MAX, document, find, lineage, lines
from reconciler.objects.model import ObjectSort
from tests.plugins.object_projects import named, production, project, sql_object

CORE = replace(
    sql_object("core.open", sort=ObjectSort.MATERIALIZED_VIEW), externals=frozenset([named("public.orders")])
)
RATE = sql_object("core.rate", "core.open", sort=ObjectSort.FUNCTION)
LATE = sql_object("ops.late", "core.open", "core.rate")
API = sql_object("api.late", "ops.late")
ALL = project(CORE, RATE, LATE, API)
AFTER = project(replace(CORE, hash="2"), RATE, LATE, API)


def test_lineage_goes_both_ways() -> None:
    """All that an object is made from and all that is made from it are found, nearest first."""
    of = lineage(ALL, named("ops.late"))
    assert [(one.name.name, one.sort, one.depth) for one in of.upstream] == [
        ("open", "materialized view", 1),
        ("rate", "function", 1),
        ("orders", "external", 2),
    ]
    assert [(one.name.schema, one.depth) for one in of.downstream] == [("api", 1)]


def test_text_is_two_trees_and_the_reasons() -> None:
    """People see both directions as trees, each object spelled out once, and the chain to the root cause."""
    found = dirty(AFTER, production(ALL))
    made = plan(AFTER, production(ALL), found, key="k")
    assert lines(lineage(AFTER, named("ops.late")), AFTER, found, made) == (
        "view ops.late",
        "  objects/ops/late.sql",
        "",
        "reads",
        "  materialized view core.open",
        "    external public.orders",
        "  function core.rate",
        "    materialized view core.open (see above)",
        "",
        "read by",
        "  view api.late",
        "",
        "rebuilt (build)",
        "  ops.late because core.open, which it reads, is rebuilt",
        "  core.open because its definition changed",
    )


def test_text_says_where_there_is_nothing() -> None:
    """An object without relatives, and one that is not rebuilt, is said to be so."""
    alone = project(sql_object("core.x"))
    of = lineage(alone, named("core.x"))
    assert lines(of, alone)[2:] == ("", "reads nothing", "", "read by nothing")
    assert lines(of, alone, dirty(alone, production(alone)))[-1] == "not rebuilt"


def test_json_has_all_of_it() -> None:
    """Programs get names, depths, tests and the chain, and null where nothing is rebuilt."""
    found = dirty(AFTER, production(ALL))
    shape = document(lineage(AFTER, named("core.rate")), found, plan(AFTER, production(ALL), found, key="k"))
    assert shape == {
        "object": "core.rate",
        "sort": "function",
        "path": "objects/core/rate.sql",
        "reads": ["core.open"],
        "read_by": ["ops.late"],
        "upstream": [
            {"object": "core.open", "sort": "materialized view", "depth": 1},
            {"object": "public.orders", "sort": "external", "depth": 2},
        ],
        "downstream": [
            {"object": "ops.late", "sort": "view", "depth": 1},
            {"object": "api.late", "sort": "view", "depth": 2},
        ],
        "tests": [],
        "rebuilt": {
            "action": "build",
            "because": "core.open, which it reads, is rebuilt",
            "chain": [
                {"object": "core.rate", "because": "core.open, which it reads, is rebuilt"},
                {"object": "core.open", "because": "its definition changed"},
            ],
        },
    }
    assert document(lineage(ALL, named("core.rate")))["rebuilt"] is None


def test_wide_tree_is_cut() -> None:
    """Of thousands of relatives as many are shown as a person reads."""
    many = project(
        sql_object("core.x"), *(sql_object(f"ops.v{n:04}", "core.x") for n in range(LINES_MAX + 5))
    )
    of = lineage(many, named("core.x"))
    assert len(lines(of, many)) < LINES_MAX + 10
    assert lines(of, many)[-1] == "  and more"
    assert len(of.downstream) == LINES_MAX + 5


def test_deep_web_is_written_once() -> None:
    """A web in which ways double at each step is written in as many lines as it has edges."""
    objects = [sql_object("s.a0"), sql_object("s.b0")]
    for n in range(1, 60):
        objects += [sql_object(f"s.{side}{n}", f"s.a{n - 1}", f"s.b{n - 1}") for side in "ab"]
    web = project(*objects)
    assert len(lines(lineage(web, named("s.a59")), web)) < 250


@pytest.mark.parametrize("text", ["ops.late", "OPS.Late", '"ops"."late"', "rate"])
def test_object_is_found_as_sql_names_it(text: str) -> None:
    """Unquoted names fold, quoted ones do not, and a name that only one schema has needs no schema."""
    assert find(text, ALL) in (named("ops.late"), named("core.rate"))


def test_exact_name_is_found_as_it_is() -> None:
    """A name with blanks and capitals is found without quotes, for a shell eats those."""
    assert find("Daily Sales.Open", project(sql_object("Daily Sales.Open"))) == named("Daily Sales.Open")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("late", "several schemas have it: ops.late, api.late"),
        ("ops.lat", "did you mean 'ops.late'?"),
        ("zzz", "the project has 4 objects"),
        ("a.b.c", "the project has 4 objects"),
        ("", "the project has 4 objects"),
    ],
)
def test_unknown_object_is_told_with_what_there_is(text: str, hint: str) -> None:
    """A name that means nothing or several objects is refused with a way on."""
    with pytest.raises(NotFound, match="no object") as refused:
        find(text, ALL)
    assert refused.value.hint == hint
