"""Reads all that is recorded of one component's SQL objects, for comparing; it writes nothing."""

from collections.abc import Collection

import psycopg

from reconciler.diff.model import LeftDeferred, OpenGeneration
from reconciler.diff.objects import BuiltState
from reconciler.objects.model import ObjectName
from reconciler.objects.preflight import Asked, ByHand, Outside, Recorded
from reconciler.postgres.connection import Connection
from reconciler.tracking import deferred, generations
from reconciler.tracking.errors import translate
from reconciler.tracking.sql import QUERIES

OBJECTS_SINCE = 3
"""The version of the tracking schema that brought generations."""
DEFERRED_SINCE = 4
"""The version that brought deferred actions."""
DEPENDENTS_MAX = 200
"""More than these nobody reads."""
BY_HAND_MAX = 200
"""More things that were done by hand nobody reads."""


async def read_built(
    connection: Connection, *, component: str, environment: str, deployment: str, version: int
) -> BuiltState:
    """Read what is live of a component and what is recorded beside that; nothing of the schemas themselves.

    `version` is that of the tracking schema: what it does not know yet is not there.
    """
    whose = {"component": component, "environment": environment, "deployment": deployment}
    production = await generations.read_production(
        connection, component=component, environment=environment, deployment=deployment
    )
    try:
        live = await (await connection.execute(QUERIES["live_generations"], whose)).fetchall()
        unfinished = await (await connection.execute(QUERIES["unfinished_generations"], whose)).fetchall()
        left = await _deferred(connection, whose) if version >= DEFERRED_SINCE else ()
    except psycopg.Error as error:
        raise translate(error, f"reading what is recorded of SQL objects of '{component}'") from error
    return BuiltState(
        production=production,
        generations={schema: generation for schema, generation, _operation in live},
        operations={schema: operation for schema, _generation, operation in live},
        unfinished=tuple(
            OpenGeneration(key=key, state=state, commit=commit, operation=operation)
            for key, state, commit, operation, _made in unfinished
        ),
        staging=frozenset(name for row in unfinished for name in row[4]),
        deferred=left,
    )


async def _deferred(connection: Connection, whose: dict[str, str]) -> tuple[LeftDeferred, ...]:
    pending = await deferred.pending(
        connection,
        component=whose["component"],
        environment=whose["environment"],
        deployment=whose["deployment"],
    )
    return tuple(LeftDeferred(key=one.key, name=one.name, outside=one.outside) for one in pending)


async def read_recorded(connection: Connection, asked: Asked, key: str) -> Recorded:
    """Read what is recorded of schemas and objects that a generation would meet."""
    try:
        return Recorded(
            owners=await generations.owners(connection, asked.live),
            objects=await generations.live_objects(connection, asked.displaced),
            staging=await generations.staging_names(connection, key),
        )
    except psycopg.Error as error:
        raise translate(error, "looking at what is recorded of SQL objects") from error


async def read_dependents(
    connection: Connection,
    objects: Collection[tuple[bool, int]],
    displaced: Collection[str],
    own: Collection[str],
    gone: Collection[ObjectName],
) -> tuple[Outside, ...]:
    """Read what depends on objects (whether it is a routine, oid) from outside.

    That is outside of `displaced` schemas, and but for what was built in schemas of `own`. Nothing takes the
    place of those that are `gone`.
    """
    parameters = {
        "relations": sorted(oid for routine, oid in objects if not routine),
        "routines": sorted(oid for routine, oid in objects if routine),
        "displaced": sorted(displaced),
        "gone_schemas": [one.schema for one in sorted(gone)],
        "gone_names": [one.name for one in sorted(gone)],
        "own": sorted(own),
        "limit": DEPENDENTS_MAX,
    }
    try:
        cursor = await connection.execute(QUERIES["dependents_outside"], parameters)
        return tuple(Outside(identity=identity, bound=bound) for identity, bound in await cursor.fetchall())
    except psycopg.Error as error:
        raise translate(error, "looking at what depends on SQL objects") from error


async def read_by_hand(connection: Connection, asked: Asked) -> tuple[ByHand, ...]:
    """Read what somebody altered or granted by hand where the switch to a generation would look for that."""
    parameters = {"live": list(asked.live), "displaced": list(asked.displaced), "limit": BY_HAND_MAX}
    try:
        cursor = await connection.execute(QUERIES["changed_by_hand"], parameters)
        return tuple(
            ByHand(kind=kind, subject=subject, detail=detail)
            for kind, subject, detail in await cursor.fetchall()
        )
    except psycopg.Error as error:
        raise translate(error, "looking at what was done to SQL objects by hand") from error
