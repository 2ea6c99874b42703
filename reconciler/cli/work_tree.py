"""Commit one file of a work tree with the user's own Git, hooks and identity included; nothing else of it."""

import os
import shutil
import subprocess
from pathlib import Path

from reconciler.errors import Conflict, PermanentError, Refused

GIT_WITHIN_S = 30
COMMIT_WITHIN_S = 300
"""Hooks of the user may take a while."""


def check_unchanged(path: Path) -> None:
    """Raise Conflict where a file has changes that are not committed: they would go into the commit too."""
    if shutil.which("git") is None:
        raise Refused("git is not installed, and --commit needs it", hint="leave --commit out")
    done = _git(path.parent, "status", "--porcelain=v1", "--ignored", "--", path.name, within_s=GIT_WITHIN_S)
    if done.returncode != 0:
        raise Refused(f"'{path.parent}' is not in a Git work tree", hint="leave --commit out")
    if done.stdout.strip():
        raise Conflict(
            f"'{path}' has changes that are not committed, and nothing was written",
            hint="commit them first, or leave --commit out",
        )


def commit(path: Path, message: str) -> str:
    """Commit one file as it is, whatever else is staged; the commit's id. Raises PermanentError."""
    done = _git(
        path.parent, "commit", "--quiet", "--only", "-m", message, "--", path.name, within_s=COMMIT_WITHIN_S
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip() or "it gave no reason").splitlines()
        raise PermanentError(f"git did not commit '{path}': {' / '.join(said[-5:])}")
    return _git(path.parent, "rev-parse", "HEAD", within_s=GIT_WITHIN_S).stdout.strip()


def _git(folder: Path, *arguments: str, within_s: float) -> "subprocess.CompletedProcess[str]":
    environ = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    # A name is a name, and no pattern that may mean other files too.
    environ["GIT_LITERAL_PATHSPECS"] = "1"
    try:
        return subprocess.run(  # noqa: S603 - the arguments are ours
            ["git", "-C", str(folder), *arguments],  # noqa: S607 - the user's git
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=within_s,
        )
    except subprocess.TimeoutExpired:
        raise PermanentError(f"git {arguments[0]} in '{folder}' took longer than {within_s:g} s") from None
