"""Promote, revert and skip-revert: whose turn it is, what is refused and why, and what people are told."""

from datetime import UTC, datetime

import pytest

from reconciler.rollout.conditions import EnvironmentFacts, Parking, conditions
from reconciler.rollout.outlook import Around, outlook
from reconciler.rollout.states import OperationState, RolloutState
from reconciler.rollout.status import OperationStatus, RolloutStatus
from reconciler.rollout.summary import RolloutPolicy
from reconciler.rollout.verbs import Answer, RequestVerb, Seen, answer

S = OperationState
V = RequestVerb
NOW = datetime(2026, 3, 1, tzinfo=UTC)
BARRIER = RolloutPolicy(order="barrier", promotion="manual")
PARALLEL = RolloutPolicy(order="parallel", promotion="manual")


def ask(
    verb: RequestVerb, *operations: Seen, policy: RolloutPolicy = BARRIER, chosen: str | None = None
) -> Answer:
    names = {one.name for one in operations if chosen in (None, one.name)}
    return answer(verb, operations, names, policy, released=False)


def parked(name: str, **more: bool) -> Seen:
    return Seen(name=name, state=S.WAITING_FOR_PROMOTION, **more)  # type: ignore[arg-type]


def test_under_barrier_only_the_one_in_turn_is_let_go() -> None:
    """Asked of all, the first in order goes; asked of another, the answer names whose turn it is."""
    three = [parked("eu"), parked("us"), parked("asia")]
    assert ask(V.PROMOTE, *three).grant == ("eu",)
    assert ask(V.PROMOTE, *three, chosen="eu").grant == ("eu",)
    assert ask(V.PROMOTE, *three, chosen="us").refusal == "it is the turn of 'eu'; the others follow in order"
    done = [Seen(name="eu", state=S.REVERT_WINDOW), *three[1:]]
    assert ask(V.PROMOTE, *done).grant == ("us",)


@pytest.mark.parametrize(
    "state", [S.PENDING, S.RUNNING, S.RETRYING, S.STOPPED, S.WAITING_FOR_APPROVAL], ids=str
)
def test_under_barrier_none_goes_before_all_are_staged(state: OperationState) -> None:
    """Whoever is not staged and ready holds all of its wave, and is named; later waves do not count."""
    late = Seen(name="us", state=state)
    refusal = ask(V.PROMOTE, parked("eu"), late).refusal
    assert refusal == f"none goes live before all are staged and ready, and 'us' is {state.value}"
    assert ask(V.PROMOTE, parked("eu"), Seen(name="us", state=S.PENDING, wave=1)).grant == ("eu",)


def test_under_barrier_whose_turn_it_is_may_be_at_something_else() -> None:
    """One that promotes, or went live and works on, keeps its turn."""
    busy = Seen(name="eu", state=S.PROMOTING)
    assert ask(V.PROMOTE, busy, parked("us")).refusal == "it is the turn of 'eu', which is promoting"
    works = Seen(name="eu", state=S.STOPPED, promoted=True)
    assert ask(V.PROMOTE, works, parked("us")).refusal == "it is the turn of 'eu', which is stopped"


@pytest.mark.parametrize(("policy", "end"), [("halt", "cancel it, or push a fix"), ("pause", "release it")])
def test_after_a_failure_barrier_refuses_and_others_do_not(policy: str, end: str) -> None:
    """None goes live without the others under `barrier`; one by one a person may decide otherwise."""
    operations = [Seen(name="eu", state=S.FAILED), parked("us")]
    refusal = ask(V.PROMOTE, *operations, policy=RolloutPolicy(order="barrier", on_failure=policy)).refusal
    assert refusal is not None
    assert refusal.startswith("'eu' is failed, and none goes live without the others: ")
    assert end in refusal
    for order in ("rolling", "parallel"):
        found = ask(V.PROMOTE, *operations, policy=RolloutPolicy(order=order, on_failure=policy))
        assert found.grant == ("us",)
    goes_on = RolloutPolicy(order="barrier", on_failure="continue")
    assert ask(V.PROMOTE, *operations, policy=goes_on).grant == ("us",)


