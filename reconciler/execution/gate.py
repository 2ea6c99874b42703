"""Ask a database whether the next wave may start; it writes nothing and needs no fence."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import psycopg

from reconciler.errors import StepFailed
from reconciler.plan.steps import CheckGate
from reconciler.postgres.connection import Dsn, connect, translate
from reconciler.postgres.queries import Queries

_QUERIES = Queries.load("reconciler.execution")
_QUERY_CANCELED = "57014"
_GRACE_S = 5.0
"""Beyond the server's own limit: a server that does not answer at all."""
_LOCKS_MS = 5_000


async def check_gate(step: CheckGate, dsn: Dsn) -> None:
    """Return where the answer is true; anything else raises StepFailed, an absent server what says so."""
    doing = f"asking the gate of wave {step.wave} in database '{step.database}' on {dsn.server}"
    connection = await connect(dsn, database=step.database, role="gate")
    try:
        async with asyncio.timeout(step.timeout_s + _GRACE_S):
            limit = {"statement_ms": str(round(step.timeout_s * 1000)), "lock_ms": str(_LOCKS_MS)}
            await connection.execute(_QUERIES["begin_gate"])
            await connection.execute(_QUERIES["limit_gate"], limit)
            # As a cursor it can only read, and only one statement; two rows say that there are too many.
            question = f"DECLARE reconciler_gate NO SCROLL CURSOR FOR {step.sql}"
            await connection.execute(question.encode(), binary=True)
            cursor = await connection.execute(_QUERIES["read_gate"])
            rows = await cursor.fetchall()
            answer = _answer(rows, cursor.description[0].type_code if cursor.description else 0)
    except TimeoutError:
        raise _shut(doing, f"no answer within {step.timeout_s:g} s") from None
    except psycopg.errors.QueryCanceled:
        raise _shut(doing, f"no answer within {step.timeout_s:g} s", _QUERY_CANCELED) from None
    except psycopg.Error as error:
        told = translate(error, doing)
        if connection.closed or not error.sqlstate:
            raise told from error
        raise _shut(doing, told.message.removeprefix(f"{doing}: "), error.sqlstate) from error
    finally:
        with suppress(psycopg.Error, OSError):
            await connection.close()
    if answer is not None:
        raise _shut(doing, answer)


_BOOLEAN_OID = 16


def _answer(rows: Sequence[Sequence[Any]], kind: int) -> str | None:
    """Why the answer is not true; its value is not told, for it may be anything."""
    if not rows:
        return "the answer has no row"
    if len(rows) > 1:
        return "the answer has more than one row"
    if not rows[0] or kind != _BOOLEAN_OID:
        return "the first column of the answer is no boolean"
    if rows[0][0] is None:
        return "the answer is null"
    return None if rows[0][0] is True else "the answer is false"


def _shut(doing: str, why: str, sqlstate: str | None = None) -> StepFailed:
    return StepFailed(
        f"{doing}: {why}",
        hint="look at what `rollout.waves.gate` asks and mend the cause; a new commit or `reconciler retry` "
        "asks again",
        sqlstate=sqlstate,
    )
