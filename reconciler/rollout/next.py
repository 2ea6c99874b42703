"""Which operations of a rollout may start now; it says nothing about who starts them."""

from collections.abc import Iterator, Sequence

from reconciler.rollout.states import TERMINAL, OperationState
from reconciler.rollout.summary import AT_WORK, Order, RolloutPolicy, halted

PASSED: frozenset[OperationState] = TERMINAL | {OperationState.REVERT_WINDOW}
"""States after which the next deployment in order may start, where no failure forbids it."""

SIDE_BY_SIDE: frozenset[Order] = frozenset({Order.PARALLEL, Order.BARRIER})
"""Orders in which deployments do not wait for those before them to be done."""


def startable(
    operations: Sequence[tuple[str, OperationState]], policy: RolloutPolicy, *, released: bool = False
) -> tuple[str, ...]:
    """Names of the pending operations that may start, in rollout order; together they fit `max_parallel`.

    `rolling`: each only after all before it are done. `parallel` and `barrier`: as many as fit.
    An operation that waits for its next attempt keeps its place. After a failure nothing starts, unless
    the policy is `continue`, or `pause` and an operator released it.
    """
    states = [state for _, state in operations]
    if halted(states, policy, released=released):
        return ()
    free = max(policy.max_parallel, 1) - sum(state in AT_WORK for state in states)
    if free <= 0:
        return ()
    candidates = operations if policy.order in SIDE_BY_SIDE else tuple(_up_to_first_open(operations))
    return tuple(name for name, state in candidates if state is OperationState.PENDING)[:free]


def _up_to_first_open(
    operations: Sequence[tuple[str, OperationState]],
) -> Iterator[tuple[str, OperationState]]:
    """The operations up to and with the first that later ones must wait for."""
    for name, state in operations:
        yield name, state
        if state not in PASSED:
            return
