"""What is built anew of a project, and what people are told about why."""

import re

import pytest

from reconciler.errors import InvalidInput
from reconciler.objects.dirty import CHAIN_SHOWN_MAX, Dirty, changed, dirty, forced_schemas
from reconciler.objects.model import ObjectSort, Project, SqlSchema
from tests.plugins.object_projects import NOTHING_BUILT, named, production, project, sql_object

CORE = sql_object("core.open")
CORE_OTHER = sql_object("core.other")
OPS = sql_object("ops.late", "core.open")
OPS_OTHER = sql_object("ops.count")
API = sql_object("api.late", "ops.late")
ALL = project(CORE, CORE_OTHER, OPS, OPS_OTHER, API)


def because(found: Dirty) -> dict[str, str]:
    return {f"{name.schema}.{name.name}": found.because(name) for name in found.reasons}


def edited(name: str, *needs: str) -> Project:
    """The project with one object edited."""
    new = sql_object(name, *needs, hash_="2")
    return project(*(new if one.name == new.name else one for one in ALL.objects.values()))


def test_unchanged_project_is_clean() -> None:
    """What is live as the files have it is left alone."""
    assert dirty(ALL, production(ALL)).reasons == {}
    assert dirty(ALL, production(ALL)).changes == changed(ALL, production(ALL))


def test_everything_is_new_at_first() -> None:
    """Where nothing was built, every object is built, for it is new."""
    found = dirty(ALL, NOTHING_BUILT)
    assert set(because(found).values()) == {"it is new"}
    assert set(found.reasons) == set(ALL.objects)


def test_edited_view_takes_its_schema_and_what_depends_on_it_along() -> None:
    """A change rebuilds its schema and the schemas downstream of it, each object with its first reason."""
    assert because(dirty(edited("core.open"), production(ALL))) == {
        "core.open": "its definition changed",
        "core.other": "it shares schema core with core.open, whose definition changed",
        "ops.late": "core.open, which it reads, is rebuilt",
        "ops.count": "it shares schema ops with ops.late, which is rebuilt",
        "api.late": "ops.late, which it reads, is rebuilt",
    }


def test_what_is_upstream_stays() -> None:
    """What a changed object reads is not built anew."""
    found = dirty(edited("ops.late", "core.open"), production(ALL))
    assert {name.schema for name in found.reasons} == {"ops", "api"}


def test_deleted_object_takes_its_schema_along() -> None:
    """A deletion rebuilds the rest of its schema, and says so of the neighbours."""
    without = project(*(one for one in ALL.objects.values() if one is not CORE_OTHER))
    told = because(dirty(without, production(ALL)))
    assert told["core.other"] == "it is no longer in the project"
    assert told["core.open"] == "it shares schema core with core.other, which is no longer in the project"
    assert told["ops.late"] == "core.open, which it reads, is rebuilt"


def test_last_object_of_a_schema_retires_it() -> None:
    """A schema that is left out of the project is retired, and nothing else is built."""
    found = dirty(project(CORE, CORE_OTHER, OPS, OPS_OTHER), production(ALL))
    assert found.changes.retired == ("api",)
    assert because(found) == {"api.late": "it is no longer in the project"}


def test_another_sort_under_the_same_name_is_an_edit() -> None:
    """A view that becomes a materialized view is changed, whatever its hash."""
    other = sql_object("api.late", "ops.late", sort=ObjectSort.MATERIALIZED_VIEW)
    changes = changed(project(CORE, CORE_OTHER, OPS, OPS_OTHER, other), production(ALL))
    assert changes.edited == (named("api.late"),)


def test_grants_and_comments_rebuild_nothing() -> None:
    """An object of which metadata alone differs is named apart, and so is a schema."""
    now = project(
        sql_object("core.open", metadata_hash="m2"),
        CORE_OTHER,
        OPS,
        OPS_OTHER,
        API,
        schemas=[SqlSchema(name="ops", metadata_hash="s2")],
    )
    found = dirty(now, production(ALL))
    assert found.reasons == {}
    assert found.changes.metadata == (named("core.open"),)
    assert found.changes.schemas == ("ops",)


def test_stable_schema_ends_what_spreads() -> None:
    """What is changed in place takes along neither who reads it nor its neighbours."""
    before = project(CORE, CORE_OTHER, OPS, OPS_OTHER, API, stable=["core"])
    after = project(sql_object("core.open", hash_="2"), CORE_OTHER, OPS, OPS_OTHER, API, stable=["core"])
    assert because(dirty(after, production(before))) == {"core.open": "its definition changed"}


def test_stable_schema_is_bound_anew_to_what_it_reads() -> None:
    """An object of a stable schema that reads a rebuilt one is dirty, its neighbours are not."""
    api_other = sql_object("api.other")
    before = project(CORE, CORE_OTHER, OPS, OPS_OTHER, API, api_other, stable=["api"])
    after = project(
        sql_object("core.open", hash_="2"), CORE_OTHER, OPS, OPS_OTHER, API, api_other, stable=["api"]
    )
    told = because(dirty(after, production(before)))
    assert told["api.late"] == "ops.late, which it reads, is rebuilt"
    assert "api.other" not in told


