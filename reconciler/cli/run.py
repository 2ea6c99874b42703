"""`reconciler run`: the daemon."""

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode
from reconciler.errors import Problem, SettingsError


class Level(StrEnum):
    """From which level on log lines are written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def add(app: typer.Typer) -> None:
    """Add the command."""
    register(app, "run")(run)


def run(
    common: Common,
    repo: Annotated[
        str | None,
        typer.Option(metavar="PATH_OR_URL", help="Watch this one source, whatever the settings name."),
    ] = None,
    branch: Annotated[str, typer.Option(help="With --repo: its branch.")] = "main",
    path: Annotated[
        str, typer.Option(metavar="FOLDER", help="With --repo: where the specs are.")
    ] = "environments",
    state_dir: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where mirrors and the embedded PostgreSQL are kept."),
    ] = None,
    listen: Annotated[str | None, typer.Option(metavar="HOST:PORT", help="Where the API answers.")] = None,
    log_level: Annotated[Level, typer.Option(help="From which level on log lines are written.")] = Level.INFO,
) -> ExitCode:
    """Run the daemon until it is asked to stop."""
    import asyncio

    from reconciler import logs
    from reconciler.cli.settings_file import load

    overrides: dict[str, Any] = {}
    if repo is not None:
        overrides["sources"] = [{"name": "repo", "url": _address(repo), "branch": branch, "path": path}]
    if state_dir is not None:
        overrides["state_dir"] = str(state_dir.absolute())
    if listen is not None:
        overrides["listen"] = listen
    settings = load(common.config, os.environ, overrides)
    if not settings.sources:
        hint = "name one with --repo, or under `sources` in the settings file"
        raise SettingsError([Problem(message="there is no source to watch", path="sources", hint=hint)])
    logs.configure(sys.stdout, level=log_level.value)

    from reconciler.daemon.app import Daemon

    asyncio.run(Daemon(settings, os.environ).run())
    return ExitCode.OK


def _address(repo: str) -> str:
    """A local path is meant from where we are; anything else is a URL."""
    local = Path(repo).expanduser()
    return str(local.absolute()) if local.exists() else repo
