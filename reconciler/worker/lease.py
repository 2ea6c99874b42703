"""The lease of a worker and what is asked of its operations, as these see it at their safe points."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from reconciler.control.claims import Claim, lease_lost
from reconciler.control.install import control_id
from reconciler.errors import DatabaseUnavailable
from reconciler.postgres.connection import Connection, Connections, Dsn


class Interrupted(Exception):
    """An operation stops at a safe point because of `why`: cancel, stop, superseded or shutdown."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why


class Lease:
    """The lease of one registration of a worker; all its claims share it.

    It is judged by our own clock from before the heartbeat was sent, so never longer than the database does.
    """

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._renewed = time.monotonic()
        self._ended = False

    def renew(self, sent: float) -> None:
        """A heartbeat that was sent at `sent` (of the monotonic clock) arrived."""
        self._renewed = sent

    def end(self) -> None:
        """The registration is over: nothing may be started under it any more."""
        self._ended = True

    @property
    def good(self) -> bool:
        """Whether something may still be started."""
        return not self._ended and time.monotonic() - self._renewed < self._lease_s


@dataclass(slots=True, eq=False, kw_only=True)
class Running:
    """An operation under way, and what is asked of it."""

    claim: Claim
    lease: Lease
    asked: str | None = None
    lost: bool = False
    task: "asyncio.Task[None] | None" = field(default=None)
    since: float = field(default_factory=time.monotonic)

    def interrupt(self, why: str) -> None:
        """Ask it to stop at the next safe point; whoever asks first is heard."""
        if self.asked is None:
            self.asked = why

    def lose(self) -> None:
        """The operation is another worker's."""
        self.lost = True

    def check_lease(self) -> None:
        """Raise LeaseLost unless the operation is still ours."""
        if self.lost or not self.lease.good:
            raise lease_lost(self.claim)

    def urgent(self) -> None:
        """Raise if what is under way is to be broken off: a change may take for ever."""
        if self.asked == "cancel":
            raise Interrupted(self.asked)

    def checkpoint(self) -> None:
        """Raise if the operation is not ours any more, or was asked to stop."""
        self.check_lease()
        if self.asked is not None:
            raise Interrupted(self.asked)


class ControlAccess:
    """Connections to the control database for one short exchange each, with a deadline."""

    def __init__(self, dsn: Dsn, connections: Connections, *, timeout_s: float) -> None:
        self._dsn = dsn
        self._connections = connections
        self._timeout_s = timeout_s
        self._control_id: str | None = None

    def registered(self) -> None:
        """A worker registered anew: it may be another control database by now that is there."""
        self._control_id = None

    async def control_id(self) -> str:
        """The identity of the control database, asked once for each registration."""
        if self._control_id is None:
            async with self.connection() as connection:
                self._control_id = await control_id(connection)
        return self._control_id

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """Borrow a connection; DatabaseUnavailable where the exchange takes too long."""
        async with (
            answering(self._timeout_s),
            self._connections.borrow(self._dsn, role="control", leaves_nothing=True) as connection,
        ):
            yield connection


@asynccontextmanager
async def answering(timeout_s: float) -> AsyncIterator[None]:
    """Bound an exchange with the control database; DatabaseUnavailable where it takes longer."""
    try:
        async with asyncio.timeout(timeout_s):
            yield
    except TimeoutError:
        raise DatabaseUnavailable(f"the control database did not answer within {timeout_s:g} s") from None
