"""Switching to a generation: in one transaction, seen by nobody, refused where anything is not as it was."""

import asyncio
import re

import psycopg
import pytest

from reconciler.errors import Conflict, LockNotAcquired
from reconciler.execution.objects.cancelling import cancel
from reconciler.execution.objects.dropping import Surprised
from reconciler.execution.objects.sending import Manner
from reconciler.execution.objects.switching import HandMade, Overtaken, Policy, promote, refusal, revert
from reconciler.tracking import generations
from tests.plugins.generations import (
    QUICK,
    Draft,
    Schema,
    Stand,
    StrikeOnce,
    Struck,
    function,
    live,
    matview,
    ready,
    view,
    work,
)


def app(answer: int) -> tuple[Draft, ...]:
    """A schema with one of each sort, that all give the same number."""
    return (
        view("app.plain", f"SELECT {answer} AS n FROM orders LIMIT 1"),
        matview(
            "app.stored",
            "SELECT n FROM {app}.plain",
            wave=1,
            indexes=["CREATE UNIQUE INDEX stored_n ON {app}.stored (n)"],
        ),
        function(
            "app.by_name",
            "() RETURNS int LANGUAGE sql AS $$SELECT n FROM {app}.stored$$",
            wave=2,
            told=True,
        ),
        function(
            "app.bound", "() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT n FROM {app}.plain; END", wave=2
        ),
    )


EVERYTHING = (
    "SELECT (SELECT n FROM app.plain), (SELECT n FROM app.stored), app.by_name(), app.bound(),"
    " (SELECT count(*) FROM pg_index JOIN pg_class c ON c.oid = indexrelid"
    " WHERE relnamespace = 'app'::regnamespace)"
)


async def test_a_switch_shows_all_of_the_new_side(stand: Stand) -> None:
    """Views, materialized views, functions by name and bound ones answer from the new generation at once."""
    session = await stand.session()
    await live(stand, session, work("k1", *app(1)))
    assert stand.run(EVERYTHING) == [(1, 1, 1, 1, 1)]
    await live(stand, session, work("k2", *app(2)))
    assert stand.run(EVERYTHING) == [(2, 2, 2, 2, 1)]
    assert stand.schemas == ["app", "app__old_k2", "public"]
    assert "app.stored" in stand.run("SELECT prosrc FROM pg_proc WHERE oid = 'app.by_name'::regproc")[0][0]
    assert [stand.state(key) for key in ("k1", "k2")] == ["retained", "live"]
    assert (await promote(session, "k2")).already


async def test_a_switch_locks_no_relation(stand: Stand) -> None:
    """While it is made, nothing but reading is locked of what is inside, and readers are not held up."""
    session = await stand.session()
    await live(stand, session, work("k1", *app(1)))
    await ready(stand, session, work("k2", *app(2)))
    seen: list[object] = []

    class Look(StrikeOnce):
        def at(self, point: str) -> None:
            if point == "inside switch":
                seen.append(
                    stand.run(
                        "SELECT DISTINCT mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation"
                        " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname ~ '^app'"
                        f" AND l.pid = {session.writer_backend}"
                    )
                )
                stand.run("SET lock_timeout = '50ms'")
                seen.append(stand.run("SELECT n FROM app.stored"))

    reader = psycopg.connect(stand.dsn.reveal(), dbname=stand.database)
    reader.execute("SELECT * FROM app.stored")
    await promote(session, "k2", manner=Manner(interference=Look("")))
    assert seen[0] in ([], [("AccessShareLock",)])
    assert seen[1] == [(1,)]
    assert stand.run("SELECT n FROM app.stored") == [(2,)]
    reader.close()


