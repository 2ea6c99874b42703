"""What a dry run shows of a generation."""

import json

from reconciler.objects.dirty import dirty
from reconciler.objects.generation import plan
from reconciler.objects.generation_text import document, lines
from reconciler.objects.model import ObjectSort, SqlSchema
from tests.plugins.object_projects import NOTHING_BUILT, named, production, project, sql_object

CORE = sql_object("core.open")
BEFORE = project(
    CORE,
    sql_object("api.a"),
    sql_object("api.b"),
    sql_object("base.x"),
    sql_object("gone.x"),
    sql_object("kept.x"),
    stable=["api"],
)
AFTER = project(
    sql_object("core.open", hash_="2"),
    sql_object("core.rate", "core.open", sort=ObjectSort.FUNCTION),
    sql_object("api.a", hash_="2"),
    sql_object("api.c", "api.a"),
    sql_object("base.x", metadata_hash="m"),
    sql_object("kept.x"),
    sql_object("Ops.sum", "api.a", sort=ObjectSort.MATERIALIZED_VIEW),
    stable=["api"],
    schemas=[SqlSchema(name="base", metadata_hash="s"), SqlSchema(name="kept", stable=True)],
)
MADE = plan(AFTER, production(BEFORE), dirty(AFTER, production(BEFORE)), key="k")
STAGING = MADE.staging


def test_text_has_what_there_is_in_order() -> None:
    """People read the schemas, the waves with reasons, what the switch makes, and what is done in place."""
    *told, warning = lines(MADE)
    assert told == [
        "schemas:",
        f'  "Ops" <- "{STAGING["Ops"]}" (new)',
        f"  api (in place, tried in {STAGING['api']})",
        f"  core <-> {STAGING['core']}",
        "  gone (retired)",
        "wave 1:",
        "  build view core.open because its definition changed",
        "  replace in place view api.a because its definition changed",
        "wave 2:",
        "  build function core.rate because it is new",
        "  add in place view api.c because it is new",
        '  build materialized view "Ops".sum because it is new',
        "moved out:",
        "  move out view api.b because it is no longer in the project",
        "made under live names in the switch:",
        "  core.rate",
        "  api.a",
        "  api.c",
        "grants, comments and options in place:",
        "  schema base",
        "  base.x",
        "  schema kept becomes stable",
        "warnings:",
    ]
    assert warning.startswith(
        '  objects/Ops/sum.sql: materialized view "Ops".sum is filled from api.a as it is'
    )


def test_json_has_all_of_it() -> None:
    """Programs get every part under a name, with the wave of what is staged."""
    shape = document(MADE)
    assert json.loads(json.dumps(shape)) == shape
    assert shape["schemas"][2] == {"schema": "core", "action": "swap", "staging": STAGING["core"]}
    assert shape["objects"][0] == {
        "object": "core.open",
        "sort": "view",
        "action": "build",
        "wave": 1,
        "because": "its definition changed",
    }
    assert [one["wave"] for one in shape["objects"] if one["action"] == "retire"] == [None]
    assert shape["in_switch"] == ["core.rate", "api.a", "api.c"]
    assert (shape["metadata"], shape["schema_metadata"]) == (["base.x"], ["base"])
    assert shape["stability"] == [{"schema": "kept", "stable": True}]
    assert (shape["reads"], shape["refused"]) == ([], [])


def test_nothing_is_shown_of_nothing() -> None:
    """An empty generation is an empty text, and an unmoved one is refused in its first lines."""
    assert lines(plan(project(), NOTHING_BUILT, dirty(project(), NOTHING_BUILT), key="k")) == ()
    api = sql_object("api.m", sort=ObjectSort.MATERIALIZED_VIEW)
    after = project(sql_object("api.m", sort=ObjectSort.MATERIALIZED_VIEW, hash_="2"), stable=["api"])
    live = production(project(api, stable=["api"]))
    told = lines(plan(after, live, dirty(after, live), key="k"))
    assert told[0] == "refused:"
    assert named("api.m") in after.objects
