"""Connections to PostgreSQL: opening and borrowing, bounded, without ever quoting a connection string."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg import conninfo
from psycopg.pq import TransactionStatus

from reconciler.errors import DatabaseUnavailable, PermanentError
from reconciler.postgres.dsn import Dsn
from reconciler.postgres.failure import DatabaseMissing, connect_failure, is_transient, translate
from reconciler.postgres.queries import Queries

__all__ = ["Connection", "Connections", "DatabaseMissing", "Dsn", "connect", "is_transient", "translate"]

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

_QUERIES = Queries.load("reconciler.postgres")
_IDLE_IN_TRANSACTION_MS = "8000"
"""A session idle in a transaction ends before a lease does."""
_STARTUP_SETTINGS = {
    "idle_in_transaction_session_timeout": _IDLE_IN_TRANSACTION_MS,
    "client_connection_check_interval": "2000",
}
"""Sent with the start of the session, so that RESET ALL goes back to them; milliseconds."""
_NETWORK_SETTINGS: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""A peer that is gone without a word is noticed within half a minute; the connection string may say else."""
_SETTINGS_REFUSED = ("unsupported startup parameter", "configuration parameter", 'parameter "')
_NAME_BYTES_MAX = 63
_RESET_TIMEOUT_S = 5.0


async def connect(
    dsn: Dsn,
    *,
    database: str | None = None,
    role: str,
    autocommit: bool = True,
    connect_timeout_s: float = 10.0,
) -> Connection:
    """Open a connection as `reconciler/<role>`; `search_path` is left as the role has it.

    Raises DatabaseMissing, DatabaseUnavailable or PermanentError; none holds any part of the connection
    string but host, port and, where `database` names it, the database.
    """
    doing = f"connecting to {_target(dsn, database)}"
    settings = _settings(dsn, database, role, connect_timeout_s)
    options = " ".join(
        [
            str(settings.get("options") or ""),
            *(f"-c {name}={value}" for name, value in _STARTUP_SETTINGS.items()),
        ]
    )
    try:
        async with asyncio.timeout(connect_timeout_s + 1):
            try:
                return await _open({**settings, "options": options.strip()}, autocommit=autocommit)
            except psycopg.OperationalError as error:
                if not any(words in str(error) for words in _SETTINGS_REFUSED):
                    raise
            connection = await _open(settings, autocommit=True)
            await connection.execute(
                _QUERIES["limit_session"], {"idle_in_transaction_ms": _IDLE_IN_TRANSACTION_MS}
            )
            await connection.set_autocommit(autocommit)
            return connection
    except TimeoutError:
        raise DatabaseUnavailable(f"{doing}: no answer within {connect_timeout_s:g} s") from None
    except (psycopg.Error, OSError, UnicodeError) as error:
        # `from None`: a traceback must not show the driver's message either.
        raise connect_failure(error, doing) from None


def _settings(dsn: Dsn, database: str | None, role: str, connect_timeout_s: float) -> dict[str, Any]:
    """All parameters of one connection: ours where the connection string says nothing else."""
    if database is not None:
        _check_name(database)
    given = dsn.parameters()
    settings = {**_NETWORK_SETTINGS, "connect_timeout": max(2, round(connect_timeout_s)), **given}
    settings["application_name"] = f"reconciler/{role}"
    settings["client_encoding"] = "utf8"
    if database is not None:
        settings["dbname"] = database
    return settings


def _check_name(database: str) -> None:
    """Refuse a name that the server would cut short, and so take for another database."""
    size = len(database.encode("utf-8", "surrogatepass"))
    if not database or "\0" in database or size > _NAME_BYTES_MAX:
        raise PermanentError(
            f"database name {database[:80]!r} is not one PostgreSQL can have:"
            f" it needs 1 to {_NAME_BYTES_MAX} bytes, none of them zero, and has {size}"
        )


async def _open(settings: dict[str, Any], *, autocommit: bool) -> Connection:
    text = conninfo.make_conninfo("", **settings)
    return await psycopg.AsyncConnection.connect(text, autocommit=autocommit)


def _target(dsn: Dsn, database: str | None) -> str:
    return f"database '{database}' on {dsn.server}" if database is not None else dsn.server


@dataclass(slots=True, eq=False)
class _Idle:
    connection: Connection
    since: float


@dataclass(slots=True, eq=False)
class _Shelf:
    """What the cache knows of one database; `lent` also counts those being opened."""

    idle: list[_Idle] = field(default_factory=list)
    lent: int = 0


