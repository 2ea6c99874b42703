"""A compiled project, staged and switched on a real server with the texts that it gives."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import psycopg
import pytest

from reconciler.catalog.identifier import quote_identifier, quote_qualified
from reconciler.objects.dirty import dirty
from reconciler.objects.generation import Generation, Placement, SchemaAction, plan
from reconciler.objects.model import ObjectName, Production, Project
from reconciler.objects.project import compile_project
from reconciler.objects.stable import ObjectAction
from reconciler.objects.staging_text import in_switch, option_texts, schema_texts, staged
from reconciler.postgres.dsn import Dsn
from tests.plugins.object_projects import NOTHING_BUILT, production

FILES = {
    "core/open.sql": (
        "CREATE VIEW open AS SELECT o.id, o.total FROM orders AS o WHERE o.open; -- all of 'core.open'\n"
        "COMMENT ON COLUMN open.total IS 'as core.open has it';"
    ),
    "core/rate.sql": (
        "CREATE FUNCTION rate() RETURNS numeric LANGUAGE sql AS $$ SELECT max(total) FROM core.open $$;"
    ),
    "core/twice.sql": (
        "CREATE FUNCTION core.twice() RETURNS numeric BEGIN ATOMIC SELECT 2 * max(total) FROM core.open; END;"
    ),
    "core/walk.sql": (
        "CREATE FUNCTION walk(n integer) RETURNS bigint LANGUAGE plpgsql AS $$\n"
        "BEGIN\n"
        "  IF n > 0 THEN RETURN core.walk(n - 1); END IF;\n"
        "  RETURN (SELECT count(*) FROM core.open);\n"
        "END $$;"
    ),
    "Ops Team/Late.sql": (
        'CREATE MATERIALIZED VIEW "Late" AS SELECT id, core.rate() AS rate FROM core.open -- end\n;'
        'CREATE UNIQUE INDEX late_id ON "Late" (id);'
        "COMMENT ON INDEX late_id IS 'one each';"
        'GRANT SELECT ON "Ops Team"."Late" TO PUBLIC;'
    ),
    "api.sql": "SET api = stable;",
    "api/late.sql": 'CREATE VIEW late AS SELECT id FROM "Ops Team"."Late";',
}


@pytest.fixture
async def connection(database_dsn: Dsn) -> AsyncIterator[Any]:
    async with await psycopg.AsyncConnection.connect(database_dsn.reveal(), autocommit=True) as opened:
        await opened.execute("CREATE TABLE public.orders (id integer, total numeric, open boolean)")
        await opened.execute("INSERT INTO public.orders VALUES (1, 10, true), (2, 20, false)")
        await opened.execute("SET search_path = ''")
        yield opened


def compiled(changes: Mapping[str, str] | None = None) -> Project:
    found = compile_project(
        "objects", {**FILES, **(changes or {})}, externals=["public.orders"], variables={}
    )
    assert not found.problems
    assert found.project is not None
    return found.project


async def roll_out(connection: Any, project: Project, live: Production, key: str) -> Generation:
    """Stage a project wave by wave, then switch, as plainly as it can be done."""
    made = plan(project, live, dirty(project, live), key=key)
    assert not made.refused
    placement = Placement.of(made)
    for work in made.schemas:
        if work.staging is not None:
            for text in schema_texts(project.schemas[work.name], work.staging).creates:
                await connection.execute(text)
    for wave in made.waves:
        for name in wave:
            texts = staged(project.objects[name], placement)
            for text in (
                *texts.creates,
                *texts.indexes,
                *texts.metadata,
                *([texts.fill] if texts.fill else []),
            ):
                await connection.execute(text)
    async with connection.transaction():
        await _switch(connection, project, made)
    return made


async def _switch(connection: Any, project: Project, made: Generation) -> None:
    for work in made.schemas:
        live, staging = quote_identifier(work.name), quote_identifier(work.staging or "")
        if work.action is SchemaAction.SWAP:
            await connection.execute(f'ALTER SCHEMA {live} RENAME TO "old {work.name}"')
        if work.action in (SchemaAction.SWAP, SchemaAction.ADD):
            await connection.execute(f"ALTER SCHEMA {staging} RENAME TO {live}")
    for name, object_work in made.objects.items():
        if object_work.action is ObjectAction.MOVE:
            moved = quote_qualified(made.staging[name.schema], name.name)
            live = quote_identifier(name.schema)
            await connection.execute(f"ALTER {object_work.sort} {moved} SET SCHEMA {live}")
    for name in made.in_switch:
        for text in in_switch(project.objects[name], made.objects[name].action):
            await connection.execute(text)
    # whatever is still bound to what was only tried, or to what is old, would go along and be missed below
    await _drop(connection, made)


async def _drop(connection: Any, made: Generation) -> None:
    left = {SchemaAction.SWAP: "old {0.name}", SchemaAction.IN_PLACE: "{0.staging}"}
    for work in made.schemas:
        if work.action in left:
            await connection.execute(f'DROP SCHEMA "{left[work.action].format(work)}" CASCADE')


async def value(connection: Any, query: str) -> Any:
    row = await (await connection.execute(query)).fetchone()
    assert row is not None
    return row[0]


async def test_everything_works_under_live_names_alone(connection: Any) -> None:
    """After two rollouts no text names a staging schema, and every object reads what is live."""
    first = compiled()
    await roll_out(connection, first, NOTHING_BUILT, "one")
    stable_oid = await value(connection, "SELECT 'api.late'::pg_catalog.regclass::pg_catalog.oid")
    changed = "CREATE VIEW open AS SELECT id, total + 1 AS total FROM public.orders"
    second = compiled({"core/open.sql": changed})
    made = await roll_out(connection, second, production(first), "two")
    assert {work.name: work.action for work in made.schemas} == {
        "Ops Team": SchemaAction.SWAP,
        "api": SchemaAction.IN_PLACE,
        "core": SchemaAction.SWAP,
    }
    assert await value(connection, "SELECT core.rate()") == 21
    assert await value(connection, "SELECT core.twice()") == 42
    assert await value(connection, "SELECT core.walk(3)") == 2
    assert await value(connection, "SELECT pg_catalog.count(*) FROM api.late") == 2
    assert await value(connection, 'SELECT rate FROM "Ops Team"."Late" LIMIT 1') == 21
    assert await value(connection, "SELECT 'api.late'::pg_catalog.regclass::pg_catalog.oid") == stable_oid
    comment = "SELECT pg_catalog.obj_description('\"Ops Team\".late_id'::pg_catalog.regclass, 'pg_class')"
    assert await value(connection, comment) == "one each"
    left = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_proc WHERE prosrc ~ '__[0-9a-f]{8}'"
    assert await value(connection, left) == 0
    schemas = "SELECT pg_catalog.count(*) FROM pg_catalog.pg_namespace WHERE nspname ~ '__[0-9a-f]{8}|^old'"
    assert await value(connection, schemas) == 0


async def test_stable_schema_reads_what_is_new_in_it(connection: Any) -> None:
    """A column and objects that are new in a stable schema can be read by views of the same rollout."""
    first = compiled()
    await roll_out(connection, first, NOTHING_BUILT, "one")
    second = compiled(
        {
            "api/late.sql": 'CREATE VIEW late AS SELECT id, rate FROM "Ops Team"."Late"',
            "api/rates.sql": "CREATE VIEW rates AS SELECT rate FROM api.late",
            "api/kept.sql": "CREATE MATERIALIZED VIEW kept AS SELECT id FROM core.open",
            "report/all.sql": 'CREATE VIEW report."all" AS SELECT l.rate FROM api.late AS l, api.rates',
        }
    )
    made = await roll_out(connection, second, production(first), "two")
    assert {name.name: work.action.value for name, work in made.objects.items()} == {
        "late": "replace",
        "rates": "add",
        "kept": "move",
        "all": "build",
    }
    assert await value(connection, 'SELECT rate FROM report."all"') == 10
    assert await value(connection, "SELECT pg_catalog.count(*) FROM api.kept") == 1
    assert await value(connection, "SELECT pg_catalog.pg_get_viewdef('report.all'::pg_catalog.regclass)") == (
        " SELECT l.rate\n   FROM api.late l,\n    api.rates;"
    )


async def test_options_are_set_and_reset_in_place(connection: Any) -> None:
    """Options go from what is live to what the files say, for views and for materialized views."""
    view, filled = ObjectName("core", "open"), ObjectName("ops", "filled")
    files = [
        {
            "core/open.sql": f"CREATE VIEW open {with_view} AS SELECT id, total FROM orders",
            "ops/filled.sql": f"CREATE MATERIALIZED VIEW filled {with_filled} AS SELECT 1 AS one",
        }
        for with_view, with_filled in (
            ("WITH (security_barrier)", "WITH (fillfactor = 70)"),
            ("WITH (security_invoker = on)", "WITH (autovacuum_enabled = off)"),
        )
    ]
    first, second = (compiled(each) for each in files)
    await roll_out(connection, first, NOTHING_BUILT, "one")
    made = plan(second, production(first), dirty(second, production(first)), key="two")
    assert made.metadata == (view, filled)
    for name in made.metadata:
        for text in option_texts(second.objects[name], await options(connection, name)):
            await connection.execute(text)
        assert await options(connection, name) == dict(second.objects[name].options)
        assert option_texts(second.objects[name], await options(connection, name)) == ()


async def options(connection: Any, name: ObjectName) -> dict[str, str]:
    cursor = await connection.execute(
        "SELECT reloptions FROM pg_catalog.pg_class WHERE oid = pg_catalog.to_regclass(%s)",
        [quote_qualified(name.schema, name.name)],
    )
    (found,) = await cursor.fetchone()
    return dict(each.split("=", 1) for each in found or ())
