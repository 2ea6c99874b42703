"""Reads what Sqitch or pgpm records as deployed in a database; it never writes there."""

from collections.abc import Mapping

import psycopg

from reconciler.errors import Refused
from reconciler.postgres.connection import translate
from reconciler.postgres.queries import Queries
from reconciler.snapshot.transaction import Connection, reading
from reconciler.state.registry import Registry, RegistryChange, RegistryKind

_QUERIES = Queries.load("reconciler.snapshot")
CHANGES_MAX = 100_000
"""More deployed changes than this are not taken over."""
SCHEMAS: Mapping[RegistryKind, tuple[str, ...]] = {
    RegistryKind.SQITCH: ("sqitch",),
    RegistryKind.PGPM: ("pgpm_migrate", "launchql_migrate"),
}
"""Where each tool keeps its registry, the usual place first."""
_TABLES: Mapping[RegistryKind, tuple[str, ...]] = {
    RegistryKind.SQITCH: ("projects", "changes", "tags", "dependencies"),
    RegistryKind.PGPM: ("packages", "changes", "dependencies"),
}
_READS: Mapping[RegistryKind, tuple[str, str]] = {
    RegistryKind.SQITCH: ("sqitch_projects", "sqitch_changes"),
    RegistryKind.PGPM: ("pgpm_projects", "pgpm_changes"),
}


async def read_registry(connection: Connection, kind: RegistryKind, schema: str | None) -> Registry | None:
    """Read the registry in `schema`, or where the tool keeps it; None where there is none.

    Raises Refused where it is too large, and the translated error where it cannot be read.
    """
    doing = f"reading the {kind.value} registry of database '{connection.info.dbname}'"
    try:
        for place in SCHEMAS[kind] if schema is None else (schema,):
            found = await _read(connection, kind, place)
            if found is not None:
                if len(found.changes) > CHANGES_MAX:
                    raise Refused(f"{doing}: it has more than {CHANGES_MAX} changes")
                return found
    except psycopg.Error as error:
        raise translate(error, doing) from error
    return None


async def _read(connection: Connection, kind: RegistryKind, schema: str) -> Registry | None:
    tables = list(_TABLES[kind])
    async with reading(connection):
        cursor = await connection.execute(
            _QUERIES["registry_tables"], {"schema": schema, "tables": tables}, prepare=False
        )
        row = await cursor.fetchone()
        if row is None or row[0] < len(tables):
            return None
        await connection.execute(_QUERIES["enter_registry"], {"schema": schema}, prepare=False)
        projects, changes = _READS[kind]
        names = await (await connection.execute(_QUERIES[projects], prepare=False)).fetchall()
        most = {"most": CHANGES_MAX + 1}
        rows = await (await connection.execute(_QUERIES[changes], most, prepare=False)).fetchall()
    return Registry(
        kind=kind,
        schema=schema,
        projects=tuple(name for (name,) in names),
        changes=tuple(
            RegistryChange(
                project=project,
                change_id=change_id,
                name=name,
                script_hash=script_hash,
                deployed_at=deployed_at,
                tags=tuple(tags),
            )
            for project, change_id, name, script_hash, deployed_at, tags in rows
        ),
    )
