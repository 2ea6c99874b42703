"""Run verify scripts of deployed changes, each in a transaction of its own that is rolled back.

Many scripts go in one message, so that verifying all of a large module costs few exchanges; what comes back
says how far the server got. Nothing here decides which scripts there are.
"""

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import psycopg
from psycopg import generators
from psycopg.abc import PQGen
from psycopg.pq import DiagnosticField, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Wait

from reconciler.changes.script import Script
from reconciler.diff.verifiable import ToVerify
from reconciler.errors import InvalidInput
from reconciler.execution.messages import Endings, characters
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection, translate
from reconciler.postgres.queries import Queries
from reconciler.state.program import Program, Purpose, compile_script
from reconciler.tracking.fence import others_held_off

_QUERIES = Queries.load("reconciler.execution")
_CHARACTERS_AT_ONCE = 256 * 1024
_SCRIPTS_AT_ONCE = 250
_ROWS_AT_ONCE = 1000
"""Rows of a script that are in memory at once; nobody reads them, and they may be many."""
_TAKES_NO_DATA = b"a verify script takes no data from a client"
_WAITS = frozenset({"55P03", "40P01", "40001", "53300", "57P03"})
"""SQLSTATEs that say something of others at that moment, and nothing of the change."""


@frozen
class VerifyLimits:
    """Limits in seconds: of one statement, of waiting for one lock, and of all scripts together."""

    statement_timeout_s: float = 60.0
    lock_timeout_s: float = 2.0
    total_s: float = 90.0


class Verification(NamedTuple):
    """A change and its verify script, ready to run."""

    change: str
    program: Program


@frozen
class Failed:
    """A verify script that failed, in the words of the server and at its place in the script."""

    change: str
    message: str
    sqlstate: str | None = None
    file: str | None = None
    line: int | None = None


@frozen
class Unverified:
    """A change of which nobody knows, and why: it waited for others, or for longer than there was time."""

    change: str
    reason: str


@dataclass(slots=True, kw_only=True)
class Verified:
    """What came of verifying: how many are right, and all that are not."""

    passed: int = 0
    failed: list[Failed] = field(default_factory=list)
    unverified: list[Unverified] = field(default_factory=list)


@frozen
class Prepared:
    """What can be run, what cannot and why, and which changes have no script."""

    wanted: tuple[Verification, ...]
    broken: tuple[Failed, ...]
    without_script: tuple[str, ...]


def prepare(rows: Iterable[ToVerify], stored: Mapping[str, str]) -> Prepared:
    """Make programs of verify scripts; `stored` are those that were kept with changes, by change id.

    A script without any statement verifies nothing, and so counts as none.
    """
    wanted: list[Verification] = []
    broken: list[Failed] = []
    without: list[str] = []
    for row in rows:
        script = row.script
        if row.stored and row.change_id in stored:
            script = Script(f"the stored verify script of {row.change}", stored[row.change_id])
        if script is None:
            without.append(row.change)
            continue
        try:
            program = compile_script(script, purpose=Purpose.VERIFY)
        except InvalidInput as error:
            first = error.problems[0]
            broken.append(Failed(change=row.change, message=first.message, file=first.file, line=first.line))
            continue
        if program.statements:
            wanted.append(Verification(row.change, program))
        else:
            without.append(row.change)
    return Prepared(wanted=tuple(wanted), broken=tuple(broken), without_script=tuple(without))


async def verify(
    connection: Connection, wanted: Sequence[Verification], limits: VerifyLimits, *, fenced: bool = False
) -> Verified:
    """Run scripts in the order given; a failure ends none of the others.

    Those that ask to write keep other writers off the database while they run, as they take locks; `fenced`:
    the caller does so already. Raises DatabaseUnavailable and the like where the connection is lost.
    """
    found = Verified()
    ends = time.monotonic() + limits.total_s
    try:
        await connection.execute(_QUERIES["reset_settings"])
        await connection.execute(
            _QUERIES["limit_verify"],
            {
                "lock_timeout_ms": str(int(limits.lock_timeout_s * 1000)),
                "statement_timeout_ms": str(int(limits.statement_timeout_s * 1000)),
            },
        )
        await _in_messages(connection, [one for one in wanted if not one.program.writes], found, ends)
        writing = [one for one in wanted if one.program.writes]
        if writing and fenced:
            await _in_messages(connection, writing, found, ends)
        elif writing:
            await _alone(connection, writing, found, ends)
    except psycopg.Error as error:
        raise translate(error, f"verifying changes in database '{connection.info.dbname}'") from error
    order = {one.change: number for number, one in enumerate(wanted)}
    found.failed.sort(key=lambda row: order[row.change])
    found.unverified.sort(key=lambda row: order[row.change])
    return found


async def _alone(
    connection: Connection, wanted: Sequence[Verification], found: Verified, ends: float
) -> None:
    async with others_held_off(connection, deadline_s=max(0.0, min(10.0, ends - time.monotonic()))) as alone:
        if alone:
            await _in_messages(connection, wanted, found, ends)
            return
    why = "its script asks to write, and a rollout writes to the database now"
    found.unverified += [Unverified(change=one.change, reason=why) for one in wanted]


