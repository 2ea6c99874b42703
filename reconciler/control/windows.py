"""Revert windows: how they end, and how an operation begins to go back; what is kept is for upkeep.

Callers hold the lock of the environment, but for `expire_windows`.
"""

from collections.abc import Collection, Sequence

from reconciler.control.moves import Moved, Why, lock_environment, move
from reconciler.control.settle import settle
from reconciler.control.sql import changing, many, telling
from reconciler.postgres.connection import Connection
from reconciler.rollout.states import OperationEvent, OperationState

ENVIRONMENTS_MAX = 100
"""Environments whose windows are closed by one look; what is left is there the next time."""


async def close_windows(
    connection: Connection, environment: str, deployments: Collection[str], *, by: Collection[int]
) -> list[Moved]:
    """Close the windows of deployments on which other operations begin to promote; the caller settles."""
    rows = await many(
        connection, "windows_of", environment=environment, deployments=sorted(deployments), but=sorted(by)
    )
    named = ", ".join(str(number) for number in sorted(by))
    why = Why(reason=f"operation {named} promotes, and what it displaces is kept instead")
    return await move(connection, [row["id"] for row in rows], OperationEvent.CLOSE_REVERT_WINDOW, why)


async def expire_windows(connection: Connection) -> int:
    """End the windows whose time is over, anywhere; gives how many."""
    with telling("looking for revert windows that are over"):
        rows = await many(connection, "windows_over", limit=ENVIRONMENTS_MAX)
    done = 0
    for row in rows:
        environment = row["environment"]
        async with changing(connection, f"ending revert windows of environment '{environment}'"):
            await lock_environment(connection, environment)
            why = Why(reason="its revert window is over")
            moved = await move(connection, row["operations"], OperationEvent.EXPIRE, why)
            if moved:
                await settle(connection, environment, moved)
            done += len(moved)
    return done


async def begin_reverting(connection: Connection, operations: Sequence[int], reason: str) -> list[Moved]:
    """Bring operations in their window to `reverting`, for whoever claims them first; the caller settles.

    What is at work on the same deployment, or out of its window by now, stays as it is.
    """
    rows = await many(connection, "begin_reverting", ids=list(operations), reason=reason)
    return [
        Moved(**{**row, "before": OperationState(row["before"]), "after": OperationState(row["after"])})
        for row in rows
    ]
