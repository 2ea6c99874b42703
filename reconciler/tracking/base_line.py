"""Stores the base line: what a database held after our last write, from which drift is measured.

Only what differs from the stored objects is written; the transaction checks the fence and commits durably.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import psycopg

from reconciler.catalog.model import Catalog, CatalogObject, DatabaseIdentity
from reconciler.errors import Refused
from reconciler.postgres.connection import Connection
from reconciler.tracking.errors import translate
from reconciler.tracking.fence import CHECK, Fence
from reconciler.tracking.sql import QUERIES

_HASH_BYTES = 16
_DOING = "settling the base line"


async def settle(
    connection: Connection,
    fence: Fence,
    catalog: Catalog,
    probe: str,
    identity: DatabaseIdentity,
    algorithm: int,
) -> None:
    """Store what the database holds after our last write; from then on the base line stands still.

    Refused where the stored base line is of another physical database: that is a copy, and to be adopted.
    """
    await _store(connection, fence, catalog, (probe, identity, algorithm), of_copy=False)


async def adopt_copy(
    connection: Connection,
    fence: Fence,
    catalog: Catalog,
    probe: str,
    identity: DatabaseIdentity,
    algorithm: int,
) -> None:
    """Take the base line and the identity of a copy anew, which makes it a database of its own."""
    await _store(connection, fence, catalog, (probe, identity, algorithm), of_copy=True)


async def _store(
    connection: Connection,
    fence: Fence,
    catalog: Catalog,
    taken: tuple[str, DatabaseIdentity, int],
    *,
    of_copy: bool,
) -> None:
    probe, identity, algorithm = taken
    parameters = {
        "system_identifier": identity.system_identifier,
        "database_oid": identity.database_oid,
        "server_major": identity.server_major,
        "algorithm": algorithm,
        "probe": probe,
        "operation": fence.owner.operation,
    }
    try:
        async with connection.transaction():
            # One exchange for all that comes before the first decision.
            async with connection.pipeline():
                await connection.execute(QUERIES["reset_session"])
                await connection.execute(QUERIES["commit_durably"])
                await connection.execute(CHECK, {"epoch": fence.epoch})
                known = await connection.execute(QUERIES["read_identity"])
                fingerprints = await connection.execute(QUERIES["read_fingerprints"], binary=True)
            if not of_copy:
                _refuse_copy(await known.fetchone(), identity)
            await _store_objects(connection, catalog, dict(await fingerprints.fetchall()))
            await connection.execute(QUERIES["settle_base_line"], parameters)
    except psycopg.Error as error:
        raise translate(error, _DOING) from error


def _refuse_copy(row: Sequence[Any] | None, identity: DatabaseIdentity) -> None:
    # An upgrade of the server gives the same database another identity along with another major version.
    if row is None or row[2] != identity.server_major or DatabaseIdentity(*row) == identity:
        return
    raise Refused(
        f"{_DOING}: it was taken of database {row[1]} of cluster {row[0]}, and this is database"
        f" {identity.database_oid} of cluster {identity.system_identifier}: a copy",
        hint="adopt the copy before anything is written to it",
    )


async def _store_objects(connection: Connection, catalog: Catalog, stored: Mapping[bytes, str]) -> None:
    found = {_hash(item): item for item in catalog.objects.values()}
    outdated = [key for key, fingerprint in stored.items() if _differs(found.get(key), fingerprint)]
    fresh = [(key, item) for key, item in found.items() if stored.get(key) != item.fingerprint]
    if outdated:
        await connection.execute(QUERIES["delete_objects"], {"hashes": outdated})
    if fresh:
        await _copy(connection, fresh)


def _differs(item: CatalogObject | None, fingerprint: str) -> bool:
    return item is None or item.fingerprint != fingerprint


async def _copy(connection: Connection, objects: Iterable[tuple[bytes, CatalogObject]]) -> None:
    cursor = connection.cursor()
    async with cursor.copy(QUERIES["copy_objects"]) as copy:
        copy.set_types(("bytea", "text", "text", "text", "text"))
        for key, item in objects:
            await copy.write_row((key, item.kind.value, item.name, item.fingerprint, item.definition))


def _hash(item: CatalogObject) -> bytes:
    return hashlib.sha256(item.identity.encode()).digest()[:_HASH_BYTES]