async def _in_messages(
    connection: Connection, wanted: Sequence[Verification], found: Verified, ends: float
) -> None:
    position, at_once = 0, _SCRIPTS_AT_ONCE
    while position < len(wanted):
        if connection.info.transaction_status is not TransactionStatus.IDLE:
            # What a script that failed has left open.
            await connection.execute(_QUERIES["abandon_change"])
        if time.monotonic() >= ends:
            why = "there was no time left for it"
            found.unverified += [Unverified(change=one.change, reason=why) for one in wanted[position:]]
            return
        message = _Message(wanted, position, at_once)
        failures = len(found.failed) + len(found.unverified)
        answer = await connection.wait(_exchange(connection.pgconn, message.text))
        position = message.record(answer, found, connection)
        # What comes after a failure is sent again: where many fail, little is sent for nothing.
        passed = failures == len(found.failed) + len(found.unverified)
        at_once = min(_SCRIPTS_AT_ONCE, 4 * at_once) if passed else 1
    if connection.info.transaction_status is not TransactionStatus.IDLE:
        await connection.execute(_QUERIES["abandon_change"])


class _Answer(NamedTuple):
    """How many statements of a message were done, and what the next one failed with."""

    done: int
    error: PGresult | None


class _Message:
    """Scripts in one text, and where their statements are in it."""

    def __init__(self, wanted: Sequence[Verification], first: int, at_once: int) -> None:
        parts: list[str] = []
        self._statements: list[tuple[int, int, int]] = []
        self._wanted = wanted
        self._length = 0
        self._last = first
        for number in range(first, min(len(wanted), first + at_once)):
            for index, text in self._framed(wanted[number].program):
                self._statements.append((number, index, self._length))
                parts.append(text)
                self._length += len(text)
            self._last = number + 1
            if self._length > _CHARACTERS_AT_ONCE:
                break
        self.text = "".join(parts)

    @staticmethod
    def _framed(program: Program) -> Iterator[tuple[int, str]]:
        yield -1, "BEGIN;" if program.writes else "BEGIN READ ONLY;"
        for index, statement in enumerate(program.statements):
            yield index, f"{statement.text}\n;"
        yield -1, "ROLLBACK;"
        if any(statement.node == "PrepareStmt" for statement in program.statements):
            # Prepared statements outlive their transaction.
            yield -1, "DEALLOCATE ALL;"

    def record(self, answer: _Answer, found: Verified, connection: Connection) -> int:
        """Note what came of the scripts; gives the number of the next one to run."""
        first = self._statements[0][0]
        if answer.error is None:
            found.passed += self._last - first
            return self._last
        number, index, inside = self._place(answer, connection)
        found.passed += number - first
        row = _told(self._wanted[number], index, answer.error, inside)
        if row.sqlstate in _WAITS:
            found.unverified.append(Unverified(change=row.change, reason=row.message))
        else:
            found.failed.append(row)
        return number + 1

    def _place(self, answer: _Answer, connection: Connection) -> tuple[int, int, int]:
        """The script and statement that an error is of, and the position in that, 1 where there is none."""
        assert answer.error is not None
        number, index, offset = self._statements[min(answer.done, len(self._statements) - 1)]
        told = answer.error.error_field(DiagnosticField.STATEMENT_POSITION)
        if told is None:
            return number, index, 1
        position = characters(self.text, int(told) - 1, connection)
        if answer.done == 0:
            # The server could not even read the message, and so ran nothing of it.
            number, index, offset = next(
                (row for row in reversed(self._statements) if row[2] <= position), self._statements[0]
            )
        return number, index, max(1, position - offset + 1)


def _told(one: Verification, index: int, error: PGresult, inside: int) -> Failed:
    def of(which: DiagnosticField) -> str | None:
        value = error.error_field(which)
        return value.decode("utf-8", "replace") if value is not None else None

    message = of(DiagnosticField.MESSAGE_PRIMARY) or "the server gave no reason"
    detail = of(DiagnosticField.MESSAGE_DETAIL)
    place = one.program.place(index, inside) if index >= 0 else None
    return Failed(
        change=one.change,
        message=f"{message} ({detail})" if detail else message,
        sqlstate=of(DiagnosticField.SQLSTATE),
        file=place.file if place is not None else one.program.script.path,
        line=place.line if place is not None else None,
    )


def _exchange(pgconn: PGconn, text: str) -> PQGen[_Answer]:
    """Send a message of several statements and read all that comes back, few rows at a time."""
    pgconn.send_query(text.encode())
    pgconn.set_chunked_rows_mode(_ROWS_AT_ONCE)
    yield from generators.send(pgconn)
    done, error, endings = 0, None, Endings()
    while (result := (yield from generators.fetch(pgconn))) is not None:
        if endings.has(result):
            done += 1
        elif result.status == ExecStatus.FATAL_ERROR:
            error = error or result
        elif result.status == ExecStatus.COPY_IN:
            while pgconn.put_copy_end(_TAKES_NO_DATA) == 0:
                yield Wait.W
            yield from generators.send(pgconn)
        elif result.status == ExecStatus.COPY_OUT:
            while (received := pgconn.get_copy_data(1)[0]) >= 0:
                if received == 0:
                    yield Wait.R
                    pgconn.consume_input()
    if error is None and pgconn.status != psycopg.pq.ConnStatus.OK:
        raise psycopg.OperationalError("the connection was lost")
    return _Answer(done, error)
