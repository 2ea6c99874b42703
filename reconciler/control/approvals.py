"""Who agreed to which plan, and what became of it; whether it still is that plan, workers find out."""

from collections.abc import Collection, Sequence

from reconciler.control.sql import Row, many, one, run, telling
from reconciler.errors import LeaseLost, NotFound
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection
from reconciler.rollout.verbs import approval_digest


@frozen
class Approval:
    """Who agreed to which plan; `used`: a worker found it to be what is to be done, and began."""

    plan_digest: str
    approved_by: str
    used: bool


async def waiting(
    connection: Connection, rollout: int, deployments: Collection[str]
) -> tuple[dict[int, str], str | None]:
    """The operations that wait for approval with their deployments, and the digest that is agreed to."""
    rows = await many(connection, "waiting_plans", rollout=rollout, deployments=sorted(deployments))
    digest = approval_digest((row["deployment"], row["plan_digest"]) for row in rows)
    return {row["id"]: row["deployment"] for row in rows}, digest


async def give(connection: Connection, request: Row, operations: Sequence[int]) -> None:
    """Note who agreed to the plans of operations."""
    await run(
        connection,
        "insert_approvals",
        request=request["id"],
        approved_by=request["requested_by"],
        operations=list(operations),
    )


async def read(connection: Connection, operation: str) -> Approval:
    """The approval of an operation that has one."""
    with telling(f"reading who approved the plan of operation {operation}"):
        row = await one(connection, "read_approval", operation=int(operation))
    if row is None:
        raise NotFound(f"nobody approved the plan of operation {operation}")
    return Approval(**row)


async def use(connection: Connection, operation: str, lease_token: int) -> None:
    """Note that an approved plan begins to be carried out; LeaseLost where the operation is another's."""
    with telling(f"noting that the approved plan of operation {operation} begins"):
        row = await one(connection, "use_approval", operation=int(operation), lease_token=lease_token)
    if row is None:
        raise LeaseLost(f"operation {operation} belongs to another worker now")


async def ended(
    connection: Connection, environment: str, commit: str, deployments: Collection[str]
) -> list[Row]:
    """Operations for a commit that ended because the state moved, where nothing took their place yet."""
    return await many(
        connection,
        "ended_unreplaced",
        environment=environment,
        commit=commit,
        deployments=sorted(deployments),
    )


async def replace(connection: Connection, operations: Sequence[int], rollout: int) -> None:
    """Name the rollout that took the place of operations that ended before it was there."""
    if operations:
        await run(connection, "replace_ended", operations=list(operations), rollout=rollout)


def asks_anew(before: Sequence[Row]) -> str | None:
    """Why a plan asks for approval where one was asked for, or given, before; None where it is the first."""
    told: dict[str, list[str]] = {}
    for row in before:
        by = "it was asked for in" if row["approved_by"] is None else f"{row['approved_by']} approved"
        told.setdefault(f"{by} rollout {row['rollout']}", []).append(f"'{row['deployment']}'")
    parts = [f"{what} ({', '.join(names[:5])})" for what, names in told.items()]
    return f"the state moved since {'; '.join(parts)}" if parts else None
