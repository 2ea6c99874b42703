"""`reconciler apply`: record one rollout now, and wait for it where asked."""

from collections.abc import Callable
from typing import Annotated

import typer

from reconciler.cli.backend import Backend, Json
from reconciler.cli.command import Common, register, scope_of
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.output import Screen, printable, scope_mark, short

REASON_CHARACTERS_MAX = 1000


def add(app: typer.Typer) -> None:
    """Add the command."""
    register(app, "apply")(apply)


def apply(  # noqa: PLR0917 - the options of the command
    common: Common,
    environment: Annotated[str, typer.Argument(metavar="ENV", help="The environment.")],
    ref: Annotated[
        str | None, typer.Option(help="Branch, tag or commit; else the head of the source.")
    ] = None,
    deployment: Annotated[str | None, typer.Option(help="Only this deployment.")] = None,
    provision_only: Annotated[
        bool, typer.Option("--provision-only", help="Resources without what merely uses them.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Everything, also where the policy says provision-only.")
    ] = False,
    reason: Annotated[str, typer.Option(help="Why, for the audit.")] = "",
    allow_hazard: Annotated[
        list[str] | None, typer.Option(metavar="CODE", help="Consent to a hazard; may be repeated.")
    ] = None,
    redeploy_schema: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCHEMA", help="Build this schema of SQL objects anew in any case; may be repeated."
        ),
    ] = None,
    no_rollback: Annotated[
        bool,
        typer.Option("--no-rollback", help="Where staging SQL objects fails, leave what was made of them."),
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the operations have settled.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="SECONDS", help="Wait no longer than this; implies --wait."),
    ] = None,
) -> ExitCode:
    """Record one rollout now, also of a commit that is held."""
    from reconciler.cli.client import connect

    if len(reason) > REASON_CHARACTERS_MAX:
        raise typer.BadParameter(
            f"a reason has {REASON_CHARACTERS_MAX} characters at most", param_hint="--reason"
        )
    with connect(common, needs_control=True) as backend:
        recorded = backend.apply(
            environment,
            ref=ref,
            deployment=deployment,
            scope=scope_of(provision_only=provision_only, full=full),
            reason=reason,
            allow_hazards=allow_hazard or [],
            redeploy=redeploy_schema or [],
            keep_failed=no_rollback,
        )
        if recorded is None:
            if common.output == "json":
                common.screen.json(None)
            else:
                say_nothing(common.screen, environment, provision_only=provision_only)
            return ExitCode.OK
        return carried_out(common, backend, recorded, wait=wait or timeout is not None, timeout_s=timeout)


def say_nothing(screen: Screen, environment: str, *, provision_only: bool) -> None:
    """Say that nothing is to be done; where only resources were asked for, how the rest is rolled out."""
    mark = " (provision-only)" if provision_only else ""
    screen.line(f"{environment}{mark}: nothing to do")
    if provision_only:
        screen.note(
            f"resources are provisioned; roll out the rest with: reconciler apply {environment} --full"
        )


def carried_out(
    common: Common, backend: Backend, rollout: Json, *, wait: bool, timeout_s: float | None
) -> ExitCode:
    """See a rollout through where asked; without a daemon this process is its worker, so it always is."""
    screen, quiet = common.screen, common.output == "json"
    if not quiet:
        screen.line(
            f"rollout {rollout['id']} of {rollout['environment']} at {short(rollout['commit'])} recorded"
            f"{scope_mark(rollout)}"
        )
    if not (wait or backend.local):
        if quiet:
            screen.json(rollout)
        else:
            screen.note(f"follow it with: reconciler show {rollout['id']}")
        return ExitCode.OK
    return seen_through(common, backend, rollout, timeout_s=timeout_s)


def seen_through(
    common: Common,
    backend: Backend,
    rollout: Json,
    *,
    timeout_s: float | None,
    deployment: str | None = None,
    judge: Callable[[Json], ExitCode] | None = None,
) -> ExitCode:
    """Wait until a rollout, or one deployment of it, has settled, and say what came of it.

    `judge` says what came of what was asked, where that was not for all of it.
    """
    from reconciler.cli import waiting

    screen, quiet = common.screen, common.output == "json"
    last = waiting.wait(
        backend, screen, str(rollout["id"]), timeout_s=timeout_s, quiet=quiet, deployment=deployment
    )
    if quiet:
        # What it was last seen with may lack steps that were told before.
        last = backend.rollout(str(rollout["id"]))
    meant = waiting.part_of(last, deployment)
    if quiet:
        screen.json(last)
    else:
        _conclude(common, last, settled=waiting.settled(meant), local=backend.local)
    return (judge or waiting.code_of)(meant)


def _conclude(common: Common, rollout: Json, *, settled: bool, local: bool) -> None:
    screen = common.screen
    if not settled and local:
        # Nobody but this command worked on it, and what it was doing is not waited for.
        screen.line(f"rollout {rollout['id']} is not over, and this command no longer works on it")
        screen.note("where no daemon runs, run the command again to go on")
        screen.note(f"how it stands: reconciler show {rollout['id']}")
        return
    if not settled:
        screen.line(f"rollout {rollout['id']} is still {rollout['state']}")
        screen.note(f"follow it with: reconciler show {rollout['id']}")
        return
    style = "green" if rollout["state"] in {"completed", "revert_window"} else "red"
    screen.line(f"rollout {rollout['id']}: " + screen.styled(str(rollout["state"]), style))
    for operation in rollout["operations"]:
        if operation["state"] == "superseded" and operation["reason"]:
            screen.note(printable(f"{operation['deployment']}: {operation['reason']}"))
    for line in rollout.get("next") or ():
        screen.note(printable(line))
    if rollout["state"] not in {"completed", "superseded"}:
        screen.note(f"what happened, and what to do next: reconciler show {rollout['id']}")
