"""Run a change that cannot be one transaction: unit by unit, each noted before and after.

Whatever ends us between two notes, the next attempt finds out what became of the unit that was under way, or
says that a person has to.
"""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from reconciler.errors import DatabaseUnavailable, LockNotAcquired, ReconcilerError, Refused, StepFailed
from reconciler.execution import recognise
from reconciler.execution.messages import Chapter, Exchange, Piece
from reconciler.execution.scripts import ScriptFault, roll_back, with_lock_retries
from reconciler.execution.session import DatabaseSession
from reconciler.frozen import frozen
from reconciler.postgres.queries import Queries
from reconciler.state.program import Program
from reconciler.state.tracked import Unfinished
from reconciler.state.units import How, Unit, left_of, resumption, settings, units
from reconciler.tracking import record
from reconciler.tracking.read import read_unfinished
from reconciler.tracking.record import Actor

_QUERIES = Queries.load("reconciler.execution")
CONCURRENT_LOCK_WAIT = "1h"
"""How long a statement that works concurrently waits for each of those before it; nobody queues behind it."""
_CONCURRENTLY = frozenset({"create-index", "drop-index", "reindex", "detach"})


@frozen
class Subject:
    """What is run: a script of a change, and who says what went wrong with it.

    `whose` is told with what fails; `noted` names the change and says nothing yet; `way_out` tells a person
    what to do where nobody knows what an interrupted script has done.
    """

    program: Program
    noted: Unfinished
    whose: Any
    doing: str
    way_out: str
    explain: Callable[[psycopg.Error | ScriptFault], Awaitable[ReconcilerError]]


