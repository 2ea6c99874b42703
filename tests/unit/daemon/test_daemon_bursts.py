"""Bursts of wakes: the first passes at once, the rest as one, and none is lost."""

import asyncio

from reconciler.daemon.bursts import Bursts


class Woken:
    """What was passed on."""

    def __init__(self, *, quiet_s: float, longest_s: float = 60.0) -> None:
        self.names: list[str] = []
        self.bursts = Bursts(self.names.append, quiet_s=quiet_s, longest_s=longest_s)

    async def until(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.names) < count:  # noqa: ASYNC110 - what is called is a plain function
                await asyncio.sleep(0.001)


async def test_many_become_two() -> None:
    """However many come at once, there is one at once and one when it is over."""
    woken = Woken(quiet_s=0.05)
    for _ in range(50):
        woken.bursts.wake("shop")
    assert woken.names == ["shop"]
    await woken.until(2)
    assert woken.names == ["shop", "shop"]
    woken.bursts.close()


async def test_one_stays_one() -> None:
    """A single wake is passed on once, and after the silence the next one at once."""
    woken = Woken(quiet_s=0.0)
    for expected in (1, 2, 3):
        woken.bursts.wake("shop")
        assert len(woken.names) == expected
        async with asyncio.timeout(30):
            while woken.bursts._bursts:  # noqa: ASYNC110 - likewise
                await asyncio.sleep(0.001)


async def test_sources_do_not_wait_for_each_other() -> None:
    """A burst of one source holds no other up."""
    woken = Woken(quiet_s=60.0)
    for name in ("a", "a", "b", "b", "a"):
        woken.bursts.wake(name)
    assert woken.names == ["a", "b"]
    woken.bursts.close()


async def test_a_burst_without_end_passes_now_and_then() -> None:
    """Wakes that never cease are passed on now and then: a flood keeps no source from being read."""
    woken = Woken(quiet_s=30.0, longest_s=0.02)
    async with asyncio.timeout(30):
        while len(woken.names) < 4:
            woken.bursts.wake("shop")
            await asyncio.sleep(0.001)
    woken.bursts.close()
