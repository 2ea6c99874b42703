"""`reconciler outputs`: what the databases, services and jobs of an environment put out for others."""

import json
from datetime import UTC, datetime
from typing import Annotated

import typer

from reconciler.cli.backend import Json
from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.output import ago, printable

VALUE_CHARACTERS_MAX = 80
"""Of a value in the table; JSON has all of it."""


def add(app: typer.Typer) -> None:
    """Add the command."""
    register(app, "outputs")(outputs)


def outputs(
    common: Common,
    environment: Annotated[str, typer.Argument(metavar="ENV", help="The environment.")],
    deployment: Annotated[str | None, typer.Option(help="Only those of this deployment.")] = None,
) -> ExitCode:
    """List the outputs of an environment that are kept; values of sensitive ones are shown nowhere."""
    from reconciler.cli.client import connect

    with connect(common, needs_control=False) as backend:
        found = backend.outputs(environment, deployment=deployment)
    if common.output == "json":
        common.screen.json({"outputs": found})
    elif not found:
        common.screen.line(f"{printable(environment)}: no outputs are kept")
    else:
        now = datetime.now(UTC)
        rows = [
            (
                row["deployment"],
                f"{row['component']}.{row['name']}",
                shown_value(row),
                ago(row["made_at"], now),
            )
            for row in found
        ]
        common.screen.table(("DEPLOYMENT", "OUTPUT", "VALUE", "MADE"), rows)
    return ExitCode.OK


def shown_value(row: Json) -> str:
    """The value of an output in one cell."""
    if row["sensitive"]:
        return "(sensitive)"
    value = row["value"]
    text = printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= VALUE_CHARACTERS_MAX else f"{text[: VALUE_CHARACTERS_MAX - 1]}…"
