"""`reconciler history`, `events` and `show`: what happened, newest last where it is a story."""

import time
from typing import Annotated

import typer

from reconciler.cli.backend import Backend, Json
from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.output import Screen, clock, printable, printable_lines, short

PAGE = 500
LOOK_EVERY_S = 0.5
AWAY_MAX_S = 120.0
"""How long `--follow` outlives a daemon that is away."""

Environment = Annotated[str, typer.Argument(metavar="ENV", help="The environment.")]
Limit = Annotated[int, typer.Option(min=1, max=500, help="Rows at most.")]


def add(app: typer.Typer) -> None:
    """Add the commands."""
    register(app, "history")(history)
    register(app, "events")(events)
    register(app, "show")(show)


def history(common: Common, environment: Environment, limit: Limit = 20) -> ExitCode:
    """List the latest rollouts, newest first."""
    from reconciler.cli.client import connect

    with connect(common, needs_control=False) as backend:
        rollouts = backend.rollouts(environment, limit=limit)
    if common.output == "json":
        common.screen.json({"rollouts": rollouts})
    elif not rollouts:
        common.screen.line(f"{environment}: no rollouts yet")
    else:
        head = ("ROLLOUT", "RECORDED", "COMMIT", "STATE", "SCOPE", "BY", "REASON", "DEPLOYMENTS")
        common.screen.table(head, [_history_row(row) for row in rollouts])
    return ExitCode.OK


def _history_row(rollout: Json) -> tuple[str, ...]:
    where = ", ".join(f"{row['deployment']} {row['state']}" for row in rollout["operations"])
    return (
        str(rollout["id"]),
        clock(rollout["created_at"]),
        short(rollout["commit"]),
        rollout["state"],
        rollout["scope"],
        rollout["requested_by"],
        rollout["reason"],
        where,
    )


def events(
    common: Common,
    environment: Environment,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on as they happen; end with Ctrl-C.")
    ] = False,
    after: Annotated[
        int | None, typer.Option(min=0, metavar="ID", help="Only events after this one.")
    ] = None,
    limit: Limit = 50,
) -> ExitCode:
    """List the latest events, newest last."""
    from reconciler.cli.client import connect

    with connect(common, needs_control=False) as backend:
        backend.environment(environment)
        rows = backend.events(environment, after=after, limit=limit)
        if common.output == "json" and not follow:
            common.screen.json({"events": rows})
            return ExitCode.OK
        for row in rows:
            _event(common, row)
        if not follow:
            if not rows:
                common.screen.line(f"{environment}: no events yet")
            return ExitCode.OK
        _follow(common, backend, environment, int(rows[-1]["id"]) if rows else after or 0)
    return ExitCode.OK


def _follow(common: Common, backend: Backend, environment: str, after: int) -> None:
    """Look again and again; a daemon that restarts meanwhile is waited for."""
    from reconciler.errors import TemporaryError

    seen_at = time.monotonic()
    try:
        while True:
            try:
                page = backend.events(environment, after=after, limit=PAGE)
            except TemporaryError:
                if time.monotonic() - seen_at > AWAY_MAX_S:
                    raise
                page = []
            else:
                seen_at = time.monotonic()
            for row in page:
                _event(common, row)
                after = int(row["id"])
            if len(page) < PAGE:
                time.sleep(LOOK_EVERY_S)
    except KeyboardInterrupt:
        return


def _event(common: Common, row: Json) -> None:
    if common.output == "json":
        import json

        common.screen.line(json.dumps(row, ensure_ascii=False))
        return
    where = f" {row['deployment']}" if row["deployment"] else ""
    about = f" (rollout {row['rollout']})" if row["rollout"] else ""
    common.screen.line(printable(f"{clock(row['at'])}  {row['kind']:<24}{where}  {row['message']}{about}"))


def show(
    common: Common,
    rollout: Annotated[str, typer.Argument(metavar="ROLLOUT", help="The rollout; `history` lists them.")],
) -> ExitCode:
    """Show one rollout with its operations, their steps, and what went wrong where."""
    from reconciler.cli.client import connect

    with connect(common, needs_control=False) as backend:
        found = backend.rollout(rollout)
    if common.output == "json":
        common.screen.json(found)
    else:
        _show(common.screen, found)
    return ExitCode.OK


def _show(screen: Screen, rollout: Json) -> None:
    title = f"rollout {rollout['id']} of {rollout['environment']} at {rollout['commit']}: "
    screen.line(screen.styled(printable(title), "bold") + printable(rollout["state"]))
    screen.line(f"  recorded {clock(rollout['created_at'])} by {printable(rollout['requested_by'])}")
    screen.line(f"  reason   {printable(rollout['reason'])}")
    screen.line(f"  scope    {rollout['scope']}")
    if rollout["finished_at"]:
        screen.line(f"  finished {clock(rollout['finished_at'])}")
    for operation in rollout["operations"]:
        screen.line()
        _operation(screen, operation)


def _operation(screen: Screen, operation: Json) -> None:
    from reconciler.cli.waiting import duration

    attempts = f", attempt {operation['attempts']}" if operation["attempts"] > 1 else ""
    screen.line(printable(f"{operation['deployment']}: {operation['state']}{attempts}"))
    error = operation["error"] or {}
    if operation["reason"] and operation["reason"] != error.get("why"):
        _block(screen, "reason", operation["reason"])
    if operation["next_attempt_at"]:
        screen.line(f"  next attempt {clock(operation['next_attempt_at'])}")
    for part in ("what", "where", "why", "sqlstate", "next"):
        if error.get(part):
            _block(screen, part, str(error[part]))
    rows = [
        (step["stage"], step["kind"], step["component"], step["identity"], step["state"], duration(step))
        for step in operation["steps"]
    ]
    if rows:
        screen.table(("STAGE", "STEP", "COMPONENT", "WHAT", "STATE", "TOOK"), rows, indent="  ")
    for step in operation["steps"]:
        if step.get("said"):
            _block(screen, f"{step['identity']} said", step["said"])
        if step["reason"] and not _is_told(step["reason"], operation):
            _block(screen, f"{step['identity']}: {step['state']}", step["reason"])


def _is_told(reason: str, operation: Json) -> bool:
    """Whether the operation itself gives the reason of a step already."""
    error = operation["error"] or {}
    return any(told and reason.startswith(told) for told in (operation["reason"], error.get("why")))


def _block(screen: Screen, name: str, text: str) -> None:
    """A name and a text that may have several lines, such as a server's message: all of it."""
    first, *rest = printable_lines(text).splitlines() or [""]
    screen.line(f"  {printable(name)}: {first}")
    for line in rest:
        screen.line(f"    {line}")
