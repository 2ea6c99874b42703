"""Environments as passes leave them: observations, names, suspension, holds and intents; it plans nothing."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from reconciler.control import generations, programs, refreshes
from reconciler.control.events import NewEvent, append_all
from reconciler.control.facts import Facts, conditions_from_json, read_facts, refresh_conditions
from reconciler.control.leaving import LEFT_MAX, note_leaving
from reconciler.control.moves import lock_environment
from reconciler.control.ownership import lock_owned
from reconciler.control.settle import note_applied
from reconciler.control.sql import Row, changing, many, one, run, telling
from reconciler.control.wake import OPERATIONS_CHANNEL, notify, wake
from reconciler.errors import Conflict, NotFound
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection
from reconciler.rollout.states import OperationState
from reconciler.rollout.status import DeploymentStatus, EnvironmentStatus, KeptStatus, LeftStatus


@frozen
class DeploymentObservation:
    """What a pass found on one deployment; `in_sync`: nothing is pending and nothing is under way.

    `as_known`: it was not looked at, and what is known of it stays. `left_out`: components that the pass left
    to another rollout.
    """

    name: str
    pending: int = 0
    drift: int = 0
    diverged: int = 0
    held: str | None = None
    unavailable: str | None = None
    blocked: str | None = None
    in_sync: bool = False
    as_known: bool = False
    left_out: tuple[str, ...] = ()


@frozen
class Observation:
    """What a pass found of an environment.

    None for the commits, the mode or the deployments means that the pass did not come so far: what was known
    of them stays. `error` None means that the pass did its work. `inputs` is the digest of the content that
    the observed commit makes it from.
    """

    name: str
    source: str
    path: str
    head_commit: str | None = None
    head_commit_at: datetime | None = None
    observed_commit: str | None = None
    error: str | None = None
    error_reason: str | None = None
    inputs: str | None = None
    mode: str | None = None
    deployments: tuple[DeploymentObservation, ...] | None = None


def is_news(facts: Facts | None, observation: Observation) -> bool:
    """Whether a pass found anything that the rows do not say already."""
    return facts is None or facts.row["source"] != observation.source or not _known(facts, observation)


async def touch(connection: Connection, names: Collection[str]) -> None:
    """Note that passes over environments found nothing new."""
    with telling("noting passes that found nothing new"):
        await run(connection, "touch_passes", environments=sorted(names))


async def observe(connection: Connection, observation: Observation, *, owner: str | None = None) -> None:
    """Write what a pass found, in one transaction; a pass that found nothing new writes next to nothing.

    LeaseLost where `owner` is given and the environment is passed over by another worker by now.
    """
    name = observation.name
    doing = f"recording the pass over environment '{name}'"
    with telling(doing):
        facts = await read_facts(connection, name)
    if not is_news(facts, observation):
        await touch(connection, [name])
        return
    async with changing(connection, doing):
        await _claim_name(connection, name, observation.source)
        await lock_owned(connection, name, owner)
        before = await read_facts(connection, name)
        assert before is not None
        await _write(connection, observation, before)


async def _write(connection: Connection, observation: Observation, before: Facts) -> None:
    name = observation.name
    events: list[NewEvent] = []
    rows = _rows(observation, before) if observation.deployments is not None else []
    if observation.deployments is not None:
        # While the row still names the commit that had them.
        events = await note_leaving(connection, name, [row["name"] for row in rows])
    await run(
        connection,
        "write_observation",
        environment=name,
        path=observation.path,
        mode=observation.mode,
        head_commit=observation.head_commit,
        head_commit_at=observation.head_commit_at,
        observed_commit=observation.observed_commit,
        error=observation.error or None,
        error_reason=observation.error_reason if observation.error else None,
        inputs=observation.inputs,
    )
    events = [*_environment_events(observation, before.row), *events]
    if observation.deployments is not None:
        await run(connection, "write_deployments", environment=name, deployments=Jsonb(rows))
        events += _deployment_events(observation, before)
    await append_all(connection, events)
    await note_applied(connection, name)
    await refresh_conditions(connection, name)


def _known(facts: Facts, observation: Observation) -> bool:
    """Whether the rows say already what a pass found."""
    row = facts.row
    pairs: tuple[tuple[Any, Any], ...] = (
        (observation.path, row["path"]),
        (observation.error or None, row["error"]),
        (observation.inputs or row["inputs"], row["inputs"]),
        (False, row["orphaned"]),
        (observation.mode or row["mode"], row["mode"]),
        (observation.head_commit or row["head_commit"], row["head_commit"]),
        (observation.observed_commit or row["observed_commit"], row["observed_commit"]),
    )
    if any(found != known for found, known in pairs):
        return False
    if observation.head_commit is not None and observation.head_commit_at != row["head_commit_at"]:
        return False
    if observation.deployments is None:
        return True
    known_rows = [{**deployment} for deployment in facts.deployments.values()]
    return _rows(observation, facts) == known_rows


def _rows(observation: Observation, before: Facts) -> list[Row]:
    """The deployments as rows; one in sync carries the observed commit, the others what they carried."""
    commit = observation.observed_commit or before.row["observed_commit"]
    rows = []
    for ordinal, found in enumerate(observation.deployments or ()):
        known = before.deployments.get(found.name)
        if found.as_known and known is not None:
            rows.append({**known, "ordinal": ordinal})
            continue
        rows.append(
            {
                "name": found.name,
                "ordinal": ordinal,
                "pending": found.pending,
                "drift": found.drift,
                "diverged": found.diverged,
                "held": found.held,
                "unavailable": found.unavailable,
                "blocked": found.blocked,
                **_carried(found, known, commit),
            }
        )
    return rows


def _carried(found: DeploymentObservation, known: Row | None, commit: str | None) -> Row:
    """Which commit a deployment carries, and which it carries the resources of alone."""
    applied = known["applied_commit"] if known is not None else None
    whole: Row = {"provisioned_commit": None, "left_out": []}
    if found.in_sync and not found.left_out:
        return {"applied_commit": commit, **whole}
    if applied is not None and applied == commit:
        # All of it was rolled out; that a pass looks at resources alone takes nothing of that back.
        return {"applied_commit": applied, **whole}
    part: Row = {"applied_commit": applied, "provisioned_commit": commit}
    if found.in_sync and commit is not None:
        return {**part, "left_out": list(found.left_out)}
    if known is not None and commit is not None and known["provisioned_commit"] == commit:
        return {**part, "left_out": known["left_out"]}
    return {"applied_commit": applied, **whole}


def _environment_events(observation: Observation, before: Row) -> list[NewEvent]:
    """What is news about the environment as a whole."""
    news: list[tuple[str, str]] = []
    if observation.error and observation.error != before["error"]:
        news.append(("environment.failed", observation.error))
    if before["error"] is not None and not observation.error:
        news.append(("environment.recovered", "the pass did its work again"))
    if before["orphaned"]:
        news.append(("environment.returned", f"source '{observation.source}' declares it again"))
    return [NewEvent(kind=kind, message=message, environment=observation.name) for kind, message in news]


def _deployment_events(observation: Observation, before: Facts) -> list[NewEvent]:
    """What is news about the deployments; what was so at the last pass is not."""
    events = []
    for found in observation.deployments or ():
        if found.as_known:
            continue
        known = before.deployments.get(found.name, {})
        for kind, message in _deployment_news(found, known):
            event = NewEvent(
                kind=kind,
                message=message,
                environment=observation.name,
                deployment=found.name,
                data={"drift": found.drift} if kind.startswith("drift.") else {},
            )
            events.append(event)
    return events


def _deployment_news(found: DeploymentObservation, known: Mapping[str, Any]) -> list[tuple[str, str]]:
    news: list[tuple[str, str]] = []
    drift = known.get("drift", 0)
    if found.drift and found.drift != drift:
        news.append(("drift.found", f"{found.drift} objects on '{found.name}' were altered by others"))
    if drift and not found.drift and found.unavailable is None:
        news.append(("drift.cleared", f"no object on '{found.name}' differs any more"))
    if found.unavailable and not known.get("unavailable"):
        news.append(("deployment.unavailable", f"'{found.name}' cannot be read: {found.unavailable}"))
    if known.get("unavailable") and not found.unavailable:
        news.append(("deployment.available", f"'{found.name}' can be read again"))
    if found.blocked and found.blocked != known.get("blocked"):
        news.append(("deployment.blocked", f"'{found.name}' is blocked: {found.blocked}"))
    return news


async def claim_name(connection: Connection, name: str, source: str) -> None:
    """Give a name to the source that declares it first; Conflict where another source did."""
    with telling(f"claiming environment name '{name}' for source '{source}'"):
        await _claim_name(connection, name, source)


async def _claim_name(connection: Connection, name: str, source: str) -> None:
    row = await one(connection, "source_of_environment", environment=name)
    if row is None:
        await run(connection, "add_environment", environment=name, source=source)
        row = await one(connection, "source_of_environment", environment=name)
    if row is not None and row["source"] != source:
        raise _taken(name, source, row["source"])


def _taken(name: str, source: str, first: str) -> Conflict:
    return Conflict(
        f"environment '{name}' of source '{source}' is refused: source '{first}' declared it first",
        hint="rename it; a name belongs to the source that first declared it",
    )


async def claim_names(connection: Connection, names: Collection[str], source: str) -> dict[str, str]:
    """Give names to the source that declares them first; those that are another's, with the reason."""
    if not names:
        return {}
    with telling(f"claiming environment names for source '{source}'"):
        rows = await many(connection, "add_environments", environments=sorted(names), source=source)
    return {row["name"]: str(_taken(row["name"], source, row["source"])) for row in rows}


