"""What operators may ask of a rollout, as a table: what each verb does to which operations, or why not.

Carrying a request out is not here.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType

from reconciler.frozen import frozen
from reconciler.plan.digest import digest
from reconciler.rollout.states import HELD, IN_FLIGHT, TERMINAL, OperationEvent, OperationState, targets
from reconciler.rollout.summary import AT_WORK, OnFailure, RolloutPolicy, halted


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


_V = RequestVerb
_S = OperationState

EVENTS: Mapping[RequestVerb, OperationEvent] = MappingProxyType(
    {
        _V.STOP: OperationEvent.STOP,
        _V.START: OperationEvent.START,
        _V.CANCEL: OperationEvent.CANCEL,
        _V.APPROVE: OperationEvent.APPROVE,
    }
)
"""Verbs that move operations."""

INTERRUPTING: tuple[RequestVerb, ...] = (_V.STOP, _V.CANCEL)
"""Verbs that a worker carries out at the next safe point of an operation in flight, the stronger first."""

FORWARD: frozenset[RequestVerb] = frozenset(
    {_V.START, _V.PROMOTE, _V.RELEASE, _V.RETRY, _V.APPROVE, _V.SKIP_REVERT}
)
"""Verbs that let a rollout go on; none of them goes past a stop that is still to be carried out."""

INTERRUPTIBLE: frozenset[OperationState] = frozenset({_S.RUNNING, _S.PROMOTING})
"""States in flight that a worker ends, or hands on, at a safe point; one that goes back comes to its end."""


@frozen
class Seen:
    """One operation as a verb sees it.

    `task`: it is of modules by hand. `taken` says why its deployment is another operation's now, `newer` what
    was recorded there after it.
    """

    name: str
    state: OperationState
    task: bool = False
    taken: str | None = None
    newer: str | None = None


@frozen
class Answer:
    """What to do about a request.

    `move`: operations that take the verb's event now. `await_worker`: a worker has to do the rest. `due`:
    operations whose next attempt begins now; `free`: those whose commit passes try again. `notes` are told
    beside what was done. `refusal`: why nothing at all is done.
    """

    move: tuple[str, ...] = ()
    await_worker: bool = False
    due: tuple[str, ...] = ()
    free: tuple[str, ...] = ()
    release: bool = False
    notes: tuple[str, ...] = ()
    refusal: str | None = None


@frozen
class Waiting:
    """A request that is still to be carried out."""

    id: int
    verb: RequestVerb
    deployment: str | None
    requested_by: str


def answer(
    verb: RequestVerb,
    operations: Sequence[Seen],
    chosen: Collection[str],
    policy: RolloutPolicy,
    *,
    released: bool,
) -> Answer:
    """Decide what a verb does to the chosen operations of a rollout; total over all verbs and states."""
    mine = [one for one in operations if one.name in chosen]
    everyone = [one.state for one in operations]
    match verb:
        case _V.STOP | _V.CANCEL:
            return _interrupt(verb, mine)
        case _V.START:
            return _start(mine, why_halted(everyone, policy, released=released))
        case _V.APPROVE:
            return _approve(mine, why_halted(everyone, policy, released=released))
        case _V.RETRY:
            return _retry(mine)
        case _V.RELEASE:
            return _release(operations, policy, released=released, whole=len(mine) == len(operations))
        case _V.PROMOTE | _V.REVERT | _V.SKIP_REVERT:
            return Answer(refusal=not_possible(verb, mine))


def stopped_first(verb: RequestVerb, deployment: str | None, waiting: Iterable[Waiting]) -> str | None:
    """Why a verb that lets a rollout go on is refused: it is to be stopped, and has not stopped yet."""
    if verb not in FORWARD:
        return None
    for request in waiting:
        if request.verb is _V.STOP and (
            None in (deployment, request.deployment) or deployment == request.deployment
        ):
            return (
                f"{request.requested_by} asked to stop it (request {request.id}) and it has not stopped yet; "
                f'"{verb.value}" is possible once it has'
            )
    return None


def _interrupt(verb: RequestVerb, mine: Sequence[Seen]) -> Answer:
    """Those that no worker holds move at once; those in flight at the worker's next safe point."""
    takes = targets(EVENTS[verb])
    movable = tuple(one.name for one in mine if one.state in takes and one.state not in IN_FLIGHT)
    waits = any(one.state in INTERRUPTIBLE for one in mine)
    if not movable and not waits:
        return Answer(refusal=not_possible(verb, mine))
    return Answer(move=movable, await_worker=waits)


def _start(mine: Sequence[Seen], why_not: str | None) -> Answer:
    stopped = [one for one in mine if one.state is _S.STOPPED]
    if not stopped:
        return Answer(refusal=not_possible(_V.START, mine))
    if why_not is not None:
        return Answer(refusal=why_not)
    taken = tuple(f"'{one.name}' stays stopped: {one.taken}" for one in stopped if one.taken is not None)
    free = tuple(one.name for one in stopped if one.taken is None)
    if not free:
        return Answer(refusal="; ".join(taken))
    return Answer(move=free, notes=taken)


