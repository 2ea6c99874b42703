"""Records what was done with changes, inside the transaction that does it.

Each function sends one statement of ours, after one that undoes what a script did to the session. Neither
waits for the other, so that in a pipeline they cost no round trip; there the caller meets the errors where it
synchronises, and translates them with `reconciler.tracking.errors.translate`.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import NamedTuple

import psycopg

from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection
from reconciler.state.tracked import Unfinished
from reconciler.tracking.errors import translate
from reconciler.tracking.fence import Fence
from reconciler.tracking.sql import QUERIES


@frozen
class ModuleIdentity:
    """The module that a change belongs to, and the component that declares it."""

    project: str
    component: str
    uri: str | None = None


class TagRecord(NamedTuple):
    """A tag as the plan file has it; `name` without the @, `planned_at` as ISO 8601 text."""

    tag_id: str
    name: str
    note: str = ""
    planned_at: str | None = None
    planner: str | None = None


@frozen
class ChangeRecord:
    """A change as it is recorded.

    `requires` holds ("require" or "conflict", the dependency as the plan file writes it, the id of the change
    that met it or None); `tags` those known at deployment, also as bare (id, name). The hashes are hex;
    `planned_at` is ISO 8601 text.
    """

    change_id: str
    name: str
    script_hash: str | None = None
    parse_hash: str | None = None
    revert_script: str | None = None
    verify_script: str | None = None
    note: str = ""
    requires: tuple[tuple[str, str, str | None], ...] = ()
    tags: tuple[TagRecord | tuple[str, str], ...] = ()
    planned_at: str | None = None
    planner: str | None = None
    late: bool = False
    deployed_at: str | None = None
    """When it was deployed, as ISO 8601 text; now, where that is None."""


@frozen
class Actor:
    """On whose behalf something is done: the commit, the operation, and who asked for it."""

    commit: str
    operation: str
    committer: str


@frozen
class Failure:
    """Why a change failed: the server's words, and the place in the script where there is one."""

    message: str
    sqlstate: str | None = None
    file: str | None = None
    line: int | None = None


async def reset_session(connection: Connection) -> None:
    """Undo what a script did to the session; every function here begins with it."""
    await connection.execute(QUERIES["reset_session"])


async def begin_writes(connection: Connection, fence: Fence) -> None:
    """Mark the base line as moving: the first write of an operation to a database; again, writes nothing."""
    parameters = {"epoch": fence.epoch, "operation": fence.owner.operation}
    await _send(connection, "begin_writes", parameters, "marking the base line as moving")


async def change_deployed(
    connection: Connection,
    fence: Fence,
    module: ModuleIdentity,
    change: ChangeRecord,
    by: Actor,
) -> None:
    """Record a deployed change with its dependencies, tags and event, if the fence is still ours."""
    parameters = deployed_parameters(fence, module, change, by)
    await _send(connection, "record_change", parameters, f"recording change '{change.name}'")


def deployed_parameters(
    fence: Fence, module: ModuleIdentity, change: ChangeRecord, by: Actor
) -> dict[str, object]:
    """What `record_change` takes, for whoever sends it in a message of their own."""
    return {"epoch": fence.epoch, "change": _document(module, change, by)}


async def unfinished_noted(connection: Connection, fence: Fence, noted: Unfinished, by: Actor) -> None:
    """Note how far a change outside of transactions is, for good, before what cannot be taken back."""
    document = {
        **asdict(noted),
        "actor": by.committer,
        "commit": by.commit,
        "operation": by.operation,
    }
    parameters = {"epoch": fence.epoch, "change": json.dumps(document, ensure_ascii=False)}
    await _send(connection, "note_unfinished", parameters, f"noting how far change '{noted.name}' is")


async def change_failed(
    connection: Connection,
    fence: Fence,
    module: ModuleIdentity,
    change: ChangeRecord,
    failure: Failure,
    by: Actor,
) -> None:
    """Append the failure of a change; called after the rollback, so that it stays."""
    reason = {
        # Text of PostgreSQL holds no zero byte, and a constraint wants a reason.
        "message": failure.message.replace("\x00", "") or "no reason given",
        "sqlstate": failure.sqlstate,
        "file": failure.file,
        "line": failure.line if failure.file is not None else None,
    }
    parameters = {"epoch": fence.epoch, "change": _document(module, change, by, reason)}
    await _send(connection, "record_failure", parameters, f"recording the failure of change '{change.name}'")


async def change_reverted(
    connection: Connection, fence: Fence, project: str, change: tuple[str, str], by: Actor
) -> None:
    """Forget a change (id, name) with its tags, and record that it was reverted, if the fence is ours."""
    parameters = reverted_parameters(fence, project, change, by)
    await _send(connection, "revert_change", parameters, f"recording that change '{change[1]}' was reverted")


def reverted_parameters(fence: Fence, project: str, change: tuple[str, str], by: Actor) -> dict[str, object]:
    """What `revert_change` takes, for whoever sends it in a message of their own."""
    document = {
        "project": project,
        "change_id": change[0],
        "actor": by.committer,
        "commit": by.commit,
        "operation": by.operation,
    }
    return {"epoch": fence.epoch, "change": json.dumps(document, ensure_ascii=False)}


async def change_renamed(
    connection: Connection, fence: Fence, project: str, change: tuple[str, str], by: Actor
) -> None:
    """Give the record of a deployed change (id, new name) that name; again, writes nothing."""
    document = {
        "project": project,
        "change_id": change[0],
        "name": change[1],
        "actor": by.committer,
        "commit": by.commit,
        "operation": by.operation,
    }
    parameters = {"epoch": fence.epoch, "change": json.dumps(document, ensure_ascii=False)}
    await _send(connection, "rename_change", parameters, f"recording the new name of change '{change[1]}'")


async def tag_recorded(
    connection: Connection,
    fence: Fence,
    project: str,
    change_id: str,
    tag: TagRecord | tuple[str, str],
    by: Actor,
) -> None:
    """Record a tag that the plan file gained on a deployed change; again, writes nothing."""
    document = {
        "project": project,
        "change_id": change_id,
        "tags": [TagRecord(*tag)],
        "actor": by.committer,
        "commit": by.commit,
        "operation": by.operation,
    }
    parameters = {"epoch": fence.epoch, "change": json.dumps(document, ensure_ascii=False)}
    await _send(connection, "tag_change", parameters, f"recording tag '@{tag[1]}'")


async def _send(connection: Connection, query: str, parameters: dict[str, object], doing: str) -> None:
    try:
        await connection.execute(QUERIES["reset_session"])
        await connection.execute(QUERIES[query], parameters)
    except psycopg.Error as error:
        raise translate(error, doing) from error


def _document(
    module: ModuleIdentity, change: ChangeRecord, by: Actor, reason: Mapping[str, object] | None = None
) -> str:
    document: dict[str, object] = {
        "project": module.project,
        "component": module.component,
        "uri": module.uri,
        "change_id": change.change_id,
        "name": change.name,
        "script_hash": change.script_hash,
        "parse_hash": change.parse_hash,
        "revert_script": change.revert_script,
        "verify_script": change.verify_script,
        "note": change.note,
        "requires": change.requires,
        "tags": [TagRecord(*tag) for tag in change.tags],
        "planned_at": change.planned_at,
        "planner": change.planner,
        "late": change.late,
        "deployed_at": change.deployed_at,
        "actor": by.committer,
        "commit": by.commit,
        "operation": by.operation,
        **(reason or {}),
    }
    return json.dumps(document, ensure_ascii=False)
