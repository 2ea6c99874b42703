"""Connections to PostgreSQL: opening, borrowing, and saying what went wrong without quoting a secret."""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import conninfo
from psycopg.pq import TransactionStatus

from reconciler.errors import (
    DatabaseUnavailable,
    LeaseLost,
    LockNotAcquired,
    NotFound,
    PermanentError,
    ReconcilerError,
)
from reconciler.postgres.redact import redact

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

_TRANSIENT_CLASSES = frozenset({"08", "40", "53", "57", "58"})
_TRANSIENT_CODES = frozenset({"55P03", "55006", "25006", "RC001"})
_PERMANENT_CODES = frozenset({"57014"})
_STARTUP_SETTINGS = {
    "idle_in_transaction_session_timeout": "8000",
    "client_connection_check_interval": "2000",
}
"""Milliseconds. A session idle in a transaction ends before a lease does; a query ends with its client."""
_CLOSE_TIMEOUT_S = 5.0


class Dsn:
    """A connection string that never shows itself; `reveal` gives the text to the driver."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself; only for handing to the driver."""
        return self._text

    @property
    def server(self) -> str:
        """`host:port` for people; no user, no password."""
        try:
            parts = conninfo.conninfo_to_dict(self._text)
        except psycopg.Error:
            return "unknown server"
        host = str(parts.get("host") or parts.get("hostaddr") or "localhost")
        return f"{host}:{parts.get('port') or 5432}"

    def __repr__(self) -> str:
        return "<dsn>"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dsn) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


async def connect(
    dsn: Dsn,
    *,
    database: str | None = None,
    role: str,
    autocommit: bool = True,
    connect_timeout_s: float = 10.0,
) -> Connection:
    """Open a connection as `reconciler/<role>`; `search_path` is left as the role has it.

    Raises DatabaseUnavailable or a permanent error; neither holds any part of the connection string but host
    and port.
    """
    doing = f"connecting to {_target(dsn, database)}"
    try:
        given = conninfo.conninfo_to_dict(dsn.reveal())
    except psycopg.Error:
        raise PermanentError(
            "the connection string cannot be parsed",
            hint="write it as postgresql://user:password@host:port/database or as keyword=value pairs",
        ) from None
    options = " ".join(f"-c {name}={value}" for name, value in _STARTUP_SETTINGS.items())
    settings: dict[str, Any] = {
        "application_name": f"reconciler/{role}",
        "options": f"{given.get('options') or ''} {options}".strip(),
        "connect_timeout": max(2, int(connect_timeout_s)),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
        "tcp_user_timeout": 30_000,
    }
    if database is not None:
        settings["dbname"] = database
    try:
        return await asyncio.wait_for(
            psycopg.AsyncConnection.connect(
                conninfo.make_conninfo(dsn.reveal(), **settings), autocommit=autocommit
            ),
            timeout=connect_timeout_s + 2,
        )
    except TimeoutError:
        raise DatabaseUnavailable(f"{doing}: no answer within {connect_timeout_s:g} s") from None
    except psycopg.Error as error:
        raise _connect_failure(error, doing) from None


def _target(dsn: Dsn, database: str | None) -> str:
    return f"database '{database}' on {dsn.server}" if database is not None else dsn.server


