"""What generations leave behind goes by and by, and nothing else does, whoever is in the way or breaks in."""

import asyncio
from collections.abc import Callable

import psycopg
import pytest
from typing_extensions import override

from reconciler.events import BaseLineRetaken, GenerationKept, GenerationRemoved
from reconciler.execution.interference import Interference
from reconciler.execution.session import Limits, open_session
from reconciler.tracking.fence import FenceOwner
from reconciler.worker.lease import ControlAccess
from reconciler.worker.leftovers import Leftovers
from tests.plugins.objects_site import (
    ORDERS,
    StrikeOnce,
    ask,
    beside,
    calm,
    files,
    generation_states,
    rolled,
    spec,
)
from tests.plugins.site import Process, Site, holds


class StopAt(Interference):
    """Calls something at a point."""

    active = True

    def __init__(self) -> None:
        self.point = ""
        self.stop: Callable[[], None] | None = None

    @override
    def at(self, point: str) -> None:
        if point == self.point and self.stop is not None:
            self.stop()


NOTED = "SELECT state::text, failures, error FROM reconciler_control.generations ORDER BY id"
DUE = "UPDATE reconciler_control.generations SET next_try_at = clock_timestamp() - interval '1 s'"


def totals(number: int) -> dict[str, str]:
    texts = {
        "reports/totals": f"CREATE VIEW totals AS SELECT sum(amount) + {number} AS total FROM public.orders;",
        "reports/stored": "CREATE MATERIALIZED VIEW stored AS SELECT total FROM reports.totals;",
    }
    return files(texts)


def leftovers(site: Site, process: Process, interference: Interference | None = None) -> Leftovers:
    """What removes, as the worker of a process."""
    made = Leftovers(
        control=ControlAccess(site.control, process.parts.control_connections, timeout_s=30),
        planner=process.parts.planner,
        limits=Limits(fence_wait_s=60),
        emit=process.events.append,
        interference=interference,
    )
    made.tell_worker(process.peers[-1][0])
    return made


async def twice(site: Site, *, objects: str = "", rollout: str = "", state: str = "revert_window") -> Process:
    """A worker that made one generation live, and another one in its place."""
    process = site.process()
    process.work()
    site.commit(ORDERS, {**spec(site, objects=objects), **totals(0)})
    await rolled(process, state="completed" if "retain: 0s" in objects else "revert_window")
    site.commit(ORDERS, {**spec(site, objects=objects, rollout=rollout), **totals(1)})
    await rolled(process, state=state)
    return process


async def drained(made: Leftovers) -> None:
    """Try all that is due, once each."""
    while await made.remove_one():
        pass


async def removed(site: Site, made: Leftovers) -> None:
    """Remove all that is due, and see that nothing of it is noted any more."""
    await drained(made)
    assert await site.control_rows(NOTED) == []


def total(site: Site) -> int:
    ((found,),) = site.rows("SELECT total FROM reports.stored")
    return int(found)


async def test_what_was_displaced_goes_once_nobody_can_go_back(site: Site) -> None:
    """It is kept while the window is open; behind it goes, and what is left is no drift."""
    process = await twice(site)
    made = leftovers(site, process)
    await drained(made)
    assert len(beside(site)) == 1
    await ask(process, "skip-revert")
    await removed(site, made)
    assert beside(site) == []
    assert total(site) == 61
    assert generation_states(site) == [("live", 1), ("retired", 1)]
    told = process.told(GenerationRemoved)[-1]
    assert isinstance(told, GenerationRemoved)
    assert (told.state, told.objects, told.schemas) == ("promoted", 2, 1)
    await calm(process)
    kinds = [row.kind for row in await process.parts.reconciler.events(environment="production")]
    assert "generation.removed" in kinds


@pytest.mark.parametrize("verb", ["cancel", "revert"])
async def test_what_is_not_to_be_goes(site: Site, verb: str) -> None:
    """What was cancelled before its switch, and what was taken back behind it."""
    parks = verb == "cancel"
    process = await twice(
        site,
        rollout="promotion: manual" if parks else "",
        state="waiting_for_promotion" if parks else "revert_window",
    )
    await ask(process, verb)
    made = leftovers(site, process)
    await drained(made)
    assert beside(site) == []
    assert total(site) == 60
    assert ("live", 1) in generation_states(site)


