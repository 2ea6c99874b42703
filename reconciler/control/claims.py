"""Claims operations for workers, and tells a claim what is asked of it; `rollout` decides what may start."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from psycopg import errors

from reconciler.control.events import NewEvent, append_all
from reconciler.control.settle import policy_of, read_wholes, settle
from reconciler.control.sql import CLAIMABLE_NAMES, IN_FLIGHT_NAMES, Row, changing, key, many, one, telling
from reconciler.control.wake import OPERATIONS_CHANNEL, notify
from reconciler.control.workers import Worker
from reconciler.errors import LeaseLost
from reconciler.postgres.connection import Connection
from reconciler.rollout.next import PASSED, SIDE_BY_SIDE, startable
from reconciler.rollout.states import IN_FLIGHT, OperationEvent, OperationState, advance
from reconciler.rollout.summary import AT_WORK, RolloutPolicy
from reconciler.rollout.verbs import INTERRUPTING

CANDIDATES_MAX = 20
"""Operations looked at per claim; a claim that finds none of them free gives up until the next poll."""

Interruption = Literal["cancel", "stop", "superseded"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to work on one operation; every write for it names `lease_token`.

    `first`: it was never claimed before, so its plan has to be checked against what is there. `approved`: the
    digest of the plan that a person agreed to, where somebody had to.
    """

    operation: str
    rollout: str
    environment: str
    source: str
    deployment: str
    commit: str
    scope: str
    plan: dict[str, Any]
    plan_digest: str
    attempts: int
    first: bool
    lease_token: int
    policy: RolloutPolicy
    allow_hazards: tuple[str, ...]
    approved: str | None = None


async def claim(
    connection: Connection,
    worker: Worker,
    *,
    lease_s: float,
    only_rollout: str | None = None,
    crowded: Collection[str] = (),
) -> Claim | None:
    """Claim an operation of the worker's sources, or None where there is none to be had.

    Environments take turns, and `crowded` ones get none. One that another worker is just claiming from is
    left for a second look.
    """
    rollout = key(only_rollout) if only_rollout is not None else None
    if only_rollout is not None and rollout is None:
        return None
    doing = f"claiming an operation for worker '{worker.name}'"
    with telling(doing):
        if await one(connection, "extend_lease", worker=worker.id, lease_s=float(lease_s)) is None:
            raise LeaseLost(f"worker '{worker.name}' is not registered any more")
        candidates = await _candidates(connection, worker, rollout, crowded)
    busy: list[Row] = []
    for candidate in candidates:
        async with changing(connection, doing):
            free = await one(connection, "try_lock_environment", environment=candidate["environment"])
            if free is None:
                busy.append(candidate)
                continue
            taken = await _take(connection, worker, candidate, is_open=free["is_open"])
        if taken is not None:
            return taken
    for candidate in busy:
        async with changing(connection, doing):
            row = await one(connection, "lock_environment", environment=candidate["environment"])
            taken = await _take(connection, worker, candidate, is_open=row is not None and row["is_open"])
        if taken is not None:
            return taken
    return None


async def _candidates(
    connection: Connection, worker: Worker, rollout: int | None, crowded: Collection[str]
) -> list[Row]:
    return await many(
        connection,
        "candidates",
        sources=sorted(worker.sources),
        crowded=sorted(crowded),
        rollout=rollout,
        in_flight=IN_FLIGHT_NAMES,
        claimable=CLAIMABLE_NAMES,
        at_work=sorted(state.value for state in AT_WORK),
        passed=sorted(state.value for state in PASSED),
        side_by_side=sorted(order.value for order in SIDE_BY_SIDE),
        limit=CANDIDATES_MAX,
    )


async def _take(connection: Connection, worker: Worker, candidate: Row, *, is_open: bool) -> Claim | None:
    """Take a candidate under the lock of its environment, if it still is one."""
    before = OperationState(candidate["state"])
    resumed = before in IN_FLIGHT
    if not is_open and not resumed:
        return None
    if before is OperationState.PENDING and not await _may_start(connection, candidate):
        return None
    try:
        async with connection.transaction():
            row = await one(
                connection,
                "claim_operation",
                id=candidate["id"],
                before=before.value,
                after=_after(before, candidate["resumes_as"]).value,
                lease_token=candidate["lease_token"],
                worker=worker.id,
                cost=0 if resumed else 1,
            )
    except errors.UniqueViolation:
        # Another operation of the deployment came into flight since the candidates were read.
        return None
    if row is None:
        return None
    await _tell(connection, worker, row, resumed=resumed)
    await settle(connection, row["environment"], rollouts=[int(row["rollout"])])
    return _claim(row, first=candidate["first"])


