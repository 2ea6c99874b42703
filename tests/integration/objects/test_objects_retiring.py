"""What a switch displaced: taken back to within its window, dropped behind it, never anything along."""

import psycopg
import pytest

from reconciler.errors import Conflict, LockNotAcquired, Refused
from reconciler.execution.objects.cancelling import cancel
from reconciler.execution.objects.dropping import Surprised
from reconciler.execution.objects.sending import Manner
from reconciler.execution.objects.switching import Overtaken, Policy, promote, retire, revert
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

BY_NAME = "() RETURNS int LANGUAGE sql AS $$SELECT n FROM {app}.stored$$"


def app(answer: int) -> tuple[Draft, ...]:
    """A schema with a view, a materialized view over it, and a function that names that in its text."""
    return (
        view("app.plain", f"SELECT {answer} AS n"),
        matview("app.stored", "SELECT n FROM {app}.plain", wave=1),
        function("app.by_name", BY_NAME, wave=2, told=True),
    )


ALL = "SELECT (SELECT n FROM app.plain), (SELECT n FROM app.stored), app.by_name()"


async def test_a_switch_is_taken_back_within_its_window(stand: Stand) -> None:
    """The displaced generation is live again, with a schema that went and without one that came."""
    session = await stand.session()
    await live(stand, session, work("k1", *app(1), view("gone.a", "SELECT 1 AS a")))
    wanted = work("k2", *app(2), view("new.a", "SELECT 2 AS a"), schemas=[Schema("gone", retired=True)])
    await live(stand, session, wanted)
    assert stand.run(ALL) == [(2, 2, 2)]
    done = await revert(session, "k2")
    assert done.generation.state == "reverted"
    assert stand.run(ALL) == [(1, 1, 1)]
    assert stand.schemas == ["app", "app__k2", "gone", "new__k2", "public"]
    assert (await revert(session, "k2")).already
    dropped = await retire(session, "k2")
    assert dropped.schemas == ("app__k2", "new__k2")
    assert stand.schemas == ["app", "gone", "public"]
    assert [stand.state(key) for key in ("k1", "k2")] == ["live", "retired"]
    assert stand.run("SELECT schema FROM reconciler.live_schemas ORDER BY 1") == [("app",), ("gone",)]
    await live(stand, session, work("k3", *app(3)))
    assert stand.run(ALL) == [(3, 3, 3)]


async def test_only_what_is_live_and_kept_is_taken_back(stand: Stand) -> None:
    """Behind its window, overtaken by another switch, or with what stands on it: refused."""
    session = await stand.session()
    await live(stand, session, work("k1", *app(1)))
    await live(stand, session, work("k2", *app(2)))
    await live(stand, session, work("k3", *app(3)))
    with pytest.raises(Conflict, match="it is retained"):
        await revert(session, "k2")
    stand.run("CREATE TABLE app.mine (id int)")
    with pytest.raises(Surprised, match=r"app: table app\.mine"):
        await revert(session, "k3")
    stand.run("DROP TABLE app.mine; CREATE VIEW outside AS SELECT n FROM app.plain")
    with pytest.raises(Surprised, match=r"view public\.outside: it depends"):
        await revert(session, "k3")
    await revert(session, "k3", policy=Policy(adopt=True))
    assert stand.run("SELECT n FROM outside") == [(2,)]
    stand.run("UPDATE reconciler.generations SET retained_until = clock_timestamp() WHERE key = 'k2'")
    with pytest.raises(Conflict, match="was kept until"):
        await revert(session, "k2")


async def test_a_generation_that_spans_schemas_is_not_taken_back_in_part(stand: Stand) -> None:
    """Once another switch displaced one of its schemas, the rest is not taken back alone."""
    session = await stand.session()
    await live(stand, session, work("k1", view("app.a", "SELECT 1 AS a"), view("other.a", "SELECT 1 AS a")))
    await live(stand, session, work("k2", view("app.a", "SELECT 2 AS a"), view("other.a", "SELECT 2 AS a")))
    await live(stand, session, work("k3", view("app.a", "SELECT 3 AS a")))
    with pytest.raises(Overtaken, match="schema 'app' has generation k3"):
        await revert(session, "k2")
    await retire(session, "k3", now=True)
    assert stand.state("k2") == "live"
    await retire(session, "k2", now=True)
    assert stand.state("k1") == "retired"
    assert stand.schemas == ["app", "other", "public"]


