"""Claims operations for workers, and tells a claim what is asked of it; `rollout` decides what may start."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from psycopg import errors
from psycopg.types.json import Jsonb

from reconciler.control.events import NewEvent, append_all
from reconciler.control.moves import Moved
from reconciler.control.settle import policy_of, settle
from reconciler.control.sql import (
    AT_WORK_NAMES,
    CLAIMABLE_NAMES,
    IN_FLIGHT_NAMES,
    PASSED_NAMES,
    STAGED_NAMES,
    UNSUCCESSFUL_NAMES,
    Row,
    changing,
    key,
    many,
    one,
    run,
    telling,
)
from reconciler.control.wake import OPERATIONS_CHANNEL, notify
from reconciler.control.windows import close_windows
from reconciler.control.workers import Worker
from reconciler.errors import LeaseLost, ReconcilerError
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection
from reconciler.rollout.next import SIDE_BY_SIDE, Brief, may_promote, may_start, shared_out
from reconciler.rollout.states import OperationEvent, OperationState, RolloutState, targets
from reconciler.rollout.summary import Order, Promotion, RolloutPolicy
from reconciler.rollout.verbs import INTERRUPTING

CANDIDATES_MAX = 20
"""Environments looked at per claim; a claim that finds nothing free in them gives up until the next poll."""
PER_SERVER = 16
"""Operations in flight on one server, at most, where nobody says otherwise."""
SUSPECT_CRASHES = 2
"""Workers that died in a row at an operation, from when on no worker resumes it beside others like it."""
SIDE_BY_SIDE_NAMES = sorted(order.value for order in SIDE_BY_SIDE)

_ON = {
    before.value: after.value
    for event in (OperationEvent.CLAIM, OperationEvent.PROMOTE)
    for before, after in targets(event).items()
}
_BACK = {before.value: after.value for before, after in targets(OperationEvent.CLAIM_REVERTING).items()}
"""Where a claim leads; one that was going back goes on going back, one in flight stays what it is."""
_PARKED = OperationState.WAITING_FOR_PROMOTION.value
_AT_WORK_ROLLOUT = {RolloutState.RUNNING.value, RolloutState.RUNNING_DEGRADED.value}

Interruption = Literal["cancel", "stop", "superseded"]


@frozen
class Claim:
    """The right to work on one operation; every write for it names `lease_token`.

    `plan_text` is the recorded plan, which may be long; of it, `blocked` is what cannot be done. `first`: it
    was never claimed before, so its plan has to be checked against what is there. `approved`: the digest of
    the plan that a person agreed to, where somebody had to. `waits`: how often in a row it gave its worker
    back because another was at work in its database. `crashes`: how often in a row a worker died at it while
    no step got done; `crashed_at`, at which step that was; `crashed_alone`, whether one of them had nothing
    else in hand.
    """

    operation: str
    rollout: str
    environment: str
    source: str
    deployment: str
    commit: str
    scope: str
    plan_text: str
    plan_digest: str
    blocked: tuple[str, ...]
    attempts: int
    first: bool
    lease_token: int
    state: OperationState = OperationState.RUNNING
    waits: int = 0
    crashes: int = 0
    crashed_at: str | None = None
    crashed_alone: bool = False
    policy: RolloutPolicy
    allow_hazards: tuple[str, ...]
    approved: str | None = None

    def plan(self) -> dict[str, Any]:
        """The recorded plan as a JSON value, made anew each time: it is not kept while the operation runs."""
        found: dict[str, Any] = json.loads(self.plan_text)
        return found


async def claim(
    connection: Connection,
    worker: Worker,
    *,
    lease_s: float,
    only_rollout: str | None = None,
    crowded: Collection[str] = (),
    per_server: int = PER_SERVER,
) -> Claim | None:
    """Claim an operation of the worker's sources, or None where there is none to be had."""
    found = await claim_many(
        connection,
        worker,
        room=1,
        lease_s=lease_s,
        only_rollout=only_rollout,
        crowded=crowded,
        per_server=per_server,
    )
    return found[0] if found else None