async def test_names_are_those_that_were_recorded(stand: Stand) -> None:
    """A schema whose own name ends like a staging name is switched as itself, and no other is."""
    stand.run("CREATE SCHEMA analytics CREATE TABLE t (id int)")
    session = await stand.session()
    await live(stand, session, work("prod", view("analytics_prod.a", "SELECT 1 AS a")))
    await live(
        stand,
        session,
        work(
            "prod2",
            view("analytics_prod.a", "SELECT 2 AS a"),
            staging={"analytics_prod": "analytics_prod_prod"},
        ),
    )
    assert stand.run("SELECT a FROM analytics_prod.a") == [(2,)]
    assert stand.run("SELECT count(*) FROM analytics.t") == [(0,)]


async def test_what_is_not_ready_is_not_switched_to(stand: Stand) -> None:
    """A materialized view without rows refuses the switch, unless nobody asks whether it is ready."""
    session = await stand.session()
    await stand.stage(session, work("k1", *app(1)[:2]))
    with pytest.raises(Conflict, match="it is staged"):
        await promote(session, "k1")
    await promote(session, "k1", policy=Policy(checked=False))
    with pytest.raises(psycopg.errors.ObjectNotInPrerequisiteState):
        stand.run("SELECT * FROM app.stored")


async def test_a_filled_view_that_was_emptied_is_refused(stand: Stand) -> None:
    """What was ready is looked at again inside of the switch."""
    session = await stand.session()
    await ready(stand, session, work("k1", *app(1)[:2]))
    stand.run("REFRESH MATERIALIZED VIEW app__k1.stored WITH NO DATA")
    with pytest.raises(Surprised, match=r"materialized view app\.stored: it is not filled"):
        await promote(session, "k1")


@pytest.mark.parametrize("point", ["before switch", "inside switch", "switched"])
async def test_a_crash_in_the_switch_is_gone_on_from(stand: Stand, point: str) -> None:
    """Before the end of the transaction nothing happened, behind it all did: another call ends the same."""
    session = await stand.session()
    await live(stand, session, work("k1", *app(1)))
    await ready(stand, session, work("k2", *app(2)))
    with pytest.raises(Struck):
        await promote(session, "k2", manner=Manner(interference=StrikeOnce(point)))
    await session.abandon()
    assert stand.run("SELECT n FROM app.plain") == [(2 if point == "switched" else 1,)]
    session = await stand.session()
    done = await promote(session, "k2")
    assert done.already is (point == "switched")
    assert stand.run(EVERYTHING) == [(2, 2, 2, 2, 1)]


async def test_of_two_that_touch_one_schema_the_second_is_overtaken(stand: Stand) -> None:
    """Generations apart are switched to independently; of two at the same instant exactly one wins."""
    session = await stand.session()
    other = await session.with_writer(stand.dsn)
    await live(stand, session, work("k0", view("app.a", "SELECT 0 AS a")))
    for key, schema in (("k1", "app"), ("k2", "app"), ("k3", "beside")):
        await ready(stand, session, work(key, view(f"{schema}.a", "SELECT 1 AS a")))
    answers = await asyncio.gather(promote(session, "k1"), promote(other, "k2"), return_exceptions=True)
    lost = [answer for answer in answers if isinstance(answer, Overtaken)]
    assert len(lost) == 1
    winner = "k2" if isinstance(answers[0], Overtaken) else "k1"
    assert f"schema 'app' has generation {winner}" in str(lost[0])
    assert (await promote(session, "k3")).generation.state == "live"
    loser = "k1" if winner == "k2" else "k2"
    await cancel(session, loser)
    assert stand.schemas == ["app", f"app__old_{winner}", "beside", "public"]


async def test_what_is_read_and_was_switched_overtakes_too(stand: Stand) -> None:
    """A generation whose objects are bound to a schema that another one displaced is refused."""
    session = await stand.session()
    await live(stand, session, work("k1", view("core.a", "SELECT 1 AS a")))
    await ready(stand, session, work("k2", view("app.b", "SELECT a FROM {core}.a"), reads=["core"]))
    await live(stand, session, work("k3", view("core.a", "SELECT 3 AS a")))
    with pytest.raises(Overtaken, match="schema 'core' has generation k3"):
        await promote(session, "k2")
    await cancel(session, "k2")
    assert stand.schemas == ["core", "core__old_k3", "public"]


