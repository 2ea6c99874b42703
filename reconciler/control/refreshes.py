"""Groups of materialized views that are refreshed by a schedule: when each is due, and what came of it.

Whoever refreshes them is elsewhere; nothing here touches a managed database.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from reconciler.control.events import NewEvent, append_all
from reconciler.control.ownership import lock_owned
from reconciler.control.sql import changing, many, run, telling
from reconciler.errors import LeaseLost
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection
from reconciler.rollout.status import RefreshStatus

SHOWN_MAX = 5_000
"""Groups that people are shown at once."""


@frozen
class GroupKey:
    """One group of one deployment."""

    environment: str
    deployment: str
    component: str
    name: str


@frozen
class DeclaredGroup:
    """A group as the spec has it; `due_at` is when it is due first, where it is new or its schedule is."""

    key: GroupKey
    schedule: str
    due_at: datetime


@frozen
class DueGroup:
    """A group that was taken because it is due; `now` is by the clock that decides."""

    key: GroupKey
    schedule: str
    failures: int
    now: datetime


@frozen
class Ran:
    """What came of a run: why it failed, from when the oldest rows are, and when the next run is due."""

    due_at: datetime
    error: str | None = None
    data_at: datetime | None = None


async def known_environments(connection: Connection) -> frozenset[str]:
    """Environments of which groups are recorded."""
    with telling("reading which environments have groups to refresh"):
        return frozenset([row["environment"] for row in await many(connection, "refreshed_environments")])


async def declare(
    connection: Connection, environment: str, groups: Collection[DeclaredGroup], *, owner: str | None
) -> bool:
    """Record the groups of an environment, and forget others; false where a deployment is not known yet.

    LeaseLost where `owner` is given and the environment is passed over by another worker by now.
    """
    ordered = sorted(groups, key=lambda one: (one.key.deployment, one.key.component, one.key.name))
    columns = {
        "deployments": [one.key.deployment for one in ordered],
        "components": [one.key.component for one in ordered],
        "names": [one.key.name for one in ordered],
    }
    async with changing(connection, f"recording the groups to refresh of environment '{environment}'"):
        await lock_owned(connection, environment, owner)
        await many(connection, "forget_refreshes", environment=environment, **columns)
        if not ordered:
            return True
        stands = await many(
            connection,
            "declare_refreshes",
            environment=environment,
            schedules=[one.schedule for one in ordered],
            due=[one.due_at for one in ordered],
            **columns,
        )
    return len(stands) == len(ordered)


async def take_due(
    connection: Connection,
    worker: str,
    environments: Collection[str],
    *,
    busy: Collection[GroupKey],
    room: int,
) -> tuple[DueGroup, ...]:
    """Take groups that are due, of environments that the worker passes over, but for those it is at."""
    with telling("taking groups that are due to be refreshed"):
        rows = await many(
            connection,
            "take_due_refreshes",
            worker=worker,
            environments=sorted(environments),
            room=room,
            **_columns("busy_", list(busy)),
        )
    return tuple(
        DueGroup(
            key=GroupKey(
                environment=row["environment"],
                deployment=row["deployment"],
                component=row["component"],
                name=row["name"],
            ),
            schedule=row["schedule"],
            failures=row["failures"],
            now=row["now"],
        )
        for row in rows
    )


async def settle(connection: Connection, worker: str, due: DueGroup, ran: Ran) -> bool:
    """Record what came of a run; true where that is news: it failed for the first time, or no longer does.

    LeaseLost where it is another's by now.
    """
    key = due.key
    async with changing(connection, f"recording what came of refreshing group '{key.name}'"):
        rows = await many(
            connection,
            "settle_refresh",
            **_values(key),
            worker=worker,
            schedule=due.schedule,
            due=ran.due_at,
            error=ran.error,
            data_at=ran.data_at,
        )
        if not rows:
            raise LeaseLost(f"group '{key.name}' of '{key.deployment}' is another worker's, or gone")
        is_news = (rows[0]["failures"] == 1) if ran.error is not None else due.failures > 0
        if is_news:
            await append_all(connection, [_event(key, ran)])
    return is_news


async def release(connection: Connection, worker: str, key: GroupKey) -> None:
    """Leave a group that was taken to whoever takes it next."""
    with telling(f"leaving group '{key.name}' of '{key.deployment}'"):
        await run(connection, "release_refresh", **_values(key), worker=worker)


async def read(connection: Connection, names: Sequence[str] | None = None) -> dict[str, list[RefreshStatus]]:
    """Groups by environment, of all or of some."""
    wanted = None if names is None else list(names)
    found: dict[str, list[RefreshStatus]] = {}
    with telling("reading groups to refresh"):
        for row in await many(connection, "read_refreshes", names=wanted, limit=SHOWN_MAX):
            found.setdefault(row.pop("environment"), []).append(RefreshStatus(**row))
    return found


def _values(key: GroupKey) -> dict[str, str]:
    return {
        "environment": key.environment,
        "deployment": key.deployment,
        "component": key.component,
        "name": key.name,
    }


def _columns(prefix: str, keys: Sequence[GroupKey]) -> dict[str, list[str]]:
    return {
        f"{prefix}environments": [one.environment for one in keys],
        f"{prefix}deployments": [one.deployment for one in keys],
        f"{prefix}components": [one.component for one in keys],
        f"{prefix}names": [one.name for one in keys],
    }


def _event(key: GroupKey, ran: Ran) -> NewEvent:
    group = f"refresh group '{key.name}' of component '{key.component}' on '{key.deployment}'"
    failed = ran.error is not None
    return NewEvent(
        kind="objects.refresh_failed" if failed else "objects.refresh_recovered",
        message=f"{group}: {ran.error}" if failed else f"{group} is refreshed again",
        environment=key.environment,
        deployment=key.deployment,
        data={"component": key.component, "group": key.name},
    )
