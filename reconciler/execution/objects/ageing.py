"""Fills materialized views again whose rows are older than a switch allows; it switches nothing.

Those of the generation are read by nobody yet. Those that stay live are filled beside their readers where an
index allows that.
"""

import time

import psycopg
from psycopg import sql

from reconciler.errors import StepFailed, TemporaryError
from reconciler.execution.objects.sending import QUERIES, Manner, repeatedly, transaction
from reconciler.execution.session import DatabaseSession
from reconciler.tracking import generation_records, generations
from reconciler.tracking.generations import AgedView, translated

ROUNDS_MAX = 3
"""How often all are looked at: what was young enough ages while others are filled."""


async def fill_what_is_old(
    session: DatabaseSession, key: str, *, data_age_s: float, within_s: float, manner: Manner
) -> tuple[str, ...]:
    """Fill again what is older than `data_age_s` of a generation and of what it reads; gives their names.

    Raises StepFailed where filling takes longer than the rows may be old, or than `within_s`.
    """
    end, filled = time.monotonic() + within_s, list[str]()
    doing = f"looking how old the rows of generation {key} are"
    for _ in range(ROUNDS_MAX):
        try:
            found = await generations.find(session.writer, key=key)
            aged = await generations.aged_views(session.writer, found.number, data_age_s)
        except psycopg.Error as error:
            raise translated(error, doing) from error
        if not aged:
            return tuple(filled)
        for number, one in enumerate(aged):
            left = end - time.monotonic()
            await _fill(session, found.number, one, left, manner)
            shown = f"{one.name.schema}.{one.name.name}"
            filled.append(shown)
            await manner.told(f"{shown} was too old and is filled again, {number + 1} of {len(aged)}")
    raise StepFailed(
        f"{doing}: filling them takes longer than the {data_age_s:g} s that they may be old",
        hint="allow a greater dataAge, or make the views cheaper to fill",
    )


async def _fill(session: DatabaseSession, number: int, one: AgedView, left: float, manner: Manner) -> None:
    doing = f"filling materialized view {one.home}.{one.name.name} again"
    if left <= 0:
        raise StepFailed(f"{doing}: not done in time", hint="try again, or give it more time")
    relation = {"schema": sql.Identifier(one.home), "relation": sql.Identifier(one.name.name)}
    beside = not one.own and one.beside_readers
    refresh = QUERIES["refresh_beside_readers" if beside else "refresh_again"].format(**relation)

    async def attempt() -> None:
        async with transaction(session, manner, doing, durable=True) as writer:
            await writer.execute(QUERIES["limit_making"], manner.limits(statement_timeout_s=left))
            try:
                since = await generation_records.clock(writer)
                await writer.execute(refresh)
                await writer.execute(QUERIES["analyze_relation"].format(**relation))
            except psycopg.Error as error:
                told = translated(error, doing)
                if isinstance(told, TemporaryError):
                    raise told from error
                raise StepFailed(told.message, hint=told.hint, sqlstate=error.sqlstate) from error
            await generation_records.record_filled_again(writer, one, since)
            if one.own:
                await generation_records.record_details(writer, number, [one.name])

    await repeatedly(attempt, manner)
