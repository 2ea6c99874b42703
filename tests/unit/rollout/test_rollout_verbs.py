"""What operators' verbs do to operations."""

from reconciler.rollout.states import OperationState
from reconciler.rollout.summary import RolloutPolicy
from reconciler.rollout.verbs import EVENTS, Answer, RequestVerb, answer

S = OperationState
HALT = RolloutPolicy(on_failure="halt")


def ask(verb: str, *operations: tuple[str, OperationState], policy: RolloutPolicy = HALT) -> Answer:
    return answer(RequestVerb(verb), operations, [name for name, _ in operations], policy, released=False)


def test_cancel_moves_what_waits_and_awaits_the_worker() -> None:
    """Cancel ends what no worker holds at once, and the rest at the worker's next safe point."""
    assert ask("cancel", ("a", S.RUNNING), ("b", S.PENDING)) == Answer(move=("b",), await_worker=True)


def test_cancel_of_what_is_over_is_refused_with_the_states() -> None:
    """A verb without any effect says in which states the operations are."""
    assert ask("cancel", ("eu", S.COMPLETED)).refusal == (
        '"cancel" is not possible in this state: "eu" is completed'
    )


def test_start_after_a_failure_is_refused_under_halt() -> None:
    """What a halted rollout will never start is not started by hand either."""
    assert "failed" in (ask("start", ("a", S.FAILED), ("b", S.STOPPED)).refusal or "")
    going = RolloutPolicy(on_failure="continue")
    assert ask("start", ("a", S.FAILED), ("b", S.STOPPED), policy=going).move == ("b",)


def test_only_some_operations_are_chosen() -> None:
    """A verb for one deployment leaves the others alone, and still sees how they stand."""
    operations = [("a", S.STOPPED), ("b", S.STOPPED)]
    assert answer(RequestVerb.START, operations, ["b"], HALT, released=False).move == ("b",)


def test_verbs_name_events_of_the_table() -> None:
    """Each verb that moves operations is an event some state takes."""
    assert set(EVENTS) <= set(RequestVerb)
