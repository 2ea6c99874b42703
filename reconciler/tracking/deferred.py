"""What is done once behind the switch to a generation, as one managed database has it recorded; it does none.

Every statement that writes checks the fence. Errors come out as the driver's, for `generations.translated`.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from reconciler.postgres.connection import Connection
from reconciler.tracking.fence import Fence
from reconciler.tracking.sql import QUERIES

ERROR_MAX = 2_000
"""Characters of an error that are recorded."""


class DeferredState(StrEnum):
    """How far a deferred action is."""

    PENDING = "pending"
    DONE = "done"
    GIVEN_UP = "given_up"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedDeferred:
    """One deferred action; `outside`: `body` is a URL, else it is SQL."""

    generation: int
    key: str
    name: str
    outside: bool
    body: str
    state: DeferredState
    attempts: int
    error: str | None


async def record(
    connection: Connection, fence: Fence, number: int, actions: Sequence[Mapping[str, object]]
) -> None:
    """Record actions (`name`, `outside`, `body`) of a generation before its switch, in place of others."""
    parameters = {"epoch": fence.epoch, "generation": number, "actions": json.dumps(actions)}
    await connection.execute(QUERIES["record_deferred"], parameters)


async def of_generation(connection: Connection, number: int) -> tuple[TrackedDeferred, ...]:
    """Read the actions of a generation, in their order."""
    cursor = await connection.execute(QUERIES["read_deferred"], {"generation": number})
    return _actions(await cursor.fetchall())


async def pending(
    connection: Connection, *, component: str, environment: str, deployment: str
) -> tuple[TrackedDeferred, ...]:
    """Read what is still to be done of the generations of a component that are live."""
    parameters = {"component": component, "environment": environment, "deployment": deployment}
    cursor = await connection.execute(QUERIES["pending_deferred"], parameters)
    return _actions(await cursor.fetchall())


async def lock(connection: Connection, number: int, name: str) -> TrackedDeferred | None:
    """Keep an action from being done by anybody else until the transaction ends; None where there is none."""
    cursor = await connection.execute(QUERIES["lock_deferred"], {"generation": number, "name": name})
    found = _actions(await cursor.fetchall())
    return found[0] if found else None


async def settle(connection: Connection, fence: Fence, number: int, name: str) -> bool:
    """Record that an action is done; false where it was not pending."""
    parameters = {"epoch": fence.epoch, "generation": number, "name": name}
    cursor = await connection.execute(QUERIES["settle_deferred"], parameters)
    row = await cursor.fetchone()
    return row is not None and bool(row[0])


async def fail(connection: Connection, fence: Fence, number: int, name: str, error: str) -> None:
    """Record why an action failed, which stays pending."""
    parameters = {
        "epoch": fence.epoch,
        "generation": number,
        "name": name,
        "error": error[:ERROR_MAX],
    }
    await connection.execute(QUERIES["fail_deferred"], parameters)


def _actions(rows: Sequence[Sequence[Any]]) -> tuple[TrackedDeferred, ...]:
    found = []
    for row in rows:
        values = dict(zip(TrackedDeferred.__slots__, row, strict=True))
        found.append(TrackedDeferred(**{**values, "state": DeferredState(values["state"])}))
    return tuple(found)
