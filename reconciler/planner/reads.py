"""Reads the tracked and live state of databases; it decides nothing and writes nowhere."""

import asyncio
import time
import zlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial

from reconciler.errors import ReconcilerError
from reconciler.frozen import frozen
from reconciler.planner.servers import Servers
from reconciler.planner.shared import Shared
from reconciler.postgres.connection import Connection, Connections, DatabaseMissing, Dsn
from reconciler.snapshot.database import Glance, ServerFacts, read_database, read_server
from reconciler.snapshot.probe import ALGORITHM
from reconciler.snapshot.registry import read_registry
from reconciler.snapshot.roles import read_roles
from reconciler.snapshot.transaction import read_repeatedly, reading
from reconciler.state.desired import DesiredDatabase, DesiredState
from reconciler.state.live import LiveDatabase, LiveRole, LiveState
from reconciler.state.registry import Registry, RegistryKind
from reconciler.state.tracked import Revertible, TrackedDatabase, TrackedState
from reconciler.tracking.errors import translate
from reconciler.tracking.read import TrackedReading, read_base_line_objects, read_revertible

KEPT_S = 120.0
"""How long a read may serve at most, whoever asks: longer than a pass over a thousand databases takes."""
ROWS_KEPT = 100_000
"""Changes and objects kept between reads, of all databases: some tens of MiB."""
DATABASES_REMEMBERED = 20_000
SERVER_STANDS_S = 2.0
"""How old what is known of a server may be for who reads a database of it anew; each operation does."""

_Read = tuple[TrackedDatabase, LiveDatabase]


