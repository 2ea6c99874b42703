"""Settles what was left behind: rollouts without operations at work, operations, requests, steps and holds.

Nothing leaves such rows as long as every change of state is one transaction; a restored backup or a hand in
the tables may. What a living worker holds is never touched.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from psycopg.types.json import Jsonb

from reconciler.control.events import NewEvent, append_all
from reconciler.control.moves import Moved, Why, lock_environment, move
from reconciler.control.settle import policy_of, resolve, settle
from reconciler.control.sql import Row, changing, many, run, telling
from reconciler.frozen import frozen
from reconciler.postgres import lock
from reconciler.postgres.connection import Connection
from reconciler.rollout.states import OperationEvent, OperationState, RolloutState, targets
from reconciler.rollout.summary import derive

ROWS_MAX = 500
"""Rows of each sort that one repair looks at; what is left is there the next time."""
NEWEST = 200
"""Operations that are over whose steps are looked at."""
_LOCK = (1380206159, 0)
"""Session lock of whoever repairs, in the class of the workers' locks; these count from one."""


@frozen
class Repaired:
    """How many of each sort were settled."""

    rollouts: int = 0
    operations: int = 0
    requests: int = 0
    steps: int = 0
    holds: int = 0

    @property
    def counts(self) -> Mapping[str, int]:
        """Those that are not zero, by what they are."""
        found = {
            "rollout": self.rollouts,
            "operation": self.operations,
            "request": self.requests,
            "steps": self.steps,
            "hold": self.holds,
        }
        return {what: count for what, count in found.items() if count}

    def __add__(self, other: "Repaired") -> "Repaired":
        return Repaired(
            rollouts=self.rollouts + other.rollouts,
            operations=self.operations + other.operations,
            requests=self.requests + other.requests,
            steps=self.steps + other.steps,
            holds=self.holds + other.holds,
        )


@dataclass(slots=True)
class _Found:
    """What was left behind in one environment."""

    rollouts: list[int] = field(default_factory=list)
    operations: list[Row] = field(default_factory=list)
    requests: list[Row] = field(default_factory=list)
    steps: list[Row] = field(default_factory=list)
    holds: list[Row] = field(default_factory=list)


async def repair(connection: Connection) -> Repaired:
    """Settle what was left behind anywhere; nothing where somebody else is at it."""
    with telling("looking for what was left behind"):
        if not await lock.try_lock(connection, _LOCK):
            return Repaired()
        try:
            environments = await _stranded(connection)
        finally:
            await lock.unlock(connection, _LOCK)
    done = Repaired()
    for environment in environments:
        # Each looks again under the lock of the environment, so that two who repair do nothing twice.
        async with changing(connection, f"settling what was left behind in environment '{environment}'"):
            await lock_environment(connection, environment)
            done += await _repair(connection, environment)
    return done


async def _stranded(connection: Connection) -> list[str]:
    """Environments with something to settle; five reads of what is under way, however much is over."""
    wrong = await _settled_wrongly(connection)
    names = {row["environment"] for row in wrong}
    for query in ("left_behind", "left_unanswered", "left_held"):
        names |= {row["environment"] for row in await _left(connection, query, None)}
    rows = await many(connection, "left_running", environment=None, newest=NEWEST, limit=ROWS_MAX)
    return sorted(names | {row["environment"] for row in rows})


async def _left(connection: Connection, query: str, environment: str | None) -> list[Row]:
    return await many(connection, query, environment=environment, limit=ROWS_MAX)


async def _settled_wrongly(connection: Connection) -> list[Row]:
    rows = await many(connection, "settled_wrongly", limit=ROWS_MAX)
    return [row for row in rows if row["states"] and _derived(row) is not RolloutState(row["state"])]


def _derived(row: Row) -> RolloutState:
    states = [OperationState(state) for state in row["states"]]
    return derive(states, policy_of(row), released=row["released"])