async def test_what_somebody_made_there_is_kept_and_told_once(site: Site) -> None:
    """A table by hand keeps the displaced schema whole until it is moved; drift by hand stays drift."""
    process = await twice(site)
    (old,) = beside(site)
    site.rows(f'CREATE TABLE "{old}".mine (n int); CREATE TABLE public.strange (); SELECT 1')
    await ask(process, "skip-revert")
    made = leftovers(site, process)
    for _ in range(2):
        await drained(made)
        await site.control_rows(DUE)
    ((state, failures, error),) = [row for row in await site.control_rows(NOTED) if row[2] is not None]
    assert (state, failures) == ("promoted", 2)
    assert f"table {old}.mine" in error
    assert [event.is_news for event in process.told(GenerationKept) if isinstance(event, GenerationKept)] == [
        True,
        False,
    ]
    kinds = [row.kind for row in await process.parts.reconciler.events(environment="production")]
    assert kinds.count("generation.kept") == 1
    (kept,) = (await process.environment()).kept
    assert (kept.component, kept.state, kept.failures) == ("reports", "promoted", 2)
    site.rows(f'ALTER TABLE "{old}".mine SET SCHEMA public; SELECT 1')
    await removed(site, made)
    assert beside(site) == []
    await process.look()
    assert [one.drift for one in (await process.environment()).deployments] == [2]


async def test_what_is_kept_is_known_though_what_displaced_it_is_gone(site: Site) -> None:
    """Two switches later the generation whose switch displaced it went itself; what it left still goes."""
    process = await twice(site, objects=", retain: 0s", state="completed")
    (old,) = beside(site)
    site.rows(f'CREATE TABLE "{old}".mine (id int); SELECT 1')
    made = leftovers(site, process)
    await drained(made)
    site.commit(ORDERS, totals(2))
    await rolled(process, state="completed")
    await site.control_rows(DUE)
    await drained(made)
    assert beside(site) == [old]
    ((state, _, error),) = await site.control_rows(NOTED)
    assert (state, f"table {old}.mine" in error) == ("promoted", True), error

    site.rows(f'DROP TABLE "{old}".mine; SELECT 1')
    await site.control_rows(DUE)
    await removed(site, made)
    assert beside(site) == []
    assert generation_states(site) == [("live", 1), ("retired", 2)]


async def test_a_long_reader_holds_up_the_drop_and_no_other_reader(site: Site) -> None:
    """Its view stays until it is done; meanwhile others read the same view at once."""
    process = await twice(site)
    (old,) = beside(site)
    await ask(process, "skip-revert")
    made = leftovers(site, process)
    where = site.server.text(site.database())
    query = psycopg.sql.SQL("SELECT total FROM {}.stored").format(psycopg.sql.Identifier(old))
    with psycopg.connect(where) as reader:
        reader.execute(query)
        removing = asyncio.create_task(drained(made))
        with psycopg.connect(where, autocommit=True) as other:
            other.execute("SET statement_timeout = '20s'")
            while not removing.done():
                assert await asyncio.to_thread(other.execute, query) is not None
                await asyncio.sleep(0.01)
        await removing
        ((_, _, error),) = [row for row in await site.control_rows(NOTED) if row[2] is not None]
        assert "stored" in error
        assert len(beside(site)) == 1
    await site.control_rows(DUE)
    await removed(site, made)
    assert beside(site) == []


@pytest.mark.parametrize("verb", ["skip-revert", "cancel"])
async def test_a_death_while_removing_is_gone_on_from(site: Site, verb: str) -> None:
    """Whoever is next removes the rest, says that the base line was taken anew, and leaves no drift."""
    parks = verb == "cancel"
    process = await twice(
        site,
        rollout="promotion: manual" if parks else "",
        state="waiting_for_promotion" if parks else "revert_window",
    )
    await ask(process, verb)
    strikes = StrikeOnce()
    made = leftovers(site, process, strikes)
    strikes.point = f"before dropping view {beside(site)[0]}.totals"
    with pytest.raises(asyncio.CancelledError):
        await drained(made)
    assert len(beside(site)) == 1
    await site.control_rows(DUE)

    async def is_gone() -> bool:
        # The sessions of who died may be there for a moment longer.
        await made.remove_one()
        await site.control_rows(DUE)
        return not beside(site)

    await holds(is_gone, "the rest to be removed")
    assert process.told(BaseLineRetaken)
    await calm(process)