def test_side_by_side_all_that_wait_are_let_go() -> None:
    """What is not staged yet is left; what was let go before is said to be, and alone is a refusal."""
    found = ask(V.PROMOTE, parked("eu"), parked("us", granted=True), policy=PARALLEL)
    assert found.grant == ("eu",)
    assert found.notes == ("'us' was let go before, and a worker takes it next",)
    assert ask(V.PROMOTE, parked("us", granted=True), policy=PARALLEL).refusal == found.notes[0]
    assert ask(V.PROMOTE, parked("eu"), Seen(name="us", state=S.RUNNING), policy=PARALLEL).grant == ("eu",)


@pytest.mark.parametrize(
    ("verb", "state", "why"),
    [
        (V.PROMOTE, S.PROMOTING, "its promotion is under way already"),
        (V.PROMOTE, S.RUNNING, "it is not staged and ready yet"),
        (V.PROMOTE, S.REVERT_WINDOW, "it is live already"),
        (V.REVERT, S.PROMOTING, "its promotion is under way"),
        (V.REVERT, S.REVERTING, "it is going back already"),
        (V.REVERT, S.WAITING_FOR_PROMOTION, "cancel gives it up"),
        (V.REVERT, S.COMPLETED, "its window is over"),
        (V.SKIP_REVERT, S.REVERTING, "comes to its end"),
        (V.STOP, S.REVERTING, "comes to its end"),
        (V.CANCEL, S.REVERTING, "comes to its end"),
        (V.CANCEL, S.REVERT_WINDOW, "revert takes it back"),
        (V.START, S.WAITING_FOR_PROMOTION, "it goes on with promote"),
    ],
    ids=lambda value: str(value).replace(" ", "-"),
)
def test_refusals_say_what_is_possible(verb: RequestVerb, state: OperationState, why: str) -> None:
    """Each names the state, and what could be done instead."""
    refusal = ask(verb, Seen(name="eu", state=state), policy=PARALLEL).refusal
    assert refusal is not None
    assert f"'eu' is {state.value}" in refusal
    assert why in refusal


def test_what_goes_back_and_tries_again_is_cancelled_and_not_stopped() -> None:
    """A start behind a stop would deploy what was to be taken back; whoever gives up says so."""
    back, busy = Seen(name="eu", state=S.RETRYING, back=True), Seen(name="us", state=S.RETRYING)
    refusal = ask(V.STOP, back).refusal
    assert refusal is not None
    assert "it is going back, and tries again; cancel ends that" in refusal
    assert ask(V.STOP, back, busy).move == ("us",)
    assert ask(V.CANCEL, back).move == ("eu",)
    assert ask(V.RETRY, back).due == ("eu",)


def test_part_of_it_live_is_no_window_yet() -> None:
    """Where one component is live and another waits, a revert says that and what to do; nothing is untrue."""
    refusal = ask(V.REVERT, parked("eu", promoted=True)).refusal
    assert refusal is not None
    assert "promote it, and all of it can be taken back" in refusal
    assert "nothing of it is live yet" not in refusal


def test_revert_leaves_what_is_worked_on() -> None:
    """Where another operation is at work nothing goes back, and that is named."""
    busy = Seen(name="eu", state=S.REVERT_WINDOW, busy="rollout 9 is at work there")
    alone = ask(V.REVERT, busy)
    assert alone.refusal == "'eu' stays as it is: rollout 9 is at work there; stop it first"
    both = ask(V.REVERT, busy, Seen(name="us", state=S.REVERT_WINDOW), Seen(name="asia", state=S.RUNNING))
    assert (both.back, both.notes) == (("us",), (alone.refusal,))


def operation(name: str, state: OperationState, **more: object) -> OperationStatus:
    return OperationStatus(
        id=name,
        deployment=name,
        state=state,
        attempts=1,
        plan_digest="sha256:1",
        reason=None,
        error=None,
        next_attempt_at=None,
        started_at=NOW,
        finished_at=None,
        worker="w",
        **more,  # type: ignore[arg-type]
    )


def rollout(*operations: OperationStatus, **more: object) -> RolloutStatus:
    values: dict[str, object] = {"order": "barrier", "on_failure": "halt", "max_parallel": 2}
    return RolloutStatus(
        id="7",
        environment="production",
        commit="a" * 40,
        scope="full",
        state=RolloutState.WAITING_FOR_PROMOTION,
        reason="commit",
        requested_by="ada",
        created_at=NOW,
        finished_at=None,
        operations=operations,
        **{**values, **more},  # type: ignore[arg-type]
    )


