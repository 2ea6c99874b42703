"""What edits of files come to: from the texts of a project to the rows that a dry run shows."""

from collections.abc import Mapping

import pytest

from reconciler.diff.model import ObjectsDiff
from reconciler.objects.generation import Placement, SchemaAction
from reconciler.objects.model import Project
from reconciler.objects.project import compile_project
from reconciler.objects.stable import Question
from reconciler.objects.staging_text import staged
from tests.plugins.object_projects import compared, named, production

OPEN = "CREATE VIEW open AS SELECT id, total FROM orders WHERE open;"
SUMS = (
    "CREATE MATERIALIZED VIEW sums AS SELECT id, total FROM core.open;\n"
    "CREATE UNIQUE INDEX sums_id ON sums (id);\n"
    "CREATE INDEX sums_total ON sums (total);\n"
    "GRANT SELECT ON sums TO reader;\n"
    "COMMENT ON COLUMN sums.total IS 'in cents';\n"
)
RATE = "CREATE FUNCTION rate() RETURNS numeric LANGUAGE sql AS $$ SELECT max(total) FROM core.open $$;"
FILES: Mapping[str, str | None] = {
    "core/open.sql": OPEN,
    "core/other.sql": "CREATE VIEW other AS SELECT 1 AS one;",
    "ops/sums.sql": SUMS,
    "ops/rate.sql": RATE,
    "Sales Team/order.sql": 'CREATE VIEW "order" AS SELECT "Select".one FROM core.other AS "Select";',
    "alone/x.sql": "CREATE VIEW x AS SELECT 1 AS one;",
}


def project(changes: Mapping[str, str | None] | None = None) -> Project:
    files = {path: text for path, text in {**FILES, **(changes or {})}.items() if text is not None}
    found = compile_project("objects", files, externals=["public.orders"], variables={})
    assert found.project is not None, found.problems
    return found.project


def diff(changes: Mapping[str, str | None] | None = None, *, forced: tuple[str, ...] = ()) -> ObjectsDiff:
    return compared(project(changes), production(project()), forced=forced)


def rows(of: ObjectsDiff) -> dict[str, str]:
    return {row.identity: f"{row.action}: {row.reason}" for row in of.pending}


def schemas(of: ObjectsDiff) -> dict[str, SchemaAction]:
    return {work.name: work.action for work in of.generation.schemas}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"core/open.sql": "create  VIEW Core.Open /**/ AS\nselect ID,total from public.orders where OPEN"},
        {"ops/sums.sql": SUMS.replace("UNIQUE", "-- one each\nUNIQUE")},
        {
            "ops/sums.sql": (
                "create index SUMS_TOTAL on ops.sums(total); CREATE MATERIALIZED VIEW ops.sums AS\n"
                "SELECT id, total FROM core.open; CREATE UNIQUE INDEX sums_id ON sums (id);\n"
                "COMMENT ON COLUMN sums.total IS 'in cents'; GRANT SELECT ON ops.sums TO reader;"
            )
        },
    ],
    ids=["nothing", "layout and case", "comment", "order of companions"],
)
def test_what_means_the_same_changes_nothing(changes: Mapping[str, str]) -> None:
    """Layout, case, comments and the order of companions are no change, and reserved words converge."""
    found = diff(changes)
    assert rows(found) == {}
    assert not found.works


def test_changed_view_takes_its_schema_and_those_downstream() -> None:
    """One edit rebuilds its schema and every schema that reads it, and nothing upstream or beside."""
    found = diff({"core/open.sql": OPEN.replace("id,", "id, 1 AS one,")})
    assert schemas(found) == dict.fromkeys(["Sales Team", "core", "ops"], SchemaAction.SWAP)
    assert rows(found) == {
        "view core.open": "change: its definition changed",
        "view core.other": "change: it shares schema core with core.open, whose definition changed",
        "function ops.rate": "change: core.open, which it reads, is rebuilt",
        "materialized view ops.sums": "change: core.open, which it reads, is rebuilt",
        'view "Sales Team"."order"': "change: core.other, which it reads, is rebuilt",
    }


def test_changed_index_stays_in_its_schema() -> None:
    """An edit of an index is an edit of its object; other schemas are left alone."""
    found = diff({"ops/sums.sql": SUMS.replace("sums (total)", "sums (total, id)")})
    assert schemas(found) == {"ops": SchemaAction.SWAP}
    assert rows(found)["materialized view ops.sums"] == "change: its definition changed"


@pytest.mark.parametrize(
    ("old", "new"),
    [("reader", "writer"), ("in cents", "in euros"), ("sums.total IS", "sums.id IS")],
    ids=["grant", "comment", "column"],
)
def test_grants_and_comments_are_changed_in_place(old: str, new: str) -> None:
    """An edit of a grant or a comment rebuilds nothing, and is not overlooked."""
    found = diff({"ops/sums.sql": SUMS.replace(old, new)})
    assert rows(found) == {"materialized view ops.sums": "change: its grants, comments or options changed"}
    assert found.generation.metadata == (named("ops.sums"),)
    assert schemas(found) == {}


def test_deleted_view_leaves_its_schema_without_it() -> None:
    """One of two views that goes is left out of the schema that takes the place of the live one."""
    found = diff({"ops/rate.sql": None})
    assert schemas(found) == {"ops": SchemaAction.SWAP}
    assert found.generation.waves == ((named("ops.sums"),),)
    assert rows(found)["function ops.rate"] == "remove: it is no longer in the project"


def test_last_view_takes_the_schema_along_once() -> None:
    """The last object of a schema retires it, and the next plan is empty."""
    found = diff({"alone/x.sql": None})
    assert schemas(found) == {"alone": SchemaAction.RETIRE}
    after = project({"alone/x.sql": None})
    assert not compared(after, production(after)).works


def test_renamed_view_is_deleted_and_added() -> None:
    """A rename is a deletion, of which it is asked whether anybody outside needs it, and an addition."""
    found = diff({"alone/x.sql": None, "alone/y.sql": "CREATE VIEW y AS SELECT 1 AS one"})
    assert rows(found) == {
        "view alone.x": "remove: it is no longer in the project",
        "view alone.y": "add: it is new",
    }
    assert [(one.question, one.name) for one in found.generation.questions] == [
        (Question.UNUSED, named("alone.x"))
    ]


def test_forced_schema_goes_downstream_only() -> None:
    """A forced schema is rebuilt with what reads it."""
    assert schemas(diff(forced=("core",))) == dict.fromkeys(["Sales Team", "core", "ops"], SchemaAction.SWAP)
    assert schemas(diff(forced=("ops",))) == {"ops": SchemaAction.SWAP}


def test_texts_name_what_is_staged_where_it_is_staged() -> None:
    """Staged objects are read in staging, others and externals where they live, also in bodies."""
    of = project({"ops/rate.sql": RATE.replace("max", "min")})
    found = compared(of, production(project()))
    placement = Placement.of(found.generation)
    (rate,) = staged(of.objects[named("ops.rate")], placement).creates
    assert "FROM core.open" in rate
    assert rate.startswith(f"CREATE FUNCTION {found.generation.staging['ops']}.rate()")
    of = project({"core/open.sql": OPEN.replace("id,", "id, 1 AS one,")})
    found = compared(of, production(project()))
    placement, staging = Placement.of(found.generation), found.generation.staging
    (rate,) = staged(of.objects[named("ops.rate")], placement).creates
    assert f"FROM {staging['core']}.open $$" in rate
    (view,) = staged(of.objects[named("core.open")], placement).creates
    assert view.endswith("FROM public.orders WHERE open")