async def claim_many(
    connection: Connection,
    worker: Worker,
    *,
    room: int,
    lease_s: float,
    only_rollout: str | None = None,
    crowded: Collection[str] = (),
    per_server: int = PER_SERVER,
) -> list[Claim]:
    """Claim operations of the worker's sources, `room` of them at most; none where there are none to be had.

    Environments take turns, and `crowded` ones get none. One that another worker is just claiming from is
    left for a second look. No server gets more than `per_server` operations at once, whoever claims them.
    A place whose operation was taken meanwhile stays free: who wants more asks again.
    """
    rollout = key(only_rollout) if only_rollout is not None else None
    if room <= 0 or (only_rollout is not None and rollout is None):
        return []
    doing = f"claiming operations for worker '{worker.name}'"
    with telling(doing):
        alive = await one(connection, "extend_lease", worker=worker.id, lease_s=float(lease_s))
        if alive is None:
            raise LeaseLost(f"worker '{worker.name}' is not registered any more, or its session is gone")
        candidates = await _candidates(connection, worker, rollout, crowded)
        if alive["has_parked"]:
            candidates = _merged(
                candidates, await _candidates_to_promote(connection, worker, rollout, crowded)
            )
    loads = {row["environment"]: row["operations"] for row in candidates}
    taken: list[Claim] = []
    busy: list[Row] = []
    for again in (False, True):
        for row in busy if again else candidates:
            share = shared_out(room - len(taken), loads).get(row["environment"], 0)
            if not share:
                continue
            wanted = _Wanted(worker=worker, candidate=row, room=share, per_server=per_server)
            found = await _take(connection, wanted, doing, wait=again)
            if found is None:
                busy.append(row)
                continue
            taken += found
            del loads[row["environment"]]
    return taken


async def _candidates(
    connection: Connection, worker: Worker, rollout: int | None, crowded: Collection[str]
) -> list[Row]:
    return await many(
        connection,
        "candidates",
        sources=sorted(worker.sources),
        crowded=sorted(crowded),
        rollout=rollout,
        at_work=AT_WORK_NAMES,
        passed=PASSED_NAMES,
        side_by_side=SIDE_BY_SIDE_NAMES,
        limit=CANDIDATES_MAX,
    )


async def _candidates_to_promote(
    connection: Connection, worker: Worker, rollout: int | None, crowded: Collection[str]
) -> list[Row]:
    return await many(
        connection,
        "candidates_to_promote",
        sources=sorted(worker.sources),
        crowded=sorted(crowded),
        rollout=rollout,
        at_work=AT_WORK_NAMES,
        passed=PASSED_NAMES,
        staged=STAGED_NAMES,
        unsuccessful=UNSUCCESSFUL_NAMES,
        barrier=Order.BARRIER.value,
        auto=Promotion.AUTO.value,
        limit=CANDIDATES_MAX,
    )


def _merged(candidates: Sequence[Row], to_promote: Sequence[Row]) -> list[Row]:
    """Environments of both sorts, each once with all of its rollouts, the least busy first."""
    found: dict[str, Row] = {row["environment"]: {**row, "has_parked": False} for row in candidates}
    for row in to_promote:
        before = found.get(row["environment"], row)
        rollouts = sorted({*before["rollouts"], *row["rollouts"]})
        found[row["environment"]] = {**before, "rollouts": rollouts, "has_parked": True}
    return sorted(found.values(), key=lambda row: (row["operations"], row["rollouts"][0]))[:CANDIDATES_MAX]


@frozen
class _Wanted:
    """What is to be claimed of one environment: as many as there is room for."""

    worker: Worker
    candidate: Row
    room: int
    per_server: int


async def _take(connection: Connection, wanted: _Wanted, doing: str, *, wait: bool) -> list[Claim] | None:
    """Take what may be taken of an environment, under its lock; None where another is at it just now."""
    environment = wanted.candidate["environment"]
    try:
        async with changing(connection, doing):
            lock = "lock_environment" if wait else "try_lock_environment"
            free = await one(connection, lock, environment=environment)
            if free is None:
                return [] if wait else None
            return await _take_locked(connection, wanted, is_open=free["is_open"])
    except ReconcilerError as error:
        if isinstance(error.__cause__, errors.UniqueViolation):
            # Another operation of the deployment came into flight since.
            return []
        raise


async def _take_locked(connection: Connection, wanted: _Wanted, *, is_open: bool) -> list[Claim]:
    rows = await many(
        connection,
        "claimable",
        environment=wanted.candidate["environment"],
        rollouts=wanted.candidate["rollouts"],
        worker=wanted.worker.id,
        is_open=is_open,
        at_work=AT_WORK_NAMES,
        passed=PASSED_NAMES,
        per_server=wanted.per_server,
        suspect=SUSPECT_CRASHES,
        limit=wanted.room,
    )
    parked = await _parked(connection, wanted) if wanted.candidate.get("has_parked") else {}
    taken: list[Claim] = []
    for row in rows:
        room = wanted.room - len(taken)
        ids = _chosen(row, parked.get(row["id"]), is_open=is_open)[:room]
        if not ids:
            continue
        claimed = await _claim_rows(connection, wanted, ids)
        await _tell(connection, wanted.worker, claimed)
        closed = await _close_windows(connection, wanted.candidate["environment"], claimed)
        if closed or _changes_rollout(row, claimed):
            environment = wanted.candidate["environment"]
            await settle(connection, environment, closed, rollouts=[row["id"]], quiet=True)
        taken += [_claim(item) for item in claimed]
    return taken


