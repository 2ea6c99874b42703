"""Find in the database what became of a statement outside of transactions, and clear what it left half done.

It looks through the connection that ran the statement, so that names mean what they meant to it.
"""

from collections.abc import Mapping
from typing import Any

from psycopg import sql

from reconciler.catalog.sql_facts import Target
from reconciler.catalog.sql_targets import REPEATABLE
from reconciler.postgres.connection import Connection
from reconciler.postgres.queries import Queries, trusted

_QUERIES = Queries.load("reconciler.execution")
_EXISTS: Mapping[str, str] = {
    "drop-index": "relation_exists",
    "create-database": "database_exists",
    "drop-database": "database_exists",
    "create-tablespace": "tablespace_exists",
    "drop-tablespace": "tablespace_exists",
    "create-subscription": "subscription_exists",
    "drop-subscription": "subscription_exists",
}


async def there(connection: Connection, target: Target) -> tuple[str, ...]:
    """What is there now of the kind that a statement makes or takes away, as numbers of the catalog."""
    if target.sort in ("create-index", "reindex"):
        return tuple(row[0] for row in await _indexes(connection, target))
    query = _EXISTS.get(target.sort)
    if query is None:
        return ()
    return tuple(row[0] for row in await _rows(connection, query, {"name": target.name}))


async def clear(connection: Connection, target: Target, before: tuple[str, ...]) -> None:
    """Take away what an interrupted or failed statement left that cannot be used."""
    if target.sort not in ("create-index", "reindex"):
        return
    for number, schema, name, usable in await _indexes(connection, target):
        if number not in before and not usable:
            query = _QUERIES["drop_index_concurrently"].format(index=sql.Identifier(schema, name))
            await connection.execute(query)


async def is_done(connection: Connection, target: Target, before: tuple[str, ...]) -> bool:
    """Whether a statement that was interrupted did all of its work; where not, it can be run from here on."""
    await clear(connection, target, before)
    if target.sort == "create-index":
        made = [row for row in await _indexes(connection, target) if row[0] not in before]
        return any(not target.name or target.name == _quoted(row[2]) for row in made)
    if target.sort == "detach":
        return await _detached(connection, target)
    if target.sort in ("reindex", REPEATABLE):
        return False
    now = await there(connection, target)
    return not now if target.sort.startswith("drop-") else bool(set(now) - set(before))


async def unusable(connection: Connection, target: Target) -> str | None:
    """The index that a statement should have made and that cannot be used: an earlier one of its name."""
    if target.sort != "create-index" or not target.name:
        return None
    for _number, schema, name, usable in await _indexes(connection, target):
        if target.name == _quoted(name) and not usable:
            return f"{schema}.{name}"
    return None


async def _detached(connection: Connection, target: Target) -> bool:
    found = await _rows(connection, "partition_state", {"name": target.name, "relation": target.relation})
    if not found:
        return True
    if found[0][0]:
        names = {"relation": trusted(target.relation), "partition": trusted(target.name)}
        await connection.execute(_QUERIES["finish_detaching"].format(**names))
        return True
    return False


async def _indexes(connection: Connection, target: Target) -> list[tuple[Any, ...]]:
    if target.sort == "reindex":
        return await _rows(connection, "indexes_left_by_reindex", {})
    return await _rows(connection, "indexes_of_table", {"relation": target.relation})


async def _rows(connection: Connection, query: str, parameters: Mapping[str, str]) -> list[tuple[Any, ...]]:
    cursor = await connection.execute(_QUERIES[query], parameters)
    return await cursor.fetchall()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
