"""The append-only audit: appending to it and reading it in order; it is never altered."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any

from psycopg.types.json import Jsonb

from reconciler.control.sql import key, many, run, telling
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection
from reconciler.rollout.status import EventRecord

LIMIT_MAX = 1000
"""Events read at once, at most."""
MESSAGE_CHARACTERS_MAX = 10_000
"""A longer message is cut."""


@frozen
class NewEvent:
    """One thing that happened, to be appended."""

    kind: str
    message: str
    environment: str | None = None
    deployment: str | None = None
    rollout: int | None = None
    operation: int | None = None
    data: Mapping[str, Any] = field(default_factory=dict)


async def append(
    connection: Connection,
    *,
    kind: str,
    message: str,
    environment: str | None = None,
    deployment: str | None = None,
    rollout: str | None = None,
    operation: str | None = None,
    data: Mapping[str, Any] | None = None,
) -> None:
    """Append one event."""
    event = NewEvent(
        kind=kind,
        message=message,
        environment=environment,
        deployment=deployment,
        rollout=key(rollout) if rollout is not None else None,
        operation=key(operation) if operation is not None else None,
        data=data or {},
    )
    with telling(f"appending event '{kind}'"):
        await append_all(connection, [event])


async def append_all(connection: Connection, events: Sequence[NewEvent]) -> None:
    """Append events in order, as one statement."""
    if not events:
        return
    rows = [
        {
            "kind": event.kind,
            "message": event.message[:MESSAGE_CHARACTERS_MAX],
            "environment": event.environment,
            "deployment": event.deployment,
            "rollout": event.rollout,
            "operation": event.operation,
            "data": dict(event.data),
        }
        for event in events
    ]
    await run(connection, "append_events", events=Jsonb(_storable(rows)))


def _storable(value: Any) -> Any:
    """Text with NUL cannot stand in PostgreSQL; nothing else is touched."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    if isinstance(value, Mapping):
        return {_storable(name): _storable(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_storable(item) for item in value]
    return value


async def read_events(
    connection: Connection,
    *,
    environment: str | None = None,
    rollout: str | None = None,
    after: int | None = None,
    limit: int = 100,
) -> tuple[EventRecord, ...]:
    """Events with higher numbers than `after`, in order; reading on from the last one misses none.

    Without `after`, the newest ones, in order too.
    """
    number = key(rollout) if rollout is not None else None
    if rollout is not None and number is None:
        return ()
    bounded = min(max(limit, 0), LIMIT_MAX)
    with telling("reading events"):
        if after is None:
            newest = await many(
                connection, "newest_events", environment=environment, rollout=number, limit=bounded
            )
            return tuple(EventRecord(**row) for row in newest)
        rows = await many(
            connection,
            "read_events",
            environment=environment,
            rollout=number,
            after=min(max(after, 0), 2**62),
            limit=bounded,
        )
    return tuple(EventRecord(**row) for row in rows)
