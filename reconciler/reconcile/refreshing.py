"""Refresh groups of materialized views when their schedules say so, for environments that are this daemon's.

Looks tell which groups there are; when each is due stands in the control database, so that what was missed
while nobody ran is made up once. A group is refreshed by one process at a time, beside passes and operations.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta

from reconciler.control import ownership, refreshes
from reconciler.control.refreshes import DeclaredGroup, DueGroup, GroupKey, Ran
from reconciler.errors import LeaseLost, ReconcilerError, TemporaryError
from reconciler.events import Event, GroupRefreshed, TaskFailed
from reconciler.execution.objects.refreshing import Place, refresh
from reconciler.frozen import frozen
from reconciler.objects.model import ObjectName
from reconciler.planner.planner import Planner
from reconciler.postgres.connection import Connections
from reconciler.reconcile.assess import Assessor
from reconciler.spec.cron import parse
from reconciler.state.desired import DesiredObjects, DesiredState

AT_ONCE = 4
"""Groups that one process refreshes side by side."""
EVERY_S = 5.0
"""Between two looks at what is due; schedules count minutes."""
RETRY_FIRST_S = 60.0
RETRY_MOST_S = 900.0
"""How long a group that failed waits for another try, unless its schedule is sooner; it doubles."""
ERROR_MAX = 2_000
"""Characters of an error that are recorded."""


@frozen
class _Group:
    """A group as a commit has it; its views are in an order in which they can be refreshed."""

    schedule: str
    desired: DesiredState
    database: str
    views: tuple[ObjectName, ...]


_Groups = Mapping[GroupKey, _Group]


class Refreshing:
    """Knows the groups of the environments that were looked at here, and refreshes those that are due."""

    def __init__(
        self,
        *,
        assessor: Assessor,
        planner: Planner,
        connections: Connections,
        emit: Callable[[Event], None],
    ) -> None:
        self._assessor = assessor
        self._planner = planner
        self._connections = connections
        self._emit = emit
        self._groups: dict[str, tuple[str | None, _Groups]] = {}
        self._untold: set[str] = set()
        self._recorded: set[str] | None = None
        self._tasks: dict[GroupKey, asyncio.Task[None]] = {}

    def declare(self, environment: str, states: Sequence[DesiredState], owner: str | None) -> None:
        """Take note of the groups of an environment as its spec has them now."""
        groups = {
            GroupKey(
                environment=environment,
                deployment=state.deployment,
                component=part.component,
                name=one.name,
            ): _Group(
                schedule=one.schedule,
                desired=state,
                database=part.database,
                views=_in_order(part, one.views),
            )
            for state in states
            for part in state.objects
            for one in part.refresh
        }
        before = self._groups.get(environment)
        if before is None or _schedules(before[1]) != _schedules(groups) or before[0] != owner:
            self._untold.add(environment)
        self._groups[environment] = (owner, groups)

    def forget(self, environment: str) -> None:
        """An environment is another daemon's, or left its source."""
        self._groups.pop(environment, None)
        self._untold.discard(environment)

    async def run(self) -> None:
        """Refresh what is due until cancelled; a control database that is away is asked the next time."""
        try:
            while True:
                try:
                    await self.look()
                except TemporaryError:
                    pass
                except Exception as error:  # noqa: BLE001 - a loop of the daemon goes on
                    self._emit(TaskFailed(task="refreshes", error=f"{error!r}"))
                await asyncio.sleep(EVERY_S)
        finally:
            await self._close()

    async def look(self) -> None:
        """Record what specs say of groups, and begin to refresh those that are due."""
        if self._untold:
            await self._tell()
        by_owner: dict[str, list[str]] = {}
        for environment, (owner, groups) in self._groups.items():
            if groups and owner is not None and environment not in self._untold:
                by_owner.setdefault(owner, []).append(environment)
        for owner, environments in by_owner.items():
            room = AT_ONCE - len(self._tasks)
            if room <= 0:
                return
            async with self._assessor.connection() as connection:
                found = await refreshes.take_due(
                    connection, owner, environments, busy=list(self._tasks), room=room
                )
            for due in found:
                name = f"refresh {due.key.deployment} {due.key.name}"
                self._tasks[due.key] = asyncio.create_task(self._run(owner, due), name=name)

    async def idle(self) -> None:
        """Wait until nothing is refreshed."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    async def _close(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tell(self) -> None:
        """Record the groups of environments that were looked at; most have none, and never had."""
        async with self._assessor.connection() as connection:
            if self._recorded is None:
                self._recorded = set(await refreshes.known_environments(connection))
            for environment in sorted(self._untold):
                if environment not in self._groups:
                    # It was given up while others were recorded.
                    continue
                owner, groups = self._groups[environment]
                if groups or environment in self._recorded:
                    now = await ownership.database_now(connection)
                    declared = [
                        DeclaredGroup(key=key, schedule=one.schedule, due_at=parse(one.schedule).after(now))
                        for key, one in groups.items()
                    ]
                    try:
                        whole = await refreshes.declare(connection, environment, declared, owner=owner)
                    except LeaseLost:
                        self.forget(environment)
                        continue
                    self._recorded.add(environment)
                    if not whole:
                        # A deployment is recorded by the look that is just under way: the next time.
                        continue
                self._untold.discard(environment)

    async def _run(self, owner: str, due: DueGroup) -> None:
        """Refresh a group and record what came of it; never raises."""
        key, began, recorded = due.key, time.monotonic(), False
        try:
            group = self._groups.get(key.environment, (None, {}))[1].get(key)
            if group is None:
                return
            ran = await self._refresh(due, group)
            async with self._assessor.connection() as connection:
                is_news = await refreshes.settle(connection, owner, due, ran)
            recorded = True
            self._emit(
                GroupRefreshed(
                    environment=key.environment,
                    deployment=key.deployment,
                    component=key.component,
                    group=key.name,
                    ok=ran.error is None,
                    duration_s=time.monotonic() - began,
                    error=ran.error,
                    is_news=is_news,
                )
            )
        except ReconcilerError:
            # Another's by now, or the control database is away: it is due again then.
            recorded = False
        except Exception as error:  # noqa: BLE001 - the boundary of a task of its own
            self._emit(TaskFailed(task="refreshes", error=f"{error!r}"))
        finally:
            self._tasks.pop(key, None)
            if not recorded:
                with suppress(ReconcilerError):
                    async with self._assessor.connection() as connection:
                        await refreshes.release(connection, owner, key)

    async def _refresh(self, due: DueGroup, group: _Group) -> Ran:
        next_at = parse(group.schedule).after(due.now)
        place = Place(
            environment=due.key.environment, deployment=due.key.deployment, component=due.key.component
        )
        try:
            dsn = await self._planner.dsn_of(group.desired, group.database)
            async with self._connections.borrow(dsn, database=group.database, role="refresh") as connection:
                done = await refresh(connection, place, group.views)
        except ReconcilerError as error:
            return Ran(error=str(error)[:ERROR_MAX], due_at=min(next_at, _retry_at(due)))
        return Ran(data_at=done.since, due_at=next_at)


def _retry_at(due: DueGroup) -> datetime:
    pause_s = min(RETRY_FIRST_S * 2 ** min(due.failures, 10), RETRY_MOST_S)
    return due.now + timedelta(seconds=pause_s)


def _in_order(part: DesiredObjects, views: Sequence[ObjectName]) -> tuple[ObjectName, ...]:
    """Views in the order in which the project makes them, so that each reads what was refreshed before."""
    ranks = {name: rank for rank, name in enumerate(part.project.objects)}
    return tuple(sorted(views, key=lambda name: (ranks.get(name, len(ranks)), name)))


def _schedules(groups: _Groups) -> dict[GroupKey, str]:
    return {key: one.schedule for key, one in groups.items()}
