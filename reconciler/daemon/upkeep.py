"""Repairs what was left behind in the control database, at the start and now and then; it decides nothing."""

import asyncio
import random
from collections.abc import Callable

from reconciler.control.repair import repair
from reconciler.errors import TemporaryError
from reconciler.events import Event, Repaired, TaskFailed
from reconciler.postgres.connection import Connections, Dsn

EVERY_S = 30.0
"""Between two looks, give or take a fifth: several daemons do not look at the same moment."""
LOOK_S = 30.0
"""How long one look may take."""


async def upkeep(control: Dsn, connections: Connections, emit: Callable[[Event], None]) -> None:
    """Repair until cancelled; a control database that is away is looked at the next time."""
    while True:
        try:
            async with asyncio.timeout(LOOK_S), connections.borrow(control, role="control") as connection:
                done = await repair(connection)
        except (TemporaryError, TimeoutError):
            pass
        except Exception as error:  # noqa: BLE001 - upkeep goes on
            emit(TaskFailed(task="upkeep", error=f"{error!r}"))
        else:
            for what, count in done.counts.items():
                emit(Repaired(what=what, count=count))
        await asyncio.sleep(EVERY_S * random.uniform(0.8, 1.2))  # noqa: S311 - jitter, not a secret
