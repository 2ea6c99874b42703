"""What is pending of a component's objects, and what is in the way."""

import pytest

from reconciler.catalog.fingerprint import fingerprint
from reconciler.catalog.model import Catalog, CatalogObject, ObjectKind
from reconciler.diff.model import Action, ObjectsDiff
from reconciler.diff.objects import NAMED_MAX, compare
from reconciler.objects.generation import SchemaAction
from reconciler.objects.model import ObjectSort, Production, Project, SqlSchema
from tests.plugins.object_projects import NOTHING_BUILT, desired, production, project, sql_object

CORE = sql_object("core.open")
OTHER = sql_object("core.other")
LATE = sql_object("ops.late", "core.open")
ALL = project(CORE, OTHER, LATE)


def diff(
    wanted: Project, live: Production, *rows: CatalogObject, forced: tuple[str, ...] = ()
) -> ObjectsDiff:
    catalog = Catalog(objects={row.identity: row for row in rows})
    return compare(desired(wanted), live, catalog=catalog, key="k", forced=forced)


def row(kind: ObjectKind, name: str) -> CatalogObject:
    return CatalogObject(kind, name, "{}", fingerprint("{}"))


def told(of: ObjectsDiff) -> list[tuple[str, str, str]]:
    return [(one.identity, one.action.value, one.reason) for one in of.pending]


def test_nothing_is_pending_of_what_was_built() -> None:
    """A project that is live as it is has no rows and blocks nothing, whether or not the catalog was read."""
    assert not diff(ALL, production(ALL)).works
    again = compare(desired(ALL), production(ALL), catalog=None, key="k")
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


@pytest.mark.parametrize("kind", [ObjectKind.TABLE, ObjectKind.SEQUENCE, ObjectKind.TYPE, ObjectKind.VIEW])
def test_what_was_not_built_from_objects_is_in_the_way(kind: ObjectKind) -> None:
    """A schema is never exchanged with something in it that a person or a module made."""
    wanted = project(sql_object("core.open", hash_="2"), OTHER, LATE)
    found = diff(wanted, production(ALL), row(ObjectKind.SCHEMA, "core"), row(kind, "core.extra"))
    (why,) = found.blocked
    assert why == (
        "schema core would be swapped, and holds what was not built from objects: "
        f"{kind.value} core.extra; move it to another schema first, or drop it"
    )


def test_what_belongs_to_built_objects_is_not_in_the_way() -> None:
    """Built objects with their indexes, and what stands elsewhere, hinder nothing."""
    routine = sql_object("core.rate", sort=ObjectSort.FUNCTION)
    wanted = project(CORE, sql_object("core.rate", sort=ObjectSort.FUNCTION, hash_="2"))
    rows = (
        row(ObjectKind.SCHEMA, "core"),
        row(ObjectKind.VIEW, "core.open"),
        row(ObjectKind.FUNCTION, "core.rate(integer)"),
        row(ObjectKind.INDEX, "core.by_hand"),
        row(ObjectKind.TABLE, "shop.orders"),
    )
    assert diff(wanted, production(project(CORE, routine)), *rows).blocked == ()


def test_retired_schema_with_something_in_it_stays() -> None:
    """A schema that is left out of the project is not retired over what others made in it."""
    (why,) = diff(project(CORE, OTHER), production(ALL), row(ObjectKind.TABLE, "ops.notes")).blocked
    assert why.startswith(
        "schema ops would be retired, and holds what was not built from objects: table ops.notes"
    )


def test_empty_schema_is_taken_over_and_a_full_one_is_not() -> None:
    """A live schema without anything in it is exchanged; one of somebody else's blocks."""
    empty = diff(project(CORE), NOTHING_BUILT, row(ObjectKind.SCHEMA, "core"))
    assert [work.action for work in empty.generation.schemas] == [SchemaAction.SWAP]
    assert empty.blocked == ()
    assert {one.action for one in empty.pending} == {Action.ADD}
    full = diff(
        project(CORE), NOTHING_BUILT, row(ObjectKind.SCHEMA, "core"), row(ObjectKind.TABLE, "core.orders")
    )
    assert "table core.orders" in full.blocked[0]


def test_list_of_what_is_in_the_way_is_bounded() -> None:
    """Of many objects in the way as many are named as a person reads."""
    rows = [row(ObjectKind.TABLE, f"ops.t{number:03}") for number in range(100)]
    (why,) = diff(project(CORE, OTHER), production(ALL), *rows).blocked
    assert f"and {100 - NAMED_MAX} more" in why


def test_staging_name_that_is_taken_is_not_used() -> None:
    """A schema of somebody else's that is named like a staging schema is left alone."""
    wanted = project(CORE)
    (first,) = diff(wanted, NOTHING_BUILT).generation.staging.values()
    (second,) = diff(wanted, NOTHING_BUILT, row(ObjectKind.SCHEMA, first)).generation.staging.values()
    assert first != second
