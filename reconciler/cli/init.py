"""`reconciler init`: write a config repository that works at once."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Annotated

import typer

from reconciler.cli.command import Common, register
from reconciler.cli.exit_codes import ExitCode
from reconciler.cli.output import Screen
from reconciler.errors import PermanentError, Refused

GIT_WITHIN_S = 30
SCHEMA_FILE = "schemas/environment.schema.json"

README = """\
# Shop environments

Environment specs and change modules; a reconciler applies every commit of `main`.

    environments/production.yaml    the environment: deployments, databases, modules
    modules/shop/                   the change module: plan file, deploy/ verify/ revert/
    reconciler.yaml                 settings of a daemon that watches this repository

Check a change before committing it, see what a branch would do, and run the daemon:

    reconciler validate
    reconciler diff production --ref BRANCH
    SHOP_DSN=postgresql://USER:PASSWORD@HOST:5432/postgres reconciler run

To add a change, `reconciler module add NAME --module modules/shop`, write its scripts, and commit.
"""

SETTINGS = """\
# Settings of the daemon; `reconciler schema settings` prints their JSON Schema.
# The control database is left out: an embedded PostgreSQL below state_dir holds it.
state_dir: .reconciler
listen: 127.0.0.1:8080
sources:
  - name: shop
    url: .
    branch: main
    path: environments
    interval: 60s
"""


def add(app: typer.Typer) -> None:
    """Add the command."""
    register(app, "init")(init)


def init(
    common: Common,
    directory: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where; made if it is not there.")
    ] = Path(),
    force: Annotated[
        bool,
        typer.Option("--force", help="Also where the folder is not empty; no file of yours is overwritten."),
    ] = False,
) -> ExitCode:
    """Write a config repository that works at once."""
    if directory.exists() and not directory.is_dir():
        raise Refused(f"'{directory}' is not a folder")
    if directory.exists() and any(directory.iterdir()) and not force:
        raise Refused(f"'{directory}' is not empty", hint="name a new folder, or use --force")
    written = _write(directory)
    committed = _commit(directory)
    if common.output == "json":
        value = {"directory": str(directory), "written": written, "committed": committed}
        common.screen.json(value)
    else:
        _tell(common.screen, directory, written, committed=committed)
    return ExitCode.OK


def files() -> dict[str, str]:
    """The files of a fresh config repository, by path."""
    import json

    from reconciler.cli.demo_files import FIRST_COMMIT
    from reconciler.cli.schema import Kind, of

    schema = json.dumps(of(Kind.ENVIRONMENT), indent=2) + "\n"
    return {
        **FIRST_COMMIT,
        SCHEMA_FILE: schema,
        "README.md": README,
        "reconciler.yaml": SETTINGS,
        ".gitignore": ".reconciler/\n",
    }


def _write(directory: Path) -> list[str]:
    """Write what is not there yet; a file that somebody made is left as it is."""
    written = []
    for name, text in files().items():
        path = directory / name
        if path.exists() or path.is_symlink():
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        written.append(name)
    return written


def _commit(directory: Path) -> bool:
    """Make a Git repository with a first commit, where git is there and no repository is."""
    if shutil.which("git") is None or (directory / ".git").exists():
        return False
    _git(directory, "init", "--quiet", "--initial-branch=main")
    _git(directory, "add", "--all")
    identity = []
    if _git(directory, "config", "user.email", check=False) != 0:
        identity = ["-c", "user.name=reconciler init", "-c", "user.email=reconciler@localhost"]
    message = "Declare the production environment"
    _git(directory, *identity, "-c", "commit.gpgsign=false", "commit", "--quiet", "--message", message)
    return True


def _git(directory: Path, *arguments: str, check: bool = True) -> int:
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    try:
        done = subprocess.run(  # noqa: S603 - the arguments are ours
            ["git", "-C", str(directory), *arguments],  # noqa: S607 - the user's git
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=GIT_WITHIN_S,
        )
    except subprocess.TimeoutExpired:
        raise PermanentError(
            f"git {arguments[0]} in '{directory}' took longer than {GIT_WITHIN_S} s"
        ) from None
    if check and done.returncode != 0:
        raise PermanentError(f"git {arguments[0]} in '{directory}' failed: {done.stderr.strip()}")
    return done.returncode


def _tell(screen: Screen, directory: Path, written: list[str], *, committed: bool) -> None:
    for name in written:
        screen.line(f"wrote {directory / name}")
    if committed:
        screen.line("committed to branch main")
    screen.note("")
    screen.note("next:")
    if directory != Path():
        screen.note(f"  cd {directory}")
    if not committed and not (directory / ".git").exists():
        screen.note("  git init --initial-branch=main && git add --all && git commit")
    screen.note("  export SHOP_DSN=postgresql://USER:PASSWORD@HOST:5432/postgres")
    screen.note("  reconciler run")