async def _close_windows(connection: Connection, environment: str, claimed: Sequence[Row]) -> list[Moved]:
    """Close what older operations could go back to, where one begins to promote."""
    promoting = {row["deployment"]: int(row["operation"]) for row in claimed if row["before"] == _PARKED}
    if not promoting:
        return []
    return await close_windows(connection, environment, promoting, by=promoting.values())


async def _parked(connection: Connection, wanted: _Wanted) -> dict[int, Row]:
    """What waits for its promotion, by rollout."""
    rows = await many(
        connection,
        "claimable_parked",
        environment=wanted.candidate["environment"],
        rollouts=wanted.candidate["rollouts"],
        passed=PASSED_NAMES,
        staged=STAGED_NAMES,
        barrier=Order.BARRIER.value,
        per_server=wanted.per_server,
        limit=wanted.room,
    )
    return {row["id"]: row for row in rows}


def _chosen(row: Row, parked: Row | None, *, is_open: bool) -> list[int]:
    """The operations of a rollout to take, the most urgent first; `rollout.next` says which may start."""
    if not is_open:
        return list(row["strays"])
    first = row["first_open"]
    found = Brief(
        states=frozenset(OperationState(state) for state in row["states"]),
        at_work=row["at_work"],
        first_open=(str(first[0]), OperationState(first[1])) if first is not None else None,
        pending=tuple(str(number) for number in row["pending"]),
        rests=row["rests"],
    )
    if parked is not None:
        found = replace(
            found,
            # Numbers go up in rollout order; those that somebody let go may stand behind many that wait.
            parked=tuple(str(number) for number in sorted({*parked["parked"], *parked["granted"]})),
            granted=frozenset(str(number) for number in parked["granted"]),
            unstaged=parked["unstaged"],
        )
    promoting = may_promote(found, policy_of(row), released=row["released"])
    # What is staged goes before what is not: it takes little time, and its place is free again.
    left = replace(found, at_work=found.at_work + len(promoting))
    starting = may_start(left, policy_of(row), released=row["released"])
    return [*row["strays"], *row["due"], *(int(number) for number in (*promoting, *starting))]


async def _claim_rows(connection: Connection, wanted: _Wanted, ids: Sequence[int]) -> list[Row]:
    await run(connection, "lock_servers", ids=ids)
    rows = await many(
        connection,
        "claim_operations",
        ids=list(ids),
        worker=wanted.worker.id,
        in_flight=IN_FLIGHT_NAMES,
        claimable=[*CLAIMABLE_NAMES, _PARKED],
        on=Jsonb(_ON),
        back=Jsonb(_BACK),
        per_server=wanted.per_server,
        suspect=SUSPECT_CRASHES,
    )
    place = {str(number): index for index, number in enumerate(ids)}
    return sorted(rows, key=lambda row: place[row["operation"]])


def _changes_rollout(row: Row, claimed: Sequence[Row]) -> bool:
    """Whether the state of the rollout may be another one once these are at work."""
    if row["state"] not in _AT_WORK_ROLLOUT:
        return bool(claimed)
    return any(item["before"] != OperationState.PENDING.value for item in claimed)


async def _tell(connection: Connection, worker: Worker, claimed: Sequence[Row]) -> None:
    events = []
    for row in claimed:
        resumed = row["is_stray"]
        what = "resumed from a worker that is gone" if resumed else f"claimed (attempt {row['attempts']})"
        what = "claimed to promote" if row["before"] == _PARKED else what
        what += f", for the {row['crashes']}. time in a row" if row["crashes"] > 1 else ""
        events.append(
            NewEvent(
                kind=_kind(row),
                message=f"operation {row['operation']} on '{row['deployment']}' {what} "
                f"by worker '{worker.name}'",
                environment=row["environment"],
                deployment=row["deployment"],
                rollout=int(row["rollout"]),
                operation=int(row["operation"]),
                data={
                    "worker": worker.name,
                    "attempts": row["attempts"],
                    "before": row["before"],
                    "after": row["after"],
                    "lease_token": row["lease_token"],
                    "crashes": row["crashes"],
                },
            )
        )
    await append_all(connection, events)


def _kind(row: Row) -> str:
    if row["before"] == _PARKED:
        return "operation.promoting"
    return "operation.resumed" if row["is_stray"] else "operation.claimed"


def _claim(row: Row) -> Claim:
    return Claim(
        operation=row["operation"],
        rollout=row["rollout"],
        environment=row["environment"],
        source=row["source"],
        deployment=row["deployment"],
        commit=row["commit"],
        scope=row["scope"],
        plan_text=row["plan_text"],
        plan_digest=row["plan_digest"],
        blocked=tuple(row["blocked"]),
        attempts=row["attempts"],
        waits=row["waits"],
        crashes=row["crashes"],
        crashed_at=row["crashed_at"],
        crashed_alone=row["crashed_alone"],
        first=row["first"],
        lease_token=row["lease_token"],
        state=OperationState(row["after"]),
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
