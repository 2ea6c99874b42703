"""Which operations of a rollout may start, case by case."""

import pytest

from reconciler.rollout.next import startable
from reconciler.rollout.states import OperationState
from reconciler.rollout.summary import RolloutPolicy

S = OperationState
CASES = [
    ("rolling", "halt", 3, [S.PENDING, S.PENDING], ("a",)),
    ("rolling", "halt", 3, [S.RUNNING, S.PENDING], ()),
    ("rolling", "halt", 3, [S.RETRYING, S.PENDING], ()),
    ("rolling", "halt", 3, [S.STOPPED, S.PENDING], ()),
    ("rolling", "halt", 3, [S.WAITING_FOR_APPROVAL, S.PENDING], ()),
    ("rolling", "halt", 3, [S.COMPLETED, S.PENDING, S.PENDING], ("b",)),
    ("rolling", "halt", 3, [S.REVERT_WINDOW, S.PENDING], ("b",)),
    ("rolling", "halt", 3, [S.CANCELLED, S.PENDING], ("b",)),
    ("rolling", "halt", 3, [S.FAILED, S.PENDING], ()),
    ("rolling", "continue", 3, [S.FAILED, S.PENDING], ("b",)),
    ("rolling", "pause", 3, [S.FAILED, S.PENDING], ()),
    ("unknown", "halt", 3, [S.PENDING, S.PENDING], ("a",)),
    ("parallel", "halt", 2, [S.PENDING, S.PENDING, S.PENDING], ("a", "b")),
    ("parallel", "halt", 2, [S.RUNNING, S.PENDING, S.PENDING], ("b",)),
    ("parallel", "halt", 2, [S.RUNNING, S.RETRYING, S.PENDING], ()),
    ("parallel", "halt", 2, [S.STOPPED, S.PENDING, S.PENDING], ("b", "c")),
    ("parallel", "halt", 2, [S.RUNNING, S.FAILED, S.PENDING], ()),
    ("parallel", "continue", 2, [S.RUNNING, S.FAILED, S.PENDING], ("c",)),
    ("barrier", "halt", 2, [S.WAITING_FOR_PROMOTION, S.PENDING, S.PENDING], ("b", "c")),
    ("parallel", "halt", 0, [S.PENDING, S.PENDING], ("a",)),
]


@pytest.mark.parametrize(("order", "on_failure", "max_parallel", "states", "expected"), CASES)
def test_what_may_start(
    order: str, on_failure: str, max_parallel: int, states: list[OperationState], expected: tuple[str, ...]
) -> None:
    """The order, the bound and the failures before decide what may start."""
    policy = RolloutPolicy(order=order, on_failure=on_failure, max_parallel=max_parallel)
    assert startable(list(zip("abc", states, strict=False)), policy) == expected


def test_release_lets_a_paused_rollout_go_on() -> None:
    """Once released, a rollout that paused starts what is left."""
    policy = RolloutPolicy(on_failure="pause")
    assert startable([("a", S.FAILED), ("b", S.PENDING)], policy, released=True) == ("b",)


WAVE_CASES = [
    ("parallel", "halt", 9, [S.PENDING, S.PENDING, S.PENDING, S.PENDING], ("a", "b")),
    ("parallel", "halt", 9, [S.COMPLETED, S.RUNNING, S.PENDING, S.PENDING], ()),
    ("parallel", "halt", 9, [S.COMPLETED, S.STOPPED, S.PENDING, S.PENDING], ()),
    ("parallel", "halt", 9, [S.COMPLETED, S.CANCELLED, S.PENDING, S.PENDING], ("c", "d")),
    ("parallel", "halt", 9, [S.COMPLETED, S.FAILED, S.PENDING, S.PENDING], ()),
    ("parallel", "continue", 9, [S.COMPLETED, S.FAILED, S.PENDING, S.PENDING], ("c", "d")),
    ("parallel", "continue", 9, [S.RUNNING, S.FAILED, S.PENDING, S.PENDING], ()),
    ("parallel", "halt", 1, [S.REVERT_WINDOW, S.COMPLETED, S.PENDING, S.PENDING], ("c",)),
    ("barrier", "halt", 9, [S.COMPLETED, S.COMPLETED, S.PENDING, S.PENDING], ("c", "d")),
    ("rolling", "halt", 9, [S.PENDING, S.PENDING, S.PENDING, S.PENDING], ("a",)),
    ("rolling", "halt", 9, [S.COMPLETED, S.COMPLETED, S.PENDING, S.PENDING], ("c",)),
]


@pytest.mark.parametrize(
    ("order", "on_failure", "max_parallel", "states", "expected"),
    WAVE_CASES,
    ids=[f"{case[0]}-{case[1]}-{number}" for number, case in enumerate(WAVE_CASES)],
)
def test_what_may_start_in_waves(
    order: str, on_failure: str, max_parallel: int, states: list[OperationState], expected: tuple[str, ...]
) -> None:
    """No wave starts before all of the one before it is done; order and bound hold inside each."""
    policy = RolloutPolicy(order=order, on_failure=on_failure, max_parallel=max_parallel)
    waves = {"a": 0, "b": 0, "c": 3, "d": 3}
    named = list(zip("abcd", states, strict=True))
    assert startable(named, policy, waves=waves) == expected
    assert startable(named, policy, waves=waves, rests=True) == ()


def test_barrier_is_parallel_where_nothing_is_promoted() -> None:
    """Without a promotion nothing holds an operation back before its end: both orders start the same."""
    without = [state for state in S if state not in (S.WAITING_FOR_PROMOTION, S.PROMOTING)]
    for first in without:
        for second in without:
            named = [("a", first), ("b", second), ("c", S.PENDING)]
            found = {
                order: startable(named, RolloutPolicy(order=order, max_parallel=2))
                for order in ("barrier", "parallel")
            }
            assert found["barrier"] == found["parallel"]
