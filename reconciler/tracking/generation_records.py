"""Records what becomes of generations of SQL objects, inside of the transactions that do it.

Every statement here checks the fence. Errors come out as the driver's, for `generations.translated`.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import psycopg

from reconciler.objects.model import ObjectName
from reconciler.postgres.connection import Connection
from reconciler.tracking import deferred
from reconciler.tracking.fence import Fence
from reconciler.tracking.generations import AgedView, Dependent, GenerationState, Parked
from reconciler.tracking.record import Actor
from reconciler.tracking.sql import QUERIES

RECORD_OBJECT = QUERIES["record_object"]
"""Takes `epoch`, `generation`, `schema` and `name`: records what the same transaction just made."""
RECORD_OBJECTS = QUERIES["record_objects"]
"""The same of many, by `schemas` and `names` side by side."""


async def begin(
    connection: Connection, fence: Fence, work: Mapping[str, object], by: Actor, component: str
) -> int:
    """Record a generation with its schemas and objects before anything of it is made; returns its number.

    In a transaction of the caller's, `deferred` of the work is recorded with it.
    """
    document = {
        **work,
        "component": component,
        "commit": by.commit,
        "operation": by.operation,
        "actor": by.committer,
    }
    parameters = {"epoch": fence.epoch, "work": json.dumps(document, ensure_ascii=False)}
    cursor = await connection.execute(QUERIES["begin_generation"], parameters)
    number = int((await _one(cursor))[0])
    actions = work.get("deferred")
    if isinstance(actions, Sequence) and actions:
        await deferred.record(connection, fence, number, actions)
    return number


async def move(
    connection: Connection,
    fence: Fence,
    number: int,
    change: tuple[Sequence[GenerationState], GenerationState],
    failure: str | None = None,
) -> bool:
    """Move a generation from one of some states to another; false where it is in none of them."""
    before, state = change
    parameters = {
        "epoch": fence.epoch,
        "generation": number,
        "before": [one.value for one in before],
        "state": state.value,
        "failure": failure,
    }
    cursor = await connection.execute(QUERIES["move_generation"], parameters)
    return bool((await _one(cursor))[0])


async def record_schema(connection: Connection, fence: Fence, number: int, schema: str) -> None:
    """Record the staging schema that the same transaction just made."""
    parameters = {"epoch": fence.epoch, "generation": number, "schema": schema}
    await connection.execute(QUERIES["record_schema"], parameters)


async def record_details(connection: Connection, number: int, names: Sequence[ObjectName]) -> None:
    """Record how objects of a generation stand now."""
    parameters = {
        "generation": number,
        "schemas": [one.schema for one in names],
        "names": [one.name for one in names],
    }
    await connection.execute(QUERIES["record_details"], parameters)


async def record_filled(connection: Connection, number: int, name: ObjectName) -> None:
    """Record that a materialized view was filled, and how it stands since."""
    parameters = {"generation": number, "schema": name.schema, "name": name.name}
    await connection.execute(QUERIES["record_filled"], parameters)
    await record_details(connection, number, [name])


async def clock(connection: Connection) -> datetime:
    """Read the clock of the server."""
    now: datetime = (await _one(await connection.execute(QUERIES["clock"])))[0]
    return now


async def record_filled_again(connection: Connection, one: AgedView, since: datetime) -> None:
    """Record from when the rows of a materialized view are that is still the same."""
    parameters = {
        "generation": one.generation,
        "schema": one.name.schema,
        "name": one.name.name,
        "oid": one.oid,
        "since": since,
    }
    await connection.execute(QUERIES["record_filled_again"], parameters)


async def settle_stability(connection: Connection, schema: str, *, stable: bool) -> None:
    """Record whether a live schema is changed in place from now on; the caller has checked the fence."""
    await connection.execute(QUERIES["settle_stability"], {"schema": schema, "stable": stable})


async def finish_staging(connection: Connection, fence: Fence, number: int) -> None:
    """Record how everything that was made stands, and that all is made."""
    await connection.execute(QUERIES["finish_staging"], {"epoch": fence.epoch, "generation": number})


async def try_switch_lock(connection: Connection) -> bool:
    """Try to keep others from switching until the transaction ends."""
    cursor = await connection.execute(QUERIES["try_switch_lock"])
    return bool((await _one(cursor))[0])


async def record_dependent(connection: Connection, number: int, one: Dependent, *, back: bool) -> None:
    """Record what was bound anew, as it was before."""
    parameters = {
        "generation": number,
        "back": back,
        "identity": one.identity,
        "definition": one.statement,
        "acl": list(one.acl),
    }
    await connection.execute(QUERIES["record_dependent"], parameters)


async def record_rebound(connection: Connection, oids: Sequence[int]) -> None:
    """Record how objects of ours that were bound anew stand now: that was nobody's hand."""
    await connection.execute(QUERIES["record_rebound"], {"oids": list(oids)})


