"""What a plan has to know of the control database: holds, gates, intents, who left; it only reads."""

from collections.abc import Collection, Mapping

from reconciler.control.leaving import LEFT_MAX
from reconciler.control.sql import many, one, telling
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection


async def held(connection: Connection, environment: str, commit: str) -> Mapping[str, str]:
    """Deployments on which a commit is held, with the reason."""
    with telling(f"reading holds of environment '{environment}'"):
        rows = await many(connection, "read_holds", environment=environment, commit=commit)
    return {row["deployment"]: row["reason"] for row in rows}


async def gates_due(connection: Connection, environment: str) -> frozenset[str]:
    """Deployments whose gate was not passed when it was asked last."""
    with telling(f"reading gates of environment '{environment}'"):
        rows = await many(connection, "read_gates_due", environment=environment)
    return frozenset(row["deployment"] for row in rows)


async def intended_databases(connection: Connection, environment: str, deployment: str) -> frozenset[str]:
    """Databases of a deployment that are about to be made."""
    return (await _intents(connection, environment, deployment)).get(deployment, frozenset())


async def made_databases(connection: Connection, environment: str, deployment: str) -> frozenset[str]:
    """Databases of a deployment that an operation made or adopted at any time."""
    with telling(f"reading which databases of environment '{environment}' were made"):
        rows = await many(connection, "made_databases", environment=environment, deployment=deployment)
    return frozenset(row["identity"].removeprefix("database ") for row in rows)


async def ran_for_removal(connection: Connection, operation: str) -> frozenset[str]:
    """Jobs that an operation which removes an environment ran to their end already."""
    with telling(f"reading what operation {operation} did"):
        rows = await many(connection, "ran_for_removal", operation=operation)
    return frozenset(row["component"] for row in rows)


async def all_intended_databases(connection: Connection, environment: str) -> dict[str, frozenset[str]]:
    """Databases about to be made, by deployment."""
    return await _intents(connection, environment, None)


async def _intents(
    connection: Connection, environment: str, deployment: str | None
) -> dict[str, frozenset[str]]:
    with telling(f"reading intents of environment '{environment}'"):
        rows = await many(connection, "read_intents", environment=environment, deployment=deployment)
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row["deployment"], set()).add(row["database"])
    return {name: frozenset(databases) for name, databases in found.items()}


@frozen
class Leaver:
    """A deployment that a spec does not name: it left, or it would leave with that spec (`leaves`).

    `declared_commit` is the last commit known to have it; `why` says what the last pass told of it.
    """

    name: str
    declared_commit: str | None
    applied_commit: str | None
    server: str | None
    databases: tuple[str, ...]
    why: str | None
    leaves: bool


async def leavers(connection: Connection, environment: str, names: Collection[str]) -> tuple[Leaver, ...]:
    """The deployments of an environment that are not among these; one that nothing was done to is nobody."""
    with telling(f"reading which deployments left environment '{environment}'"):
        rows = await many(
            connection, "read_leaving", environment=environment, names=sorted(names), limit=LEFT_MAX
        )
    found = [Leaver(**{**row, "databases": tuple(row["databases"])}) for row in rows]
    return tuple(row for row in found if row.applied_commit is not None or row.databases or not row.leaves)


async def followed(connection: Connection, environment: str) -> str | None:
    """The newest commit that was seen for an environment, planned or not."""
    with telling(f"reading which commit environment '{environment}' follows"):
        found = await one(connection, "commit_followed", environment=environment)
    return str(found["head_commit"]) if found is not None and found["head_commit"] is not None else None


async def is_left(connection: Connection, environment: str, deployment: str) -> bool:
    """Whether a deployment left the spec, and nobody forgot it since."""
    with telling(f"reading whether deployment '{deployment}' left environment '{environment}'"):
        found = await one(connection, "is_left", environment=environment, deployment=deployment)
    return found is not None
