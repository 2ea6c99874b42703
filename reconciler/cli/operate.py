"""`reconciler suspend`, `resume`, `reconcile` and `forget`: what operators ask of environments."""

from typing import Annotated

import typer

from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode

Environment = Annotated[str, typer.Argument(metavar="ENV", help="The environment.")]


def add(app: typer.Typer) -> None:
    """Add the commands."""
    register(app, "suspend")(suspend)
    register(app, "resume")(resume)
    register(app, "reconcile")(reconcile)
    register(app, "forget")(forget)


def suspend(
    common: Common,
    environment: Environment,
    reason: Annotated[str, typer.Option(help="Why, for whoever finds it suspended.")] = "",
) -> ExitCode:
    """Stop reconciling an environment; what runs goes on to its end."""
    return _steer(common, environment, "suspend", "is suspended", reason=reason)


def resume(common: Common, environment: Environment) -> ExitCode:
    """Reconcile a suspended environment again."""
    return _steer(common, environment, "resume", "is reconciled again")


def reconcile(common: Common, environment: Environment) -> ExitCode:
    """Ask for a pass over an environment now."""
    return _steer(common, environment, "reconcile", "is looked at now")


def forget(
    common: Common,
    environment: Environment,
    deployment: Annotated[str, typer.Argument(metavar="DEPLOYMENT", help="A deployment that left the spec.")],
    reason: Annotated[str, typer.Option(help="Why, for the audit.")] = "",
) -> ExitCode:
    """Stop telling of a deployment that left the spec; its databases stay as they are."""
    from reconciler.cli.client import connect

    with connect(common, needs_control=True) as backend:
        status = backend.forget(environment, deployment, reason=reason)
    if common.output == "json":
        common.screen.json(status)
    else:
        common.screen.line(f"{environment}: {deployment} is forgotten; its databases are as they were")
    return ExitCode.OK


def _steer(common: Common, environment: str, verb: str, done: str, *, reason: str = "") -> ExitCode:
    from reconciler.cli.client import connect

    with connect(common, needs_control=True) as backend:
        status = backend.steer(environment, verb, reason=reason)
        local = backend.local
    if common.output == "json":
        common.screen.json(status)
    else:
        common.screen.line(f"{environment}: {done}")
    if local and verb == "reconcile":
        common.screen.note("no daemon answers here; one on the same control database will see it")
        common.screen.note(f"to work on it from here: reconciler apply {environment}")
    return ExitCode.OK
