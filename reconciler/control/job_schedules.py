"""Jobs that run by a schedule: when each is due, and what its runs came to, written by whoever took it last.

Whoever runs them is elsewhere; nothing here touches a runtime.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from reconciler.control.events import NewEvent, append_all
from reconciler.control.ownership import lock_owned
from reconciler.control.programs import (
    ERROR_CHARACTERS_MAX,
    RUNS_KEPT,
    SHOWN_MAX,
    Definition,
    StoredOutput,
)
from reconciler.control.sql import changing, many, one, run, telling
from reconciler.errors import LeaseLost
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection
from reconciler.rollout.status import JobStatus


@frozen
class JobKey:
    """One job of one deployment."""

    environment: str
    deployment: str
    component: str


@frozen
class DeclaredSchedule:
    """A job as the spec has it; `due_at` is when it is due first, where it is new or its schedule is."""

    key: JobKey
    schedule: str
    due_at: datetime


@frozen
class DueJob:
    """A job that was taken because it is due; `commit` is the one that its deployment carries.

    `claims` tells this taking from those before and after it; `missed`: it was due while its environment was
    stopped; `now` is by the clock that decides.
    """

    key: JobKey
    worker: str
    claims: int
    schedule: str
    due_at: datetime
    source: str
    commit: str
    failures: int
    missed: bool
    now: datetime

    @property
    def name(self) -> str:
        """What runs for this time are known by; whoever takes it next knows them again."""
        return f"at{int(self.due_at.timestamp())}"


async def known_environments(connection: Connection) -> frozenset[str]:
    """Environments of which jobs with schedules are recorded."""
    with telling("reading which environments have jobs with schedules"):
        rows = await many(connection, "environments_with_schedules")
    return frozenset([row["environment"] for row in rows])


async def declare(
    connection: Connection, environment: str, jobs: Collection[DeclaredSchedule], *, owner: str | None
) -> bool:
    """Record the jobs of an environment, and forget others; false where a deployment is not known yet.

    LeaseLost where `owner` is given and the environment is passed over by another worker by now.
    """
    ordered = sorted(jobs, key=lambda each: (each.key.deployment, each.key.component))
    columns = {
        "deployments": [each.key.deployment for each in ordered],
        "components": [each.key.component for each in ordered],
    }
    async with changing(connection, f"recording the schedules of jobs of environment '{environment}'"):
        await lock_owned(connection, environment, owner)
        await run(connection, "forget_schedules", environment=environment, **columns)
        if not ordered:
            return True
        stands = await many(
            connection,
            "declare_schedules",
            environment=environment,
            schedules=[each.schedule for each in ordered],
            due=[each.due_at for each in ordered],
            **columns,
        )
    return len(stands) == len(ordered)


async def take_due(
    connection: Connection, worker: str, environments: Collection[str], *, busy: Collection[JobKey], room: int
) -> tuple[DueJob, ...]:
    """Take jobs that are due, of environments that the worker passes over, but for those it is at."""
    known = list(busy)
    with telling("taking jobs that are due"):
        rows = await many(
            connection,
            "take_due_jobs",
            worker=worker,
            environments=sorted(environments),
            room=room,
            busy_environments=[each.environment for each in known],
            busy_deployments=[each.deployment for each in known],
            busy_components=[each.component for each in known],
        )
    return tuple(
        DueJob(
            key=JobKey(
                environment=row.pop("environment"),
                deployment=row.pop("deployment"),
                component=row.pop("component"),
            ),
            worker=worker,
            **row,
        )
        for row in rows
    )


async def settle(connection: Connection, due: DueJob, *, next_at: datetime, error: str | None) -> bool:
    """Record what came of a run; true where that is news: it failed for the first time, or no longer does.

    LeaseLost where it is another's by now.
    """
    cut = error[:ERROR_CHARACTERS_MAX] if error is not None else None
    async with changing(connection, f"recording what came of job '{due.key.component}'"):
        rows = await many(
            connection,
            "settle_scheduled_job",
            **_claim(due),
            schedule=due.schedule,
            due=next_at,
            error=cut,
        )
        if not rows:
            raise _lost(due)
        is_news = rows[0]["failures"] == 1 if cut is not None else due.failures > 0
        if is_news:
            await append_all(connection, [_event(due.key, cut)])
    return is_news


async def release(connection: Connection, due: DueJob, *, next_at: datetime | None = None) -> None:
    """Leave a job that was taken to whoever takes it next; with `next_at`, not before that."""
    with telling(f"leaving job '{due.key.component}' of '{due.key.deployment}'"):
        await run(connection, "release_scheduled_job", **_claim(due), schedule=due.schedule, due=next_at)


async def operation_at_work(connection: Connection, due: DueJob) -> str | None:
    """An operation that is at the deployment just now."""
    with telling(f"looking what is at work on deployment '{due.key.deployment}'"):
        key = due.key
        row = await one(
            connection, "operation_at_work", environment=key.environment, deployment=key.deployment
        )
    return str(row["operation"]) if row is not None else None


async def hold(connection: Connection, due: DueJob) -> None:
    """Raise LeaseLost unless a job is still its taker's; inside of a transaction it stays so to the end."""
    with telling(f"looking whose job '{due.key.component}' is"):
        if await one(connection, "hold_scheduled_job", **_claim(due)) is None:
            raise _lost(due)


