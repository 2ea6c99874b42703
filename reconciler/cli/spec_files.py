"""Spec files of a work tree: which one declares an environment, what it holds, and writing it anew."""

import os
from collections.abc import Iterator
from pathlib import Path

from reconciler.cli import whole_files
from reconciler.cli.validate import SPEC_SUFFIXES, top_of
from reconciler.errors import Conflict, NotFound, Refused
from reconciler.frozen import frozen
from reconciler.spec.editing import SpecFile, declared
from reconciler.spec.listing import ReadFile, Unread
from reconciler.spec.words import did_you_mean
from reconciler.spec.yaml_text import FILE_BYTES_MAX

FILES_MAX = 20_000


@frozen
class Opened:
    """A spec file of a work tree, as it was when it was read."""

    path: Path
    file: SpecFile

    def write(self, content: bytes) -> None:
        """Put new content in its place; Conflict where somebody else changed it meanwhile."""
        if _read(self.path) != self.file.content:
            raise Conflict(
                f"'{self.file.name}' was changed meanwhile, and nothing was written", hint="try again"
            )
        whole_files.replace(self.path, content)


def find(repository: Path, folder: str, environment: str) -> Opened:
    """The file that declares an environment, below a folder from the top of a work tree."""
    root = top_of(repository)
    found = [opened for opened in _opened(root, folder) if _may_declare(opened, environment)]
    if not found:
        names = [name for opened in _opened(root, folder) for name in declared(opened.file)]
        raise NotFound(
            f"no spec in '{root / folder}' declares environment '{environment}'",
            hint=did_you_mean(environment, names, "environments")
            if names
            else "name the folder of the specs with --path, and the work tree with --repo",
        )
    if len(found) > 1:
        listed = ", ".join(f"'{opened.file.name}'" for opened in found)
        raise Refused(f"environment '{environment}' is declared in more than one file: {listed}")
    return found[0]


def _may_declare(opened: Opened, environment: str) -> bool:
    # Reading them all in full would take as long as checking the whole repository.
    return environment.encode() in opened.file.content and environment in declared(opened.file)


def _opened(root: Path, folder: str) -> Iterator[Opened]:
    read_file = _reader(root)
    for path in _paths(root / folder):
        name = path.relative_to(root).as_posix()
        yield Opened(path=path, file=SpecFile(name=name, content=_read(path), read_file=read_file))


def _paths(folder: Path) -> Iterator[Path]:
    """The files of specs below a folder; links are not followed, for in a commit they are only text."""
    count = 0
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(each for each in folders if each != ".git")
        for name in sorted(names):
            path = Path(here) / name
            if not name.endswith(SPEC_SUFFIXES) or path.is_symlink() or not path.is_file():
                continue
            count += 1
            if count > FILES_MAX:
                raise Refused(f"'{folder}' has more than {FILES_MAX} specs", hint="name a folder with --path")
            yield path


def _reader(root: Path) -> ReadFile:
    """What gives the lists that specs refer to, as a commit would."""

    def read(name: str) -> bytes | Unread | None:
        path = root / name
        if not path.resolve().is_relative_to(root) or path.is_symlink():
            return Unread("it is a symbolic link, which is never followed", "put the file itself there")
        return _read(path) if path.is_file() else None

    return read


def _read(path: Path) -> bytes:
    """The content of a file; one byte more than the limit tells that it is too long."""
    with path.open("rb") as file:
        return file.read(FILE_BYTES_MAX + 1)
