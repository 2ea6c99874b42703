"""The right to write to one managed database, for the length of one operation.

A session has two connections: the holder keeps the fence and never has a transaction open while a change
runs; the writer runs scripts. Where one short script is all there is to run, the holder is the writer too:
a second session of the server would cost more than the script. The fence's epoch is checked inside every
transaction that writes.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import psycopg
from psycopg.pq import TransactionStatus

from reconciler.catalog.model import Catalog
from reconciler.catalog.standing import Standing, base_line_after, but_of
from reconciler.errors import DatabaseUnavailable, ReconcilerError, Refused
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connection, Dsn, connect, translate
from reconciler.postgres.queries import Queries
from reconciler.snapshot.database import WholeCatalog, read_whole
from reconciler.snapshot.probe import ALGORITHM
from reconciler.tracking import base_line, install
from reconciler.tracking.fence import Fence, FenceOwner
from reconciler.tracking.record import begin_writes

SCHEMA = install.SCHEMA
_QUERIES = Queries.load("reconciler.execution")
_ONLY_ON_REQUEST = 2**31 - 1
"""After so many times the driver prepares a statement that nobody asked it to prepare."""
SETTLE_TIMEOUT_S = 300.0
"""How long reading the catalog and storing it as the base line may take."""


@frozen
class Limits:
    """Limits of one write, in seconds; `statement_timeout_s` 0 means none.

    `lock_attempts` bounds how often a change that did not get its locks is tried anew in one go.
    `fence_wait_s` is how long the end of a predecessor is waited for, `patience_s` another that is at work.
    """

    lock_timeout_s: float = 2.0
    statement_timeout_s: float = 0.0
    lock_attempts: int = 5
    fence_wait_s: float = 15.0
    patience_s: float = 1.0
    connect_timeout_s: float = 10.0


@dataclass(slots=True, kw_only=True)
class DatabaseSession:
    """An open session; made by `open_session`, ended by `finish` or `abandon`."""

    database: str
    server: str
    holder: Connection
    writer: Connection
    writer_backend: int
    fence: Fence
    limits: Limits
    holder_lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    capacity: int | None = None
    adopts_copy: bool = False
    standing: Mapping[str, Standing] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    """Schemas of ours that are gone for good: what somebody had dropped of them before is no drift."""
    urgent: Callable[[], None] | None = None
    """Raises where even what is under way is to be broken off."""
    dsn: Dsn | None = None
    """Where the holder is the writer too: how to look on while it is busy."""
    observer: Connection | None = None
    beside: list["DatabaseSession"] = field(default_factory=list)
    """The same session with other writers, for what is written side by side; ended with this one."""

    @property
    def writer_is_idle(self) -> bool:
        """Whether all that was sent through the writer is settled, and known to be."""
        status = self.writer.info.transaction_status
        return not self.writer.closed and status is TransactionStatus.IDLE

    @property
    def is_one(self) -> bool:
        """Whether the holder is the writer too."""
        return self.holder is self.writer

    async def with_writer(self, dsn: Dsn) -> "DatabaseSession":
        """The same session with one more writer under the same fence."""
        writer, backend = await _open_writer(dsn, self.database, self.limits, self.fence)
        other = replace(self, writer=writer, writer_backend=backend, beside=[])
        self.beside.append(other)
        return other

    async def blockers(self) -> str | None:
        """Say who holds the locks that the writer waits for; None where nobody does."""
        async with self.holder_lock:
            looking = await self._looking()
            if looking is None:
                return None
            cursor = await looking.execute(_QUERIES["blockers"], {"pid": self.writer_backend})
            rows = await cursor.fetchall()
        if not rows:
            return None
        return "; ".join(
            f"pid {pid} ({application or 'no application name'}, {role}, {state}, "
            f"transaction open for {age or 0:.0f} s)"
            for pid, application, role, state, age in rows
        )

    async def runs_triggers(self) -> bool:
        """Whether the session does where a script finds it as it began: the default of a role may differ."""
        cursor = await self.writer.execute(_QUERIES["runs_triggers"])
        row = await cursor.fetchone()
        return row is not None and bool(row[0])

    async def writer_name(self) -> str | None:
        """What the session of the writer calls itself just now."""
        async with self.holder_lock:
            cursor = await self.holder.execute(_QUERIES["writer_name"], {"pid": self.writer_backend})
            row = await cursor.fetchone()
        return row[0] if row is not None else None

    async def recorded(self, change_ids: Sequence[str]) -> frozenset[str]:
        """Which of these changes are recorded as deployed, of what is committed."""
        async with self.holder_lock:
            cursor = await self.holder.execute(_QUERIES["recorded_changes"], {"change_ids": list(change_ids)})
            return frozenset([row[0] for row in await cursor.fetchall()])

    async def _looking(self) -> Connection | None:
        """A connection that is free while the writer is busy; opened only where that takes its time.

        None where the server has no more of them: then nobody looks, and the change goes on.
        """
        if not self.is_one or self.dsn is None:
            return self.holder
        if self.observer is None:
            timeout_s = self.limits.connect_timeout_s
            with suppress(ReconcilerError):
                self.observer = await connect(
                    self.dsn, database=self.database, role="watch", connect_timeout_s=timeout_s
                )
        return self.observer

    async def lock_capacity(self) -> int:
        """How many locks the server surely has room for; asked once."""
        if self.capacity is None:
            try:
                async with self.holder_lock:
                    cursor = await self.holder.execute(_QUERIES["lock_capacity"])
                    row = await cursor.fetchone()
            except psycopg.Error as error:
                raise translate(error, f"asking database '{self.database}' for its room for locks") from error
            self.capacity = int(row[0]) if row else 0
        return self.capacity

    async def settle(self) -> None:
        """Store the base line: what stands in the database after our last write is ours from here on.

        But for drift that stood before and that our writes left alone: it stays drift.
        """
        live = await self._read_whole()
        objects = base_line_after(live.catalog.objects, but_of(self.standing, self.left))
        drifted = objects is not live.catalog.objects
        store = base_line.adopt_copy if self.adopts_copy else base_line.settle
        await store(
            self.holder,
            self.fence,
            catalog=Catalog(objects),
            # A base line that differs from the live catalog has a probe that no live one equals.
            probe=f"with drift {live.probe}" if drifted else live.probe,
            identity=live.identity,
            algorithm=ALGORITHM,
        )

    async def _read_whole(self) -> WholeCatalog:
        if not self.is_one:
            return await read_whole(self.holder)
        await self._tidy("leave_script")
        try:
            return await read_whole(self.holder)
        except ReconcilerError as error:
            if not isinstance(error.__cause__, psycopg.errors.InvalidSqlStatementName):
                raise
        # Code of somebody's let go of what was prepared, and the driver could not know.
        await self._tidy("forget_prepared")
        return await read_whole(self.holder)

    async def _tidy(self, query: str) -> None:
        try:
            await self.holder.execute(_QUERIES[query], prepare=False)
        except psycopg.Error as error:
            raise translate(error, f"leaving the script in database '{self.database}'") from error

    async def finish(self) -> None:
        """Settle the base line, give the fence back and close all connections.

        Where it is not known what the writer still does, the fence is left for a successor, which ends the
        writer first: a late commit must not follow the base line.
        """
        doing = f"settling database '{self.database}' on {self.server}"
        try:
            if not all(each.writer_is_idle for each in (self, *self.beside)):
                raise DatabaseUnavailable(f"{doing}: a connection that writes was lost")
            async with asyncio.timeout(SETTLE_TIMEOUT_S):
                await self.settle()
                await self.fence.release()
        except TimeoutError:
            raise DatabaseUnavailable(f"{doing}: not done within {SETTLE_TIMEOUT_S:g} s") from None
        finally:
            await self.abandon()

    async def abandon(self) -> None:
        """Close all connections as they are; the server takes back what was not committed."""
        others = (other.writer for other in self.beside)
        watching = () if self.observer is None else (self.observer,)
        for connection in (*others, *watching, self.writer, self.holder):
            with suppress(psycopg.Error, OSError):
                await asyncio.wait_for(connection.close(), timeout=5)


async def open_session(
    dsn: Dsn,
    database: str,
    owner: FenceOwner,
    *,
    limits: Limits,
    install_tracking: bool,
    confirm: Callable[[Connection, Fence], Awaitable[None]] | None = None,
    holder: Connection | None = None,
    is_one: bool = False,
) -> DatabaseSession:
    """Take the fence of a database and open it for writing, over `holder` where one is given.

    `is_one`: the connection that keeps the fence runs the script too, which is to be short and the only one.

    `confirm` raises unless the operation is still the owner's and its plan still fits what is there. It is
    asked once the fence is ours, before anything is marked: who loses the operation later loses the fence
    first, and who lost it before must not write with a fence taken late.
    Raises FenceTaken where another writer is at work, DatabaseUnavailable where it cannot be reached.
    """
    opened: list[Connection] = [] if holder is None else [holder]
    try:
        if holder is None:
            holder = await connect(
                dsn, database=database, role="fence", connect_timeout_s=limits.connect_timeout_s
            )
            opened.append(holder)
        if install_tracking:
            await install.install(holder)
        fence = await Fence.acquire(
            holder, owner, deadline_s=limits.fence_wait_s, patience_s=limits.patience_s
        )
        if confirm is not None:
            await _confirmed(fence, holder, confirm)
        if is_one:
            holder.prepare_threshold = _ONLY_ON_REQUEST
            writer, writer_backend = holder, await _check_writer(holder, database)
        else:
            writer, writer_backend = await _open_writer(dsn, database, limits, fence)
            opened.append(writer)
        await begin_writes(holder, fence)
        return DatabaseSession(
            database=database,
            server=dsn.server,
            holder=holder,
            writer=writer,
            writer_backend=writer_backend,
            fence=fence,
            limits=limits,
            dsn=dsn,
        )
    except BaseException as error:
        for connection in opened:
            with suppress(psycopg.Error, OSError):
                await asyncio.wait_for(connection.close(), timeout=5)
        if isinstance(error, psycopg.Error):
            raise translate(error, f"opening database '{database}' on {dsn.server} for writing") from error
        raise


async def _confirmed(
    fence: Fence, holder: Connection, confirm: Callable[[Connection, Fence], Awaitable[None]]
) -> None:
    """Give the fence back as it was where it must not be used."""
    try:
        await confirm(holder, fence)
    except Exception:
        with suppress(ReconcilerError):
            await fence.release()
        raise


async def _open_writer(dsn: Dsn, database: str, limits: Limits, fence: Fence) -> tuple[Connection, int]:
    """A connection through which the owner of a fence writes, and the process of the server behind it."""
    writer = await connect(dsn, database=database, role="writer", connect_timeout_s=limits.connect_timeout_s)
    try:
        # The driver forgets prepared statements at ROLLBACK and DROP, and in a pipeline it learns of those
        # too late: a statement of ours would be sent by a name that is gone.
        writer.prepare_threshold = None
        backend = await _check_writer(writer, database)
        await fence.enroll(writer)
    except BaseException:
        with suppress(psycopg.Error, OSError):
            await asyncio.wait_for(writer.close(), timeout=5)
        raise
    return writer, backend


async def _check_writer(writer: Connection, database: str) -> int:
    """Give the server's process behind the writer, which a pooler in session mode has other ideas about.

    Refuses a role whose unqualified objects would land in the tracking schema. That is so for a role named
    `reconciler` with the usual `search_path`, which begins with "$user".
    """
    cursor = await writer.execute(_QUERIES["about_writer"])
    row = await cursor.fetchone()
    assert row is not None
    if row[0] == SCHEMA:
        raise Refused(
            f"the search_path of role '{writer.info.user}' in database '{database}' begins with the tracking "
            f"schema '{SCHEMA}', so that scripts would create their objects there",
            hint="connect as a role of another name, or ALTER ROLE … SET search_path = public",
        )
    return int(row[1])
