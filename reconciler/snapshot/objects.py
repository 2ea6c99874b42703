"""Reads what a generation of SQL objects would meet in the live catalog; it decides nothing."""

from reconciler.objects.preflight import Asked, Content, Meeting, SchemaFacts
from reconciler.snapshot.transaction import QUERIES, Connection, read_repeatedly, reading

CONTENTS_MAX = 100_000
"""Objects in the schemas that are asked for."""


async def read_meeting(connection: Connection, asked: Asked) -> Meeting:
    """Read, as of one moment: schemas, contents of what is displaced, and what is missing."""

    async def once() -> Meeting:
        async with reading(connection):
            rights = await connection.execute(QUERIES["rights_for_objects"], prepare=False)
            schemas = await connection.execute(
                QUERIES["schemas_for_objects"], {"names": sorted({*asked.live, *asked.beside})}, prepare=False
            )
            contents = await connection.execute(
                QUERIES["contents_for_objects"],
                {"names": sorted(asked.displaced), "limit": CONTENTS_MAX},
                prepare=False,
            )
            missing = await connection.execute(
                QUERIES["missing_relations"],
                {
                    "schemas": [one[0] for one in asked.relations],
                    "names": [one[1] for one in asked.relations],
                },
                prepare=False,
            )
            lacking = await connection.execute(
                QUERIES["missing_roles"], {"names": sorted(asked.roles)}, prepare=False
            )
            first = await rights.fetchone()
            assert first is not None
            unmet = await missing.fetchall()
            return Meeting(
                role=first[0],
                database=first[1],
                may_create=first[2],
                schemas={
                    name: SchemaFacts(owner=owner, owned=owned)
                    for name, owner, owned in await schemas.fetchall()
                },
                contents=tuple(
                    Content(
                        schema=row[0],
                        routine=row[1],
                        relation=row[2],
                        oid=row[3],
                        description=row[4],
                        extension=row[5],
                    )
                    for row in await contents.fetchall()
                ),
                missing=tuple((schema, name) for schema, name, absent in unmet if absent),
                unreadable=tuple((schema, name) for schema, name, absent in unmet if not absent),
                missing_roles=tuple(row[0] for row in await lacking.fetchall()),
            )

    return await read_repeatedly(once, "looking at what SQL objects would meet")
