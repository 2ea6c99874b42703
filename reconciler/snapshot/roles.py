"""Reads the roles of a server that somebody asks for by name; it decides nothing."""

from collections.abc import Collection, Mapping

from reconciler.snapshot.transaction import QUERIES, Connection, read_repeatedly, reading
from reconciler.state.live import LiveRole


async def read_roles(connection: Connection, names: Collection[str]) -> Mapping[str, LiveRole]:
    """Read those of some roles that the server has, over a connection to any of its databases."""

    async def once() -> Mapping[str, LiveRole]:
        async with reading(connection):
            cursor = await connection.execute(QUERIES["roles"], {"names": sorted(names)}, prepare=False)
            rows = await cursor.fetchall()
        return {
            row[0]: LiveRole(
                superuser=row[1],
                attributes={
                    "login": row[2],
                    "bypassrls": row[3],
                    "createdb": row[4],
                    "createrole": row[5],
                    "replication": row[6],
                },
                member_of=frozenset(row[7]),
                comment=row[8],
            )
            for row in rows
        }

    return await read_repeatedly(once, "reading the roles of the server")
