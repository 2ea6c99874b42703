"""Generations of SQL objects as one managed database has them recorded; it makes and drops none of them.

It reads only; `generation_records` writes. Errors of statements come out as the driver's, for `translated`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import psycopg

from reconciler.errors import Conflict, NotFound, ReconcilerError, Refused, StateMoved
from reconciler.objects.model import BuiltObject, ObjectName, ObjectSort, Production
from reconciler.postgres.connection import Connection
from reconciler.tracking.errors import translate
from reconciler.tracking.sql import QUERIES

SCHEMA_IS_ANOTHERS = "RC011"
NOT_MADE = "RC012"
NOT_IN_STATE = "RC013"
FINDINGS_MAX = 200
"""Of one kind of question; more than that nobody reads."""


class GenerationState(StrEnum):
    """How far a generation is."""

    STAGING = "staging"
    STAGED = "staged"
    READY = "ready"
    LIVE = "live"
    RETAINED = "retained"
    REVERTED = "reverted"
    RETIRED = "retired"
    FAILED = "failed"
    CANCELLED = "cancelled"


BEFORE_SWITCH = (GenerationState.STAGING, GenerationState.STAGED, GenerationState.READY)


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackedGeneration:
    """One generation as it is recorded; `in_window` by the clock of the server."""

    number: int
    key: str
    component: str
    environment: str
    deployment: str
    commit: str
    operation: str
    state: GenerationState
    failure: str | None
    begun_at: datetime
    staged_at: datetime | None
    ready_at: datetime | None
    promoted_at: datetime | None
    retained_until: datetime | None
    in_window: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationSchema:
    """A schema of a generation: its live name, the one beside it, and whether that was made."""

    name: str
    sort: str
    staging: str | None
    made: bool
    old_name: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationObject:
    """An object of a generation, and whether it was made, and filled."""

    name: ObjectName
    sort: ObjectSort
    hash: str
    metadata_hash: str
    made: bool
    filled: bool


class Question(StrEnum):
    """What can be asked of a generation; the answers are findings."""

    SCHEMAS = "found_in_schemas"
    UNKNOWN = "found_unknown"
    CHANGED = "found_changed"
    UNREADY = "found_unready"
    PARKED = "found_parked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something that speaks against a switch or a drop: what kind, of what, and what it is."""

    kind: str
    subject: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Dependent:
    """What depends on displaced objects; `statement` binds it anew, None where nothing can."""

    identity: str
    statement: str | None
    acl: tuple[str, ...]
    oid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AgedView:
    """A materialized view whose rows are old, and the schema where it stands now.

    `generation` has it recorded, and `own` says that this is the one that was asked for.
    """

    name: ObjectName
    home: str
    generation: int
    oid: int
    own: bool
    beside_readers: bool


def translated(error: psycopg.Error, doing: str) -> ReconcilerError:
    """Say what an error of the statements about generations means."""
    words = f"{doing}: {error.diag.message_primary}"
    if error.sqlstate == SCHEMA_IS_ANOTHERS:
        return Refused(words, hint=error.diag.message_hint)
    if error.sqlstate == NOT_MADE:
        return StateMoved(words, hint="somebody dropped or renamed it; it is planned anew")
    if error.sqlstate == NOT_IN_STATE:
        return Conflict(words, hint="another operation was there first; plan again")
    return translate(error, doing)


async def find(
    connection: Connection, *, key: str | None = None, number: int | None = None
) -> TrackedGeneration:
    """Read a generation by its key (the newest) or number; raises NotFound."""
    cursor = await connection.execute(QUERIES["find_generation"], {"key": key, "generation": number})
    row = await cursor.fetchone()
    if row is None:
        raise NotFound(f"no generation {key or number} of objects is recorded here")
    values = dict(zip(TrackedGeneration.__slots__, row, strict=True))
    return TrackedGeneration(**{**values, "state": GenerationState(values["state"])})


async def schemas(connection: Connection, number: int) -> tuple[GenerationSchema, ...]:
    """Read the schemas of a generation."""
    cursor = await connection.execute(QUERIES["read_generation_schemas"], {"generation": number})
    return tuple(
        GenerationSchema(name=name, sort=sort, staging=staging, made=oid is not None, old_name=old)
        for name, sort, staging, oid, old in await cursor.fetchall()
    )


async def objects(connection: Connection, number: int) -> tuple[GenerationObject, ...]:
    """Read the objects of a generation, in an order in which they can be made."""
    cursor = await connection.execute(QUERIES["read_generation_objects"], {"generation": number})
    return tuple(
        GenerationObject(
            name=ObjectName(schema, name),
            sort=ObjectSort(sort),
            hash=hash_,
            metadata_hash=metadata,
            made=made,
            filled=filled,
        )
        for schema, name, sort, hash_, metadata, made, filled in await cursor.fetchall()
    )


async def read_production(
    connection: Connection, *, component: str, environment: str, deployment: str
) -> Production:
    """Read what is live of a component."""
    parameters = {"component": component, "environment": environment, "deployment": deployment}
    try:
        cursor = await connection.execute(QUERIES["read_production"], parameters)
        rows = await cursor.fetchall()
    except psycopg.Error as error:
        raise translate(error, "reading what is live of SQL objects") from error
    return Production(
        objects={
            (full := ObjectName(schema, name)): BuiltObject(
                name=full, sort=ObjectSort(sort), hash=hash_, metadata_hash=metadata
            )
            for schema, _, _, name, sort, hash_, metadata in rows
            if name is not None
        },
        schemas={row[0]: row[1] for row in rows},
        schema_hashes={row[0]: row[2] for row in rows},
    )


