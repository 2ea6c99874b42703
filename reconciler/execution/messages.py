"""Send what is done for several changes as one message, and say of each statement what came of it.

A message is parsed and answered in one go, so that a change costs the server what it costs in psql and no
exchange of its own; what comes back says how far the server got. Nothing here decides what is sent.
"""

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import psycopg
from psycopg import errors, generators
from psycopg.abc import PQGen
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Wait

from reconciler.changes.expansion import CopyData
from reconciler.execution.scripts import ROWS_AT_ONCE, ScriptFault
from reconciler.postgres.connection import Connection
from reconciler.state.program import Program

CHARACTERS_MAX = 256 * 1024
"""Of the scripts in one message; more than one script only where all of them are shorter."""
_DONE = frozenset({ExecStatus.COMMAND_OK, ExecStatus.TUPLES_OK})
_OURS = "utf-8"
_NO_ENCODING = "SQL_ASCII"
_AS_WE_SPEAK = b"SET client_encoding TO 'UTF8'"
_NO_DATA = b"there are no data for it in the script"


class Piece(NamedTuple):
    """One statement: ours, or one of a script; `apart` begins a message of its own."""

    text: str
    program: Program | None = None
    number: int = 0
    apart: bool = False


class Chapter(NamedTuple):
    """What is sent for one change, in order; `whose` is told with what fails in it.

    `after` is sent behind that, and what fails there is no failure of the change.
    """

    whose: Any
    pieces: Sequence[Piece]
    after: Sequence[Piece] = ()


def of_script(program: Program, *, apart: bool) -> Iterator[Piece]:
    """The statements of a script as they stand, in a message with what is beside them, or each alone."""
    for index, statement in enumerate(program.statements):
        yield Piece(statement.text, program, index, apart)


def weight(program: Program) -> int:
    """How much of a message a script takes, with the data in it."""
    data = sum(copied.end - copied.start for copied in program.copies.values())
    return data + sum(len(statement.text) for statement in program.statements)


class Endings:
    """Tells the last result of each statement: the queries of a rule give rows before it, each their own."""

    def __init__(self) -> None:
        self._named = False
        """Whether the server has said what was done; with rows, that stands on the last of them."""

    def has(self, result: PGresult) -> bool:
        """Whether a result, asked of each as it comes, ends its statement."""
        self._named = self._named or bool(result.command_status)
        if result.status not in _DONE or not self._named:
            return False
        self._named = False
        return True


def characters(text: str, position: int, connection: Connection, encoding: str = _OURS) -> int:
    """Where in a text a position is, from 0, that the server told.

    A server that does not know the encoding of its database counts the bytes that were sent.
    """
    if connection.info.parameter_status("server_encoding") != _NO_ENCODING or text.isascii():
        return position
    return len(text.encode(encoding)[:position].decode(encoding, errors="ignore"))


