"""What a command without a daemon reads with, opened and closed again, and what is remembered."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from reconciler import logs
from reconciler.daemon import module_files, verdict_file
from reconciler.daemon.control_server import control_dsn
from reconciler.daemon.machine import needs_owner, owner_of
from reconciler.daemon.readers import Hooks, Readers, build_readers, connections_to_control
from reconciler.daemon.secrets import Secrets
from reconciler.errors import Refused
from reconciler.execution.interference import Interference
from reconciler.frozen import frozen
from reconciler.postgres.connection import Connections, Dsn
from reconciler.settings import Settings
from reconciler.state.contents import Remembered


@frozen
class Opened:
    """What reads, the control database where there is one, and what is told to nobody."""

    readers: Readers
    control: Dsn | None
    hooks: Hooks


@asynccontextmanager
async def open_readers(
    settings: Settings, environ: Mapping[str, str], *, needs_control: bool
) -> AsyncIterator[Opened]:
    """Open the databases directly.

    With `needs_control`, the control schema is installed where it is not yet and the embedded server started;
    without, nothing is started or written.
    """
    secrets = Secrets(environ, logs.forbid, settings.secrets.age_keys)
    control = await control_dsn(settings, secrets, start=needs_control)
    control_connections = connections_to_control(settings)
    try:
        if control is not None and needs_control:
            await _install(control, control_connections)
        if control is not None and not needs_control and not await _installed(control, control_connections):
            control = None
        owner = await _owner(settings, control, control_connections)
    except BaseException:
        await control_connections.close()
        raise
    hooks = Hooks(
        emit=lambda _event: None,
        ask_pass=lambda _source: None,
        ask_work=lambda: None,
        interference=Interference(),
    )
    state_dir = Path(settings.state_dir)
    known = Remembered(verdicts=verdict_file.load(state_dir), contents=module_files.load(state_dir))
    readers = build_readers(
        settings,
        secrets,
        control,
        hooks,
        fetch_first=True,
        remembered=known,
        control_connections=control_connections,
        owner=owner,
    )
    try:
        yield Opened(readers=readers, control=control, hooks=hooks)
    finally:
        await readers.close()
        verdict_file.save(state_dir, known.verdicts)
        module_files.save(state_dir, known.contents)


async def _install(control: Dsn, connections: Connections) -> None:
    from reconciler.control.install import install

    # Kept for whoever asks the control database next.
    async with connections.borrow(control, role="control") as connection:
        await install(connection)


async def _owner(settings: Settings, control: Dsn | None, connections: Connections) -> str:
    """What things that others see too are marked with; asked for only where there can be some."""
    if control is None or not needs_owner(settings):
        return ""
    async with connections.borrow(control, role="control") as connection:
        return await owner_of(connection)


async def _installed(control: Dsn, connections: Connections) -> bool:
    from reconciler.control.install import CONTROL_VERSION, SCHEMA
    from reconciler.postgres.migrations import installed_version

    async with connections.borrow(control, role="control", self_contained=True) as connection:
        version = await installed_version(connection, schema=SCHEMA)
    if 0 < version < CONTROL_VERSION:
        raise Refused(
            f"the control schema has version {version} and this program needs {CONTROL_VERSION}",
            hint="start the daemon of this program once: it brings the schema up to date",
        )
    return version > 0
