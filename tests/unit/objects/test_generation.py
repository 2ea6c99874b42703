"""What a rollout will do with objects: schemas, waves, names of staging schemas, and what is refused."""

from reconciler.objects.dirty import dirty
from reconciler.objects.generation import Generation, SchemaAction, SchemaWork, plan, staging_names
from reconciler.objects.model import ObjectSort, Production, Project, SqlSchema
from reconciler.objects.stable import Question
from tests.plugins.object_projects import NOTHING_BUILT, named, production, project, sql_object

MATERIALIZED = ObjectSort.MATERIALIZED_VIEW
FUNCTION = ObjectSort.FUNCTION
CORE = sql_object("core.open")
CORE_SUM = sql_object("core.sum", "core.open", sort=MATERIALIZED)
OPS = sql_object("ops.late", "core.sum")
BASE = sql_object("base.days")


def planned(wanted: Project, live: Production, *forced: str) -> Generation:
    return plan(wanted, live, dirty(wanted, live, forced=forced), key="k")


def actions(generation: Generation) -> dict[str, str]:
    return {f"{name.schema}.{name.name}": work.action.value for name, work in generation.objects.items()}


def test_first_rollout_stages_every_schema_in_waves() -> None:
    """Where nothing is live, schemas are added, and objects are made in waves behind what they need."""
    wanted = project(BASE, CORE, CORE_SUM, OPS)
    made = planned(wanted, NOTHING_BUILT)
    assert {work.action for work in made.schemas} == {SchemaAction.ADD}
    assert made.waves == (
        (named("base.days"), named("core.open")),
        (named("core.sum"),),
        (named("ops.late"),),
    )
    assert made.questions == ()
    assert made.in_switch == ()
    assert made.works


def test_only_what_is_dirty_is_staged_and_the_rest_is_read() -> None:
    """An edited view swaps its schema; the schema that it reads is named, for it has to stay the same."""
    before = project(BASE, CORE, sql_object("ops.late", "core.open"))
    after = project(BASE, CORE, sql_object("ops.late", "core.open", hash_="2"))
    made = planned(after, production(before))
    (schema,) = made.schemas
    assert (schema.name, schema.action) == ("ops", SchemaAction.SWAP)
    assert made.waves == ((named("ops.late"),),)
    assert made.reads == ("core",)
    assert [(one.question, one.name) for one in made.questions] == [(Question.RESULT, named("ops.late"))]


def test_schema_that_is_gone_is_retired_and_nothing_is_staged() -> None:
    """The last object of a schema takes it along, and what may still depend on it is asked."""
    made = planned(project(CORE), production(project(CORE, CORE_SUM, OPS, BASE)))
    assert SchemaWork(name="ops", action=SchemaAction.RETIRE) in made.schemas
    assert [one.name for one in made.questions if one.question is Question.UNUSED] == [
        named("base.days"),
        named("core.sum"),
        named("ops.late"),
    ]


def test_schema_without_objects_is_swapped_to_an_empty_one() -> None:
    """A schema that keeps its file stays, also when its last object goes."""
    wanted = project(CORE, schemas=[SqlSchema(name="base")])
    made = planned(wanted, production(project(CORE, BASE)))
    assert [(work.name, work.action) for work in made.schemas] == [("base", SchemaAction.SWAP)]
    assert made.waves == ()


def test_metadata_is_changed_in_place_unless_it_is_built_anyway() -> None:
    """Grants and comments of what is not built are changed in place; the rest gets them in staging."""
    before = project(BASE, CORE)
    after = project(
        sql_object("base.days", metadata_hash="m2"),
        sql_object("core.open", hash_="2", metadata_hash="m2"),
        schemas=[SqlSchema(name="base", metadata_hash="s2"), SqlSchema(name="core", metadata_hash="s2")],
    )
    made = planned(after, production(before))
    assert made.metadata == (named("base.days"),)
    assert made.schema_metadata == ("base",)


def test_becoming_stable_alone_builds_nothing() -> None:
    """A schema that is declared stable, and nothing else, is only recorded as such."""
    made = planned(project(CORE, stable=["core"]), production(project(CORE)))
    assert made.stability == (("core", True),)
    assert (made.schemas, made.waves) == ((), ())
    assert made.works


