"""The live materialized views of a component: what refreshing each can do, and from when its rows are.

It refreshes none. Errors come out as the driver's, for `generations.translated`.
"""

from dataclasses import dataclass
from datetime import datetime

from reconciler.objects.model import ObjectName
from reconciler.postgres.connection import Connection
from reconciler.tracking.sql import QUERIES


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveView:
    """A materialized view; `beside_readers`: it has an index that lets it be refreshed while it is read.

    `since` is from when its rows are, None where nobody noted it; `now` is by the same clock.
    """

    name: ObjectName
    oid: int
    populated: bool
    beside_readers: bool
    since: datetime | None
    now: datetime


async def read(
    connection: Connection, *, component: str, environment: str, deployment: str
) -> tuple[LiveView, ...]:
    """Read the live materialized views of a component, by name."""
    parameters = {"component": component, "environment": environment, "deployment": deployment}
    cursor = await connection.execute(QUERIES["live_materialized_views"], parameters)
    return tuple(
        LiveView(
            name=ObjectName(schema, name),
            oid=oid,
            populated=populated,
            beside_readers=beside,
            since=since,
            now=now,
        )
        for schema, name, oid, populated, beside, since, now in await cursor.fetchall()
    )


async def note_refreshed(connection: Connection, one: LiveView, since: datetime) -> None:
    """Record from when the rows of a view are, where it is still the live one."""
    parameters = {"schema": one.name.schema, "name": one.name.name, "oid": one.oid, "since": since}
    await connection.execute(QUERIES["note_refreshed"], parameters)
