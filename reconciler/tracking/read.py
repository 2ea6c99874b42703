"""Reads what is tracked in one managed database; writes nothing, also where there is no tracking schema."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

import psycopg

from reconciler.catalog.model import CatalogObject, DatabaseIdentity, Fingerprint, ObjectKind
from reconciler.errors import Refused
from reconciler.postgres.connection import Connection
from reconciler.state.tracked import (
    BaseLine,
    Revertible,
    TrackedChange,
    TrackedDatabase,
    TrackedModule,
    TrackedObjects,
    Unfinished,
)
from reconciler.tracking.errors import translate
from reconciler.tracking.sql import QUERIES

LOG_MOST = 10_000
_DOING = "reading the tracking schema"
_NOBODY = (None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEvent:
    """One thing that was done with a change: `kind` is deploy, revert or fail."""

    event_id: int
    kind: str
    project: str
    change_id: str
    name: str
    note: str
    requires: tuple[str, ...]
    conflicts: tuple[str, ...]
    tags: tuple[str, ...]
    occurred_at: datetime
    actor: str
    commit: str
    operation: str
    sqlstate: str | None
    message: str | None
    file: str | None
    line: int | None


async def read_tracked(connection: Connection) -> TrackedDatabase:
    """Read modules, changes, tags and the base line without its objects, as of one moment."""
    try:
        reading = TrackedReading(connection)
        await reading.send_first()
        await reading.send_second()
        return await reading.finish()
    except psycopg.Error as error:
        raise translate(error, _DOING) from error


async def read_under_fence(connection: Connection) -> TrackedDatabase:
    """The same for who has the fence, and so knows that the schema is there; without unfinished changes."""
    try:
        cursor = await connection.execute(QUERIES["read_tracked"])
        return _tracked(await cursor.fetchall())
    except psycopg.Error as error:
        raise translate(error, _DOING) from error


async def read_base_line_objects(connection: Connection) -> Mapping[str, CatalogObject]:
    """Read the objects of the base line, by identity; none where there is no tracking schema."""
    try:
        if not await _is_installed(connection):
            return {}
        cursor = await connection.execute(QUERIES["read_base_line_objects"])
        kinds = {kind.value: kind for kind in ObjectKind}
        return {
            f"{kind} {name}": CatalogObject(kinds[kind], name, definition, Fingerprint(fingerprint))
            for kind, name, definition, fingerprint in await cursor.fetchall()
        }
    except psycopg.Error as error:
        raise translate(error, _DOING) from error


async def read_revertible(connection: Connection) -> Mapping[str, Revertible]:
    """Read what is stored to take deployed changes back, by change id."""
    try:
        if not await _is_installed(connection):
            return {}
        cursor = await connection.execute(QUERIES["read_revertible"])
        return {
            change_id: Revertible(
                script=script, verify=verify, requires=tuple(requires), requires_ids=tuple(ids)
            )
            for change_id, script, verify, requires, ids in await cursor.fetchall()
        }
    except psycopg.Error as error:
        raise translate(error, _DOING) from error


async def read_verify_scripts(connection: Connection, ids: Sequence[str]) -> Mapping[str, str]:
    """Read the verify scripts that were stored with changes, by change id, where there are any."""
    try:
        if not await _is_installed(connection):
            return {}
        cursor = await connection.execute(QUERIES["read_verify_scripts"], {"ids": list(ids)})
        return dict(await cursor.fetchall())
    except psycopg.Error as error:
        raise translate(error, _DOING) from error


async def read_log(
    connection: Connection,
    project: str | None = None,
    limit: int = 100,
    *,
    change: str | None = None,
    kind: str | None = None,
) -> tuple[LoggedEvent, ...]:
    """Read the newest events first, of one project, change (with its older instances) or kind, or of all."""
    try:
        if not await _is_installed(connection):
            return ()
        parameters = {
            "project": project,
            "change": change,
            "kind": kind,
            "limit": min(max(limit, 0), LOG_MOST),
        }
        cursor = await connection.execute(QUERIES["read_log"], parameters)
        return tuple(_event(row) for row in await cursor.fetchall())
    except psycopg.Error as error:
        raise translate(error, _DOING) from error


class TrackedReading:
    """The same as `read_tracked`, in a transaction and a pipeline of the caller, which others may share.

    What is sent together costs one exchange. Errors come as the driver's, for `tracking.errors.translate`.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._found: psycopg.AsyncCursor[tuple[Any, ...]] | None = None
        self._rows: psycopg.AsyncCursor[tuple[Any, ...]] | None = None
        self._unfinished: psycopg.AsyncCursor[tuple[Any, ...]] | None = None
        self._objects: psycopg.AsyncCursor[tuple[Any, ...]] | None = None

    async def send_first(self) -> None:
        """Ask whether the schema is there."""
        self._found = await self._connection.execute(QUERIES["find_tracking"])

    async def send_second(self) -> None:
        """Ask for what is in it, where it is."""
        assert self._found is not None
        row = await self._found.fetchone()
        assert row is not None
        if _is_ours(row, self._connection):
            self._rows = await self._connection.execute(QUERIES["read_tracked"])
            if row[4]:
                self._unfinished = await self._connection.execute(QUERIES["read_unfinished"])
            if row[5]:
                self._objects = await self._connection.execute(QUERIES["owners_of_objects"])

    @property
    def installed(self) -> bool:
        """Whether the schema is there; known once the second half was sent."""
        return self._rows is not None

    async def finish(self) -> TrackedDatabase:
        """What was found, once everything was sent."""
        if self._rows is None:
            return TrackedDatabase()
        found = _tracked(await self._rows.fetchall())
        rows = await self._unfinished.fetchall() if self._unfinished is not None else ()
        found = replace(found, unfinished=_unfinished(rows)) if rows else found
        owners = await self._objects.fetchall() if self._objects is not None else ()
        return replace(found, objects=tuple(_owner(row) for row in owners)) if owners else found


