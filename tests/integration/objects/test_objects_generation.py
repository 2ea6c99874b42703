"""A compiled project, planned, built and switched to, until nothing is left to do."""

import pytest

from reconciler.errors import PermanentError, Refused
from reconciler.execution.objects.preflight import preflight
from reconciler.execution.objects.switching import retire, revert
from reconciler.execution.session import DatabaseSession
from reconciler.objects.dirty import dirty
from reconciler.objects.generation import Generation, plan
from reconciler.objects.model import Project
from reconciler.objects.project import compile_project
from reconciler.objects.work import work_of
from reconciler.tracking.generations import read_production
from tests.plugins.generations import Stand, live

FILES = {
    "core/Paid Ones.sql": 'CREATE VIEW "Paid Ones" AS SELECT id, amount FROM orders WHERE amount > 0',
    "core/total.sql": (
        "CREATE FUNCTION core.total() RETURNS bigint LANGUAGE sql AS $$"
        'SELECT sum(amount) FROM core."Paid Ones" $$'
    ),
    "order/daily.sql": (
        'CREATE MATERIALIZED VIEW daily AS SELECT count(*) AS n FROM core."Paid Ones";'
        "CREATE UNIQUE INDEX daily_n ON daily (n);"
        "GRANT SELECT ON daily TO PUBLIC; COMMENT ON COLUMN daily.n IS 'how many'"
    ),
    "order.sql": "GRANT USAGE ON SCHEMA \"order\" TO PUBLIC; SET work_mem = '16MB'",
    "api.sql": "SET api = stable;",
    "api/totals.sql": "CREATE VIEW totals AS SELECT core.total() AS total",
}


def compiled(files: dict[str, str]) -> Project:
    found = compile_project("objects", files, externals=["public.orders"], variables={})
    assert found.project is not None, found.problems
    return found.project


async def planned(session: DatabaseSession, project: Project, key: str) -> Generation:
    production = await read_production(
        session.writer, component="reports", environment="production", deployment="eu"
    )
    return plan(project, production, dirty(project, production), key=key)


async def switched(stand: Stand, session: DatabaseSession, project: Project, key: str) -> None:
    work = work_of(project, await planned(session, project, key), component="reports")
    assert await preflight(session.writer, work, place=("production", "eu")) == ()
    await live(stand, session, work)
    assert not (await planned(session, project, f"{key} again")).works


async def test_a_project_converges(stand: Stand) -> None:
    """What is live is what the files say, then there is nothing to plan; an edit takes what it has to."""
    session = await stand.session()
    await switched(stand, session, compiled(FILES), "first")
    assert stand.run('SELECT (SELECT n FROM "order".daily), core.total()') == [(10, 550)]
    assert stand.run("SELECT total FROM api.totals") == [(550,)]
    assert stand.run("SELECT schema, stable FROM reconciler.live_schemas ORDER BY 1") == [
        ("api", True),
        ("core", False),
        ("order", False),
    ]
    edited = {**FILES, "order/daily.sql": FILES["order/daily.sql"].replace("count(*)", "2 * count(*)")}
    await switched(stand, session, compiled(edited), "second")
    assert stand.run('SELECT n FROM "order".daily') == [(20,)]
    dropped = await retire(session, "second", now=True)
    assert len(dropped.objects) == len(dropped.schemas) == 1
    assert stand.schemas == ["api", "core", "order", "public"]


