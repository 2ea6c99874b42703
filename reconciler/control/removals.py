"""Environments that left their source and are removed by a person: noted, and when that is over."""

from reconciler.control.events import NewEvent, append_all
from reconciler.control.moves import lock_environment
from reconciler.control.sql import changing, one, run, telling
from reconciler.errors import Conflict
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection


@frozen
class RemovalGround:
    """What is known of an environment that is to be removed; `commit` is the last one known to have it."""

    source: str
    commit: str | None
    orphaned: bool
    removing: bool
    removed: bool


async def read_ground(connection: Connection, environment: str) -> RemovalGround | None:
    """What is known of it; None where nobody ever heard of it."""
    with telling(f"looking at environment '{environment}'"):
        row = await one(connection, "removal_ground", environment=environment)
    if row is None:
        return None
    return RemovalGround(
        source=row["source"],
        commit=row["observed_commit"] or row["applied_commit"],
        orphaned=row["orphaned"],
        removing=row["removing"],
        removed=row["removed"],
    )


async def begin(connection: Connection, environment: str) -> None:
    """Open it to the rollout that is about to be recorded; inside the transaction that records it."""
    if await one(connection, "begin_removal", environment=environment) is None:
        raise Conflict(
            f"removing environment '{environment}': its source declares it again",
            hint="take it out of the source first",
        )


async def end(connection: Connection, environment: str, *, done: bool) -> None:
    """Close it again; inside the transaction that ended the rollout."""
    row = await one(connection, "end_removal", environment=environment, done=done)
    if row is not None and row["removed"]:
        await run(connection, "forget_schedules", environment=environment, deployments=[], components=[])
        await append_all(connection, [_gone(environment, "what it deployed is removed")])


async def nothing_left(connection: Connection, environment: str, *, actor: str) -> None:
    """Note that it is no more, where there was nothing to remove."""
    async with changing(connection, f"removing environment '{environment}'"):
        await lock_environment(connection, environment)
        if await one(connection, "nothing_removed", environment=environment) is not None:
            told = f"{actor} removed it; nothing that it deployed was left"
            await append_all(connection, [_gone(environment, told)])


def _gone(environment: str, told: str) -> NewEvent:
    return NewEvent(kind="environment.removed", message=told, environment=environment)
