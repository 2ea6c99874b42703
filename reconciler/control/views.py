"""Reads rollouts for people, each answer in a fixed number of queries and with bounds; it decides nothing."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from reconciler.control.sql import Row, at_once, key, many, one, telling
from reconciler.errors import NotFound
from reconciler.postgres.connection import Connection
from reconciler.rollout.outlook import Around, outlook, replaced_by
from reconciler.rollout.states import OperationState, RolloutState
from reconciler.rollout.status import (
    ApprovalStatus,
    OperationStatus,
    ParkedStatus,
    RequestStatus,
    RolloutStatus,
    StepStatus,
)
from reconciler.rollout.verbs import approval_digest

LIMIT_MAX = 200
"""Rollouts read at once, at most."""
LISTED_MAX = 100
"""Operations of each rollout in a list; the counts tell of all."""
OPERATIONS_MAX = 10_000
"""Operations of one rollout that is shown."""
STEPS_MAX = 20_000
"""Steps of one rollout that is shown; what failed and what is under way has its steps first."""
REQUESTS_MAX = 100
HAZARDS_MAX = 5_000

_INTERESTING = (OperationState.FAILED, OperationState.RUNNING, OperationState.RETRYING)
_Steps = dict[int, tuple[StepStatus, ...]]
_ReadSteps = Callable[[Connection, Sequence[Row], Mapping[int, Row]], Awaitable[_Steps]]
"""Gives the steps of operations, of which it is told how far they are."""


@dataclass(slots=True)
class _Ended:
    ordinals: set[int] = field(default_factory=set)
    newest: datetime | None = None


@dataclass(slots=True)
class StepsSeen:
    """The ended steps that one who follows a rollout was told of; it grows with each look."""

    ended: dict[int, _Ended] = field(default_factory=dict)

    def add(self, operation: int, step: StepStatus) -> None:
        """One was told."""
        known = self.ended.setdefault(operation, _Ended())
        known.ordinals.add(step.ordinal)
        if step.finished_at is not None:
            known.newest = max(known.newest or step.finished_at, step.finished_at)

    def places(self, operation: int) -> str:
        """Where those of an operation stand in its plan, as a multirange: mostly they stand in a row."""
        ordinals = self.ended[operation].ordinals if operation in self.ended else ()
        starts = sorted(number for number in ordinals if number - 1 not in ordinals)
        ends = sorted(number for number in ordinals if number + 1 not in ordinals)
        return "{" + ",".join(f"[{start},{end}]" for start, end in zip(starts, ends, strict=True)) + "}"


async def read_rollouts(
    connection: Connection, environment: str, limit: int = 20
) -> tuple[RolloutStatus, ...]:
    """The newest rollouts of an environment with their operations, without steps."""
    with telling(f"reading rollouts of environment '{environment}'"):
        rows = await many(
            connection,
            "read_rollouts",
            environment=environment,
            id=None,
            limit=min(max(limit, 0), LIMIT_MAX),
        )
        ids = [row["id"] for row in rows]
        operations = await many(connection, "read_operations", ids=ids, most=LISTED_MAX) if ids else []
        counts = await _counts(connection, ids)
    own: dict[int, list[OperationStatus]] = {}
    for row in operations:
        own.setdefault(row.pop("rollout"), []).append(_operation(row))
    return tuple(
        _rollout(
            row,
            operations=tuple(own.get(row["id"], ())),
            counts=counts.get(row["id"], {}),
            replaced_by=replaced_by(own.get(row["id"], ())),
        )
        for row in rows
    )


async def environment_of(connection: Connection, id: str) -> str:  # noqa: A002 - its name in the API
    """The environment of a rollout; NotFound where there is none."""
    number = key(id)
    with telling(f"reading rollout '{id}'"):
        row = await one(connection, "environment_of_rollout", id=number) if number is not None else None
    if row is None:
        raise _no_rollout(id)
    return str(row["environment"])


async def read_rollout(connection: Connection, id: str, *, steps: bool = True) -> RolloutStatus:  # noqa: A002 - its name in the API
    """One rollout with its operations, how far they are, what was asked of it and what it waits for.

    With `steps`, those of the operations too. NotFound where there is no such rollout.
    """
    return await _one(connection, id, _steps if steps else None)


async def read_progress(connection: Connection, id: str, seen: StepsSeen) -> RolloutStatus:  # noqa: A002 - its name in the API
    """The same for one who follows it: of its steps those that ended and that `seen` lacks, and then has."""
    return await _one(connection, id, partial(_ended_steps, seen))


async def _one(connection: Connection, id: str, read_steps: _ReadSteps | None) -> RolloutStatus:  # noqa: A002 - its name in the API
    number = key(id)
    async with at_once(connection, f"reading rollout '{id}'"):
        rows = (
            await many(connection, "read_rollouts", environment=None, id=number, limit=1)
            if number is not None
            else []
        )
        if not rows or number is None:
            raise _no_rollout(id)
        return await _whole(connection, rows[0], number, read_steps)


def _no_rollout(id_: str) -> NotFound:
    return NotFound(f"there is no rollout '{id_}'", hint="`reconciler history ENV` lists them")


async def _whole(
    connection: Connection, row: Row, number: int, read_steps: _ReadSteps | None
) -> RolloutStatus:
    found = await many(connection, "read_operations", ids=[number], most=OPERATIONS_MAX)
    ids = [one["id"] for one in found]
    progress = {item["operation"]: item for item in await many(connection, "count_steps", ids=ids)}
    own = await read_steps(connection, found, progress) if read_steps is not None else {}
    operations = tuple(
        _operation(item, progress.get(item["id"]), own.get(item["id"], ()))
        for item in found
        if item.pop("rollout") is not None
    )
    requests = await many(connection, "read_requests", rollout=number, limit=REQUESTS_MAX)
    approvals = await many(connection, "read_approvals", ids=ids)
    replaced = await many(connection, "read_replaced", rollout=number)
    around = await one(connection, "read_around", rollout=number)
    assert around is not None
    waiting = ((one.deployment, one.plan_digest) for one in operations if _waits(one))
    status = _rollout(
        row,
        operations=operations,
        counts=(await _counts(connection, [number])).get(number, {}),
        digest=approval_digest(waiting),
        replaces=tuple(str(item["rollout"]) for item in replaced),
        requests=tuple(RequestStatus(**item) for item in requests),
        approvals=tuple(ApprovalStatus(**item) for item in approvals),
    )
    return outlook(
        status,
        Around(
            suspended=around["suspended_reason"],
            orphaned=around["orphaned"],
            workers=around["workers"],
            now=around["now"],
            others={name: str(rollout) for name, rollout in around["others"].items()},
        ),
    )


def _waits(operation: OperationStatus) -> bool:
    return operation.state is OperationState.WAITING_FOR_APPROVAL


async def _counts(connection: Connection, ids: Sequence[int]) -> dict[int, dict[str, int]]:
    counts: dict[int, dict[str, int]] = {}
    for row in await many(connection, "count_states", ids=list(ids)) if ids else ():
        counts.setdefault(row["rollout"], {})[row["state"]] = row["operations"]
    return counts


async def _steps(connection: Connection, operations: Sequence[Row], progress: Mapping[int, Row]) -> _Steps:
    """The steps of as many operations as the bound allows, with the hazards that are agreed to."""
    ids = _fitting(operations, {number: row["total"] for number, row in progress.items()})
    hazards: dict[tuple[int, str], tuple[dict[str, str], ...]] = {
        (row["operation"], row["step"]): tuple(row["hazards"])
        for row in await many(connection, "read_hazards", ids=ids, limit=HAZARDS_MAX)
    }
    found: dict[int, list[StepStatus]] = {}
    for row in await many(connection, "read_steps", ids=ids):
        number = row.pop("operation")
        step = StepStatus(**row, hazards=hazards.get((number, row["id"]), ()))
        found.setdefault(number, []).append(step)
    return {number: tuple(steps) for number, steps in found.items()}


async def _ended_steps(
    seen: StepsSeen, connection: Connection, operations: Sequence[Row], progress: Mapping[int, Row]
) -> _Steps:
    """The steps that ended since the last look, of as many operations as the bound allows."""
    ids = _fitting(operations, {number: row["total"] for number, row in progress.items()})
    rows = await many(
        connection,
        "read_ended_steps",
        ids=ids,
        seen=[seen.places(number) for number in ids],
        newest=[seen.ended[number].newest if number in seen.ended else None for number in ids],
    )
    found: dict[int, list[StepStatus]] = {}
    for row in rows:
        number = row.pop("operation")
        step = StepStatus(**row)
        seen.add(number, step)
        found.setdefault(number, []).append(step)
    return {number: tuple(steps) for number, steps in found.items()}


def _fitting(operations: Sequence[Row], totals: Mapping[int, int]) -> list[int]:
    """The operations whose steps are shown: all, or the interesting ones first until it is enough."""
    ranked = sorted(
        operations,
        key=lambda row: (row["state"] not in _INTERESTING, row["finished_at"] is not None),
    )
    room, fitting = STEPS_MAX, []
    for row in ranked:
        room -= totals.get(row["id"], 0)
        if room < 0:
            break
        fitting.append(int(row["id"]))
    return fitting


def _rollout(row: Row, **more: Any) -> RolloutStatus:
    return RolloutStatus(**{**row, "id": str(row["id"]), "state": RolloutState(row["state"]), **more})


def _operation(row: Row, progress: Row | None = None, steps: Sequence[StepStatus] = ()) -> OperationStatus:
    told = (
        {
            "steps_total": progress["total"],
            "steps_done": progress["done"],
            "current": progress["current"],
            "current_since": progress["current_since"],
        }
        if progress is not None
        else {}
    )
    own = {
        **row,
        "id": str(row["id"]),
        "state": OperationState(row["state"]),
        "blocked": tuple(row["blocked"]),
        "parked": _parked(row["state"], row["parked"]),
    }
    return OperationStatus(**own, **told, steps=tuple(steps))


def _parked(state: str, row: Row | None) -> ParkedStatus | None:
    """What waits to go live; what only may have to is not told yet."""
    if row is None or state != OperationState.WAITING_FOR_PROMOTION.value:
        return None
    return ParkedStatus(
        component=row.get("component"),
        generation=row.get("generation"),
        since=datetime.fromisoformat(row["since"]),
    )
