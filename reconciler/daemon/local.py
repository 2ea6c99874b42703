"""The reconciler without a daemon: what a command uses where none answers, under the same locks."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from reconciler import logs
from reconciler.daemon import verdict_file
from reconciler.daemon.control_server import control_dsn
from reconciler.daemon.parts import Hooks, Parts, build, build_worker
from reconciler.daemon.secrets import Secrets
from reconciler.errors import PermanentError, Refused, TemporaryError
from reconciler.execution.interference import Interference
from reconciler.postgres.connection import Dsn
from reconciler.reconcile.facade import Reconciler
from reconciler.rollout.states import OperationState, RolloutState
from reconciler.rollout.status import RolloutStatus
from reconciler.settings import Settings

LOOK_EVERY_S = 0.5
MOVES_BY_ITSELF = frozenset(
    {
        OperationState.PENDING,
        OperationState.RUNNING,
        OperationState.PROMOTING,
        OperationState.REVERTING,
        OperationState.RETRYING,
    }
)
"""States that some worker takes an operation out of, without anybody deciding anything."""


@dataclass(slots=True, kw_only=True)
class Local:
    """A reconciler of this process, and a worker on demand."""

    settings: Settings
    parts: Parts
    control: Dsn | None
    hooks: Hooks

    @property
    def reconciler(self) -> Reconciler:
        """The facade."""
        return self.parts.reconciler

    async def look(self) -> None:
        """Look at every source and record what was found; what cannot be read now is left as it was."""
        for source in self.parts.repositories:
            with suppress(TemporaryError):
                await self.parts.passes.pass_source(source)

    async def work(self, rollout: str) -> RolloutStatus:
        """Work on one rollout until its operations settle or wait for somebody, and say how it stands."""
        if self.control is None:
            raise PermanentError("there is no control database")
        name = f"{socket.gethostname()}/{os.getpid()}"
        worker = build_worker(self.settings, self.parts, self.control, name, self.hooks, passes=False)
        while True:
            await worker.run(only_rollout=rollout)
            status = await self.reconciler.rollout(rollout)
            # What another worker has under way, or is to end first, is waited for like our own.
            if not any(one.state in MOVES_BY_ITSELF for one in status.operations):
                return status
            if status.state is RolloutState.PAUSED:
                return status
            if (await self.reconciler.environment(status.environment)).suspended:
                return status
            await asyncio.sleep(LOOK_EVERY_S)


@asynccontextmanager
async def open_local(
    settings: Settings, environ: Mapping[str, str], *, needs_control: bool
) -> AsyncIterator[Local]:
    """Open the databases directly.

    With `needs_control`, the control schema is installed where it is not yet and the embedded server started;
    without, nothing is started or written.
    """
    secrets = Secrets(environ, logs.forbid)
    control = await control_dsn(settings, secrets, start=needs_control)
    if control is not None and needs_control:
        await _install(control)
    if control is not None and not needs_control and not await _installed(control):
        control = None
    hooks = Hooks(
        emit=lambda _event: None,
        ask_pass=lambda _source: None,
        ask_work=lambda: None,
        interference=Interference(),
    )
    known = verdict_file.load(Path(settings.state_dir))
    parts = build(settings, secrets, control, hooks, fetch_first=True, verdicts=known)
    try:
        yield Local(settings=settings, parts=parts, control=control, hooks=hooks)
    finally:
        await parts.close()
        verdict_file.save(Path(settings.state_dir), known)


async def _install(control: Dsn) -> None:
    from reconciler.control.install import install
    from reconciler.postgres.connection import connect

    connection = await connect(control, role="control")
    try:
        await install(connection)
    finally:
        await connection.close()


async def _installed(control: Dsn) -> bool:
    from reconciler.control.install import CONTROL_VERSION, SCHEMA
    from reconciler.postgres.connection import connect
    from reconciler.postgres.migrations import installed_version

    connection = await connect(control, role="control")
    try:
        version = await installed_version(connection, schema=SCHEMA)
    finally:
        await connection.close()
    if 0 < version < CONTROL_VERSION:
        raise Refused(
            f"the control schema has version {version} and this program needs {CONTROL_VERSION}",
            hint="start the daemon of this program once: it brings the schema up to date",
        )
    return version > 0