def told(found: RolloutStatus, around: Around | None = None) -> list[tuple[str | None, bool]]:
    seen = outlook(found, around or Around())
    return [(one.waits_for, one.waits_for_person) for one in seen.operations]


WAITS = S.WAITING_FOR_PROMOTION


def test_what_waits_for_its_promotion_says_for_what() -> None:
    """For somebody, for all to be staged, for its turn, for a place, for a worker: each is told apart."""
    eu, us = operation("eu", WAITS), operation("us", WAITS)
    word = ("somebody to let it go live", True)
    assert told(rollout(eu, us, promotion="manual"))[0] == word
    assert told(rollout(eu, us, promotion="auto")) == [
        ("a worker", False),
        ("its turn: first is 'eu', which is waiting_for_promotion", False),
    ]
    late = operation("us", S.RUNNING)
    assert told(rollout(eu, late, promotion="manual"))[0] == (
        "all to be staged and ready, of which 'us' is running",
        True,
    )
    stopped = told(rollout(eu, operation("us", S.STOPPED), promotion="auto"))[0]
    assert stopped == ("all to be staged and ready, of which 'us' is stopped", True)
    failed = told(rollout(operation("eu", S.FAILED), us, promotion="auto"))[1]
    assert failed == ("to be cancelled, or the rollout to be released, since 'eu' failed", True)
    side = {"order": "parallel", "promotion": "auto"}
    full = told(rollout(eu, operation("us", S.RUNNING), **{**side, "max_parallel": 1}))[0]
    assert full == ("a place: 1 of 1 are at work", False)
    halted = told(rollout(operation("eu", S.FAILED), us, **side))[1]
    assert halted == ("somebody to decide, since 'eu' failed", True)
    assert told(rollout(eu, **side), Around(suspended="incident"))[0] == (
        "its environment, which is suspended: incident",
        False,
    )


def test_commands_for_promotion_are_told() -> None:
    """Whoever looks at it reads what to type: for all, for the one in turn, for what can be taken back."""
    eu, us = operation("eu", WAITS), operation("us", WAITS)
    turn = outlook(rollout(eu, us, promotion="manual"), Around()).next
    assert "let it go live with: reconciler promote 7 --deployment eu" in turn
    both = outlook(rollout(eu, us, promotion="manual", order="parallel"), Around()).next
    assert "let it go live with: reconciler promote 7" in both
    granted = operation("eu", WAITS, granted=True)
    assert outlook(rollout(granted, promotion="manual", order="parallel"), Around()).next == ()
    assert outlook(rollout(eu, us, promotion="auto"), Around()).next == ()
    window = outlook(rollout(operation("eu", S.REVERT_WINDOW, revert_until=NOW)), Around())
    assert window.next == (
        (
            "take what is live back with: reconciler revert 7; "
            "end the revert window with: reconciler skip-revert 7"
        ),
    )
    assert window.operations[0].waits_for == "the end of its revert window, at 2026-03-01T00:00:00+00:00"


def test_conditions_of_what_is_parked_and_of_what_is_kept() -> None:
    """Parked, it is not ready and says what to type; once all is live it is ready, though it may go back."""
    parking = (Parking(rollout=7, deployments=("eu", "us"), needs_word=True),)
    waiting = EnvironmentFacts(observed=True, rollouts=(RolloutState.WAITING_FOR_PROMOTION,), parking=parking)
    found = {one.type: one for one in conditions(waiting, (), NOW)}
    assert not found["Ready"].status
    assert found["Reconciling"].status
    assert {found[name].reason for name in ("Ready", "Reconciling")} == {"WaitsForPromotion"}
    assert found["Ready"].message == (
        "rollout 7 waits for promotion on eu, us, until somebody lets it go live: reconciler promote 7"
    )
    kept = EnvironmentFacts(observed=True, rollouts=(RolloutState.REVERT_WINDOW,))
    found = {one.type: one for one in conditions(kept, (), NOW)}
    assert found["Ready"].status
    assert not found["Reconciling"].status
    both = EnvironmentFacts(observed=True, rollouts=(RolloutState.REVERT_WINDOW, RolloutState.RUNNING))
    assert not {one.type: one for one in conditions(both, (), NOW)}["Ready"].status
