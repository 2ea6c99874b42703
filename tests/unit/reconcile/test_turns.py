"""Jobs that take turns, and those of them that wait in vain."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from reconciler.reconcile import turns
from reconciler.reconcile.turns import in_turns


class Jobs:
    """Jobs that end at once, and jobs that never do; counts how many are under way."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.under_way = 0
        self.most = 0
        self.stuck = asyncio.Event()
        self._begun = asyncio.Event()

    async def quick(self, name: str) -> str:
        self._begins(name)
        await asyncio.sleep(0)
        self.under_way -= 1
        return name

    async def silent(self, name: str) -> str:
        self._begins(name)
        try:
            await self.stuck.wait()
        finally:
            self.under_way -= 1
        return name

    def _begins(self, name: str) -> None:
        self.began.append(name)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        self._begun.set()

    async def until_began(self, *names: str) -> None:
        async with asyncio.timeout(30):
            while not set(names) <= set(self.began):
                self._begun.clear()
                await self._begun.wait()


def named(job: Callable[[str], Awaitable[str]], *names: str) -> dict[str, Callable[[], Awaitable[str]]]:
    return {name: partial(job, name) for name in names}


async def test_jobs_are_done_within_their_bound() -> None:
    """All are done, no more of them side by side than there are places."""
    jobs = Jobs()
    names = [str(number) for number in range(20)]
    assert await in_turns(named(jobs.quick, *names), 3) == dict(zip(names, names, strict=True))
    assert jobs.most == 3
    assert await in_turns({}, 3) == {}


async def test_who_takes_long_gives_its_place_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """With every place taken by somebody silent the others get their turns, and nobody is forgotten."""
    monkeypatch.setattr(turns, "SLOW_S", 0.01)
    jobs = Jobs()
    silent, quick = ["a", "b", "c", "d"], ["e", "f", "g"]
    doing = asyncio.create_task(
        in_turns({**named(jobs.silent, *silent), **named(jobs.quick, *quick)}, 2),
    )
    await jobs.until_began(*quick)
    jobs.stuck.set()
    assert sorted(await doing) == silent + quick
    assert jobs.most <= 2 * turns.SLOW_TIMES


async def test_doubtful_ones_are_waited_for_as_long_as_is_said() -> None:
    """They take no place of the others; once these are done, it is told how long they are worth."""
    jobs = Jobs()
    told: list[list[str]] = []

    def patience_s(made: object) -> float | None:
        told.append(sorted(made))  # type: ignore[call-overload]
        return 0.01

    doubtful = ["x", "y", "z", "w"]
    work = {**named(jobs.silent, *doubtful), **named(jobs.quick, "a", "b")}
    found = await in_turns(work, 4, doubtful=doubtful, patience_s=patience_s)
    assert (found, told) == ({"a": "a", "b": "b"}, [["a", "b"]])
    # Nothing of them is left behind.
    assert jobs.under_way == 0
    jobs.stuck.set()
    assert sorted(await in_turns(work, 4, doubtful=doubtful)) == sorted(work)


async def test_an_error_ends_the_others() -> None:
    """It is raised at once, and nothing of the others goes on; so it is when all of it is cancelled."""
    jobs = Jobs()

    async def fails() -> str:
        await asyncio.sleep(0)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        await in_turns({**named(jobs.silent, "a", "b"), "c": fails}, 4, doubtful=["b"])
    assert jobs.under_way == 0
    doing = asyncio.create_task(in_turns(named(jobs.silent, "x", "y"), 1))
    await jobs.until_began("x")
    doing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await doing
    assert jobs.under_way == 0
