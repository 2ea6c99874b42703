"""Lets operations promote, and notes what they made live; `rollout.next` says whose turn it is.

Nothing here touches a managed database.
"""

from datetime import datetime

from psycopg.types.json import Jsonb

from reconciler.control.claims import Claim, lease_lost
from reconciler.control.moves import Moved, Why, lock_environment, move
from reconciler.control.settle import policy_of, settle
from reconciler.control.sql import PASSED_NAMES, STAGED_NAMES, Row, changing, many, one, run, telling
from reconciler.control.windows import close_windows
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection
from reconciler.rollout.next import Brief, may_promote
from reconciler.rollout.states import OperationEvent, OperationState, advance
from reconciler.rollout.summary import Order, Promotion

_S = OperationState
_E = OperationEvent


@frozen
class Promoted:
    """A generation that an operation made live; `retained_until`: how long what it displaced is kept."""

    server: str
    database: str
    component: str
    generation: str
    promoted_at: datetime
    retained_until: datetime | None


async def begin_promotion(connection: Connection, claim: Claim, *, component: str, generation: str) -> bool:
    """Take the operation to `promoting` if it may go live now; False: park it, with the event PARK.

    True too where it is promoting already. Between this and `promoted` nothing ends the operation but its
    switch: no stop, no cancel and nothing newer is told to it, and no safe point is to be obeyed. One that is
    to stop, or to make place, is told False, and ends as it parks. LeaseLost where it is another's.
    """
    async with changing(connection, f"asking whether operation {claim.operation} may promote"):
        await lock_environment(connection, claim.environment)
        row = await _brief(connection, claim)
        may = _may(row, generation)
        if row["state"] == _S.PROMOTING:
            if not _was_let_go(row, generation):
                # What somebody let go is not what there is by now: it waits again, for this one.
                await _back(connection, claim, "what is staged is not what was let go live")
                await _note(connection, claim, component, generation)
                return False
            return True
        await run(
            connection,
            "own_generation",
            operation=row["id"],
            environment=row["environment"],
            deployment=row["deployment"],
            component=component,
            generation=generation,
        )
        if not may:
            await _note(connection, claim, component, generation)
            return False
        await _begin(connection, claim, row, component, generation)
        return True


async def note_staging(
    connection: Connection, claim: Claim, *, component: str, generation: str, server: str, database: str
) -> None:
    """Note that a generation is about to be made, before its first statement; LeaseLost as everywhere."""
    await _under_lease(
        connection,
        claim,
        "note_staging",
        component=component,
        generation=generation,
        server=server,
        database=database,
    )


async def discarded(
    connection: Connection, claim: Claim, *, component: str, generation: str, database: str
) -> None:
    """Note that nothing of a generation is left."""
    await _under_lease(
        connection,
        claim,
        "forget_generation",
        component=component,
        generation=generation,
        database=database,
    )


async def promoted(
    connection: Connection,
    claim: Claim,
    *,
    component: str,
    generation: str,
    database: str,
    retained_until: datetime | None,
) -> None:
    """Note that a generation is live, and take the operation back to `running` for what is left of it.

    Saying it again changes nothing: an operation that runs already stays as it is.
    """
    async with changing(connection, f"noting what operation {claim.operation} made live"):
        await lock_environment(connection, claim.environment)
        row = await one(
            connection,
            "note_live",
            operation=int(claim.operation),
            lease_token=claim.lease_token,
            component=component,
            generation=generation,
            database=database,
            retained_until=retained_until,
        )
        if row is None:
            raise lease_lost(claim)
        await _back(connection, claim, f"'{component}' is live ({generation})")


async def reverted(
    connection: Connection, claim: Claim, *, component: str, generation: str, database: str
) -> None:
    """Note that a generation is live no more; what stands of it is removed by upkeep."""
    await _under_lease(
        connection, claim, "note_reverted", component=component, generation=generation, database=database
    )


