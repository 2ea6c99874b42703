"""What operators may ask of a rollout, as a table: what each verb does to which operations, or why not.

Carrying a request out is not here.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType

from reconciler.frozen import frozen
from reconciler.plan.digest import digest
from reconciler.rollout.next import STAGED, Brief, brief, may_take_turn
from reconciler.rollout.states import HELD, IN_FLIGHT, TERMINAL, OperationEvent, OperationState, targets
from reconciler.rollout.summary import AT_WORK, UNSUCCESSFUL, OnFailure, Order, RolloutPolicy, halted


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
        _V.SKIP_REVERT: OperationEvent.SKIP_REVERT,
    }
)
"""Verbs that move operations; a promotion and a revert begin with a claim."""

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
    was recorded there after it, `busy` what is at work there. `granted`: what it waits to promote was let go
    already. `promoted`: it made something live. `back`: its next attempt goes back. `wave`: it comes after
    those of lower ones.
    """

    name: str
    state: OperationState
    task: bool = False
    taken: str | None = None
    newer: str | None = None
    busy: str | None = None
    granted: bool = False
    promoted: bool = False
    back: bool = False
    wave: int = 0


@frozen
class Answer:
    """What to do about a request.

    `move`: operations that take the verb's event now. `await_worker`: a worker has to do the rest. `due`:
    operations whose next attempt begins now; `free`: those whose commit passes try again. `grant`: those that
    may go live; `back`: those that go back. `notes` are told beside what was done. `refusal`: why nothing at
    all is done.
    """

    move: tuple[str, ...] = ()
    grant: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
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
        case _V.PROMOTE:
            return _promote(operations, mine, policy, released=released)
        case _V.REVERT:
            return _revert(mine)
        case _V.SKIP_REVERT:
            open_ = tuple(one.name for one in mine if one.state is _S.REVERT_WINDOW)
            return Answer(move=open_) if open_ else Answer(refusal=not_possible(verb, mine))


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
    # A start behind a stop is a deploy: what goes back would not go on with that.
    back = [one.name for one in mine if one.back and verb is _V.STOP]
    movable = tuple(
        one.name for one in mine if one.state in takes and one.state not in IN_FLIGHT and one.name not in back
    )
    waits = any(one.state in INTERRUPTIBLE for one in mine)
    if not movable and not waits:
        why = f"; {', '.join(back)}: it is going back, and tries again; cancel ends that" if back else ""
        return Answer(refusal=not_possible(verb, mine) + why)
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


def _promote(
    operations: Sequence[Seen], mine: Sequence[Seen], policy: RolloutPolicy, *, released: bool
) -> Answer:
    """Let what waits go live: all that is chosen, but under `barrier` only the one whose turn it is."""
    parked = [one for one in mine if one.state is _S.WAITING_FOR_PROMOTION]
    if not parked:
        return Answer(refusal=not_possible(_V.PROMOTE, mine))
    if policy.order == Order.BARRIER:
        whose, why = _turn(operations, policy, released=released)
        parked = [one for one in parked if one.name == whose]
        if not parked:
            return Answer(refusal=why)
    fresh = tuple(one.name for one in parked if not one.granted)
    before = tuple(
        f"'{one.name}' was let go before, and a worker takes it next" for one in parked if one.granted
    )
    return Answer(grant=fresh, notes=before) if fresh else Answer(refusal="; ".join(before))


