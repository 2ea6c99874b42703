"""Reads the live catalog of one database into values, in one short transaction; decides nothing.

The server builds one row per object: kind, quoted name and canonical definition. Names stand for oids and
attribute numbers throughout, `search_path` is empty, and nothing that people do not declare is read: no
sequence positions, statistics, file nodes or members of extensions.
"""

import asyncio
from collections.abc import Iterable

import psycopg

from reconciler.catalog.fingerprint import fingerprint
from reconciler.catalog.model import Catalog, CatalogObject, ObjectKind
from reconciler.snapshot.marked import parts_of, without
from reconciler.snapshot.transaction import QUERIES, Connection, read_repeatedly, reading

# Split in halves of about the same work, for two connections. Relations come last: deparsing a view locks
# (ACCESS SHARE) what it reads until the transaction ends.
_PARTS = (
    "schemas",
    "extensions",
    "default_privileges",
    "database_itself",
    "event_triggers",
    "publications",
    "routines",
    "triggers",
    "policies",
    "rules",
    "constraints",
    "indexes",
)
_RELATIONS = ("types", "sequences", "relations")
_FOUND_BY = {
    "default_privileges": {"default privileges"},
    "event_triggers": {"event triggers"},
    "publications": {"publications"},
    "routines": {"routines"},
    "triggers": {"triggers"},
    "policies": {"policies"},
    "rules": {"rules"},
    "constraints": {"constraints"},
    "indexes": {"indexes"},
    "types": {"types", "composites"},
    "sequences": {"sequences"},
    "relations": {"relations"},
}
"""The parts of the probe that have a row for all that a query finds; other queries always find something."""
_KIND = {kind.value: kind for kind in ObjectKind}


async def read_catalog(connection: Connection, *, beside: Connection | None = None) -> Catalog:
    """Read every object of the connection's database that is not the system's, an extension's or ours.

    A second connection to the same database, `beside`, takes about half of the work off the first one.
    """

    async def once() -> Catalog:
        async with reading(connection):
            return await read_objects(connection, beside=beside)

    return await read_repeatedly(once, f"reading the catalog of database '{connection.info.dbname}'")


async def read_objects(
    connection: Connection, *, beside: Connection | None = None, present: frozenset[str] | None = None
) -> Catalog:
    """Read the catalog inside the transaction and the pipeline the caller holds.

    `present` are the parts that a probe in the same transaction found rows of: kinds without any are not
    asked for, since to a new session of the server planning a query costs far more than finding nothing; nor
    do the others look for what nothing has.
    """
    parts, relations = (_worth_asking(names, present) for names in (_PARTS, _RELATIONS))
    if beside is None:
        return Catalog(await _read(connection, parts + relations, present))
    cursor = await connection.execute(QUERIES["export_snapshot"], prepare=False)
    row = await cursor.fetchone()
    assert row is not None
    async with reading(beside, snapshot=row[0]):
        for each in (connection, beside):
            await each.execute(QUERIES["settings_for_two"], prepare=False)
        # Both are awaited whatever happens: neither transaction may end while the other's query runs.
        halves = await asyncio.gather(
            _read(connection, parts, present), _read(beside, relations, present), return_exceptions=True
        )
        for half in halves:
            if isinstance(half, BaseException):
                raise half
    return Catalog({key: row for half in halves if isinstance(half, dict) for key, row in half.items()})


def _worth_asking(names: tuple[str, ...], present: frozenset[str] | None) -> tuple[str, ...]:
    if present is None:
        return names
    return tuple(name for name in names if name not in _FOUND_BY or _FOUND_BY[name] & present)


async def _read(
    connection: Connection, names: Iterable[str], present: frozenset[str] | None
) -> dict[str, CatalogObject]:
    cursors = [
        await connection.execute(without(name, parts_of(name) if present is None else present), prepare=False)
        for name in names
    ]
    objects: dict[str, CatalogObject] = {}
    for cursor in cursors:
        for kind, name, definition in await cursor.fetchall():
            if definition is None:
                raise psycopg.errors.UndefinedObject(f"{kind} {name} was dropped while it was read")
            objects[f"{kind} {name}"] = CatalogObject(_KIND[kind], name, definition, fingerprint(definition))
    return objects
