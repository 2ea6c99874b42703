"""What the steps of one operation may use, passed in explicitly."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from reconciler.catalog.standing import Standing
from reconciler.changes.script import Script
from reconciler.diff.model import ObjectsDiff, ToRevert
from reconciler.errors import StateMoved
from reconciler.execution.interference import Interference
from reconciler.execution.register import Register
from reconciler.execution.said import said_before, said_by
from reconciler.execution.session import DatabaseSession, Limits, open_session
from reconciler.plan.steps import AnyStep
from reconciler.postgres.connection import Connection, Dsn
from reconciler.runtimes.machine import Machine
from reconciler.spec.values import SecretReference
from reconciler.state.desired import DesiredChange, DesiredState
from reconciler.state.program import Purpose
from reconciler.state.programs import DesiredBuild, DesiredServer
from reconciler.state.servers import server_name
from reconciler.state.tracked import TrackedDatabase, TrackedPrograms
from reconciler.tracking.fence import Fence, FenceOwner
from reconciler.tracking.read import read_under_fence
from reconciler.tracking.record import Actor

_ID = re.compile(r"[0-9a-f]{40}")
STARTED_AT_ONCE_MAX = 16
"""Services and jobs that are prepared, started or ended at the same time."""


@dataclass(slots=True, kw_only=True)
class Resources:
    """Connections and facts of one operation.

    `intend` and `forget` note in the control database that a database is being made, and that it is done;
    `confirm` raises LeaseLost unless the operation is still ours there, `urgent` where what is under way is
    to be broken off.
    `unprepared` are the databases whose tracking schema has to be installed before the fence can be taken;
    `secret` gives what a reference of the spec leads to;
    `standing`, by database, drift that stood when this was planned; `planned_from`, by database, what the
    plan takes for deployed; `reverts`, by change id, how changes are taken back; `objects`, by component,
    what is to be done about SQL objects. `keep_failed`: what was made of a generation stays where staging it
    fails. `repeats`: somebody agreed that what may have run already of an interrupted script is run again.
    `say` is told what the scripts of a step said. `remarks` gains what people are told of an operation that
    was done. `spare` gives a connection to a database that was used to read it and that nobody needs any
    more, where there is one.
    `machine` is what there is to run services on, `register` the record of them, `programs` what it said when
    this was planned; `build_files` gives the files that an image is built from.
    """

    dsn: Dsn
    owner: FenceOwner
    actor: Actor
    limits: Limits
    desired: DesiredState
    unprepared: frozenset[str]
    standing: Mapping[str, Mapping[str, Standing]]
    planned_from: Mapping[str, TrackedDatabase]
    reverts: Mapping[str, ToRevert] = field(default_factory=dict)
    objects: Mapping[str, ObjectsDiff] = field(default_factory=dict)
    keep_failed: bool = False
    repeats: bool = False
    remarks: list[str] = field(default_factory=list)
    intend: Callable[[str], Awaitable[None]]
    forget: Callable[[str], Awaitable[None]]
    confirm: Callable[[], Awaitable[None]] | None = None
    urgent: Callable[[], None] | None = None
    secret: Callable[[SecretReference], str] | None = None
    say: Callable[[AnyStep, str], None] | None = None
    spare: Callable[[str], Awaitable[Connection | None]] | None = None
    with_one_session: frozenset[str] = frozenset()
    """Databases to which one session of the server is enough."""
    interference: Interference = field(default_factory=Interference)
    sessions: dict[str, DatabaseSession] = field(default_factory=dict)
    opening: dict[str, asyncio.Lock] = field(default_factory=dict)
    promoting: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held from when a switch may be made until it is recorded that it was."""
    machine: Machine | None = None
    register: Register | None = None
    programs: TrackedPrograms = field(default_factory=TrackedPrograms)
    left_runs: frozenset[str] = frozenset()
    """Jobs of which a run was there when this was planned."""
    build_files: Callable[[DesiredBuild], Awaitable[Mapping[str, bytes]]] | None = None
    locate: Callable[[str], Awaitable[Dsn]] | None = None
    """Finds the server of a database that lives on a service, once that runs."""
    located: dict[str, Dsn] = field(default_factory=dict)
    starting: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STARTED_AT_ONCE_MAX))
    """Held while something is prepared, started or ended, and not while it is waited for."""

    @property
    def stages(self) -> Mapping[str, str]:
        """The stage of each service, job and route that was applied, by component."""
        return {name: part.stage for name, part in self.programs.components.items()}

    def tell(
        self,
        step: AnyStep,
        *scripts: tuple[Script | None, Purpose],
        error: Exception | None = None,
    ) -> None:
        """Tell what the scripts of a step said, until `error` where they failed, if they said anything."""
        if self.say is None:
            return
        text = said_by(scripts) if error is None else said_before(scripts, error)
        if text:
            self.say(step, text)

    async def dsn_of(self, database: str) -> Dsn:
        """The server that a database lives on, as it is reached from now on."""
        if self.locate is None or self._on(database) is None:
            return self.dsn
        if database not in self.located:
            self.located[database] = await self.locate(database)
        return self.located[database]

    def server_of(self, database: str) -> str:
        """What the server of a database is called in records."""
        on = self._on(database)
        return self.dsn.server if on is None else server_name(on)

    def _on(self, database: str) -> DesiredServer | None:
        return next((part.on for part in self.desired.databases if part.database == database), None)

    async def session(self, database: str) -> DatabaseSession:
        """The session of a database, opened at its first use, once for all who ask."""
        async with self.opening.setdefault(database, asyncio.Lock()):
            if database not in self.sessions:
                session = await open_session(
                    await self.dsn_of(database),
                    database,
                    self.owner,
                    limits=self.limits,
                    install_tracking=database in self.unprepared,
                    confirm=partial(self._confirm, database),
                    holder=await self.spare(database) if self.spare is not None else None,
                    is_one=database in self.with_one_session,
                )
                session.urgent = self.urgent
                session.standing = self.standing.get(database, {})
                self.sessions[database] = session
        return self.sessions[database]

    async def beside(self, database: str) -> "Resources":
        """The same resources, but for a writer of one's own to a database."""
        session = await self.session(database)
        other = await session.with_writer(await self.dsn_of(database))
        return replace(self, sessions={**self.sessions, database: other})

    async def _confirm(self, database: str, holder: Connection, fence: Fence) -> None:
        if self.confirm is not None:
            await self.confirm()
        epoch = self.planned_from.get(database, TrackedDatabase()).epoch
        # Whoever writes there has had the fence, which gives each of them an epoch of its own.
        if epoch is None or fence.epoch != epoch + 1:
            await self._check(database, holder)

    async def _check(self, database: str, holder: Connection) -> None:
        """Make sure that our plan is made from what is there, now that nobody else writes.

        What others deployed of modules that are no business of ours changes nothing of the plan.
        """
        planned_from = self.planned_from.get(database, TrackedDatabase())
        found = await read_under_fence(holder)
        names = self._concerned(database, {*found.modules, *planned_from.modules})
        moved = any(found.modules.get(name) != planned_from.modules.get(name) for name in names)
        # Drift was not to be seen while another wrote, and would be taken for our own doing.
        blind = planned_from.busy and planned_from.base_line is not None and planned_from.base_line.moving
        # What stood as drift beside another base line may have been that other writer's doing.
        stale = bool(self.standing.get(database)) and _stands(found) != _stands(planned_from)
        # What was staged, and is to be gone on with or discarded, may have been removed by that writer.
        staged = planned_from.epoch is not None and any(
            part.desired.database == database and (part.begun is not None or part.discard)
            for part in self.objects.values()
        )
        if moved or blind or stale or staged:
            raise StateMoved(
                f"opening database '{database}' on {self.server_of(database)} for writing: another writer"
                " was at it since this was planned",
                hint="nothing: it is planned anew by itself",
            )

    def _concerned(self, database: str, recorded: set[str]) -> set[str]:
        """The projects the plan depends on: ours, what they require, and all where any is reverted."""
        if self.reverts:
            return recorded
        own = [module for module in self.desired.modules if module.database == database]
        if any(
            _ID.fullmatch(need) for module in own for change in module.changes for need in change.requires
        ):
            return recorded  # an id may be of any module's change
        named = (name for module in own for change in module.changes for name in _foreign(change))
        return {*(module.project for module in own), *named}

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


def _stands(tracked: TrackedDatabase) -> tuple[str, bool] | None:
    """What tells a base line from the one before it."""
    base_line = tracked.base_line
    return (base_line.probe, base_line.moving) if base_line is not None else None


def _foreign(change: DesiredChange) -> tuple[str, ...]:
    """Other projects that a change requires or conflicts with."""
    return tuple(name.partition(":")[0] for name in (*change.requires, *change.conflicts) if ":" in name)