def _connect_failure(error: psycopg.Error, doing: str) -> ReconcilerError:
    """Say why connecting failed in our own words: libpq's may quote the connection string."""
    text = str(error).lower()
    if isinstance(error, psycopg.ProgrammingError):
        return PermanentError(f"{doing}: the connection string is not valid")
    for words, why, permanent in (
        ("does not exist", "the database or role does not exist", True),
        ("password authentication failed", "password authentication failed", True),
        ("no password supplied", "the server asks for a password and none was given", True),
        ("no pg_hba.conf entry", "the server's pg_hba.conf does not let us in", True),
        ("ssl", "the TLS handshake failed", True),
        ("certificate", "the TLS handshake failed", True),
        ("connection refused", "connection refused", False),
        ("no such file or directory", "no server listens on that socket", False),
        ("could not translate host name", "the host name cannot be resolved", False),
        ("name or service not known", "the host name cannot be resolved", False),
        ("failed to resolve", "the host name cannot be resolved", False),
        ("too many clients", "the server has no connection left", False),
        ("remaining connection slots", "the server has no connection left", False),
        ("starting up", "the server is starting up", False),
        ("shutting down", "the server is shutting down", False),
        ("timeout", "no answer in time", False),
        ("closed the connection", "the server closed the connection", False),
    ):
        if words in text:
            kind = NotFound if "does not exist" in words else PermanentError
            return kind(f"{doing}: {why}") if permanent else DatabaseUnavailable(f"{doing}: {why}")
    return DatabaseUnavailable(f"{doing}: the connection could not be made")


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help."""
    if isinstance(error, ReconcilerError):
        return not isinstance(error, PermanentError)
    if not isinstance(error, psycopg.Error):
        return isinstance(error, TimeoutError | OSError)
    code = error.sqlstate
    if code is None:
        return isinstance(error, psycopg.OperationalError)
    if code in _PERMANENT_CODES:
        return False
    return code in _TRANSIENT_CODES or code[:2] in _TRANSIENT_CLASSES


def translate(error: psycopg.Error, doing: str) -> ReconcilerError:
    """Our error for the driver's: the server's own words are kept, what looks like a secret is masked."""
    code = error.sqlstate
    words = redact(error.diag.message_primary or "").strip()
    if code is None and isinstance(error, psycopg.OperationalError):
        return DatabaseUnavailable(f"{doing}: the connection to the server was lost")
    if not words:
        words = redact(str(error)).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    detail = redact(error.diag.message_detail or "")
    message = f"{doing}: {words}" + (f" ({detail})" if detail else "") + (f" [{code}]" if code else "")
    hint = redact(error.diag.message_hint) if error.diag.message_hint else None
    if code == "RC001":
        return LeaseLost(message, hint=hint)
    if code in {"55P03", "40P01"}:
        return LockNotAcquired(message, hint=hint)
    if code == "3D000":
        return NotFound(message, hint=hint)
    if is_transient(error):
        return DatabaseUnavailable(message, hint=hint)
    return PermanentError(message, hint=hint)


@dataclass(slots=True)
class _Idle:
    connection: Connection
    since: float


@dataclass(slots=True)
class _Shelf:
    idle: deque[_Idle] = field(default_factory=deque)
    slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))
    users: int = 0


class Connections:
    """A bounded cache of idle connections, by connection string and database.

    Belongs to one event loop. `per_database` and `total` bound connections in use; one that is broken, or was
    left in a transaction, is not given out again.
    """

    def __init__(
        self, *, per_database: int = 4, total: int = 40, idle_s: float = 60.0, wait_s: float = 30.0
    ) -> None:
        self._per_database = per_database
        self._total = asyncio.Semaphore(total)
        self._idle_s = idle_s
        self._wait_s = wait_s
        self._shelves: dict[tuple[Dsn, str | None], _Shelf] = {}
        self._closed = False

    @asynccontextmanager
    async def borrow(
        self, dsn: Dsn, *, database: str | None = None, role: str = "pass"
    ) -> AsyncIterator[Connection]:
        """Lend a connection in autocommit mode; it is reset when it comes back."""
        key = (dsn, database)
        shelf = self._shelves.get(key)
        if shelf is None:
            shelf = self._shelves[key] = _Shelf(slots=asyncio.Semaphore(self._per_database))
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(self._wait_s):
                    await stack.enter_async_context(shelf.slots)
                    await stack.enter_async_context(self._total)
            except TimeoutError:
                raise DatabaseUnavailable(
                    f"waiting for a free connection to {_target(dsn, database)}: "
                    f"none within {self._wait_s:g} s"
                ) from None
            connection = await self._take(shelf, dsn, database, role)
            try:
                yield connection
            finally:
                await self._put_back(shelf, connection)
                await self._sweep()

    async def close(self) -> None:
        """Close everything idle; what is lent is closed when it comes back."""
        self._closed = True
        shelves = list(self._shelves.values())
        self._shelves.clear()
        for shelf in shelves:
            while shelf.idle:
                await _close(shelf.idle.pop().connection)

    async def _take(self, shelf: _Shelf, dsn: Dsn, database: str | None, role: str) -> Connection:
        while shelf.idle:
            entry = shelf.idle.pop()
            if not entry.connection.closed and not _ended_by_server(entry.connection):
                return entry.connection
            await _close(entry.connection)
        return await connect(dsn, database=database, role=role)

    async def _put_back(self, shelf: _Shelf, connection: Connection) -> None:
        usable = (
            not self._closed
            and not connection.closed
            and connection.info.transaction_status == TransactionStatus.IDLE
        )
        if usable:
            shelf.idle.append(_Idle(connection, time.monotonic()))
        else:
            await _close(connection)

    async def _sweep(self) -> None:
        """Close what has been idle for long, over all databases."""
        oldest = time.monotonic() - self._idle_s
        for key, shelf in list(self._shelves.items()):
            while shelf.idle and shelf.idle[0].since < oldest:
                await _close(shelf.idle.popleft().connection)
            if not shelf.idle and shelf.slots._value == self._per_database and key in self._shelves:
                self._shelves.pop(key, None)


def _ended_by_server(connection: Connection) -> bool:
    """Whether the server said something to an idle connection: then it said goodbye."""
    try:
        connection.pgconn.consume_input()
    except psycopg.Error:
        return True
    return bool(connection.pgconn.status != psycopg.pq.ConnStatus.OK)


async def _close(connection: Connection) -> None:
    with suppress(psycopg.Error, OSError, TimeoutError):
        await asyncio.wait_for(connection.close(), timeout=_CLOSE_TIMEOUT_S)
