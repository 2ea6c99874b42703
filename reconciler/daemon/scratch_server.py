"""A server to try things on: one that the user names, or an embedded one that goes when the trial is done.

Whatever ends the trial, what was made for it is removed first.
"""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from reconciler.execution.scratch import to_the_end
from reconciler.postgres.connection import Dsn
from reconciler.postgres.embedded import EmbeddedServer

_ENDS = (signal.SIGTERM, signal.SIGHUP)
_T = TypeVar("_T")


def to_its_end(work: Callable[[], Awaitable[_T]]) -> _T:
    """Run something as a command does: a signal cancels it, and what it made is removed before this returns.

    Raises KeyboardInterrupt where a signal ended it.
    """

    async def run() -> _T:
        own, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert own is not None
        for number in _ENDS:
            loop.add_signal_handler(number, own.cancel)
        return await work()

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@asynccontextmanager
async def scratch_server(dsn: Dsn | None) -> AsyncIterator[Dsn]:
    """Give the server that is named; without one, an embedded server that is made for it."""
    if dsn is not None:
        yield dsn
        return
    folder = _folder()
    server = EmbeddedServer.at(folder, fsync=False)
    try:
        # A start that is broken off goes on in its thread, and must not outlive the removal.
        yield await to_the_end(server.ensure_running())
    finally:
        try:
            await to_the_end(server.remove())
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="reconciler-test-"))
    # Let the account that PostgreSQL runs as pass through, so that all of it is here and goes with it.
    folder.chmod(0o711)
    return folder