async def _repair(connection: Connection, environment: str) -> Repaired:
    rows = await _settled_wrongly(connection)
    found = _Found(
        rollouts=[row["id"] for row in rows if row["environment"] == environment],
        operations=await _left(connection, "left_behind", environment),
        holds=await _left(connection, "left_held", environment),
        steps=await many(connection, "left_running", environment=environment, newest=NEWEST, limit=ROWS_MAX),
        requests=await _left(connection, "left_unanswered", environment),
    )
    await _free(connection, found.holds)
    if found.steps:
        await run(connection, "settle_steps", ids=[row["id"] for row in found.steps])
    moved = await _end(connection, found.operations)
    # Stops and cancels that have nobody to wait for are carried out by settling.
    asked = {row["rollout"] for row in found.requests}
    await append_all(connection, _events(environment, found, moved))
    await settle(connection, environment, moved, rollouts={*found.rollouts, *asked})
    for request in await _left(connection, "left_unanswered", environment):
        reason = "nobody carried it out, and nobody can any more; ask again where it is still wanted"
        await resolve(connection, request, state="failed", reason=reason)
    return Repaired(
        rollouts=len(found.rollouts),
        operations=len(moved),
        requests=len(found.requests),
        steps=len(found.steps),
        holds=len(found.holds),
    )


async def _end(connection: Connection, rows: Sequence[Row]) -> list[Moved]:
    """End what its rollout left behind as the rollout ended; where that was well, passes look again."""
    moved: list[Moved] = []
    for row in rows:
        state, over = OperationState(row["state"]), RolloutState(row["rollout_state"])
        halted = over in (RolloutState.FAILED, RolloutState.CANCELLED)
        wanted = OperationEvent.CANCEL if halted else OperationEvent.SUPERSEDE
        event = wanted if state in targets(wanted) else _last_way_out(state)
        reason = f"left behind as {state.value} by rollout {row['rollout']}, which is {over.value}"
        error = {"what": None, "where": None, "why": reason, "next": None, "sqlstate": None}
        fails = event is OperationEvent.FAIL
        why = Why(reason=reason, error=error if fails else None)
        moved += await move(connection, [row["id"]], event, why, lease_token=row["lease_token"])
    return moved


def _last_way_out(state: OperationState) -> OperationEvent:
    """The event that ends a state which cannot be cancelled: a switch that broke off failed."""
    ends = (OperationEvent.FAIL, OperationEvent.EXPIRE)
    return next(event for event in ends if state in targets(event))


async def _free(connection: Connection, holds: Sequence[Row]) -> None:
    if holds:
        named = [{key: row[key] for key in ("environment", "deployment", "commit")} for row in holds]
        await run(connection, "release_holds_of", holds=Jsonb(named))


def _events(environment: str, found: _Found, moved: Collection[Moved]) -> list[NewEvent]:
    events = [
        NewEvent(
            kind="rollout.repaired",
            message=f"rollout {number} was left behind by its operations, and is settled now",
            environment=environment,
            rollout=number,
        )
        for number in found.rollouts
    ]
    events += [
        NewEvent(
            kind="operation.repaired",
            message=f"operation {item.id} was {item.reason}, and is {item.after.value} now",
            environment=environment,
            deployment=item.deployment,
            rollout=item.rollout,
            operation=item.id,
        )
        for item in moved
    ]
    events += [
        NewEvent(
            kind="request.repaired",
            message=f"request {row['id']} to {row['verb']} rollout {row['rollout']} was left unanswered",
            environment=environment,
            deployment=row["deployment"],
            rollout=row["rollout"],
        )
        for row in found.requests
    ]
    events += [
        NewEvent(
            kind="steps.repaired",
            message=f"steps of operation {row['id']} looked as if they ran, and nobody is at it",
            environment=environment,
            deployment=row["deployment"],
            rollout=row["rollout"],
            operation=row["id"],
        )
        for row in found.steps
    ]
    events += [
        NewEvent(
            kind="hold.repaired",
            message=f"commit {row['commit'][:12]} was held for operation {row['operation']}, which goes on",
            environment=environment,
            deployment=row["deployment"],
            operation=row["operation"],
        )
        for row in found.holds
    ]
    return events