async def _may_start(connection: Connection, candidate: Row) -> bool:
    wholes = await read_wholes(connection, [candidate["rollout"]])
    names = {member.id: member.deployment for whole in wholes for member in whole.members}
    return any(
        names[candidate["id"]] in startable(whole.named, whole.policy, released=whole.released)
        for whole in wholes
    )


def _after(before: OperationState, resumes_as: str | None) -> OperationState:
    """Where a claim leads: one in flight stays what it is, one that was going back goes on going back."""
    if before in IN_FLIGHT:
        return before
    back = resumes_as == OperationState.REVERTING.value
    return advance(before, OperationEvent.CLAIM_REVERTING if back else OperationEvent.CLAIM)


async def _tell(connection: Connection, worker: Worker, row: Row, *, resumed: bool) -> None:
    what = "resumed from a worker that is gone" if resumed else f"claimed (attempt {row['attempts']})"
    event = NewEvent(
        kind="operation.resumed" if resumed else "operation.claimed",
        message=f"operation {row['operation']} on '{row['deployment']}' {what} by worker '{worker.name}'",
        environment=row["environment"],
        deployment=row["deployment"],
        rollout=int(row["rollout"]),
        operation=int(row["operation"]),
        data={"worker": worker.name, "attempts": row["attempts"], "lease_token": row["lease_token"]},
    )
    await append_all(connection, [event])


def _claim(row: Row, *, first: bool) -> Claim:
    return Claim(
        operation=row["operation"],
        rollout=row["rollout"],
        environment=row["environment"],
        source=row["source"],
        deployment=row["deployment"],
        commit=row["commit"],
        scope=row["scope"],
        plan=row["plan"],
        plan_digest=row["plan_digest"],
        attempts=row["attempts"],
        first=first,
        lease_token=row["lease_token"],
        policy=policy_of(row),
        allow_hazards=tuple(row["allow_hazards"]),
        approved=row["approved"],
    )


async def hand_back(connection: Connection, claim: Claim, reason: str = "") -> None:
    """Let any worker resume the operation at once; LeaseLost where it is another's already."""
    async with changing(connection, f"handing back operation {claim.operation}"):
        row = await one(connection, "hand_back", id=int(claim.operation), lease_token=claim.lease_token)
        if row is None:
            raise lease_lost(claim)
        event = NewEvent(
            kind="operation.handed_back",
            message=f"operation {claim.operation} on '{claim.deployment}' was handed back"
            + (f": {reason}" if reason else ""),
            environment=claim.environment,
            deployment=claim.deployment,
            rollout=int(claim.rollout),
            operation=int(claim.operation),
        )
        await append_all(connection, [event])
        await notify(connection, OPERATIONS_CHANNEL, claim.environment)


async def interruption(connection: Connection, claim: Claim) -> Interruption | None:
    """What is asked of the operation, the strongest first; LeaseLost where it is another's."""
    found = await interruptions(connection, [claim])
    if claim.operation not in found:
        raise lease_lost(claim)
    return found[claim.operation]


async def interruptions(connection: Connection, held: Collection[Claim]) -> Mapping[str, Interruption | None]:
    """What is asked of each operation, the strongest first; one that is another's is not in it."""
    with telling(f"looking what is asked of {len(held)} operations"):
        rows = await many(
            connection,
            "interruptions",
            ids=[int(claim.operation) for claim in held],
            lease_tokens=[claim.lease_token for claim in held],
        )
    return {row["operation"]: _strongest(row["verbs"] or (), superseded=row["superseded"]) for row in rows}


def _strongest(asked: Collection[str], *, superseded: bool) -> Interruption | None:
    for verb in INTERRUPTING:
        if verb.value in asked:
            return "stop" if verb.value == "stop" else "cancel"
    return "superseded" if superseded else None


def lease_lost(claim: Claim) -> LeaseLost:
    """The error that ends all work on a claim."""
    return LeaseLost(
        f"operation {claim.operation} on '{claim.deployment}' of environment '{claim.environment}' "
        "belongs to another worker now",
        hint="nothing more is written for it here",
    )
