"""Numbers for metrics, read from the tables at scrape time, so that they are right after any restart."""

from collections.abc import Mapping
from datetime import datetime

from reconciler.control.sql import CLAIMABLE_NAMES, many, one, telling
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection
from reconciler.rollout.states import TERMINAL, OperationState


@frozen
class DeploymentGauges:
    """The numbers of one deployment."""

    name: str
    pending: int
    drift: int
    diverged: int
    held: bool
    unavailable: bool
    verified_at: datetime | None = None
    verify_failures: int | None = None


@frozen
class EnvironmentGauges:
    """The numbers of one environment that its source still declares."""

    name: str
    source: str
    head_commit_at: datetime | None
    applied_commit_at: datetime | None
    applied_at: datetime | None
    last_pass_at: datetime | None
    suspended: bool
    failing: bool
    stalled: bool
    ready: bool
    deployments: tuple[DeploymentGauges, ...] = ()


@frozen
class GroupGauges:
    """The numbers of one group of materialized views that is refreshed by a schedule."""

    environment: str
    deployment: str
    component: str
    name: str
    succeeded_at: datetime | None
    failures: int
    data_age_s: float | None


@frozen
class GenerationGauges:
    """Generations of SQL objects of one environment that are `state`; `kept` could not be removed so far."""

    environment: str
    state: str
    count: int
    kept: int


@frozen
class ProgramGauges:
    """Services, jobs or routes (`kind`) of one environment that are in one state."""

    environment: str
    kind: str
    state: str
    count: int


@frozen
class Gauges:
    """All numbers at one moment; `operations` has every state that is not terminal, also those at 0.

    `oldest_waiting_at`: since when the operation that could be claimed, and waits longest, has been waiting.
    `oldest_parked_at`: the same of what waits for its promotion, which may have to be let go by somebody.
    """

    operations: Mapping[OperationState, int]
    oldest_waiting_at: datetime | None
    workers: int
    environments: tuple[EnvironmentGauges, ...]
    groups: tuple[GroupGauges, ...] = ()
    generations: tuple[GenerationGauges, ...] = ()
    oldest_parked_at: datetime | None = None
    programs: tuple[ProgramGauges, ...] = ()


async def read_gauges(connection: Connection) -> Gauges:
    """Read all numbers, in a fixed number of queries."""
    with telling("reading gauges"):
        counted = {row["state"]: row["count"] for row in await many(connection, "count_operations")}
        oldest = await one(connection, "oldest_waiting", claimable=CLAIMABLE_NAMES)
        parked = await one(connection, "oldest_parked")
        workers = await one(connection, "count_workers")
        environments = await many(connection, "environment_gauges")
        deployments: dict[str, list[DeploymentGauges]] = {}
        for row in await many(connection, "deployment_gauges"):
            deployments.setdefault(row.pop("environment"), []).append(DeploymentGauges(**row))
        groups = await many(connection, "refresh_gauges")
        generations = await many(connection, "generation_gauges")
        programs = await many(connection, "program_gauges")
    return Gauges(
        operations={state: counted.get(state.value, 0) for state in OperationState if state not in TERMINAL},
        oldest_waiting_at=oldest["min"] if oldest is not None else None,
        oldest_parked_at=parked["since"] if parked is not None else None,
        workers=workers["count"] if workers is not None else 0,
        environments=tuple(
            EnvironmentGauges(**row, deployments=tuple(deployments.get(row["name"], ())))
            for row in environments
        ),
        groups=tuple(GroupGauges(**row) for row in groups),
        generations=tuple(GenerationGauges(**row) for row in generations),
        programs=tuple(ProgramGauges(**row) for row in programs),
    )