def _approve(mine: Sequence[Seen], why_not: str | None) -> Answer:
    waiting = tuple(one.name for one in mine if one.state is _S.WAITING_FOR_APPROVAL)
    if not waiting:
        return Answer(refusal=not_possible(_V.APPROVE, mine))
    return Answer(move=waiting, notes=(why_not,) if why_not is not None else ())


def _retry(mine: Sequence[Seen]) -> Answer:
    """What waits for its next attempt is due now; what failed for good is left to the next pass."""
    due = tuple(one.name for one in mine if one.state is _S.RETRYING)
    over = [one for one in mine if one.state in HELD & TERMINAL]
    # What passes try again is everything: the end of a revert by hand is not to become a deploy.
    by_hand = [one.name for one in over if one.task]
    newer = tuple(f"'{one.name}' stays as it is: {one.newer}" for one in over if one.newer and not one.task)
    free = tuple(one.name for one in over if not one.task and one.newer is None)
    if due or free:
        return Answer(due=due, free=free, notes=newer)
    if newer:
        return Answer(refusal="; ".join(newer))
    hint = "; what was asked of modules by hand is asked for anew" if by_hand else ""
    return Answer(refusal=not_possible(_V.RETRY, mine) + hint)


def _release(operations: Sequence[Seen], policy: RolloutPolicy, *, released: bool, whole: bool) -> Answer:
    """A latch that is set once: a rollout that a failure holds under `pause` starts what is left of it."""
    states = [one.state for one in operations]
    if released:
        return Answer(refusal="it was released before; that is for good")
    if policy.on_failure != OnFailure.PAUSE:
        return Answer(
            refusal=f'only a rollout with "onFailure: pause" can be released, and this one has '
            f'"{policy.on_failure}"'
        )
    if not whole:
        return Answer(refusal="a rollout is released as a whole; leave the deployment out")
    busy = [f"'{one.name}' is {one.state.value}" for one in operations if one.state in AT_WORK]
    if busy:
        return Answer(refusal=f"it has not paused: {', '.join(busy)}")
    left = any(state not in TERMINAL for state in states)
    if not left or not halted(states, policy, released=False):
        return Answer(refusal=not_possible(_V.RELEASE, operations))
    return Answer(release=True)


def why_halted(operations: Sequence[OperationState], policy: RolloutPolicy, *, released: bool) -> str | None:
    """Why nothing more of a rollout starts, and what could be done about it; None where it may."""
    if not halted(operations, policy, released=released):
        return None
    if policy.on_failure == OnFailure.PAUSE:
        return "another deployment of this rollout failed and it waits to be released: release it first"
    return (
        "another deployment of this rollout failed, and nothing more of it starts: cancel it, or push a fix"
    )


_TOLD_MAX = 20

_REASONS: Mapping[RequestVerb, str] = MappingProxyType(
    {
        _V.PROMOTE: "nothing of this rollout waits to be promoted",
        _V.REVERT: "nothing of this rollout is promoted, so nothing can be taken back",
        _V.SKIP_REVERT: "nothing of this rollout is promoted, so nothing is kept to go back to",
        _V.RELEASE: "only a rollout that paused can be released",
        _V.APPROVE: "nothing of it waits for approval",
    }
)

_HINTS: Mapping[tuple[RequestVerb, OperationState], str] = MappingProxyType(
    {
        (_V.STOP, _S.WAITING_FOR_APPROVAL): "nothing of it runs before it is approved; cancel gives it up",
        (_V.STOP, _S.STOPPED): "it is stopped already",
        (_V.STOP, _S.REVERTING): "it is going back, and comes to its end",
        (_V.CANCEL, _S.REVERTING): "it is going back, and comes to its end",
        (_V.RETRY, _S.STOPPED): "what is stopped goes on with start",
        (_V.START, _S.FAILED): "what failed is tried again with retry",
        (_V.START, _S.CANCELLED): "what was cancelled is tried again with retry",
        (_V.START, _S.WAITING_FOR_APPROVAL): "it starts once it is approved",
    }
)


def not_possible(verb: RequestVerb, operations: Sequence[Seen]) -> str:
    """The reason given where a verb cannot have an effect on these operations, and what could."""
    told = [f"'{one.name}' is {one.state.value}" for one in operations[:_TOLD_MAX]]
    more = len(operations) - len(told)
    where = ", ".join(told) + (f" and {more} more" if more else "")
    why = _REASONS.get(verb, f'"{verb.value}" is not possible in this state')
    hints = dict.fromkeys(_HINTS[verb, one.state] for one in operations if (verb, one.state) in _HINTS)
    return "; ".join([f"{why}: {where or 'there are no operations'}", *hints])


def approval_digest(plans: Iterable[tuple[str, str]]) -> str | None:
    """What is agreed to: the digest of the one plan that waits, or one over all of them by deployment."""
    waiting = sorted(plans)
    if len(waiting) <= 1:
        return waiting[0][1] if waiting else None
    return digest(waiting)
