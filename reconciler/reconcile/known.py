"""What the control database knows of the environments of one pass, read for many at once and just in time."""

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager

from reconciler.control.facts import Facts, read_many_facts
from reconciler.postgres.connection import Connection

READ_AT_ONCE = 32
"""Environments read together: those whose turn comes next."""
FRESH_S = 1.0
"""How old what was read may be when an environment's turn comes."""


class Known:
    """Reads facts in the order in which environments are passed over."""

    def __init__(
        self,
        connection: Callable[[], AbstractAsyncContextManager[Connection]],
        names: Sequence[str],
        *,
        commit: str,
    ) -> None:
        self._connection = connection
        self._commit = commit
        self._waiting = dict.fromkeys(names)
        self._read: dict[str, tuple[float, Facts | None]] = {}
        self._lock = asyncio.Lock()

    async def of(self, name: str) -> Facts | None:
        """What is known of an environment now; None where it is not declared yet."""
        async with self._lock:
            at, facts = self._read.pop(name, (float("-inf"), None))
            if time.monotonic() - at > FRESH_S:
                facts = await self._refill(name)
            self._waiting.pop(name, None)
            return facts

    async def _refill(self, name: str) -> Facts | None:
        following = [other for other in self._waiting if other != name][: READ_AT_ONCE - 1]
        began = time.monotonic()
        async with self._connection() as connection:
            found = await read_many_facts(connection, [name, *following], commit=self._commit)
        self._read = {other: (began, found.get(other)) for other in following}
        return found.get(name)
