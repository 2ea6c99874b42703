"""Live materialized views are refreshed in order, beside their readers where an index allows it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import psycopg
import pytest

from reconciler.errors import LockNotAcquired, StepFailed
from reconciler.execution.objects.refreshing import Place, refresh
from reconciler.objects.model import ObjectName
from reconciler.objects.work import Work
from reconciler.postgres.connection import Connection, connect
from tests.plugins.generations import QUICK, Stand, live, matview, ready, view, work

HERE = Place(environment="production", deployment="eu", component="reports")
TOTALS, COPY = ObjectName("app", "totals"), ObjectName("app", "copy")
LONG_AGO = "UPDATE reconciler.generation_objects SET filled_at = '2020-01-01'"


def wanted(key: str) -> Work:
    """Totals of what is ordered, and a copy of them through a view."""
    indexes = ["CREATE UNIQUE INDEX totals_n ON {app}.totals (n)"]
    return work(
        key,
        matview("app.totals", "SELECT sum(amount) AS n FROM public.orders", indexes=indexes),
        view("app.through", "SELECT n FROM {app}.totals", wave=1),
        matview("app.copy", "SELECT n FROM {app}.through", wave=2),
    )


@pytest.fixture
async def other(stand: Stand) -> AsyncIterator[Connection]:
    """A connection without the fence."""
    made: Connection = await connect(stand.dsn, database=stand.database, role="refresh")
    yield made
    await made.close()


async def test_views_are_refreshed_in_order_and_their_age_is_noted(stand: Stand, other: Connection) -> None:
    """One reads what the other just read; their age is recorded, and nothing counts as altered."""
    session = await stand.session()
    await live(stand, session, wanted("k1"))
    stand.run(f"{LONG_AGO}; INSERT INTO public.orders VALUES (11, 1000)")
    done = await refresh(other, HERE, [TOTALS, COPY, ObjectName("app", "coming")])
    assert (done.views, done.missing) == ((TOTALS, COPY), (ObjectName("app", "coming"),))
    assert done.since is not None
    assert done.since > datetime(2021, 1, 1, tzinfo=UTC)
    assert stand.run("SELECT n FROM app.copy") == [(1550,)]
    await live(stand, session, wanted("k2"))
    assert stand.state("k2") == "live"


async def test_a_unique_index_lets_readers_on(stand: Stand, other: Connection) -> None:
    """With one, a view is refreshed while somebody reads it; without, that is tried a few times and told."""
    session = await stand.session()
    await live(stand, session, wanted("k1"))
    stand.run(f"{LONG_AGO}; INSERT INTO public.orders VALUES (11, 1000)")
    with psycopg.connect(stand.dsn.reveal(), dbname=stand.database) as reader:
        reader.execute("SELECT * FROM app.totals, app.copy")
        await refresh(other, HERE, [TOTALS], manner=QUICK)
        with pytest.raises(LockNotAcquired, match=r"refreshing app\.copy"):
            await refresh(other, HERE, [COPY], manner=replace(QUICK, attempts=2))
    assert stand.run("SELECT n FROM app.totals") == [(1550,)]
    assert stand.run("SELECT n FROM app.copy") == [(550,)]
    query = "SELECT name, filled_at > '2021-01-01' FROM reconciler.generation_objects WHERE sort <> 'view'"
    assert sorted(stand.run(query)) == [("copy", False), ("totals", True)]


async def test_only_what_is_live_is_refreshed(stand: Stand, other: Connection) -> None:
    """Neither what is staged nor what was displaced; where nothing is live, nothing is done."""
    assert await refresh(other, HERE, [TOTALS]) == replace(await refresh(other, HERE, []), missing=(TOTALS,))
    session = await stand.session()
    await ready(stand, session, wanted("k1"))
    assert (await refresh(other, HERE, [TOTALS])).views == ()
    await live(stand, session, wanted("k2"))
    assert (await refresh(other, HERE, [TOTALS])).views == (TOTALS,)
    assert (await refresh(other, replace(HERE, deployment="us"), [TOTALS])).views == ()


async def test_what_fails_or_takes_too_long_is_told(stand: Stand, other: Connection) -> None:
    """The server's words are kept, and the time of a group is bounded."""
    session = await stand.session()
    wanted_ = work("k1", matview("app.parts", "SELECT 1 / id AS n FROM public.orders"))
    await live(stand, session, wanted_)
    stand.run("INSERT INTO public.orders VALUES (0, 0)")
    name = ObjectName("app", "parts")
    with pytest.raises(StepFailed, match=r"refreshing app\.parts: .*division by zero"):
        await refresh(other, HERE, [name])
    with pytest.raises(StepFailed, match="not done within 0 s"):
        await refresh(other, HERE, [name], timeout_s=0)