async def test_what_is_displaced_goes_behind_its_window(stand: Stand) -> None:
    """It is kept while it can be reverted to, then dropped, and again there is nothing to drop."""
    session = await stand.session()
    await live(stand, session, work("k1", *app(1)))
    await live(stand, session, work("k2", *app(2)))
    with pytest.raises(Conflict, match="it is kept until"):
        await retire(session, "k2")
    stand.run("UPDATE reconciler.generations SET retained_until = clock_timestamp()")
    dropped = await retire(session, "k2")
    assert dropped.objects == (
        "function app__old_k2.by_name",
        "materialized view app__old_k2.stored",
        "view app__old_k2.plain",
    )
    assert stand.schemas == ["app", "public"]
    assert [stand.state(key) for key in ("k1", "k2")] == ["retired", "live"]
    assert not (await retire(session, "k2")).objects
    assert stand.run(ALL) == [(2, 2, 2)]


async def test_what_was_made_while_it_was_switched_is_preserved(stand: Stand) -> None:
    """A view made by another session meanwhile lands on the displaced side, keeps it, and is named."""
    session = await stand.session()
    await live(stand, session, work("k1", *app(1)))
    await ready(stand, session, work("k2", *app(2)))

    class MakeOne(StrikeOnce):
        def at(self, point: str) -> None:
            if point == "inside switch":
                stand.run("CREATE VIEW app.mine AS SELECT 7 AS n")

    await promote(session, "k2", manner=Manner(interference=MakeOne("")))
    with pytest.raises(Surprised, match=r"app__old_k2: view app__old_k2\.mine"):
        await retire(session, "k2", now=True)
    assert stand.run("SELECT n FROM app__old_k2.mine") == [(7,)]
    stand.run("ALTER VIEW app__old_k2.mine SET SCHEMA public")
    await retire(session, "k2", now=True)
    assert stand.run("SELECT n FROM mine") == [(7,)]
    assert stand.schemas == ["app", "public"]


async def test_nothing_is_dropped_along(stand: Stand) -> None:
    """What reads an object that is to go keeps that, and is named."""
    session = await stand.session()
    await live(stand, session, work("k1", *app(1)))
    await live(stand, session, work("k2", *app(2)))
    stand.run("CREATE VIEW mine AS SELECT n FROM app__old_k2.plain")
    with pytest.raises(Refused, match=r"dropping view app__old_k2.plain: .*view public.mine depends"):
        await retire(session, "k2", now=True)
    assert stand.run("SELECT n FROM mine") == [(1,)]
    stand.run("DROP VIEW mine")
    await retire(session, "k2", now=True)
    assert stand.schemas == ["app", "public"]


async def test_a_long_reader_of_the_old_side_holds_up_its_drop_only(stand: Stand) -> None:
    """The switch does not wait for it; the drop tries a few times and tells that it was in the way."""
    session = await stand.session()
    await live(stand, session, work("k1", *app(1)))
    with psycopg.connect(stand.dsn.reveal(), dbname=stand.database) as reader:
        reader.execute("SELECT n FROM app.stored")
        await live(stand, session, work("k2", *app(2)))
        with pytest.raises(LockNotAcquired, match=r"dropping materialized view app__old_k2\.stored"):
            await retire(session, "k2", now=True, manner=QUICK)
        assert stand.run(ALL) == [(2, 2, 2)]
        reader.rollback()
    await retire(session, "k2", now=True)
    assert stand.schemas == ["app", "public"]


@pytest.mark.parametrize("point", ["before dropping view app__old_k2.plain", "before settling dropped"])
async def test_a_crash_while_dropping_is_gone_on_from(stand: Stand, point: str) -> None:
    """Another call drops the rest, and records that it is gone."""
    session = await stand.session()
    await live(stand, session, work("k1", *app(1)))
    await live(stand, session, work("k2", *app(2)))
    with pytest.raises(Struck):
        await retire(session, "k2", now=True, manner=Manner(interference=StrikeOnce(point)))
    await session.abandon()
    session = await stand.session()
    await retire(session, "k2", now=True)
    assert stand.schemas == ["app", "public"]
    assert stand.state("k1") == "retired"


async def test_what_was_live_is_not_cancelled(stand: Stand) -> None:
    """Behind the switch a cancel is refused and names the revert; nothing is dropped."""
    session = await stand.session()
    await live(stand, session, work("k1", *app(1)))
    with pytest.raises(Conflict, match=r"it is live, promoted at .*revert"):
        await cancel(session, "k1")
    await live(stand, session, work("k2", *app(2)))
    with pytest.raises(Conflict, match="it is retained"):
        await cancel(session, "k1")
    await revert(session, "k2")
    with pytest.raises(Conflict, match="it is reverted"):
        await cancel(session, "k2")
    assert stand.run(ALL) == [(1, 1, 1)]
