"""Notice commits in local repositories and wake whoever fetches; it reads no ref and decides nothing.

A commit on a branch touches a file below `refs` (or `reftable`), also where refs are packed, so only these
folders are watched, never the objects. Waking once too often is harmless; the timer finds what is missed.
"""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

import watchfiles

from reconciler.frozen import frozen
from reconciler.source import local

_STEP_MS = 50  # the watcher looks this often; about twice this passes between a commit and its notice
_DEBOUNCE_MS = 60
_LOOK_AGAIN_S = 1.0  # how soon a repository that went away or came back is noticed
_POLL_S = 0.3
_FILES_POLLED_MAX = 20_000
_REFS = ("heads", "tags")

_HINT = "raise fs.inotify.max_user_watches or fs.inotify.max_user_instances"

_log = logging.getLogger(__name__)


@frozen
class _Folder:
    """A folder to watch: its identity, so that one made anew is seen, and the sources that live of it."""

    identity: tuple[int, int]
    sources: tuple[str, ...]


async def watch(
    targets: Mapping[str, Path],
    wake: Callable[[str], None],
    stop_event: asyncio.Event,
    *,
    polling: bool = False,
) -> None:
    """Call `wake` with a source's name soon after its local repository got a commit, until stopped.

    `targets` are work trees, linked worktrees or bare repositories by source name. A repository that is not
    there is waited for; where the system has no file watches left, the folders are polled, as they are from
    the start with `polling` (file systems over a network give no notice). Every source is woken once when the
    watch is in place, for what came before.
    """
    told = ""
    while not stop_event.is_set():
        folders = await asyncio.to_thread(_folders, targets)
        if not folders:
            await _pause(stop_event, _LOOK_AGAIN_S)
            continue
        problem = None if polling else await _watch_or_say_why(targets, folders, wake, stop_event)
        if problem is not None and problem != told:
            _log.warning("watch.polling", extra={"reason": problem, "hint": _HINT})
            told = problem
        if problem is not None or polling:
            await _poll_until_moved(targets, folders, wake, stop_event)


async def _watch_or_say_why(
    targets: Mapping[str, Path],
    folders: Mapping[Path, _Folder],
    wake: Callable[[str], None],
    stop_event: asyncio.Event,
) -> str | None:
    """Watch until a folder moved; return what kept the watch from working, if anything did."""
    try:
        await _watch_until_moved(targets, folders, wake, stop_event)
    except FileNotFoundError:
        return None  # it went away between the look and the watch
    except (OSError, RuntimeError) as error:
        return str(error)
    except ExceptionGroup as group:  # the library's thread failed
        return "; ".join(str(error) for error in group.exceptions)
    return None


async def _watch_until_moved(
    targets: Mapping[str, Path],
    folders: Mapping[Path, _Folder],
    wake: Callable[[str], None],
    stop_event: asyncio.Event,
) -> None:
    """Watch these folders until one is replaced, goes away, comes, or all is stopped."""
    is_first = True
    async for changes in watchfiles.awatch(
        *folders,
        watch_filter=_is_no_lock,
        debounce=_DEBOUNCE_MS,
        step=_STEP_MS,
        rust_timeout=int(_LOOK_AGAIN_S * 1000),
        yield_on_timeout=True,
        stop_event=stop_event,
        force_polling=False,
        ignore_permission_denied=True,
    ):
        names = _all(folders) if is_first else _touched(folders, (Path(path) for _, path in changes))
        is_first = False
        for name in sorted(names):
            wake(name)
        if _lost(folders, changes) or (not changes and await asyncio.to_thread(_folders, targets) != folders):
            return


async def _poll_until_moved(
    targets: Mapping[str, Path],
    folders: Mapping[Path, _Folder],
    wake: Callable[[str], None],
    stop_event: asyncio.Event,
) -> None:
    """Look at these folders again and again until one moved; the library's polling misses a quick commit."""
    seen: Mapping[Path, object] = {}
    while not stop_event.is_set():
        now = await asyncio.to_thread(_prints, folders)
        for name in sorted(_all({path: folders[path] for path in folders if now[path] != seen.get(path)})):
            wake(name)
        seen = now
        await _pause(stop_event, _POLL_S)
        if await asyncio.to_thread(_folders, targets) != folders:
            return


async def _pause(stop_event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stop_event.wait(), seconds)


def _prints(folders: Iterable[Path]) -> dict[Path, object]:
    """Take what changes with any branch or tag: identity, time and size of every file there."""
    return {folder: frozenset(_file_prints(folder)) for folder in folders}


def _file_prints(folder: Path) -> Iterator[tuple[str, int, int, int]]:
    # os.walk passes over what cannot be opened now; the next look sees it.
    files = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    for path in islice(files, _FILES_POLLED_MAX):
        if path.name.endswith(".lock") or not _is_below(path, folder):
            continue
        with contextlib.suppress(OSError):
            status = path.stat()
            yield str(path), status.st_ino, status.st_mtime_ns, status.st_size


def _folders(targets: Mapping[str, Path]) -> dict[Path, _Folder]:
    """Find the folders that hold the refs of each target; a target that is not there has none."""
    found: dict[Path, _Folder] = {}
    for source, path in sorted(targets.items()):
        with contextlib.suppress(OSError):
            git = local.find(path)
            for folder in (git.common / "refs", git.common / "reftable") if git is not None else ():
                if folder.is_dir():
                    status = folder.stat()
                    others = found[folder].sources if folder in found else ()
                    identity = (status.st_dev, status.st_ino)
                    found[folder] = _Folder(identity=identity, sources=(*others, source))
    return found


def _lost(folders: Mapping[Path, _Folder], changes: Iterable[tuple[watchfiles.Change, str]]) -> bool:
    """Whether a watched folder itself was removed: the next at its place may get the same identity."""
    return any(change is watchfiles.Change.deleted and Path(path) in folders for change, path in changes)


def _is_no_lock(_: watchfiles.Change, path: str) -> bool:
    return not path.endswith(".lock")


def _touched(folders: Mapping[Path, _Folder], paths: Iterable[Path]) -> set[str]:
    """Find the sources whose branches or tags a change may have moved."""
    changed = list(paths)
    return {
        source
        for folder, watched in folders.items()
        if any(_is_below(path, folder) for path in changed)
        for source in watched.sources
    }


def _is_below(path: Path, folder: Path) -> bool:
    if not path.is_relative_to(folder):
        return False
    parts = path.relative_to(folder).parts
    return folder.name != "refs" or not parts or parts[0] in _REFS


def _all(folders: Mapping[Path, _Folder]) -> set[str]:
    return {source for watched in folders.values() for source in watched.sources}
