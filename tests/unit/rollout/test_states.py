"""The table of operation states: complete, closed and free of dead ends."""

from itertools import product

import pytest

from reconciler.errors import IllegalTransition
from reconciler.rollout.states import (
    CLAIMABLE,
    EVENT_LABELS,
    HELD,
    IN_FLIGHT,
    LABELS,
    TERMINAL,
    TERMINAL_ROLLOUT,
    TRANSITIONS,
    WAY_OUT,
    OperationEvent,
    OperationState,
    RolloutState,
    advance,
    targets,
)

S = OperationState
INITIAL = {S.PENDING, S.WAITING_FOR_APPROVAL}


def reachable(start: set[OperationState]) -> set[OperationState]:
    seen, left = set(start), list(start)
    while left:
        for after in TRANSITIONS[left.pop()].values():
            if after not in seen:
                seen.add(after)
                left.append(after)
    return seen


@pytest.mark.parametrize(("state", "event"), list(product(OperationState, OperationEvent)))
def test_each_pair_is_listed_or_refused(state: OperationState, event: OperationEvent) -> None:
    """A state either takes an event as the table says, or refuses it naming what is possible."""
    if event in TRANSITIONS[state]:
        assert advance(state, event) is TRANSITIONS[state][event]
    else:
        with pytest.raises(IllegalTransition, match=state.value):
            advance(state, event)


def test_every_state_is_in_the_table_and_labelled() -> None:
    """No state and no event lacks its row or its line of meaning."""
    assert set(TRANSITIONS) == set(OperationState) == set(LABELS)
    assert set(EVENT_LABELS) == set(OperationEvent)
    assert {event for ways in TRANSITIONS.values() for event in ways} == set(OperationEvent)


def test_every_state_is_reachable() -> None:
    """From a recorded operation every state can be reached."""
    assert reachable(INITIAL) == set(OperationState)


@pytest.mark.parametrize("state", sorted(set(OperationState) - TERMINAL))
def test_no_state_is_a_dead_end(state: OperationState) -> None:
    """Every state that is not terminal has a way to a terminal one."""
    assert reachable({state}) & TERMINAL


def test_terminal_states_are_the_five_without_a_way_out() -> None:
    """Completed, failed, cancelled, reverted and superseded are over for good."""
    assert {S.COMPLETED, S.FAILED, S.CANCELLED, S.REVERTED, S.SUPERSEDED} == TERMINAL
    assert {state.value for state in TERMINAL} == {state.value for state in TERMINAL_ROLLOUT}


def test_sets_come_from_the_table() -> None:
    """What may be claimed takes a claim, and what leads to a hold is as the design says."""
    assert {S.PENDING, S.RETRYING} == CLAIMABLE
    assert {S.FAILED, S.CANCELLED, S.STOPPED, S.REVERTED} == HELD
    assert not IN_FLIGHT & (TERMINAL | CLAIMABLE | HELD)


def test_everything_that_waits_for_an_operator_can_be_cancelled_and_superseded() -> None:
    """No state without a worker can hold a deployment against the will of an operator or a new commit."""
    waiting = set(OperationState) - TERMINAL - IN_FLIGHT - {S.REVERT_WINDOW}
    assert waiting <= set(targets(OperationEvent.CANCEL))
    assert waiting <= set(targets(OperationEvent.SUPERSEDE))


def test_rollout_states_are_those_of_operations_and_two_more() -> None:
    """A rollout adds running_degraded and paused, nothing else."""
    own = {state.value for state in RolloutState} - {state.value for state in OperationState}
    assert own == {"running_degraded", "paused"}
    assert {state.value for state in OperationState} < {state.value for state in RolloutState}


def test_targets_are_the_rows_of_the_table_by_event() -> None:
    """What SQL is given to check against says the same as the table."""
    for event in OperationEvent:
        for state in OperationState:
            assert targets(event).get(state) is TRANSITIONS[state].get(event)


def test_every_state_is_over_claimable_in_flight_or_held_with_its_own_way_out() -> None:
    """Walked state by state: who is to move it next is known of each, and said."""
    person = {
        OperationEvent.APPROVE,
        OperationEvent.START,
        OperationEvent.PROMOTE,
        OperationEvent.SKIP_REVERT,
    }
    for state in S:
        if state in TERMINAL:
            assert state not in WAY_OUT
            continue
        assert WAY_OUT[state]
        by_itself = state in CLAIMABLE or state in IN_FLIGHT
        assert by_itself or TRANSITIONS[state].keys() & person, state
        assert by_itself == ("worker" in WAY_OUT[state])
