"""`reconciler jobs`: the jobs of an environment, what came of their last runs, and when they run next."""

from datetime import UTC, datetime
from typing import Annotated

import typer

from reconciler.cli.backend import Json
from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.output import ago, clock, count, printable


def add(app: typer.Typer) -> None:
    """Add the command."""
    register(app, "jobs")(jobs)


def jobs(
    common: Common, environment: Annotated[str, typer.Argument(metavar="ENV", help="The environment.")]
) -> ExitCode:
    """List the jobs of an environment that ran or have a schedule."""
    from reconciler.cli.client import connect

    with connect(common, needs_control=False) as backend:
        found = backend.jobs(environment)
    if common.output == "json":
        common.screen.json({"jobs": found})
        return ExitCode.OK
    if not found:
        common.screen.line(f"{printable(environment)}: no job ran, and none has a schedule")
        return ExitCode.OK
    now = datetime.now(UTC)
    rows = [
        (
            row["component"],
            row["deployment"],
            shown_run(row),
            ago(row["ended_at"] or row["began_at"], now) if row["began_at"] else "-",
            row["schedule"] or "-",
            clock(row["next_at"]) if row["next_at"] else "-",
        )
        for row in found
    ]
    common.screen.table(("JOB", "DEPLOYMENT", "LAST RUN", "SINCE", "SCHEDULE", "NEXT"), rows)
    for row in found:
        if row["error"]:
            told = f"job '{row['component']}' on '{row['deployment']}': {row['error']}"
            common.screen.line(printable(told))
    return ExitCode.OK


def shown_run(row: Json) -> str:
    """What came of the last run, and what it was for."""
    if row["began_at"] is None:
        return "never ran"
    state = "runs" if row["ended_at"] is None else "failed" if row["error"] else "done"
    again = f", {count(row['failures'], 'time')} in a row" if row["error"] and row["failures"] > 1 else ""
    return f"{state} ({row['trigger']}){again}"
