"""What is pending of a component's objects, and what is in the way."""

from dataclasses import replace

from reconciler.diff.model import Action, DatabaseDiff, Drift, LeftDeferred, ObjectsDiff, OpenGeneration
from reconciler.diff.objects import (
    KEY_LENGTH,
    BuiltState,
    as_left,
    compare,
    key_of,
    left_behind,
    left_desired,
    named_drift,
)
from reconciler.diff.objects import NOTHING_BUILT as NOTHING_THERE
from reconciler.objects.generation import SchemaAction
from reconciler.objects.model import ObjectSort, Production, Project, SqlSchema
from reconciler.state.desired import DesiredAssertion, DesiredDatabase, DesiredDeferred, DesiredRefresh
from reconciler.state.tracked import TrackedDatabase, TrackedObjects, TrackedState
from tests.plugins.object_projects import NOTHING_BUILT, compared, desired, production, project, sql_object
from tests.plugins.states import desired as desired_state

CORE = sql_object("core.open")
OTHER = sql_object("core.other")
LATE = sql_object("ops.late", "core.open")
PLACE = ("production", "eu")
ALL = project(CORE, OTHER, LATE)
NOTE = DesiredDeferred(name="note", sql="SELECT 1")
NO_GAPS = DesiredAssertion(name="no-gaps", sql="SELECT 1 WHERE false")


def diff(wanted: Project, live: Production, *, forced: tuple[str, ...] = ()) -> ObjectsDiff:
    return compared(wanted, live, forced=forced)


def told(of: ObjectsDiff) -> list[tuple[str, str, str]]:
    return [(one.identity, one.action.value, one.reason) for one in of.pending]


def test_nothing_is_pending_of_what_was_built() -> None:
    """A project that is live as it is has no rows and blocks nothing."""
    assert not diff(ALL, production(ALL)).works
    again = diff(ALL, production(ALL))
    assert (again.pending, again.blocked, again.warnings) == ((), (), ())


def test_first_rollout_adds_schemas_and_objects() -> None:
    """Where nothing was built, every schema and every object is added."""
    assert told(diff(project(CORE, LATE), NOTHING_BUILT)) == [
        ("schema core", "add", "not built yet"),
        ("schema ops", "add", "not built yet"),
        ("view core.open", "add", "it is new"),
        ("view ops.late", "add", "it is new"),
    ]


def test_edit_and_deletion_are_told_with_what_follows() -> None:
    """Every object that is built anew has a row with its reason, and so has one that goes."""
    wanted = project(sql_object("core.open", hash_="2"), LATE)
    assert told(diff(wanted, production(ALL))) == [
        ("view core.open", "change", "its definition changed"),
        ("view core.other", "remove", "it is no longer in the project"),
        ("view ops.late", "change", "core.open, which it reads, is rebuilt"),
    ]


def test_retired_schema_is_removed_with_its_objects() -> None:
    """The last object of a schema takes the schema along, and both are told."""
    assert told(diff(project(CORE, OTHER), production(ALL))) == [
        ("schema ops", "remove", "it is no longer in the project"),
        ("view ops.late", "remove", "it is no longer in the project"),
    ]


def test_metadata_is_a_change_of_its_own() -> None:
    """Grants, comments and what files of schemas say are changed in place, and told as such."""
    wanted = project(
        sql_object("core.open", metadata_hash="m"),
        OTHER,
        LATE,
        schemas=[SqlSchema(name="core", metadata_hash="s", stable=True)],
    )
    found = diff(wanted, production(ALL))
    assert told(found) == [
        ("schema core", "change", "what its file says of it changed; it becomes stable"),
        ("view core.open", "change", "its grants, comments or options changed"),
    ]
    back = diff(ALL, production(wanted))
    assert told(back)[0] == (
        "schema core",
        "change",
        "what its file says of it changed; it is stable no longer",
    )


def test_forced_schema_is_told_and_what_stays_is_not() -> None:
    """A materialized view of a stable schema that is only forced stays, and has no row."""
    wanted = project(sql_object("api.sum", sort=ObjectSort.MATERIALIZED_VIEW), stable=["api"])
    assert not diff(wanted, production(wanted), forced=("api",)).works
    found = diff(ALL, production(ALL), forced=("ops",))
    assert told(found) == [("view ops.late", "change", "--redeploy-schema named ops")]


def test_names_are_those_of_the_catalog() -> None:
    """Names are quoted as drift of the same object would have them."""
    wanted = project(sql_object("Daily Sales.order"))
    assert [one.identity for one in diff(wanted, NOTHING_BUILT).pending] == [
        'schema "Daily Sales"',
        'view "Daily Sales"."order"',
    ]


