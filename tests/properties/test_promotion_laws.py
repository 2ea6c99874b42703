"""Laws of promotions: who may go live now, against a second, plain writing of the rules."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from reconciler.rollout.next import Brief, brief, may_promote, may_start
from reconciler.rollout.states import OperationState
from reconciler.rollout.summary import RolloutPolicy
from reconciler.rollout.verbs import RequestVerb, Seen, answer

S = OperationState
OVER = (S.COMPLETED, S.FAILED, S.CANCELLED, S.REVERTED, S.SUPERSEDED)
BUSY = (S.RUNNING, S.PROMOTING, S.REVERTING, S.RETRYING)


@dataclass(frozen=True)
class One:
    """One operation: where it stands, its wave, and whether it was let go or made something live before."""

    state: OperationState
    wave: int
    granted: bool
    promoted: bool


POLICIES = st.builds(
    RolloutPolicy,
    order=st.sampled_from(["rolling", "parallel", "barrier", "unknown"]),
    on_failure=st.sampled_from(["halt", "continue", "pause", "unknown"]),
    max_parallel=st.integers(0, 4),
    promotion=st.sampled_from(["auto", "manual", "unknown"]),
)
PARKED_OFTEN = st.one_of(st.just(S.WAITING_FOR_PROMOTION), st.sampled_from(OperationState))
OPERATIONS = st.lists(
    st.builds(One, state=PARKED_OFTEN, wave=st.integers(0, 1), granted=st.booleans(), promoted=st.booleans()),
    min_size=1,
    max_size=7,
).map(lambda found: sorted(found, key=lambda one: one.wave))


def written_out(operations: Sequence[One], policy: RolloutPolicy, index: int, *, released: bool) -> bool:
    """Whether one operation may go live now, but for the places, as a person would say it."""
    me = operations[index]
    if me.state is not S.WAITING_FOR_PROMOTION:
        return False
    if policy.promotion != "auto" and not me.granted:
        return False
    went_wrong = any(one.state in (S.FAILED, S.REVERTED) for one in operations)
    holds = went_wrong and not (
        policy.on_failure == "continue" or (policy.on_failure == "pause" and released)
    )
    if policy.order != "barrier":
        return me.granted or not holds
    if holds:
        return False
    # One at a time, in order: all before it are done.
    if any(one.state not in (*OVER, S.REVERT_WINDOW) for one in operations[:index]):
        return False
    # All of its wave stand where it stands, or are past that.
    past = (*OVER, S.REVERT_WINDOW, S.WAITING_FOR_PROMOTION, S.PROMOTING)
    return all(one.state in past or one.promoted for one in operations if one.wave == me.wave)


def briefly(operations: Sequence[One], most: int | None = None) -> Brief:
    return brief(
        [(str(index), one.state) for index, one in enumerate(operations)],
        {str(index): one.wave for index, one in enumerate(operations)},
        most=most,
        granted=[str(index) for index, one in enumerate(operations) if one.granted],
        promoted=[str(index) for index, one in enumerate(operations) if one.promoted],
    )


@given(operations=OPERATIONS, policy=POLICIES, released=st.booleans())
def test_who_may_go_live_is_the_written_out_one(
    operations: list[One], policy: RolloutPolicy, released: bool
) -> None:
    """Exactly those of whom the rules say so, in order, as many as there are places for."""
    busy = sum(one.state in BUSY for one in operations)
    free = max(max(policy.max_parallel, 1) - busy, 0)
    wanted = [
        str(index)
        for index in range(len(operations))
        if written_out(operations, policy, index, released=released)
    ]
    assert list(may_promote(briefly(operations), policy, released=released)) == wanted[:free]


@given(operations=OPERATIONS, policy=POLICIES, released=st.booleans())
def test_under_barrier_at_most_one_goes_at_a_time(
    operations: list[One], policy: RolloutPolicy, released: bool
) -> None:
    """Nobody goes while another that went is not done, whatever the places and words."""
    policy = replace(policy, order="barrier", max_parallel=9)
    found = may_promote(briefly(operations), policy, released=released)
    assert len(found) <= 1
    if any(one.state is S.PROMOTING for one in operations):
        first = next(one for one in operations if one.state not in (*OVER, S.REVERT_WINDOW))
        assert not found or first.state is S.WAITING_FOR_PROMOTION


@given(operations=OPERATIONS, policy=POLICIES, released=st.booleans())
def test_what_is_parked_keeps_no_place(operations: list[One], policy: RolloutPolicy, released: bool) -> None:
    """Under `barrier` those that wait let the others of their wave start, however few places there are."""
    policy = replace(policy, order="barrier")
    parked = [one for one in operations if one.state is S.WAITING_FOR_PROMOTION]
    unparked = [replace(one, state=S.REVERT_WINDOW) if one in parked else one for one in operations]
    starts = may_start(briefly(operations), policy, released=released)
    assert len(starts) <= max(policy.max_parallel, 1)
    if len({one.wave for one in operations}) == 1:
        assert starts == may_start(briefly(unparked), policy, released=released)


@given(operations=OPERATIONS, policy=POLICIES, released=st.booleans())
def test_whoever_is_let_go_by_hand_goes(operations: list[One], policy: RolloutPolicy, released: bool) -> None:
    """What the verb grants may then go live, as far as there are places; what it refuses has a reason."""
    seen = [
        Seen(name=str(index), state=one.state, granted=one.granted, promoted=one.promoted, wave=one.wave)
        for index, one in enumerate(operations)
    ]
    names = {one.name for one in seen}
    found = answer(RequestVerb.PROMOTE, seen, names, policy, released=released)
    assert bool(found.grant) is (found.refusal is None)
    after = [
        replace(one, granted=one.granted or str(index) in found.grant) for index, one in enumerate(operations)
    ]
    for name in found.grant:
        assert written_out(after, policy, int(name), released=released)


@given(operations=OPERATIONS, policy=POLICIES)
def test_somebody_can_go_on_once_all_wait(operations: list[One], policy: RolloutPolicy) -> None:
    """A rollout of which all wait for promotion, and nothing failed, is never stuck: one word moves it."""
    operations = [replace(one, state=S.WAITING_FOR_PROMOTION, wave=0) for one in operations]
    granted = [replace(one, granted=True) for one in operations]
    assert may_promote(briefly(granted), policy)
    if policy.promotion == "auto":
        assert may_promote(briefly(operations), policy)
