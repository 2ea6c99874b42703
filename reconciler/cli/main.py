"""The command line: registers the commands. What a command needs it imports when it runs."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from reconciler import __version__
from reconciler.cli import apply, control, diff, history, init, module, operate, run, schema, status, validate
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

COMMANDS = (init, run, validate, diff, apply, status, history, operate, control, module, schema)

app = typer.Typer(
    name="reconciler",
    help="A GitOps daemon for environments built around PostgreSQL.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"reconciler {__version__}")
        raise typer.Exit


@app.callback()
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


common.__doc__ = app.info.help


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


register(app, "demo")(demo)
for command in COMMANDS:
    command.add(app)


def main() -> None:
    """Run the command line of this process."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    app(prog_name="reconciler")
