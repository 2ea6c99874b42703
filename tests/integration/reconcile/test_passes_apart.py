"""Passes beside each other: who does not answer delays nobody else."""

import asyncio
import time

import pytest

from reconciler.errors import Refused, SourceUnavailable
from reconciler.reconcile.lanes import Lanes
from tests.plugins.site import Site, holds


async def test_server_that_never_answers_delays_no_other_environment(site: Site) -> None:
    """While one environment hangs, commits of the others are planned and recorded one after the other."""
    connections: list[asyncio.StreamWriter] = []

    async def never_answer(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)

    server = await asyncio.start_server(never_answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    site.environ["HANGING_DSN"] = f"host=127.0.0.1 port={port} user=x dbname=x sslmode=disable"
    process = site.process()
    try:
        first = site.commit(
            {"a": "create table a ();"}, {**site.spec(), **site.spec("dead", dsn="HANGING_DSN")}
        )
        began = time.monotonic()
        await process.look()
        second = site.commit({"a": "create table a ();", "b": "create table b ();"})
        await process.look()
        assert time.monotonic() - began < 9, "the dead server was waited for"
        assert [rollout.commit for rollout in await process.rollouts()] == [second, first]
    finally:
        await process.parts.passes.close()
        for writer in connections:
            writer.close()
        server.close()


async def test_source_that_fails_hides_no_environment_of_another(site: Site) -> None:
    """A source that cannot be had at all is told only to who asks for what may be in it."""
    site.commit({"a": "create table a ();"}, site.spec())
    process = site.process(more_sources=[{"name": "a-broken", "url": str(site.folder / "nowhere")}])
    assert (await process.parts.reconciler.preview("production")).environment == "production"
    with pytest.raises(SourceUnavailable):
        await process.parts.reconciler.preview("nosuch")


async def test_readiness_waits_for_the_first_fetch_of_a_source(site: Site) -> None:
    """Not ready while the first fetch is under way; a fetch that failed counts as tried."""
    asked, answer = asyncio.Event(), asyncio.Event()

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.set()
        await answer.wait()
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    site.commit({"a": "create table a ();"}, site.spec())
    process = site.process(more_sources=[{"name": "silent", "url": f"http://127.0.0.1:{port}/x.git"}])
    await process.look()
    reconciler = process.parts.reconciler
    fetch = asyncio.create_task(process.parts.passes.pass_source("silent"))
    await asked.wait()
    assert await reconciler.ready() == (False, "the first fetch of a source is still under way")
    answer.set()
    with pytest.raises(SourceUnavailable):
        await fetch
    assert (await reconciler.ready())[0]
    server.close()


async def test_apply_to_a_suspended_environment_is_refused(site: Site) -> None:
    """Nothing of it would be carried out, so nobody is left waiting for it."""
    process = site.process()
    site.commit({"a": "create table a ();"}, site.spec())
    await process.look()
    await process.parts.reconciler.suspend("production", reason="freeze", requested_by="ada")
    with pytest.raises(Refused, match="suspended"):
        await process.parts.reconciler.apply("production", reason="now", requested_by="ada")


async def test_of_many_asked_only_the_newest_runs_and_never_two_at_once() -> None:
    """One job of a name at a time; what was asked meanwhile runs once, as asked last."""
    lanes, ran, gate = Lanes(4), list[str](), asyncio.Event()
    at_once = 0

    async def job(name: str) -> bool:
        nonlocal at_once
        at_once += 1
        assert at_once == 1
        ran.append(name)
        await gate.wait()
        at_once -= 1
        return False

    for name in ("first", "second", "third"):
        task = lanes.ask("x", lambda name=name: job(name))  # type: ignore[misc]
        await asyncio.sleep(0)
    gate.set()
    await task
    assert ran == ["first", "third"]


async def test_those_that_never_answer_leave_room_for_the_others() -> None:
    """Once known, they take places of their own."""
    lanes, stuck, ran = Lanes(4), asyncio.Event(), list[int]()

    async def waits() -> bool:
        return True

    async def hangs() -> bool:
        await stuck.wait()
        return True

    async def quick(number: int) -> bool:
        ran.append(number)
        return False

    for number in range(8):
        await lanes.ask(f"dead {number}", waits)
    for number in range(8):
        lanes.ask(f"dead {number}", hangs)
    for number in range(8):
        lanes.ask(f"good {number}", lambda number=number: quick(number))  # type: ignore[misc]

    async def all_ran() -> bool:
        return len(ran) == 8

    await holds(all_ran, "the good ones to run", deadline_s=60)
    await lanes.close()