async def read_unfinished(connection: Connection) -> Mapping[str, Unfinished]:
    """Read the changes outside of transactions that were begun and are not recorded, by change id."""
    try:
        cursor = await connection.execute(QUERIES["read_unfinished"])
        return _unfinished(await cursor.fetchall())
    except psycopg.Error as error:
        raise translate(error, _DOING) from error


def _owner(row: Sequence[Any]) -> TrackedObjects:
    component, environment, deployment, schemas = row
    return TrackedObjects(
        component=component, environment=environment, deployment=deployment, schemas=tuple(schemas)
    )


_UNFINISHED = tuple(each.name for each in fields(Unfinished))


def _unfinished(rows: Sequence[Sequence[Any]]) -> Mapping[str, Unfinished]:
    found = (dict(zip(_UNFINISHED, row, strict=True)) for row in rows)
    return {
        values["change_id"]: Unfinished(
            **{**values, "done": tuple(values["done"]), "there_before": tuple(values["there_before"])}
        )
        for values in found
    }


async def _is_installed(connection: Connection) -> bool:
    """Look for the schema first: asking for what is not there would fill the server's log with errors."""
    cursor = await connection.execute(QUERIES["find_tracking"])
    row = await cursor.fetchone()
    assert row is not None
    return _is_ours(row, connection)


def _is_ours(row: Sequence[Any], connection: Connection) -> bool:
    _present, may_use, may_read, is_ours, *_notes = row
    if is_ours and not (may_use and may_read):
        raise Refused(
            f"{_DOING}: this role may not read schema 'reconciler' of database '{connection.info.dbname}'",
            hint="grant it membership in the role that owns the schema, or connect as who installed it",
        )
    return bool(is_ours)


def _tracked(rows: Sequence[Sequence[Any]]) -> TrackedDatabase:
    modules: dict[str, tuple[str, list[TrackedChange]]] = {}
    head: Sequence[str | None] = ()
    for project, component, change_id, name, script_hash, parse_hash, position, tags in rows:
        if project is None:
            head = tags
            continue
        changes = modules.setdefault(project, (component, []))[1]
        if change_id is not None:
            changes.append(
                TrackedChange(
                    change_id=change_id,
                    name=name,
                    script_hash=script_hash,
                    parse_hash=parse_hash,
                    position=position,
                    tags=tuple(tags) if tags else (),
                )
            )
    whose: dict[str, Sequence[Any]] = json.loads(head[7]) if head and head[7] else {}
    return TrackedDatabase(
        installed=True,
        version=int(head[0] or 0),
        modules={
            project: TrackedModule(
                project=project,
                component=component,
                changes=tuple(changes),
                environment=whose.get(project, _NOBODY)[0],
                deployment=whose.get(project, _NOBODY)[1],
                late=frozenset(whose.get(project, _NOBODY)[2] or ()),
            )
            for project, (component, changes) in sorted(modules.items())
        },
        base_line=_base_line(head[1:7]),
        busy=len(head) > 8 and head[8] == "true",
        epoch=int(head[9]) if len(head) > 9 and head[9] is not None else None,
    )


def _base_line(columns: Sequence[str | None]) -> BaseLine | None:
    moving, system_identifier, database_oid, server_major, algorithm, probe = columns
    if moving is None or system_identifier is None or database_oid is None or server_major is None:
        return None
    return BaseLine(
        moving=moving == "true",
        identity=DatabaseIdentity(system_identifier, int(database_oid), int(server_major)),
        algorithm=int(algorithm or 0),
        probe=probe or "",
    )


def _event(row: Sequence[Any]) -> LoggedEvent:
    values = dict(zip(LoggedEvent.__slots__, row, strict=True))
    for name in ("requires", "conflicts", "tags"):
        values[name] = tuple(values[name])
    return LoggedEvent(**values)
