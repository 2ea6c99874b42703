"""Reads the live catalog of one database into values, in one short transaction; decides nothing.

The server builds one row per object: kind, quoted name and canonical definition. Names stand for oids and
attribute numbers throughout, `search_path` is empty, and nothing that people do not declare is read: no
sequence positions, statistics, file nodes or members of extensions.
"""

import psycopg

from reconciler.catalog.fingerprint import fingerprint
from reconciler.catalog.model import Catalog, CatalogObject, ObjectKind
from reconciler.snapshot.transaction import QUERIES, Connection, read_repeatedly, reading

# Relations come last: deparsing a view locks (ACCESS SHARE) what it reads until the transaction ends.
_KINDS = (
    "schemas",
    "extensions",
    "default_privileges",
    "database_itself",
    "event_triggers",
    "publications",
    "routines",
    "types",
    "sequences",
    "constraints",
    "indexes",
    "triggers",
    "policies",
    "rules",
    "relations",
)
_KIND = {kind.value: kind for kind in ObjectKind}


async def read_catalog(connection: Connection) -> Catalog:
    """Read every object of the connection's database that is not the system's, an extension's or ours."""

    async def once() -> Catalog:
        async with reading(connection):
            return await read_objects(connection)

    return await read_repeatedly(once, f"reading the catalog of database '{connection.info.dbname}'")


async def read_objects(connection: Connection) -> Catalog:
    """Read the catalog inside the transaction and the pipeline the caller holds."""
    cursors = [await connection.execute(QUERIES[name], prepare=False) for name in _KINDS]
    objects: dict[str, CatalogObject] = {}
    for cursor in cursors:
        for kind, name, definition in await cursor.fetchall():
            if definition is None:
                raise psycopg.errors.UndefinedObject(f"{kind} {name} was dropped while it was read")
            objects[f"{kind} {name}"] = CatalogObject(_KIND[kind], name, definition, fingerprint(definition))
    return Catalog(objects)
