"""Laws of waves and of derived states, against a second, plain writing of the rules."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from reconciler.rollout.next import startable
from reconciler.rollout.states import TERMINAL, OperationState, RolloutState
from reconciler.rollout.summary import RolloutPolicy, derive

S = OperationState
R = RolloutState
STATES = st.sampled_from(OperationState)
POLICIES = st.builds(
    RolloutPolicy,
    order=st.sampled_from(["rolling", "parallel", "barrier", "unknown"]),
    on_failure=st.sampled_from(["halt", "continue", "pause", "unknown"]),
    max_parallel=st.integers(0, 4),
)
OPERATIONS = st.lists(st.tuples(STATES, st.integers(0, 3)), min_size=1, max_size=7)


def written_out(  # noqa: C901 - the rules one after another, as they are read
    states: Sequence[OperationState], on_failure: str, *, released: bool
) -> RolloutState:
    """The state of a rollout as a person would say it, one sentence after another."""
    over = [S.COMPLETED, S.FAILED, S.CANCELLED, S.REVERTED, S.SUPERSEDED]
    left = [state for state in states if state not in over]
    # Over once everything is; what went wrong is told before what went well.
    if not left:
        for verdict in ("failed", "reverted", "cancelled", "superseded"):
            if verdict in [state.value for state in states]:
                return R(verdict)
        return R.COMPLETED
    # Something is being done: that is what it does, and it limps where another failed.
    for busy in ("reverting", "promoting", "running", "retrying"):
        if busy in [state.value for state in left]:
            return R.RUNNING_DEGRADED if S.FAILED in states else R(busy)
    # Nothing is being done. A failure that nobody released holds what has not started.
    went_wrong = S.FAILED in states or S.REVERTED in states
    unstarted = S.PENDING in left or S.WAITING_FOR_APPROVAL in left
    if on_failure == "pause" and not released and went_wrong and unstarted:
        return R.PAUSED
    # Somebody is asked, and they are told what for.
    for asks in ("stopped", "waiting_for_approval", "waiting_for_promotion"):
        if asks in [state.value for state in left]:
            return R(asks)
    # Only kept generations and what has not started are left.
    if S.PENDING not in left:
        return R.REVERT_WINDOW
    if S.FAILED in states:
        return R.RUNNING_DEGRADED
    return R.PENDING if all(state is S.PENDING for state in states) else R.RUNNING


def may_begin(
    operations: Sequence[tuple[OperationState, int]], policy: RolloutPolicy, index: int, *, released: bool
) -> bool:
    """Whether one operation may begin now, by itself, as a person would say it."""
    state, wave = operations[index]
    if state is not S.PENDING:
        return False
    went_wrong = any(other in (S.FAILED, S.REVERTED) for other, _ in operations)
    goes_on = policy.on_failure == "continue" or (policy.on_failure == "pause" and released)
    if went_wrong and not goes_on:
        return False
    settled = [*TERMINAL, S.REVERT_WINDOW]
    if any(other not in settled for other, earlier in operations if earlier < wave):
        return False
    busy = sum(other in (S.RUNNING, S.PROMOTING, S.REVERTING, S.RETRYING) for other, _ in operations)
    if busy >= max(policy.max_parallel, 1):
        return False
    if policy.order in ("parallel", "barrier"):
        return True
    before = [other for place, (other, its) in enumerate(operations) if (its, place) < (wave, index)]
    return all(other in settled for other in before)


@given(operations=st.lists(STATES, min_size=1, max_size=7), policy=POLICIES, released=st.booleans())
def test_derived_state_is_the_written_out_one(
    operations: list[OperationState], policy: RolloutPolicy, released: bool
) -> None:
    """The state of every rollout is what the rules say, written out a second time."""
    expected = written_out(operations, policy.on_failure, released=released)
    assert derive(operations, policy, released=released) is expected


@given(operations=OPERATIONS, policy=POLICIES, released=st.booleans())
def test_what_may_start_is_what_may_begin(
    operations: list[tuple[OperationState, int]], policy: RolloutPolicy, released: bool
) -> None:
    """What starts may each begin by itself, in rollout order, and as many as have room."""
    named = [(str(place), state) for place, (state, _) in enumerate(operations)]
    waves = {str(place): wave for place, (_, wave) in enumerate(operations)}
    found = startable(named, policy, released=released, waves=waves)
    alone = sorted(
        (
            place
            for place in range(len(operations))
            if may_begin(operations, policy, place, released=released)
        ),
        key=lambda place: (operations[place][1], place),
    )
    busy = sum(state in (S.RUNNING, S.PROMOTING, S.REVERTING, S.RETRYING) for state, _ in operations)
    assert [int(name) for name in found] == alone[: max(policy.max_parallel, 1) - busy]
    assert startable(named, policy, released=released, waves=waves, rests=True) == ()


@given(
    waves=st.lists(st.integers(0, 3), min_size=1, max_size=7),
    policy=POLICIES,
    ends=st.lists(st.sampled_from([S.COMPLETED, S.FAILED, S.CANCELLED]), min_size=7, max_size=7),
)
def test_a_rollout_in_waves_comes_to_an_end_wave_by_wave(
    waves: list[int], policy: RolloutPolicy, ends: list[OperationState]
) -> None:
    """Left to itself, everything starts in the order of waves, or a failure holds what is left."""
    states = [S.PENDING] * len(waves)
    began: list[int] = []
    for _ in range(len(waves) * 2):
        named = [(str(place), state) for place, state in enumerate(states)]
        by_name = {str(place): wave for place, wave in enumerate(waves)}
        found = startable(named, policy, waves=by_name)
        if not found:
            break
        for name in found:
            began.append(waves[int(name)])
            states[int(name)] = ends[int(name)]
    assert began == sorted(began)
    assert S.PENDING not in states or (S.FAILED in states and policy.on_failure != "continue")
