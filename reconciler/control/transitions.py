"""Moves a claimed operation through its states and notes the progress of its steps, under its lease."""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from reconciler.control.claims import Claim, lease_lost
from reconciler.control.events import NewEvent, append_all
from reconciler.control.moves import Why, lock_environment, move
from reconciler.control.rollouts import NewStep, insert_steps
from reconciler.control.settle import settle
from reconciler.control.sql import changing, one, run, telling
from reconciler.errors import IllegalTransition
from reconciler.postgres.connection import Connection
from reconciler.rollout.states import OperationEvent, OperationState, advance

_NEED_ERROR = frozenset({OperationEvent.FAIL, OperationEvent.RETRY})


async def transition(
    connection: Connection,
    claim: Claim,
    event: OperationEvent,
    *,
    reason: str | None = None,
    error: Mapping[str, Any] | None = None,
    delay_s: float | None = None,
) -> OperationState:
    """Move the operation and everything that follows from it, in one transaction; gives its new state.

    LeaseLost where the operation is another's; IllegalTransition where its state does not take the event.
    """
    if error is None and event in _NEED_ERROR:
        error = {"what": None, "where": None, "why": reason, "next": None, "sqlstate": None}
    async with changing(connection, f"moving operation {claim.operation} ({event.value})"):
        await lock_environment(connection, claim.environment)
        why = Why(reason=reason, error=error, delay_s=delay_s or 0.0)
        moved = await move(connection, [int(claim.operation)], event, why, lease_token=claim.lease_token)
        if not moved:
            raise await _refusal(connection, claim, event)
        await settle(connection, claim.environment, moved, quiet=True)
        return moved[0].after


async def _refusal(connection: Connection, claim: Claim, event: OperationEvent) -> Exception:
    """Why a move did not happen: the lease is gone, or the table of states forbids it."""
    row = await one(connection, "operation_state", id=int(claim.operation))
    if row is None or row["lease_token"] != claim.lease_token:
        return lease_lost(claim)
    try:
        advance(OperationState(row["state"]), event)
    except IllegalTransition as error:
        return error
    return lease_lost(claim)


async def replace_plan(
    connection: Connection,
    claim: Claim,
    plan: Mapping[str, Any],
    plan_digest: str,
    steps: Sequence[NewStep],
) -> None:
    """Give the operation the plan that was made anew; steps that were done before stay on record."""
    async with changing(connection, f"replacing the plan of operation {claim.operation}"):
        number = int(claim.operation)
        row = await one(
            connection,
            "replace_plan",
            id=number,
            lease_token=claim.lease_token,
            plan=Jsonb(dict(plan)),
            plan_digest=plan_digest,
        )
        if row is None:
            raise lease_lost(claim)
        await run(connection, "remove_steps", operation=number, ids=[step.id for step in steps])
        await insert_steps(connection, number, steps)
        event = NewEvent(
            kind="operation.planned_anew",
            message=f"operation {claim.operation} on '{claim.deployment}' carries out a plan made from what "
            f"is there now ({len(steps)} steps)",
            environment=claim.environment,
            deployment=claim.deployment,
            rollout=int(claim.rollout),
            operation=number,
            data={"before": claim.plan_digest, "after": plan_digest},
        )
        await append_all(connection, [event])


async def step_started(connection: Connection, claim: Claim, step_id: str) -> None:
    """Note that a step runs."""
    with telling(f"noting the progress of operation {claim.operation}"):
        row = await one(
            connection,
            "start_step",
            operation=int(claim.operation),
            lease_token=claim.lease_token,
            step=step_id,
        )
    if row is None or row["count"] == 0:
        raise lease_lost(claim)


async def step_finished(
    connection: Connection, claim: Claim, step_id: str, state: str, reason: str | None = None
) -> None:
    """Note that a step ended as `done`, `skipped` or `failed`."""
    await _finish(connection, claim, [step_id], state, reason)


async def step_said(connection: Connection, claim: Claim, step_id: str, text: str) -> None:
    """Note what the scripts of a step said."""
    with telling(f"noting what operation {claim.operation} said"):
        await run(
            connection,
            "note_said",
            operation=int(claim.operation),
            lease_token=claim.lease_token,
            step=step_id,
            said=text,
        )


async def finish_many(connection: Connection, claim: Claim, step_ids: Sequence[str]) -> None:
    """Note that steps are done, as one statement."""
    if step_ids:
        await _finish(connection, claim, step_ids, "done", None)


async def _finish(
    connection: Connection, claim: Claim, step_ids: Sequence[str], state: str, reason: str | None
) -> None:
    with telling(f"noting the progress of operation {claim.operation}"):
        row = await one(
            connection,
            "finish_steps",
            operation=int(claim.operation),
            lease_token=claim.lease_token,
            steps=list(step_ids),
            state=state,
            reason=reason,
        )
    if row is None or row["count"] == 0:
        raise lease_lost(claim)
