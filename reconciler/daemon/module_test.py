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
from reconciler.execution.roles import NewRole, make_roles
from reconciler.execution.scratch import to_the_end
from reconciler.frozen import frozen
from reconciler.postgres.connection import Dsn
from reconciler.postgres.embedded import EmbeddedServer

_ENDS = (signal.SIGTERM, signal.SIGHUP)


@frozen
class How:
    """How modules are tried: with `roles`, which are made on a server of their own and on no other."""

    full: bool
    jobs: int
    timeout_s: float
    roles: Sequence[NewRole] = ()


def run(dsn: Dsn | None, groups: Sequence[Group], how: How) -> list[Tried]:
    """Try modules on a server; without one, on an embedded server that is made for it.

    Raises KeyboardInterrupt where a signal ended it.
    """

    async def work() -> list[Tried]:
        own, loop = asyncio.current_task(), asyncio.get_running_loop()
        assert own is not None
        for number in _ENDS:
            loop.add_signal_handler(number, own.cancel)
        async with _server(dsn) as server:
            if dsn is None:
                await make_roles(server, how.roles)
            return list(
                await try_modules(server, groups, full=how.full, jobs=how.jobs, timeout_s=how.timeout_s)
            )

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