@pytest.mark.parametrize(("was", "is_now"), [(False, True), (True, False)], ids=["to stable", "from stable"])
def test_schema_that_becomes_stable_is_swapped_once_more(was: bool, is_now: bool) -> None:
    """Only a schema that is stable and was built as one ends what spreads."""
    objects = (sql_object("core.open", hash_="2"), CORE_OTHER, OPS, OPS_OTHER, API)
    after = project(*objects, stable=["core"] if is_now else [])
    live = production(ALL, schemas={"core": was, "ops": False, "api": False})
    assert set(dirty(after, live).reasons) == set(ALL.objects)


def test_forced_schema_and_what_is_downstream() -> None:
    """A schema that is named on the command line is built with what depends on it, and nothing upstream."""
    told = because(dirty(ALL, production(ALL), forced=["ops"]))
    assert told == {
        "ops.late": "--redeploy-schema named ops",
        "ops.count": "--redeploy-schema named ops",
        "api.late": "ops.late, which it reads, is rebuilt",
    }


def test_routine_is_called() -> None:
    """Of a routine it is said that it is called."""
    routine = sql_object("core.rate", sort=ObjectSort.FUNCTION)
    reader = sql_object("ops.late", "core.rate")
    changed_routine = sql_object("core.rate", sort=ObjectSort.FUNCTION, hash_="2")
    found = dirty(project(changed_routine, reader), production(project(routine, reader)))
    assert found.because(named("ops.late")) == "core.rate, which it calls, is rebuilt"


def test_chain_leads_to_the_root_cause() -> None:
    """An explanation goes from the object back to what a person did."""
    found = dirty(edited("core.open"), production(ALL))
    assert found.explained(named("api.late")) == (
        "api.late because ops.late, which it reads, is rebuilt",
        "ops.late because core.open, which it reads, is rebuilt",
        "core.open because its definition changed",
    )


def test_long_chain_is_cut() -> None:
    """However deep a project is, an explanation stays short and ends at the root."""
    objects = [sql_object("s0.v")] + [sql_object(f"s{n}.v", f"s{n - 1}.v") for n in range(1, 100)]
    live = production(project(*objects))
    found = dirty(project(sql_object("s0.v", hash_="2"), *objects[1:]), live)
    lines = found.explained(named("s99.v"))
    assert len(lines) == CHAIN_SHOWN_MAX + 1
    assert lines[-1] == "and 50 more, back to s0.v"


def test_names_are_quoted_as_sql_has_them() -> None:
    """A name that SQL quotes is quoted where people read it."""
    new = sql_object("Daily Sales.order")
    found = dirty(project(new, sql_object("x.y", "Daily Sales.order", hash_="2")), NOTHING_BUILT)
    assert found.explained(new.name) == ('"Daily Sales"."order" because it is new',)


@pytest.mark.parametrize(
    ("word", "schema"),
    [("ops", "ops"), ("OPS", "ops"), ('"Daily Sales"', "Daily Sales"), ("Daily Sales", "Daily Sales")],
)
def test_forced_schema_is_read_as_sql_or_as_it_is(word: str, schema: str) -> None:
    """Unquoted names fold to small letters, quoted and exact ones do not."""
    known = project(OPS_OTHER, sql_object("Daily Sales.x"))
    assert forced_schemas([word], known) == {schema}


def test_every_wrong_forced_schema_is_told_at_once() -> None:
    """Unknown, qualified and unreadable names are refused together, with what there is."""
    words = ["ops", "opps", "ops.late", "shop.ops.late", "a.b", "1x", "", '"']
    with pytest.raises(InvalidInput) as refused:
        forced_schemas(words, ALL)
    too_much = "is more than the name of a schema (a schema is built anew as a whole: name 'ops' alone)"
    known = "(the project has: api, core, ops)"
    near = known.replace("(", "(did you mean 'ops'?; ")
    assert [str(problem) for problem in refused.value.problems] == [
        f"--redeploy-schema: no schema 'opps' in the project {near}",
        f"--redeploy-schema: 'ops.late' {too_much}",
        f"--redeploy-schema: 'shop.ops.late' {too_much}",
        f"--redeploy-schema: 'a.b' is more than the name of a schema {known}",
        f"--redeploy-schema: '1x' is not a name {known}",
        f"--redeploy-schema: '' is not a name {known}",
        f"--redeploy-schema: '\"' is not a name {known}",
    ]


def test_list_of_schemas_is_bounded() -> None:
    """Of many schemas a message lists the first ones and counts the rest."""
    many = project(*(sql_object(f"s{number:02}.v") for number in range(20)))
    with pytest.raises(InvalidInput, match=re.escape("s00, s01, s02, s03")) as refused:
        forced_schemas(["zz"], many)
    assert str(refused.value).endswith("s11 and 8 more)")
    with pytest.raises(InvalidInput, match="the project has no schemas"):
        forced_schemas(["x"], project())
