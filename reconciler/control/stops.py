"""Environments that a person stops and starts: noted; what follows is a rollout like any other."""

from reconciler.control.events import NewEvent, append_all
from reconciler.control.moves import lock_environment
from reconciler.control.sql import changing, one, run
from reconciler.control.wake import wake
from reconciler.postgres.connection import Connection


async def stop(connection: Connection, environment: str, *, reason: str, actor: str) -> None:
    """Want its services and routes off until it is started; the next rollout ends them."""
    asked = {"environment": environment, "actor": actor}
    await _switch(connection, "stop_environment", asked, ("stopped", reason, actor))


async def start(connection: Connection, environment: str, *, reason: str, actor: str) -> None:
    """Want its services and routes on again; the next rollout starts them."""
    await _switch(connection, "start_environment", {"environment": environment}, ("started", reason, actor))


async def _switch(
    connection: Connection, query: str, asked: dict[str, str], told: tuple[str, str, str]
) -> None:
    name, (done, reason, actor) = asked["environment"], told
    async with changing(connection, f"noting that environment '{name}' is {done}"):
        await lock_environment(connection, name)
        if await one(connection, query, **asked) is not None:
            message = f"{done} by {actor}: {reason}" if reason else f"{done} by {actor}"
            event = NewEvent(kind=f"environment.{done}", message=message, environment=name)
            await append_all(connection, [event])
        # A commit that failed is held, and a person asks for more than what it brings.
        await run(connection, "release_failed", environment=name)
        await wake(connection, name)
