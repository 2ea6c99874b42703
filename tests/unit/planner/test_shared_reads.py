"""Shared work: done once for all who may have it, and never older than they accept."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from reconciler.errors import DatabaseUnavailable
from reconciler.planner.shared import Shared


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Reads:
    """Counts what was read, and holds it back while `gate` is closed."""

    def __init__(self) -> None:
        self.began = 0
        self.ended_early = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    def make(self) -> Callable[[], Awaitable[int]]:
        async def read() -> int:
            self.began += 1
            number = self.began
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.ended_early += 1
                raise
            if self.error is not None:
                raise self.error
            return number

        return read


def shared(clock: Clock, *, weight_max: int = 10) -> Shared[str, int]:
    return Shared(keep_s=60, weight_max=weight_max, weigh=lambda _number: 1, clock=clock)


async def test_one_read_serves_all_who_accept_it() -> None:
    """Those who came while it ran, and those who come later and accept its age, get the same."""
    clock, reads = Clock(), Reads()
    works = shared(clock)
    reads.gate.clear()
    waiting = [asyncio.create_task(works.get("a", reads.make(), not_before=100.0)) for _ in range(5)]
    await asyncio.sleep(0)
    reads.gate.set()
    assert await asyncio.gather(*waiting) == [1] * 5
    clock.now = 110.0
    assert await works.get("a", reads.make(), not_before=100.0) == 1
    assert await works.get("b", reads.make(), not_before=100.0) == 2
    assert await works.get("a", reads.make(), not_before=105.0) == 3, "older than is accepted"
    assert await works.get("a", reads.make(), not_before=105.0) == 3


async def test_without_a_moment_everything_is_read_anew() -> None:
    """A dry run never gets what was read for others; others may get what was read for it."""
    clock, reads = Clock(), Reads()
    works = shared(clock)
    assert await works.get("a", reads.make(), not_before=None) == 1
    assert await works.get("a", reads.make(), not_before=None) == 2
    assert await works.get("a", reads.make(), not_before=100.0) == 2


async def test_cancelled_caller_takes_nothing_from_the_others() -> None:
    """Who gives up leaves; the read goes on for whoever waits still."""
    reads = Reads()
    works = shared(Clock())
    reads.gate.clear()
    first = asyncio.create_task(works.get("a", reads.make(), not_before=100.0))
    second = asyncio.create_task(works.get("a", reads.make(), not_before=100.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    reads.gate.set()
    assert await second == 1
    assert reads.ended_early == 0


async def test_read_nobody_waits_for_is_ended_and_not_kept() -> None:
    """The last one to leave ends it; the next one reads."""
    reads = Reads()
    works = shared(Clock())
    reads.gate.clear()
    only = asyncio.create_task(works.get("a", reads.make(), not_before=100.0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    only.cancel()
    with pytest.raises(asyncio.CancelledError):
        await only
    reads.gate.set()
    assert await works.get("a", reads.make(), not_before=100.0) == 2
    assert reads.ended_early == 1


async def test_errors_are_shared_as_long() -> None:
    """A dead server is asked once for all who accept that."""
    clock, reads = Clock(), Reads()
    works = shared(clock)
    reads.error = DatabaseUnavailable("nobody answers")
    for _ in range(3):
        with pytest.raises(DatabaseUnavailable, match="nobody answers"):
            await works.get("a", reads.make(), not_before=100.0)
    assert reads.began == 1
    reads.error = None
    clock.now = 101.0
    assert await works.get("a", reads.make(), not_before=101.0) == 2


async def test_outcomes_are_kept_within_bounds() -> None:
    """Neither many keys nor much time let it grow; those used last stay."""
    clock, reads = Clock(), Reads()
    works = shared(clock, weight_max=3)
    for key in "abcdef":
        await works.get(key, reads.make(), not_before=100.0)
    assert len(works._works) == 3
    assert await works.get("f", reads.make(), not_before=100.0) == 6
    assert await works.get("a", reads.make(), not_before=100.0) == 7
    clock.now = 200.0
    assert await works.get("f", reads.make(), not_before=100.0) == 8, "too old to be used at all"
    works._sweep()
    assert list(works._works) == ["f"]
    clock.now = 300.0
    works._sweep()
    assert not works._works
    assert works._weight == 0


async def test_what_is_there_already_begins_nothing() -> None:
    """Who takes only what is there gets it once it is done, while it is young enough, and never an error."""
    clock, reads = Clock(), Reads()
    works = shared(clock)
    assert works.ready("a", not_before=0) is None
    reads.gate.clear()
    under_way = asyncio.create_task(works.get("a", reads.make(), not_before=None))
    await asyncio.sleep(0)
    assert works.ready("a", not_before=0) is None
    reads.gate.set()
    assert await under_way == 1
    assert works.ready("a", not_before=100) == 1
    assert works.ready("a", not_before=100.1) is None
    reads.error = DatabaseUnavailable("away")
    with pytest.raises(DatabaseUnavailable):
        await works.get("a", reads.make(), not_before=None)
    assert works.ready("a", not_before=0) is None
    assert reads.began == 2