def _turn(operations: Sequence[Seen], policy: RolloutPolicy, *, released: bool) -> tuple[str | None, str]:
    """Whose turn it is under `barrier`, if anybody's, and why it is not somebody else's."""
    failed = next((one for one in operations if one.state in UNSUCCESSFUL), None)
    if failed is not None and halted([one.state for one in operations], policy, released=released):
        end = (
            "release it, or cancel it" if policy.on_failure == OnFailure.PAUSE else "cancel it, or push a fix"
        )
        return None, f"'{failed.name}' is {failed.state.value}, and none goes live without the others: {end}"
    found = brief_of(operations)
    whose = may_take_turn(found)
    if whose is not None:
        return whose, f"it is the turn of '{whose}'; the others follow in order"
    if found.first_open is None:
        return None, "nothing of this rollout waits to be promoted"
    name, state = found.first_open
    if not found.unstaged:
        return None, f"it is the turn of '{name}', which is {state.value}"
    wave = next(one.wave for one in operations if one.name == name)
    last = next(
        one
        for one in sorted(operations, key=lambda one: one.wave)
        if one.wave == wave and one.state not in STAGED and not one.promoted
    )
    return None, f"none goes live before all are staged and ready, and '{last.name}' is {last.state.value}"


def brief_of(operations: Sequence[Seen]) -> Brief:
    """The rollout in brief, as far as promotions go by it."""
    return brief(
        [(one.name, one.state) for one in operations],
        {one.name: one.wave for one in operations},
        granted=[one.name for one in operations if one.granted],
        promoted=[one.name for one in operations if one.promoted],
    )


def _revert(mine: Sequence[Seen]) -> Answer:
    """What is in its window goes back, unless another operation is at work there."""
    open_ = [one for one in mine if one.state is _S.REVERT_WINDOW]
    if not open_:
        live = [one.name for one in mine if one.promoted and one.state is _S.WAITING_FOR_PROMOTION]
        if live:
            some = ", ".join(f"'{name}'" for name in live)
            return Answer(
                refusal=f"part of what {some} makes live waits for its promotion: promote it, and all of it "
                "can be taken back; cancel leaves that part out, and what is live stays"
            )
        return Answer(refusal=not_possible(_V.REVERT, mine))
    busy = tuple(f"'{one.name}' stays as it is: {one.busy}; stop it first" for one in open_ if one.busy)
    back = tuple(one.name for one in open_ if one.busy is None)
    return Answer(back=back, notes=busy) if back else Answer(refusal="; ".join(busy))


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
        _V.REVERT: "nothing of this rollout is in its revert window, so nothing can be taken back",
        _V.SKIP_REVERT: "nothing of this rollout is in its revert window, so nothing is kept to go back to",
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
        (_V.STOP, _S.REVERT_WINDOW): "it is live, and nothing of it is under way",
        (_V.CANCEL, _S.REVERT_WINDOW): "it is live: revert takes it back while its window lasts",
        (_V.START, _S.WAITING_FOR_PROMOTION): "it goes on with promote",
        (_V.RETRY, _S.WAITING_FOR_PROMOTION): "it goes on with promote",
        (_V.PROMOTE, _S.WAITING_FOR_APPROVAL): "it is not staged before it is approved",
        (_V.PROMOTE, _S.PENDING): "it is not staged and ready yet",
        (_V.PROMOTE, _S.RUNNING): "it is not staged and ready yet, or all of it is live already",
        (_V.PROMOTE, _S.RETRYING): "it is not staged and ready yet, or all of it is live already",
        (_V.PROMOTE, _S.STOPPED): "what is stopped goes on with start",
        (_V.PROMOTE, _S.PROMOTING): "its promotion is under way already",
        (_V.PROMOTE, _S.REVERT_WINDOW): "it is live already",
        (_V.PROMOTE, _S.REVERTING): "it is going back",
        (_V.REVERT, _S.WAITING_FOR_PROMOTION): "nothing of it is live yet; cancel gives it up",
        (_V.REVERT, _S.PROMOTING): "its promotion is under way; it can be taken back once that is done",
        (_V.REVERT, _S.RUNNING): "what it makes live can be taken back once all of it is done",
        (_V.REVERT, _S.REVERTING): "it is going back already",
        (_V.REVERT, _S.COMPLETED): "its window is over, or it had none; push a commit that goes back",
        (_V.SKIP_REVERT, _S.REVERTING): "it is going back, and comes to its end",
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