async def began(connection: Connection, due: DueJob, what: Definition, *, trigger: str) -> int:
    """Note that a run begins, before anything of it is there; gives the number of this attempt."""
    async with changing(connection, f"noting that job '{due.key.component}' begins"):
        await hold(connection, due)
        await run(
            connection,
            "note_scheduled",
            **_key(due.key),
            stage=what.stage,
            definition_hash=what.definition_hash,
            definition=Jsonb(dict(what.definition)),
            instance=what.instance,
            place=what.place,
            commit=due.commit,
        )
        row = await one(
            connection,
            "begin_scheduled_job",
            **_key(due.key),
            trigger=trigger,
            inputs_hash=what.definition_hash,
            instance=what.instance,
            prefix=f"{due.name}-",
        )
        await run(connection, "forget_old_scheduled_runs", **_key(due.key), kept=RUNS_KEPT)
    return int(row["attempt"]) if row is not None else 1


async def ended(
    connection: Connection, due: DueJob, instance: str, *, exit_status: int | None, error: str | None
) -> None:
    """Note how a run ended; LeaseLost where a rollout ended it, and it is to run anew once that is over."""
    told = (error or "no reason is known")[:ERROR_CHARACTERS_MAX] if error is not None else None
    async with changing(connection, f"noting how job '{due.key.component}' ended"):
        await hold(connection, due)
        row = await one(
            connection,
            "end_scheduled_job",
            **_key(due.key),
            instance=instance,
            exit_status=exit_status,
            error=told,
        )
    if row is None:
        raise LeaseLost(f"the run of job '{due.key.component}' was ended by a rollout")


async def applied(connection: Connection, due: DueJob) -> None:
    """Note that a job which only its schedule runs was done once."""
    async with changing(connection, f"noting that job '{due.key.component}' is done"):
        await hold(connection, due)
        await run(connection, "note_scheduled_done", **_key(due.key))


async def rolled_back(connection: Connection, due: DueJob) -> None:
    """Note that nothing of a run is there any more."""
    async with changing(connection, f"noting that nothing is left of job '{due.key.component}'"):
        await hold(connection, due)
        await run(connection, "note_scheduled_gone", **_key(due.key))


async def keep_outputs(
    connection: Connection, due: DueJob, inputs_hash: str, outputs: Sequence[StoredOutput]
) -> None:
    """Keep all outputs of a job, in place of those it had."""
    rows: list[dict[str, Any]] = [
        {"name": each.name, "type": each.type, "sealed": each.sealed}
        | ({} if each.sealed is not None else {"value": each.value})
        for each in outputs
    ]
    async with changing(connection, f"keeping the outputs of job '{due.key.component}'"):
        await hold(connection, due)
        await run(
            connection,
            "keep_scheduled_outputs",
            **_key(due.key),
            inputs_hash=inputs_hash,
            outputs=Jsonb(rows),
        )


async def read(connection: Connection, environment: str) -> tuple[JobStatus, ...]:
    """The jobs of an environment as people are shown them."""
    with telling(f"reading the jobs of environment '{environment}'"):
        rows = await many(connection, "read_job_statuses", environment=environment, limit=SHOWN_MAX)
    return tuple(JobStatus(**row) for row in rows)


def _key(key: JobKey) -> dict[str, str]:
    return {"environment": key.environment, "deployment": key.deployment, "component": key.component}


def _claim(due: DueJob) -> dict[str, Any]:
    return {**_key(due.key), "worker": due.worker, "claims": due.claims}


def _lost(due: DueJob) -> LeaseLost:
    return LeaseLost(f"job '{due.key.component}' of '{due.key.deployment}' is another worker's, or gone")


def _event(key: JobKey, error: str | None) -> NewEvent:
    job = f"job '{key.component}' on '{key.deployment}'"
    failed = error is not None
    return NewEvent(
        kind="job.schedule_failed" if failed else "job.schedule_recovered",
        message=f"{job}, run by its schedule: {error}" if failed else f"{job} is done by its schedule again",
        environment=key.environment,
        deployment=key.deployment,
        data={"component": key.component},
    )
