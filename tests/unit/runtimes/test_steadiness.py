"""When a new instance counts as healthy, and when it is given up."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reconciler.runtimes.health import Outcome, until_steady
from reconciler.runtimes.runtime import Health, Identity, Observed, ServiceSpec, ServiceState, TcpCheck
from reconciler.runtimes.steadiness import Steadiness, Verdict

API = Identity(environment="production", deployment="eu", component="api")
HEALTH = Health(interval_s=1.0, deadline_s=10.0, steady_s=3.0, crashes_max=2)
SPEC = ServiceSpec(identity=API, definition_hash="1", health=HEALTH)
STARTING, HEALTHY, EXITED = ServiceState.STARTING, ServiceState.HEALTHY, ServiceState.EXITED


def one(state: ServiceState, starts: int = 1, exit_status: int | None = None, reason: str = "") -> Observed:
    return Observed(
        identity=API, instance="one", state=state, starts=starts, exit_status=exit_status, reason=reason
    )


def wait_for(looks: Sequence[Observed | None]) -> tuple[Outcome, float]:
    """Wait for an instance that is like this, one second after the other; the last stays."""
    now = 0.0

    async def look() -> Observed | None:
        return looks[min(int(now), len(looks) - 1)]

    async def ask(_spec: ServiceSpec, observed: Observed) -> str | None:
        return None if observed.state is HEALTHY else observed.reason or "not healthy"

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    return asyncio.run(until_steady(SPEC, look, ask=ask, clock=lambda: now, sleep=sleep)), now


@pytest.mark.parametrize(
    ("looks", "after_s", "reason"),
    [
        pytest.param([one(HEALTHY)], 3, None, id="healthy-at-once"),
        pytest.param([one(STARTING)] * 5 + [one(HEALTHY)], 8, None, id="healthy-after-a-while"),
        pytest.param([one(STARTING)] * 9 + [one(HEALTHY)], 12, None, id="healthy-just-in-time"),
        pytest.param(
            [one(HEALTHY), one(HEALTHY), one(STARTING), one(HEALTHY)], 6, None, id="a-break-begins-anew"
        ),
        pytest.param([one(HEALTHY), one(HEALTHY), one(HEALTHY, starts=2)], 5, None, id="a-start-begins-anew"),
        pytest.param([one(STARTING)], 10, "it is not healthy within 10 s: not healthy", id="never-healthy"),
        pytest.param(
            [one(HEALTHY), one(STARTING)] * 9,
            11,
            "it is not healthy within 10 s: not healthy",
            id="healthy-now-and-then",
        ),
        pytest.param(
            [one(STARTING, reason="it waits"), one(HEALTHY), one(HEALTHY)] * 9,
            12,
            "it is not healthy within 10 s: it waits",
            id="never-for-long",
        ),
        pytest.param(
            [one(HEALTHY, starts=each, exit_status=7) for each in range(1, 9)],
            3,
            "it was started 4 times and does not stay up: it ended with 7",
            id="crashes-between-the-looks",
        ),
        pytest.param([one(EXITED, reason="it exited with 3")], 0, "it exited with 3", id="ended-for-good"),
        pytest.param([one(HEALTHY), None], 1, "it is not there any more", id="removed"),
    ],
)
def test_verdict(looks: list[Observed | None], after_s: float, reason: str | None) -> None:
    """Healthy means healthy in time and without a break for long enough; the rest ends with its reason."""
    outcome, waited_s = wait_for(looks)
    assert (outcome.is_steady, outcome.reason) == (reason is None, reason or "")
    assert after_s <= waited_s < after_s + HEALTH.interval_s


def test_a_port_is_found_soon_after_it_answers() -> None:
    """It is asked more often than the instance is looked at, and no look is late at the end."""
    now, looks = 0.0, 0

    async def look() -> Observed | None:
        nonlocal looks
        looks += 1
        return one(HEALTHY)

    async def ask(_spec: ServiceSpec, _observed: Observed) -> str | None:
        return None if now >= 6.0 else "connection refused"

    async def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds

    spec = replace(SPEC, health=replace(HEALTH, check=TcpCheck(port="http")))
    outcome = asyncio.run(until_steady(spec, look, ask=ask, clock=lambda: now, sleep=sleep))
    assert outcome.is_steady
    assert 6.0 + HEALTH.steady_s <= now < 6.2 + HEALTH.steady_s
    assert looks < 20


@pytest.mark.parametrize(("ready_s", "found_s"), [(0.0, 0.0), (0.03, 0.05), (0.15, 0.2), (0.7, 0.8)])
def test_first_looks_come_soon(ready_s: float, found_s: float) -> None:
    """The time between them doubles until it is that of the spec."""
    steadiness, now = Steadiness(health=HEALTH, begun=0.0), 0.0
    while now < ready_s:
        steadiness = steadiness.seen(now, one(STARTING), "not healthy")
        now += steadiness.pause_s(now)
    assert now == pytest.approx(found_s)


@given(st.lists(st.tuples(st.sampled_from([STARTING, HEALTHY]), st.integers(0, 1)), min_size=1, max_size=30))
def test_never_steady_without_the_whole_time(seen: list[tuple[ServiceState, int]]) -> None:
    """What is steady was healthy at every look of the last `steady_s`, in one run; waiting has an end."""
    steadiness = Steadiness(health=HEALTH, begun=0.0)
    starts = 1
    for second, (state, more) in enumerate(seen):
        starts += more
        steadiness = steadiness.seen(float(second), one(state, starts=starts), None)
        verdict, _ = steadiness.verdict(float(second))
        if verdict is Verdict.STEADY:
            last = seen[second - 3 : second + 1]
            assert [each for each, _ in last] == [HEALTHY] * 4
            assert not any(anew for _, anew in last[1:])
        if verdict is not Verdict.WAIT:
            return
        assert second < HEALTH.deadline_s + HEALTH.steady_s
