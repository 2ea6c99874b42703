"""Files below the state folder that spare commands work; one that is missing, odd or old is no error.

They are read only by the very program that wrote them: an edit of any module that decides what they say ends
that.
"""

import hashlib
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from operator import itemgetter
from pathlib import Path

import reconciler
from reconciler.catalog import libpg_query

FILE_BYTES_MAX = 32 * 1024 * 1024
JUDGES = ("catalog", "changes", "planner", "state")
"""The packages that decide what is written down of scripts and modules."""
LEFT_BEHIND_S = 60.0
"""A file that is being written for longer belongs to a process that was killed."""
_FOREIGN_WRITERS = stat.S_IWGRP | stat.S_IWOTH


def folder(state_dir: Path) -> Path:
    """Where they are."""
    return state_dir / "cache"


def read(file: Path) -> bytes | None:
    """The content of a plain file that nobody but us or root can have written; None of any other.

    Raises OSError where there is none.
    """
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as opened:
        facts = os.fstat(opened.fileno())
        ours = facts.st_uid in {0, os.geteuid()} and not facts.st_mode & _FOREIGN_WRITERS
        if not (stat.S_ISREG(facts.st_mode) and ours and facts.st_size <= FILE_BYTES_MAX):
            return None
        content = opened.read(facts.st_size + 1)
    # One that grew meanwhile was not put there whole.
    return content if len(content) <= facts.st_size else None


def write(file: Path, content: bytes) -> None:
    """Put a file in place of the one there, unless it is too long; another that is about to goes first."""
    if len(content) > FILE_BYTES_MAX:
        return
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        with suppress(FileNotFoundError):  # that one is done by now
            if time.time() - fresh.stat().st_mtime > LEFT_BEHIND_S:
                fresh.unlink()
        return
    try:
        # Not flushed to the disk: what a crash leaves of it is told by its digest, and made anew.
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
        fresh.replace(file)
    except OSError:
        fresh.unlink(missing_ok=True)
        raise


def made_by(packages: Iterable[str] | None = None) -> str:
    """A digest of this program's files in some packages, by name, size and time, and of the parser.

    Without packages, of those that judge scripts.
    """
    root = os.path.dirname(reconciler.__file__)  # noqa: PTH120 - a hundred paths a command: texts cost less
    digest = hashlib.sha256(f"{reconciler.__version__} {libpg_query.GRAMMAR}".encode())
    parser = libpg_query.library_file()
    facts = [*_sources(root, packages or JUDGES), (parser, os.stat(parser))]  # noqa: PTH116
    for file, found in sorted(facts, key=itemgetter(0)):
        digest.update(f"\0{file} {found.st_size} {found.st_mtime_ns}".encode())
    return digest.hexdigest()


def _sources(root: str, packages: Iterable[str]) -> Iterator[tuple[str, os.stat_result]]:
    for package in packages:
        with os.scandir(f"{root}/{package}") as entries:
            yield from ((entry.path, entry.stat()) for entry in entries if entry.name.endswith(".py"))
