"""Connections to PostgreSQL: opening and borrowing, bounded, without ever quoting a connection string."""

import asyncio
import select
import time
from collections import Counter, OrderedDict
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

from reconciler.errors import DatabaseUnavailable, PermanentError, ReconcilerError
from reconciler.postgres.dsn import Dsn
from reconciler.postgres.failure import DatabaseMissing, connect_failure, is_transient, translate
from reconciler.postgres.places import Place, Places
from reconciler.postgres.pooler import PooledConnection, Sessions
from reconciler.postgres.queries import Queries

__all__ = [
    "Connection",
    "Connections",
    "DatabaseMissing",
    "Dsn",
    "PooledConnection",
    "connect",
    "is_transient",
    "translate",
]

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

_QUERIES = Queries.load("reconciler.postgres")
_IDLE_IN_TRANSACTION_MS = "8000"
"""A session idle in a transaction ends before a lease does."""
_STARTUP_SETTINGS = {
    "idle_in_transaction_session_timeout": _IDLE_IN_TRANSACTION_MS,
    "client_connection_check_interval": "2000",
    # A role or database may have it off, and then the server reads scripts otherwise than we did.
    "standard_conforming_strings": "on",
}
"""Sent with the start of the session, so that RESET ALL goes back to them; times in milliseconds."""
_NETWORK_SETTINGS: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
"""A peer that is gone without a word is noticed within half a minute; the connection string may say else."""
_SETTINGS_REFUSED = ("unsupported startup parameter", "configuration parameter", 'parameter "')
_SESSIONS = Sessions()
_NAME_BYTES_MAX = 63
_SERVERS_REMEMBERED = 1000
_TRUSTED_S = 15.0
"""How long an idle connection is taken to live without asking, as long as nothing came in."""
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

    Raises DatabaseMissing, DatabaseUnavailable or PermanentError, among these PooledConnection; none holds
    any part of the connection string but host, port and, where `database` names it, the database.
    """
    doing = f"connecting to {_target(dsn, database)}"
    settings = _settings(dsn, database, role, connect_timeout_s)
    try:
        async with asyncio.timeout(connect_timeout_s + 1):
            connection = await _open_session(dsn, settings, doing)
            await connection.set_autocommit(autocommit)
            return connection
    except TimeoutError:
        raise DatabaseUnavailable(f"{doing}: no answer within {connect_timeout_s:g} s") from None
    except (psycopg.Error, OSError, UnicodeError) as error:
        # `from None`: a traceback must not show the driver's message either.
        raise connect_failure(error, doing) from None


async def _open_session(dsn: Dsn, settings: dict[str, Any], doing: str) -> Connection:
    """Open a connection that has a session of its own, with our settings."""
    given = str(settings.get("options") or "")
    ours = " ".join(f"-c {name}={value}" for name, value in _STARTUP_SETTINGS.items())
    takes_settings = True
    try:
        connection = await _open({**settings, "options": f"{given} {ours}".strip()})
    except psycopg.OperationalError as error:
        if not any(words in str(error) for words in _SETTINGS_REFUSED):
            raise
        takes_settings = False
        connection = await _open(settings)
    try:
        # Before anything is set: a pooler may hand our settings to others.
        probe = {**settings, "application_name": "reconciler/probe"}
        await _SESSIONS.require(connection, (dsn, settings.get("dbname")), lambda: _open(probe), doing)
        if not takes_settings:
            limit = {"idle_in_transaction_ms": _IDLE_IN_TRANSACTION_MS}
            await connection.execute(_QUERIES["limit_session"], limit)
    except BaseException:
        await _close(connection)
        raise
    return connection


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


async def _open(settings: dict[str, Any]) -> Connection:
    return await psycopg.AsyncConnection.connect("", autocommit=True, **settings)


def _target(dsn: Dsn, database: str | None) -> str:
    return f"database '{database}' on {dsn.server}" if database is not None else dsn.server


@dataclass(slots=True, eq=False)
class _Held:
    """A connection of the cache. `role` is the one its session started with, and is named for when idle.

    `prepared` is the one it was prepared for, where its last borrower left it so.
    """

    connection: Connection
    place: Place
    role: str
    since: float = 0.0
    prepared: str | None = None


class Connections:
    """A bounded cache of connections, by connection string and database.

    Belongs to one event loop. `per_database`, `per_server` and `total` bound open connections, lent and idle
    together; a borrower waits at most `wait_s`. A connection that broke, or came back in a transaction or
    from a cancelled task, is closed. Who holds a connection and wants a second one must not wait for it:
    two who did could wait for each other.
    """

    def __init__(
        self,
        *,
        per_database: int = 4,
        per_server: int = 20,
        total: int = 40,
        idle_s: float = 60.0,
        wait_s: float = 30.0,
        connect_timeout_s: float = 10.0,
    ) -> None:
        self._connect_timeout_s = connect_timeout_s
        self._places = Places(per_database=per_database, per_server=per_server, total=total)
        self._idle_s = idle_s
        self._wait_s = wait_s
        self._idle: dict[Hashable, list[_Held]] = {}
        self._by_age: OrderedDict[_Held, None] = OrderedDict()
        self._idle_of: Counter[str] = Counter()
        self._servers: OrderedDict[Dsn, str] = OrderedDict()
        self._sweeper: asyncio.Task[None] | None = None
        self._closed = False

    @asynccontextmanager
    async def borrow(
        self,
        dsn: Dsn,
        *,
        database: str | None = None,
        role: str = "pass",
        wait: bool = True,
        self_contained: bool = False,
        leaves_nothing: bool = False,
    ) -> AsyncIterator[Connection]:
        """Lend a connection in autocommit mode with an empty `search_path`; it is reset when it is back.

        A self-contained borrower promises to need no setting of the session and to change none: it finds the
        session as it started, and both exchanges are spared. One that `leaves_nothing` promises to set and
        lock nothing beyond a transaction: the next of its role finds the session prepared as it did. Without
        `wait`, DatabaseUnavailable is raised where there is no room now.
        """
        place = Place((dsn, database), self._server(dsn))
        await self._reserve(place, _target(dsn, database), wait=wait)
        held: _Held | None = None
        usable = False
        try:
            held = await self._take(
                place, (dsn, database, role), as_is=self_contained, prepared=leaves_nothing
            )
            try:
                yield held.connection
                usable = True
            except Exception:
                usable = True
                raise
        finally:
            if held is not None:
                held.prepared = role if leaves_nothing else None
            await self._put_back(place, held, usable=usable, reset=not (self_contained or leaves_nothing))

    async def take_out(self, dsn: Dsn, *, database: str | None = None, role: str) -> Connection | None:
        """Give an idle connection away for good, named for its owner; None where none is there that answers.

        Whoever has just read a database spares a connection, and the server what it learnt of its catalog.
        """
        while shelf := self._idle.get((dsn, database)):
            held = shelf[-1]
            self._pick_up(held)
            if await _prepared_or_closed(held.connection, role):
                return held.connection
        return None

    async def close(self) -> None:
        """Close everything idle; what is lent is closed when it comes back."""
        self._closed = True
        self._places.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._sweeper
            self._sweeper = None
        for held in list(self._by_age):
            await self._drop(held)

    def _server(self, dsn: Dsn) -> str:
        """The server of a connection string, parsed once."""
        known = self._servers.get(dsn)
        if known is None:
            known = self._servers[dsn] = dsn.server
            if len(self._servers) > _SERVERS_REMEMBERED:
                self._servers.popitem(last=False)
        return known

    async def _reserve(self, place: Place, target: str, *, wait: bool) -> None:
        """Get the right to have one connection more."""
        places = self._places
        bounds = (
            f"{places.per_database} to a database, {places.per_server} to a server and {places.total} in all"
        )
        hint = f"at most {bounds} are open at once"
        if not wait:
            if not places.try_take(place):
                raise DatabaseUnavailable(f"no free connection to {target}", hint=hint)
            return
        try:
            async with asyncio.timeout(self._wait_s):
                await places.take(place)
        except TimeoutError:
            raise DatabaseUnavailable(
                f"waiting for a free connection to {target}: none within {self._wait_s:g} s", hint=hint
            ) from None

    async def _make_room(self, server: str) -> None:
        """Close the longest idle ones while more than the bounds would be open."""
        places = self._places
        while self._idle_of[server] and places.taken_of(server) + self._idle_of[server] > places.per_server:
            await self._drop(next(held for held in self._by_age if held.place.server == server))
        while self._by_age and places.taken + len(self._by_age) > places.total:
            await self._drop(next(iter(self._by_age)))

    def _lay_down(self, held: _Held) -> None:
        held.since = time.monotonic()
        self._idle.setdefault(held.place.database, []).append(held)
        self._by_age[held] = None
        self._idle_of[held.place.server] += 1
        self._sweep_later()

    def _pick_up(self, held: _Held) -> bool:
        """Take a connection out of the idle ones; false where another did."""
        if held not in self._by_age:
            return False
        del self._by_age[held]
        shelf = self._idle[held.place.database]
        shelf.remove(held)
        if not shelf:
            del self._idle[held.place.database]
        self._idle_of[held.place.server] -= 1
        if not self._idle_of[held.place.server]:
            del self._idle_of[held.place.server]
        return True

    async def _drop(self, held: _Held) -> None:
        if self._pick_up(held):
            await _close(held.connection)

    async def _take(
        self, place: Place, wanted: tuple[Dsn, str | None, str], *, as_is: bool, prepared: bool
    ) -> _Held:
        """An idle connection that still answers, else a new one, for which others may have to make room."""
        dsn, database, role = wanted
        while shelf := self._idle.get(place.database):
            held = shelf[-1]
            self._pick_up(held)
            ready = (
                held.prepared == role if prepared else as_is and (held.role, held.prepared) == (role, None)
            )
            if (ready and _is_quiet(held)) or await _prepared_or_closed(held.connection, role):
                return held
        await self._make_room(place.server)
        try:
            connection = await connect(
                dsn, database=database, role=role, connect_timeout_s=self._connect_timeout_s
            )
        except ReconcilerError as error:
            self._places.heard(place.server, answers=not isinstance(error, DatabaseUnavailable))
            raise
        self._places.heard(place.server, answers=True)
        if not as_is and not await _prepared_or_closed(connection, role):
            raise DatabaseUnavailable(
                f"connecting to {_target(dsn, database)}: the server closed the connection"
            )
        return _Held(connection, place, role)

    async def _put_back(self, place: Place, held: _Held | None, *, usable: bool, reset: bool) -> None:
        kept = False
        try:
            if (
                held is not None
                and usable
                and not self._closed
                and await _is_fit(held.connection, reset=reset)
            ):
                # Everything may have been closed while it was reset.
                kept = not self._closed
        finally:
            if kept and held is not None:
                self._lay_down(held)
            elif held is not None:
                await _close(held.connection)
            self._places.give_back(place)

    def _sweep_later(self) -> None:
        if self._sweeper is None or self._sweeper.done():
            self._sweeper = asyncio.create_task(self._sweep(), name="idle connections")

    async def _sweep(self) -> None:
        """Close what has been idle for long; ends when nothing is idle."""
        while self._by_age:
            oldest = next(iter(self._by_age))
            due = oldest.since + self._idle_s - time.monotonic()
            if due > 0:
                await asyncio.sleep(due)
            else:
                await self._drop(oldest)


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


def _is_quiet(held: _Held) -> bool:
    """Whether a connection was used a moment ago and nothing came in since: it is taken to live then."""
    if held.connection.closed or time.monotonic() - held.since > _TRUSTED_S:
        return False
    arrived = select.poll()
    arrived.register(held.connection.fileno(), select.POLLIN)
    return not arrived.poll(0)


async def _is_fit(connection: Connection, *, reset: bool) -> bool:
    """Whether a connection that comes back is fit for another borrower; nothing of this one is left then."""
    if connection.closed or connection.info.transaction_status != TransactionStatus.IDLE:
        return False
    try:
        if not connection.autocommit:
            await connection.set_autocommit(True)
        connection.row_factory = psycopg.rows.tuple_row
        connection.prepare_threshold = 5
        if reset:
            async with asyncio.timeout(_RESET_TIMEOUT_S):
                await connection.execute(_QUERIES["forget_session"], prepare=False)
    except (psycopg.Error, TimeoutError):
        return False
    return not connection.closed


async def _close(connection: Connection) -> None:
    """Close a connection; the driver waits for nobody here, so that being cancelled does not come between."""
    with suppress(psycopg.Error, OSError):
        await connection.close()
