"""Which operations of a rollout may start now; it says nothing about who starts them."""

from collections.abc import Collection, Mapping, Sequence

from reconciler.frozen import frozen
from reconciler.rollout.states import TERMINAL, OperationState
from reconciler.rollout.summary import AT_WORK, Order, Promotion, RolloutPolicy, halted

PASSED: frozenset[OperationState] = TERMINAL | {OperationState.REVERT_WINDOW}
"""States after which the next deployment in order may start, where no failure forbids it."""

STAGED: frozenset[OperationState] = PASSED | {
    OperationState.WAITING_FOR_PROMOTION,
    OperationState.PROMOTING,
}
"""States that hold nobody up under `barrier`; what works on after its first promotion does not either."""

SIDE_BY_SIDE: frozenset[Order] = frozenset({Order.PARALLEL, Order.BARRIER})
"""Orders in which deployments do not wait for those before them to be done."""


@frozen
class Brief:
    """A rollout in brief: as much of its operations as decides what may start, however many there are.

    `states`: those that any of them has. `at_work`: how many keep a place. `first_open`: the first in order
    that those after it wait for. `pending`: the first pending ones in order of the wave that it belongs to,
    as many as are asked for. `rests`: the pause before that wave is not over. `parked`: the first in order
    that wait for their promotion, `granted`: those of them that somebody let go. `unstaged`: another of the
    wave of `first_open` is not staged and ready; it counts under `barrier` only.
    """

    states: frozenset[OperationState]
    at_work: int
    first_open: tuple[str, OperationState] | None
    pending: tuple[str, ...]
    rests: bool = False
    parked: tuple[str, ...] = ()
    granted: frozenset[str] = frozenset()
    unstaged: bool = False


def brief(
    operations: Sequence[tuple[str, OperationState]],
    waves: Mapping[str, int] | None = None,
    *,
    rests: bool = False,
    most: int | None = None,
    granted: Collection[str] = (),
    promoted: Collection[str] = (),
) -> Brief:
    """A rollout in brief, from all its operations in rollout order.

    `waves`: of which wave each is, where there are several; an earlier wave comes before a later one.
    `granted`: whose generation somebody let go live. `promoted`: those that made something live already.
    """
    of = waves or {}
    in_order = sorted(operations, key=lambda one: of.get(one[0], 0))
    first_open = next(((name, state) for name, state in in_order if state not in PASSED), None)
    wave = of.get(first_open[0], 0) if first_open is not None else 0
    pending = [
        name for name, state in in_order if state is OperationState.PENDING and of.get(name, 0) == wave
    ]
    parked = [name for name, state in in_order if state is OperationState.WAITING_FOR_PROMOTION]
    return Brief(
        states=frozenset(state for _, state in operations),
        at_work=sum(state in AT_WORK for _, state in operations),
        first_open=first_open,
        pending=tuple(pending[:most]),
        rests=rests,
        parked=tuple(parked[:most]),
        granted=frozenset(parked[:most]) & frozenset(granted),
        unstaged=any(
            of.get(name, 0) == wave and state not in STAGED and name not in promoted
            for name, state in in_order
        ),
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


def may_promote(found: Brief, policy: RolloutPolicy, *, released: bool = False) -> tuple[str, ...]:
    """Names of the parked operations that may go live now, in rollout order, as many as there is room for.

    `barrier`: nobody before every operation of the wave is staged and ready, or past that; then the first in
    order that is not over, one at a time; where a failure holds the rest back, nobody. Else each as soon as
    it is parked. Under `manual` only what somebody let go; such a word outweighs a failure, but not there.
    """
    held = halted(found.states, policy, released=released)
    free = max(max(policy.max_parallel, 1) - found.at_work, 0)
    if policy.order == Order.BARRIER:
        turn = may_take_turn(found) if not held else None
        ready = [name for name in found.parked if name == turn and _let_go(name, found, policy)]
    else:
        ready = [
            name
            for name in found.parked
            if name in found.granted or (not held and _let_go(name, found, policy))
        ]
    return tuple(ready[:free])


def may_take_turn(found: Brief) -> str | None:
    """Whose turn it is to promote under `barrier`, if anybody's: all are staged, and the first one waits."""
    if found.unstaged or found.first_open is None:
        return None
    name, state = found.first_open
    return name if state is OperationState.WAITING_FOR_PROMOTION else None


def _let_go(name: str, found: Brief, policy: RolloutPolicy) -> bool:
    return policy.promotion == Promotion.AUTO or name in found.granted


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
