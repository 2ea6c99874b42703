"""`reconciler module …`: the group of commands about change modules."""

import typer

from reconciler.cli import module_edit, module_looks, module_tasks, module_test


def add(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(
        help="Change modules: what is deployed, what was, whether it verifies.", no_args_is_help=True
    )
    module_looks.add(group)
    module_tasks.add(group)
    module_edit.add(group)
    module_test.add(group)
    app.add_typer(group, name="module")
