"""Moves operations through the table of states in SQL, and writes down what each move brings with it.

Callers hold the lock of the environment. What follows for the rollout is in `reconciler.control.settle`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import field
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from reconciler.control.events import NewEvent, append_all
from reconciler.control.leaving import forget_pruned
from reconciler.control.sql import IN_FLIGHT_NAMES, TERMINAL_NAMES, many, one, run
from reconciler.errors import NotFound
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection
from reconciler.rollout.states import HELD, IN_FLIGHT, TERMINAL, OperationEvent, OperationState, targets

FULL_SCOPE = "full"
"""The scope of plans that cover the whole environment."""


@frozen
class Moved:
    """One operation that went from one state to another.

    `whole`: its plan was of everything, and nothing of it was blocked. `hold`: why passes are to leave the
    deployment alone once it is done, where a person asked for something that they would undo. `mended`: an
    attempt before had failed. `gated`: its plan ends with the question of a gate. `pruned`: it takes back
    what is deployed on a deployment that left. `parked`: {component, generation, since} that waits to go
    live. `left_out`: components that its plan leaves to another rollout.
    """

    id: int
    rollout: int
    environment: str
    deployment: str
    commit: str
    scope: str
    before: OperationState
    after: OperationState
    reason: str | None
    error: dict[str, Any] | None
    attempts: int
    next_attempt_at: datetime | None
    whole: bool
    hold: str | None = None
    mended: bool = False
    gated: bool = False
    pruned: bool = False
    parked: dict[str, Any] | None = None
    revert_until: datetime | None = None
    left_out: list[str] = field(default_factory=list)


@frozen
class Why:
    """What a move records beside the state; `waits`: it only waits for another, which costs no attempt."""

    reason: str | None = None
    error: Mapping[str, Any] | None = None
    delay_s: float = 0.0
    superseded_by: int | None = None
    waits: bool = False


async def lock_environment(connection: Connection, environment: str) -> None:
    """Serialise with everything else that changes states of this environment."""
    if await one(connection, "lock_environment", environment=environment) is None:
        raise NotFound(f"there is no environment '{environment}'")


async def move(
    connection: Connection,
    operations: Sequence[int],
    event: OperationEvent,
    why: Why,
    *,
    lease_token: int | None = None,
) -> list[Moved]:
    """Move those that take the event and carry the lease token (None: that nobody holds); give what moved.

    Coming into flight is not among the moves made here, for it takes a claim.
    """
    if not operations:
        return []
    table = {
        before.value: after.value
        for before, after in targets(event).items()
        if before in IN_FLIGHT or after not in IN_FLIGHT
    }
    rows = await many(
        connection,
        "move_operations",
        ids=list(operations),
        targets=Jsonb(table),
        lease_token=lease_token,
        in_flight=IN_FLIGHT_NAMES,
        terminal=TERMINAL_NAMES,
        reason=why.reason,
        error=Jsonb(dict(why.error)) if why.error is not None else None,
        delay_s=float(why.delay_s),
        superseded_by=why.superseded_by,
        waits=why.waits,
    )
    return [
        Moved(**{**row, "before": OperationState(row["before"]), "after": OperationState(row["after"])})
        for row in rows
    ]


async def write_down(connection: Connection, moved: Sequence[Moved]) -> None:
    """Record what moves bring with them: steps, holds, the applied commit, events; a statement for each."""
    left_flight = [item.id for item in moved if item.after not in IN_FLIGHT]
    if left_flight:
        await run(connection, "settle_steps", ids=left_flight)
    given_up = [item for item in moved if item.after in _ENDS_APPROVALS]
    for reason in dict.fromkeys(item.reason for item in given_up):
        ids = [item.id for item in given_up if item.reason == reason]
        await run(connection, "void_approvals", operations=ids, reason=reason or "it ended")
    gated = [item.id for item in moved if item.gated and _asks_gate(item)]
    if gated:
        await run(connection, "note_gates", ids=gated)
    await _write_holds(connection, moved)
    await _write_applied(connection, moved)
    gone = [
        _where(item)
        for item in moved
        if item.pruned and item.whole and item.after is OperationState.COMPLETED
    ]
    told = await forget_pruned(connection, gone) if gone else []
    await append_all(connection, [*(_event(item) for item in moved), *told])


def _asks_gate(item: Moved) -> bool:
    """Whether it comes to the end of its plan, which is not where its window or its way back ends."""
    past = item.before in (OperationState.REVERT_WINDOW, OperationState.REVERTING)
    return not past and (item.after in TERMINAL or item.after is OperationState.REVERT_WINDOW)


async def _write_holds(connection: Connection, moved: Sequence[Moved]) -> None:
    """Hold the commit where a deployment was left short of it, and let passes go on where it was not."""
    held = [
        {**_where(item), "reason": f"operation {item.id} {_said(item)}", "operation": item.id}
        for item in moved
        if item.after in HELD
    ]
    left = [
        {**_where(item), "reason": item.hold, "operation": item.id}
        for item in moved
        if item.after is OperationState.COMPLETED and item.hold is not None
    ]
    if held or left:
        await run(connection, "set_holds", holds=Jsonb([*held, *left]))
    if left:
        await run(connection, "deployments_left", holds=Jsonb(left))
    back = [{**_where(item), "reason": None} for item in moved if item.after is OperationState.REVERTING] + [
        {**_where(item), "reason": f"operation {item.id} {_said(item)}"}
        for item in moved
        if item.after is OperationState.REVERTED
    ]
    if back:
        await run(connection, "deployments_left", holds=Jsonb(back))
    freed = [
        _where(item)
        for item in moved
        if (item.after in _APPLIED and item.hold is None)
        or (item.after not in _APPLIED and item.after not in HELD and item.before in HELD)
    ]
    if freed:
        await run(connection, "release_holds_of", holds=Jsonb(freed))


def _where(item: Moved) -> dict[str, Any]:
    return {"environment": item.environment, "deployment": item.deployment, "commit": item.commit}


async def _write_applied(connection: Connection, moved: Sequence[Moved]) -> None:
    """Note who carries a commit; of who leaves a part to another rollout, only that the rest is there."""
    done = [
        item
        for item in moved
        if item.after in _APPLIED
        # At the end of the window nothing is applied, and a newer commit may have been meanwhile.
        and item.before is not OperationState.REVERT_WINDOW
        and item.whole
    ]
    applied = [_where(item) for item in done if item.scope == FULL_SCOPE]
    if applied:
        await run(connection, "deployments_applied", applied=Jsonb(applied))
    provisioned = [
        {**_where(item), "left_out": item.left_out}
        for item in done
        if item.scope != FULL_SCOPE and item.left_out
    ]
    if provisioned:
        await run(connection, "deployments_provisioned", provisioned=Jsonb(provisioned))


_APPLIED = frozenset({OperationState.COMPLETED, OperationState.REVERT_WINDOW})
"""States in which a deployment carries the commit."""

_ENDS_APPROVALS = frozenset({OperationState.CANCELLED, OperationState.SUPERSEDED})
"""States after which nobody has agreed any more to a plan that never began."""

_KINDS: Mapping[OperationState, str] = {
    OperationState.RUNNING: "operation.resumed",
    OperationState.WAITING_FOR_PROMOTION: "operation.parked",
    OperationState.REVERT_WINDOW: "operation.revert_window_opened",
    OperationState.PROMOTING: "operation.promoting",
    OperationState.REVERTING: "operation.reverting",
}


def _event(item: Moved) -> NewEvent:
    kind = _KINDS.get(item.after, f"operation.{item.after.value}")
    if item.after is OperationState.PENDING:
        kind = "operation.started" if item.before is OperationState.STOPPED else "operation.approved"
    data: dict[str, Any] = {
        "before": item.before.value,
        "after": item.after.value,
        "attempts": item.attempts,
        "commit": item.commit,
    }
    if item.error is not None:
        data["error"] = item.error
    if item.next_attempt_at is not None:
        data["next_attempt_at"] = item.next_attempt_at.isoformat()
    if item.parked is not None:
        data |= item.parked
    if item.revert_until is not None:
        data["revert_until"] = item.revert_until.isoformat()
    return NewEvent(
        kind=kind,
        message=f"operation {item.id} of rollout {item.rollout} on '{item.deployment}' {_said(item)}",
        environment=item.environment,
        deployment=item.deployment,
        rollout=item.rollout,
        operation=item.id,
        data=data,
    )


def _said(item: Moved) -> str:
    words = {
        OperationState.PENDING: "may start",
        OperationState.REVERT_WINDOW: "keeps what was before for a while",
        OperationState.RETRYING: "is tried again",
        OperationState.CANCELLED: "was cancelled",
        OperationState.STOPPED: "was stopped",
        OperationState.SUPERSEDED: "was superseded",
        OperationState.REVERTED: "was reverted",
        OperationState.WAITING_FOR_PROMOTION: "waits for its promotion",
        OperationState.PROMOTING: "promotes",
        OperationState.REVERTING: "goes back",
        OperationState.RUNNING: "goes on",
    }
    said = words.get(item.after, item.after.value)
    return f"{said}: {item.reason}" if item.reason else said
