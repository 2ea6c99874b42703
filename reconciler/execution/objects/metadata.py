"""Brings grants, comments and options of live objects to what their files say, without building them anew.

What we had granted is taken back and given again in one transaction, so that nobody sees the gap; what was
granted by hand stays as it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psycopg

from reconciler.errors import StepFailed, TemporaryError
from reconciler.execution.objects.sending import Manner, repeatedly, transaction
from reconciler.execution.session import DatabaseSession
from reconciler.objects.model import ObjectName
from reconciler.postgres.connection import Connection
from reconciler.tracking import generation_records
from reconciler.tracking.generations import translated


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """What is said of a live object, as statements with live names; of a schema where `name` is empty."""

    name: ObjectName
    statements: tuple[str, ...]
    metadata_hash: str
    options: Mapping[str, str] = field(default_factory=dict)
    path: str | None = None


async def apply_metadata(
    session: DatabaseSession, wanted: Sequence[Metadata], *, manner: Manner | None = None
) -> None:
    """Apply what is said of live objects, each in a transaction of its own; again, changes nothing."""
    manner = manner or Manner()
    for one in wanted:

        async def attempt(one: Metadata = one) -> None:
            await _apply(session, manner, one)

        await repeatedly(attempt, manner)


async def settle_stability(
    session: DatabaseSession, wanted: Sequence[tuple[str, bool]], *, manner: Manner | None = None
) -> None:
    """Record which live schemas are changed in place from now on; again, is the same."""
    manner = manner or Manner()

    async def attempt() -> None:
        async with transaction(session, manner, "recording what is stable", durable=True) as writer:
            for schema, stable in wanted:
                await generation_records.settle_stability(writer, schema, stable=stable)

    if wanted:
        await repeatedly(attempt, manner)


async def _apply(session: DatabaseSession, manner: Manner, one: Metadata) -> None:
    shown = f"{one.name.schema}.{one.name.name}" if one.name.name else f"schema {one.name.schema}"
    doing = f"changing grants and comments of {shown}"
    async with transaction(session, manner, doing, durable=True) as writer:
        by_hand = await generation_records.reset_metadata(writer, session.fence, one.name, one.options)
        if by_hand:
            by_hand = await _still_by_hand(writer, one, by_hand)
        for text in one.statements:
            try:
                await writer.execute(text.encode())
            except psycopg.Error as error:
                told = translated(error, doing)
                if isinstance(told, TemporaryError):
                    raise told from error
                raise StepFailed(
                    told.message, hint=told.hint, file=one.path, sqlstate=error.sqlstate
                ) from error
        await generation_records.record_metadata(writer, session.fence, one.name, one.metadata_hash, by_hand)


async def _still_by_hand(writer: Connection, one: Metadata, by_hand: list[str]) -> list[str]:
    """Leave out what the file gives too by now: it is ours from here on.

    That is tried, and taken back: without what was given by hand, and then with what the file says.
    """
    try:
        async with writer.transaction(force_rollback=True):
            await generation_records.without_grants(writer, one.name, by_hand)
            for text in one.statements:
                await writer.execute(text.encode())
            given = await generation_records.grants(writer, one.name)
    except psycopg.Error:
        # What cannot be taken back alone, or is not understood, counts as given by hand.
        return by_hand
    return [line for line in by_hand if line not in given or line.startswith(("OWNER\t", "DEFAULT\t"))]
