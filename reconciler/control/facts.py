"""What is known of one environment, and its conditions kept in line with it; `rollout` decides them."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from reconciler.control.sql import Row, many, run, telling
from reconciler.errors import NotFound
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection
from reconciler.rollout.conditions import (
    Asking,
    DeploymentFacts,
    EnvironmentFacts,
    Parking,
    conditions,
)
from reconciler.rollout.states import OperationState, RolloutState
from reconciler.rollout.status import Condition


@frozen
class Facts:
    """One environment as its row, its deployments by name in order, its holds and rollouts under way.

    `held` of the row are the holds of the commit that was asked for, `holds` those of the observed one.
    """

    row: Row
    deployments: Mapping[str, Row]

    @property
    def conditions(self) -> tuple[Condition, ...]:
        """The conditions as they are recorded."""
        return conditions_from_json(self.row["conditions"], self.row["observed_commit"])


@frozen
class NewestOperation:
    """The operation of a deployment that was recorded last; `finished_at` None while it is not over."""

    commit: str
    state: OperationState
    finished_at: datetime | None


async def read_newest(connection: Connection, environment: str) -> dict[str, NewestOperation]:
    """The newest operation of each deployment that has one, by its name."""
    with telling(f"reading the newest operations of environment '{environment}'"):
        rows = await many(connection, "newest_operations", environment=environment)
    return {
        row["deployment"]: NewestOperation(
            commit=row["commit"], state=OperationState(row["state"]), finished_at=row["finished_at"]
        )
        for row in rows
    }


async def read_facts(connection: Connection, environment: str) -> Facts | None:
    """All that is known of an environment, in one query."""
    return (await _read(connection, [environment], None)).get(environment)


async def read_many_facts(
    connection: Connection, environments: Collection[str], *, commit: str
) -> dict[str, Facts]:
    """All that is known of environments, by name, and what of a commit is held on each; one query."""
    with telling("reading what is known of environments"):
        return await _read(connection, environments, commit)


async def _read(
    connection: Connection, environments: Collection[str], commit: str | None
) -> dict[str, Facts]:
    rows = await many(connection, "read_facts", environments=sorted(environments), commit=commit)
    return {
        row["name"]: Facts(row=row, deployments={item["name"]: item for item in row["deployments"]})
        for row in rows
    }


async def refresh_conditions(connection: Connection, environment: str) -> None:
    """Bring the recorded conditions in line with what is known; writes only what changed."""
    facts = await read_facts(connection, environment)
    if facts is None:
        raise NotFound(f"there is no environment '{environment}'")
    fresh = conditions(
        _environment_facts(facts), facts.conditions, facts.row["now"], facts.row["observed_commit"]
    )
    if fresh != facts.conditions:
        await run(
            connection,
            "write_conditions",
            environment=environment,
            conditions=Jsonb([_to_json(condition) for condition in fresh]),
        )


def _environment_facts(facts: Facts) -> EnvironmentFacts:
    row, holds = facts.row, facts.row["holds"]
    failed = {item["deployment"]: item["failed"] for item in row["under_way"] if item["failed"]}
    return EnvironmentFacts(
        observed=row["observed_commit"] is not None,
        name=row["name"],
        error=row["error"],
        error_reason=row["error_reason"],
        suspended=row["suspended_reason"],
        orphaned=row["orphaned"],
        deployments=tuple(
            DeploymentFacts(
                name=name,
                pending=deployment["pending"],
                drift=deployment["drift"],
                diverged=deployment["diverged"],
                held=holds.get(name) or deployment["held"],
                unavailable=deployment["unavailable"],
                blocked=deployment["blocked"],
                failed=failed.get(name),
                verify_failures=row["verifications"].get(name, {}).get("failures", 0),
                left_out=tuple(deployment["left_out"]),
            )
            for name, deployment in facts.deployments.items()
        ),
        rollouts=tuple(RolloutState(state) for state in row["rollouts"]),
        asking=_asking(row["under_way"]),
        parking=_parking(row["under_way"]),
    )


def _asking(under_way: Collection[Row]) -> tuple[Asking, ...]:
    found: dict[int, tuple[str, list[str]]] = {}
    for item in under_way:
        if item["state"] == OperationState.WAITING_FOR_APPROVAL.value:
            found.setdefault(item["rollout"], (item["reason"], []))[1].append(item["deployment"])
    return tuple(
        Asking(rollout=rollout, reason=reason, deployments=tuple(names))
        for rollout, (reason, names) in sorted(found.items())
    )


def _parking(under_way: Collection[Row]) -> tuple[Parking, ...]:
    parked = [item for item in under_way if item["state"] == OperationState.WAITING_FOR_PROMOTION.value]
    found: dict[int, list[Row]] = {}
    for item in parked:
        found.setdefault(item["rollout"], []).append(item)
    return tuple(
        Parking(
            rollout=rollout,
            deployments=tuple(item["deployment"] for item in items),
            needs_word=any(item["needs_word"] for item in items),
        )
        for rollout, items in sorted(found.items())
    )


def conditions_from_json(
    recorded: list[dict[str, Any]], observed_commit: str | None
) -> tuple[Condition, ...]:
    """The conditions of a row; they are of its observed commit, which is therefore not written again."""
    return tuple(
        Condition(
            **{**condition, "since": datetime.fromisoformat(condition["since"])},
            observed_commit=observed_commit,
        )
        for condition in recorded
    )


def _to_json(condition: Condition) -> dict[str, Any]:
    found = {**asdict(condition), "since": condition.since.isoformat()}
    del found["observed_commit"]
    return found
