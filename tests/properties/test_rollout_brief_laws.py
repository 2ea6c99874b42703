"""Laws of rollouts in brief, which decide what the whole list of operations does, and of sharing places."""

from hypothesis import given
from hypothesis import strategies as st

from reconciler.rollout.next import PASSED, SIDE_BY_SIDE, brief, may_start, shared_out, startable
from reconciler.rollout.states import OperationState
from reconciler.rollout.summary import AT_WORK, RolloutPolicy, derive, halted

S = OperationState
OPERATIONS = st.lists(st.sampled_from(OperationState), max_size=12)
POLICIES = st.builds(
    RolloutPolicy,
    order=st.sampled_from(["rolling", "parallel", "barrier", "unknown"]),
    on_failure=st.sampled_from(["halt", "continue", "pause", "unknown"]),
    max_parallel=st.integers(0, 6),
)


def _by_all(
    operations: list[tuple[str, OperationState]], policy: RolloutPolicy, *, released: bool
) -> list[str]:
    """What may start, said over all operations one by one."""
    if halted([state for _, state in operations], policy, released=released):
        return []
    at_work = sum(state in AT_WORK for _, state in operations)
    found: list[str] = []
    for name, state in operations:
        if state is S.PENDING and at_work + len(found) < max(policy.max_parallel, 1):
            found.append(name)
        if policy.order not in SIDE_BY_SIDE and state not in PASSED:
            break
    return found


@given(states=OPERATIONS, policy=POLICIES, released=st.booleans(), most=st.integers(1, 12))
def test_a_brief_decides_what_the_whole_list_does(
    states: list[OperationState], policy: RolloutPolicy, released: bool, most: int
) -> None:
    """What may start is the same from the first few as from all, as far as these few go."""
    named = [(str(index), state) for index, state in enumerate(states)]
    wanted = _by_all(named, policy, released=released)
    assert list(startable(named, policy, released=released)) == wanted
    assert list(may_start(brief(named, most=most), policy, released=released)) == wanted[:most]


@given(states=st.lists(st.sampled_from(OperationState), min_size=1, max_size=12), policy=POLICIES)
def test_which_states_there_are_is_enough_to_derive(
    states: list[OperationState], policy: RolloutPolicy
) -> None:
    """State and halt of a rollout follow from the set of its operations' states."""
    for released in (False, True):
        found = brief([(str(index), state) for index, state in enumerate(states)]).states
        assert derive(found, policy, released=released) is derive(states, policy, released=released)
        assert halted(found, policy, released=released) is halted(states, policy, released=released)


@given(
    room=st.integers(0, 20),
    loads=st.dictionaries(st.text("abc", min_size=1, max_size=2), st.integers(0, 9), max_size=6),
)
def test_places_go_to_who_has_the_least(room: int, loads: dict[str, int]) -> None:
    """All places are given, and nobody gets one while another that waits would still have fewer."""
    given_out = shared_out(room, loads)
    assert sum(given_out.values()) == (room if loads else 0)
    after = {name: load + given_out.get(name, 0) for name, load in loads.items()}
    for name in given_out:
        assert after[name] - 1 <= min(after.values())
