"""`reconciler suspend`, `resume`, `reconcile`, `retry` and `cancel`: what operators ask."""

import time
from typing import Annotated

import typer

from reconciler.cli.backend import Backend, Json
from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode

PASS_WITHIN_S = 60.0
"""How long the pass after a retry is waited for."""
LOOK_EVERY_S = 0.2

Environment = Annotated[str, typer.Argument(metavar="ENV", help="The environment.")]
Rollout = Annotated[str, typer.Argument(metavar="ROLLOUT", help="The rollout; `history` lists them.")]
Deployment = Annotated[str | None, typer.Option(help="Only this deployment.")]


def add(app: typer.Typer) -> None:
    """Add the commands."""
    register(app, "suspend")(suspend)
    register(app, "resume")(resume)
    register(app, "reconcile")(reconcile)
    register(app, "retry")(retry)
    register(app, "cancel")(cancel)


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


def retry(
    common: Common,
    rollout: Rollout,
    deployment: Deployment = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until the operations have settled.")] = False,
    timeout: Annotated[
        float | None,
        typer.Option(min=0.0, metavar="SECONDS", help="Wait no longer than this; implies --wait."),
    ] = None,
) -> ExitCode:
    """Try a failed rollout again, from the step it failed at."""
    from reconciler.cli.apply import carried_out
    from reconciler.cli.client import connect

    with connect(common, needs_control=True) as backend:
        before = backend.rollout(rollout)
        asked = backend.request(rollout, "retry", deployment=deployment)
        waits = wait or timeout is not None
        if asked["state"] == "failed" or not (waits or backend.local):
            return _told(common, asked)
        again: Json | None = before
        if before["finished_at"] is not None:
            # One that has ended stays as it ended; trying again is a rollout of its own.
            again = _next_rollout(backend, before, deployment, timeout_s=timeout)
        if again is None:
            return _told(common, asked)
        return carried_out(common, backend, again, wait=waits, timeout_s=timeout)


def _next_rollout(
    backend: Backend, before: Json, deployment: str | None, *, timeout_s: float | None
) -> Json | None:
    """The rollout that tries again: the daemon's next pass records it; without a daemon we do."""
    environment = str(before["environment"])
    if backend.local:
        return backend.apply(
            environment,
            ref=before["commit"],
            deployment=deployment,
            scope=before["scope"],
            reason=f"retry of rollout {before['id']}",
            allow_hazards=[],
        )
    ends = time.monotonic() + min(timeout_s if timeout_s is not None else PASS_WITHIN_S, PASS_WITHIN_S)
    while time.monotonic() < ends:
        newest = backend.rollouts(environment, limit=1)
        if newest and newest[0]["id"] != before["id"]:
            return newest[0]
        time.sleep(LOOK_EVERY_S)
    return None


def cancel(common: Common, rollout: Rollout, deployment: Deployment = None) -> ExitCode:
    """Give a rollout up at the next safe point; what is applied stays."""
    from reconciler.cli.client import connect

    with connect(common, needs_control=True) as backend:
        return _told(common, backend.request(rollout, "cancel", deployment=deployment))


def _told(common: Common, asked: dict[str, str | None]) -> ExitCode:
    """Say what came of a request."""
    if common.output == "json":
        common.screen.json(asked)
    elif asked["state"] == "failed":
        common.screen.error(f"{asked['verb']}: {asked['reason']}")
    elif asked["state"] == "completed":
        common.screen.line(f"{asked['verb']}: {asked['reason'] or 'done'}")
    else:
        common.screen.line(f"{asked['verb']}: recorded; it is carried out at the next safe point")
    return ExitCode.ERROR if asked["state"] == "failed" else ExitCode.OK
