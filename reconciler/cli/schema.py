"""`reconciler schema`: print a JSON Schema, for editors and for checks of one's own."""

from enum import StrEnum
from typing import Annotated, Any

import typer

from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode


class Kind(StrEnum):
    """Documents that have a schema."""

    ENVIRONMENT = "environment"
    SETTINGS = "settings"


def add(app: typer.Typer) -> None:
    """Add the command."""
    register(app, "schema")(schema)


def schema(
    common: Common,
    kind: Annotated[Kind, typer.Argument(help="Of which document.")] = Kind.ENVIRONMENT,
) -> ExitCode:
    """Print the JSON Schema of environment specs, or of the settings."""
    common.screen.json(of(kind))
    return ExitCode.OK


def of(kind: Kind) -> dict[str, Any]:
    """The schema of a document: the one that stands in `schemas/`."""
    from reconciler.spec import json_schema

    return json_schema.schema(kind.value)
