"""Wakes passes and workers wherever they run, by notifications of the control database; carries no work."""

from reconciler.control.sql import run, telling
from reconciler.postgres.connection import Connection

WAKE_CHANNEL = "reconciler_wake"
"""An environment is to be looked at; the payload is its name."""
OPERATIONS_CHANNEL = "reconciler_operations"
"""There may be something to claim; the payload is the name of its environment."""


async def wake(connection: Connection, environment: str) -> None:
    """Ask for a pass of an environment."""
    with telling(f"waking environment '{environment}'"):
        await notify(connection, WAKE_CHANNEL, environment)


async def notify(connection: Connection, channel: str, environment: str) -> None:
    """Notify a channel, at commit where there is a transaction."""
    await run(connection, "notify", channel=channel, payload=environment)