ALTERED = {
    "CREATE OR REPLACE VIEW app.plain AS SELECT 7 AS n": r"view app\.plain: it was altered",
    "ALTER VIEW app.plain SET (security_barrier)": r"view app\.plain: it was altered",
    "ALTER VIEW app.plain RENAME COLUMN n TO m": r"view app\.plain: it was altered",
    "DROP FUNCTION app.bound": r"function app\.bound: it was dropped",
    "ALTER FUNCTION app.bound SET SCHEMA public": r"function app\.bound: it was altered",
    "DROP INDEX app.stored_n": r"materialized view app\.stored: it was altered",
    "CREATE TABLE app.mine (id int)": r"app: table app\.mine",
    "CREATE TYPE app.mine AS ENUM ('a')": r"app: type app\.mine",
    "CREATE OR REPLACE VIEW app__k2.plain AS SELECT 7 AS n": r"view app\.plain: it was altered",
    "DROP FUNCTION app__k2.bound": r"function app\.bound: it was dropped",
    "CREATE VIEW app__k2.mine AS SELECT 1": r"app: view app__k2\.mine",
    "ALTER SCHEMA app__k2 RENAME TO elsewhere": "app__k2: it was renamed or dropped",
    "ALTER SCHEMA app RENAME TO elsewhere": "app: it was renamed or dropped",
    "CREATE SCHEMA app__old_k2": "app__old_k2: a schema has the name",
    "GRANT SELECT ON app.plain TO PUBLIC": r"view app\.plain: SELECT PUBLIC",
    "GRANT SELECT (n) ON app.stored TO PUBLIC": r"materialized view app\.stored: SELECT \(n\) PUBLIC",
    "GRANT USAGE ON SCHEMA app TO PUBLIC": "app: USAGE PUBLIC",
    "ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO PUBLIC": (
        "app: DEFAULT postgres TABLES SELECT PUBLIC"
    ),
    "CREATE TABLE rows (a app.plain)": r"table public\.rows: it depends .*cannot be bound",
    "CREATE MATERIALIZED VIEW m AS TABLE app.plain": r"materialized view public\.m: .*cannot be bound",
    "CREATE VIEW v AS SELECT * FROM app.plain": r"view public\.v: it depends on what is displaced$",
    "CREATE PUBLICATION p FOR TABLES IN SCHEMA app": "app: publication of schema app",
}


async def test_what_was_done_by_hand_is_found(stand: Stand) -> None:
    """Whatever somebody made, altered, granted or dropped on either side refuses the switch and is named."""
    session = await stand.session()
    await live(stand, session, work("k1", *app(1)))
    await ready(stand, session, work("k2", *app(2)))
    wrong = {}
    for statement, words in ALTERED.items():
        async with session.writer.transaction(force_rollback=True):
            await session.writer.execute(statement.encode())
            seen = await generations.before_switch(session.writer, 2, back=False, checked=True)
        error = refusal("switching", seen.findings, seen.dependents, Policy())
        if not isinstance(error, Surprised) or not re.search(words, error.message):
            wrong[statement] = str(error)
    assert not wrong