class Run:
    """The run of one script outside of transactions."""

    def __init__(self, session: DatabaseSession, subject: Subject, actor: Actor) -> None:
        self._session = session
        self._subject = subject
        self._actor = actor
        self._program = subject.program
        self._units = units(self._program)
        self._noted = subject.noted

    async def carry_out(self, safe_point: Callable[[], Awaitable[None]], *, again: bool) -> None:
        """Run what is not done yet; `again`: a person agreed that something may be run twice."""
        try:
            start = await self._start(again=again)
            for number in range(start, len(self._units)):
                await with_lock_retries(self._session, partial(self._unit, number), safe_point)
        except (psycopg.Error, ScriptFault) as error:
            raise await self._explain(error) from error
        finally:
            await self._forget_settings()

    async def _start(self, *, again: bool) -> int:
        """Find the first unit that is not done, and put the session into the state that it expects."""
        async with self._session.holder_lock:
            unfinished = await read_unfinished(self._session.holder)
        left = left_of(unfinished, (self._noted.change_id, self._noted.name), self._noted.project)
        where = resumption(self._program, self._units, left)
        if where.doubt is not None and not again:
            raise Refused(f"{self._subject.doing}: {where.doubt}", hint=self._subject.way_out)
        await self._prepare(where.start)
        start = where.start
        if where.running and left is not None and await self._is_done(self._units[start], left, again=again):
            start += 1
            await self._prepare(start)
        self._noted = replace(self._noted, done=tuple(unit.hash for unit in self._units[:start]))
        return start

    async def _prepare(self, start: int) -> None:
        """Begin as a fresh session does, with what the units before have set."""
        session = self._session
        await session.writer.execute(_QUERIES["reset_role"])
        await session.writer.execute(_QUERIES["reset_settings"])
        await session.writer.execute(
            _QUERIES["limit_outside"],
            {
                "lock_timeout_ms": str(int(session.limits.lock_timeout_s * 1000)),
                "statement_timeout_ms": str(int(session.limits.statement_timeout_s * 1000)),
            },
        )
        before = self._units[start].first if start < len(self._units) else len(self._program.statements)
        for index in settings(self._program, before):
            await self._send(index)

    async def _is_done(self, unit: Unit, left: Unfinished, *, again: bool) -> bool:
        """What became of the unit that was under way when an earlier attempt ended.

        What nobody knows is run `again` where a person agreed to that.
        """
        writer = self._session.writer
        if left.transaction_id is None:
            target = self._program.statements[unit.first].facts.target
            return target is not None and await recognise.is_done(writer, target, left.there_before)
        cursor = await writer.execute(_QUERIES["transaction_status"], {"transaction_id": left.transaction_id})
        row = await cursor.fetchone()
        status = row[0] if row is not None else None
        last = self._program.statements[unit.last].facts.transaction
        if status == "in progress" and last != "PREPARE TRANSACTION":
            raise DatabaseUnavailable(
                f"{self._subject.doing}: transaction {left.transaction_id} has not ended yet"
            )
        if status is None and not again:
            raise Refused(
                f"{self._subject.doing}: nobody knows any more whether {left.words} committed",
                hint=self._subject.way_out,
            )
        return status not in (None, "aborted")

    async def _unit(self, number: int) -> None:
        unit = self._units[number]
        try:
            if unit.how is How.ALONE:
                await self._alone(unit)
            else:
                await self._in_transaction(unit)
        except (psycopg.Error, ScriptFault) as error:
            await self._take_back(unit)
            raise await self._explain(error) from error
        except BaseException:
            await roll_back(self._session)
            raise
        done = (*self._noted.done, unit.hash)
        await self._note(self._between(unit, done))

    async def _in_transaction(self, unit: Unit) -> None:
        """Run a transaction; its id is noted before it commits, and says later whether it did."""
        writer = self._session.writer
        if unit.how is How.WRAPPED:
            await writer.execute(_QUERIES["begin_unit"])
        last = unit.last if unit.how is How.WRAPPED else unit.last - 1
        for index in range(unit.first, last + 1):
            await self._send(index)
        cursor = await writer.execute(_QUERIES["about_transaction"])
        row = await cursor.fetchone()
        assert row is not None
        transaction_id, tracked = row
        if not tracked:
            await roll_back(self._session)
            raise Refused(
                f"{self._subject.doing}: {unit.words} would drop the tracking schema 'reconciler'",
                hint="look for DROP SCHEMA, DROP TABLE or DROP OWNED in the script; it was taken back",
            )
        if transaction_id is not None:
            await self.begin(unit, transaction_id=transaction_id)
        if unit.how is How.WRAPPED:
            await writer.execute(_QUERIES["commit_unit"])
        else:
            await self._send(unit.last)

    async def _alone(self, unit: Unit) -> None:
        writer = self._session.writer
        target = self._program.statements[unit.first].facts.target
        before = await recognise.there(writer, target) if target is not None else ()
        await self.begin(unit, there_before=before)
        waits = target is not None and target.sort in _CONCURRENTLY and not self._sets("lock_timeout")
        was = await self._wait_for_locks(CONCURRENT_LOCK_WAIT) if waits else None
        await self._send(unit.first)
        if was is not None:
            await self._wait_for_locks(was)
        name = await recognise.unusable(writer, target) if target is not None else None
        if name is not None:
            raise StepFailed(
                f"{self._subject.doing}: index '{name}' was there before and cannot be used",
                hint=f"DROP INDEX CONCURRENTLY {name}, then retry",
                file=self._program.place(unit.first).file,
                line=self._program.place(unit.first).line,
            )

    async def _wait_for_locks(self, how_long: str) -> str:
        cursor = await self._session.writer.execute(_QUERIES["wait_for_locks"], {"lock_timeout": how_long})
        row = await cursor.fetchone()
        assert row is not None
        return str(row[0])

    def _sets(self, name: str) -> bool:
        return any(statement.facts.sets == name for statement in self._program.statements)

    async def _take_back(self, unit: Unit) -> None:
        """After a failure: nothing of the unit stays, as far as that can be had, and it is noted so.

        Where the connection is gone the note stays as it is, and the next attempt looks.
        """
        writer = self._session.writer
        if writer.closed:
            return
        with suppress(psycopg.Error, ReconcilerError):
            if writer.info.transaction_status is not TransactionStatus.IDLE:
                await roll_back(self._session)
            target = self._program.statements[unit.first].facts.target
            if self._noted.running is not None and target is not None:
                await self._wait_for_locks(CONCURRENT_LOCK_WAIT)
                await recognise.clear(writer, target, self._noted.there_before)
            if self._noted.running is not None:
                await self._note(self._between(unit, self._noted.done))

    async def begin(
        self, unit: Unit, *, transaction_id: str | None = None, there_before: tuple[str, ...] = ()
    ) -> None:
        """Note that a unit is under way from here on."""
        await self._note(
            replace(
                self._noted,
                running=unit.hash,
                transaction_id=transaction_id,
                there_before=there_before,
                words=unit.words,
            )
        )

    def _between(self, unit: Unit, done: tuple[str, ...]) -> Unfinished:
        """What is noted while no unit is under way."""
        return replace(
            self._noted, done=done, running=None, transaction_id=None, there_before=(), words=unit.words
        )

    async def _note(self, noted: Unfinished) -> None:
        """Through the holder, whose session no script has touched and which has the lock of the fence."""
        session = self._session
        async with session.holder_lock:
            await record.unfinished_noted(session.holder, session.fence, noted, self._actor)
        self._noted = noted

    async def _send(self, index: int) -> None:
        """Send one statement as it stands and wait for it; nobody reads the rows it may give."""
        piece = Piece(self._program.statements[index].text, self._program, index)
        exchange = Exchange([Chapter(self._subject.whose, (piece,))])
        try:
            await exchange.run(self._session.writer)
        except psycopg.Error as error:
            raise ScriptFault(self._subject.whose, self._program, index, error) from error
        found = exchange.fault()
        if found is not None:
            raise found[1]

    async def _explain(self, error: psycopg.Error | ScriptFault) -> ReconcilerError:
        told = await self._subject.explain(error)
        if isinstance(told, LockNotAcquired | StepFailed) and self._noted.done:
            done = f"{len(self._noted.done)} of {len(self._units)} parts of the script are done and stay"
            told.hint = f"{told.hint}; {done}: the next attempt goes on behind them" if told.hint else done
        return told

    async def _forget_settings(self) -> None:
        with suppress(psycopg.Error):
            if self._session.writer_is_idle:
                await self._session.writer.execute(_QUERIES["reset_settings"])
                await self._session.writer.execute(_QUERIES["reset_role"])
