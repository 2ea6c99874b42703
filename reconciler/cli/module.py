"""`reconciler module …`: the group of commands about change modules, each imported where it is asked for."""

from collections.abc import Mapping
from importlib import import_module

import typer

PARTS: Mapping[str, tuple[str, ...]] = {
    "module_looks": ("status", "check", "verify", "log"),
    "module_tasks": ("deploy", "revert", "adopt"),
    "module_edit": ("add", "rework", "tag"),
    "module_test": ("test",),
}
"""The modules of the commands, in the order of the help, and which commands each adds."""


def add(app: typer.Typer, command: str | None = None) -> None:
    """Add the group: all of it, or what the part with `command` adds where it is the name of one."""
    group = typer.Typer(
        help="Change modules: what is deployed, what was, whether it verifies.", no_args_is_help=True
    )
    named = [part for part, names in PARTS.items() if command in names]
    for part in named or PARTS:
        import_module(f"reconciler.cli.{part}").add(group)
    app.add_typer(group, name="module")
