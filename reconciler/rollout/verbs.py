"""What operators may ask of a rollout, as a table: the event each verb means and the effect it must have.

Carrying a request out is not here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from reconciler.rollout.states import IN_FLIGHT, OperationEvent, OperationState, targets
from reconciler.rollout.summary import RolloutPolicy, halted


class RequestVerb(StrEnum):
    """The verbs of operators."""

    STOP = "stop"
    START = "start"
    CANCEL = "cancel"
    PROMOTE = "promote"
    RELEASE = "release"
    REVERT = "revert"
    SKIP_REVERT = "skip-revert"
    RETRY = "retry"
    APPROVE = "approve"


EVENTS: Mapping[RequestVerb, OperationEvent] = MappingProxyType(
    {
        RequestVerb.STOP: OperationEvent.STOP,
        RequestVerb.START: OperationEvent.START,
        RequestVerb.CANCEL: OperationEvent.CANCEL,
        RequestVerb.APPROVE: OperationEvent.APPROVE,
    }
)
"""Verbs that move operations."""

INTERRUPTING: tuple[RequestVerb, ...] = (RequestVerb.STOP, RequestVerb.CANCEL)
"""Verbs that a worker carries out at the next safe point of an operation in flight, the stronger first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What to do about a request: operations to move now, whether a worker has to do the rest, or why not."""

    move: tuple[str, ...] = ()
    await_worker: bool = False
    refusal: str | None = None


def answer(
    verb: RequestVerb,
    operations: Sequence[tuple[str, OperationState]],
    chosen: Sequence[str],
    policy: RolloutPolicy,
    *,
    released: bool,
) -> Answer:
    """Decide what a verb that moves operations does to the chosen ones of a rollout.

    Those no worker holds move at once; those in flight move at the worker's next safe point.
    """
    event = EVENTS[verb]
    takes = targets(event)
    mine = [(name, state) for name, state in operations if name in chosen]
    everyone = [state for _, state in operations]
    if verb is RequestVerb.START and halted(everyone, policy, released=released):
        if any(state in takes for _, state in mine):
            return Answer(refusal="another deployment of this rollout failed, and nothing more of it starts")
        return Answer(refusal=not_possible(verb, mine))
    movable = tuple(name for name, state in mine if state in takes and state not in IN_FLIGHT)
    waits = verb in INTERRUPTING and any(state in IN_FLIGHT for _, state in mine)
    if not movable and not waits:
        return Answer(refusal=not_possible(verb, mine))
    return Answer(move=movable, await_worker=waits)


def not_possible(verb: RequestVerb, operations: Sequence[tuple[str, OperationState]]) -> str:
    """The reason given where a verb cannot have an effect on these operations."""
    where = ", ".join(f'"{name}" is {state.value}' for name, state in operations)
    return f'"{verb.value}" is not possible in this state: {where or "there are no operations"}'
