"""What runs and what was put out: read as tracked state, written under the lease of operations.

Values that are sealed stay so here: who opens them is elsewhere. Nothing here touches a runtime or a proxy.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg.types.json import Jsonb

from reconciler.control.claims import Claim, lease_lost
from reconciler.control.sql import Row, changing, many, one, run, telling
from reconciler.errors import Conflict
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection
from reconciler.rollout.status import OutputStatus, ProgramStatus
from reconciler.state.healing import QUIET_S, heal_after
from reconciler.state.tracked import TrackedComponent, TrackedOutput, TrackedPrograms

RUNS_KEPT = 50
"""Runs of each job that are kept, beside those of the operation at work and the last that was done."""
ERROR_CHARACTERS_MAX = 10_000
"""A longer error of a run is cut."""
SHOWN_MAX = 20_000
"""Components, and outputs, that people are shown at once."""
REASON_MAX = 1_000
"""Of why a service is as it is."""

_FIRST_STATES = {"Service": "healthy", "Route": "set"}
"""How what was just applied is: an operation waits for it."""


@frozen
class FoundState:
    """How a pass found a component, for people; `ordinal` is its place where they are shown."""

    component: str
    state: str | None
    reason: str | None = None
    ordinal: int | None = None


@frozen
class Definition:
    """A component as it is applied; `definition` is JSON with references and no secrets."""

    component: str
    kind: str
    stage: str
    definition_hash: str
    definition: Mapping[str, Any]
    place: str | None = None
    instance: str | None = None


@frozen
class StoredOutput:
    """An output as it is kept: `value` as JSON has it, or `sealed`."""

    name: str
    type: str
    value: Any = None
    sealed: str | None = None


@frozen
class ReadOutput:
    """An output as it was kept, with the hash of what it was made from."""

    value: Any
    sealed: str | None
    inputs_hash: str


@frozen
class RouteClaim:
    """A host and path of a proxy that a component wants."""

    component: str
    proxy: str
    host: str
    path: str

    @property
    def named(self) -> str:
        """As people are told of it."""
        return f"'{self.host}{self.path}' of proxy '{self.proxy}'"


async def read_tracked(connection: Connection, environment: str, deployment: str) -> TrackedPrograms:
    """What of a deployment was applied, put out and run."""
    with telling(f"reading what runs of deployment '{deployment}' of environment '{environment}'"):
        rows = await many(connection, "read_programs", environment=environment, deployment=deployment)
    return _tracked(rows[0]) if rows else TrackedPrograms()


async def read_all(connection: Connection, environment: str) -> dict[str, TrackedPrograms]:
    """The same of all deployments of an environment, those that left it too."""
    with telling(f"reading what runs of environment '{environment}'"):
        rows = await many(connection, "read_programs", environment=environment, deployment=None)
    return {row["deployment"]: _tracked(row) for row in rows}


async def read_statuses(
    connection: Connection, environments: Sequence[str] | None
) -> dict[str, list[ProgramStatus]]:
    """Services, jobs and routes as people are shown them, by environment."""
    names = list(environments) if environments is not None else None
    with telling("reading services, jobs and routes"):
        rows = await many(connection, "read_program_statuses", names=names, limit=SHOWN_MAX)
    found: dict[str, list[ProgramStatus]] = {}
    for row in rows:
        found.setdefault(row.pop("environment"), []).append(ProgramStatus(**row))
    return found


async def read_outputs(
    connection: Connection, environment: str, deployment: str | None
) -> tuple[OutputStatus, ...]:
    """What components put out, as people are shown it: without sensitive values."""
    with telling(f"reading the outputs of environment '{environment}'"):
        rows = await many(
            connection, "read_outputs", environment=environment, deployment=deployment, limit=SHOWN_MAX
        )
    return tuple(OutputStatus(**row) for row in rows)


async def known_environments(connection: Connection) -> frozenset[str]:
    """Environments that services, jobs or routes are recorded of."""
    with telling("reading which environments have services, jobs or routes"):
        rows = await many(connection, "environments_with_programs")
    return frozenset(row["environment"] for row in rows)


async def note_states(
    connection: Connection, environment: str, deployment: str, states: Sequence[FoundState]
) -> None:
    """Note how services and routes were found; what is known already is not written again."""
    rows = [
        {
            "component": each.component,
            "state": each.state,
            "reason": (each.reason or "")[:REASON_MAX] or None,
            "ordinal": each.ordinal,
        }
        for each in states
    ]
    with telling(f"noting how services of environment '{environment}' are"):
        await run(
            connection, "note_states", environment=environment, deployment=deployment, states=Jsonb(rows)
        )


async def forget_heals(
    connection: Connection, environment: str, deployment: str, components: Sequence[str]
) -> tuple[str, ...]:
    """Count anew how often services are put back that stayed as they should for long; gives which."""
    with telling(f"noting which services of environment '{environment}' are quiet"):
        rows = await many(
            connection,
            "forget_heals",
            environment=environment,
            deployment=deployment,
            components=list(components),
            quiet_s=QUIET_S,
        )
    return tuple(row["component"] for row in rows)


async def routes_of_others(
    connection: Connection, environment: str, deployment: str, wanted: Sequence[RouteClaim]
) -> dict[str, str]:
    """By component, whose the host and path is that it wants; those that are free are not among them."""
    if not wanted:
        return {}
    with telling(f"reading whose the routes of environment '{environment}' are"):
        rows = await many(
            connection,
            "routes_of_others",
            environment=environment,
            deployment=deployment,
            components=[claim.component for claim in wanted],
            proxies=[claim.proxy for claim in wanted],
            hosts=[claim.host.lower() for claim in wanted],
            paths=[claim.path for claim in wanted],
        )
    return {
        row["component"]: f"'{row['host']}{row['path']}' of proxy '{row['proxy']}' is {_whose(row)}"
        for row in rows
    }


def _whose(row: Row) -> str:
    taken_by = row.get("taken_by", row["component"])
    return f"the route '{taken_by}' of deployment '{row['deployment']}' of environment '{row['environment']}'"


async def read_kept_output(
    connection: Connection, environment: str, deployment: str, component: str, name: str
) -> ReadOutput | None:
    """An output of a deployment as it is kept, or None."""
    with telling(f"reading the output '{component}.{name}' of deployment '{deployment}'"):
        row = await one(
            connection,
            "read_kept_output",
            environment=environment,
            deployment=deployment,
            component=component,
            name=name,
        )
    return ReadOutput(**row) if row is not None else None


async def applying(connection: Connection, claim: Claim, what: Definition) -> None:
    """Note what is about to be there, before the first thing is done that leaves anything behind."""
    await _under_lease(connection, claim, "note_applying", **_columns(what))


async def applied(connection: Connection, claim: Claim, what: Definition, *, healed: bool) -> None:
    """Note that it is live; the host and path that it claimed last is its only one from now on."""
    await _under_lease(
        connection,
        claim,
        "note_applied_program",
        healed=healed,
        state=_FIRST_STATES.get(what.kind),
        **_columns(what),
    )


async def rolled_back(connection: Connection, claim: Claim, component: str) -> None:
    """Note that nothing of what was being applied is there any more."""
    await _under_lease(connection, claim, "note_rolled_back", component=component)


async def stopped(connection: Connection, claim: Claim, component: str) -> None:
    """Note that no instance of a service runs; what it was is kept."""
    await _under_lease(connection, claim, "note_stopped_program", component=component)


async def removed(connection: Connection, claim: Claim, component: str) -> None:
    """Forget a component with its outputs, passwords, runs and routes."""
    await _under_lease(connection, claim, "remove_program", component=component)


async def read_output(connection: Connection, claim: Claim, component: str, name: str) -> ReadOutput | None:
    """An output as it is kept, or None; LeaseLost as everywhere."""
    row = await _under_lease(connection, claim, "read_output", component=component, name=name)
    if row["name"] is None:
        return None
    return ReadOutput(value=row["value"], sealed=row["sealed"], inputs_hash=row["inputs_hash"])


async def keep_outputs(
    connection: Connection, claim: Claim, component: str, inputs_hash: str, outputs: Sequence[StoredOutput]
) -> None:
    """Keep all outputs of a component, in place of those it had."""
    rows = [
        {"name": each.name, "type": each.type, "sealed": each.sealed}
        | ({} if each.sealed is not None else {"value": each.value})
        for each in outputs
    ]
    await _under_lease(
        connection,
        claim,
        "keep_outputs",
        component=component,
        inputs_hash=inputs_hash,
        outputs=Jsonb(rows),
    )


async def read_password(connection: Connection, claim: Claim, component: str, role: str) -> str | None:
    """The sealed password of a role, or None."""
    row = await _under_lease(connection, claim, "read_password", component=component, role=role)
    return str(row["sealed"]) if row["sealed"] is not None else None


async def keep_password(connection: Connection, claim: Claim, component: str, role: str, sealed: str) -> str:
    """Keep the sealed password of a role, unless one is kept: gives the one that counts."""
    row = await _under_lease(
        connection, claim, "keep_password", component=component, role=role, sealed=sealed
    )
    return str(row["sealed"])


async def job_began(
    connection: Connection, claim: Claim, component: str, *, trigger: str, inputs_hash: str, instance: str
) -> int:
    """Note that a run of a job begins; gives the number of this attempt within the operation."""
    async with changing(connection, f"noting that job '{component}' begins"):
        await _under_lease(connection, claim, "end_lost_runs", component=component)
        row = await _under_lease(
            connection,
            claim,
            "begin_job",
            component=component,
            trigger=trigger,
            inputs_hash=inputs_hash,
            instance=instance,
        )
        await run(
            connection,
            "forget_old_runs",
            operation=int(claim.operation),
            component=component,
            kept=RUNS_KEPT,
        )
    return int(row["attempt"])


async def job_ended(
    connection: Connection,
    claim: Claim,
    component: str,
    instance: str,
    *,
    exit_status: int | None,
    error: str | None,
) -> None:
    """Note how a run ended, where that is not noted yet; without an error the job is done for its inputs."""
    await _under_lease(
        connection,
        claim,
        "end_job",
        component=component,
        instance=instance,
        exit_status=exit_status,
        error=(error or "no reason is known")[:ERROR_CHARACTERS_MAX] if error is not None else None,
    )


async def claim_route(connection: Connection, claim: Claim, wanted: RouteClaim) -> None:
    """Take a host and path of a proxy; Conflict with whose it is, where it is another deployment's."""
    row = await _under_lease(
        connection,
        claim,
        "claim_route",
        component=wanted.component,
        proxy=wanted.proxy,
        host=wanted.host.lower(),
        path=wanted.path,
    )
    if not row["is_ours"]:
        raise Conflict(
            f"setting the route '{wanted.component}': {wanted.named} is {_whose(row)}",
            hint="give it another host or path, or take that route out of its spec first",
        )