async def retire_missing(
    connection: Connection,
    source: str,
    names_present: Collection[str],
    *,
    owner: str | None = None,
    fetched_at: datetime | None = None,
) -> None:
    """Mark environments that left their source; nothing is done to them, and they are never deleted.

    With `owner`, only those that this worker passes over; with `fetched_at` (the control database's clock),
    only those that nobody declared or looked at since the commit was fetched.
    """
    async with changing(connection, f"retiring environments of source '{source}'"):
        rows = await many(
            connection,
            "retire_environments",
            source=source,
            names=sorted(names_present),
            owner=owner,
            fetched_at=fetched_at,
        )
        events = [
            NewEvent(
                kind="environment.orphaned",
                message=f"source '{source}' no longer declares it; nothing is done to it",
                environment=row["name"],
            )
            for row in rows
        ]
        await append_all(connection, events)
        for row in rows:
            await refresh_conditions(connection, row["name"])


async def read_environments(
    connection: Connection, names: Sequence[str] | None = None
) -> tuple[EnvironmentStatus, ...]:
    """All environments, or those named, with their deployments; a fixed number of queries."""
    wanted = list(names) if names is not None else None
    with telling("reading environments"):
        rows = await many(connection, "read_environments", names=wanted)
        deployments: dict[str, list[DeploymentStatus]] = {}
        for row in await many(connection, "read_deployments", names=wanted):
            environment = row.pop("environment")
            state = row.pop("state")
            status = DeploymentStatus(
                **{**row, "left_out": tuple(row["left_out"])},
                state=OperationState(state) if state is not None else None,
            )
            deployments.setdefault(environment, []).append(status)
        left: dict[str, list[LeftStatus]] = {}
        for row in await many(connection, "read_left", names=wanted, limit=LEFT_MAX):
            environment = row.pop("environment")
            told = LeftStatus(**{**row, "databases": tuple(row["databases"])})
            left.setdefault(environment, []).append(told)
        groups = await refreshes.read(connection, wanted)
        kept: dict[str, list[KeptStatus]] = {}
        for each in await generations.read_kept(connection, wanted):
            kept.setdefault(each.environment, []).append(_kept(each))
        running = await programs.read_statuses(connection, wanted)
    return tuple(
        EnvironmentStatus(
            **{**row, "conditions": conditions_from_json(row["conditions"], row["observed_commit"])},
            deployments=tuple(deployments.get(row["name"], ())),
            left=tuple(left.get(row["name"], ())),
            refreshes=tuple(groups.get(row["name"], ())),
            kept=tuple(kept.get(row["name"], ())),
            programs=tuple(running.get(row["name"], ())),
        )
        for row in rows
    )


