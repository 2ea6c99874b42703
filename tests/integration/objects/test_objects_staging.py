"""Building a generation beside what is live: nothing live moves, and a failure leaves nothing behind."""

import asyncio

import pytest

from reconciler.errors import Conflict, LeaseLost, Refused, StepFailed
from reconciler.execution.objects.cancelling import cancel
from reconciler.execution.objects.sending import Manner
from tests.plugins.generations import (
    BY,
    QUICK,
    Schema,
    Stand,
    StrikeOnce,
    Struck,
    function,
    matview,
    stage,
    view,
    work,
)

CATALOG = """
    SELECT 'class', c.oid::text, c.xmin::text FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace
    WHERE nspname = ANY ('{public,app,core}') AND relkind <> 'i'
    UNION ALL SELECT 'proc', oid::text, xmin::text FROM pg_proc WHERE pronamespace = 'public'::regnamespace
    UNION ALL SELECT 'schema', oid::text, xmin::text FROM pg_namespace
    WHERE nspname = ANY ('{public,app,core}')
    ORDER BY 1, 2
"""
THREE = (
    view("core.paid", "SELECT id, amount FROM orders WHERE amount > 0"),
    matview("app.daily", "SELECT count(*) AS n FROM {core}.paid", wave=1),
    function(
        "app.total", "() RETURNS bigint LANGUAGE sql AS $$SELECT n FROM {app}.daily$$", wave=2, told=True
    ),
)


async def test_staging_makes_schemas_of_its_own_only(stand: Stand) -> None:
    """What is live keeps every row of the catalog; what is staged names what is staged beside it."""
    stand.run("CREATE SCHEMA app; CREATE SCHEMA core; CREATE VIEW app.daily AS SELECT 1 AS n")
    before = stand.run(CATALOG)
    session = await stand.session()
    found = await stand.stage(session, work("k1", *THREE))
    assert found.state == "staged"
    assert stand.run(CATALOG) == before
    assert stand.schemas == ["app", "app__k1", "core", "core__k1", "public"]
    assert "core__k1.paid" in stand.run("SELECT pg_get_viewdef('app__k1.daily'::regclass)")[0][0]
    assert "app__k1.daily" in stand.run("SELECT prosrc FROM pg_proc WHERE proname = 'total'")[0][0]
    recorded = stand.run(
        "SELECT schema, name, oids[1]::oid = c.oid, fingerprint IS NOT NULL"
        " FROM reconciler.generation_objects JOIN pg_class c ON relname = name ORDER BY 1, 2, 3"
    )
    assert ("app", "daily", True, True) in recorded


async def test_what_is_staged_is_staged_once(stand: Stand) -> None:
    """Another call finds it built; the same key for other objects is refused."""
    session = await stand.session()
    first = await stand.stage(session, work("k1", *THREE))
    again = await stand.stage(session, work("k1", *THREE))
    assert again.number == first.number
    with pytest.raises(Conflict, match="is staged, of component 'reports'"):
        await stand.stage(session, work("k1", view("core.paid", "SELECT 1 AS id")))


async def test_of_two_that_begin_a_key_at_once_one_does(stand: Stand) -> None:
    """The other one is told that it is recorded already."""
    session = await stand.session()
    other = await session.with_writer(stand.dsn)
    answers = await asyncio.gather(
        stage(session, work("k1", view("app.a", "SELECT 1 AS a")), BY),
        stage(other, work("k1", view("app.a", "SELECT 2 AS a")), BY),
        return_exceptions=True,
    )
    assert sorted(isinstance(answer, Conflict) for answer in answers) == [False, True]
    assert stand.run("SELECT count(*) FROM reconciler.generations") == [(1,)]


@pytest.mark.parametrize("many", [1, 40])
async def test_a_failure_takes_back_exactly_what_was_made(stand: Stand, many: int) -> None:
    """One bad view of many: what this attempt made is gone, schemas that look like it are not."""
    stand.run("CREATE SCHEMA keep__k1; CREATE TABLE keep__k1.t (id int); CREATE SCHEMA app__k11")
    session = await stand.session()
    good = [view(f"app.v{number}", "SELECT id FROM orders") for number in range(many)]
    bad = view("app.bad", "SELECT\n  nothing\nFROM orders")
    with pytest.raises(StepFailed, match=r"view app.bad.*\"nothing\".*line 2") as caught:
        await stand.stage(session, work("k1", *good, bad), beside=[await session.with_writer(stand.dsn)])
    assert (caught.value.file, caught.value.sqlstate) == ("objects/app/bad.sql", "42703")
    assert stand.schemas == ["app__k11", "keep__k1", "public"]
    assert stand.state("k1") == "failed"
    assert stand.run("SELECT count(*) FROM reconciler.generation_objects") == [(0,)]
    assert stand.run("SELECT count(*) FROM reconciler.live_schemas") == [(0,)]
    assert (await stand.stage(session, work("k1", *good))).state == "staged"


async def test_a_failure_may_be_kept_to_be_looked_at(stand: Stand) -> None:
    """With `keep` all that was made stays, until it is cancelled."""
    session = await stand.session()
    drafts = (view("app.a", "SELECT 1 AS a"), view("app.bad", "SELECT nothing", wave=1))
    with pytest.raises(StepFailed):
        await stand.stage(session, work("k1", *drafts), keep=True)
    assert stand.run("SELECT * FROM app__k1.a") == [(1,)]
    assert stand.state("k1") == "failed"
    await cancel(session, "k1")
    assert stand.schemas == ["public"]
    assert stand.state("k1") == "failed"


