"""`reconciler module deploy`, `module revert` and `module adopt`: one rollout of modules alone, by hand."""

from typing import Annotated

import typer

from reconciler.cli.backend import Json
from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode
from reconciler.state.registry import RegistryKind

CONSENT_TO_REVERT = ("REVERTS_CHANGE", "DELETES_DATA", "REWRITES_TABLE")
CONSENT_TO_RECORD = ("RECORDS_UNSEEN",)

Environment = Annotated[str, typer.Argument(metavar="ENV", help="The environment.")]
Deployment = Annotated[str | None, typer.Option(help="Only this deployment.")]
Reason = Annotated[str, typer.Option(help="Why, for the audit.")]
Allowed = Annotated[
    list[str] | None,
    typer.Option("--allow-hazard", metavar="CODE", help="Consent to a hazard; may be repeated."),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show the plan, and do nothing.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until the operations have settled.")]
Timeout = Annotated[
    float | None,
    typer.Option(min=0.0, metavar="SECONDS", help="Wait no longer than this; implies --wait."),
]


def add(group: typer.Typer) -> None:
    """Add the commands to the group of modules."""
    register(group, "deploy")(deploy)
    register(group, "revert")(revert)
    register(group, "adopt")(adopt)


def deploy(  # noqa: PLR0917 - the options of the command
    common: Common,
    environment: Environment,
    module: Annotated[
        str | None, typer.Argument(metavar="[MODULE]", help="Its component or project; else all modules.")
    ] = None,
    to: Annotated[
        str | None, typer.Option(metavar="CHANGE", help="Change or tag; else as far as the spec says.")
    ] = None,
    log_only: Annotated[
        bool, typer.Option("--log-only", help="Record the changes as deployed, and run nothing.")
    ] = False,
    every: Annotated[
        bool,
        typer.Option("--all", help="All modules, each after those it requires; so it is without MODULE."),
    ] = False,
    createdb: Annotated[
        bool, typer.Option("--createdb", help="Make the databases of the modules that are not there.")
    ] = False,
    deployment: Deployment = None,
    reason: Reason = "",
    allow_hazard: Allowed = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="With --log-only: consent to that.")] = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    timeout: Timeout = None,
) -> ExitCode:
    """Deploy a module to a change or tag, or all modules, and nothing else of the environment."""
    if to is not None and module is None:
        raise typer.BadParameter("a target is one module's: name it", param_hint="--to")
    if every and module is not None:
        raise typer.BadParameter(f"either all modules or '{module}'", param_hint="--all")
    consent = [*(allow_hazard or []), *(CONSENT_TO_RECORD if yes and log_only else ())]
    asked: Json = {
        "deployment": deployment,
        "reason": reason,
        "allow_hazards": consent,
        "log_only": log_only,
        "createdb": createdb,
    }
    if module is not None:
        asked["to"] = to
    return _carry_out(common, (environment, module, "deploy"), asked, dry_run, (wait, timeout))


def revert(  # noqa: PLR0917 - the options of the command
    common: Common,
    environment: Environment,
    module: Annotated[str, typer.Argument(metavar="MODULE", help="Its component or project.")],
    to: Annotated[
        str | None, typer.Option(metavar="CHANGE", help="Change or tag that stays, with all before it.")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Take back everything.")] = False,
    with_dependents: Annotated[
        bool, typer.Option("--with-dependents", help="Take back first what requires it in other modules.")
    ] = False,
    deployment: Deployment = None,
    reason: Reason = "",
    allow_hazard: Allowed = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Consent to reverting, and to what the scripts delete.")
    ] = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    timeout: Timeout = None,
) -> ExitCode:
    """Take deployed changes back, the newest first; without --to or --all, the last change."""
    if everything and to is not None:
        raise typer.BadParameter("either everything goes, or --to says what stays", param_hint="--all")
    asked = {
        "deployment": deployment,
        "reason": reason,
        "allow_hazards": [*(allow_hazard or []), *(CONSENT_TO_REVERT if yes else ())],
        "to": to,
        "all": everything,
        "with_dependents": with_dependents,
    }
    return _carry_out(common, (environment, module, "revert"), asked, dry_run, (wait, timeout))


def adopt(  # noqa: PLR0917 - the options of the command
    common: Common,
    environment: Environment,
    source: Annotated[RegistryKind, typer.Option("--from", help="Whose registry says what is deployed.")],
    module: Annotated[
        str | None, typer.Argument(metavar="[MODULE]", help="Its component or project; else all modules.")
    ] = None,
    registry: Annotated[
        str | None, typer.Option(metavar="SCHEMA", help="Schema of the registry; else the usual one.")
    ] = None,
    deployment: Deployment = None,
    reason: Reason = "",
    allow_hazard: Allowed = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Consent to recording what was not run.")] = False,
    dry_run: DryRun = False,
    wait: Wait = False,
    timeout: Timeout = None,
) -> ExitCode:
    """Record as deployed what Sqitch or pgpm has deployed; nothing is run, and their registry stays."""
    asked: Json = {
        "deployment": deployment,
        "reason": reason,
        "allow_hazards": [*(allow_hazard or []), *(CONSENT_TO_RECORD if yes else ())],
        "adopt_from": source.value,
        "registry": registry,
    }
    return _carry_out(common, (environment, module, "adopt"), asked, dry_run, (wait, timeout))


def _carry_out(
    common: Common,
    what: tuple[str, str | None, str],
    asked: Json,
    dry_run: bool,
    waiting: tuple[bool, float | None],
) -> ExitCode:
    from reconciler.cli.apply import REASON_CHARACTERS_MAX, carried_out
    from reconciler.cli.client import connect

    if len(asked["reason"]) > REASON_CHARACTERS_MAX:
        raise typer.BadParameter(
            f"a reason has {REASON_CHARACTERS_MAX} characters at most", param_hint="--reason"
        )
    environment, module, verb = what
    wait, timeout = waiting
    with connect(common, needs_control=not dry_run) as backend:
        if dry_run:
            return _show(common, backend.module_plan(environment, module, verb, asked))
        recorded = backend.module_run(environment, module, verb, asked)
        if recorded is None:
            if common.output == "json":
                common.screen.json(None)
            else:
                common.screen.line(f"{environment}: nothing to do")
            return ExitCode.OK
        return carried_out(common, backend, recorded, wait=wait or timeout is not None, timeout_s=timeout)


def _show(common: Common, plan: Json) -> ExitCode:
    if common.output == "json":
        common.screen.json(plan)
    else:
        from reconciler.cli.diff import show_text

        show_text(common, plan)
    return code_of(plan)


def code_of(plan: Json) -> ExitCode:
    """A dry run as an exit code: what could not be read is an error, what is blocked would not be done."""
    places = plan["deployments"]
    if any(place["unavailable"] is not None for place in places):
        return ExitCode.ERROR
    return ExitCode.FAILED if any(place["blocked"] for place in places) else ExitCode.OK
