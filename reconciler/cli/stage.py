"""`reconciler stage …`: look at the stages of a spec file and edit them; comments and layout stay."""

from pathlib import Path
from typing import Annotated, Any

import typer

from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.output import count, printable
from reconciler.frozen import frozen

Environment = Annotated[str, typer.Argument(metavar="ENV", help="The environment.")]
Stage = Annotated[str, typer.Argument(metavar="STAGE", help="The stage.")]
Components = Annotated[list[str], typer.Argument(metavar="COMPONENT…", help="Components of any kind.")]
Repository = Annotated[Path, typer.Option("--repo", metavar="DIR", help="Anywhere in the work tree.")]
Folder = Annotated[
    str, typer.Option("--path", metavar="FOLDER", help="Where the specs are, from the top of the source.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the difference and write nothing.")]
DoCommit = Annotated[bool, typer.Option("--commit", help="Commit the file, and nothing else.")]
Message = Annotated[
    str | None, typer.Option("--message", "-m", metavar="TEXT", help="Of the commit; else what was done.")
]
Description = Annotated[
    str | None, typer.Option("--description", metavar="TEXT", help="What it is for, for people.")
]
Before = Annotated[
    str | None, typer.Option("--before", metavar="STAGE", help="Put it right before this one.")
]
After = Annotated[str | None, typer.Option("--after", metavar="STAGE", help="Put it right after this one.")]


def add(app: typer.Typer) -> None:
    """Add the group."""
    group = typer.Typer(help="The stages of an environment, in its spec file.", no_args_is_help=True)
    register(group, "list")(list_)
    register(group, "create")(create)
    register(group, "edit")(edit)
    register(group, "move")(move)
    register(group, "delete")(delete)
    register(group, "skip")(skip)
    register(group, "unskip")(unskip)
    app.add_typer(group, name="stage")


def list_(
    common: Common, environment: Environment, *, repo: Repository = Path(), path: Folder = "environments"
) -> ExitCode:
    """Show the stages of a spec in run order, each with who is in it."""
    from reconciler.cli import spec_files
    from reconciler.spec.editing import listed, spec_of

    opened = spec_files.find(repo, path, environment)
    stages = listed(spec_of(opened.file, environment))
    if common.output == "json":
        rows = [
            {
                "number": number,
                "name": name,
                "description": description,
                "components": [
                    {"name": each.name, "kind": each.kind, "skipped": each.skip} for each in components
                ],
            }
            for number, (name, description, components) in enumerate(stages, start=1)
        ]
        common.screen.json({"environment": environment, "file": opened.file.name, "stages": rows})
        return ExitCode.OK
    rows_of = [
        [str(number), name, ", ".join(_shown(each) for each in components) or "-", description or ""]
        for number, (name, description, components) in enumerate(stages, start=1)
    ]
    common.screen.table(["#", "stage", "components", "description"], rows_of)
    return ExitCode.OK


def create(
    common: Common,
    environment: Environment,
    stage: Stage,
    *,
    description: Description = None,
    before: Before = None,
    after: After = None,
    repo: Repository = Path(),
    path: Folder = "environments",
    dry_run: DryRun = False,
    commit: DoCommit = False,
    message: Message = None,
) -> ExitCode:
    """Add a stage, behind the others unless a place is named."""
    from reconciler.spec.editing import CreateStage

    made = CreateStage(name=stage, description=description, place=_beside(before, after))
    how = How(repo=repo, path=path, dry_run=dry_run, commit=commit, message=message)
    return _edit(common, environment, made, how, f"create stage '{stage}'")


def edit(
    common: Common,
    environment: Environment,
    stage: Stage,
    *,
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Its new name.")] = None,
    description: Annotated[
        str | None, typer.Option("--description", metavar="TEXT", help="What it is for; empty: nothing.")
    ] = None,
    repo: Repository = Path(),
    path: Folder = "environments",
    dry_run: DryRun = False,
    commit: DoCommit = False,
    message: Message = None,
) -> ExitCode:
    """Give a stage another name or description; its components stay in it."""
    from reconciler.spec.editing import EditStage

    if name is None and description is None:
        raise typer.BadParameter("name what to edit: --name or --description")
    how = How(repo=repo, path=path, dry_run=dry_run, commit=commit, message=message)
    what = f"rename stage '{stage}' to '{name}'" if name is not None else f"describe stage '{stage}'"
    return _edit(
        common, environment, EditStage(name=stage, new_name=name, description=description), how, what
    )


def move(
    common: Common,
    environment: Environment,
    names: Annotated[
        list[str], typer.Argument(metavar="NAME…", help="Components with --to, else one stage.")
    ],
    *,
    to: Annotated[
        str | None, typer.Option("--to", metavar="STAGE", help="The stage that the components go to.")
    ] = None,
    before: Before = None,
    after: After = None,
    repo: Repository = Path(),
    path: Folder = "environments",
    dry_run: DryRun = False,
    commit: DoCommit = False,
    message: Message = None,
) -> ExitCode:
    """Put components into a stage (--to), or a stage beside another (--before, --after)."""
    from reconciler.spec.editing import Edit, EditStage, MoveComponents

    place = _beside(before, after)
    if (to is None) == (place is None):
        raise typer.BadParameter("say where to: --to for components, --before or --after for a stage")
    if place is not None and len(names) > 1:
        raise typer.BadParameter("move one stage at a time")
    made: Edit
    if to is not None:
        made = MoveComponents(names=tuple(names), stage=to)
        what = f"move {_named(names)} to stage '{to}'"
    else:
        made = EditStage(name=names[0], place=place)
        what = f"move stage '{names[0]}' {'before' if before else 'after'} '{before or after}'"
    how = How(repo=repo, path=path, dry_run=dry_run, commit=commit, message=message)
    return _edit(common, environment, made, how, what)