async def test_a_schema_with_the_name_is_never_touched(stand: Stand) -> None:
    """A real schema that is called as a staging one refuses the generation, and keeps what is in it."""
    stand.run("CREATE SCHEMA app__k1 CREATE TABLE t (id int)")
    session = await stand.session()
    with pytest.raises(Refused, match=r"'app__k1' for 'app'.*was not made by us"):
        await stand.stage(session, work("k1", view("app.a", "SELECT 1 AS a")))
    assert stand.run("SELECT count(*) FROM app__k1.t") == [(0,)]
    assert stand.state("k1") == "failed"


POINTS = (
    "begun",
    "schemas made",
    "inside core.paid",
    "before app.total",
    "objects made",
)


@pytest.mark.parametrize("point", POINTS)
async def test_a_crash_anywhere_is_gone_on_from(stand: Stand, point: str) -> None:
    """Whatever was committed stays and is not made again; the next call ends with all of it."""
    session = await stand.session()
    with pytest.raises(Struck):
        await stand.stage(session, work("k1", *THREE), manner=Manner(interference=StrikeOnce(point)))
    await session.abandon()
    made = stand.run("SELECT oids FROM reconciler.generation_objects WHERE made_at IS NOT NULL ORDER BY wave")
    session = await stand.session()
    found = await stand.stage(session, work("k1", *THREE))
    assert found.state == "staged"
    after = stand.run("SELECT oids FROM reconciler.generation_objects ORDER BY wave")
    assert after[: len(made)] == made
    assert len(after) == 3


@pytest.mark.parametrize(
    "point", ["begun", "inside app.daily", "objects made", "before dropping view core__k1.paid"]
)
async def test_a_crash_anywhere_is_cancelled(stand: Stand, point: str) -> None:
    """Cancelling takes back what a dead process left, also one that died at that; again, does nothing."""
    strike = Manner(interference=StrikeOnce(point))
    session = await stand.session()

    async def staged_and_cancelled() -> None:
        await stand.stage(session, work("k1", *THREE), manner=strike)
        await cancel(session, "k1", manner=strike)

    with pytest.raises(Struck):
        await staged_and_cancelled()
    await session.abandon()
    session = await stand.session()
    await cancel(session, "k1")
    assert stand.schemas == ["public"]
    assert stand.state("k1") == "cancelled"
    assert not (await cancel(session, "k1")).objects
    assert (await stand.stage(session, work("k1", *THREE))).state == "staged"


async def test_two_environments_cannot_share_a_schema(stand: Stand) -> None:
    """From when the first one has begun, the other is refused and told whose the schema is."""
    session = await stand.session()
    await stand.stage(session, work("k1", view("app.a", "SELECT 1 AS a")))
    await session.finish()
    session = await stand.session(environment="testing")
    with pytest.raises(Refused, match='"app" belongs to component "reports" of environment "production"'):
        await stand.stage(session, work("k2", view("app.a", "SELECT 2 AS a")))
    assert stand.schemas == ["app__k1", "public"]


async def test_nothing_is_staged_without_the_fence(stand: Stand) -> None:
    """Whoever lost the fence makes nothing, and takes nothing back."""
    session = await stand.session()
    await stand.stage(session, work("k1", view("app.a", "SELECT 1 AS a")))
    await session.fence.release()
    with pytest.raises(LeaseLost):
        await stand.stage(session, work("k2", view("app.b", "SELECT 1 AS b")))
    with pytest.raises(LeaseLost):
        await cancel(session, "k1")
    assert stand.schemas == ["app__k1", "public"]


async def test_what_was_made_by_hand_is_not_cancelled(stand: Stand) -> None:
    """An object of somebody else in a staging schema keeps all of it, and is named."""
    session = await stand.session()
    await stand.stage(session, work("k1", view("app.a", "SELECT 1 AS a")))
    stand.run("CREATE TABLE app__k1.mine (id int)")
    with pytest.raises(Refused, match=r"not ours, and kept: app__k1: table app__k1.mine"):
        await cancel(session, "k1", manner=QUICK)
    assert stand.run("SELECT count(*) FROM app__k1.a") == [(1,)]
    stand.run("DROP TABLE app__k1.mine")
    await cancel(session, "k1")
    assert stand.schemas == ["public"]


async def test_a_schema_gets_what_its_file_says(stand: Stand) -> None:
    """Settings hold while its objects are made, default privileges for them, and the owner comes last."""
    reader = stand.role()
    session = await stand.session()
    said = (
        f"ALTER DEFAULT PRIVILEGES IN SCHEMA {{app}} GRANT SELECT ON TABLES TO {reader}",
        f"GRANT USAGE ON SCHEMA {{app}} TO {reader}",
        "COMMENT ON SCHEMA {app} IS 'ours'",
    )
    schema = Schema("app", said, owner=reader)
    await stand.stage(session, work("k1", view("app.a", "SELECT 1 AS a"), schemas=[schema]))
    assert stand.run("SELECT nspowner::regrole::text FROM pg_namespace WHERE nspname = 'app__k1'") == [
        (reader,)
    ]
    assert stand.run(f"SELECT has_table_privilege('{reader}', 'app__k1.a', 'SELECT')") == [(True,)]
    assert stand.run("SELECT acl FROM reconciler.generation_objects") == [
        (["OWNER\tpostgres", f"SELECT\t{reader}"],)
    ]
    await cancel(session, "k1")
