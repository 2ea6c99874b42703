"""Environments that a person stops and starts: noted; what follows is a rollout like any other."""

from reconciler.control.events import NewEvent, append_all
from reconciler.control.moves import lock_environment
from reconciler.control.sql import changing, one
from reconciler.control.wake import wake
from reconciler.postgres.connection import Connection


async def stop(connection: Connection, environment: str, *, reason: str, actor: str) -> None:
    """Want its services and routes off until it is started; the next rollout ends them."""
    asked = {"environment": environment, "actor": actor}
    await _switch(connection, ("stop", "stopped"), asked, reason, actor)


async def start(connection: Connection, environment: str, *, reason: str, actor: str) -> None:
    """Want its services and routes on again; the next rollout starts them."""
    await _switch(connection, ("start", "started"), {"environment": environment}, reason, actor)


async def _switch(
    connection: Connection, verb: tuple[str, str], asked: dict[str, str], reason: str, actor: str
) -> None:
    name, done = asked["environment"], verb[1]
    async with changing(connection, f"noting that environment '{name}' is {done}"):
        await lock_environment(connection, name)
        if await one(connection, f"{verb[0]}_environment", **asked) is not None:
            told = f"{done} by {actor}: {reason}" if reason else f"{done} by {actor}"
            event = NewEvent(kind=f"environment.{done}", message=told, environment=name)
            await append_all(connection, [event])
        await wake(connection, name)
