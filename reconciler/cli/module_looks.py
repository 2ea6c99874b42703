"""`reconciler module status|check|verify|log`: what is deployed of change modules; nothing is changed."""

from collections.abc import Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode, worst
from reconciler.cli.output import Screen, clock, count, printable, printable_lines
from reconciler.state.module_requests import LogRequest, VerifyRequest

Environment = Annotated[str, typer.Argument(metavar="ENV", help="The environment.")]
OneModule = Annotated[
    str | None,
    typer.Argument(
        metavar="MODULE", help="Only this module: its component, or its project.", show_default=False
    ),
]
Deployment = Annotated[str | None, typer.Option(help="Only this deployment.")]
Every = Annotated[
    bool, typer.Option("--all", help="All modules; so it is without MODULE, and here it is said.")
]
_Place = dict[str, Any]


class EventKind(StrEnum):
    """What was done with a change."""

    DEPLOY = "deploy"
    REVERT = "revert"
    FAIL = "fail"
    RENAME = "rename"


def add(group: typer.Typer) -> None:
    """Add the commands to the group `module`."""
    for function in (status, check, verify, log):
        register(group, function.__name__)(function)


def status(
    common: Common,
    environment: Environment,
    module: OneModule = None,
    deployment: Deployment = None,
    every: Every = False,
) -> ExitCode:
    """Show what is deployed, pending and diverged of every module; its exit code says which."""
    from reconciler.cli.client import look

    _one_or_all(module, every=every)
    with look(common) as backend:
        found = backend.module_status(environment, deployment=deployment, module=module)
    if common.output == "json":
        common.screen.json(found)
    else:
        _status(common.screen, found)
    return worst(_code(place, module) for place, module in _modules(found))


def check(
    common: Common,
    environment: Annotated[
        str | None, typer.Argument(metavar="ENV", help="The environment.", show_default=False)
    ] = None,
    module: OneModule = None,
    deployment: Deployment = None,
    every: Every = False,
    workspace: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="In place of ENV: the modules of a workspace, offline, in order."),
    ] = None,
    environments: Annotated[
        str,
        typer.Option(
            "--path", metavar="FOLDER", help="With --workspace: where specs are, from the top of the source."
        ),
    ] = "environments",
) -> ExitCode:
    """List all that differs between what is deployed and the plan files; exit with 4 where anything does."""
    from reconciler.cli import module_workspace
    from reconciler.cli.client import look

    if (environment is None) == (workspace is None):
        raise typer.BadParameter("either an environment or --workspace", param_hint="ENV")
    if workspace is not None:
        return module_workspace.check(common, workspace, environments)
    assert environment is not None
    _one_or_all(module, every=every)
    with look(common) as backend:
        found = backend.module_status(environment, deployment=deployment, module=module)
    answer = _checked(found)
    if common.output == "json":
        common.screen.json(answer)
    else:
        _check(common.screen, answer)
    if any(place["unavailable"] for place in answer["deployments"]):
        return ExitCode.ERROR
    return ExitCode.OK if answer["clean"] else ExitCode.DRIFT


def verify(
    common: Common,
    environment: Environment,
    module: OneModule = None,
    deployment: Deployment = None,
    first: Annotated[
        str | None, typer.Option("--from", metavar="SPEC", help="The first change to verify.")
    ] = None,
    last: Annotated[
        str | None, typer.Option("--to", metavar="SPEC", help="The last change to verify.")
    ] = None,
    every: Every = False,
) -> ExitCode:
    """Run the verify scripts of what is deployed; exit with 4 where any fails. Nothing is changed."""
    from reconciler.cli.client import look

    _one_or_all(module, every=every)
    request = VerifyRequest(module=module, first=first, last=last)
    with look(common) as backend:
        found = backend.module_verify(environment, request, deployment=deployment)
    if common.output == "json":
        common.screen.json(found)
    else:
        _verified(common.screen, found)
    modules = [module for place in found["deployments"] for module in place["modules"]]
    if any(place["unavailable"] for place in found["deployments"]) or any(
        module["unverified"] for module in modules
    ):
        return ExitCode.ERROR
    return ExitCode.DRIFT if any(module["failed"] for module in modules) else ExitCode.OK


def log(
    common: Common,
    environment: Environment,
    module: OneModule = None,
    deployment: Deployment = None,
    change: Annotated[str | None, typer.Option(help="Only this change.")] = None,
    kind: Annotated[EventKind | None, typer.Option(help="Only events of this kind.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Rows of each database at most.")] = 50,
) -> ExitCode:
    """Show what was done with changes and what failed, newest first."""
    from reconciler.cli.client import look

    request = LogRequest(
        module=module, change=change, kind=kind.value if kind is not None else None, limit=limit
    )
    with look(common) as backend:
        found = backend.module_log(environment, request, deployment=deployment)
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
    elif module or change or kind:
        common.screen.line(f"{environment}: nothing of that kind was done")
    else:
        common.screen.line(f"{environment}: nothing was deployed yet")
    return ExitCode.OK


