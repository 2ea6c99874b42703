"""Wakes passes and workers wherever they run, by notifications of the control database; carries no work."""

from reconciler.control.sql import run, telling
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection

WAKE_CHANNEL = "reconciler_wake"
"""Something is to be looked at; the payload is what `wake_from` reads."""
OPERATIONS_CHANNEL = "reconciler_operations"
"""There may be something to claim; the payload is the name of its environment."""

_ENVIRONMENT = "environment:"
_MOVED = "moved:"
_SOURCE = "source:"
_PUSHED = "pushed:"


@frozen
class Wake:
    """What is to be looked at: an environment, a source with all of its environments, or everything.

    `pushed` says that the source's own host told of it, which it may do many times at once. `moved`: only
    operations of the environment moved, and what they left as it was need not be looked at.
    """

    environment: str | None = None
    source: str | None = None
    pushed: bool = False
    moved: bool = False


async def wake(connection: Connection, environment: str, *, moved: bool = False) -> None:
    """Ask for a pass of an environment, by whoever runs its passes; `moved` as `Wake` has it."""
    with telling(f"waking environment '{environment}'"):
        await notify(connection, WAKE_CHANNEL, (_MOVED if moved else _ENVIRONMENT) + environment)


async def wake_source(connection: Connection, source: str, *, pushed: bool = False) -> None:
    """Ask every daemon that has a source to fetch it, and to pass over its share."""
    with telling(f"waking source '{source}'"):
        await notify(connection, WAKE_CHANNEL, (_PUSHED if pushed else _SOURCE) + source)


def wake_from(payload: str) -> Wake:
    """Read a notification; one that says nothing, as after connecting, asks for a look at everything."""
    if payload.startswith(_ENVIRONMENT):
        return Wake(environment=payload.removeprefix(_ENVIRONMENT))
    if payload.startswith(_MOVED):
        return Wake(environment=payload.removeprefix(_MOVED), moved=True)
    if payload.startswith(_SOURCE):
        return Wake(source=payload.removeprefix(_SOURCE))
    if payload.startswith(_PUSHED):
        return Wake(source=payload.removeprefix(_PUSHED), pushed=True)
    return Wake()


async def notify(connection: Connection, channel: str, payload: str) -> None:
    """Notify a channel, at commit where there is a transaction."""
    await run(connection, "notify", channel=channel, payload=payload)