def test_stable_schema_is_changed_in_place() -> None:
    """In a stable schema objects are replaced, added, moved in and moved out, each tried in staging first."""
    before = project(
        CORE, sql_object("api.a"), sql_object("api.b"), sql_object("api.f", sort=FUNCTION), stable=["api"]
    )
    after = project(
        CORE,
        sql_object("api.a", hash_="2"),
        sql_object("api.f", sort=FUNCTION, hash_="2"),
        sql_object("api.new", "api.a"),
        sql_object("api.sum", "core.open", sort=MATERIALIZED),
        stable=["api"],
    )
    made = planned(after, production(before))
    assert actions(made) == {
        "api.a": "replace",
        "api.b": "retire",
        "api.f": "replace",
        "api.new": "add",
        "api.sum": "move",
    }
    assert [(work.name, work.action) for work in made.schemas] == [("api", SchemaAction.IN_PLACE)]
    assert made.in_switch == (named("api.a"), named("api.f"), named("api.new"))
    assert made.waves[0] == (named("api.a"), named("api.f"), named("api.sum"))
    assert {(one.name.name, one.question) for one in made.questions} == {
        ("a", Question.APPENDED),
        ("b", Question.UNUSED),
        ("f", Question.REPLACEABLE),
    }
    assert made.refused == ()


def test_stable_view_is_bound_anew_in_the_switch() -> None:
    """A stable view over a schema that is swapped is made again in place, with the same text."""
    api = sql_object("api.late", "core.open")
    before = project(CORE, api, stable=["api"])
    after = project(sql_object("core.open", hash_="2"), api, stable=["api"])
    made = planned(after, production(before))
    assert actions(made) == {"core.open": "build", "api.late": "replace"}
    assert made.in_switch == (named("api.late"),)


def test_stable_view_keeps_changed_grants_where_it_is_replaced() -> None:
    """A replaced view has the grants it had, so changed ones are set in place besides."""
    before = project(sql_object("api.a"), stable=["api"])
    after = project(sql_object("api.a", hash_="2", metadata_hash="m2"), stable=["api"])
    assert planned(after, production(before)).metadata == (named("api.a"),)


def test_materialized_view_of_a_stable_schema_is_refused() -> None:
    """What cannot be replaced in place is refused with the reason and the way out."""
    api = sql_object("api.sum", "core.open", sort=MATERIALIZED)
    before = project(CORE, api, stable=["api"])
    made = planned(project(sql_object("core.open", hash_="2"), api, stable=["api"]), production(before))
    (problem,) = made.refused
    assert str(problem) == (
        "objects/api/sum.sql: materialized view api.sum is in a stable schema and would be built anew, "
        "because core.open, which it reads, is rebuilt; a materialized view cannot be replaced in place "
        "(keep the materialized view in a schema that is swapped, and a view over it in the stable one)"
    )


def test_materialized_view_of_a_forced_stable_schema_stays() -> None:
    """Forcing a stable schema loses nothing: what cannot be replaced and need not be stays as it is."""
    wanted = project(sql_object("api.sum", sort=MATERIALIZED), sql_object("api.a"), stable=["api"])
    made = planned(wanted, production(wanted), "api")
    assert actions(made) == {"api.a": "replace"}
    assert made.refused == ()


def test_materialized_view_of_a_forced_stable_schema_over_a_rebuilt_one_is_refused() -> None:
    """Being forced does not hide that it would be left bound to what goes away."""
    api = sql_object("api.sum", "core.open", sort=MATERIALIZED)
    wanted = project(CORE, api, stable=["api"])
    (problem,) = planned(wanted, production(wanted), "api", "core").refused
    assert "because core.open, which it needs, is rebuilt; a materialized view" in problem.message


def test_other_sort_in_a_stable_schema_is_refused() -> None:
    """A function does not take the place of a view."""
    before = project(sql_object("api.a"), stable=["api"])
    after = project(sql_object("api.a", sort=FUNCTION), stable=["api"])
    (problem,) = planned(after, production(before)).refused
    assert "function api.a is a view in the stable schema that is live" in problem.message


