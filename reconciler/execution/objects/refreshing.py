"""Refreshes live materialized views, beside whoever reads them where an index allows that.

It changes no definition, so it needs no fence and runs beside operations; what is staged it never touches.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from psycopg import sql

from reconciler.errors import LockNotAcquired, ReconcilerError, StepFailed, TemporaryError
from reconciler.execution.objects.sending import QUERIES, Manner
from reconciler.objects.model import ObjectName
from reconciler.postgres.connection import Connection
from reconciler.tracking import live_views
from reconciler.tracking.generations import translated
from reconciler.tracking.live_views import LiveView

LOCK_TIMEOUT_S = 1.0
"""A view that is locked against its readers keeps them waiting behind us for no longer than this."""
TIMEOUT_S = 3600.0
"""How long all views of a group may take together."""
ATTEMPTS = 8
_PAUSE_FIRST_S = 0.1
_PAUSE_MOST_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Whose views are refreshed."""

    environment: str
    deployment: str
    component: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refreshed:
    """What was refreshed; `missing` are not live yet, `since` is from when the oldest rows are."""

    views: tuple[ObjectName, ...] = ()
    missing: tuple[ObjectName, ...] = ()
    since: datetime | None = None


async def refresh(
    connection: Connection,
    place: Place,
    views: Sequence[ObjectName],
    *,
    manner: Manner | None = None,
    timeout_s: float = TIMEOUT_S,
) -> Refreshed:
    """Refresh views in the order given, each in a transaction of its own.

    Raises LockNotAcquired where one is read for too long, StepFailed where one cannot be refreshed or the
    time is over; those before it are refreshed then.
    """
    manner = manner or Manner(lock_timeout_s=LOCK_TIMEOUT_S, attempts=ATTEMPTS)
    ends = time.monotonic() + timeout_s
    found = await _live(connection, place)
    done: list[ObjectName] = []
    for name in views:
        if name in found:
            await _refresh(connection, found[name], manner, ends, timeout_s)
            done.append(name)
    after = await _live(connection, place)
    ages = [after[name].since for name in done if name in after]
    return Refreshed(
        views=tuple(done),
        missing=tuple(name for name in views if name not in found),
        since=min((one for one in ages if one is not None), default=None),
    )


async def _live(connection: Connection, place: Place) -> dict[ObjectName, LiveView]:
    try:
        found = await live_views.read(
            connection,
            component=place.component,
            environment=place.environment,
            deployment=place.deployment,
        )
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        # Nothing was ever deployed there, or by an older version.
        return {}
    except psycopg.Error as error:
        raise translated(error, f"looking for the live views of component '{place.component}'") from error
    return {one.name: one for one in found}


async def _refresh(
    connection: Connection, one: LiveView, manner: Manner, ends: float, timeout_s: float
) -> None:
    doing = f"refreshing {one.name.schema}.{one.name.name}"
    pause_s = _PAUSE_FIRST_S
    for left in range(manner.attempts - 1, -1, -1):
        left_s = ends - time.monotonic()
        if left_s <= 0:
            raise _late(doing, timeout_s)
        try:
            return await _attempt(connection, one, manner, left_s, doing)
        except LockNotAcquired:
            if left == 0:
                raise
        except psycopg.errors.QueryCanceled as error:
            raise _late(doing, timeout_s) from error
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, _PAUSE_MOST_S)
    raise AssertionError("there is at least one attempt")


def _late(doing: str, timeout_s: float) -> ReconcilerError:
    return StepFailed(
        f"{doing}: not done within {timeout_s:g} s",
        hint="put fewer views into the group, or make its queries cheaper",
    )


async def _attempt(connection: Connection, one: LiveView, manner: Manner, left_s: float, doing: str) -> None:
    beside = one.beside_readers and one.populated
    statement = QUERIES["refresh_live_beside_readers" if beside else "refresh_live"].format(
        schema=sql.Identifier(one.name.schema), relation=sql.Identifier(one.name.name)
    )
    try:
        async with connection.transaction():
            limits = manner.limits(statement_timeout_s=max(left_s, 0.001))
            await connection.execute(QUERIES["limit_making"], limits)
            cursor = await connection.execute(QUERIES["refresh_begins"], {"oid": one.oid})
            row = await cursor.fetchone()
            if row is None or row[1] != one.name.schema or row[2] != one.name.name:
                # Displaced since we looked: what took its place was filled as it was built.
                return
            manner.interference.at(f"before refreshing {one.name.schema}.{one.name.name}")
            await connection.execute(statement)
        await live_views.note_refreshed(connection, one, row[0])
    except psycopg.errors.QueryCanceled:
        raise
    except psycopg.Error as error:
        told = translated(error, doing)
        if isinstance(told, TemporaryError):
            raise told from error
        raise StepFailed(told.message, hint=told.hint, sqlstate=error.sqlstate) from error
