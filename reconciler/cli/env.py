"""`reconciler env stop`, `start` and `remove`: whole environments, by a person's word."""

import shlex
from typing import Annotated

import typer

from reconciler.cli.backend import Json
from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode

Environment = Annotated[str, typer.Argument(metavar="ENV", help="The environment.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit.")]


def add(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Stop, start and remove whole environments.", no_args_is_help=True)
    register(group, "stop")(stop)
    register(group, "start")(start)
    register(group, "remove")(remove)
    app.add_typer(group, name="env")


def stop(common: Common, environment: Environment, reason: Reason = "") -> ExitCode:
    """End the services and routes of an environment, last stage first; its databases stay as they are."""
    return _steer(common, environment, "stop", "its services and routes are ended", reason)


def start(common: Common, environment: Environment, reason: Reason = "") -> ExitCode:
    """Start the services and routes of an environment that was stopped."""
    return _steer(common, environment, "start", "its services and routes are started", reason)


def _steer(common: Common, environment: str, verb: str, done: str, reason: str) -> ExitCode:
    from reconciler.cli.client import connect

    with connect(common, needs_control=True) as backend:
        status = backend.steer(environment, verb, reason=reason)
        local = backend.local
    if common.output == "json":
        common.screen.json(status)
        return ExitCode.OK
    common.screen.line(f"{environment}: {done} by the next rollout")
    follow = f"reconciler apply {environment}" if local else f"reconciler status {environment}"
    common.screen.note(f"{'no daemon answers here; to do it now' if local else 'follow it with'}: {follow}")
    return ExitCode.OK


def remove(
    common: Common,
    environment: Environment,
    database: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Drop this database too, by its component or name; may be repeated."
        ),
    ] = None,
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Consent to the plan.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the plan, and do nothing.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the operations have settled.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="SECONDS", help="Wait no longer than this; implies --wait."),
    ] = None,
) -> ExitCode:
    """Remove what an environment deployed that left its source; databases stay unless they are named.

    Without --yes the plan is shown, and nothing is done.
    """
    from reconciler.cli.apply import REASON_CHARACTERS_MAX, carried_out
    from reconciler.cli.client import connect

    if len(reason) > REASON_CHARACTERS_MAX:
        raise typer.BadParameter(
            f"a reason has {REASON_CHARACTERS_MAX} characters at most", param_hint="--reason"
        )
    databases = database or []
    with connect(common, needs_control=True) as backend:
        if dry_run or not yes:
            again = "".join(f" --database {shlex.quote(name)}" for name in databases)
            plan = backend.removal(environment, databases)
            return _show(common, plan, again=None if dry_run else f"{again} --yes")
        recorded = backend.remove(environment, databases, reason=reason)
        if recorded is None:
            if common.output == "json":
                common.screen.json(None)
            else:
                common.screen.line(f"{environment}: nothing of it is left, and it is gone")
            return ExitCode.OK
        return carried_out(common, backend, recorded, wait=wait or timeout is not None, timeout_s=timeout)


def _show(common: Common, plan: Json, *, again: str | None) -> ExitCode:
    """Print the plan; `again` are the options with which it would be carried out."""
    if common.output == "json":
        common.screen.json(plan)
    else:
        from reconciler.cli.diff import show_text

        show_text(common, plan)
    if again is None:
        return ExitCode.OK
    common.screen.note(f"nothing was done; to remove it: reconciler env remove {plan['environment']}{again}")
    return ExitCode.PENDING
