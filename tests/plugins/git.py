"""Real Git for tests: repositories to commit to; `git_hosts` serves them."""

import os
import socket
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.com",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.com",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}


def git_environment() -> dict[str, str]:
    """Return an environment in which Git obeys nothing of the machine it runs on."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return {**kept, **_ENVIRONMENT}


def git(folder: Path, *arguments: str, stdin: bytes | None = None) -> str:
    """Run Git in a folder and return what it says; a failure fails the test with Git's words."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=git_environment(),
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr.decode(errors='replace')}"
    return done.stdout.decode(errors="replace").strip()


class GitRepository:
    """A work tree with branch `main` to commit to; `path` is what a source names as its url."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        git(path, "init", "--quiet", "--initial-branch=main", "--template=")
        git(path, "config", "gc.auto", "0")

    @classmethod
    def at(cls, path: Path) -> "GitRepository":
        """The repository that is at a path already."""
        found = cls.__new__(cls)
        found.path = path
        return found

    @property
    def git_dir(self) -> Path:
        return self.path / ".git"

    def git(self, *arguments: str) -> str:
        """Run Git in the work tree."""
        return git(self.path, *arguments)

    def write(self, files: Mapping[str, str | bytes | None]) -> None:
        """Write files by path from the root; None removes one."""
        for name, content in files.items():
            path = self.path / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, files: Mapping[str, str | bytes | None] | None = None, message: str = "Change") -> str:
        """Write files, commit everything there is, and return the commit's id."""
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.head()

    def head(self, ref: str = "HEAD") -> str:
        """Return the commit a ref stands at."""
        return self.git("rev-parse", f"{ref}^{{commit}}")

    def rewrite(self, files: Mapping[str, str | bytes | None] | None = None) -> str:
        """Replace the newest commit by another, as `commit --amend` and a forced push do."""
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--amend", "--message", "Rewritten")
        return self.head()


@pytest.fixture
def make_repository(tmp_path: Path) -> Callable[[str], GitRepository]:
    """Make a repository of a given name below the test's folder."""
    return lambda name: GitRepository(tmp_path / "repositories" / name)


@pytest.fixture
def git_repository(make_repository: Callable[[str], GitRepository]) -> GitRepository:
    """A repository with one commit that holds `README`."""
    repository = make_repository("config")
    repository.commit({"README": "sample\n"}, "Begin")
    return repository


@pytest.fixture
def closed_port() -> int:
    """A loopback port where nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])