def test_refusals_block_and_warnings_do_not() -> None:
    """What cannot be done in place blocks the component with file and way out."""
    before = project(
        CORE, sql_object("api.sum", "core.open", sort=ObjectSort.MATERIALIZED_VIEW), stable=["api"]
    )
    after = project(
        sql_object("core.open", hash_="2"),
        sql_object("api.sum", "core.open", sort=ObjectSort.MATERIALIZED_VIEW),
        stable=["api"],
    )
    (why,) = diff(after, production(before)).blocked
    assert why.startswith("objects/api/sum.sql: materialized view api.sum is in a stable schema")


def built(
    of: Project, *, generation: int = 1, operation: str = "op-1", unfinished: tuple[OpenGeneration, ...] = ()
) -> BuiltState:
    live = production(of)
    return BuiltState(
        production=live,
        generations=dict.fromkeys(live.schemas, generation),
        operations=dict.fromkeys(live.schemas, operation),
        unfinished=unfinished,
    )


def begun(key: str, state: str = "staged") -> OpenGeneration:
    return OpenGeneration(key=key, state=state, commit="c" * 40, operation="op-0")


def test_empty_schema_is_taken_over() -> None:
    """A live schema without anything in it is exchanged, for there is nothing in it that could be lost."""
    state = BuiltState(
        production=Production(objects={}, schemas={}),
        schemas=frozenset({"core", "public"}),
        empty=frozenset({"core"}),
    )
    empty = compare(desired(project(CORE)), state, place=PLACE)
    assert [work.action for work in empty.generation.schemas] == [SchemaAction.SWAP]
    assert {one.action for one in empty.pending} == {Action.ADD}


def test_staging_name_that_is_taken_is_not_used() -> None:
    """A schema of somebody else's that is named like a staging schema is left alone."""
    wanted = desired(project(CORE))
    first = compare(wanted, NOTHING_THERE, place=PLACE).generation
    (name,) = first.staging.values()
    taken = replace(NOTHING_THERE, schemas=frozenset({name}))
    assert compare(wanted, taken, place=PLACE).generation.staging["core"] != name
    ours = replace(taken, staging=frozenset({name}))
    assert compare(wanted, ours, place=PLACE).generation == first


def test_groups_of_refreshes_make_nothing_dirty() -> None:
    """Who refreshes what, over how many schemas, is no change of any object."""
    hourly = DesiredRefresh(name="all", schedule="0 * * * *", views=tuple(sorted(ALL.objects)))
    wanted = replace(desired(ALL), refresh=(hourly,))
    found = compare(wanted, built(ALL), place=PLACE)
    assert (found.pending, found.works) == ((), False)
    edited = replace(wanted, project=project(CORE, OTHER, sql_object("ops.late", "core.open", hash_="2")))
    without = replace(edited, refresh=())
    assert (
        compare(edited, built(ALL), place=PLACE).pending == compare(without, built(ALL), place=PLACE).pending
    )


def test_key_follows_from_what_is_built_and_over_what() -> None:
    """The same objects over the same generations have one key; any of these, and the place, gives another."""
    wanted = desired(ALL)
    key = key_of(wanted, built(project(CORE)), place=PLACE)
    assert (len(key), key) == (KEY_LENGTH, key_of(wanted, built(project(CORE)), place=PLACE))
    edited = desired(project(CORE, OTHER, sql_object("ops.late", "core.open", hash_="2")))
    granted = desired(project(CORE, OTHER, sql_object("ops.late", "core.open", metadata_hash="2")))
    others = {
        key_of(edited, built(project(CORE)), place=PLACE),
        key_of(granted, built(project(CORE)), place=PLACE),
        key_of(desired(project(CORE, OTHER, LATE, stable=["ops"])), built(project(CORE)), place=PLACE),
        key_of(wanted, built(project(CORE), generation=2), place=PLACE),
        key_of(wanted, built(project(CORE, OTHER)), place=PLACE),
        key_of(replace(wanted, deferred=(NOTE,)), built(project(CORE)), place=PLACE),
        key_of(replace(wanted, deferred=(replace(NOTE, sql="SELECT 2"),)), built(project(CORE)), place=PLACE),
        key_of(replace(wanted, assertions=(NO_GAPS,)), built(project(CORE)), place=PLACE),
        key_of(wanted, built(project(CORE)), place=("production", "us")),
        key_of(wanted, built(project(CORE)), place=PLACE, forced=["ops"]),
        key_of(desired(ALL, component="more"), built(project(CORE)), place=PLACE),
    }
    assert len(others | {key}) == 12


