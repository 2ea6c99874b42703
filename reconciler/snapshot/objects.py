"""Reads what a generation of SQL objects would meet in the live catalog; it decides nothing."""

from collections.abc import Collection, Mapping

from reconciler.catalog.identifier import quote_identifier
from reconciler.objects.model import ObjectName
from reconciler.objects.preflight import Asked, Content, Meeting, SchemaFacts
from reconciler.objects.results import Results
from reconciler.objects.stable import Column, Signature
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


async def read_schemas(connection: Connection) -> tuple[frozenset[str], frozenset[str]]:
    """Read the names of all schemas, and of those that hold nothing."""

    async def once() -> tuple[frozenset[str], frozenset[str]]:
        async with reading(connection):
            rows = await (await connection.execute(QUERIES["all_schemas"], prepare=False)).fetchall()
        return frozenset(row[0] for row in rows), frozenset(name for name, empty in rows if empty)

    return await read_repeatedly(once, "reading the names of schemas")


async def read_results(
    connection: Connection, names: Collection[ObjectName], *, staging: Mapping[str, str] | None = None
) -> Results:
    """Read columns and signatures of objects where they are live, or in the schemas beside those.

    What is beside is told by live names: so what differs does.
    """
    beside = staging or {}
    ordered = sorted(names)
    at = {
        "schemas": [beside.get(one.schema, one.schema) for one in ordered],
        "names": [one.name for one in ordered],
    }
    live = {home: name for name, home in beside.items()}

    def named(schema: str, name: str) -> ObjectName:
        return ObjectName(live.get(schema, schema), name)

    def plain(text: str) -> str:
        for home, name in live.items():
            text = text.replace(f"{quote_identifier(home)}.", f"{quote_identifier(name)}.")
        return text

    async def once() -> Results:
        columns: dict[ObjectName, list[Column]] = {}
        signatures: dict[ObjectName, list[Signature]] = {}
        async with reading(connection):
            rows = await connection.execute(QUERIES["columns_for_objects"], at, prepare=False)
            routines = await connection.execute(QUERIES["signatures_for_objects"], at, prepare=False)
            for schema, relation, name, type_ in await rows.fetchall():
                of = named(schema, relation)
                columns.setdefault(of, []).append(Column(name=name, type=plain(type_)))
            for schema, name, types, parameters, result, defaults in await routines.fetchall():
                of = named(schema, name)
                signatures.setdefault(of, []).append(
                    Signature(
                        types=plain(types),
                        parameters=plain(parameters),
                        result=plain(result),
                        defaults=defaults,
                    )
                )
        return Results(
            columns={of: tuple(found) for of, found in columns.items()},
            signatures={of: tuple(found) for of, found in signatures.items()},
        )

    return await read_repeatedly(once, "reading columns and signatures of SQL objects")
