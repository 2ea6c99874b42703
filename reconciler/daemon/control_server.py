"""Where the control database is: a server of the user's, or the embedded one below the state directory."""

from pathlib import Path

from reconciler.daemon.secrets import Secrets
from reconciler.postgres.connection import Dsn
from reconciler.settings import Settings


async def control_dsn(settings: Settings, secrets: Secrets, *, start: bool) -> Dsn | None:
    """Connection string of the control database.

    The embedded server is attached to, or started where it stands still; it is made only if `start` is true.
    Without, None says that there is none yet.
    """
    if settings.control is not None:
        return Dsn(secrets.for_settings(settings.control.dsn))
    from reconciler.postgres.embedded import EmbeddedServer

    server = EmbeddedServer.at(Path(settings.state_dir))
    if start:
        return await server.ensure_running()
    status = await server.status()
    made = status.running or (status.data_directory is not None and status.data_directory.exists())
    return await server.ensure_running() if made else None