def _kept(found: generations.Kept) -> KeptStatus:
    return KeptStatus(
        deployment=found.deployment,
        database=found.database,
        component=found.component,
        generation=found.generation,
        state=found.state.value,
        made_at=found.made_at,
        failures=found.failures,
        error=found.error,
        next_try_at=found.next_try_at,
    )


async def suspend(connection: Connection, name: str, *, reason: str, actor: str) -> None:
    """Let nothing more be claimed for an environment; what runs goes on to its end."""
    async with changing(connection, f"suspending environment '{name}'"):
        await lock_environment(connection, name)
        row = await one(
            connection,
            "suspend_environment",
            environment=name,
            reason=reason or "no reason given",
            actor=actor,
        )
        if row is not None:
            message = f"suspended by {actor}: {reason}"
            event = NewEvent(kind="environment.suspended", message=message, environment=name)
            await append_all(connection, [event])
            await refresh_conditions(connection, name)


async def resume(connection: Connection, name: str, *, actor: str) -> None:
    """Reconcile an environment again."""
    async with changing(connection, f"resuming environment '{name}'"):
        await lock_environment(connection, name)
        if await one(connection, "resume_environment", environment=name) is not None:
            event = NewEvent(kind="environment.resumed", message=f"resumed by {actor}", environment=name)
            await append_all(connection, [event])
            await refresh_conditions(connection, name)
            await notify(connection, OPERATIONS_CHANNEL, name)
        await wake(connection, name)


