"""Keep verdicts about scripts in a file between commands; it judges nothing."""

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from reconciler.daemon import cache_files
from reconciler.errors import PermanentError
from reconciler.state import verdicts
from reconciler.state.verdicts import Verdicts


def place(state_dir: Path) -> Path:
    """Where the file is."""
    return cache_files.folder(state_dir) / "verdicts"


def load(state_dir: Path) -> Verdicts:
    """What is known, read when it is asked for; nothing where the file is not there or not to be believed."""
    return Verdicts(read=partial(_load, state_dir))


def save(state_dir: Path, known: Verdicts | None) -> None:
    """Write what is known where anything was added; whole or not at all, and whoever is last wins."""
    if known is None or not known.learnt:
        return
    with suppress(OSError, PermanentError):
        cache_files.write(place(state_dir), known.encode(cache_files.made_by()))


def _load(state_dir: Path) -> dict[str, Any]:
    with suppress(OSError, PermanentError):
        content = cache_files.read(place(state_dir))
        if content is not None:
            return verdicts.rows(content, cache_files.made_by())
    return {}
