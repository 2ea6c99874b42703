"""Notifications of PostgreSQL: sending one, and listening for as long as asked through every reconnection."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import suppress

import psycopg
from psycopg import sql

from reconciler.errors import PermanentError, TemporaryError
from reconciler.postgres.connection import Connection, Dsn, connect, translate
from reconciler.postgres.queries import Queries

_QUERIES = Queries.load("reconciler.postgres")
_PAYLOAD_BYTES_MAX = 7999
_PAUSE_MIN_S = 0.1
_PAUSE_MAX_S = 10.0
_PING_EVERY_S = 30.0
_PING_TIMEOUT_S = 10.0


async def notify(connection: Connection, channel: str, payload: str = "") -> None:
    """Send a notification; in a transaction it leaves with the commit."""
    if len(payload.encode()) > _PAYLOAD_BYTES_MAX:
        raise PermanentError(
            f"notifying channel '{channel}': the payload is longer than {_PAYLOAD_BYTES_MAX} bytes"
        )
    try:
        await connection.execute(_QUERIES["notify"], {"channel": channel, "payload": payload})
    except psycopg.Error as error:
        raise translate(error, f"notifying channel '{channel}'") from error


async def listen(
    dsn: Dsn,
    channel: str,
    on_notify: Callable[[str], None],
    stop: asyncio.Event,
    *,
    on_lost: Callable[[TemporaryError], None] | None = None,
) -> None:
    """Call `on_notify` with each payload until `stop` is set; connects again whenever the connection is lost.

    After every connecting it is called once with an empty payload: what was sent while nobody listened is
    lost, so whoever waits must look. `on_lost` is told of every failure that is tried again. Raises only what
    trying again cannot help.
    """
    stopping = asyncio.ensure_future(stop.wait())
    listening = asyncio.ensure_future(_listen(dsn, channel, on_notify, on_lost))
    try:
        await asyncio.wait({stopping, listening}, return_when=asyncio.FIRST_COMPLETED)
        if listening.done():
            listening.result()
    finally:
        for task in (stopping, listening):
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


async def _listen(
    dsn: Dsn,
    channel: str,
    on_notify: Callable[[str], None],
    on_lost: Callable[[TemporaryError], None] | None,
) -> None:
    pause = _PAUSE_MIN_S

    def connected() -> None:
        nonlocal pause
        pause = _PAUSE_MIN_S
        on_notify("")

    while True:
        try:
            await _listen_once(dsn, channel, on_notify, connected)
        except TemporaryError as error:
            if on_lost is not None:
                on_lost(error)
        # Jitter, not a secret: many listeners of one server do not come back at the same moment.
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311
        pause = min(pause * 2, _PAUSE_MAX_S)


async def _listen_once(
    dsn: Dsn, channel: str, on_notify: Callable[[str], None], connected: Callable[[], None]
) -> None:
    """Listen on one connection until it is lost."""
    connection = await connect(dsn, role="listen")
    try:
        # For what comes in together with the answer to a query of ours.
        connection.add_notify_handler(lambda notification: on_notify(notification.payload))
        await connection.execute(_QUERIES["listen"].format(channel=sql.Identifier(channel)))
        connected()
        while True:
            if await _readable(connection, _PING_EVERY_S):
                for payload in _received(connection):
                    on_notify(payload)
            else:
                async with asyncio.timeout(_PING_TIMEOUT_S):
                    await connection.execute(_QUERIES["ping"])
    except (psycopg.Error, TimeoutError) as error:
        doing = f"listening on channel '{channel}' of {dsn.server}"
        lost = error if isinstance(error, psycopg.Error) else psycopg.OperationalError("no answer")
        raise translate(lost, doing) from error
    finally:
        await connection.close()


async def _readable(connection: Connection, timeout_s: float) -> bool:
    """Wait until something came in; false after a while of nothing.

    The driver's own wait looks ten times a second, which is most of what an idle daemon would do.
    """
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    descriptor = connection.fileno()
    loop.add_reader(descriptor, arrived.set)
    try:
        async with asyncio.timeout(timeout_s):
            await arrived.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
    return True


def _received(connection: Connection) -> Iterator[str]:
    """What came in, without waiting; raises where it was the end of the connection."""
    connection.pgconn.consume_input()
    while (notification := connection.pgconn.notifies()) is not None:
        yield notification.extra.decode()