async def promoted_by(connection: Connection, operation: str) -> tuple[Promoted, ...]:
    """What an operation made live and did not take back, the newest first."""
    with telling(f"reading what operation {operation} made live"):
        rows = await many(connection, "promoted_by", operation=int(operation))
    return tuple(Promoted(**row) for row in rows)


async def revert_window(connection: Connection, operation: str) -> datetime | None:
    """Until when what an operation made live can be taken back; None where it cannot: then it is done."""
    with telling(f"reading what operation {operation} may take back"):
        row = await one(connection, "window_of", operation=int(operation))
    return row["revert_until"] if row is not None else None


async def _under_lease(connection: Connection, claim: Claim, query: str, **what: str) -> None:
    with telling(f"noting the generations of operation {claim.operation}"):
        row = await one(
            connection, query, operation=int(claim.operation), lease_token=claim.lease_token, **what
        )
    if row is None:
        raise lease_lost(claim)


async def _brief(connection: Connection, claim: Claim) -> Row:
    row = await one(
        connection,
        "promotion_brief",
        operation=int(claim.operation),
        lease_token=claim.lease_token,
        barrier=Order.BARRIER.value,
        passed=PASSED_NAMES,
        staged=STAGED_NAMES,
    )
    if row is None:
        raise lease_lost(claim)
    return row


def _may(row: Row, generation: str) -> bool:
    """Whether it may go live now; it has its place already, and is at its promotion as good as parked."""
    if row["is_to_end"]:
        return False
    me = str(row["id"])
    first = row["first_open"] == row["id"]
    found = Brief(
        states=frozenset(_S(state) for state in row["states"]),
        at_work=0,
        first_open=(me, _S.WAITING_FOR_PROMOTION) if first else (str(row["first_open"]), _S.RUNNING),
        pending=(),
        parked=(me,),
        granted=frozenset({me}) if generation in row["granted"] else frozenset(),
        unstaged=row["is_unstaged"],
    )
    return bool(may_promote(found, policy_of(row), released=row["released"]))


def _was_let_go(row: Row, generation: str) -> bool:
    return row["promotion"] == Promotion.AUTO or generation in row["granted"]


async def _note(connection: Connection, claim: Claim, component: str, generation: str) -> None:
    parked = Jsonb({"component": component, "generation": generation})
    row = await one(
        connection,
        "note_parked",
        operation=int(claim.operation),
        lease_token=claim.lease_token,
        parked=parked,
    )
    if row is None:
        raise lease_lost(claim)


async def _begin(connection: Connection, claim: Claim, row: Row, component: str, generation: str) -> None:
    """Move it on in one statement, and write down both moves that this is."""
    before = _S(row["state"])
    between = advance(before, _E.PARK)
    after = advance(between, _E.PROMOTE)
    taken = await one(
        connection,
        "begin_promotion",
        operation=row["id"],
        lease_token=claim.lease_token,
        before=before.value,
        after=after.value,
        generation=generation,
    )
    if taken is None:
        raise lease_lost(claim)
    reason = f"'{component}' is staged and ready ({generation})"
    moved = [_moved(claim, row, steps, reason) for steps in ((before, between), (between, after))]
    closed = await close_windows(connection, claim.environment, [claim.deployment], by=[row["id"]])
    await settle(connection, claim.environment, [*moved, *closed], quiet=True)


def _moved(claim: Claim, row: Row, states: tuple[OperationState, OperationState], reason: str) -> Moved:
    return Moved(
        id=row["id"],
        rollout=row["rollout"],
        environment=claim.environment,
        deployment=claim.deployment,
        commit=row["commit"],
        scope=claim.scope,
        before=states[0],
        after=states[1],
        reason=reason,
        error=None,
        attempts=row["attempts"],
        next_attempt_at=None,
        whole=False,
    )


async def _back(connection: Connection, claim: Claim, reason: str) -> None:
    """From `promoting` back to `running`; one that runs already stays as it is."""
    why = Why(reason=reason)
    moved = await move(connection, [int(claim.operation)], _E.RESUME, why, lease_token=claim.lease_token)
    if moved:
        await settle(connection, claim.environment, moved, quiet=True)
