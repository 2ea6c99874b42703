"""`reconciler module status` and `module log`: what is deployed of each change module."""

from typing import Annotated, Any

import typer

from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.output import Screen, clock, printable

Environment = Annotated[str, typer.Argument(metavar="ENV", help="The environment.")]
Deployment = Annotated[str | None, typer.Option(help="Only this deployment.")]


def add(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="Change modules: what is deployed, and what was.", no_args_is_help=True)
    register(group, "status")(status)
    register(group, "log")(log)
    app.add_typer(group, name="module")


def status(common: Common, environment: Environment, deployment: Deployment = None) -> ExitCode:
    """Show what is deployed, pending and diverged of every module."""
    from reconciler.cli.client import connect

    with connect(common, needs_control=False) as backend:
        found = backend.module_status(environment, deployment=deployment)
    if common.output == "json":
        common.screen.json(found)
    else:
        _status(common.screen, found)
    return ExitCode.OK


def _status(screen: Screen, found: dict[str, Any]) -> None:
    rows = [
        (
            place["name"],
            module["component"],
            module["project"],
            module["database"],
            str(module["deployed"]),
            str(len(module["pending"])),
            module["last"] or "-",
            module["tag"] or "-",
        )
        for place in found["deployments"]
        for module in place["modules"]
    ]
    head = ("DEPLOYMENT", "MODULE", "PROJECT", "DATABASE", "DEPLOYED", "PENDING", "LAST CHANGE", "LAST TAG")
    screen.table(head, rows)
    for place in found["deployments"]:
        if place["unavailable"]:
            screen.line(printable(f"{place['name']} cannot be read: {place['unavailable']}"))
        for module in place["modules"]:
            for identity in module["pending"]:
                screen.line(printable(f"{place['name']}: {module['component']}: pending {identity}"))
            for row in module["diverged"]:
                what = f"{row['identity']} {row['sort']}: {row['detail']}"
                screen.line(printable(f"{place['name']}: {module['component']}: {what}"))


def log(
    common: Common,
    environment: Environment,
    deployment: Deployment = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Rows of each database at most.")] = 50,
) -> ExitCode:
    """Show what was deployed and what failed, newest first."""
    from reconciler.cli.client import connect

    with connect(common, needs_control=False) as backend:
        found = backend.module_log(environment, deployment=deployment, limit=limit)
    if common.output == "json":
        common.screen.json(found)
        return ExitCode.OK
    rows = [
        (
            place["deployment"],
            place["database"],
            *(_cell(row, key) for key in ("occurred_at", "kind", "project", "name", "actor", "message")),
        )
        for place in found["databases"]
        for row in place["events"]
    ]
    if rows:
        head = ("DEPLOYMENT", "DATABASE", "AT", "EVENT", "PROJECT", "CHANGE", "BY", "MESSAGE")
        common.screen.table(head, rows)
    else:
        common.screen.line(f"{environment}: nothing was deployed yet")
    return ExitCode.OK


def _cell(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        return "-"
    return clock(str(value)) if key == "occurred_at" else str(value)
