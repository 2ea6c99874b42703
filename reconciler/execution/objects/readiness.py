"""Fills what was staged and checks it, so that the switch is to something that answers at once.

Materialized views are made without rows and filled here: whoever began a transaction before reads those rows
too, where a view that was made with them would look empty.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from psycopg import sql

from reconciler.errors import Conflict, StepFailed, TemporaryError
from reconciler.execution.objects.dropping import listed
from reconciler.execution.objects.sending import QUERIES, Manner, repeatedly, transaction
from reconciler.execution.session import DatabaseSession
from reconciler.objects.work import ObjectToStage, Work
from reconciler.postgres.connection import Connection
from reconciler.tracking import generation_records, generations
from reconciler.tracking.generations import GenerationState, Question, TrackedGeneration, translated

ROWS_SHOWN_MAX = 5
"""Of what an assertion finds."""
_WRITES = "25006"


@dataclass(frozen=True, slots=True, kw_only=True)
class Assertion:
    """A query over what is staged that must give no row, or the generation is not ready."""

    name: str
    query: str


class _Deadline:
    """What is left of the time that filling and checking may take."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self, doing: str) -> float:
        """Seconds that are left; raises StepFailed where there are none."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise self.missed(doing)
        return left

    def missed(self, doing: str) -> StepFailed:
        """Tell that the time is over."""
        return StepFailed(
            f"{doing}: not ready within {self.seconds:g} s",
            hint="what was filled stays filled: try again, or give it more time",
        )


async def make_ready(
    session: DatabaseSession,
    work: Work,
    *,
    deadline_s: float,
    manner: Manner | None = None,
    beside: Sequence[DatabaseSession] = (),
    assertions: Sequence[Assertion] = (),
) -> TrackedGeneration:
    """Fill materialized views, gather their statistics, and check; again, goes on where it was left.

    Raises StepFailed where the deadline passes, a query fails, or an assertion gives rows; all stays staged.
    """
    manner, deadline = manner or Manner(), _Deadline(deadline_s)
    doing = f"making generation {work.key} ready"
    try:
        found = await generations.find(session.writer, key=work.key)
        if found.state not in (GenerationState.STAGED, GenerationState.READY):
            raise Conflict(f"{doing}: it is {found.state.value}", hint="stage it first")
        done = {one.name for one in await generations.objects(session.writer, found.number) if one.filled}
        waves = [[one for one in wave if one.name not in done and _fills(one)] for wave in work.waves]
        filling = _Filling(
            work=work,
            number=found.number,
            manner=manner,
            deadline=deadline,
            sessions=(session, *beside),
            count=sum(len(wave) for wave in waves),
        )
        for wave in waves:
            await filling.fill(wave)
        for one in assertions:
            await _assert(session, manner, deadline, one)
        await _check(session, found, manner, doing)
    except psycopg.Error as error:
        raise translated(error, doing) from error
    return await generations.find(session.writer, number=found.number)


def _fills(one: ObjectToStage) -> bool:
    return one.texts is not None and one.texts.fill is not None


@dataclass(slots=True, kw_only=True)
class _Filling:
    """Fills wave after wave, side by side inside of one."""

    work: Work
    number: int
    manner: Manner
    deadline: _Deadline
    sessions: tuple[DatabaseSession, ...]
    count: int
    filled: int = 0

    async def fill(self, wave: list[ObjectToStage]) -> None:
        """Fill what does not need each other."""
        waiting = list(reversed(wave))

        async def work_through(session: DatabaseSession) -> None:
            try:
                while waiting:
                    await self._fill(session, waiting.pop())
            except BaseException:
                waiting.clear()
                raise

        used = self.sessions[: len(wave)]
        for end in await asyncio.gather(*(work_through(one) for one in used), return_exceptions=True):
            if isinstance(end, BaseException):
                raise end

    async def _fill(self, session: DatabaseSession, one: ObjectToStage) -> None:
        doing = f"filling {one.identity}"

        async def attempt() -> None:
            left = self.deadline.left(doing)
            self.manner.interference.at(f"filling {one.name.schema}.{one.name.name}")
            async with transaction(session, self.manner, doing) as writer:
                await self._fill_inside(writer, one, left, doing)

        await repeatedly(attempt, self.manner)
        self.filled += 1
        await self.manner.told(f"{one.identity} is filled, {self.filled} of {self.count}")

    async def _fill_inside(self, writer: Connection, one: ObjectToStage, left: float, doing: str) -> None:
        assert one.texts is not None
        assert one.texts.fill is not None
        await writer.execute(QUERIES["limit_making"], self.manner.limits(statement_timeout_s=left))
        settings = next((each.texts for each in self.work.schemas if each.name == one.name.schema), None)
        for text in settings.settings if settings is not None else ():
            await writer.execute(text.encode())
        try:
            await writer.execute(one.texts.fill.encode())
            analyze = QUERIES["analyze_relation"].format(
                schema=sql.Identifier(one.texts.schema), relation=sql.Identifier(one.name.name)
            )
            await writer.execute(analyze)
        except psycopg.errors.QueryCanceled as error:
            raise self.deadline.missed(doing) from error
        except psycopg.Error as error:
            told = translated(error, doing)
            if isinstance(told, TemporaryError):
                raise told from error
            raise StepFailed(told.message, hint=told.hint, file=one.path, sqlstate=error.sqlstate) from error
        await generation_records.record_filled(writer, self.number, one.name)


async def _assert(session: DatabaseSession, manner: Manner, deadline: _Deadline, one: Assertion) -> None:
    doing = f"checking assertion '{one.name}'"
    left = deadline.left(doing)
    async with transaction(session, manner, doing) as writer:
        await writer.execute(QUERIES["only_read"])
        await writer.execute(QUERIES["limit_making"], manner.limits(statement_timeout_s=left))
        try:
            cursor = await writer.execute(one.query.encode())
            rows = await cursor.fetchmany(ROWS_SHOWN_MAX)
        except psycopg.errors.QueryCanceled as error:
            raise deadline.missed(doing) from error
        except psycopg.Error as error:
            told = translated(error, doing)
            # Of a whole server this code would say that it is a standby, which may pass.
            if isinstance(told, TemporaryError) and error.sqlstate != _WRITES:
                raise told from error
            raise StepFailed(told.message, hint=told.hint, sqlstate=error.sqlstate) from error
        if rows:
            shown = "; ".join(", ".join(str(value)[:100] for value in row) for row in rows)
            raise StepFailed(
                f"{doing}: it found {cursor.rowcount} rows: {shown}",
                hint="nothing is live of this generation; correct the objects or the data and try again",
            )
    await manner.told(f"assertion '{one.name}' holds")


async def _check(session: DatabaseSession, found: TrackedGeneration, manner: Manner, doing: str) -> None:
    unready = await generations.findings(session.writer, Question.UNREADY, found.number)
    if unready:
        raise StepFailed(f"{doing}: {listed(unready)}", hint="stage and fill it again")
    async with transaction(session, manner, doing, durable=True) as writer:
        change = ((GenerationState.STAGED,), GenerationState.READY)
        await generation_records.move(writer, session.fence, found.number, change)
