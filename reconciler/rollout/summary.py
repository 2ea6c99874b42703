"""The policy of a rollout, and its state as a total, order-independent function of its operations.

Nothing here knows an operation's place in the rollout: that is `reconciler.rollout.next`.
"""

from collections.abc import Collection, Sequence
from enum import StrEnum

from reconciler.frozen import frozen
from reconciler.rollout.states import IN_FLIGHT, TERMINAL, OperationState, RolloutState


class Order(StrEnum):
    """How the deployments of a rollout follow each other."""

    ROLLING = "rolling"
    BARRIER = "barrier"
    PARALLEL = "parallel"


class OnFailure(StrEnum):
    """What a failed deployment means for those that have not started."""

    HALT = "halt"
    CONTINUE = "continue"
    PAUSE = "pause"


class Promotion(StrEnum):
    """Who lets a staged generation go live."""

    AUTO = "auto"
    MANUAL = "manual"


@frozen
class RolloutPolicy:
    """The policy captured when the rollout was recorded; a value nobody knows is read as the safest one."""

    order: str = Order.ROLLING
    on_failure: str = OnFailure.HALT
    max_parallel: int = 1
    promotion: str = Promotion.AUTO


UNSUCCESSFUL: frozenset[OperationState] = frozenset({OperationState.FAILED, OperationState.REVERTED})
"""What counts as a failure for the deployments that come after."""

UNSTARTED: frozenset[OperationState] = frozenset(
    {OperationState.PENDING, OperationState.WAITING_FOR_APPROVAL}
)
"""Operations that a halted rollout never starts."""

AT_WORK: frozenset[OperationState] = IN_FLIGHT | {OperationState.RETRYING}
"""Operations that are under way by themselves; each keeps its place among `max_parallel`."""

_VERDICT = (
    OperationState.FAILED,
    OperationState.REVERTED,
    OperationState.CANCELLED,
    OperationState.SUPERSEDED,
)
_WORKING = (
    OperationState.REVERTING,
    OperationState.PROMOTING,
    OperationState.RUNNING,
    OperationState.RETRYING,
)
_WAITING = (
    OperationState.STOPPED,
    OperationState.WAITING_FOR_APPROVAL,
    OperationState.WAITING_FOR_PROMOTION,
)


def halted(operations: Collection[OperationState], policy: RolloutPolicy, *, released: bool = False) -> bool:
    """Whether a failure forbids that anything more of the rollout starts, for now or for good.

    Only which states there are counts, not how often: this and `derive` take them once each as well.
    """
    if policy.on_failure == OnFailure.CONTINUE:
        return False
    if policy.on_failure == OnFailure.PAUSE and released:
        return False
    return any(state in UNSUCCESSFUL for state in operations)


def derive(
    operations: Collection[OperationState], policy: RolloutPolicy, *, released: bool = False
) -> RolloutState:
    """The state of a rollout; terminal if and only if every operation is, and then it stays.

    All over: the worst of them. Under way: the busiest of them, degraded where one failed. Nothing under
    way: paused where a failure holds the rest, else what waits for a person, else whether it began at all.
    """
    states = frozenset(operations)
    if states <= TERMINAL:
        return _first(_VERDICT, states) or RolloutState.COMPLETED
    failed = OperationState.FAILED in states
    working = _first(_WORKING, states)
    if working is not None:
        return RolloutState.RUNNING_DEGRADED if failed else working
    pausing = policy.on_failure == OnFailure.PAUSE and not released
    if pausing and states & UNSUCCESSFUL and states & UNSTARTED:
        return RolloutState.PAUSED
    waiting = _first(_WAITING, states)
    if waiting is not None:
        return waiting
    if OperationState.PENDING not in states:
        return RolloutState.REVERT_WINDOW
    if failed:
        return RolloutState.RUNNING_DEGRADED
    return RolloutState.PENDING if states <= {OperationState.PENDING} else RolloutState.RUNNING


def _first(ranked: Sequence[OperationState], present: frozenset[OperationState]) -> RolloutState | None:
    return next((RolloutState(state.value) for state in ranked if state in present), None)