class Connections:
    """A bounded cache of connections, by connection string and database.

    Belongs to one event loop. `per_database` and `total` bound open connections, lent and idle together; a
    borrower waits at most `wait_s`. A connection that broke, or came back in a transaction or from a
    cancelled task, is closed.
    """

    def __init__(
        self, *, per_database: int = 4, total: int = 40, idle_s: float = 60.0, wait_s: float = 30.0
    ) -> None:
        self._per_database = per_database
        self._total = total
        self._idle_s = idle_s
        self._wait_s = wait_s
        self._shelves: dict[tuple[Dsn, str | None], _Shelf] = {}
        self._changed = asyncio.Event()
        self._sweeper: asyncio.Task[None] | None = None
        self._closed = False

    @asynccontextmanager
    async def borrow(
        self, dsn: Dsn, *, database: str | None = None, role: str = "pass"
    ) -> AsyncIterator[Connection]:
        """Lend a connection in autocommit mode with an empty `search_path`; it is reset when it is back."""
        shelf = await self._reserve(dsn, database)
        connection: Connection | None = None
        usable = False
        try:
            connection = await self._take(shelf, dsn, database, role)
            try:
                yield connection
                usable = True
            except Exception:
                usable = True
                raise
        finally:
            await self._put_back(shelf, connection, usable=usable)

    async def close(self) -> None:
        """Close everything idle; what is lent is closed when it comes back."""
        self._closed = True
        self._tell_waiters()
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
            self._sweeper = None
        entries = [entry for shelf in self._shelves.values() for entry in shelf.idle]
        for shelf in self._shelves.values():
            shelf.idle.clear()
        for entry in entries:
            await _close(entry.connection)

    async def _reserve(self, dsn: Dsn, database: str | None) -> _Shelf:
        """Wait for the right to have one connection more, making room among the idle ones of others."""
        key = (dsn, database)
        try:
            async with asyncio.timeout(self._wait_s):
                while not self._has_room(key):
                    await self._changed.wait()
        except TimeoutError:
            raise DatabaseUnavailable(
                f"waiting for a free connection to {_target(dsn, database)}: none within {self._wait_s:g} s",
                hint=f"at most {self._per_database} to a database and {self._total} in all are open at once",
            ) from None
        shelf = self._shelves.setdefault(key, _Shelf())
        shelf.lent += 1
        return shelf

    def _has_room(self, key: tuple[Dsn, str | None]) -> bool:
        if self._closed:
            raise DatabaseUnavailable("the connections of this process are closed: it is stopping")
        shelf = self._shelves.get(key)
        lent = sum(other.lent for other in self._shelves.values())
        return lent < self._total and (shelf is None or shelf.lent < self._per_database)

    async def _make_room(self) -> None:
        """Close the longest idle ones while more than `total` would be open."""
        while sum(shelf.lent + len(shelf.idle) for shelf in self._shelves.values()) > self._total:
            oldest = min(
                (entry for shelf in self._shelves.values() for entry in shelf.idle),
                key=lambda entry: entry.since,
                default=None,
            )
            if oldest is None:
                return
            await self._drop(oldest)

    async def _drop(self, entry: _Idle) -> None:
        for shelf in self._shelves.values():
            if entry in shelf.idle:
                shelf.idle.remove(entry)
        await _close(entry.connection)

    async def _take(self, shelf: _Shelf, dsn: Dsn, database: str | None, role: str) -> Connection:
        """An idle connection that still answers, else a new one, for which others may have to make room."""
        while shelf.idle:
            connection = shelf.idle.pop().connection
            if await _prepared_or_closed(connection, role):
                return connection
        await self._make_room()
        connection = await connect(dsn, database=database, role=role)
        if not await _prepared_or_closed(connection, role):
            raise DatabaseUnavailable(
                f"connecting to {_target(dsn, database)}: the server closed the connection"
            )
        return connection

    async def _put_back(self, shelf: _Shelf, connection: Connection | None, *, usable: bool) -> None:
        kept = False
        try:
            if connection is not None and usable and not self._closed and await _reset(connection):
                # Everything may have been closed while it was reset.
                kept = not self._closed
        finally:
            if kept and connection is not None:
                shelf.idle.append(_Idle(connection, time.monotonic()))
                self._sweep_later()
            elif connection is not None:
                await _close(connection)
            shelf.lent -= 1
            self._forget_empty()
            self._tell_waiters()

    def _tell_waiters(self) -> None:
        """Wake whoever waits now; those who come later wait for the next change."""
        self._changed.set()
        self._changed = asyncio.Event()

    def _forget_empty(self) -> None:
        for key in [key for key, shelf in self._shelves.items() if not shelf.lent and not shelf.idle]:
            del self._shelves[key]

    def _sweep_later(self) -> None:
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.create_task(self._sweep(), name="idle connections")

    async def _sweep(self) -> None:
        """Close what has been idle for long; ends when nothing is idle."""
        while idle := [entry for shelf in self._shelves.values() for entry in shelf.idle]:
            due = min(entry.since for entry in idle) + self._idle_s - time.monotonic()
            if due > 0:
                await asyncio.sleep(due)
                continue
            for entry in idle:
                if entry.since + self._idle_s <= time.monotonic():
                    await self._drop(entry)
            self._forget_empty()


async def _prepared(connection: Connection, role: str) -> bool:
    """Whether a connection answers; named for its borrower then."""
    if connection.closed:
        return False
    try:
        async with asyncio.timeout(_RESET_TIMEOUT_S):
            await connection.execute(
                _QUERIES["prepare_borrowed"], {"application": f"reconciler/{role}"}, prepare=False
            )
    except (psycopg.Error, TimeoutError):
        return False
    return True


async def _prepared_or_closed(connection: Connection, role: str) -> bool:
    """The same; one that does not answer, or that nobody waits for any more, is closed."""
    prepared = False
    try:
        prepared = await _prepared(connection, role)
    finally:
        if not prepared:
            await _close(connection)
    return prepared


async def _reset(connection: Connection) -> bool:
    """Whether a connection that comes back is fit for another borrower; nothing of this one is left then."""
    if connection.closed or connection.info.transaction_status != TransactionStatus.IDLE:
        return False
    try:
        async with asyncio.timeout(_RESET_TIMEOUT_S):
            if not connection.autocommit:
                await connection.set_autocommit(True)
            connection.row_factory = psycopg.rows.tuple_row
            connection.prepare_threshold = 5
            await connection.execute(_QUERIES["forget_session"], prepare=False)
    except (psycopg.Error, TimeoutError):
        return False
    return not connection.closed


async def _close(connection: Connection) -> None:
    """Close a connection; the driver waits for nobody here, so that being cancelled does not come between."""
    with suppress(psycopg.Error, OSError):
        await connection.close()
