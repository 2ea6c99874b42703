"""`reconciler control start|stop|status`: the embedded PostgreSQL that holds the control database."""

from collections.abc import Coroutine
from typing import Any, TypeVar

import typer

from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode

T = TypeVar("T")


def add(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="The embedded PostgreSQL of the control database.", no_args_is_help=True)
    register(group, "start")(start)
    register(group, "stop")(stop)
    register(group, "status")(status)
    app.add_typer(group, name="control")


def start(common: Common) -> ExitCode:
    """Start the embedded server where it does not run; make it where there is none."""
    server = _server(common)
    dsn = _run(server.ensure_running())
    if common.output == "json":
        common.screen.json({"running": True, "server": dsn.server})
    else:
        common.screen.line(f"the embedded PostgreSQL runs at {dsn.server}")
    return ExitCode.OK


def stop(common: Common) -> ExitCode:
    """Stop the embedded server; a daemon that uses it waits until it is back."""
    _run(_server(common).stop())
    if common.output == "json":
        common.screen.json({"running": False})
    else:
        common.screen.line("the embedded PostgreSQL is stopped")
    return ExitCode.OK


def status(common: Common) -> ExitCode:
    """Say whether the embedded server runs; starts nothing."""
    from dataclasses import fields

    found = _run(_server(common).status())
    values = {field.name: _plain(getattr(found, field.name)) for field in fields(found)}
    if common.output == "json":
        common.screen.json(values)
        return ExitCode.OK
    for name, value in values.items():
        if value is not None:
            shown = {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value
            common.screen.line(f"{name.replace('_', ' '):<12} {shown}")
    return ExitCode.OK


def _run(coroutine: Coroutine[Any, Any, T]) -> T:
    import asyncio

    return asyncio.run(coroutine)


def _server(common: Common) -> Any:
    import os
    from pathlib import Path

    from reconciler.cli.settings_file import load
    from reconciler.errors import Refused
    from reconciler.postgres.embedded import EmbeddedServer

    settings = load(common.config, os.environ)
    if settings.control is not None:
        raise Refused(
            "the settings name a control database of their own, so there is no embedded one",
            hint="start and stop that server where it runs",
        )
    return EmbeddedServer.at(Path(settings.state_dir))


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)
