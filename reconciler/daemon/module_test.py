"""A server to test modules on: one that the user names, or an embedded one that goes when the test is done.

Whatever ends the test, what was made for it is removed first.
"""

import asyncio
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from reconciler.diff.workspace import Group
from reconciler.execution.full_cycle import Tried, try_modules
from reconciler.execution.scratch import to_the_end
from reconciler.postgres.connection import Dsn
from reconciler.postgres.embedded import EmbeddedServer

_ENDS = (signal.SIGTERM, signal.SIGHUP)


def run(dsn: Dsn | None, groups: Sequence[Group], *, full: bool, jobs: int, timeout_s: float) -> list[Tried]:
    """Try modules on a server; without one, on an embedded server that is made for it.

    Raises KeyboardInterrupt where a signal ended it.
    """

    async def work() -> list[Tried]:
        own, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert own is not None
        for number in _ENDS:
            loop.add_signal_handler(number, own.cancel)
        async with _server(dsn) as server:
            return list(await try_modules(server, groups, full=full, jobs=jobs, timeout_s=timeout_s))

    try:
        return asyncio.run(work())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@asynccontextmanager
async def _server(dsn: Dsn | None) -> AsyncIterator[Dsn]:
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
