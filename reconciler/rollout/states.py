"""The states of an operation as one table, and the states of a rollout; no other place lists them.

The SQL enum types, the reference page and the tests come from `TRANSITIONS`. The rules:
a state without a way out is terminal; only a worker holds an operation in flight; an event that a
state does not list is refused, never ignored.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from reconciler.errors import IllegalTransition


class OperationState(StrEnum):
    """Where one operation stands."""

    WAITING_FOR_APPROVAL = "waiting_for_approval"
    PENDING = "pending"
    RUNNING = "running"
    WAITING_FOR_PROMOTION = "waiting_for_promotion"
    PROMOTING = "promoting"
    REVERT_WINDOW = "revert_window"
    REVERTING = "reverting"
    RETRYING = "retrying"
    STOPPED = "stopped"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REVERTED = "reverted"
    SUPERSEDED = "superseded"


class RolloutState(StrEnum):
    """Where a whole rollout stands: the states of an operation and two of its own."""

    WAITING_FOR_APPROVAL = "waiting_for_approval"
    PENDING = "pending"
    RUNNING = "running"
    RUNNING_DEGRADED = "running_degraded"
    PAUSED = "paused"
    WAITING_FOR_PROMOTION = "waiting_for_promotion"
    PROMOTING = "promoting"
    REVERT_WINDOW = "revert_window"
    REVERTING = "reverting"
    RETRYING = "retrying"
    STOPPED = "stopped"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REVERTED = "reverted"
    SUPERSEDED = "superseded"


class OperationEvent(StrEnum):
    """What happens to an operation."""

    APPROVE = "approve"
    CLAIM = "claim"
    CLAIM_REVERTING = "claim_reverting"
    DONE = "done"
    PARK = "park"
    PROMOTE = "promote"
    RESUME = "resume"
    OPEN_REVERT_WINDOW = "open_revert_window"
    EXPIRE = "expire"
    SKIP_REVERT = "skip_revert"
    CLOSE_REVERT_WINDOW = "close_revert_window"
    REVERT = "revert"
    FAIL = "fail"
    RETRY = "retry"
    STOP = "stop"
    START = "start"
    CANCEL = "cancel"
    SUPERSEDE = "supersede"


_S = OperationState
_E = OperationEvent

TRANSITIONS: Mapping[OperationState, Mapping[OperationEvent, OperationState]] = MappingProxyType(
    {
        _S.WAITING_FOR_APPROVAL: {
            _E.APPROVE: _S.PENDING,
            _E.CANCEL: _S.CANCELLED,
            _E.SUPERSEDE: _S.SUPERSEDED,
        },
        _S.PENDING: {
            _E.CLAIM: _S.RUNNING,
            _E.STOP: _S.STOPPED,
            _E.CANCEL: _S.CANCELLED,
            _E.SUPERSEDE: _S.SUPERSEDED,
        },
        _S.RUNNING: {
            _E.DONE: _S.COMPLETED,
            _E.PARK: _S.WAITING_FOR_PROMOTION,
            _E.OPEN_REVERT_WINDOW: _S.REVERT_WINDOW,
            _E.FAIL: _S.FAILED,
            _E.RETRY: _S.RETRYING,
            _E.STOP: _S.STOPPED,
            _E.CANCEL: _S.CANCELLED,
            _E.SUPERSEDE: _S.SUPERSEDED,
        },
        _S.WAITING_FOR_PROMOTION: {
            _E.PROMOTE: _S.PROMOTING,
            _E.STOP: _S.STOPPED,
            _E.CANCEL: _S.CANCELLED,
            _E.SUPERSEDE: _S.SUPERSEDED,
        },
        _S.PROMOTING: {
            _E.RESUME: _S.RUNNING,
            _E.DONE: _S.COMPLETED,
            _E.OPEN_REVERT_WINDOW: _S.REVERT_WINDOW,
            _E.FAIL: _S.FAILED,
            _E.RETRY: _S.RETRYING,
        },
        _S.REVERT_WINDOW: {
            _E.EXPIRE: _S.COMPLETED,
            _E.SKIP_REVERT: _S.COMPLETED,
            _E.CLOSE_REVERT_WINDOW: _S.COMPLETED,
            _E.REVERT: _S.REVERTING,
        },
        _S.REVERTING: {
            _E.DONE: _S.REVERTED,
            _E.OPEN_REVERT_WINDOW: _S.REVERT_WINDOW,
            _E.FAIL: _S.FAILED,
            _E.RETRY: _S.RETRYING,
        },
        _S.RETRYING: {
            _E.CLAIM: _S.RUNNING,
            _E.CLAIM_REVERTING: _S.REVERTING,
            _E.FAIL: _S.FAILED,
            _E.STOP: _S.STOPPED,
            _E.CANCEL: _S.CANCELLED,
            _E.SUPERSEDE: _S.SUPERSEDED,
        },
        _S.STOPPED: {
            _E.START: _S.PENDING,
            _E.CANCEL: _S.CANCELLED,
            _E.SUPERSEDE: _S.SUPERSEDED,
        },
        _S.COMPLETED: {},
        _S.FAILED: {},
        _S.CANCELLED: {},
        _S.REVERTED: {},
        _S.SUPERSEDED: {},
    }
)
"""What each state does on each event; the page `docs/reference/operation-states.md` is made from it."""

LABELS: Mapping[OperationState, str] = MappingProxyType(
    {
        _S.WAITING_FOR_APPROVAL: "planned; a person must agree to this digest",
        _S.PENDING: "recorded, not started",
        _S.RUNNING: "a worker is on it, or was when it died",
        _S.WAITING_FOR_PROMOTION: "staged and ready; holds no worker",
        _S.PROMOTING: "the switch is under way",
        _S.REVERT_WINDOW: "all stages done, and what was before is kept",
        _S.REVERTING: "going back",
        _S.RETRYING: "failed for a reason that may pass; waits for its time",
        _S.STOPPED: "an operator halted it; keeps its place",
        _S.COMPLETED: "every step is done",
        _S.FAILED: "it cannot go on; the reason and what to do next are recorded",
        _S.CANCELLED: "given up before its end, by an operator or because the rollout halted",
        _S.REVERTED: "went back to what was before",
        _S.SUPERSEDED: "a newer rollout took its place",
    }
)
"""One line of meaning per state."""

WAY_OUT: Mapping[OperationState, str] = MappingProxyType(
    {
        _S.WAITING_FOR_APPROVAL: "somebody approves or cancels it",
        _S.PENDING: "a worker claims it when it is its turn",
        _S.RUNNING: "its worker comes to an end, or another claims it once that one is gone",
        _S.WAITING_FOR_PROMOTION: "policy or somebody promotes it, or it is stopped or cancelled",
        _S.PROMOTING: "its worker comes to an end, or another claims it once that one is gone",
        _S.REVERT_WINDOW: "its time is over, or somebody reverts it or skips the rest",
        _S.REVERTING: "its worker comes to an end, or another claims it once that one is gone",
        _S.RETRYING: "a worker claims it at its time, or at once after retry",
        _S.STOPPED: "somebody starts or cancels it",
    }
)
"""How each state that is not terminal is left in the ordinary way; a newer commit ends most of them too."""

EVENT_LABELS: Mapping[OperationEvent, str] = MappingProxyType(
    {
        _E.APPROVE: "an operator agrees to the plan",
        _E.CLAIM: "a worker takes it",
        _E.CLAIM_REVERTING: "a worker takes it again while it was going back",
        _E.DONE: "the last step is done",
        _E.PARK: "everything is staged and the next step is a promotion",
        _E.PROMOTE: "policy or an operator lets the promotion go ahead",
        _E.RESUME: "promoted, and steps remain",
        _E.OPEN_REVERT_WINDOW: "the last step is done, or a revert was refused, and what was before is kept",
        _E.EXPIRE: "the revert window is over",
        _E.SKIP_REVERT: "an operator ends the revert window",
        _E.CLOSE_REVERT_WINDOW: "a newer operation starts promoting",
        _E.REVERT: "an operator asks to go back",
        _E.FAIL: "a step failed for good, or the retry budget is spent",
        _E.RETRY: "a step failed for a reason that may pass",
        _E.STOP: "an operator halts it",
        _E.START: "an operator lets it go on",
        _E.CANCEL: "an operator gives it up, or the rollout halted before it started",
        _E.SUPERSEDE: "a newer rollout takes its place",
    }
)
"""One line of meaning per event."""

TERMINAL: frozenset[OperationState] = frozenset(state for state, ways in TRANSITIONS.items() if not ways)
"""States without a way out."""

CLAIMABLE: frozenset[OperationState] = frozenset(
    state for state, ways in TRANSITIONS.items() if OperationEvent.CLAIM in ways
)
"""States a worker may claim from; `retrying` only when it is due."""

IN_FLIGHT: frozenset[OperationState] = frozenset({_S.RUNNING, _S.PROMOTING, _S.REVERTING})
"""States that hold a lease: at most one operation per deployment is in one of them."""

HELD: frozenset[OperationState] = frozenset({_S.FAILED, _S.CANCELLED, _S.STOPPED, _S.REVERTED})
"""States after which no pass tries the same commit again by itself."""

TERMINAL_ROLLOUT: frozenset[RolloutState] = frozenset(RolloutState(state.value) for state in TERMINAL)
"""A rollout in one of these is over, and stays so."""


def advance(state: OperationState, event: OperationEvent) -> OperationState:
    """The state that follows, or `IllegalTransition` naming what would have been possible."""
    following = TRANSITIONS[state].get(event)
    if following is None:
        ways = ", ".join(TRANSITIONS[state]) or "nothing, it is over"
        raise IllegalTransition(
            f'an operation that is "{state}" does not take "{event}"', hint=f"possible now: {ways}"
        )
    return following


def targets(event: OperationEvent) -> Mapping[OperationState, OperationState]:
    """Every state that takes `event`, with the state that follows; what SQL is given to check against."""
    return {state: ways[event] for state, ways in TRANSITIONS.items() if event in ways}
