"""Trying again: only what may pass, within a budget, ever later."""

from hypothesis import given
from hypothesis import strategies as st

from reconciler.rollout.retry import WAITS_MAX, decide, wait_again


def test_permanent_failures_are_not_tried_again() -> None:
    """What cannot pass fails at once."""
    decision = decide(transient=False, attempts=1, budget=5, jitter=0.5)
    assert not decision.retry
    assert "cannot help" in decision.reason


def test_budget_is_the_number_of_attempts() -> None:
    """The attempt that spends the budget is the last."""
    assert decide(transient=True, attempts=2, budget=3, jitter=0).retry
    spent = decide(transient=True, attempts=3, budget=3, jitter=0)
    assert not spent.retry
    assert "3 attempts" in spent.reason


@given(attempts=st.integers(1, 10_000), jitter=st.floats(0, 1))
def test_delay_is_bounded_and_grows(attempts: int, jitter: float) -> None:
    """The delay doubles up to its ceiling and keeps within its upper half."""
    decision = decide(transient=True, attempts=attempts, budget=20_000, jitter=jitter, base_s=2, ceiling_s=60)
    whole = 60 if attempts > 5 else min(60, 2 * 2 ** (attempts - 1))
    assert whole / 2 <= decision.delay_s <= whole


def test_waiting_for_another_grows_to_a_bound_and_ends() -> None:
    """Each look is later than the one before up to the ceiling, never at once, and not for ever."""
    pauses = [wait_again(waits=waits, jitter=1.0) for waits in range(8)]
    assert pauses == [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]
    assert wait_again(waits=0, jitter=0.0) == 0.25
    assert wait_again(waits=WAITS_MAX - 1, jitter=0.0) == 7.5
    assert wait_again(waits=WAITS_MAX, jitter=0.0) is None
