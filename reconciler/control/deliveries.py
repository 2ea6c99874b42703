"""Deliveries of webhooks: each wakes its source once, however often it is sent; nothing of a body is kept."""

from reconciler.control.sql import changing, one, run
from reconciler.control.wake import wake_source
from reconciler.postgres.connection import Connection


async def take(connection: Connection, *, source: str, delivery: str | None) -> bool:
    """Note a delivery and wake its source, both or neither; false where it was taken before.

    One that the provider gave no id wakes each time.
    """
    async with changing(connection, f"taking a delivery for source '{source}'"):
        if delivery is not None:
            if await one(connection, "take_delivery", source=source, id=delivery) is None:
                return False
            await run(connection, "forget_deliveries")
        await wake_source(connection, source, pushed=True)
    return True