async def hold(
    connection: Connection, environment: str, deployment: str, commit: str, *, reason: str, actor: str
) -> None:
    """Hold a commit on a deployment: no pass tries it again by itself."""
    async with changing(connection, f"holding deployment '{deployment}' of environment '{environment}'"):
        await lock_environment(connection, environment)
        where = {"environment": environment, "deployment": deployment}
        await run(connection, "set_hold", **where, commit=commit, reason=reason, operation=None)
        message = f"commit {commit[:12]} is held on '{deployment}' by {actor}: {reason}"
        event = NewEvent(
            kind="deployment.held", message=message, environment=environment, deployment=deployment
        )
        await append_all(connection, [event])
        await refresh_conditions(connection, environment)


async def release_holds(
    connection: Connection,
    environment: str,
    deployments: Sequence[str] | None,
    *,
    commit: str | None = None,
    actor: str,
    reason: str = "",
) -> tuple[str, ...]:
    """Let passes try again on some deployments, or on all; gives those that were held."""
    async with changing(connection, f"releasing holds of environment '{environment}'"):
        await lock_environment(connection, environment)
        return await free_holds(
            connection, environment, deployments, commit=commit, why=f"{actor}: {reason}" if reason else actor
        )


async def free_holds(
    connection: Connection,
    environment: str,
    deployments: Sequence[str] | None,
    *,
    commit: str | None,
    why: str,
) -> tuple[str, ...]:
    """The same inside a transaction that holds the lock of the environment."""
    rows = await many(
        connection,
        "release_holds",
        environment=environment,
        deployments=list(deployments) if deployments is not None else None,
        commit=commit,
    )
    freed = tuple(row["deployment"] for row in rows)
    events = [
        NewEvent(
            kind="deployment.released",
            message=f"the hold on '{deployment}' was released by {why}",
            environment=environment,
            deployment=deployment,
        )
        for deployment in freed
    ]
    await append_all(connection, events)
    await refresh_conditions(connection, environment)
    return freed


async def intend_database(
    connection: Connection, environment: str, deployment: str, server_identity: str, database: str
) -> None:
    """Note that a database is about to be made; durable before this returns."""
    with telling(f"noting that database '{database}' is about to be made"):
        await run(
            connection,
            "intend_database",
            environment=environment,
            deployment=deployment,
            server_identity=server_identity,
            database=database,
        )


async def forget_intent(
    connection: Connection, environment: str, deployment: str, server_identity: str, database: str
) -> None:
    """The database is made and says itself whose it is."""
    with telling(f"noting that database '{database}' is made"):
        await run(
            connection,
            "forget_intent",
            environment=environment,
            deployment=deployment,
            server_identity=server_identity,
            database=database,
        )


async def ping(connection: Connection) -> None:
    """Raise unless the control schema answers."""
    with telling("asking the control database"):
        if await one(connection, "ping") is None:
            raise NotFound("the control schema is empty")
