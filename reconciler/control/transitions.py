"""Moves a claimed operation through its states and notes the progress of its steps, under its lease."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from psycopg.types.json import Jsonb

from reconciler.control.claims import Claim, lease_lost
from reconciler.control.events import NewEvent, append_all
from reconciler.control.moves import Why, lock_environment, move
from reconciler.control.rollouts import NewStep, insert_steps
from reconciler.control.settle import settle
from reconciler.control.sql import Row, changing, one, run, telling
from reconciler.errors import NotFound
from reconciler.postgres.connection import Connection
from reconciler.rollout.states import OperationEvent, OperationState, advance, targets

_NEED_ERROR = frozenset({OperationEvent.FAIL, OperationEvent.RETRY})


class Mark(StrEnum):
    """What came of noting something: it was written, or it was so already, by the same claim.

    What is another's by now is LeaseLost, and what does not exist NotFound: three answers nobody mixes up.
    """

    WRITTEN = "written"
    ALREADY = "already"


async def transition(
    connection: Connection,
    claim: Claim,
    event: OperationEvent,
    *,
    reason: str | None = None,
    error: Mapping[str, Any] | None = None,
    delay_s: float | None = None,
    waits: bool = False,
) -> OperationState:
    """Move the operation and everything that follows from it, in one transaction; gives its new state.

    `waits`: it is tried again only because another was at work in its database, which costs no attempt.
    Raises what `mark` raises.
    """
    if error is None and event in _NEED_ERROR:
        error = {"what": None, "where": None, "why": reason, "next": None, "sqlstate": None}
    why = Why(reason=reason, error=error, delay_s=delay_s or 0.0, waits=waits)
    return (await mark(connection, claim, event, why))[0]


async def mark(
    connection: Connection, claim: Claim, event: OperationEvent, why: Why
) -> tuple[OperationState, Mark]:
    """Move the operation; saying the same again changes nothing, not even a time, and `Mark` tells it.

    LeaseLost where the operation is another's, NotFound where there is none; IllegalTransition where its
    state does not take the event.
    """
    async with changing(connection, f"moving operation {claim.operation} ({event.value})"):
        await lock_environment(connection, claim.environment)
        moved = await move(connection, [int(claim.operation)], event, why, lease_token=claim.lease_token)
        if not moved:
            return await _already(connection, claim, event), Mark.ALREADY
        await settle(connection, claim.environment, moved, quiet=True)
        return moved[0].after, Mark.WRITTEN


async def _already(connection: Connection, claim: Claim, event: OperationEvent) -> OperationState:
    """The state of the operation if this claim brought it there before; else why it did not move."""
    row = await one(connection, "operation_state", id=int(claim.operation))
    if row is None:
        raise NotFound(f"there is no operation {claim.operation}")
    state = OperationState(row["state"])
    if row["lease_token"] == claim.lease_token:
        advance(state, event)
    elif row["settled_token"] == claim.lease_token and state in targets(event).values():
        return state
    raise lease_lost(claim)


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


async def step_started(
    connection: Connection, claim: Claim, step_id: str, instead_of: Sequence[str] = ()
) -> Mark:
    """Note that a step runs, `instead_of` others; when it first did stays as it is.

    LeaseLost or NotFound as for `transition`.
    """
    with telling(f"noting the progress of operation {claim.operation}"):
        row = await one(
            connection,
            "start_step",
            operation=int(claim.operation),
            lease_token=claim.lease_token,
            step=step_id,
            instead_of=list(instead_of),
        )
    return _mark(claim, row, [step_id])


async def step_finished(
    connection: Connection, claim: Claim, step_id: str, state: str, reason: str | None = None
) -> Mark:
    """Note that a step ended as `done`, `skipped` or `failed`; one that did so already keeps its time."""
    return await _finish(connection, claim, [step_id], state, reason)


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


async def finish_many(connection: Connection, claim: Claim, step_ids: Sequence[str]) -> Mark:
    """Note that steps are done, as one statement."""
    return await _finish(connection, claim, step_ids, "done", None) if step_ids else Mark.ALREADY


async def _finish(
    connection: Connection, claim: Claim, step_ids: Sequence[str], state: str, reason: str | None
) -> Mark:
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
    return _mark(claim, row, step_ids)


def _mark(claim: Claim, row: Row | None, step_ids: Sequence[str]) -> Mark:
    assert row is not None
    if not row["is_there"]:
        raise NotFound(f"there is no operation {claim.operation}")
    if not row["is_held"]:
        raise lease_lost(claim)
    if not row["known"]:
        named = ", ".join(f"'{step}'" for step in step_ids[:20])
        raise NotFound(f"operation {claim.operation} on '{claim.deployment}' has no step {named}")
    return Mark.WRITTEN if row["written"] else Mark.ALREADY
