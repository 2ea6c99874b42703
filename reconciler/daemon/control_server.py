"""Where the control database is: a server of the user's, or the embedded one below the state directory."""

from pathlib import Path

from reconciler.daemon.secrets import Secrets
from reconciler.postgres.connection import Dsn
from reconciler.postgres.embedded import EmbeddedServer
from reconciler.settings import Settings


def embedded_server(settings: Settings) -> EmbeddedServer:
    """The embedded server of a state directory, running or not."""
    return EmbeddedServer.at(Path(settings.state_dir))


async def control_dsn(settings: Settings, secrets: Secrets, *, start: bool) -> Dsn | None:
    """Connection string of the control database.

    The embedded server is started where it is not running and `start` is true; without, None says that it
    does not run.
    """
    if settings.control is not None:
        return Dsn(secrets.for_settings(settings.control.dsn))
    server = embedded_server(settings)
    if start:
        return await server.ensure_running()
    status = await server.status()
    return await server.ensure_running() if status.running else None
