"""Deployments that left the spec, as passes and people speak of them; it touches no database of theirs."""

from collections.abc import Mapping, Sequence

from psycopg.types.json import Jsonb

from reconciler.control.environments import free_holds
from reconciler.control.events import NewEvent, append_all
from reconciler.control.leaving import note_leaving, there
from reconciler.control.moves import lock_environment
from reconciler.control.sql import changing, one, run, telling
from reconciler.errors import Conflict, NotFound
from reconciler.postgres.connection import Connection
from reconciler.rollout.states import OperationState


async def note_left(connection: Connection, environment: str, names: Sequence[str]) -> None:
    """Keep in mind which deployments the commit that is followed does not name, before a pass says so."""
    async with changing(connection, f"noting which deployments left environment '{environment}'"):
        await lock_environment(connection, environment)
        await append_all(connection, await note_leaving(connection, environment, names))


async def tell_why(connection: Connection, environment: str, whys: Mapping[str, str | None]) -> None:
    """Write why deployments that left are as they are; what is said already is not written again."""
    rows = [{"name": name, "why": why} for name, why in sorted(whys.items())]
    with telling(f"noting what becomes of deployments that left environment '{environment}'"):
        await run(connection, "write_why_left", environment=environment, whys=Jsonb(rows))


async def forget(connection: Connection, environment: str, deployment: str, *, why: str, actor: str) -> None:
    """Stop telling of a deployment that left; its databases stay as they are.

    NotFound where none of that name left, Conflict where the spec names it or something of it is under way.
    """
    async with changing(connection, f"forgetting deployment '{deployment}' of environment '{environment}'"):
        await lock_environment(connection, environment)
        where = {"environment": environment, "deployment": deployment}
        busy = await one(connection, "unfinished_there", **where)
        if busy is not None:
            raise Conflict(
                f"deployment '{deployment}' of environment '{environment}' is not forgotten: operation "
                f"{busy['id']} is {busy['state']} there",
                hint=f"reconciler {_way_out(busy['state'])} {busy['rollout']} --deployment {deployment}, "
                "then forget it",
            )
        row = await one(connection, "forget_left", **where)
        if row is None:
            raise await _not_left(connection, environment, deployment)
        said = f": {why}" if why else ""
        message = f"'{deployment}' is forgotten by {actor}{said}; its databases{there(row)} are as they were"
        event = NewEvent(
            kind="deployment.forgotten",
            message=message,
            environment=environment,
            deployment=deployment,
            data={"requested_by": actor, "why": why or None, "databases": list(row["databases"])},
        )
        await append_all(connection, [event])
        await free_holds(connection, environment, [deployment], commit=None, why=f"{actor}, who forgot it")


async def _not_left(connection: Connection, environment: str, deployment: str) -> Conflict | NotFound:
    known = await one(connection, "known_names", environment=environment, deployment=deployment)
    assert known is not None
    if known["declared"]:
        return Conflict(
            f"deployment '{deployment}' of environment '{environment}' is not forgotten: the spec names it",
            hint="take it out of the spec; what the spec names is reconciled",
        )
    return NotFound(
        f"no deployment '{deployment}' left environment '{environment}'",
        hint=f"these did: {', '.join(known['gone'])}" if known["gone"] else "none did",
    )


def _way_out(state: str) -> str:
    """The verb that ends an operation which is not over."""
    return "skip-revert" if state == OperationState.REVERT_WINDOW.value else "cancel"
