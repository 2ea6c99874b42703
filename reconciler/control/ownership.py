"""Who passes over which environments: taking, giving up, and the check that a pass is still its owner's.

Which environments are whose share is decided by `reconcile.shares`; here it is only written.
"""

from collections.abc import Collection, Mapping
from datetime import datetime

from reconciler.control.sql import changing, many, one, telling
from reconciler.errors import LeaseLost, NotFound
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection


@frozen
class Owned:
    """One environment of a source; `owner` is the worker whose process passes over it, alive or not."""

    name: str
    path: str
    head_commit: str | None
    head_commit_at: datetime | None
    owner: str | None
    owner_is_alive: bool


@frozen
class Settled:
    """An environment whose content is what it was; `is_behind`: it was observed at another commit."""

    is_behind: bool
    error: str | None


async def database_now(connection: Connection) -> datetime:
    """The time of the clock that decides."""
    with telling("reading the clock of the control database"):
        row = await one(connection, "database_now")
    assert row is not None
    now: datetime = row["now"]
    return now


async def read_owned(connection: Connection, source: str) -> dict[str, Owned]:
    """All environments of a source by name, in one query."""
    with telling(f"reading who passes over the environments of source '{source}'"):
        rows = await many(connection, "owned_environments", source=source)
    return {row["name"]: Owned(**row) for row in rows}


async def own(
    connection: Connection, worker: str, source: str, environments: Collection[str]
) -> frozenset[str]:
    """Take environments that nobody alive passes over; gives those that were taken."""
    if not environments:
        return frozenset()
    async with changing(connection, f"taking environments of source '{source}'"):
        rows = await many(
            connection, "own_environments", worker=worker, source=source, environments=sorted(environments)
        )
    return frozenset(row["name"] for row in rows)


async def give_up(connection: Connection, worker: str, environments: Collection[str]) -> frozenset[str]:
    """Let others pass over environments of a worker; gives those that it had."""
    if not environments:
        return frozenset()
    async with changing(connection, "giving up environments"):
        rows = await many(
            connection, "give_up_environments", worker=worker, environments=sorted(environments)
        )
    return frozenset(row["name"] for row in rows)


async def lock_owned(connection: Connection, environment: str, owner: str | None) -> None:
    """Take the lock of an environment; LeaseLost where the pass is another worker's by now.

    With `owner` None whoever comes may write: a person, or a command that works without a daemon.
    """
    row = await one(connection, "lock_owned_environment", environment=environment)
    if row is None:
        raise NotFound(f"there is no environment '{environment}'")
    if owner is not None and row["owner"] != owner:
        raise LeaseLost(f"environment '{environment}' is passed over by another daemon by now")


async def settled(
    connection: Connection,
    inputs: Mapping[str, str],
    *,
    commit: str,
    owner: str | None,
    errors: Collection[str] = (),
) -> dict[str, Settled]:
    """Environments with the content they had when they were last in sync; `errors` are no fault of theirs."""
    if not inputs:
        return {}
    names = sorted(inputs)
    with telling("reading which environments a commit leaves as they are"):
        rows = await many(
            connection,
            "settled_environments",
            environments=names,
            inputs=[inputs[name] for name in names],
            commit=commit,
            owner=owner,
            errors=sorted(errors),
        )
    return {row["name"]: Settled(is_behind=row["is_behind"], error=row["error"]) for row in rows}


async def advance(
    connection: Connection,
    environments: Collection[str],
    *,
    commit: str,
    committed_at: datetime,
    owner: str | None,
) -> frozenset[str]:
    """Carry environments that a commit does not touch to it, in one transaction; gives those carried."""
    if not environments:
        return frozenset()
    names = sorted(environments)
    async with changing(connection, f"carrying environments to commit {commit[:12]}"):
        await many(connection, "lock_environments_of", environments=names, owner=owner)
        rows = await many(
            connection,
            "advance_environments",
            environments=names,
            commit=commit,
            committed_at=committed_at,
            owner=owner,
        )
    return frozenset(row["name"] for row in rows)
