"""The command line: registers the commands. What a command needs it imports when it runs."""

import atexit
import gc
import os
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from reconciler import __version__
from reconciler.cli.command import (
    CaOption,
    Common,
    ConfigOption,
    NoColorOption,
    OutputOption,
    ServerOption,
    register,
)
from reconciler.cli.exit_codes import ExitCode

MODULES: Mapping[str, tuple[str, ...]] = {
    "init": ("init",),
    "run": ("run",),
    "validate": ("validate",),
    "diff": ("diff",),
    "apply": ("apply",),
    "status": ("status",),
    "history": ("history", "events"),
    "show": ("show",),
    "verbs": ("stop", "start", "cancel", "release", "promote", "revert", "skip-revert", "retry", "approve"),
    "outputs": ("outputs",),
    "jobs": ("jobs",),
    "operate": ("suspend", "resume", "reconcile", "forget"),
    "env": ("env",),
    "control": ("control",),
    "module": ("module",),
    "objects": ("objects",),
    "stage": ("stage",),
    "secret": ("secret",),
    "schema": ("schema",),
}
"""The modules of the commands, in the order of the help, and which commands each adds."""
GROUPS = frozenset({"module"})
"""Modules of groups with so many commands that only the one that is asked for is made."""
COLLECT_AT = 250_000
"""New objects from which on Python looks for circles among them: most commands have ended before."""


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"reconciler {__version__}")
        raise typer.Exit


def common(
    ctx: typer.Context,
    config: ConfigOption = None,
    server: ServerOption = None,
    ca: CaOption = None,
    output: OutputOption = None,
    no_color: NoColorOption = False,
    version: Annotated[  # noqa: ARG001 - its callback does it all
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Keep the options that stand before the command for the command."""
    ctx.obj = {"config": config, "server": server, "ca": ca, "output": output, "no_color": no_color}


def demo(
    _common: Common,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it running and print the URL.")] = False,
    folder: Annotated[
        Path | None, typer.Option("--dir", metavar="FOLDER", help="Where; else a temporary folder.")
    ] = None,
) -> ExitCode:
    """See the main job done: a commit lands in an embedded PostgreSQL, within a minute."""
    from reconciler.cli.demo import run_demo

    run_demo(keep=keep, folder=folder)
    return ExitCode.OK


def program(first: str | None = None, second: str | None = None) -> typer.Typer:
    """The commands: all of them, or those of one module where `first` is the name of one of its commands.

    Nothing but a name that stands first is certain to be the command's; `second` is that of one in a group.
    """
    app = typer.Typer(
        name="reconciler",
        help="A GitOps daemon for environments built around PostgreSQL.",
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(common)
    register(app, "demo")(demo)
    named = [module for module, names in MODULES.items() if first in names]
    for module in named or (MODULES if first != "--version" else ()):
        add = import_module(f"reconciler.cli.{module}").add
        add(app, second) if module in GROUPS else add(app)
    return app


def main() -> None:
    """Run the command line of this process."""
    first, second = (*sys.argv[1:3], None, None)[:2]
    # The daemon goes back to what is usual once it serves.
    gc.set_threshold(COLLECT_AT)
    # Nothing is looked for at the end either: the process takes all of it with it.
    atexit.register(gc.freeze)
    # Nor are plugins of pydantic, for which it would read what stands with every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    program(first, second)(prog_name="reconciler")


def __getattr__(name: str) -> typer.Typer:
    """`app` has all commands, and is made when somebody asks for it."""
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    app = globals()["app"] = program()
    return app
