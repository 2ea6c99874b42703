"""Generations that are to be removed, as upkeep takes them one at a time; it touches no managed database."""

from datetime import datetime
from enum import StrEnum

from reconciler.control.events import NewEvent, append_all
from reconciler.control.sql import changing, many, one, telling
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection

KEPT_MAX = 1000
"""Generations that people are told of at once."""


class Remains(StrEnum):
    """What of a generation is to be removed.

    `staged`: all of it, for it never went live. `promoted`: what it displaced. `reverted`: itself.
    """

    STAGED = "staged"
    PROMOTED = "promoted"
    REVERTED = "reverted"


@frozen
class Chore:
    """A generation to remove something of; `commit` is of `operation`, which had to do with it last.

    Who takes it has it for as long as was asked for; then another may.
    """

    id: int
    environment: str
    source: str
    deployment: str
    server: str
    database: str
    component: str
    generation: str
    state: Remains
    operation: str
    commit: str
    made_at: datetime
    retained_until: datetime | None
    failures: int
    error: str | None


@frozen
class Kept:
    """A generation that could not be removed, and why; it is tried again."""

    environment: str
    deployment: str
    database: str
    component: str
    generation: str
    state: Remains
    made_at: datetime
    failures: int
    error: str
    next_try_at: datetime


@frozen
class GenerationCount:
    """How many generations are to be removed once, and how many of these could not be when that was tried."""

    generations: int
    kept: int


async def take_due(connection: Connection, worker: str, *, lease_s: float) -> Chore | None:
    """The next generation that a worker may remove something of, which is its for `lease_s` seconds."""
    with telling("looking for generations that are to be removed"):
        row = await one(connection, "take_due_generation", worker=worker, lease_s=float(lease_s))
    return Chore(**{**row, "state": Remains(row["state"])}) if row is not None else None


async def is_due(connection: Connection, chore: Chore) -> bool:
    """Whether what was taken is still to be removed, and nobody works on the deployment by now."""
    with telling(f"asking whether {_named(chore)} is still to be removed"):
        row = await one(
            connection,
            "is_generation_due",
            id=chore.id,
            operation=int(chore.operation),
            state=chore.state.value,
        )
    return row is not None


async def settle_chore(connection: Connection, chore: Chore) -> bool:
    """Forget a generation of which nothing is left to be removed; False where it is another's by now."""
    async with changing(connection, f"noting that {_named(chore)} is removed"):
        row = await one(
            connection,
            "remove_generation",
            id=chore.id,
            operation=int(chore.operation),
            state=chore.state.value,
        )
        if row is not None:
            what = _WHAT[chore.state]
            await append_all(
                connection, [_event(chore, "generation.removed", f"{what} {_named(chore)} is removed")]
            )
    return row is not None


async def postpone_chore(connection: Connection, chore: Chore, error: str, delay_s: float) -> bool:
    """Have it tried again after a while; why is told once, and again where it changed.

    False where it is another's by now.
    """
    async with changing(connection, f"noting that {_named(chore)} is kept"):
        row = await one(
            connection,
            "postpone_generation",
            id=chore.id,
            operation=int(chore.operation),
            state=chore.state.value,
            error=error,
            delay_s=float(delay_s),
        )
        if row is not None and row["before"] != error:
            message = f"{_WHAT[chore.state]} {_named(chore)} is kept: {error}"
            await append_all(connection, [_event(chore, "generation.kept", message)])
    return row is not None


async def read_kept(
    connection: Connection, environments: list[str] | None = None, *, limit: int = KEPT_MAX
) -> tuple[Kept, ...]:
    """What could not be removed when that was tried last."""
    with telling("reading generations that could not be removed"):
        rows = await many(
            connection, "read_kept_generations", environments=environments, limit=min(limit, KEPT_MAX)
        )
    return tuple(Kept(**{**row, "state": Remains(row["state"])}) for row in rows)


async def count_generations(connection: Connection) -> dict[Remains, GenerationCount]:
    """How many generations there are, by what of them is to be removed."""
    with telling("counting generations"):
        rows = await many(connection, "count_generations")
    found = {
        Remains(row["state"]): GenerationCount(generations=row["generations"], kept=row["kept"])
        for row in rows
    }
    none = GenerationCount(generations=0, kept=0)
    return {state: found.get(state, none) for state in Remains}


_WHAT = {
    Remains.STAGED: "what was staged of",
    Remains.PROMOTED: "what was displaced by",
    Remains.REVERTED: "what was taken back of",
}


def _named(chore: Chore) -> str:
    return f"'{chore.component}' ({chore.generation}) on '{chore.deployment}'"


def _event(chore: Chore, kind: str, message: str) -> NewEvent:
    return NewEvent(
        kind=kind,
        message=message,
        environment=chore.environment,
        deployment=chore.deployment,
        operation=int(chore.operation),
        data={
            "component": chore.component,
            "database": chore.database,
            "generation": chore.generation,
            "state": chore.state.value,
        },
    )