def _columns(what: Definition) -> dict[str, Any]:
    return {
        "component": what.component,
        "kind": what.kind,
        "stage": what.stage,
        "definition_hash": what.definition_hash,
        "definition": Jsonb(dict(what.definition)),
        "place": what.place,
        "instance": what.instance,
    }


async def _under_lease(connection: Connection, claim: Claim, query: str, /, **what: object) -> Row:
    with telling(f"noting what operation {claim.operation} did to '{what['component']}'"):
        row = await one(
            connection, query, operation=int(claim.operation), lease_token=claim.lease_token, **what
        )
    if row is None:
        raise lease_lost(claim)
    return row


def _tracked(row: Row) -> TrackedPrograms:
    components = [_component(found) for found in row["components"] or ()]
    outputs = [TrackedOutput(**found) for found in row["outputs"] or ()]
    return TrackedPrograms(
        components={found.component: found for found in components},
        outputs={f"{found.component}.{found.name}": found for found in outputs},
        jobs=row["jobs"] or {},
        stopped=row["stopped"],
        started=row["started"],
        ran=frozenset(row["ran"]),
        read_at=row["read_at"],
    )


def _component(found: Mapping[str, Any]) -> TrackedComponent:
    healed_at = found["healed_at"]
    rest = {name: value for name, value in found.items() if name != "healed_at"}
    after = heal_after(found["heals"], float(healed_at) if healed_at is not None else None)
    return TrackedComponent(**rest, heal_after=after)
