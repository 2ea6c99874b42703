"""What the steps of one operation may use, passed in explicitly."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from reconciler.catalog.standing import Standing
from reconciler.errors import TemporaryError
from reconciler.execution.interference import Interference
from reconciler.execution.session import DatabaseSession, Limits, open_session
from reconciler.postgres.connection import Dsn
from reconciler.state.desired import DesiredState
from reconciler.state.tracked import TrackedDatabase
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.read import read_tracked
from reconciler.tracking.record import Actor


@dataclass(slots=True, kw_only=True)
class Resources:
    """Connections and facts of one operation.

    `intend` and `forget` note in the control database that a database is being made, and that it is done;
    `confirm` raises LeaseLost unless the operation is still ours there.
    `unprepared` are the databases whose tracking schema has to be installed before the fence can be taken;
    `standing`, by database, drift that stood when this was planned; `planned_from`, by database, what the
    plan takes for deployed.
    """

    dsn: Dsn
    owner: FenceOwner
    actor: Actor
    limits: Limits
    desired: DesiredState
    unprepared: frozenset[str]
    standing: Mapping[str, Mapping[str, Standing]]
    planned_from: Mapping[str, TrackedDatabase]
    intend: Callable[[str], Awaitable[None]]
    forget: Callable[[str], Awaitable[None]]
    confirm: Callable[[], Awaitable[None]] | None = None
    interference: Interference = field(default_factory=Interference)
    sessions: dict[str, DatabaseSession] = field(default_factory=dict)

    async def session(self, database: str) -> DatabaseSession:
        """The session of a database, opened at its first use."""
        if database not in self.sessions:
            session = await open_session(
                self.dsn,
                database,
                self.owner,
                limits=self.limits,
                install_tracking=database in self.unprepared,
                confirm=self.confirm,
            )
            session.standing = self.standing.get(database, {})
            self.sessions[database] = session
            await self._check(session)
        return self.sessions[database]

    async def _check(self, session: DatabaseSession) -> None:
        """Make sure that nobody deployed anything between our plan and our fence."""
        planned_from = self.planned_from.get(session.database, TrackedDatabase())
        if (await read_tracked(session.holder)).modules != planned_from.modules:
            raise TemporaryError(
                f"opening database '{session.database}' on {session.server} for writing: another writer"
                " deployed changes since this was planned",
                hint="nothing: it is planned anew by itself",
            )

    async def finish(self) -> None:
        """Settle every base line and give every fence back; the first error is raised in the end."""
        errors = []
        while self.sessions:
            # It leaves the list once it is ended: who is cancelled here still finds the others to abandon.
            database, session = next(iter(self.sessions.items()))
            try:
                self.interference.at("settle")
                await session.finish()
            except Exception as error:  # noqa: BLE001 - the other sessions are to be ended too
                errors.append(error)
            del self.sessions[database]
        if errors:
            raise errors[0]

    async def abandon(self) -> None:
        """Close every connection as it is."""
        for session in self.sessions.values():
            await session.abandon()
        self.sessions.clear()
