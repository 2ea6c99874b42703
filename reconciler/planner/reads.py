"""Reads the tracked and live state of databases; it decides nothing and writes nowhere."""

import asyncio
import time

from reconciler.postgres.connection import Connection, Connections, Dsn
from reconciler.snapshot.database import ServerFacts, read_database, read_server
from reconciler.snapshot.probe import ALGORITHM
from reconciler.state.desired import DesiredDatabase, DesiredState
from reconciler.state.live import LiveDatabase, LiveState
from reconciler.state.tracked import TrackedDatabase, TrackedState
from reconciler.tracking.read import read_base_line_objects, read_tracked


class StateReader:
    """Reads states over borrowed connections, and remembers when a catalog was last read in full."""

    def __init__(
        self, connections: Connections, *, databases_in_parallel: int, full_read_interval_s: float
    ) -> None:
        self._connections = connections
        self._databases_in_parallel = databases_in_parallel
        self._full_read_interval_s = full_read_interval_s
        self._full_reads: dict[tuple[str, str], float] = {}

    async def read(self, dsn: Dsn, desired: DesiredState) -> tuple[TrackedState, LiveState]:
        """Tracked and live state of every database of a deployment."""
        async with self._connections.borrow(dsn) as connection:
            server = await read_server(connection)
        slots = asyncio.Semaphore(self._databases_in_parallel)

        async def one(database: DesiredDatabase) -> tuple[TrackedDatabase, LiveDatabase]:
            async with slots:
                return await self._database(dsn, database.database, server)

        pairs = await asyncio.gather(*(one(database) for database in desired.databases))
        names = [database.database for database in desired.databases]
        return (
            TrackedState(
                databases={name: tracked for name, (tracked, _live) in zip(names, pairs, strict=True)}
            ),
            LiveState(
                server_major=server.server_major,
                databases={name: live for name, (_tracked, live) in zip(names, pairs, strict=True)},
                available_extensions=server.available_extensions,
            ),
        )

    async def _database(
        self, dsn: Dsn, database: str, server: ServerFacts
    ) -> tuple[TrackedDatabase, LiveDatabase]:
        if database not in server.databases:
            return TrackedDatabase(), LiveDatabase()
        async with self._connections.borrow(dsn, database=database) as connection:
            tracked = await read_tracked(connection)
            live = await read_database(
                connection,
                known_probe=self._known_probe(dsn, database, tracked),
                beside=lambda: self._connections.borrow(dsn, database=database),
            )
            return await _with_objects(connection, tracked, live), live

    def _known_probe(self, dsn: Dsn, database: str, tracked: TrackedDatabase) -> str | None:
        """The probe that makes a full read needless; None when one is due anyway."""
        base_line = tracked.base_line
        if base_line is None or base_line.moving or base_line.algorithm != ALGORITHM:
            return base_line.probe if base_line is not None else ""
        key = (dsn.server, database)
        now = time.monotonic()
        last = self._full_reads.setdefault(key, now)
        if now - last < self._full_read_interval_s:
            return base_line.probe
        self._full_reads[key] = now
        return None


async def _with_objects(
    connection: Connection, tracked: TrackedDatabase, live: LiveDatabase
) -> TrackedDatabase:
    """Add the objects of the base line where the catalog was read, so that the two can be compared."""
    base_line = tracked.base_line
    if base_line is None or base_line.moving or live.catalog is None:
        return tracked
    objects = await read_base_line_objects(connection)
    return TrackedDatabase(
        installed=tracked.installed,
        version=tracked.version,
        modules=tracked.modules,
        base_line=type(base_line)(
            moving=base_line.moving,
            identity=base_line.identity,
            algorithm=base_line.algorithm,
            probe=base_line.probe,
            objects=objects,
        ),
    )
