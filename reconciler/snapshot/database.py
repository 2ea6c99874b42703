"""Reads what one database and one server are, and the catalog only where its probe moved; decides nothing."""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from dataclasses import field
from typing import Any, TypeVar

import psycopg

from reconciler.catalog.model import Catalog, DatabaseIdentity
from reconciler.errors import ReconcilerError
from reconciler.frozen import frozen
from reconciler.snapshot.catalog import read_objects
from reconciler.snapshot.probe import Probing, probe
from reconciler.snapshot.transaction import ATTEMPTS_MAX, QUERIES, Connection, read_repeatedly, reading
from reconciler.state.live import LiveDatabase

_Cursor = psycopg.AsyncCursor[tuple[Any, ...]]
Borrow = Callable[[], AbstractAsyncContextManager[Connection]]

_Read = TypeVar("_Read", bound="LiveDatabase | WholeCatalog")

LARGE_CATALOG_BYTES = 2 * 1024 * 1024
"""Size of pg_class from which a second connection pays: about ten thousand relations and indexes."""

SMALL_CATALOG_BYTES = 512 * 1024
"""Size of pg_class up to which any plan is a good one: about two thousand relations and indexes."""

UNKNOWN_SYSTEM = "unknown"
"""System identifier where the role may not ask for it: a copy is then known by its database oid alone."""


@frozen
class ServerFacts:
    """What a server is; `databases` has the oid of each, so that a missing one is known without connecting.

    `closed_databases` are templates and those that take no connections.
    """

    server_major: int
    databases: Mapping[str, int]
    closed_databases: frozenset[str] = frozenset()
    can_create_database: bool = False
    is_superuser: bool = False
    in_recovery: bool = False
    available_extensions: frozenset[str] = field(default_factory=frozenset)
    lock_capacity: int | None = None


@frozen
class WholeCatalog:
    """Everything that is in one database, and which one that is; as of one moment."""

    identity: DatabaseIdentity
    probe: str
    catalog: Catalog


async def read_server(connection: Connection) -> ServerFacts:
    """Read what the server is, over a connection to any of its databases."""

    async def once() -> ServerFacts:
        async with reading(connection):
            cursor = await connection.execute(QUERIES["server_facts"], prepare=False)
            row = await cursor.fetchone()
        assert row is not None
        return ServerFacts(
            server_major=row[0],
            can_create_database=row[1],
            is_superuser=row[2],
            in_recovery=row[3],
            databases=row[4],
            closed_databases=frozenset(row[5]),
            available_extensions=frozenset(row[6]),
            lock_capacity=row[7],
        )

    return await read_repeatedly(once, "reading what the server is and has")


async def read_database(
    connection: Connection, *, known_probe: str | None, beside: Borrow | None = None
) -> LiveDatabase:
    """Read the connection's database; its catalog only where the probe is not `known_probe`.

    `beside` gives a second connection to the same database; a full read of a large catalog shares its work
    with that, where there is one to be had.

    Probe and catalog come from one snapshot. But the server deparses definitions from its newest catalog,
    so after a full read the probe is asked again, and where it moved the picture is mixed and is taken anew.
    Under DDL without end the last one has to do: its probe is older than it, so the next pass reads again.
    """

    async def once() -> LiveDatabase:
        return await _read_once(connection, known_probe, beside)

    return await _unmixed(connection, once)


async def read_whole(connection: Connection) -> WholeCatalog:
    """Read the whole catalog of the connection's database, like `read_database`, and nothing beside it."""

    async def once() -> WholeCatalog:
        async with reading(connection):
            identity_cursor = await connection.execute(QUERIES["database_identity"], prepare=False)
            probing = Probing(connection)
            await probing.send_first()
            row = await identity_cursor.fetchone()
            assert row is not None
            oid, major, may_identify, size = row
            await probing.send_second()
            probed = await probing.finish()
            catalog = await _read_catalog(connection, size, probed.present, beside=None)
            system = await _system_identifier(connection) if may_identify else UNKNOWN_SYSTEM
        identity = DatabaseIdentity(system_identifier=system, database_oid=oid, server_major=major)
        return WholeCatalog(identity=identity, probe=probed.text, catalog=catalog)

    return await _unmixed(connection, once)


