"""Edit a module on this machine: its plan file and its scripts, all or nothing as far as files allow."""

import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from reconciler.catalog.identifier import quote_identifier, why_not_a_name
from reconciler.changes import plan_file, plan_writer, scaffold, sqitch_config
from reconciler.changes.plan_model import Flavor, PlanFile
from reconciler.changes.plan_writer import NewChange, Planned
from reconciler.changes.sqitch_config import ScriptPlaces
from reconciler.cli import whole_files
from reconciler.errors import Conflict, InvalidInput, NotFound, PermanentError, Problem
from reconciler.frozen import frozen

GIT_WITHIN_S = 10
TEMPLATES = "templates"
TEMPLATES_MAX = 500
PLAN_FILES = ("sqitch.plan", "pgpm.plan", "sqitch.conf")
SCRIPT_MAX = 8 * 1024 * 1024


@frozen
class Folder:
    """A module on this machine; the paths of its places are relative to `root`."""

    root: Path
    places: ScriptPlaces
    plan: PlanFile

    def path(self, file: str) -> Path:
        """A file of the module; PermanentError for one outside of it."""
        found = self.root / file
        if not found.resolve().is_relative_to(self.root.resolve()):
            raise PermanentError(f"'{file}' lies outside of the module in '{self.root}'")
        return found


def open_folder(given: Path | None) -> Folder:
    """The module in a folder, else the nearest one around the working directory; raises NotFound."""
    root = given if given is not None else _around(Path.cwd())
    config = root / "sqitch.conf"
    settings = (
        sqitch_config.parse(_read(config, sqitch_config.CONFIG_MAX), str(config)) if config.is_file() else {}
    )
    places = sqitch_config.places("", settings)
    for file, flavor in ((places.plan_file, Flavor.SQITCH), ("pgpm.plan", Flavor.PGPM)):
        path = root / file
        if path.is_file():
            plan = plan_file.parse(_read(path, plan_file.PLAN_MAX), file, flavor=flavor)
            return Folder(root=root, places=places, plan=plan)
    raise NotFound(
        f"'{root}' is no change module: it has no plan file",
        hint="name the folder of one with --module; it has a sqitch.plan or a pgpm.plan",
    )


def planned(folder: Folder, note: str, planner: str | None) -> Planned:
    """Who plans it, and now."""
    return Planned(
        planner=planner or _identity(folder.root),
        planned_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        note=note,
    )


def new_change(name: str, dependencies: tuple[tuple[str, ...], tuple[str, ...]], about: Planned) -> NewChange:
    """A change to write, with what it requires and conflicts with."""
    requires, conflicts = dependencies
    return NewChange(name=name, planned=about, requires=requires, conflicts=conflicts)


def add_change(folder: Folder, new: NewChange, template: str, values: Mapping[str, str]) -> list[str]:
    """Append a change and make its scripts; Conflict where one of these is there already."""
    edited = plan_writer.add_change(folder.plan, new)
    made = scaffold.scripts(
        scaffold.Scaffold(
            project=folder.plan.project,
            change=new.name,
            flavor=folder.plan.flavor,
            requires=tuple(new.requires),
            conflicts=tuple(new.conflicts),
            values=values,
        ),
        template,
        _own_templates(folder.root / TEMPLATES),
        scaffold.Names(quote=quote_identifier, why_not=why_not_a_name),
    )
    change = edited.changes[-1]
    files = {folder.places.script(kind, change, new.name): text for kind, text in made.items()}
    _write(folder, files, edited)
    return [*files, folder.plan.file]


def rework(folder: Folder, new: NewChange) -> list[str]:
    """Append a change that comes again, and keep its scripts so far under the name of the older instance."""
    done = plan_writer.rework(folder.plan, new)
    copies = plan_writer.script_copies(done, folder.places)
    there = {copy.source: folder.path(copy.source) for copy in copies}
    texts = {source: _read(path, SCRIPT_MAX) for source, path in there.items() if path.is_file()}
    kept = {copy.target: texts[copy.source] for copy in copies[:-1] if copy.source in texts}
    _write(folder, kept, done.plan)
    back = copies[-1]
    if back.source in texts:
        # Reverting the new instance goes back to the older one.
        _replace(folder.path(back.target), texts[back.source])
        kept[back.target] = texts[back.source]
    return [*kept, folder.plan.file]


def tag(folder: Folder, name: str, about: Planned, change: str | None) -> list[str]:
    """Put a tag on a change of the plan."""
    _write(folder, {}, plan_writer.add_tag(folder.plan, name, about, change=change))
    return [folder.plan.file]


def _around(start: Path) -> Path:
    for folder in (start, *start.parents):
        if any((folder / name).is_file() for name in PLAN_FILES):
            return folder
    raise NotFound(
        f"'{start}' is in no change module", hint="go to the folder of one, or name it with --module"
    )


def _read(path: Path, most: int) -> str:
    """A text of a file with the ends of its lines as they are."""
    with path.open("rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise InvalidInput([Problem(message=f"has more than {most} bytes", file=str(path))])
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidInput([Problem(message="not UTF-8", file=str(path), line=line)]) from None


def _own_templates(folder: Path) -> dict[str, dict[str, str]]:
    """Templates of the module: `templates/<kind>/<name>.tmpl` or `.sql`."""
    found: dict[str, dict[str, str]] = {}
    for kind in scaffold.KINDS:
        for path in sorted((folder / kind).glob("*"))[:TEMPLATES_MAX]:
            if path.suffix in (".tmpl", ".sql") and path.is_file():
                found.setdefault(path.stem, {})[kind] = _read(path, scaffold.TEMPLATE_MAX)
    return found


def _write(folder: Folder, files: Mapping[str, str], plan: PlanFile) -> None:
    """Write new files, then the plan that names them; what was written is taken back where that fails."""
    paths = {folder.path(file): text for file, text in files.items()}
    there = [str(path) for path in paths if path.exists() or path.is_symlink()]
    if there:
        raise Conflict(
            f"nothing was written: there is already {', '.join(there)}",
            hint="move it away, or choose another name",
        )
    written: list[Path] = []
    try:
        for path, text in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8", newline="") as file:
                written.append(path)
                file.write(text)
        _replace(folder.path(plan.file), plan_file.render(plan))
    except BaseException:
        for path in written:
            with suppress(OSError):
                path.unlink()
        raise


def _replace(path: Path, text: str) -> None:
    whole_files.replace(path, text.encode())


def _identity(folder: Path) -> str:
    name, email = (_git_config(folder, f"user.{what}") for what in ("name", "email"))
    if not name or not email:
        raise PermanentError(
            "a plan file says who planned each line, and Git does not know who you are",
            hint="git config user.name and user.email, or give --planner 'Name <email>'",
        )
    return f"{name} <{email}>"


def _git_config(folder: Path, name: str) -> str:
    """A setting of the user's Git; empty where there is none, or no Git."""
    if shutil.which("git") is None:
        return ""
    try:
        done = subprocess.run(  # noqa: S603 - the arguments are ours
            ["git", "-C", str(folder), "config", "--get", name],  # noqa: S607 - the user's git
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=GIT_WITHIN_S,
        )
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip()
