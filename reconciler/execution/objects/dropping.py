"""Drops what is parked of a generation: object by object, nothing along with it, what is not ours never.

Whatever stands in a parked schema and was not made by us keeps the schema, and is named.
"""

from dataclasses import dataclass

import psycopg

from reconciler.errors import LockNotAcquired, NotFound, Refused
from reconciler.execution.objects.sending import Manner, repeatedly, transaction
from reconciler.execution.session import DatabaseSession
from reconciler.postgres.connection import Connection
from reconciler.tracking import generation_records, generations
from reconciler.tracking.generations import Finding, GenerationState, Parked, Question, translated

SHOWN_MAX = 12
"""Findings that one message lists."""
_STILL_NEEDED = "2BP01"
_GONE = (GenerationState.CANCELLED, GenerationState.FAILED)
"""What was kept of one that failed is there to be looked at; the next plan drops it."""
_NOTHING_BEFORE = ("added", "read")
"""Sorts of schemas of a generation that take the place of none."""


class Surprised(Refused):
    """Something is in the way that we did not make; `findings` hold all of it, up to a bound."""

    def __init__(self, message: str, findings: tuple[Finding, ...], *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.findings = findings


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """What was dropped, by the names that it had."""

    objects: tuple[str, ...] = ()
    schemas: tuple[str, ...] = ()


def listed(findings: tuple[Finding, ...]) -> str:
    """Show findings in one line."""
    shown = "; ".join(f"{one.subject}: {one.detail}" for one in findings[:SHOWN_MAX])
    return shown + (f"; and {len(findings) - SHOWN_MAX} more" if len(findings) > SHOWN_MAX else "")


async def is_nothing_left(connection: Connection, key: str, *, displaced: bool) -> bool:
    """Whether it can be seen without the fence that nothing of a generation is to be dropped.

    With `displaced`, nothing of what its switch displaced: the first generation of a component did not.
    """
    try:
        found = await generations.find(connection, key=key)
        if found.state is GenerationState.RETIRED:
            # Displaced itself and dropped since; what its own switch displaced may be there still.
            return not await generations.parked(connection, found.number)
        if found.state in _GONE:
            return True
        schemas = await generations.schemas(connection, found.number)
    except NotFound:
        # Nothing of it was begun.
        return True
    except psycopg.Error as error:
        raise translated(error, f"looking for what is left of generation {key}") from error
    return displaced and found.promoted_at is not None and all(one.sort in _NOTHING_BEFORE for one in schemas)


async def drop_parked(
    session: DatabaseSession, number: int, manner: Manner, *, failure: str | None = None
) -> Dropped:
    """Drop the objects and schemas of a generation that are parked, and record what is gone for good.

    Raises Surprised, with nothing dropped, where something that is not ours stands in one of the schemas, and
    Refused where something depends on an object: that is kept, with all that it needs.
    """
    surprises = await _ask(session, number)
    if surprises:
        raise Surprised(
            f"dropping what generation {number} left: not ours, and kept: {listed(surprises)}",
            surprises,
            hint="move it to another schema or drop it by hand; then this goes on",
        )
    try:
        parked = await generations.parked(session.writer, number)
    except psycopg.Error as error:
        raise translated(error, f"looking at what generation {number} left") from error
    for one in parked:
        manner.interference.at(f"before dropping {one.identity}")
        await _drop(session, manner, one)
    manner.interference.at("before settling dropped")
    async with transaction(session, manner, "recording what was dropped", durable=True) as writer:
        await generation_records.settle_parked(writer, session.fence, number, failure)
        gone = await generations.schemas(writer, number)
    session.left.update(name for one in gone for name in (one.staging, one.old_name) if name is not None)
    return Dropped(
        objects=tuple(one.identity for one in parked if one.sort is not None),
        schemas=tuple(one.name for one in parked if one.sort is None),
    )


async def _ask(session: DatabaseSession, number: int) -> tuple[Finding, ...]:
    try:
        return await generations.findings(session.writer, Question.PARKED, number)
    except psycopg.Error as error:
        raise translated(error, f"looking at what generation {number} left") from error


async def _drop(session: DatabaseSession, manner: Manner, one: Parked) -> None:
    async def attempt() -> None:
        async with transaction(session, manner, f"dropping {one.identity}") as writer:
            try:
                await generation_records.drop(writer, session.fence, one)
            except psycopg.Error as error:
                if error.sqlstate != _STILL_NEEDED:
                    raise
                raise Refused(
                    f"dropping {one.identity}: something else needs it: {error.diag.message_detail}",
                    hint="drop that, or let it go on without this; nothing was dropped along",
                ) from error

    try:
        await repeatedly(attempt, manner)
    except LockNotAcquired as error:
        raise LockNotAcquired(
            f"{error.message}, {manner.attempts} times in a row",
            hint="a transaction that is open for long reads it; the drop is tried again later",
        ) from error
