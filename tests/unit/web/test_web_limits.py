"""Bounds of requests: rates, room, turns; and that they are kept by the application."""

import asyncio

import httpx
import pytest

from reconciler.errors import TemporaryError
from reconciler.web.app import create_app
from reconciler.web.limits import NAMES_MAX, Buckets, RequestLimits, Room, Turns
from tests.plugins.memory_service import MemoryService, no_metrics


def test_a_bucket_empties_and_fills() -> None:
    """So many at once, then one whenever its time has passed, never more than the bucket holds."""
    now = 0.0
    buckets = Buckets(60, now=lambda: now)
    assert [buckets.take("a") for _ in range(60)] == [0] * 60
    assert buckets.take("a") == 1
    assert buckets.take("b") == 0
    now = 1.0
    assert [buckets.take("a"), buckets.take("a")] == [0, 1]
    now = 10_000.0
    assert [buckets.take("a") for _ in range(61)].count(0) == 60


def test_a_slow_bucket_says_how_long() -> None:
    """The seconds to wait are those until there is one again."""
    buckets = Buckets(2, now=lambda: 5.0)
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 30]


def test_buckets_are_bounded() -> None:
    """However many names come, so many are kept; the one silent longest is forgotten first."""
    buckets = Buckets(1, now=lambda: 0.0)
    for number in range(NAMES_MAX + 10):
        buckets.take(str(number))
    assert len(buckets._left) == NAMES_MAX
    assert buckets.take(str(NAMES_MAX + 9)) > 0
    assert buckets.take("0") == 0


def test_room_is_given_back() -> None:
    """A place is free again after whatever happened in it."""
    room = Room(1, "things")
    with pytest.raises(ValueError), room.place():
        raise ValueError
    with room.place(), pytest.raises(TemporaryError, match="1 things"), room.place():
        pass
    with room.place():
        pass


async def test_turns_have_a_bounded_queue() -> None:
    """So many are at it, so many wait, the next is sent away at once, and who waits too long as well."""
    turns = Turns(at_once=1, waiting=1, waits_s=0.05, what="dry runs")
    inside, leave = asyncio.Event(), asyncio.Event()

    async def occupy() -> None:
        async with turns.turn():
            inside.set()
            await leave.wait()

    first = asyncio.create_task(occupy())
    await inside.wait()
    waiting = asyncio.create_task(occupy())
    await asyncio.sleep(0)
    with pytest.raises(TemporaryError, match="beside the 1"):
        async with turns.turn():
            pass
    with pytest.raises(TemporaryError, match="no turn"):
        await waiting
    leave.set()
    await first
    async with turns.turn():
        pass


def client_of(service: MemoryService, limits: RequestLimits) -> httpx.AsyncClient:
    app = create_app(service, metrics_text=no_metrics, limits=limits)
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://127.0.0.1")


async def under_way(service: MemoryService, count: int) -> None:
    """Wait until so many calls have arrived, and everything else had its turn as well."""
    async with asyncio.timeout(30):
        while len(service.calls) < count:  # noqa: ASYNC110 - what is asked sets no event
            await asyncio.sleep(0.001)
    for _ in range(100):
        await asyncio.sleep(0)


async def test_dry_runs_side_by_side_are_bounded() -> None:
    """Beyond those that are made and those that wait, a dry run is told to come back; others are served."""
    service = MemoryService(hold=asyncio.Event())
    limits = RequestLimits(dry_runs_in_parallel=2, dry_runs_waiting=1)
    async with client_of(service, limits) as client:
        path = "/v1/environments/production/diff"
        running = [asyncio.create_task(client.get(path)) for _ in range(3)]
        await under_way(service, 2)
        away = await client.get(path)
        assert (away.status_code, away.headers["retry-after"]) == (503, "5")
        assert away.headers["content-type"] == "application/problem+json"
        assert service.hold is not None
        service.hold.set()
        assert [answer.status_code for answer in await asyncio.gather(*running)] == [200] * 3


async def test_health_and_metrics_are_never_turned_away() -> None:
    """With no room left for requests, health and metrics answer as always."""
    service = MemoryService(hold=asyncio.Event())
    async with client_of(service, RequestLimits(in_parallel=2)) as client:
        held = [asyncio.create_task(client.get("/v1/environments")) for _ in range(2)]
        await under_way(service, 2)
        assert (await client.get("/v1/environments")).status_code == 503
        for path in ("/livez", "/readyz", "/metrics", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        assert service.hold is not None
        service.hold.set()
        assert [answer.status_code for answer in await asyncio.gather(*held)] == [200, 200]
