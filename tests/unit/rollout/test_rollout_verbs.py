"""What operators' verbs do to operations: every verb, in every state, under every policy."""

import itertools

import pytest

from reconciler.rollout.states import TRANSITIONS, OperationEvent, OperationState
from reconciler.rollout.summary import RolloutPolicy
from reconciler.rollout.verbs import (
    EVENTS,
    FORWARD,
    INTERRUPTING,
    Answer,
    RequestVerb,
    Seen,
    Waiting,
    answer,
    approval_digest,
    stopped_first,
)

S = OperationState
V = RequestVerb
HALT = RolloutPolicy(on_failure="halt")
CONTINUE = RolloutPolicy(on_failure="continue")
PAUSE = RolloutPolicy(on_failure="pause")
POLICIES = {"halt": HALT, "continue": CONTINUE, "pause": PAUSE}

AT_ONCE = {
    V.STOP: {S.PENDING, S.WAITING_FOR_PROMOTION, S.RETRYING},
    V.CANCEL: {S.WAITING_FOR_APPROVAL, S.PENDING, S.WAITING_FOR_PROMOTION, S.RETRYING, S.STOPPED},
    V.START: {S.STOPPED},
    V.APPROVE: {S.WAITING_FOR_APPROVAL},
    V.SKIP_REVERT: {S.REVERT_WINDOW},
}
"""Where a verb moves an operation before it is acknowledged."""
AT_A_SAFE_POINT = {V.STOP: {S.RUNNING, S.PROMOTING}, V.CANCEL: {S.RUNNING, S.PROMOTING}}
"""Where a worker carries it out."""
TRIED_AGAIN = {S.FAILED, S.CANCELLED, S.REVERTED}


def ask(verb: RequestVerb, *operations: Seen, policy: RolloutPolicy = HALT, released: bool = False) -> Answer:
    return answer(verb, operations, {one.name for one in operations}, policy, released=released)


