"""Keep verdicts about scripts in a file between commands; a file that is missing, odd or old is no error.

It is read only by the very program that wrote it: an edit of any module that judges scripts ends its use.
"""

import hashlib
import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import reconciler
from reconciler.catalog import libpg_query
from reconciler.errors import PermanentError
from reconciler.state import verdicts
from reconciler.state.verdicts import Verdicts

FILE_BYTES_MAX = 32 * 1024 * 1024
JUDGES = ("catalog", "changes", "state")
"""The packages that decide what a verdict says."""
LEFT_BEHIND_S = 60.0
"""A file that is being written for longer belongs to a process that was killed."""
_FOREIGN_WRITERS = stat.S_IWGRP | stat.S_IWOTH


def place(state_dir: Path) -> Path:
    """Where the file is."""
    return state_dir / "cache" / "verdicts"


def load(state_dir: Path) -> Verdicts:
    """What is known; nothing where the file is not there, is not ours, or another program wrote it."""
    with suppress(OSError, PermanentError):
        content = _content(place(state_dir))
        if content is not None:
            return verdicts.decode(content, _made_by())
    return Verdicts()


def save(state_dir: Path, known: Verdicts) -> None:
    """Write what is known where anything was added; whole or not at all, and whoever is last wins."""
    if not known.learnt:
        return
    with suppress(OSError, PermanentError):
        content = known.encode(_made_by())
        if len(content) <= FILE_BYTES_MAX:
            _write(place(state_dir), content)


def _content(file: Path) -> bytes | None:
    """The content of a plain file that nobody but us or root can have written."""
    with os.fdopen(os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as opened:
        facts = os.fstat(opened.fileno())
        ours = facts.st_uid in {0, os.geteuid()} and not facts.st_mode & _FOREIGN_WRITERS
        if not (stat.S_ISREG(facts.st_mode) and ours and facts.st_size <= FILE_BYTES_MAX):
            return None
        content = opened.read(FILE_BYTES_MAX + 1)
    return content if len(content) <= FILE_BYTES_MAX else None


def _write(file: Path, content: bytes) -> None:
    """Put a file in place of the one there; where another process is about to, leave it to that."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.new")
    try:
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
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


def _made_by() -> str:
    """A digest of this program's files that judge scripts, by name, size and time, and of the parser."""
    root = Path(reconciler.__file__).parent
    digest = hashlib.sha256(f"{reconciler.__version__} {libpg_query.GRAMMAR}".encode())
    parser = Path(libpg_query.library_file())
    for file in (*sorted(_sources(root)), parser):
        facts = file.stat()
        digest.update(f"\0{file} {facts.st_size} {facts.st_mtime_ns}".encode())
    return digest.hexdigest()


def _sources(root: Path) -> Iterator[Path]:
    for package in JUDGES:
        with os.scandir(root / package) as entries:
            yield from (Path(entry.path) for entry in entries if entry.name.endswith(".py"))
