"""`reconciler diff`: the dry run."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli.backend import Json
from reconciler.cli.command import Common, DiffOutputOption, register, scope_of
from reconciler.cli.exit_codes import ExitCode, worst

SPEC_BYTES_MAX = 1024 * 1024


def add(app: typer.Typer) -> None:
    """Add the command."""
    register(app, "diff", output=DiffOutputOption)(diff)


def diff(  # noqa: PLR0917 - the options of the command
    common: Common,
    environment: Annotated[str, typer.Argument(metavar="ENV", help="The environment.")],
    ref: Annotated[
        str | None, typer.Option(help="Branch, tag or commit; else the head of the source.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A spec in place of the one in the commit; `-` reads it."),
    ] = None,
    deployment: Annotated[str | None, typer.Option(help="Only this deployment.")] = None,
    provision_only: Annotated[
        bool, typer.Option("--provision-only", help="Resources without what merely uses them.")
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Everything, also where the policy says provision-only.")
    ] = False,
    redeploy_schema: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SCHEMA", help="Build this schema of SQL objects anew in any case; may be repeated."
        ),
    ] = None,
    exit_code: Annotated[
        bool,
        typer.Option("--exit-code", help="Exit with 3 where changes are pending, 4 where there is drift."),
    ] = False,
) -> ExitCode:
    """Say what applying a commit would do; writes nothing anywhere."""
    from reconciler.cli.client import look

    scope = scope_of(provision_only=provision_only, full=full)
    spec = _read(file) if file is not None else None
    with look(common) as backend:
        plan = backend.diff(
            environment,
            ref=ref,
            deployment=deployment,
            scope=scope,
            spec=spec,
            redeploy=redeploy_schema or [],
        )
    match common.output:
        case "json":
            common.screen.json(plan)
        case "markdown":
            common.screen.text(_rendered(plan, markdown=True))
        case _:
            _print(common, _rendered(plan, markdown=False))
    return code_of(plan) if exit_code else ExitCode.OK


def _read(file: Path) -> bytes:
    """A spec from a file or standard input, one byte more than the most there may be at most."""
    if str(file) == "-":
        return sys.stdin.buffer.read(SPEC_BYTES_MAX + 1)
    with file.open("rb") as opened:
        return opened.read(SPEC_BYTES_MAX + 1)


def code_of(plan: Json) -> ExitCode:
    """What a dry run says as an exit code; what could not be read is an error, for nobody knows."""
    codes = []
    for deployment in plan["deployments"]:
        if deployment["unavailable"] is not None:
            codes.append(ExitCode.ERROR)
        if deployment["drift"]:
            codes.append(ExitCode.DRIFT)
    if not plan["in_sync"]:
        codes.append(ExitCode.PENDING)
    return worst(codes)


def show_text(common: Common, plan: Json) -> None:
    """Print a plan for people."""
    _print(common, _rendered(plan, markdown=False))


def _rendered(plan: Json, *, markdown: bool) -> str:
    from reconciler.plan.encode import deployment_from_json, left_from_json
    from reconciler.plan.model import Plan, Scope
    from reconciler.plan.render import to_markdown, to_text

    value = Plan(
        environment=plan["environment"],
        commit=plan["commit"],
        scope=Scope(plan["scope"]),
        digest=plan["digest"],
        deployments=tuple(deployment_from_json(deployment) for deployment in plan["deployments"]),
        left=tuple(left_from_json(row) for row in plan.get("left") or ()),
    )
    return to_markdown(value) if markdown else to_text(value)


def _print(common: Common, text: str) -> None:
    """Print a plan; on a terminal each line has the colour of what it tells."""
    screen = common.screen
    for line in text.splitlines():
        sign = line.lstrip()[:1]
        style = {"+": "green", "-": "red", "~": "yellow", "!": "yellow"}.get(sign)
        if line.startswith(("environment ", "deployment ")):
            style = "bold"
        screen.line(screen.styled(line, style) if style else line)