def seen(name: str, state: OperationState, **more: str) -> Seen:
    return Seen(name=name, state=state, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("verb", list(V), ids=str)
@pytest.mark.parametrize("state", list(S), ids=str)
@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_each_verb_in_each_state(verb: RequestVerb, state: OperationState, policy: str) -> None:
    """One operation alone: moved at once, at a safe point, tried again, or refused with its state."""
    found = ask(verb, seen("eu", state), policy=POLICIES[policy])
    at_once = state in AT_ONCE.get(verb, set())
    later = state in AT_A_SAFE_POINT.get(verb, set())
    due, free = verb is V.RETRY and state is S.RETRYING, verb is V.RETRY and state in TRIED_AGAIN
    assert found.move == (("eu",) if at_once else ())
    assert found.await_worker is later
    assert found.due == (("eu",) if due else ())
    assert found.free == (("eu",) if free else ())
    assert found.release is False
    goes_live = verb is V.PROMOTE and state is S.WAITING_FOR_PROMOTION
    goes_back = verb is V.REVERT and state is S.REVERT_WINDOW
    assert found.grant == (("eu",) if goes_live else ())
    assert found.back == (("eu",) if goes_back else ())
    at_once = at_once or goes_live or goes_back
    if at_once or later or due or free:
        assert found.refusal is None
    else:
        assert found.refusal
        told = "onFailure" in found.refusal or "it has not paused" in found.refusal
        assert told or f"'eu' is {state.value}" in found.refusal


@pytest.mark.parametrize("verb", list(V), ids=str)
def test_every_pair_of_states_has_an_answer(verb: RequestVerb) -> None:
    """The table is total: something is done or there is a reason, never both and never neither."""
    for first, second in itertools.product(S, S):
        for policy, released in itertools.product(POLICIES.values(), (False, True)):
            found = ask(verb, seen("a", first), seen("b", second), policy=policy, released=released)
            acts = bool(found.move or found.await_worker or found.due or found.free or found.release)
            acts = acts or bool(found.grant or found.back)
            assert acts is (found.refusal is None), (first, second, policy, released)


def test_what_is_moved_takes_the_event_of_the_verb() -> None:
    """No answer names an operation whose state does not take the event."""
    for verb, event in EVENTS.items():
        for state in S:
            if ask(verb, seen("eu", state)).move:
                assert event in TRANSITIONS[state]


def test_what_waits_for_a_worker_can_be_ended_or_handed_on_by_it() -> None:
    """A stop is only noted for a state from which a worker gets to one that takes it."""
    for verb in INTERRUPTING:
        for state in AT_A_SAFE_POINT[verb]:
            ways = TRANSITIONS[state]
            assert EVENTS[verb] in ways or OperationEvent.RESUME in ways


@pytest.mark.parametrize("failed", [S.FAILED, S.REVERTED], ids=str)
def test_release_is_of_a_rollout_that_a_failure_holds(failed: OperationState) -> None:
    """Under `pause`, once nothing is at work and something is left; then never again."""
    held = [seen("a", failed), seen("b", S.PENDING)]
    assert ask(V.RELEASE, *held, policy=PAUSE).release
    assert ask(V.RELEASE, seen("a", failed), seen("b", S.STOPPED), policy=PAUSE).release
    assert "before" in (ask(V.RELEASE, *held, policy=PAUSE, released=True).refusal or "")
    assert '"halt"' in (ask(V.RELEASE, *held, policy=HALT).refusal or "")
    busy = ask(V.RELEASE, *held, seen("c", S.RUNNING), policy=PAUSE).refusal
    assert busy == "it has not paused: 'c' is running"
    over = ask(V.RELEASE, seen("a", failed), seen("b", S.COMPLETED), policy=PAUSE).refusal
    assert over is not None
    assert over.startswith("only a rollout that paused can be released")
    part = answer(V.RELEASE, held, {"b"}, PAUSE, released=False).refusal
    assert part == "a rollout is released as a whole; leave the deployment out"


def test_cancel_moves_what_waits_and_awaits_the_worker() -> None:
    """Cancel ends what no worker holds at once, and the rest at the worker's next safe point."""
    found = ask(V.CANCEL, seen("a", S.RUNNING), seen("b", S.PENDING))
    assert found == Answer(move=("b",), await_worker=True)


def test_start_after_a_failure_is_refused_by_the_policy() -> None:
    """What a halted rollout will never start is not started by hand either; what paused is released first."""
    operations = [seen("a", S.FAILED), seen("b", S.STOPPED)]
    assert "cancel it, or push a fix" in (ask(V.START, *operations).refusal or "")
    assert "release it first" in (ask(V.START, *operations, policy=PAUSE).refusal or "")
    assert ask(V.START, *operations, policy=PAUSE, released=True).move == ("b",)
    assert ask(V.START, *operations, policy=CONTINUE).move == ("b",)


def test_start_leaves_what_is_taken() -> None:
    """A deployment that another operation has stays stopped, and is named; alone, it is the refusal."""
    taken = seen("a", S.STOPPED, taken="rollout 9 is at work there")
    alone = ask(V.START, taken)
    assert alone.refusal == "'a' stays stopped: rollout 9 is at work there"
    both = ask(V.START, taken, seen("b", S.STOPPED))
    assert (both.move, both.notes) == (("b",), (alone.refusal,))


def test_retry_leaves_what_something_newer_followed() -> None:
    """What was tried again already, or is not followed any more, is refused with that reason."""
    old = seen("a", S.FAILED, newer="rollout 9 is newer there; retry that one")
    assert ask(V.RETRY, old).refusal == "'a' stays as it is: rollout 9 is newer there; retry that one"
    assert ask(V.RETRY, old, seen("b", S.FAILED)).free == ("b",)


def test_retry_of_modules_by_hand_is_refused() -> None:
    """Passes try everything again, which is not what was asked for by hand."""
    by_hand = Seen(name="a", state=S.FAILED, task=True)
    assert "by hand is asked for anew" in (ask(V.RETRY, by_hand).refusal or "")


def test_approve_of_a_paused_rollout_says_that_it_is_held() -> None:
    """Agreeing is possible, and does not release."""
    found = ask(V.APPROVE, seen("a", S.FAILED), seen("b", S.WAITING_FOR_APPROVAL), policy=PAUSE)
    assert found.move == ("b",)
    assert "release it first" in found.notes[0]


def test_only_some_operations_are_chosen() -> None:
    """A verb for one deployment leaves the others alone, and still sees how they stand."""
    operations = [seen("a", S.STOPPED), seen("b", S.STOPPED)]
    assert answer(V.START, operations, {"b"}, HALT, released=False).move == ("b",)


def test_a_long_list_of_states_is_cut() -> None:
    """A refusal over many deployments names some and counts the rest."""
    many = [seen(f"d{number:04d}", S.COMPLETED) for number in range(1000)]
    refusal = ask(V.STOP, *many).refusal or ""
    assert "and 980 more" in refusal
    assert len(refusal) < 1500


@pytest.mark.parametrize(
    ("asked", "deployment", "refused"),
    [(None, None, True), (None, "eu", True), ("eu", None, True), ("eu", "eu", True), ("eu", "us", False)],
)
def test_nothing_goes_past_a_stop(asked: str | None, deployment: str | None, *, refused: bool) -> None:
    """While a stop waits, every verb that lets the same go on is refused, and names it; others are not."""
    stop = Waiting(id=7, verb=V.STOP, deployment=asked, requested_by="ada")
    for verb in V:
        told = stopped_first(verb, deployment, [stop])
        assert (told is not None) is (refused and verb in FORWARD)
        assert told is None or "ada asked to stop it (request 7)" in told
    cancel = Waiting(id=8, verb=V.CANCEL, deployment=asked, requested_by="ada")
    assert stopped_first(V.START, deployment, [cancel]) is None


def test_what_is_agreed_to() -> None:
    """One plan has its own digest, several have one over all of them, whatever their order."""
    assert approval_digest([]) is None
    assert approval_digest([("eu", "sha256:1")]) == "sha256:1"
    both = approval_digest([("eu", "sha256:1"), ("us", "sha256:2")])
    assert both == approval_digest([("us", "sha256:2"), ("eu", "sha256:1")])
    assert both != approval_digest([("eu", "sha256:1"), ("us", "sha256:3")])
    assert both is not None
    assert both.startswith("sha256:")


def test_verbs_name_events_of_the_table() -> None:
    """Each verb that moves operations is an event some state takes."""
    assert set(EVENTS) <= set(RequestVerb)
