"""`reconciler module add|rework|tag`: edit a module's plan file and make scripts; offline, no database."""

from pathlib import Path
from typing import Annotated, Any

import typer

from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.output import printable
from reconciler.errors import InvalidInput, Problem

Module = Annotated[
    Path | None,
    typer.Option(
        "--module", metavar="PATH", help="The module's folder; else the one that this folder is in."
    ),
]
Note = Annotated[str, typer.Option(help="What it is for.")]
Requires = Annotated[
    list[str] | None, typer.Option(metavar="CHANGE", help="A change it requires; may be repeated.")
]
Conflicts = Annotated[
    list[str] | None, typer.Option(metavar="CHANGE", help="A change it conflicts with; may be repeated.")
]
Planner = Annotated[
    str | None, typer.Option(metavar="'NAME <EMAIL>'", help="Who plans it; else who Git says you are.")
]


def add(group: typer.Typer) -> None:
    """Add the commands to the group `module`."""
    register(group, "add")(add_change)
    register(group, "rework")(rework)
    register(group, "tag")(tag)


def add_change(
    common: Common,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new change.")],
    *,
    module: Module = None,
    requires: Requires = None,
    conflicts: Conflicts = None,
    note: Note = "",
    template: Annotated[str, typer.Option(help="What its scripts are made from.")] = "change",
    set_: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A value for the template.")
    ] = None,
    planner: Planner = None,
) -> ExitCode:
    """Append a change to the plan file and make its scripts; what is there already is never overwritten."""
    from reconciler.cli import authoring

    folder = authoring.open_folder(module)
    new = authoring.new_change(
        name, (tuple(requires or ()), tuple(conflicts or ())), authoring.planned(folder, note, planner)
    )
    written = authoring.add_change(folder, new, template, _values(set_ or []))
    return _tell(common, folder.root, {"change": name, "written": written})


def rework(
    common: Common,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The change that comes again.")],
    *,
    module: Module = None,
    requires: Requires = None,
    conflicts: Conflicts = None,
    note: Note = "",
    planner: Planner = None,
) -> ExitCode:
    """Append a change that is in the plan already; its scripts so far are kept under the tag between."""
    from reconciler.cli import authoring

    folder = authoring.open_folder(module)
    new = authoring.new_change(
        name, (tuple(requires or ()), tuple(conflicts or ())), authoring.planned(folder, note, planner)
    )
    return _tell(common, folder.root, {"change": name, "written": authoring.rework(folder, new)})


def tag(
    common: Common,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The new tag, with or without its @.")],
    *,
    module: Module = None,
    change: Annotated[
        str | None, typer.Option(metavar="SPEC", help="The change it stands on; else the last one.")
    ] = None,
    note: Note = "",
    planner: Planner = None,
) -> ExitCode:
    """Put a tag on a change of the plan file."""
    from reconciler.cli import authoring

    folder = authoring.open_folder(module)
    written = authoring.tag(folder, name, authoring.planned(folder, note, planner), change)
    return _tell(common, folder.root, {"tag": name.removeprefix("@"), "written": written})


def _values(given: list[str]) -> dict[str, str]:
    found = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name.strip():
            raise InvalidInput([Problem(message=f"'{each}' gives no value", hint="write --set NAME=VALUE")])
        found[name.strip()] = value
    return found


def _tell(common: Common, root: Path, done: dict[str, Any]) -> ExitCode:
    if common.output == "json":
        common.screen.json({"module": str(root), **done})
    else:
        for file in done["written"]:
            common.screen.line(printable(f"wrote {root / file}"))
    return ExitCode.OK