async def test_a_stable_schema_is_changed_in_place_and_back(stand: Stand) -> None:
    """What is replaced keeps oid and dependents; what comes and goes does, and all of it goes back."""
    session = await stand.session()
    first = {
        **FILES,
        "api/count.sql": "CREATE FUNCTION count() RETURNS bigint LANGUAGE sql AS $$SELECT 1::bigint$$",
        "api/old.sql": "CREATE VIEW old AS SELECT 1 AS a; GRANT SELECT ON old TO PUBLIC",
    }
    await switched(stand, session, compiled(first), "first")
    stand.run("CREATE VIEW outside AS SELECT total FROM api.totals")
    oids = "SELECT 'api.totals'::regclass::oid, 'api.count'::regproc::oid"
    before = stand.run(oids)
    second = {
        **{path: text for path, text in first.items() if path != "api/old.sql"},
        "api/totals.sql": "CREATE VIEW totals AS SELECT 2 * core.total() AS total, 1 AS more",
        "api/count.sql": first["api/count.sql"].replace("1::", "2::"),
        "api/new.sql": "CREATE VIEW new AS SELECT total FROM api.totals",
        "api/stored.sql": "CREATE MATERIALIZED VIEW stored AS SELECT id FROM orders",
    }
    await switched(stand, session, compiled(second), "second")
    assert stand.run("SELECT total, api.count(), (SELECT total FROM api.new) FROM outside") == [
        (1100, 2, 1100)
    ]
    assert stand.run(oids) == before
    assert stand.run("SELECT count(*) FROM api.stored") == [(10,)]
    assert stand.run("SELECT to_regclass('api.old') IS NULL") == [(True,)]
    await retire(session, "second", now=True)
    assert stand.schemas == ["api", "core", "order", "public"]
    third = {**second, "api/count.sql": first["api/count.sql"].replace("1::", "3::")}
    del third["api/new.sql"]
    await switched(stand, session, compiled(third), "third")
    assert stand.run("SELECT api.count(), to_regclass('api.new') IS NULL") == [(3, True)]
    await revert(session, "third")
    assert stand.run("SELECT api.count(), total FROM api.new") == [(2, 1100)]
    with pytest.raises(PermanentError, match=r"view api\.totals.*cannot drop columns"):
        await switched(stand, session, compiled(first), "fourth")
    assert stand.run("SELECT api.count(), total FROM api.new") == [(2, 1100)]


async def test_a_stable_view_follows_what_it_reads_and_back(stand: Stand) -> None:
    """A stable view over a schema that is exchanged reads the new one, and the old one where it goes back."""
    session = await stand.session()
    api = {
        "api/paid.sql": (
            'CREATE VIEW paid WITH (security_barrier) AS SELECT p.id FROM core."Paid Ones" AS p, orders AS o'
        ),
        "api/one.sql": (
            "CREATE FUNCTION one() RETURNS bigint LANGUAGE sql BEGIN ATOMIC"
            ' SELECT min(id) FROM core."Paid Ones"; END'
        ),
    }
    await switched(stand, session, compiled({**FILES, **api}), "first")
    stand.run("CREATE VIEW outside AS SELECT count(*) AS n, api.one() AS one FROM api.paid")
    edited = {"core/Paid Ones.sql": FILES["core/Paid Ones.sql"].replace("> 0", "> 20")}
    await switched(stand, session, compiled({**FILES, **api, **edited}), "second")
    assert stand.run("SELECT n, one FROM outside") == [(80, 3)]
    await revert(session, "second")
    assert stand.run("SELECT n, one FROM outside") == [(100, 1)]
    await retire(session, "second")
    assert stand.schemas == ["api", "core", "order", "public"]
    del api["api/paid.sql"]
    stand.run("DROP VIEW outside")
    await switched(stand, session, compiled({**FILES, **api, **edited}), "third")
    await revert(session, "third")
    assert stand.run("SELECT count(*), api.one() FROM api.paid") == [(100, 1)]
    narrow = {**FILES, "api/wide.sql": "CREATE VIEW wide AS SELECT 1 AS a"}
    await switched(stand, session, compiled(narrow), "fourth")
    more = {**FILES, "api/wide.sql": "CREATE VIEW wide AS SELECT 1 AS a, 2 AS b"}
    await switched(stand, session, compiled(more), "fifth")
    with pytest.raises(Refused, match=r"cannot drop columns from view \(nothing was changed: what a view"):
        await revert(session, "fifth")
    assert stand.run("SELECT b FROM api.wide") == [(2,)]