class StateReader:
    """Reads states over borrowed connections, and remembers when a catalog was last read in full.

    A server and a database are read once for all who accept the same read; what could not be read counts
    as read.
    """

    def __init__(
        self,
        connections: Connections,
        *,
        databases_in_parallel: int,
        full_read_interval_s: float,
        service_timeout_s: float = 20.0,
    ) -> None:
        self._connections = connections
        self._service_timeout_s = service_timeout_s
        self._databases_in_parallel = databases_in_parallel
        self._full_read_interval_s = full_read_interval_s
        self._full_reads: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._servers: Shared[Dsn, ServerFacts] = Shared(
            keep_s=KEPT_S, weight_max=ROWS_KEPT, weigh=lambda facts: 10 + len(facts.databases)
        )
        self._roles: Shared[tuple[Dsn, frozenset[str]], Mapping[str, LiveRole]] = Shared(
            keep_s=KEPT_S, weight_max=ROWS_KEPT, weigh=lambda roles: 10 + len(roles)
        )
        self._databases: Shared[tuple[Dsn, str], _Read] = Shared(
            keep_s=KEPT_S, weight_max=ROWS_KEPT, weigh=_rows
        )

    async def read(
        self, servers: Servers, desired: DesiredState, *, not_before: float | None, due_too: bool = True
    ) -> tuple[TrackedState, LiveState]:
        """Tracked and live state of every database of a deployment; what was read since may serve.

        Of services that databases live on, those that do not answer are noted; the deployment's own server
        has to.
        Not `due_too`: a full read that is only due for its age is left to another.
        """
        freshness = _Freshness(not_before=not_before, due_too=due_too)
        own = [part for part in desired.databases if part.on is None]
        found: Mapping[str, _Read] = {}
        live = LiveState(server_major=0, databases={})
        if own or not _has_else(desired):
            found, live = await self._of_server(servers.own, own, freshness)
        if len(own) == len(desired.databases):
            return _together(found, live)
        services = dict.fromkeys(part.on.service for part in desired.databases if part.on is not None)
        others = await asyncio.gather(
            *(self._of_service(name, servers, desired, freshness) for name in services)
        )
        answers = dict(zip(services, others, strict=True))
        absent = {
            part.database: (TrackedDatabase(), LiveDatabase())
            for part in desired.databases
            if part.on is not None and answers[part.on.service] is None
        }
        return _together({**found, **absent}, live, answers)

    async def _of_service(
        self, service: str, servers: Servers, desired: DesiredState, freshness: "_Freshness"
    ) -> tuple[Mapping[str, _Read], LiveState] | str | None:
        """What is on a service; None where it was never applied, a text that says why nobody knows."""
        if service in servers.silent:
            return servers.silent[service]
        parts: dict[Dsn, list[DesiredDatabase]] = {}
        for part in desired.databases:
            if part.on is not None and part.on.service == service and part.database in servers.services:
                parts.setdefault(servers.services[part.database], []).append(part)
        if not parts:
            return None
        try:
            async with asyncio.timeout(self._service_timeout_s):
                several = [await self._of_server(dsn, own, freshness) for dsn, own in parts.items()]
        except TimeoutError:
            return f"it did not answer within {self._service_timeout_s:g} s"
        except ReconcilerError as error:
            return str(error)
        found = {name: read for one, _live in several for name, read in one.items()}
        roles = {name: role for _found, live in several for name, role in live.roles.items()}
        return found, replace(several[0][1], databases=_live_of(found), roles=roles)

    async def _of_server(
        self, dsn: Dsn, parts: Sequence[DesiredDatabase], freshness: "_Freshness"
    ) -> tuple[Mapping[str, _Read], LiveState]:
        """What is on one server of some databases; raises where it does not answer."""
        names = [part.database for part in parts]
        server = await self._server_with(dsn, names, not_before=freshness.not_before)
        slots = asyncio.Semaphore(self._databases_in_parallel)

        async def one(name: str) -> _Read:
            if name not in server.databases:
                return TrackedDatabase(), LiveDatabase()
            async with slots:
                try:
                    return await self._databases.get(
                        (dsn, name),
                        lambda: self._database(dsn, name, due_too=freshness.due_too),
                        not_before=freshness.not_before,
                    )
                except DatabaseMissing:
                    # It was dropped since the server was read, if it was.
                    if name in (await self._server(dsn)).databases:
                        raise
                    return TrackedDatabase(), LiveDatabase()

        wanted = _named_roles(parts)
        roles: Mapping[str, LiveRole] = {}
        if wanted:
            roles = await self._roles.get(
                (dsn, wanted), lambda: self._named_roles(dsn, wanted), not_before=freshness.not_before
            )
        found: Mapping[str, _Read] = dict(
            zip(names, await asyncio.gather(*(one(name) for name in names)), strict=True)
        )
        return found, LiveState(
            server_major=server.server_major,
            databases=_live_of(found),
            available_extensions=server.available_extensions,
            lock_capacity=server.lock_capacity,
            roles=roles,
        )

    async def read_ahead(self, dsn: Dsn, names: Sequence[str]) -> None:
        """Read a server and some of its databases now, for a `read` that accepts what began before it."""
        # That `read` may overtake us: what it began meanwhile is what was to be read.
        began = time.monotonic()
        server = await self._servers.get(dsn, lambda: self._server(dsn), not_before=began)
        there = [name for name in names if name in server.databases]
        await asyncio.gather(
            *(
                self._databases.get((dsn, name), partial(self._database, dsn, name), not_before=began)
                for name in there[: self._databases_in_parallel]
            )
        )

    def borrowing(self, dsn: Dsn, database: str) -> AbstractAsyncContextManager[Connection]:
        """Lend a connection to a database, for who reads more of it than is read of all."""
        return self._connections.borrow(dsn, database=database, self_contained=True)

    async def revertible(self, dsn: Dsn, database: str) -> Mapping[str, Revertible]:
        """What is stored in a database for taking changes back; read anew every time."""
        async with self._connections.borrow(dsn, database=database, self_contained=True) as connection:
            return await read_revertible(connection)

    async def registry(
        self, dsn: Dsn, database: str, kind: RegistryKind, schema: str | None
    ) -> Registry | None:
        """What another tool has deployed in a database; read anew every time."""
        async with self._connections.borrow(dsn, database=database, self_contained=True) as connection:
            return await read_registry(connection, kind, schema)

    async def _server_with(self, dsn: Dsn, names: Sequence[str], *, not_before: float | None) -> ServerFacts:
        """What a server is; who reads anew gets what was read a moment ago, if it has all of these databases.

        What else is said of a server changes with a restart of it, or with its programs.
        """
        if not_before is None:
            recent = self._servers.ready(dsn, not_before=time.monotonic() - SERVER_STANDS_S)
            if recent is not None and all(name in recent.databases for name in names):
                return recent
        return await self._servers.get(dsn, lambda: self._server(dsn), not_before=not_before)

    async def _server(self, dsn: Dsn) -> ServerFacts:
        async with self._connections.borrow(dsn, self_contained=True) as connection:
            return await read_server(connection)

    async def _named_roles(self, dsn: Dsn, names: frozenset[str]) -> Mapping[str, LiveRole]:
        async with self._connections.borrow(dsn, self_contained=True) as connection:
            return await read_roles(connection, names)

    async def _database(self, dsn: Dsn, database: str, *, due_too: bool = True) -> _Read:
        borrow = partial(self._connections.borrow, dsn, database=database, self_contained=True)
        async with borrow() as connection:
            tracked, live = await _glance(connection)
            known_probe = self._known_probe(dsn, database, tracked, due_too=due_too)
            if live.probe == known_probe:
                return tracked, live
            live = await read_database(
                connection,
                known_probe=known_probe,
                # Who holds one connection never waits for a second.
                beside=partial(borrow, wait=False),
            )
            return await _with_objects(connection, tracked, live), live

    def _known_probe(
        self, dsn: Dsn, database: str, tracked: TrackedDatabase, *, due_too: bool = True
    ) -> str | None:
        """The probe that makes a full read needless; None when one is due anyway."""
        base_line = tracked.base_line
        if base_line is None or base_line.moving or base_line.algorithm != ALGORITHM:
            return base_line.probe if base_line is not None else ""
        key = (dsn.server, database)
        now = time.monotonic()
        last = self._full_reads.get(key)
        if last is None:
            # The first one comes anywhere in the interval, so that a thousand databases are not due at once.
            share = zlib.crc32("\0".join(key).encode("utf-8", "surrogatepass")) / 2**32
            last = self._full_reads[key] = now - share * self._full_read_interval_s
            while len(self._full_reads) > DATABASES_REMEMBERED:
                self._full_reads.popitem(last=False)
        if not due_too or now - last < self._full_read_interval_s:
            return base_line.probe
        self._full_reads[key] = now
        return None