class Exchange:
    """Chapters on their way to the server and back: made, run once, then asked what became of them.

    What it says is true also where it was broken off or the connection was lost, of what was answered.
    """

    def __init__(self, chapters: Sequence[Chapter], last: Piece | None = None) -> None:
        self._chapters = chapters
        self._sent: list[tuple[int, Piece]] = []
        self._ends: list[int] = []
        for number, chapter in enumerate(chapters):
            self._sent += [(number, piece) for piece in chapter.pieces]
            self._ends.append(len(self._sent))
            self._sent += [(number, piece) for piece in chapter.after]
        if last is not None:
            self._sent.append((len(chapters) - 1, last))
        self._first = 0
        """The first statement of the message at hand."""
        self._done = 0
        self._error: PGresult | None = None
        self._encoding = _OURS
        """How the server understands us: as it said last."""
        self._position: int | None = None
        """Where in its message the error is."""
        self.value: bytes | None = None
        """What the last row that came back begins with."""

    async def run(self, connection: Connection) -> None:
        """Send message after message until one fails.

        Raises OperationalError where the server is lost, and DataError for what the encoding that a script
        has set has no characters for.
        """
        async with connection.lock:
            for first, last in self._messages():
                self._first = self._done = first
                # A statement may end in a comment, which the end of a line ends.
                text = "\n;\n".join(piece.text for _, piece in self._sent[first:last])
                if _encoding(connection) != _OURS and self._sent[first][1].program is None:
                    # The server reads a message before it runs what would set this back.
                    await connection.wait(_run(connection.pgconn, _AS_WE_SPEAK))
                self._encoding = _encoding(connection)
                await connection.wait(self._converse(connection.pgconn, _encoded(text, self._encoding)))
                if self._error is not None:
                    self._position = _told(self._error, text, connection, self._encoding)
                    return
                if connection.pgconn.status != ConnStatus.OK:
                    raise psycopg.OperationalError("the connection was lost")
                if self._done != last:
                    raise psycopg.InternalError(
                        f"{last - first} statements were sent, and {self._done - first} answers came"
                    )

    @property
    def failed(self) -> bool:
        """Whether the server refused anything."""
        return self._error is not None

    @property
    def finished(self) -> int:
        """How many chapters, from the first, are done but for what is sent behind them."""
        return bisect_right(self._ends, self._done)

    @property
    def unread(self) -> bool:
        """Whether the server understood none of a message that holds more than one chapter."""
        return (
            self._error is not None
            and self._done == self._first
            and self._sent[-1][0] > self._sent[self._first][0]
        )

    def fault(self) -> tuple[Any, ScriptFault | psycopg.Error] | None:
        """Whose chapter failed, and what with; the statement where it is a script's."""
        if self._error is None:
            return None
        error = errors.error_from_result(self._error, encoding=self._encoding)
        at, position = self._place()
        number, piece = self._sent[at]
        if at >= self._ends[number]:
            return None
        whose = self._chapters[number].whose
        if piece.program is None:
            return whose, error
        return whose, ScriptFault(whose, piece.program, piece.number, error, position)

    def _messages(self) -> Iterator[tuple[int, int]]:
        """Where each message begins, and where it ends."""
        first = 0
        for number, (_, piece) in enumerate(self._sent):
            if piece.apart and number > first:
                yield first, number
                first = number
        if first < len(self._sent):
            yield first, len(self._sent)

    def _place(self) -> tuple[int, int]:
        """The statement that an error is of, and the position in it, 1 where there is none."""
        at = min(self._done, len(self._sent) - 1)
        position = self._position
        if position is None:
            return at, 1
        offsets = dict(self._offsets())
        if at == self._first:
            # The server could not even read the message, and so ran nothing of it.
            at = max((number for number, offset in offsets.items() if offset <= position), default=at)
        return at, max(1, position - offsets[at] + 1)

    def _offsets(self) -> Iterable[tuple[int, int]]:
        """Where in its message each statement from the first one of the message on begins."""
        offset = 0
        for number in range(self._first, len(self._sent)):
            piece = self._sent[number][1]
            if piece.apart and number > self._first:
                return
            yield number, offset
            offset += len(piece.text) + len("\n;\n")

    def _converse(self, pgconn: PGconn, text: bytes) -> PQGen[None]:
        """Send a message and read all that comes back, few rows at a time."""
        endings = Endings()
        pgconn.send_query(text)
        pgconn.set_chunked_rows_mode(ROWS_AT_ONCE)
        yield from generators.send(pgconn)
        while (result := (yield from generators.fetch(pgconn))) is not None:
            if endings.has(result):
                self._done += 1
            elif result.status == ExecStatus.TUPLES_CHUNK:
                self.value = result.get_value(0, 0) if result.nfields else None
            elif result.status == ExecStatus.FATAL_ERROR:
                self._error = self._error or result
            elif result.status == ExecStatus.COPY_IN:
                yield from self._give(pgconn)
            elif result.status == ExecStatus.COPY_OUT:
                yield from _ignored(pgconn)

    def _give(self, pgconn: PGconn) -> PQGen[None]:
        """Give a `COPY … FROM stdin` its data."""
        piece = self._sent[self._done][1]
        data = piece.program.data_of(piece.number) if piece.program is not None else None
        for chunk in data.chunks() if isinstance(data, CopyData) else ():
            yield from generators.copy_to(pgconn, chunk)
        while pgconn.put_copy_end(None if data is not None else _NO_DATA) == 0:
            yield Wait.W
        yield from generators.send(pgconn)


def _told(error: PGresult, text: str, connection: Connection, encoding: str) -> int | None:
    """Where in a message an error is, from 0, if that is known."""
    position = error.error_field(DiagnosticField.STATEMENT_POSITION)
    return None if position is None else characters(text, int(position) - 1, connection, encoding)


def _encoding(connection: Connection) -> str:
    """How the server understands us now; where it takes every byte as it is, as it did before."""
    encoding = connection.info.encoding
    return _OURS if encoding == "ascii" else encoding


def _encoded(text: str, encoding: str) -> bytes:
    try:
        return text.encode(encoding)
    except UnicodeEncodeError as error:
        character = f"U+{ord(text[error.start]):04X}"
        raise psycopg.DataError(
            f"the script sets a client_encoding that has no character {character}, which stands behind it"
        ) from None


def _run(pgconn: PGconn, statement: bytes) -> PQGen[None]:
    """Run a statement of ours; where it fails, so does all of the transaction that follows."""
    pgconn.send_query(statement)
    yield from generators.execute(pgconn)


def _ignored(pgconn: PGconn) -> PQGen[None]:
    """Read what a statement gives to a client that wants none of it."""
    while (received := pgconn.get_copy_data(1)[0]) >= 0:
        if received == 0:
            yield Wait.R
            pgconn.consume_input()