async def test_grants_by_hand_are_carried_or_left(stand: Stand) -> None:
    """What was granted on the displaced side by hand stands on the new one, and nothing else does."""
    reader, owner = stand.role(), stand.role()
    session = await stand.session()
    said = [Schema("app", [f"GRANT USAGE ON SCHEMA {{app}} TO {owner}"])]
    await live(stand, session, work("k1", *app(1), schemas=said))
    stand.run(
        f"GRANT USAGE ON SCHEMA app TO {reader}; GRANT SELECT ON app.plain TO {reader} WITH GRANT OPTION;"
        f" GRANT SELECT (n) ON app.stored TO {reader}; GRANT EXECUTE ON FUNCTION app.by_name TO {reader};"
        f" ALTER VIEW app.plain OWNER TO {owner};"
        f" ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO {reader}"
    )
    acl = (
        "SELECT array_agg(l ORDER BY l) FROM (SELECT unnest(reconciler.relation_acl('app.plain'::regclass))"
        " UNION ALL SELECT unnest(reconciler.relation_acl('app.stored'::regclass))"
        " UNION ALL SELECT unnest(reconciler.routine_acl('app.by_name'::regproc))"
        " UNION ALL SELECT unnest(reconciler.schema_acl('app'::regnamespace))) AS a (l)"
    )
    before = stand.run(acl)
    await ready(stand, session, work("k2", *app(2), schemas=said))
    with pytest.raises(Surprised, match=f"app: USAGE {reader}"):
        await promote(session, "k2")
    done = await promote(session, "k2", policy=Policy(hand_made=HandMade.CARRY))
    assert stand.run(acl) == before
    assert len(done.carried) == 6
    await live(stand, session, work("k3", *app(3), schemas=said), policy=Policy(hand_made=HandMade.LEAVE))
    assert reader not in str(stand.run(acl))


async def test_grants_on_what_was_altered_too_are_not_lost(stand: Stand) -> None:
    """Grants on what was altered are asked about apart, and what was altered comes back where it may."""
    reader = stand.role()
    session = await stand.session()
    await live(stand, session, work("k1", *app(1)))
    stand.run(f"ALTER VIEW app.plain SET (security_barrier); GRANT SELECT ON app.plain TO {reader}")
    await ready(stand, session, work("k2", *app(2)))
    with pytest.raises(Surprised, match=f"view app.plain: SELECT {reader}") as caught:
        await promote(session, "k2", policy=Policy(altered=True))
    assert caught.value.hint == (
        "nothing was changed: take grants back, or allow them with `handMadeGrants: carry` or `leave`"
    )
    await promote(session, "k2", policy=Policy(altered=True, hand_made=HandMade.CARRY))
    assert stand.run(f"SELECT has_table_privilege('{reader}', 'app.plain', 'SELECT')") == [(True,)]
    with pytest.raises(Surprised, match=r"view app\.plain: it was altered") as caught:
        await revert(session, "k2")
    assert "allow it with `altered: replace`" in str(caught.value.hint)
    await revert(session, "k2", policy=Policy(altered=True, hand_made=HandMade.LEAVE))
    assert stand.run("SELECT reloptions FROM pg_class WHERE oid = 'app.plain'::regclass") == [
        (["security_barrier=true"],)
    ]


async def test_what_depends_from_outside_is_bound_anew(stand: Stand) -> None:
    """A view and a bound function outside are refused by default; adopted, they read the new side."""
    reader = stand.role()
    session = await stand.session()
    await live(stand, session, work("k1", *app(1)))
    stand.run(
        "CREATE SCHEMA rpt; CREATE VIEW rpt.r WITH (security_barrier) AS SELECT n FROM app.plain;"
        " CREATE VIEW rpt.over AS SELECT n FROM rpt.r; COMMENT ON VIEW rpt.r IS 'mine';"
        " CREATE FUNCTION rpt.f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT app.bound(); END;"
        f" GRANT SELECT ON rpt.r TO {reader}"
    )
    await ready(stand, session, work("k2", *app(2)))
    with pytest.raises(Surprised, match=r"function rpt.f\(\): it depends .*view rpt.r: it depends"):
        await promote(session, "k2")
    done = await promote(session, "k2", policy=Policy(adopt=True))
    assert done.rebound == ("function rpt.f()", "view rpt.r")
    assert stand.run("SELECT n, rpt.f() FROM rpt.over") == [(2, 2)]
    assert stand.run(
        "SELECT reloptions, obj_description(oid, 'pg_class') FROM pg_class WHERE oid = 'rpt.r'::regclass"
    ) == [(["security_barrier=true"], "mine")]
    assert stand.run(f"SELECT has_table_privilege('{reader}', 'rpt.r', 'SELECT')") == [(True,)]
    assert stand.run("SELECT identity FROM reconciler.outside_dependents ORDER BY 1") == [
        ("function rpt.f()",),
        ("view rpt.r",),
    ]


