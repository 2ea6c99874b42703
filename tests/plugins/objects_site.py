"""Sites whose environment has SQL objects: their files, rollouts of them, and what is there afterwards."""

import asyncio
from collections.abc import Mapping
from typing import Any

from typing_extensions import override

from reconciler.execution.interference import Interference
from reconciler.rollout.status import OperationStatus
from tests.plugins.site import Process, Site, holds

ORDERS = {
    "orders": "create table orders (id int, amount int);"
    " insert into orders select g, g * 10 from generate_series(1, 3) as g;"
}
AT_WORK = {"pending", "running", "retrying", "promoting", "reverting"}
KEPT = "__"
"""What the names of schemas have that stand beside live ones."""


def spec(site: Site, *, objects: str = "", rollout: str = "") -> dict[str, str]:
    """An environment with a module and SQL objects over it; `objects` are fields of that component."""
    ((name, text),) = site.spec(more=f"  rollout: {{{rollout}}}\n" if rollout else "").items()
    component = (
        "    - {name: reports, kind: Objects, database: {from: shop-db}, path: objects/reports,"
        f" externals: [public.orders]{objects}}}\n"
    )
    return {name: text + component}


def files(texts: Mapping[str, str], *, path: str = "objects/reports") -> dict[str, str]:
    """Files of SQL objects, by their names below the folder without `.sql`."""
    return {f"{path}/{name}.sql": text for name, text in texts.items()}


async def ended(process: Process, name: str = "production", *, left: str | None = None) -> OperationStatus:
    """The operation of the newest rollout, once no worker is at it, and it left a state."""

    async def over() -> bool:
        operation = (await process.rollouts(name))[0].operations[0]
        return operation.state.value not in AT_WORK | {left}

    await holds(over, "the operation to rest")
    rollout = (await process.rollouts(name))[0].id
    return (await process.parts.reconciler.rollout(rollout)).operations[0]


async def rolled(process: Process, *, state: str = "revert_window") -> OperationStatus:
    """See the newest commit and let the worker do what it asks for; `state` is where that is to lead."""
    await process.look()
    process.worker.wake()
    found = await ended(process)
    assert found.state.value == state, (found.state.value, found.reason, found.error)
    return found


async def ask(process: Process, verb: str) -> OperationStatus:
    """Ask a verb of the newest rollout, and wait for what comes of it."""
    newest = (await process.rollouts())[0]
    await process.parts.reconciler.request(newest.id, verb, deployment=None, requested_by="ada")
    process.worker.wake()
    return await ended(process, left=newest.operations[0].state.value)


async def calm(process: Process) -> None:
    """Another pass finds nothing to do, and no drift."""
    before = [rollout.id for rollout in await process.rollouts()]
    await process.look()
    assert [rollout.id for rollout in await process.rollouts()] == before
    environment = await process.environment()
    assert [one.drift for one in environment.deployments] == [0], environment.deployments


def schemas(site: Site) -> list[str]:
    """The schemas of the database, but those of the server and of the tracking."""
    query = (
        "SELECT nspname::text FROM pg_namespace WHERE nspname !~ '^(pg_|information_schema|reconciler$)'"
        " ORDER BY 1"
    )
    return [row[0] for row in site.rows(query)]


def beside(site: Site) -> list[str]:
    """The schemas that stand beside live ones: staged, or displaced and kept."""
    return [name for name in schemas(site) if KEPT in name]


class StrikeOnce(Interference):
    """At a point, ends the attempt as the death of its process does: nothing more is said or recorded."""

    active = True

    def __init__(self) -> None:
        self.point: str | None = None
        self.seen: list[str] = []

    @override
    def at(self, point: str) -> None:
        self.seen.append(point)
        if point == self.point:
            self.point = None
            raise asyncio.CancelledError


def generation_states(site: Site) -> list[tuple[Any, ...]]:
    """State and how often, of all generations that were ever begun."""
    return site.rows("SELECT state::text, count(*) FROM reconciler.generations GROUP BY 1 ORDER BY 1")
