"""Records rollouts; carrying them out is in claims and transitions, reading them for people in views."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from reconciler.control import approvals, removals
from reconciler.control.environments import free_holds
from reconciler.control.events import NewEvent, append_all
from reconciler.control.moves import FULL_SCOPE, Moved, Why, move
from reconciler.control.ownership import lock_owned
from reconciler.control.settle import settle
from reconciler.control.sql import Row, changing, many, one, run
from reconciler.errors import Conflict
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection
from reconciler.rollout.states import OperationEvent, OperationState
from reconciler.rollout.summary import RolloutPolicy, derive
from reconciler.rollout.verbs import INTERRUPTIBLE

_STAYS = (OperationState.REVERT_WINDOW.value, OperationState.REVERTING.value)
"""States that nothing newer ends: one is over but for its window, the other comes to its end."""

STEPS_AT_ONCE = 10_000
"""Steps of operations that are recorded by one statement: a plan has about half a kilobyte for each."""


@frozen
class NewStep:
    """One step of a plan, as its progress is shown."""

    id: str
    ordinal: int
    stage: str
    kind: str
    component: str
    identity: str


@frozen
class NewOperation:
    """One operation to record; `initial` is `pending` or `waiting_for_approval`.

    `server`: what those that share a PostgreSQL server have in common, where it is known. `wave`: none starts
    before all of the waves before it are done.
    """

    deployment: str
    ordinal: int
    plan: dict[str, Any]
    plan_digest: str
    initial: OperationState = OperationState.PENDING
    steps: tuple[NewStep, ...] = ()
    server: str | None = None
    wave: int = 0


@frozen
class NewRollout:
    """A rollout to record.

    `narrowed`: it was asked for some deployments only, so that older operations of the others stay.
    `respect_holds`: refuse where the commit is held, instead of releasing the hold. `owner`: refuse unless
    this worker passes over the environment. `planned_from`: how old what it was planned from may be, by the
    clock of the control database; refuse where an operation for the same commit ended since.
    `wave_pause_s`: how long after the end of a wave the next one may start.
    """

    environment: str
    source: str
    commit: str
    scope: str
    policy: RolloutPolicy
    reason: str
    requested_by: str
    allow_hazards: tuple[str, ...] = ()
    operations: tuple[NewOperation, ...] = ()
    narrowed: bool = False
    respect_holds: bool = False
    owner: str | None = None
    planned_from: datetime | None = None
    wave_pause_s: float = 0.0
    removes: bool = False
    """It removes an environment that left its source."""


async def record(connection: Connection, new: NewRollout) -> str:
    """Record a rollout with its operations, in one transaction; gives its id.

    Where one of its deployments is being brought to the same commit already, that rollout's id is given and
    nothing is recorded. Older operations are superseded: at once, or by their workers at a safe point.
    """
    if not new.operations:
        raise Conflict(f"recording a rollout of environment '{new.environment}': it has no operations")
    async with changing(connection, f"recording a rollout of environment '{new.environment}'"):
        await run(connection, "add_environment", environment=new.environment, source=new.source)
        await lock_owned(connection, new.environment, new.owner)
        if new.removes:
            await removals.begin(connection, new.environment)
        unfinished = await many(connection, "unfinished_operations", environment=new.environment)
        wanted = {item.deployment: item for item in new.operations}
        covering = next((row["rollout"] for row in unfinished if _covers(row, new, wanted)), None)
        if covering is not None:
            return str(covering)
        await _check_not_done(connection, new)
        await _settle_holds(connection, new)
        replaced = [row for row in unfinished if _is_replaced(row, new, wanted)]
        ended = await _ended(connection, new)
        rollout = await _insert(connection, _asking_anew(new, [*ended, *_still_asked(new, replaced)]))
        await approvals.replace(connection, [row["id"] for row in ended], rollout)
        reason = f"rollout {rollout} at {new.commit[:12]} takes its place"
        superseded = await _supersede(connection, replaced, rollout, reason)
        await settle(connection, new.environment, superseded, rollouts=[rollout])
        return str(rollout)


def _asking(new: NewRollout) -> list[str]:
    """The deployments whose plans wait for approval."""
    waits = OperationState.WAITING_FOR_APPROVAL
    return [item.deployment for item in new.operations if item.initial is waits]


async def _ended(connection: Connection, new: NewRollout) -> list[Row]:
    """Plans for the same commit that nobody carries out any more, for the state moved."""
    names = _asking(new)
    return await approvals.ended(connection, new.environment, new.commit, names) if names else []


def _still_asked(new: NewRollout, replaced: Sequence[Row]) -> list[Row]:
    """Plans for the same commit that still wait, for what was there before the state moved."""
    names, waits = _asking(new), OperationState.WAITING_FOR_APPROVAL.value
    return [
        {**row, "approved_by": None}
        for row in replaced
        if row["state"] == waits and row["commit"] == new.commit and row["deployment"] in names
    ]


def _asking_anew(new: NewRollout, before: Sequence[Row]) -> NewRollout:
    why = approvals.asks_anew(before)
    return new if why is None else replace(new, reason=f"{new.reason}; {why}")


async def _check_not_done(connection: Connection, new: NewRollout) -> None:
    """Refuse what was done while it was planned: the plan is of before that."""
    if new.planned_from is None:
        return
    row = await one(
        connection,
        "operation_ended_since",
        environment=new.environment,
        deployments=[item.deployment for item in new.operations],
        commit=new.commit,
        since=new.planned_from,
    )
    if row is not None:
        raise Conflict(
            f"recording a rollout of environment '{new.environment}': operation {row['id']} brought the same "
            "commit there while it was planned"
        )


async def supersede(
    connection: Connection,
    environment: str,
    commit: str,
    *,
    reason: str = "nothing is left to do",
    owner: str | None = None,
) -> int:
    """End what is under way for other commits, when a commit needs no rollout; gives how many.

    For a pass that finds nothing to do while an older rollout still waits, retries or runs.
    """
    async with changing(connection, f"superseding older rollouts of environment '{environment}'"):
        await lock_owned(connection, environment, owner)
        rows = await many(connection, "unfinished_operations", environment=environment)
        older = [
            row
            for row in rows
            if row["commit"] != commit and not row["superseded"] and row["state"] not in _STAYS
        ]
        if not older:
            return 0
        moved = await _supersede(connection, older, None, f"commit {commit[:12]} is newer: {reason}")
        await settle(connection, environment, moved)
        return len(older)


async def supersede_moved(
    connection: Connection, environment: str, commit: str, deployments: Sequence[str], *, owner: str | None
) -> int:
    """End what waits for approval where the state moved and nothing of the plan is left; gives how many."""
    async with changing(connection, f"ending plans that wait for approval in environment '{environment}'"):
        await lock_owned(connection, environment, owner)
        rows = await many(connection, "unfinished_operations", environment=environment)
        waits = OperationState.WAITING_FOR_APPROVAL.value
        gone = [
            row
            for row in rows
            if row["state"] == waits and row["commit"] == commit and row["deployment"] in deployments
        ]
        if gone:
            reason = "the state moved since it was planned, and nothing of the plan is left to be done"
            await settle(connection, environment, await _supersede(connection, gone, None, reason))
        return len(gone)


def _covers(row: Row, new: NewRollout, wanted: Mapping[str, NewOperation]) -> bool:
    """Whether an unfinished operation does already what one of the new ones would."""
    same = wanted.get(row["deployment"])
    if same is None or (row["commit"], row["scope"]) != (new.commit, new.scope) or row["superseded"]:
        return False
    if row["task"] != same.plan.get("task") or row["removes"] != new.removes:
        return False
    match OperationState(row["state"]):
        case OperationState.STOPPED | OperationState.REVERT_WINDOW | OperationState.REVERTING:
            return False
        case OperationState.WAITING_FOR_APPROVAL:
            return same.initial is OperationState.WAITING_FOR_APPROVAL and (
                same.plan_digest == row["plan_digest"]
            )
        case _:
            return True


def _is_replaced(row: Row, new: NewRollout, wanted: Collection[str]) -> bool:
    if row["deployment"] in wanted:
        return True
    return not new.narrowed and bool(row["commit"] != new.commit)


async def _supersede(
    connection: Connection, rows: Sequence[Row], rollout: int | None, reason: str
) -> list[Moved]:
    """Supersede what waits at once, and flag what is in flight for its worker."""
    flying = {row["id"] for row in rows if OperationState(row["state"]) in INTERRUPTIBLE}
    waiting = [row["id"] for row in rows if row["id"] not in flying]
    if flying:
        await run(connection, "flag_superseded", ids=sorted(flying), rollout=rollout)
    why = Why(reason=reason, superseded_by=rollout)
    return await move(connection, waiting, OperationEvent.SUPERSEDE, why)


async def _settle_holds(connection: Connection, new: NewRollout) -> None:
    """A new commit, or a person, ends the holds of the deployments."""
    deployments = [item.deployment for item in new.operations]
    if new.respect_holds:
        rows = await many(connection, "read_holds", environment=new.environment, commit=new.commit)
        held = {row["deployment"]: row["reason"] for row in rows if row["deployment"] in deployments}
        if held:
            named = "; ".join(f"{name}: {reason}" for name, reason in sorted(held.items()))
            raise Conflict(
                f"commit {new.commit[:12]} is held in environment '{new.environment}': {named}",
                hint="push a new commit, or retry the rollout",
            )
    await free_holds(
        connection, new.environment, deployments, commit=None, why=f"a new rollout ({new.reason})"
    )


async def _insert(connection: Connection, new: NewRollout) -> int:
    states = [item.initial for item in new.operations]
    row = await one(
        connection,
        "insert_rollout",
        environment=new.environment,
        source=new.source,
        commit=new.commit,
        scope=new.scope,
        state=derive(states, new.policy).value,
        ordering=str(new.policy.order),
        on_failure=str(new.policy.on_failure),
        max_parallel=new.policy.max_parallel,
        promotion=str(new.policy.promotion),
        reason=new.reason,
        requested_by=new.requested_by,
        allow_hazards=list(new.allow_hazards),
        wave_pause_s=new.wave_pause_s,
        removes=new.removes,
    )
    assert row is not None
    await run(connection, "note_attempt", environment=new.environment, commit=new.commit)
    await _insert_operations(connection, new, row["id"])
    names = ", ".join(f"'{item.deployment}'" for item in new.operations[:20])
    mark = "" if new.scope == FULL_SCOPE else f" ({new.scope})"
    event = NewEvent(
        kind="rollout.recorded",
        message=f"rollout {row['id']} to {new.commit[:12]}{mark} on {names} asked for by {new.requested_by}: "
        f"{new.reason}",
        environment=new.environment,
        rollout=row["id"],
        data={"commit": new.commit, "scope": new.scope, "operations": len(new.operations)},
    )
    await append_all(connection, [event])
    return int(row["id"])


async def _insert_operations(connection: Connection, new: NewRollout, rollout: int) -> None:
    """All operations with all their steps, in a statement for so many of them."""
    servers = sorted({item.server for item in new.operations if item.server is not None})
    if servers:
        await run(connection, "add_servers", names=servers)
    # Rollout order is wave by wave: what is first in it and not done holds all that follows.
    ordered = sorted(new.operations, key=lambda item: (item.wave, item.ordinal))
    for batch in _batches(list(enumerate(ordered)), STEPS_AT_ONCE):
        rows = await many(
            connection,
            "insert_operations",
            rollout=rollout,
            environment=new.environment,
            # One document: in an array of them, each quote of each plan would be escaped.
            operations=Jsonb([_as_row(ordinal, item) for ordinal, item in batch]),
        )
        numbers = {row["deployment"]: row["id"] for row in rows}
        await _insert_steps(
            connection, [(numbers[item.deployment], step) for _, item in batch for step in item.steps]
        )


def _as_row(ordinal: int, item: NewOperation) -> dict[str, Any]:
    return {
        "deployment": item.deployment,
        "ordinal": ordinal,
        "state": item.initial.value,
        "plan": item.plan,
        "plan_digest": item.plan_digest,
        "server": item.server,
        "wave": item.wave,
    }


def _batches(
    operations: Sequence[tuple[int, NewOperation]], steps: int
) -> Iterator[Sequence[tuple[int, NewOperation]]]:
    """The operations in order, so many at once as have `steps` together; a long one stands alone."""
    batch: list[tuple[int, NewOperation]] = []
    room = steps
    for operation in operations:
        size = len(operation[1].steps) + 1
        if batch and size > room:
            yield batch
            batch, room = [], steps
        batch.append(operation)
        room -= size
    if batch:
        yield batch


async def insert_steps(connection: Connection, operation: int, steps: Sequence[NewStep]) -> None:
    """The steps of an operation as rows, after those that stand there, in one statement."""
    await _insert_steps(connection, [(operation, step) for step in steps])


async def _insert_steps(connection: Connection, steps: Sequence[tuple[int, NewStep]]) -> None:
    if steps:
        await run(
            connection,
            "insert_steps",
            operations=[operation for operation, _ in steps],
            ids=[step.id for _, step in steps],
            ordinals=[step.ordinal for _, step in steps],
            stages=[step.stage for _, step in steps],
            kinds=[step.kind for _, step in steps],
            components=[step.component for _, step in steps],
            identities=[step.identity for _, step in steps],
        )