def _one_or_all(module: str | None, *, every: bool) -> None:
    if every and module is not None:
        raise typer.BadParameter(f"either all modules or '{module}'", param_hint="--all")


def _modules(found: dict[str, Any]) -> Iterator[tuple[_Place, dict[str, Any] | None]]:
    """Every module with its deployment; a deployment that cannot be read counts, also without modules."""
    for place in found["deployments"]:
        if place["unavailable"]:
            yield place, None
        yield from ((place, module) for module in place["modules"])


def _code(place: _Place, module: dict[str, Any] | None) -> ExitCode:
    if place["unavailable"] or module is None or module["state"] in ("unknown", "blocked"):
        return ExitCode.FAILED
    codes = {"pending": ExitCode.PENDING, "diverged": ExitCode.DRIFT, "orphaned": ExitCode.DRIFT}
    return codes.get(module["state"], ExitCode.OK)


def _status(screen: Screen, found: dict[str, Any]) -> None:
    rows = [
        (
            place["name"],
            module["component"],
            module["project"],
            module["database"],
            module["state"],
            str(module["deployed"]),
            str(len(module["pending"])),
            module["last"] or "-",
            module["tag"] or "-",
            module["target"] or "-",
        )
        for place in found["deployments"]
        for module in place["modules"]
    ]
    head = (
        *("DEPLOYMENT", "MODULE", "PROJECT", "DATABASE", "STATE", "DEPLOYED", "PENDING"),
        *("LAST CHANGE", "LAST TAG", "TARGET"),
    )
    screen.table(head, rows)
    for place, module in _modules(found):
        if module is None:
            screen.line(printable(f"{place['name']} cannot be read: {place['unavailable']}"))
            continue
        about = f"{place['name']}: {module['component']}"
        if not module["deployed"] and not place["unavailable"]:
            screen.line(printable(f"{about}: nothing is deployed"))
        for identity in module["pending"]:
            screen.line(printable(f"{about}: pending {identity}"))
        for line in _diverged(module["diverged"]):
            screen.line(printable(f"{about}: {line}"))
        for why in module["blocked"]:
            screen.line(printable(f"{about}: blocked: {why}"))


def _diverged(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        policy = "allowed" if row["policy"] == "allow" else row["policy"]
        yield f"{row['identity']} {row['sort']} ({policy}): {row['detail']}"


def _checked(found: dict[str, Any]) -> dict[str, Any]:
    """What `check` tells: divergences alone; those that policy allows leave it clean."""
    deployments = [
        {
            "name": place["name"],
            "unavailable": place["unavailable"],
            "modules": [
                {key: module[key] for key in ("component", "project", "database", "deployed", "diverged")}
                for module in place["modules"]
            ],
        }
        for place in found["deployments"]
    ]
    clean = not any(
        row["policy"] != "allow"
        for place in deployments
        for module in place["modules"]
        for row in module["diverged"]
    )
    return {
        "environment": found["environment"],
        "commit": found["commit"],
        "clean": clean and not any(place["unavailable"] for place in deployments),
        "deployments": deployments,
    }


def _check(screen: Screen, answer: dict[str, Any]) -> None:
    told = 0
    for place in answer["deployments"]:
        if place["unavailable"]:
            screen.line(printable(f"{place['name']} cannot be read: {place['unavailable']}"))
        for module in place["modules"]:
            for line in _diverged(module["diverged"]):
                screen.line(printable(f"{place['name']}: {module['component']}: {line}"))
                told += 1
    if answer["clean"] and not told:
        screen.line("what is deployed is what the plan files say")
    elif told:
        screen.note(
            f"{count(told, 'divergence')}; the plan file, or `divergence` of the module, settles them"
        )


def _verified(screen: Screen, found: dict[str, Any]) -> None:
    for place in found["deployments"]:
        if place["unavailable"]:
            screen.line(printable(f"{place['name']} cannot be read: {place['unavailable']}"))
        for module in place["modules"]:
            about = f"{place['name']}: {module['component']}"
            for row in module["failed"]:
                where = f" at {row['file']}:{row['line']}" if row["line"] else f" in {row['file']}"
                state = f" [{row['sqlstate']}]" if row["sqlstate"] else ""
                screen.line(
                    printable_lines(f"{about}: {row['change']} failed{where}: {row['message']}{state}")
                )
            for row in module["unverified"]:
                screen.line(printable_lines(f"{about}: {row['change']} is not verified: {row['reason']}"))
            for name in module["without_script"]:
                screen.note(printable(f"{about}: {name} has no verify script"))
            failed = count(len(module["failed"]), "failure")
            screen.line(printable(f"{about}: {count(module['passed'], 'change')} verified, {failed}"))


def _cell(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    if value is None:
        return "-"
    return clock(str(value)) if key == "occurred_at" else str(value)
