"""A compiled project, planned, built and switched to, until nothing is left to do."""

from reconciler.execution.objects.preflight import preflight
from reconciler.execution.objects.switching import retire
from reconciler.execution.objects.work import work_of
from reconciler.execution.session import DatabaseSession
from reconciler.objects.dirty import dirty
from reconciler.objects.generation import Generation, plan
from reconciler.objects.model import Project
from reconciler.objects.project import compile_project
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