def test_routine_that_names_what_is_swapped_is_told_live_names() -> None:
    """The text of a body is resolved when it runs, so it is made again with live names in the switch."""
    rate = sql_object("core.rate", "core.open", sort=FUNCTION)
    made = planned(project(CORE, rate, sql_object("ops.x", "core.rate")), NOTHING_BUILT)
    assert made.in_switch == (named("core.rate"),)


def test_routine_that_names_only_what_stays_is_not_made_again() -> None:
    """A body that names no staged object needs no second text."""
    rate = sql_object("ops.rate", "core.open", sort=FUNCTION)
    made = planned(project(CORE, rate), production(project(CORE)))
    assert made.waves == ((named("ops.rate"),),)
    assert made.in_switch == ()


def test_view_over_what_is_tried_is_bound_to_the_live_one_later() -> None:
    """A swapped view over a replaced one is built over the tried copy, and made again in the switch."""
    before = project(sql_object("api.a"), stable=["api"])
    after = project(sql_object("api.a", hash_="2"), sql_object("ops.x", "api.a"), stable=["api"])
    made = planned(after, production(before))
    assert made.waves == ((named("api.a"),), (named("ops.x"),))
    assert made.in_switch == (named("api.a"), named("ops.x"))


def test_materialized_view_over_what_changes_in_place_is_told_of() -> None:
    """It is filled before the switch: over the live view, with a warning; over a new one, refused."""
    before = project(sql_object("api.a"), stable=["api"])
    over_live = sql_object("ops.x", "api.a", sort=MATERIALIZED)
    after = project(sql_object("api.a", hash_="2"), over_live, stable=["api"])
    made = planned(after, production(before))
    (warning,) = made.warnings
    assert warning.message == (
        "materialized view ops.x is filled from api.a as it is live now, which is in a stable schema and "
        "changes with the switch"
    )
    assert made.in_switch == (named("api.a"),)
    over_new = sql_object("ops.x", "api.new", sort=MATERIALIZED)
    after = project(sql_object("api.a"), sql_object("api.new"), over_new, stable=["api"])
    (problem,) = planned(after, production(before)).refused
    assert problem.message.startswith(
        "materialized view ops.x reads api.new, which is new in a stable schema"
    )


def test_reasons_stand_with_the_work() -> None:
    """Each object of a generation says why it is there."""
    made = planned(project(CORE, CORE_SUM), production(project(CORE)))
    assert made.objects[named("core.sum")].reason == "it is new"
    assert made.objects[named("core.open")].reason == "it shares schema core with core.sum, which is new"


def test_staging_names_carry_a_part_of_the_key() -> None:
    """A schema's staging name is its own name with eight hexadecimal characters of the generation's key."""
    names = staging_names(["analytics", "Daily Sales"], "key-1")
    assert names["analytics"].startswith("analytics__")
    assert names["Daily Sales"].startswith("Daily Sales__")
    assert len(names["analytics"]) == len("analytics__") + 8
    assert staging_names(["analytics"], "key-2")["analytics"] != names["analytics"]
    assert staging_names(["analytics"], "key-1") == {"analytics": names["analytics"]}


def test_long_names_never_meet() -> None:
    """Names that PostgreSQL would cut to the same one stay apart, and whole characters stay whole."""
    long = ["x" * 60, "x" * 61, "x" * 63, "é" * 31, "é" * 30 + "e"]
    one, other = staging_names(long, "key-1"), staging_names(long, "key-2")
    every = [*one.values(), *other.values()]
    assert len(set(every)) == len(every)
    assert all(len(name.encode()) <= 63 for name in every)
    assert all(name.startswith(("xxx", "ééé")) for name in every)


def test_longest_name_that_fits_is_kept_whole() -> None:
    """A name with just enough room for the mark is not cut."""
    (name,) = staging_names(["x" * 53], "k").values()
    assert len(name) == 63
    assert name.startswith("x" * 53 + "__")


def test_taken_name_is_never_used() -> None:
    """A real schema that is named like a staging one is left alone, and another name is found."""
    (first,) = staging_names(["core"], "k").values()
    (second,) = staging_names(["core"], "k", taken=[first]).values()
    assert second != first
    wanted = project(CORE, sql_object(f"{first}.v"))
    assert planned(wanted, NOTHING_BUILT).staging["core"] == second
