"""`reconciler history` and `events`: what happened, newest last where it is a story."""

import time
from typing import Annotated

import typer

from reconciler.cli.backend import Backend, Json
from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.output import clock, printable, short

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
        head = ("ROLLOUT", "RECORDED", "COMMIT", "STATE", "SCOPE", "BY", "REASON", "DEPLOYMENTS", "ENDED")
        common.screen.table(head, [_history_row(row) for row in rollouts])
    return ExitCode.OK


NAMED_MAX = 5
"""Deployments of a rollout that are named in a list; of more, the states are counted."""


def _history_row(rollout: Json) -> tuple[str, ...]:
    operations = rollout["operations"]
    where = ", ".join(f"{row['deployment']} {row['state']}" for row in operations)
    if len(operations) > NAMED_MAX:
        counts = rollout.get("counts") or {}
        where = ", ".join(f"{number} {state}" for state, number in sorted(counts.items()))
    return (
        str(rollout["id"]),
        clock(rollout["created_at"]),
        short(rollout["commit"]),
        rollout["state"],
        rollout["scope"],
        rollout["requested_by"],
        rollout["reason"],
        where,
        _ended(rollout),
    )


_NEWS = ("failed", "reverted", "cancelled", "superseded", "stopped")


def _ended(rollout: Json) -> str:
    """Why a rollout did not come to its end, the worst of its operations first; and what took its place."""
    told = next(
        (
            row["reason"]
            for state in _NEWS
            for row in rollout["operations"]
            if row["state"] == state and row["reason"]
        ),
        None,
    )
    first = told.splitlines()[0] if told else _stands(rollout)
    after = [number for number in rollout.get("replaced_by") or () if f"rollout {number} " not in first]
    return first + (f" (then rollout {', '.join(after)})" if after else "")


def _stands(rollout: Json) -> str:
    """What one that is not over waits for, where that may be for long."""
    for row in rollout["operations"]:
        if row.get("parked"):
            return f"waits for promotion since {clock(row['parked']['since'])}"
    until = [row["revert_until"] for row in rollout["operations"] if row.get("revert_until")]
    return f"may be taken back until {clock(min(until))}" if until else "-"


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
        _follow(common, backend, environment, rows, after or 0)
    return ExitCode.OK


def _follow(common: Common, backend: Backend, environment: str, rows: list[Json], after: int) -> None:
    """Look again and again; a daemon that restarts meanwhile is waited for.

    An event may become visible after one with a higher id, for a transaction takes a while. What was listed
    newest first is therefore read again, in order and without gaps, and told only if it was not.
    """
    from reconciler.errors import TemporaryError

    told = {int(row["id"]) for row in rows}
    after = max(after, min(told) - 1) if told else after
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
                after = int(row["id"])
                if after not in told:
                    _event(common, row)
                told.discard(after)
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