@frozen
class _Freshness:
    """How old a read may be that serves; see `StateReader.read`."""

    not_before: float | None
    due_too: bool


def _has_else(desired: DesiredState) -> bool:
    """Whether a deployment has anything that is not on its own server."""
    own = desired.programs
    return bool(desired.databases or own.services or own.jobs or own.routes)


def _named_roles(parts: Sequence[DesiredDatabase]) -> frozenset[str]:
    """The roles of a server that databases on it name."""
    named = {name for part in parts for role in part.roles for name in (role.name, *role.member_of)}
    access = (part.access for part in parts if part.access is not None)
    return frozenset(named.union(*((one.owner, one.reader) for one in access)))


def _live_of(found: Mapping[str, _Read]) -> Mapping[str, LiveDatabase]:
    return {name: live for name, (_tracked, live) in found.items()}


def _together(
    found: Mapping[str, _Read],
    live: LiveState,
    answers: Mapping[str, tuple[Mapping[str, _Read], LiveState] | str | None] | None = None,
) -> tuple[TrackedState, LiveState]:
    """The states of a deployment from what its own server and its services hold."""
    every = dict(found)
    servers: dict[str, LiveState | None] = {}
    silent: dict[str, str] = {}
    for service, answer in (answers or {}).items():
        if isinstance(answer, str):
            servers[service], silent[service] = None, answer
        elif answer is not None:
            every.update(answer[0])
            servers[service] = answer[1]
    return (
        TrackedState(databases={name: tracked for name, (tracked, _live) in every.items()}),
        replace(live, databases=_live_of(every), servers=servers, silent=silent),
    )


def _rows(read: _Read) -> int:
    tracked, live = read
    changes = sum(len(module.changes) for module in tracked.modules.values())
    base_line = tracked.base_line
    objects = len(base_line.objects or ()) if base_line is not None else 0
    return 10 + changes + objects + (len(live.catalog.objects) if live.catalog is not None else 0)


async def _glance(connection: Connection) -> _Read:
    """What is tracked, and the live state without the catalog, as of one moment and in two exchanges."""

    async def once() -> _Read:
        tracked, live = TrackedReading(connection), Glance(connection)
        async with reading(connection):
            await tracked.send_first()
            await live.send_first()
            await tracked.send_second()
            await live.send_second(managed=tracked.installed)
        return await tracked.finish(), await live.finish()

    doing = f"reading database '{connection.info.dbname}'"
    return await read_repeatedly(once, doing, translated=translate)


async def _with_objects(
    connection: Connection, tracked: TrackedDatabase, live: LiveDatabase
) -> TrackedDatabase:
    """Add the objects of the base line where the catalog was read, so that the two can be compared."""
    base_line = tracked.base_line
    if base_line is None or base_line.moving or live.catalog is None:
        return tracked
    objects = await read_base_line_objects(connection)
    return replace(tracked, base_line=replace(base_line, objects=objects))
