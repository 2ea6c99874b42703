"""Reads what a generation of SQL objects would meet in the live catalog; it decides nothing."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from reconciler.snapshot.transaction import QUERIES, Connection, read_repeatedly, reading

CONTENTS_MAX = 100_000
"""Objects in the schemas that are asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaFacts:
    """A schema that is there: who owns it, and whether we act as the owner."""

    owner: str
    owned: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """Something that stands in a schema; `oid` is one of relations or routines where it is either."""

    schema: str
    routine: bool
    relation: bool
    oid: int
    description: str
    extension: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """What is there: the schemas asked for by name, what stands in some, and what is missing."""

    role: str
    database: str
    may_create: bool
    schemas: Mapping[str, SchemaFacts]
    contents: tuple[Content, ...]
    missing: tuple[tuple[str, str], ...]
    unreadable: tuple[tuple[str, str], ...]
    missing_roles: tuple[str, ...]


async def read_meeting(
    connection: Connection,
    *,
    names: Collection[str],
    displaced: Collection[str],
    relations: Sequence[tuple[str, str]],
    roles: Collection[str],
) -> Meeting:
    """Read, as of one moment: schemas of `names`, contents of `displaced`, which relations and roles lack."""

    async def once() -> Meeting:
        async with reading(connection):
            rights = await connection.execute(QUERIES["rights_for_objects"], prepare=False)
            schemas = await connection.execute(
                QUERIES["schemas_for_objects"], {"names": sorted(names)}, prepare=False
            )
            contents = await connection.execute(
                QUERIES["contents_for_objects"],
                {"names": sorted(displaced), "limit": CONTENTS_MAX},
                prepare=False,
            )
            missing = await connection.execute(
                QUERIES["missing_relations"],
                {"schemas": [one[0] for one in relations], "names": [one[1] for one in relations]},
                prepare=False,
            )
            lacking = await connection.execute(
                QUERIES["missing_roles"], {"names": sorted(roles)}, prepare=False
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
                    Content(**dict(zip(Content.__slots__, row, strict=True)))
                    for row in await contents.fetchall()
                ),
                missing=tuple((schema, name) for schema, name, absent in unmet if absent),
                unreadable=tuple((schema, name) for schema, name, absent in unmet if not absent),
                missing_roles=tuple(row[0] for row in await lacking.fetchall()),
            )

    return await read_repeatedly(once, "looking at what SQL objects would meet")