async def test_objects_of_another_component_are_bound_anew_and_stay_ours(stand: Stand) -> None:
    """What another component has live over what is displaced counts as unaltered when it was adopted."""
    session = await stand.session()
    await live(stand, session, work("k1", view("core.a", "SELECT 1 AS a")))
    await live(
        stand,
        session,
        work("k2", view("app.b", "SELECT a FROM {core}.a"), reads=["core"], component="other"),
    )
    await live(stand, session, work("k3", view("core.a", "SELECT 3 AS a")), policy=Policy(adopt=True))
    assert stand.run("SELECT a FROM app.b") == [(3,)]
    await live(stand, session, work("k4", view("app.b", "SELECT 4 AS a"), component="other"))
    assert stand.run("SELECT a FROM app.b") == [(4,)]


async def test_an_old_snapshot_reads_the_rows_of_a_new_view(stand: Stand) -> None:
    """A transaction that began before all of it finds the materialized view filled, not empty."""
    session = await stand.session()
    await live(stand, session, work("k1", *app(1)))
    with psycopg.connect(stand.dsn.reveal(), dbname=stand.database) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM orders")
        await live(stand, session, work("k2", *app(2)))
        assert reader.execute("SELECT n FROM app.stored").fetchall() == [(2,)]


async def test_a_held_lock_makes_the_switch_try_again(stand: Stand) -> None:
    """Another session's open rename of the schema is waited for shortly, and is told to be in the way."""
    session = await stand.session()
    await live(stand, session, work("k1", *app(1)))
    await ready(stand, session, work("k2", *app(2)))
    with psycopg.connect(stand.dsn.reveal(), dbname=stand.database) as other:
        other.execute("ALTER SCHEMA app RENAME TO elsewhere")
        with pytest.raises(LockNotAcquired):
            await promote(session, "k2", manner=QUICK)
        other.rollback()
    await promote(session, "k2", manner=QUICK)
    assert stand.run("SELECT n FROM app.plain") == [(2,)]


async def test_the_last_object_of_a_schema_takes_the_schema_along(stand: Stand) -> None:
    """A schema that the project has no more is taken out of the way, and its name is free again."""
    session = await stand.session()
    await live(stand, session, work("k1", *app(1), view("gone.a", "SELECT 1 AS a")))
    await live(stand, session, work("k2", *app(2), schemas=[Schema("gone", retired=True)]))
    assert stand.schemas == ["app", "app__old_k2", "gone__old_k2", "public"]
    assert stand.run("SELECT schema FROM reconciler.live_schemas") == [("app",)]


async def test_readers_notice_nothing_of_many_switches(stand: Stand) -> None:
    """Through switch after switch each reader sees the old answer or the new one, whole, and no error."""
    session = await stand.session()
    await live(stand, session, work("k0", *app(0)))
    seen: list[tuple[object, ...]] = []
    done = asyncio.Event()

    async def read() -> None:
        async with await psycopg.AsyncConnection.connect(
            stand.dsn.reveal(), dbname=stand.database, autocommit=True
        ) as reader:
            while not done.is_set():
                cursor = await reader.execute(
                    "SELECT p.n, s.n FROM app.plain p, app.stored s", prepare=bool(len(seen) % 2)
                )
                seen.extend(await cursor.fetchall())

    readers = [asyncio.create_task(read()) for _ in range(4)]
    for number in range(1, 4):
        await live(stand, session, work(f"k{number}", *app(number)))
    done.set()
    await asyncio.gather(*readers)
    assert {row[0] == row[1] for row in seen} == {True}
