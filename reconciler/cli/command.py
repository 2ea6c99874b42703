"""What all commands share: the common options, and how errors become text and exit codes."""

import inspect
import os
import sys
import traceback
from collections.abc import Callable
from enum import StrEnum
from typing import Annotated, Any

import typer

from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.output import Screen, printable_lines
from reconciler.errors import InvalidInput, ReconcilerError
from reconciler.frozen import frozen
from reconciler.postgres.redact import redact

Function = Callable[..., ExitCode | None]

INTERRUPTED = 130
"""What shells expect of a program that Ctrl-C ended."""


class Output(StrEnum):
    """How a command prints."""

    TEXT = "text"
    JSON = "json"


class DiffOutput(StrEnum):
    """How `diff` prints."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


@frozen
class Common:
    """What every command is given."""

    config: str | None
    server: str | None
    ca: str | None
    output: str
    screen: Screen


def scope_of(*, provision_only: bool, full: bool) -> str | None:
    """What two options say about how much is covered; None: as the environment says."""
    if provision_only and full:
        raise typer.BadParameter("one or the other", param_hint="--provision-only, --full")
    if full:
        return "full"
    return "provision-only" if provision_only else None


ConfigOption = Annotated[
    str | None,
    typer.Option("--config", metavar="FILE", envvar="RECONCILER_CONFIG", help="The settings file."),
]
ServerOption = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="The daemon to ask; else the one at `listen`."),
]
CaOption = Annotated[
    str | None,
    typer.Option("--ca", metavar="FILE", envvar="RECONCILER_CA", help="The CAs to trust of an https server."),
]
OutputOption = Annotated[Output | None, typer.Option("--output", "-o", help="How to print.")]
DiffOutputOption = Annotated[DiffOutput | None, typer.Option("--output", "-o", help="How to print.")]
NoColorOption = Annotated[bool, typer.Option("--no-color", help="No colours, also on a terminal.")]


def register(
    app: typer.Typer, name: str, *, output: Any = OutputOption, hidden: bool = False
) -> Callable[[Function], Function]:
    """Make a function a command: its first parameter is a `Common`, whose options are added to its own."""

    def decorate(function: Function) -> Function:
        app.command(name, hidden=hidden)(_command(function, output))
        return function

    return decorate


def _command(function: Function, output: Any) -> Callable[..., None]:
    own = list(inspect.signature(function).parameters.values())[1:]
    shared = {
        "config": ConfigOption,
        "server": ServerOption,
        "ca": CaOption,
        "output": output,
        "no_color": NoColorOption,
    }

    def run(ctx: typer.Context, **given: Any) -> None:
        common = _common(ctx, {key: given.pop(key) for key in shared})
        raise typer.Exit(guarded(common.screen, lambda: function(common, **given)))

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("ctx", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context),
        *(parameter.replace(kind=keyword) for parameter in own),
        *(
            inspect.Parameter(key, keyword, default=False if key == "no_color" else None, annotation=kind)
            for key, kind in shared.items()
        ),
    ]
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__doc__ = function.__doc__
    run.__name__ = function.__name__
    return run


def _common(ctx: typer.Context, given: dict[str, Any]) -> Common:
    """The options of this command, else those that stood before its name; variables come after both."""
    before: dict[str, Any] = ctx.obj if isinstance(ctx.obj, dict) else {}

    def option(key: str) -> Any:
        source = ctx.get_parameter_source(key)
        first, second = given[key], before.get(key)
        if source is not None and source.name == "ENVIRONMENT":
            first, second = second, first
        return first or second

    output = option("output")
    return Common(
        config=option("config"),
        server=option("server"),
        ca=option("ca"),
        output=str(output.value) if output is not None else "text",
        screen=Screen(color=not option("no_color")),
    )


def guarded(screen: Screen, action: Callable[[], ExitCode | None]) -> int:
    """Run an action; every error is told in words, without a traceback unless RECONCILER_DEBUG=1."""
    try:
        return int(action() or ExitCode.OK)
    except (typer.Exit, typer.BadParameter):
        raise
    except BrokenPipeError:
        # Whoever read our output has seen enough; what Python flushes at its end must go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(ExitCode.OK)
    except KeyboardInterrupt:
        screen.note("interrupted")
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the boundary of a command
        if os.environ.get("RECONCILER_DEBUG") == "1":
            screen.note(_masked(traceback.format_exc()))
        tell(screen, error)
        return int(ExitCode.ERROR)


def tell(screen: Screen, error: Exception) -> None:
    """Write an error for people."""
    match error:
        case InvalidInput() if len(error.problems) == 1:
            screen.error(_shown(error.problems[0].drawn()))
        case InvalidInput():
            screen.error(
                f"{len(error.problems)} problems",
                problems=[_shown(problem.drawn()) for problem in error.problems],
            )
        case ReconcilerError():
            screen.error(_shown(error.message), hint=_shown(error.hint) if error.hint else None)
        case OSError():
            about = f" '{error.filename}'" if error.filename else ""
            screen.error(_shown(f"{(error.strerror or str(error)).lower()}{about}"))
        case _:
            screen.error(
                _shown(f"internal error: {type(error).__name__}: {error}"),
                hint="RECONCILER_DEBUG=1 shows where; please report it",
            )


def _shown(text: str) -> str:
    return printable_lines(_masked(text))


def _masked(text: str) -> str:
    """Mask what looks like a secret, and what was registered as one where anything was."""
    logs = sys.modules.get("reconciler.logs")
    return logs.mask(text) if logs is not None else redact(text)
