"""Keep resolved modules in files between commands, one for each; it resolves nothing."""

import hashlib
import os
from contextlib import suppress
from functools import partial
from pathlib import Path

from reconciler.daemon import cache_files
from reconciler.errors import PermanentError
from reconciler.state.contents import Contents

FILES_MAX = 500
"""Modules that are kept; of more, those go that were written longest ago."""


def folder(state_dir: Path) -> Path:
    """Where the files are."""
    return cache_files.folder(state_dir) / "modules"


def file(state_dir: Path, place: str) -> Path:
    """The file of a module."""
    name = hashlib.sha256(place.encode("utf-8", "surrogatepass")).hexdigest()
    return folder(state_dir) / name


def load(state_dir: Path) -> Contents | None:
    """What is known, each file read when its module is asked for; None where nothing may be kept."""
    with suppress(OSError, PermanentError):
        return Contents(partial(_read, state_dir), cache_files.made_by())
    return None


def save(state_dir: Path, known: Contents | None) -> None:
    """Write what came anew; a file is put there whole or not at all, and whoever is last wins."""
    if known is None:
        return
    with suppress(OSError):
        wrote = False
        for place, content in known.written():
            cache_files.write(file(state_dir, place), content)
            wrote = True
        if wrote:
            _remove_oldest(folder(state_dir))


def _read(state_dir: Path, place: str) -> bytes | None:
    with suppress(OSError):
        return cache_files.read(file(state_dir, place))
    return None


def _remove_oldest(within: Path) -> None:
    with os.scandir(within) as entries:
        there = [(entry.stat(follow_symlinks=False).st_mtime, entry.path) for entry in entries]
    for _written, path in sorted(there)[: max(0, len(there) - FILES_MAX)]:
        Path(path).unlink(missing_ok=True)
