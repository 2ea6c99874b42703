"""Laws of the state machine, of the order of a rollout and of its derived state."""

from hypothesis import given
from hypothesis import strategies as st

from reconciler.errors import IllegalTransition
from reconciler.rollout.next import startable
from reconciler.rollout.states import (
    HELD,
    IN_FLIGHT,
    TERMINAL,
    TERMINAL_ROLLOUT,
    TRANSITIONS,
    OperationEvent,
    OperationState,
    RolloutState,
    advance,
)
from reconciler.rollout.summary import AT_WORK, UNSTARTED, UNSUCCESSFUL, RolloutPolicy, derive

S = OperationState
STATES = st.sampled_from(OperationState)
OPERATIONS = st.lists(STATES, min_size=1, max_size=6)
POLICIES = st.builds(
    RolloutPolicy,
    order=st.sampled_from(["rolling", "parallel", "barrier", "unknown"]),
    on_failure=st.sampled_from(["halt", "continue", "pause", "unknown"]),
    max_parallel=st.integers(0, 4),
)


@given(start=STATES, events=st.lists(st.sampled_from(OperationEvent), max_size=30))
def test_any_sequence_of_events_stays_in_the_table(
    start: OperationState, events: list[OperationEvent]
) -> None:
    """Whatever happens, a state moves as the table says, and a terminal one never moves."""
    state = start
    for event in events:
        try:
            after = advance(state, event)
        except IllegalTransition:
            continue
        assert state not in TERMINAL
        assert after in TRANSITIONS[state].values()
        state = after


@given(operations=OPERATIONS, policy=POLICIES, released=st.booleans(), data=st.data())
def test_state_of_a_rollout_does_not_depend_on_order(
    operations: list[OperationState], policy: RolloutPolicy, released: bool, data: st.DataObject
) -> None:
    """The same operations in any order, and any number of times, are the same rollout."""
    shuffled = data.draw(st.permutations(operations))
    expected = derive(operations, policy, released=released)
    assert derive(shuffled, policy, released=released) is expected
    assert derive([*operations, *shuffled], policy, released=released) is expected


@given(operations=OPERATIONS, policy=POLICIES, released=st.booleans())
def test_a_rollout_is_over_exactly_when_all_its_operations_are(
    operations: list[OperationState], policy: RolloutPolicy, released: bool
) -> None:
    """Terminal means every operation is terminal, whatever the policy."""
    over = derive(operations, policy, released=released) in TERMINAL_ROLLOUT
    assert over == (set(operations) <= TERMINAL)


@given(operations=OPERATIONS, policy=POLICIES, data=st.data())
def test_a_rollout_never_comes_back_from_its_end(
    operations: list[OperationState], policy: RolloutPolicy, data: st.DataObject
) -> None:
    """Along any legal moves of its operations, a terminal rollout keeps its state."""
    states = list(operations)
    last: RolloutState | None = None
    for _ in range(20):
        now = derive(states, policy, released=data.draw(st.booleans()))
        if last is not None:
            assert now is last
        if now in TERMINAL_ROLLOUT:
            last = now
        moves = [(i, after) for i, state in enumerate(states) for after in TRANSITIONS[state].values()]
        if not moves:
            break
        index, after = data.draw(st.sampled_from(moves))
        states[index] = after


@given(operations=OPERATIONS, policy=POLICIES, released=st.booleans())
def test_specification_of_the_derived_state(
    operations: list[OperationState], policy: RolloutPolicy, released: bool
) -> None:
    """The derived state, said the other way round: what each of them promises about the operations."""
    states = set(operations)
    paused_by_policy = policy.on_failure == "pause" and not released
    match derive(operations, policy, released=released):
        case RolloutState.COMPLETED:
            assert states == {S.COMPLETED}
        case RolloutState.FAILED:
            assert S.FAILED in states
            assert states <= TERMINAL
        case RolloutState.CANCELLED:
            assert S.CANCELLED in states
            assert not states & UNSUCCESSFUL
        case RolloutState.REVERTED:
            assert S.REVERTED in states
            assert S.FAILED not in states
        case RolloutState.SUPERSEDED:
            assert states <= {S.SUPERSEDED, S.COMPLETED}
        case RolloutState.PENDING:
            assert states == {S.PENDING}
        case RolloutState.PAUSED:
            assert paused_by_policy
            assert states & UNSUCCESSFUL
            assert states & UNSTARTED
            assert not states & AT_WORK
        case RolloutState.RUNNING_DEGRADED:
            assert S.FAILED in states
            assert states & (AT_WORK | UNSTARTED)
        case RolloutState.RUNNING:
            assert S.FAILED not in states
            assert S.RUNNING in states or S.PENDING in states
        case waiting:
            assert OperationState(waiting.value) in states
            assert not states <= TERMINAL


@given(operations=OPERATIONS, policy=POLICIES, released=st.booleans())
def test_what_may_start_is_pending_in_order_and_fits(
    operations: list[OperationState], policy: RolloutPolicy, released: bool
) -> None:
    """Started together, all that may start never exceeds the bound, and nothing starts after a failure."""
    named = [(str(index), state) for index, state in enumerate(operations)]
    found = startable(named, policy, released=released)
    assert list(found) == sorted(found, key=int)
    assert all(operations[int(name)] is S.PENDING for name in found)
    at_work = sum(state in AT_WORK for state in operations)
    assert not found or at_work + len(found) <= max(policy.max_parallel, 1)
    forbids = policy.on_failure not in ("continue", "pause") or (
        policy.on_failure == "pause" and not released
    )
    if forbids and set(operations) & UNSUCCESSFUL:
        assert found == ()
    if policy.order in ("rolling", "unknown"):
        assert len(found) <= 1
        for name in found:
            assert set(operations[: int(name)]) <= TERMINAL | {S.REVERT_WINDOW}


@given(operations=st.lists(st.just(S.PENDING), min_size=1, max_size=5), policy=POLICIES, data=st.data())
def test_a_rollout_left_to_itself_comes_to_an_end(
    operations: list[OperationState], policy: RolloutPolicy, data: st.DataObject
) -> None:
    """Starting what may start and ending it somehow always leads to an end, a pause or a halt."""
    states = list(operations)
    for _ in range(20):
        found = startable([(str(i), s) for i, s in enumerate(states)], policy)
        if not found:
            break
        ends = [S.COMPLETED, S.FAILED, S.CANCELLED]
        states[int(found[0])] = data.draw(st.sampled_from(ends))
    if set(states) <= TERMINAL:
        return
    assert S.FAILED in states
    assert policy.on_failure != "continue"
    assert not set(states) & (IN_FLIGHT | HELD - TERMINAL)