def test_what_was_staged_is_gone_on_with_and_others_are_discarded() -> None:
    """A generation of the same key is begun already; any other that waits is discarded, and told."""
    wanted = desired(project(sql_object("core.open", hash_="2"), OTHER, LATE))
    key = compare(wanted, built(ALL), place=PLACE).generation.key
    found = compare(wanted, built(ALL, unfinished=(begun(key), begun("old"))), place=PLACE)
    assert found.begun == begun(key)
    assert found.discard == (begun("old"),)
    assert told(found)[-1] == ("generation old", "remove", "it was staged, and its turn never came")
    failed = compare(wanted, built(ALL, unfinished=(begun(key, "failed"),)), place=PLACE)
    assert (failed.begun, failed.discard) == (None, (begun(key, "failed"),))


def test_what_was_staged_for_nothing_is_discarded() -> None:
    """Where the project is live as it is, what waits beside it is of no use."""
    found = compare(desired(ALL), built(ALL, unfinished=(begun("old", "ready"),)), place=PLACE)
    assert found.works
    assert (found.begun, found.discard) == (None, (begun("old", "ready"),))


def test_forced_schema_is_exchanged_once_by_one_operation() -> None:
    """What an operation has switched to already, another attempt of it does not build once more."""
    wanted = desired(ALL)
    again = compare(wanted, built(ALL), place=PLACE, forced=["ops"], operation="op-1")
    assert not again.works
    other = compare(wanted, built(ALL), place=PLACE, forced=["ops"], operation="op-2")
    assert [work.name for work in other.generation.schemas] == ["ops"]


def test_deferred_actions_of_what_is_live_are_pending() -> None:
    """What a switch before left to do is still to be done, until the next one takes its place."""
    left = (LeftDeferred(key="k", name="publish"),)
    found = compare(desired(ALL), replace(built(ALL), deferred=left), place=PLACE)
    assert told(found) == [
        ("deferred action publish", "change", "its generation is live, and it is not done yet")
    ]
    edited = desired(project(sql_object("core.open", hash_="2"), OTHER, LATE))
    assert compare(edited, replace(built(ALL), deferred=left), place=PLACE).deferred == ()


def test_drift_of_an_object_names_its_component() -> None:
    """What somebody altered by hand is told with the component whose it is; what else drifted stays."""
    rate = sql_object("core.rate", sort=ObjectSort.FUNCTION)
    rows = ("view core.open", "function core.rate(integer)", "schema core", "table shop.orders")
    part = DatabaseDiff(
        desired=DesiredDatabase(component="shop-db", stage="databases", database="shop"),
        drift=tuple(
            Drift(component="shop-db", identity=row, action=Action.CHANGED, detail="") for row in rows
        ),
    )
    found = named_drift(part, [("analytics", production(project(CORE, rate)))])
    assert [row.component for row in found.drift] == ["analytics", "analytics", "analytics", "shop-db"]


def left_of(built_state: BuiltState) -> ObjectsDiff:
    state = desired_state()
    owner = TrackedObjects(component="old", environment="production", deployment="eu", schemas=("core",))
    return compare(left_desired(state, (state.databases[0], owner)), built_state, place=PLACE)


def test_components_that_left_are_those_of_this_deployment_that_it_does_not_declare() -> None:
    """Of other deployments and environments nothing is said, nor of what is declared."""
    rows = [("analytics", "eu"), ("old", "eu"), ("old", "us")]
    recorded = TrackedDatabase(
        objects=tuple(
            TrackedObjects(component=name, environment="production", deployment=place, schemas=())
            for name, place in rows
        )
    )
    state = replace(desired_state(), objects=(desired(ALL),))
    found = left_behind(state, TrackedState(databases={"shop": recorded}))
    assert [one for _database, one in found] == [recorded.objects[1]]


def test_what_is_live_of_a_component_that_left_goes_with_prune_alone() -> None:
    """Without it nothing is done and it is told; with it the schemas are taken out, and that is told too."""
    part, said = as_left(left_of(built(ALL)), prune=False)
    assert part is None
    assert said is not None
    assert said.detail.endswith("core, ops; policy.prune is off, so they stay as they are")
    part, said = as_left(left_of(built(ALL)), prune=True)
    assert part is not None
    assert [work.action for work in part.generation.schemas] == [SchemaAction.RETIRE, SchemaAction.RETIRE]
    assert said is not None


def test_what_was_staged_of_a_component_that_left_is_discarded() -> None:
    """Nobody would promote it, whatever is pruned."""
    waiting = BuiltState(production=Production(objects={}, schemas={}), unfinished=(begun("k"),))
    part, said = as_left(left_of(waiting), prune=False)
    assert said is None
    assert part is not None
    assert (part.discard, told(part)) == (
        (begun("k"),),
        [("generation k", "remove", "it was staged, and its turn never came")],
    )
    nothing = BuiltState(production=Production(objects={}, schemas={}))
    assert as_left(left_of(nothing), prune=True) == (None, None)