async def reset_metadata(
    connection: Connection, fence: Fence, name: ObjectName, options: Mapping[str, str]
) -> list[str]:
    """Take back what we granted on and said of a live object or schema; gives what was granted by hand.

    What default privileges give to new ones of their kind they have again.
    """
    parameters: dict[str, object] = {"epoch": fence.epoch, "schema": name.schema}
    query = "reset_schema"
    if name.name:
        query = "reset_object"
        parameters |= {"name": name.name, "options": json.dumps(dict(options))}
    cursor = await connection.execute(QUERIES[query], parameters)
    by_hand = list((await _one(cursor))[0] or ())
    if not name.name:
        born = await connection.execute(QUERIES["born_grants_of_schema"], {"schema": name.schema})
        for (statement,) in await born.fetchall():
            await connection.execute(str(statement).encode())
    return by_hand


async def record_metadata(
    connection: Connection, fence: Fence, name: ObjectName, hash_: str, by_hand: list[str]
) -> None:
    """Record how grants, comments and options of a live object or schema are now, but for those by hand."""
    parameters: dict[str, object] = {
        "epoch": fence.epoch,
        "schema": name.schema,
        "hash": hash_,
        "extra": by_hand,
    }
    query = "record_schema_metadata"
    if name.name:
        query = "record_metadata"
        parameters["name"] = name.name
    await connection.execute(QUERIES[query], parameters)
    if by_hand:
        query = "unsettle_object" if name.name else "unsettle_schema"
        await connection.execute(QUERIES[query], {"schema": name.schema, "name": name.name})


async def without_grants(connection: Connection, name: ObjectName, lines: Sequence[str]) -> None:
    """Take grants back from a live object or schema; whose it is, and default privileges, stay."""
    query = "take_back_object" if name.name else "take_back_schema"
    parameters = {"schema": name.schema, "name": name.name, "lines": list(lines)}
    await connection.execute(QUERIES[query], parameters)


async def grants(connection: Connection, name: ObjectName) -> frozenset[str]:
    """Read owner and grants of a live object or schema, as lines."""
    query = "grants_of_object" if name.name else "grants_of_schema"
    cursor = await connection.execute(QUERIES[query], {"schema": name.schema, "name": name.name})
    return frozenset((await _one(cursor))[0] or ())


async def settle_switch(connection: Connection, fence: Fence, number: int, retain: timedelta) -> datetime:
    """Record that a generation is live; returns until when what it displaced is kept."""
    parameters = {"epoch": fence.epoch, "generation": number, "retain": retain}
    cursor = await connection.execute(QUERIES["settle_switch"], parameters)
    until: datetime = (await _one(cursor))[0]
    return until


async def texts_in_place(connection: Connection, number: int) -> list[dict[str, Any]]:
    """Read what takes replacements in stable schemas back: before renames, for texts name what they read."""
    path = await (await connection.execute(QUERIES["read_search_path"])).fetchone()
    assert path is not None
    await connection.execute(QUERIES["set_search_path"], {"path": ""})
    cursor = await connection.execute(QUERIES["texts_in_place"], {"generation": number})
    found = [
        {"generation": number, "schema": schema, "name": name, "texts": texts}
        for schema, name, texts in await cursor.fetchall()
    ]
    await connection.execute(QUERIES["set_search_path"], {"path": path[0]})
    return found


async def move_in_place(
    connection: Connection, fence: Fence, number: int, back: Sequence[dict[str, Any]]
) -> None:
    """Move what comes to stable schemas and what goes, before texts are run in them; keep the way back."""
    await connection.execute(QUERIES["move_in_place"], {"epoch": fence.epoch, "generation": number})
    for one in back:
        await connection.execute(QUERIES["keep_texts"], one)


async def settle_in_place(connection: Connection, fence: Fence, number: int) -> None:
    """Drop what was tried for stable schemas, and record what texts made in them."""
    await connection.execute(QUERIES["settle_in_place"], {"epoch": fence.epoch, "generation": number})


async def revert_in_place(connection: Connection, fence: Fence, number: int) -> None:
    """Take back what a switch did in stable schemas."""
    await connection.execute(QUERIES["revert_in_place"], {"epoch": fence.epoch, "generation": number})


async def settle_revert(connection: Connection, fence: Fence, number: int) -> None:
    """Record that the switch to a generation was taken back."""
    await connection.execute(QUERIES["settle_revert"], {"epoch": fence.epoch, "generation": number})


async def drop(connection: Connection, fence: Fence, one: Parked) -> None:
    """Drop an object, or an empty schema, that is still what and where it was recorded; nothing along."""
    if one.sort is None:
        schema = {"epoch": fence.epoch, "namespace": one.oid, "name": one.name}
        await connection.execute(QUERIES["drop_parked_schema"], schema)
    else:
        whole = {
            "epoch": fence.epoch,
            "sort": one.sort,
            "object": one.oid,
            "namespace": one.namespace,
        }
        await connection.execute(QUERIES["drop_object"], whole)


async def settle_parked(
    connection: Connection, fence: Fence, number: int, failure: str | None = None
) -> None:
    """Record which generations are gone, once nothing of them is there any more."""
    parameters = {"epoch": fence.epoch, "generation": number, "failure": failure}
    await connection.execute(QUERIES["settle_parked"], parameters)


async def _one(cursor: psycopg.AsyncCursor[tuple[Any, ...]]) -> tuple[Any, ...]:
    row = await cursor.fetchone()
    assert row is not None
    return row
