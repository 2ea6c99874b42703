"""Deployments that leave the spec, return to it or were taken back: noted, inside others' transactions."""

from collections.abc import Mapping, Sequence

from psycopg.types.json import Jsonb

from reconciler.control.events import NewEvent
from reconciler.control.sql import Row, many
from reconciler.postgres.connection import Connection

LEFT_MAX = 5_000
"""Deployments that left and are read at once."""


async def note_leaving(connection: Connection, environment: str, names: Sequence[str]) -> list[NewEvent]:
    """Keep in mind what left the spec, and what is back; gives what is news. Nothing is done to it."""
    told: list[tuple[str, str, str]] = []
    for row in await many(connection, "remove_deployments", environment=environment, names=list(names)):
        message = f"'{row['name']}' is not in the spec any more; its databases{there(row)} are as they were"
        told.append(("deployment.left", row["name"], message))
    returned = await many(connection, "deployments_returned", environment=environment, names=list(names))
    told += [
        ("deployment.returned", row["name"], f"'{row['name']}' is in the spec again") for row in returned
    ]
    return [
        NewEvent(kind=kind, message=message, environment=environment, deployment=deployment)
        for kind, deployment, message in told
    ]


async def forget_pruned(connection: Connection, pruned: Sequence[Mapping[str, str]]) -> list[NewEvent]:
    """What was taken back is no longer left; gives what to tell of it."""
    rows = await many(connection, "forget_pruned", pruned=Jsonb([dict(item) for item in pruned]))
    return [
        NewEvent(
            kind="deployment.pruned",
            message=f"what was deployed on '{row['name']}' is taken back; its databases{there(row)} are "
            "there still, and nobody's",
            environment=row["environment"],
            deployment=row["name"],
            data={"databases": list(row["databases"])},
        )
        for row in rows
    ]


def there(row: Row) -> str:
    """The databases of a deployment that left and where they are, as far as that is known."""
    named = f" ({', '.join(row['databases'])})" if row["databases"] else ""
    return f"{named} on {row['server']}" if row["server"] else named
