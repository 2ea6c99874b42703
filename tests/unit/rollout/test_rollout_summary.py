"""The state of a rollout, case by case."""

import pytest

from reconciler.rollout.states import OperationState, RolloutState
from reconciler.rollout.summary import OnFailure, RolloutPolicy, derive, halted

S = OperationState
R = RolloutState
CASES = [
    ([], "halt", False, R.COMPLETED),
    ([S.COMPLETED, S.COMPLETED], "halt", False, R.COMPLETED),
    ([S.COMPLETED, S.FAILED, S.CANCELLED], "halt", False, R.FAILED),
    ([S.REVERTED, S.COMPLETED, S.CANCELLED], "halt", False, R.REVERTED),
    ([S.CANCELLED, S.COMPLETED, S.SUPERSEDED], "halt", False, R.CANCELLED),
    ([S.SUPERSEDED, S.COMPLETED], "halt", False, R.SUPERSEDED),
    ([S.PENDING, S.PENDING], "halt", False, R.PENDING),
    ([S.COMPLETED, S.PENDING], "halt", False, R.RUNNING),
    ([S.RUNNING, S.PENDING], "halt", False, R.RUNNING),
    ([S.RUNNING, S.RETRYING], "halt", False, R.RUNNING),
    ([S.RETRYING, S.PENDING], "halt", False, R.RETRYING),
    ([S.PROMOTING, S.RUNNING], "halt", False, R.PROMOTING),
    ([S.REVERTING, S.RUNNING], "halt", False, R.REVERTING),
    ([S.RUNNING, S.FAILED], "halt", False, R.RUNNING_DEGRADED),
    ([S.RUNNING, S.FAILED], "pause", False, R.RUNNING_DEGRADED),
    ([S.FAILED, S.PENDING], "pause", False, R.PAUSED),
    ([S.REVERTED, S.PENDING], "pause", False, R.PAUSED),
    ([S.FAILED, S.PENDING], "pause", True, R.RUNNING_DEGRADED),
    ([S.FAILED, S.PENDING], "continue", False, R.RUNNING_DEGRADED),
    ([S.FAILED, S.COMPLETED], "pause", False, R.FAILED),
    ([S.STOPPED, S.PENDING], "halt", False, R.STOPPED),
    ([S.STOPPED, S.FAILED], "halt", False, R.STOPPED),
    ([S.WAITING_FOR_APPROVAL, S.COMPLETED], "halt", False, R.WAITING_FOR_APPROVAL),
    ([S.WAITING_FOR_PROMOTION, S.PENDING], "halt", False, R.WAITING_FOR_PROMOTION),
    ([S.REVERT_WINDOW, S.COMPLETED], "halt", False, R.REVERT_WINDOW),
    ([S.REVERT_WINDOW, S.PENDING], "halt", False, R.RUNNING),
]


@pytest.mark.parametrize(("operations", "on_failure", "released", "expected"), CASES)
def test_state_of_a_rollout(
    operations: list[OperationState], on_failure: str, released: bool, expected: RolloutState
) -> None:
    """The state of a rollout is what its operations and its policy say."""
    policy = RolloutPolicy(on_failure=on_failure)
    assert derive(operations, policy, released=released) is expected


def test_unknown_policy_halts() -> None:
    """A policy nobody knows is read as the safest one."""
    assert halted([S.FAILED, S.PENDING], RolloutPolicy(on_failure="shrug"))
    assert not halted([S.FAILED, S.PENDING], RolloutPolicy(on_failure=OnFailure.CONTINUE))