async def owners(connection: Connection, names: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Read whose schemas are: component, environment and deployment of those that are somebody's."""
    cursor = await connection.execute(QUERIES["owners_of_schemas"], {"schemas": list(names)})
    return {row[0]: (row[1], row[2], row[3]) for row in await cursor.fetchall()}


async def live_objects(connection: Connection, names: Sequence[str]) -> frozenset[tuple[bool, int]]:
    """Read which objects of schemas are ours: whether it is a routine, and its oid."""
    cursor = await connection.execute(QUERIES["live_objects"], {"schemas": list(names)})
    return frozenset([(routine, oid) for routine, oid in await cursor.fetchall()])


async def staging_names(connection: Connection, key: str) -> frozenset[str]:
    """Read the names of staging schemas that a generation of this key has made."""
    cursor = await connection.execute(QUERIES["staging_names"], {"key": key})
    return frozenset([row[0] for row in await cursor.fetchall()])


async def aged_views(connection: Connection, number: int, seconds: float) -> tuple[AgedView, ...]:
    """Read which materialized views are older that a generation has or reads, in the order to fill them."""
    cursor = await connection.execute(QUERIES["aged_views"], {"generation": number, "seconds": seconds})
    return tuple(
        AgedView(
            name=ObjectName(schema, name),
            home=home,
            generation=generation,
            oid=oid,
            own=own,
            beside_readers=beside,
        )
        for schema, name, home, generation, oid, own, beside in await cursor.fetchall()
    )


async def findings(
    connection: Connection, question: Question, number: int, *, back: bool = False
) -> tuple[Finding, ...]:
    """Ask one of the questions whose answers are findings; `back` where it depends on the way."""
    cursor = await connection.execute(QUERIES[question.value], {"generation": number, "back": back})
    rows = await cursor.fetchmany(FINDINGS_MAX)
    return tuple(Finding(kind=kind, subject=subject, detail=detail) for kind, subject, detail in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """An object (with its sort) or a schema (without one) that is to be dropped, as `identity` shows it."""

    identity: str
    sort: str | None
    oid: int
    namespace: int
    name: str


async def parked(connection: Connection, number: int) -> tuple[Parked, ...]:
    """Read what is parked of a generation, in an order in which it can be dropped: schemas come last."""
    cursor = await connection.execute(QUERIES["parked_objects"], {"generation": number})
    inside = tuple(
        Parked(identity=f"{sort} {home}.{name}", sort=sort, oid=oid, namespace=namespace, name=name)
        for name, home, sort, oid, namespace in await cursor.fetchall()
    )
    cursor = await connection.execute(QUERIES["parked_schemas"], {"generation": number})
    homes = tuple(
        Parked(identity=f"schema {name}", sort=None, oid=oid, namespace=oid, name=name)
        for oid, name in await cursor.fetchall()
    )
    return (*inside, *homes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """An object that is told live names in the switch, or made there."""

    name: ObjectName
    sort: ObjectSort
    action: str
    texts: tuple[str, ...]
    staging: str | None


async def hand_made_grants(connection: Connection, number: int, *, back: bool) -> tuple[str, ...]:
    """Read the statements that carry what was granted by hand over to what becomes live."""
    cursor = await connection.execute(QUERIES["hand_made_grants"], {"generation": number, "back": back})
    return tuple(row[0] for row in await cursor.fetchall())


@dataclass(frozen=True, slots=True, kw_only=True)
class BeforeSwitch:
    """All that a switch goes by, as it is inside of its transaction; `renames` are from and to, in order."""

    findings: tuple[Finding, ...]
    dependents: tuple[Dependent, ...]
    renames: tuple[tuple[str, str], ...]
    told: tuple[Told, ...]
    in_place: bool
    """Whether a stable schema is changed too."""


async def before_switch(connection: Connection, number: int, *, back: bool, checked: bool) -> BeforeSwitch:
    """Read what a switch goes by, in one exchange; `checked` asks too whether all is filled."""
    questions = [Question.SCHEMAS, Question.UNKNOWN, Question.CHANGED]
    questions += [Question.UNREADY] if checked else []
    parameters = {"generation": number, "back": back}
    async with connection.pipeline():
        asked = [await connection.execute(QUERIES[one.value], parameters) for one in questions]
        dependents = await connection.execute(QUERIES["found_dependents"], parameters)
        renames = await connection.execute(QUERIES["renames"], parameters)
        told = await connection.execute(QUERIES["texts_in_switch"], parameters)
        schemas = await connection.execute(QUERIES["read_generation_schemas"], parameters)
    found: list[Finding] = []
    for cursor in asked:
        rows = await cursor.fetchmany(FINDINGS_MAX)
        found += [Finding(kind=kind, subject=subject, detail=detail) for kind, subject, detail in rows]
    return BeforeSwitch(
        findings=tuple(found),
        dependents=tuple(
            Dependent(identity=identity, statement=statement, acl=tuple(acl or ()), oid=oid)
            for identity, statement, acl, oid in await dependents.fetchall()
        ),
        renames=_renames(await renames.fetchall()),
        told=() if back else _told(await told.fetchall()),
        in_place=any(row[1] == "stable" for row in await schemas.fetchall()),
    )


def _renames(rows: Sequence[Sequence[Any]]) -> tuple[tuple[str, str], ...]:
    found: list[tuple[str, str]] = []
    for schema, outgoing, incoming in rows:
        found += [(schema, outgoing)] if outgoing is not None else []
        found += [(incoming, schema)] if incoming is not None else []
    return tuple(found)


def _told(rows: Sequence[Sequence[Any]]) -> tuple[Told, ...]:
    return tuple(
        Told(
            name=ObjectName(schema, name),
            sort=ObjectSort(sort),
            action=action,
            texts=tuple(texts),
            staging=staging,
        )
        for schema, name, sort, action, texts, staging in rows
    )