async def _unmixed(connection: Connection, once: Callable[[], Awaitable[_Read]]) -> _Read:
    """Read until no DDL came between, as often as is sensible."""
    doing = f"reading database '{connection.info.dbname}'"
    found = await read_repeatedly(once, doing)
    for _ in range(ATTEMPTS_MAX - 1):
        if found.catalog is None or await probe(connection) == found.probe:
            break
        found = await read_repeatedly(once, doing)
    return found


class Glance:
    """What `read_database` finds where the probe is known, in a transaction and a pipeline of the caller.

    Another reading may share these: what is sent together costs one exchange. Errors come as the driver's.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._facts_cursor: _Cursor | None = None
        self._more_cursor: _Cursor | None = None
        self._probing = Probing(connection)
        self._system_cursor: _Cursor | None = None
        self._facts: tuple[Any, ...] = ()

    async def send_first(self) -> None:
        """Ask for the first facts and the probe."""
        self._facts_cursor = await self._connection.execute(QUERIES["database_at_a_glance"], prepare=False)
        await self._probing.send_first()

    async def send_second(self, *, managed: bool = False) -> None:
        """Ask for the identity of the cluster, where this role may, and what else there is to know.

        Of a database that is managed nobody asks whether it is empty, and what the server could create there
        is known of the server: so these are not said of it.
        """
        if not managed:
            self._more_cursor = await self._connection.execute(QUERIES["database_facts"], prepare=False)
        assert self._facts_cursor is not None
        row = await self._facts_cursor.fetchone()
        assert row is not None
        self._facts = row
        if self._facts[2]:
            self._system_cursor = await self._connection.execute(QUERIES["system_identifier"], prepare=False)
        await self._probing.send_second()

    async def finish(self) -> LiveDatabase:
        """What was found, once everything was sent; without the catalog."""
        probed = await self._probing.finish()
        system = await self._system_cursor.fetchone() if self._system_cursor is not None else None
        identity = str(system[0]) if system is not None else UNKNOWN_SYSTEM
        oid, major, _may_identify, extensions = self._facts
        facts: tuple[Any, ...] | None = (oid, major, _may_identify, False, extensions, ())
        if self._more_cursor is not None:
            facts = await self._more_cursor.fetchone()
        assert facts is not None
        return _live(facts, identity, probed.text, None)


async def _read_once(connection: Connection, known_probe: str | None, beside: Borrow | None) -> LiveDatabase:
    async with reading(connection):
        facts_cursor = await connection.execute(QUERIES["database_facts"], prepare=True)
        probing = Probing(connection)
        await probing.send_first()
        facts = await facts_cursor.fetchone()
        assert facts is not None
        await probing.send_second()
        probed = await probing.finish()
        catalog = None
        if probed.text != known_probe:
            catalog = await _read_catalog(connection, facts[6], probed.present, beside=beside)
        system = await _system_identifier(connection) if facts[2] else UNKNOWN_SYSTEM
    return _live(facts, system, probed.text, catalog)


def _live(facts: tuple[Any, ...], system: str, found: str, catalog: Catalog | None) -> LiveDatabase:
    return LiveDatabase(
        exists=True,
        empty=facts[3],
        identity=DatabaseIdentity(system_identifier=system, database_oid=facts[0], server_major=facts[1]),
        extensions=facts[4],
        available_extensions=frozenset(facts[5]),
        probe=found,
        catalog=catalog,
    )


async def _read_catalog(
    connection: Connection, size: int, present: frozenset[str], *, beside: Borrow | None
) -> Catalog:
    """Read a catalog whose pg_class has this size, in bytes."""
    if size <= SMALL_CATALOG_BYTES:
        await connection.execute(QUERIES["settings_for_small"], prepare=False)
    async with AsyncExitStack() as stack:
        second = None
        if beside is not None and size >= LARGE_CATALOG_BYTES:
            # A server that is short of connections is read over one, a little slower.
            with suppress(ReconcilerError):
                second = await stack.enter_async_context(beside())
        return await read_objects(connection, beside=second, present=present)


async def _system_identifier(connection: Connection) -> str:
    cursor = await connection.execute(QUERIES["system_identifier"], prepare=False)
    row = await cursor.fetchone()
    assert row is not None
    return str(row[0])
