"""What each operation of a rollout waits for, and what a person can do next; it reads nothing."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import field, replace
from datetime import datetime, timedelta
from types import MappingProxyType

from reconciler.frozen import frozen
from reconciler.rollout.next import PASSED, SIDE_BY_SIDE, STAGED, Brief, brief, may_promote, startable
from reconciler.rollout.states import IN_FLIGHT, TERMINAL, OperationState
from reconciler.rollout.status import OperationStatus, RolloutStatus
from reconciler.rollout.summary import (
    AT_WORK,
    UNSUCCESSFUL,
    OnFailure,
    Order,
    Promotion,
    RolloutPolicy,
    halted,
)

_S = OperationState
_FOR_PERSON = frozenset({_S.WAITING_FOR_APPROVAL, _S.STOPPED})
_NOBODY: Mapping[str, str] = MappingProxyType({})


@frozen
class Around:
    """What else has a say on a rollout.

    `suspended`: why its environment is. `workers`: how many are alive that can read its source. `others`: the
    rollouts at work on its deployments. `now`: by the clock that decides.
    """

    suspended: str | None = None
    orphaned: bool = False
    workers: int = 1
    others: Mapping[str, str] = field(default_factory=lambda: _NOBODY)
    now: datetime | None = None


def outlook(rollout: RolloutStatus, around: Around) -> RolloutStatus:
    """The same rollout, with what holds what and what can be done."""
    policy = RolloutPolicy(
        order=rollout.order or "",
        on_failure=rollout.on_failure or "",
        max_parallel=rollout.max_parallel or 1,
        promotion=rollout.promotion or "",
    )
    held = _Held(rollout, policy, around)
    operations = tuple(
        replace(one, waits_for=held.why(one), waits_for_person=held.is_for_person(one))
        for one in rollout.operations
    )
    whole = replace(rollout, operations=operations, replaced_by=replaced_by(operations))
    return replace(whole, next=tuple(_next(whole, policy, around, held.to_promote)))


def replaced_by(operations: Iterable[OperationStatus]) -> tuple[str, ...]:
    """The rollouts that took the place of operations."""
    return tuple(dict.fromkeys(one.superseded_by for one in operations if one.superseded_by is not None))


class _Held:
    """Why operations do not move, seen from one rollout; what all of them share is found once."""

    def __init__(self, rollout: RolloutStatus, policy: RolloutPolicy, around: Around) -> None:
        named = [(one.deployment, one.state) for one in rollout.operations]
        states = [state for _, state in named]
        self._around = around
        self._policy = policy
        self._requests = rollout.requests
        self._waves = {one.deployment: one.wave for one in rollout.operations}
        self._wave = min((one.wave for one in rollout.operations if one.state not in PASSED), default=0)
        self._opens = _opens(rollout, self._wave, around.now)
        found = startable(
            named, policy, released=rollout.released, waves=self._waves, rests=self._opens is not None
        )
        self._startable = frozenset(found)
        self._failed = next((name for name, state in named if state in UNSUCCESSFUL), None)
        self._halted = halted(states, policy, released=rollout.released)
        self._at_work = sum(state in AT_WORK for state in states)
        self._brief = _brief(rollout)
        self._promotable = frozenset(may_promote(self._brief, policy, released=rollout.released))
        self._unstaged = next(
            (
                one
                for one in rollout.operations
                if one.wave == self._wave and one.state not in STAGED and one.promoted_at is None
            ),
            None,
        )
        mine = [(name, state) for name, state in named if self._waves[name] == self._wave]
        self._left = sum(state not in PASSED for _, state in mine)
        self._first_open = next(((name, state) for name, state in mine if state not in PASSED), None)

    def why(self, one: OperationStatus) -> str | None:
        """What one operation waits for; None where it moves, or is over."""
        if one.state in TERMINAL:
            return None
        asked = self._asked(one)
        if one.state in IN_FLIGHT:
            gone = None if one.worker is not None else "a worker: the one that had it is gone"
            return asked or gone
        match one.state:
            case _S.WAITING_FOR_APPROVAL:
                return f"somebody to agree to {one.plan_digest}"
            case _S.STOPPED:
                return f"somebody to start it; {one.reason or 'it was stopped'}"
            case _S.RETRYING:
                return self._environment() or f"its next attempt, since: {one.reason or 'it failed'}"
            case _S.PENDING:
                return self._pending(one)
            case _S.WAITING_FOR_PROMOTION:
                return self._parked(one)
            case _:
                return f"the end of its revert window{_until(one)}"

    def _asked(self, one: OperationStatus) -> str | None:
        for request in self._requests:
            if request.state == "pending" and request.deployment in (None, one.deployment):
                return (
                    f"its next safe point, to {request.verb} (request {request.id}, {request.requested_by})"
                )
        if one.superseded_by is not None:
            return f"its next safe point, to make place for rollout {one.superseded_by}"
        return None

    def _environment(self) -> str | None:
        if self._around.suspended is not None:
            return f"its environment, which is suspended: {self._around.suspended}"
        if self._around.orphaned:
            return "its environment, which its source no longer declares"
        return None

    def is_for_person(self, one: OperationStatus) -> bool:
        """Whether nothing happens to an operation before somebody decides."""
        if one.state is not _S.WAITING_FOR_PROMOTION:
            return one.state in _FOR_PERSON
        manual = self._policy.promotion != Promotion.AUTO and not one.granted
        if manual or self._policy.order != Order.BARRIER:
            return manual or (self._halted and not one.granted)
        others = [self._unstaged.state] if self._unstaged is not None else []
        others += [self._first_open[1]] if self._first_open is not None else []
        return self._halted or any(state in _FOR_PERSON for state in others)

    @property
    def to_promote(self) -> tuple[str, ...]:
        """The deployments that go live once somebody says so, in rollout order."""
        if self._policy.order == Order.BARRIER:
            found = replace(self._brief, at_work=0)
            manual = replace(self._policy, promotion=Promotion.AUTO.value)
            ready: Sequence[str] = may_promote(found, manual)
        else:
            ready = self._brief.parked
        by_itself = self._policy.promotion == Promotion.AUTO and not self._halted
        return tuple(name for name in ready if not by_itself and name not in self._brief.granted)

    def _parked(self, one: OperationStatus) -> str:
        """What keeps it from going live, the stronger first."""
        why = self._environment() or self._not_yet(one)
        if why is not None:
            return why
        other = self._around.others.get(one.deployment)
        if other is not None:
            return f"rollout {other}, which is at work there"
        if one.deployment not in self._promotable:
            return f"a place: {self._at_work} of {max(self._policy.max_parallel, 1)} are at work"
        if not self._around.workers:
            return "a daemon: none is alive that can read its source"
        return "a worker"

    def _not_yet(self, one: OperationStatus) -> str | None:
        """Whom it waits for; None where it only has to be taken."""
        barrier = self._policy.order == Order.BARRIER
        if self._halted and (barrier or not one.granted):
            end = "to be cancelled, or the rollout to be released" if barrier else "somebody to decide"
            return f"{end}, since '{self._failed}' failed"
        if barrier and self._unstaged is not None:
            name, state = self._unstaged.deployment, self._unstaged.state
            return f"all to be staged and ready, of which '{name}' is {state.value}"
        if barrier and self._first_open is not None and self._first_open[0] != one.deployment:
            name, state = self._first_open
            return f"its turn: first is '{name}', which is {state.value}"
        if self._policy.promotion != Promotion.AUTO and not one.granted:
            return "somebody to let it go live"
        return None

    def _pending(self, one: OperationStatus) -> str:
        environment = self._environment()
        if environment is not None:
            return environment
        if self._halted:
            return f"the rollout to be released, since '{self._failed}' failed"
        other = self._around.others.get(one.deployment)
        if other is not None:
            return f"rollout {other}, which is at work there"
        if one.deployment not in self._startable:
            return self._turn(one)
        if not self._around.workers:
            return "a daemon: none is alive that can read its source"
        return "a worker"

    def _turn(self, one: OperationStatus) -> str:
        if one.wave > self._wave:
            return f"wave {self._wave}, of which {self._left} {'is' if self._left == 1 else 'are'} not done"
        if self._opens is not None:
            return f"the pause before wave {self._wave}, until {self._opens.isoformat(timespec='seconds')}"
        if self._policy.order not in SIDE_BY_SIDE and self._first_open is not None:
            name, state = self._first_open
            if name != one.deployment:
                return f"'{name}', which is {state.value}"
        return f"a place: {self._at_work} of {max(self._policy.max_parallel, 1)} are at work"


def _brief(rollout: RolloutStatus) -> Brief:
    return brief(
        [(one.deployment, one.state) for one in rollout.operations],
        {one.deployment: one.wave for one in rollout.operations},
        granted=[one.deployment for one in rollout.operations if one.granted],
        promoted=[one.deployment for one in rollout.operations if one.promoted_at is not None],
    )


def _until(one: OperationStatus) -> str:
    return f", at {one.revert_until.isoformat(timespec='seconds')}" if one.revert_until is not None else ""


def _opens(rollout: RolloutStatus, wave: int, now: datetime | None) -> datetime | None:
    """When the pause before a wave ends; None where there is none, or where it is over."""
    ends = [
        ended
        for one in rollout.operations
        if one.wave < wave
        and one.started_at is not None
        and (ended := one.applied_at or one.finished_at) is not None
    ]
    if not rollout.wave_pause_s or not ends or now is None:
        return None
    opens = max(ends) + timedelta(seconds=rollout.wave_pause_s)
    return opens if opens > now else None


def _next(
    rollout: RolloutStatus, policy: RolloutPolicy, around: Around, to_promote: Sequence[str]
) -> Iterator[str]:
    states = [one.state for one in rollout.operations]
    number, environment = rollout.id, rollout.environment
    if any(state not in TERMINAL for state in states) and around.suspended is not None:
        yield f"go on with: reconciler resume {environment}"
    if _S.WAITING_FOR_APPROVAL in states:
        yield f"agree to the plan with: reconciler approve {number}"
    if policy.on_failure == OnFailure.PAUSE and halted(states, policy, released=rollout.released):
        left = [state for state in states if state not in TERMINAL]
        if left and not any(state in AT_WORK for state in left):
            yield f"let the rest start with: reconciler release {number}"
    if to_promote:
        some = "" if len(to_promote) == len(states) else f" --deployment {to_promote[0]}"
        yield f"let it go live with: reconciler promote {number}{some}"
        yield f"give up what is staged with: reconciler cancel {number}{some}"
    if _S.REVERT_WINDOW in states:
        yield (
            f"take what is live back with: reconciler revert {number}; "
            f"end the revert window with: reconciler skip-revert {number}"
        )
    if _S.STOPPED in states:
        yield f"go on with: reconciler start {number}; give it up with: reconciler cancel {number}"
    yield from _after(rollout, states)
    if rollout.scope == "provision-only" and states and set(states) <= {_S.COMPLETED, _S.REVERT_WINDOW}:
        yield f"resources are provisioned; roll out the rest with: reconciler apply {environment} --full"
    if any(state in AT_WORK for state in states):
        yield f"follow it with: reconciler events {environment} --follow"


def _after(rollout: RolloutStatus, states: Sequence[OperationState]) -> Iterator[str]:
    """What follows what is over, as far as nothing followed it yet."""
    for successor in rollout.replaced_by:
        yield f"see what took its place with: reconciler show {successor}"
    if rollout.replaced_by or not any(state in (_S.FAILED, _S.CANCELLED) for state in states):
        return
    if any(one.by_hand for one in rollout.operations):
        # A retry of these is refused: the end of a revert is not to become a deploy.
        yield "push a fix, or ask for it anew by the same command: reconciler module …"
    else:
        yield f"push a fix, or try the same again with: reconciler retry {rollout.id}"