async def test_nothing_goes_before_what_was_deferred_is_done(site: Site) -> None:
    """A pending action keeps what its switch displaced, though the operation failed for it."""
    objects = ", retain: 0s, deferred: [{name: note, sql: 'INSERT INTO public.notes VALUES (1)'}]"
    process = site.process()
    process.work()
    site.commit(
        {**ORDERS, "notes": "create table notes (n int);"}, {**spec(site, objects=objects), **totals(0)}
    )
    await rolled(process, state="completed")
    site.rows("ALTER TABLE public.notes RENAME TO away; SELECT 1")
    site.commit({**ORDERS, "notes": "create table notes (n int);"}, totals(1))
    failed = await rolled(process, state="failed")
    assert failed.error is not None
    assert "deferred action 'note'" in failed.error["why"]
    made = leftovers(site, process)
    await drained(made)
    assert len(beside(site)) == 1
    ((_, _, error),) = [row for row in await site.control_rows(NOTED) if row[2] is not None]
    assert "deferred action 'note' of it is still pending" in error
    assert total(site) == 61
    site.rows("ALTER TABLE public.away RENAME TO notes; SELECT 1")
    await process.parts.reconciler.request(
        (await process.rollouts())[0].id, "retry", deployment=None, requested_by="ada"
    )
    await rolled(process, state="completed")
    assert site.rows("SELECT count(*) FROM public.notes") == [(2,)]
    await site.control_rows(DUE)
    await removed(site, made)
    assert beside(site) == []


async def test_it_gives_way_to_who_writes(site: Site) -> None:
    """While another has the fence nothing is removed, and that is no failure; its session is left alone."""
    process = await twice(site)
    await ask(process, "skip-revert")
    owner = FenceOwner(control_id="another", environment="production", deployment="eu", operation="1")
    other = await open_session(
        site.server.dsn, site.database(), owner, limits=Limits(fence_wait_s=60), install_tracking=False
    )
    made = leftovers(site, process)
    await drained(made)
    assert [row[1:] for row in await site.control_rows(NOTED)] == [(0, None)]
    assert len(beside(site)) == 1
    await other.finish()
    await site.control_rows(DUE)
    await removed(site, made)
    assert beside(site) == []


async def test_asked_to_end_it_does_so_behind_what_it_is_at(site: Site) -> None:
    """It begins as soon as there is a worker, ends one thing whole, and leaves the base line settled."""
    process = await twice(site)
    await ask(process, "skip-revert")
    stops = StopAt()
    made = leftovers(site, process, stops)
    stops.point, stops.stop = f"before dropping view {beside(site)[0]}.totals", made.stop
    await asyncio.wait_for(made.run(), 60)
    assert beside(site) == []
    assert site.rows("SELECT moving FROM reconciler.base_line") == [(False,)]
    assert not await made.remove_one()


async def test_the_first_generation_leaves_nothing_and_nothing_is_opened_for_it(site: Site) -> None:
    """It displaced nothing: that is seen without taking the fence."""
    process = site.process()
    process.work()
    site.commit(ORDERS, {**spec(site, objects=", retain: 0s"), **totals(0)})
    await rolled(process, state="completed")
    before = site.rows("SELECT epoch FROM reconciler.fence")
    await removed(site, leftovers(site, process))
    assert site.rows("SELECT epoch FROM reconciler.fence") == before
    assert total(site) == 60


async def test_what_stood_in_a_database_that_is_gone_is_forgotten(site: Site) -> None:
    """Somebody drops the whole database: there is nothing left to remove."""
    process = await twice(site)
    await ask(process, "skip-revert")
    site.server.drop_database(site.database())
    await removed(site, leftovers(site, process))


async def test_a_deployment_that_left_is_found_by_the_commit_that_made_it(site: Site) -> None:
    """What was displaced there goes though the spec names the deployment no more."""
    process = await twice(site)
    await ask(process, "skip-revert")
    ((name, text),) = spec(site).items()
    site.commit(ORDERS, {name: text.replace("name: eu\n", "name: us\n")})
    await process.look()
    await drained(leftovers(site, process))
    assert beside(site) == []
