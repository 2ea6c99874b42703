"""Which operations of a rollout may start now; it says nothing about who starts them."""

from collections.abc import Mapping, Sequence

from reconciler.frozen import frozen
from reconciler.rollout.states import TERMINAL, OperationState
from reconciler.rollout.summary import AT_WORK, Order, RolloutPolicy, halted

PASSED: frozenset[OperationState] = TERMINAL | {OperationState.REVERT_WINDOW}
"""States after which the next deployment in order may start, where no failure forbids it."""

SIDE_BY_SIDE: frozenset[Order] = frozenset({Order.PARALLEL, Order.BARRIER})
"""Orders in which deployments do not wait for those before them to be done."""


@frozen
class Brief:
    """A rollout in brief: as much of its operations as decides what may start, however many there are.

    `states`: those that any of them has. `at_work`: how many keep a place. `first_open`: the first in order
    that those after it wait for. `pending`: the first pending ones in order of the wave that it belongs to,
    as many as are asked for. `rests`: the pause before that wave is not over.
    """

    states: frozenset[OperationState]
    at_work: int
    first_open: tuple[str, OperationState] | None
    pending: tuple[str, ...]
    rests: bool = False


def brief(
    operations: Sequence[tuple[str, OperationState]],
    waves: Mapping[str, int] | None = None,
    *,
    rests: bool = False,
    most: int | None = None,
) -> Brief:
    """A rollout in brief, from all its operations in rollout order.

    `waves`: of which wave each is, where there are several; an earlier wave comes before a later one.
    """
    of = waves or {}
    in_order = sorted(operations, key=lambda one: of.get(one[0], 0))
    first_open = next(((name, state) for name, state in in_order if state not in PASSED), None)
    wave = of.get(first_open[0], 0) if first_open is not None else 0
    pending = [
        name for name, state in in_order if state is OperationState.PENDING and of.get(name, 0) == wave
    ]
    return Brief(
        states=frozenset(state for _, state in operations),
        at_work=sum(state in AT_WORK for _, state in operations),
        first_open=first_open,
        pending=tuple(pending[:most]),
        rests=rests,
    )


def may_start(found: Brief, policy: RolloutPolicy, *, released: bool = False) -> tuple[str, ...]:
    """Names of the pending operations that may start, in rollout order; together they fit `max_parallel`.

    `rolling`: each only after all before it are done. `parallel` and `barrier`: as many as fit; where nothing
    is promoted they are the same. No wave starts before all of the waves before it are done, and none while
    the pause before it lasts. An operation that waits for its next attempt keeps its place. After a failure
    nothing starts, unless the policy is `continue`, or `pause` and an operator released it.
    """
    if halted(found.states, policy, released=released):
        return ()
    free = max(policy.max_parallel, 1) - found.at_work
    if free <= 0 or found.rests:
        return ()
    if policy.order in SIDE_BY_SIDE:
        return found.pending[:free]
    if found.first_open is None or found.first_open[1] is not OperationState.PENDING:
        return ()
    return (found.first_open[0],)


def startable(
    operations: Sequence[tuple[str, OperationState]],
    policy: RolloutPolicy,
    *,
    released: bool = False,
    waves: Mapping[str, int] | None = None,
    rests: bool = False,
) -> tuple[str, ...]:
    """The same, from all operations of a rollout in order."""
    return may_start(brief(operations, waves, rests=rests), policy, released=released)


def shared_out(room: int, loads: Mapping[str, int]) -> dict[str, int]:
    """How many of `room` places each environment that waits gets: whoever has the least is next.

    `loads` says how many operations of each are under way; of equals the first in order comes first.
    """
    given = dict.fromkeys(loads, 0)
    for _ in range(room if loads else 0):
        given[min(given, key=lambda name: loads[name] + given[name])] += 1
    return {name: count for name, count in given.items() if count}