def delete(
    common: Common,
    environment: Environment,
    stage: Stage,
    *,
    repo: Repository = Path(),
    path: Folder = "environments",
    dry_run: DryRun = False,
    commit: DoCommit = False,
    message: Message = None,
) -> ExitCode:
    """Take out a stage that no component is in."""
    from reconciler.spec.editing import DeleteStage

    how = How(repo=repo, path=path, dry_run=dry_run, commit=commit, message=message)
    return _edit(common, environment, DeleteStage(name=stage), how, f"delete stage '{stage}'")


def skip(
    common: Common,
    environment: Environment,
    names: Components,
    *,
    repo: Repository = Path(),
    path: Folder = "environments",
    dry_run: DryRun = False,
    commit: DoCommit = False,
    message: Message = None,
) -> ExitCode:
    """Leave components out of plans and rollouts, until `unskip` or a move to another stage."""
    from reconciler.spec.editing import SkipComponents

    how = How(repo=repo, path=path, dry_run=dry_run, commit=commit, message=message)
    made = SkipComponents(names=tuple(names), skip=True)
    return _edit(common, environment, made, how, f"skip {_named(names)}")


def unskip(
    common: Common,
    environment: Environment,
    names: Components,
    *,
    repo: Repository = Path(),
    path: Folder = "environments",
    dry_run: DryRun = False,
    commit: DoCommit = False,
    message: Message = None,
) -> ExitCode:
    """Take components into plans and rollouts again."""
    from reconciler.spec.editing import SkipComponents

    how = How(repo=repo, path=path, dry_run=dry_run, commit=commit, message=message)
    made = SkipComponents(names=tuple(names), skip=False)
    return _edit(common, environment, made, how, f"no longer skip {_named(names)}")


def _shown(component: Any) -> str:
    return f"{component.name} (skipped)" if component.skip else str(component.name)


@frozen
class How:
    """Where the spec is, and what becomes of the edited file."""

    repo: Path
    path: str
    dry_run: bool
    commit: bool
    message: str | None


def _beside(before: str | None, after: str | None) -> Any:
    """The place that --before or --after names."""
    from reconciler.spec.editing import Beside

    if before is not None and after is not None:
        raise typer.BadParameter("name one place: --before or --after")
    stage = before if before is not None else after
    return Beside(stage=stage, after=before is None) if stage is not None else None


def _named(names: list[str]) -> str:
    listed = ", ".join(f"'{name}'" for name in names[:5])
    return listed if len(names) <= 5 else f"{listed} and {count(len(names) - 5, 'more component')}"


def _edit(common: Common, environment: str, edit: Any, how: How, what: str) -> ExitCode:
    """Edit the file, or show what would be edited."""
    from reconciler.cli import spec_files
    from reconciler.spec.editing import edited

    if how.message is not None and not how.commit:
        raise typer.BadParameter("--message is of a commit: add --commit")
    opened = spec_files.find(how.repo, how.path, environment)
    name, before = opened.file.name, opened.file.content
    after = edited(opened.file, environment, edit)
    written = after != before and not how.dry_run
    commit_id = _write(opened, after, how, _subject(what, environment)) if written else None
    lines = _difference(name, before, after)
    if common.output == "json":
        values = {"environment": environment, "file": name, "changed": after != before, "written": written}
        common.screen.json({**values, "commit": commit_id, "diff": "\n".join(lines)})
    elif written:
        common.screen.line(printable(f"wrote {name}: {what}"))
        if commit_id is not None:
            common.screen.line(f"committed as {commit_id[:12]}")
    else:
        for line in lines or [f"{name}: nothing to do"]:
            common.screen.line(printable(line))
    return ExitCode.OK


def _write(opened: Any, content: bytes, how: How, subject: str) -> str | None:
    """Write the file and commit it where that is asked for; what cannot be committed is not left behind."""
    from reconciler.cli import whole_files, work_tree

    if not how.commit:
        opened.write(content)
        return None
    work_tree.check_unchanged(opened.path)
    opened.write(content)
    try:
        return work_tree.commit(opened.path, how.message or subject)
    except BaseException:
        if opened.path.read_bytes() == content:
            whole_files.replace(opened.path, opened.file.content)
        raise


def _subject(what: str, environment: str) -> str:
    return f"{what[0].upper()}{what[1:]} of environment '{environment}'"


def _difference(name: str, before: bytes, after: bytes) -> list[str]:
    """What changed, as patches tell it."""
    import difflib

    old, new = (content.decode().splitlines() for content in (before, after))
    return list(difflib.unified_diff(old, new, f"a/{name}", f"b/{name}", lineterm=""))
