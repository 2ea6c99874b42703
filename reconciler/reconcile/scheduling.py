"""Have jobs run when their schedules say so, for environments that are this daemon's.

Looks tell which jobs have schedules; when each is due stands in the control database, so that what was missed
while nobody ran is made up once. A job is run by one process at a time, and never beside a run of its own.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Protocol

from reconciler.control import job_schedules, ownership
from reconciler.control.job_schedules import DeclaredSchedule, DueJob, JobKey
from reconciler.errors import LeaseLost, ReconcilerError, TemporaryError
from reconciler.events import Event, ScheduledJobRan, TaskFailed
from reconciler.plan.model import Scope
from reconciler.reconcile.assess import Assessor
from reconciler.spec.cron import parse
from reconciler.spec.environment import EnvironmentSpec
from reconciler.state.desired import DesiredState
from reconciler.state.programs import DesiredJob
from reconciler.state.provisioning import narrowed

AT_ONCE = 16
"""Jobs that one process runs side by side by their schedules."""
EVERY_S = 5.0
"""Between two looks at what is due; schedules count minutes."""
RETRY_S = 30.0
"""How long a job waits that could not be run for a reason which says nothing of it."""
ERROR_MAX = 2_000
"""Characters of an error that are recorded beside the schedule; the run has all of it."""

_Jobs = Mapping[JobKey, str]


class Runner(Protocol):
    """Runs one job that was taken."""

    async def run(self, due: DueJob) -> bool:
        """Run it to its end; false where there is nothing to run. Raises what it failed with."""
        ...


class Scheduling:
    """Knows the schedules of jobs of environments that were looked at here, and has run what is due."""

    def __init__(self, *, assessor: Assessor, emit: Callable[[Event], None]) -> None:
        self._assessor = assessor
        self._emit = emit
        self.runner: Runner | None = None
        self._jobs: dict[str, tuple[str | None, _Jobs]] = {}
        self._untold: set[str] = set()
        self._recorded: set[str] | None = None
        self._tasks: dict[JobKey, asyncio.Task[None]] = {}
        self._not_before: dict[JobKey, float] = {}

    def declare(self, spec: EnvironmentSpec, states: Sequence[DesiredState], owner: str | None) -> None:
        """Take note of the jobs of an environment as its spec has them now."""
        environment, before = spec.name, self._jobs.get(spec.name)
        jobs = {
            JobKey(
                environment=environment, deployment=state.deployment, component=job.component
            ): job.schedule
            for state in states
            if spec.policy.mode != "observe"
            for job in _jobs_of(spec, state)
            if job.schedule is not None and not job.skip
        }
        if before is None or before != (owner, jobs):
            self._untold.add(environment)
        self._jobs[environment] = (owner, jobs)

    def forget(self, environment: str) -> None:
        """An environment is another daemon's, or left its source."""
        self._jobs.pop(environment, None)
        self._untold.discard(environment)

    async def run(self) -> None:
        """Run what is due until cancelled; a control database that is away is asked the next time."""
        try:
            while True:
                try:
                    await self.look()
                except TemporaryError:
                    pass
                except Exception as error:  # noqa: BLE001 - a loop of the daemon goes on
                    self._emit(TaskFailed(task="jobs", error=f"{error!r}"))
                await asyncio.sleep(EVERY_S)
        finally:
            # Their runs go on without us: whoever takes a job next waits for the same one.
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def look(self) -> None:
        """Record what specs say of schedules, and begin to run those jobs that are due."""
        if self._untold:
            await self._tell()
        runner = self.runner
        if runner is None:
            return
        by_owner: dict[str, list[str]] = {}
        for environment, (owner, jobs) in self._jobs.items():
            if jobs and owner is not None and environment not in self._untold:
                by_owner.setdefault(owner, []).append(environment)
        for owner, environments in by_owner.items():
            room = AT_ONCE - len(self._tasks)
            if room <= 0:
                return
            busy = {*self._tasks, *self._put_off()}
            async with self._assessor.connection() as connection:
                found = await job_schedules.take_due(connection, owner, environments, busy=busy, room=room)
            for due in found:
                name = f"job {due.key.deployment} {due.key.component}"
                self._tasks[due.key] = asyncio.create_task(self._run(runner, due), name=name)

    async def idle(self) -> None:
        """Wait until nothing runs."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    def _put_off(self) -> set[JobKey]:
        now = time.monotonic()
        self._not_before = {key: until for key, until in self._not_before.items() if until > now}
        return set(self._not_before)

    async def _tell(self) -> None:
        """Record the jobs of environments that were looked at; most have none, and never had."""
        async with self._assessor.connection() as connection:
            if self._recorded is None:
                self._recorded = set(await job_schedules.known_environments(connection))
            for environment in sorted(self._untold):
                if environment not in self._jobs:
                    # It was given up while others were recorded.
                    continue
                owner, jobs = self._jobs[environment]
                if jobs or environment in self._recorded:
                    now = await ownership.database_now(connection)
                    declared = [
                        DeclaredSchedule(key=key, schedule=schedule, due_at=parse(schedule).after(now))
                        for key, schedule in jobs.items()
                    ]
                    try:
                        whole = await job_schedules.declare(connection, environment, declared, owner=owner)
                    except LeaseLost:
                        self.forget(environment)
                        continue
                    self._recorded.add(environment)
                    if not whole:
                        # A deployment is recorded by the look that is just under way: the next time.
                        continue
                self._untold.discard(environment)

    async def _run(self, runner: Runner, due: DueJob) -> None:
        """Run a job and record what came of it; never raises."""
        settled = False
        try:
            settled = await self._run_and_settle(runner, due)
        except ReconcilerError:
            # Another's by now, or who is asked is away: it is due again then.
            self._not_before[due.key] = time.monotonic() + RETRY_S
        except Exception as error:  # noqa: BLE001 - the boundary of a task of its own
            self._not_before[due.key] = time.monotonic() + RETRY_S
            self._emit(TaskFailed(task="jobs", error=f"{error!r}"))
        finally:
            self._tasks.pop(due.key, None)
            if not settled:
                with suppress(ReconcilerError):
                    await self._release(due)

    async def _run_and_settle(self, runner: Runner, due: DueJob) -> bool:
        """True once the job is nobody's again; what was due while its environment was off is left out."""
        next_at = _next(due)
        if due.missed:
            await self._release(due, next_at)
            return True
        began, error = time.monotonic(), None
        try:
            if not await runner.run(due):
                await self._release(due, next_at)
                return True
        except (TemporaryError, LeaseLost):
            raise
        except ReconcilerError as failed:
            error = str(failed)[:ERROR_MAX]
        async with self._assessor.connection() as connection:
            is_news = await job_schedules.settle(connection, due, next_at=next_at, error=error)
        self._emit(
            ScheduledJobRan(
                environment=due.key.environment,
                deployment=due.key.deployment,
                component=due.key.component,
                ok=error is None,
                duration_s=time.monotonic() - began,
                error=error,
                is_news=is_news,
            )
        )
        return True

    async def _release(self, due: DueJob, next_at: datetime | None = None) -> None:
        async with self._assessor.connection() as connection:
            await job_schedules.release(connection, due, next_at=next_at)


def _jobs_of(spec: EnvironmentSpec, state: DesiredState) -> Sequence[DesiredJob]:
    only = Scope(spec.policy.scope) is Scope.PROVISION_ONLY
    return (narrowed(state) if only else state).programs.jobs


def _next(due: DueJob) -> datetime:
    """The next time behind the moment at which it was taken: what was missed is made up once."""
    return parse(due.schedule).after(due.now)
