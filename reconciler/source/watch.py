"""Notice commits in local repositories and wake whoever fetches; it reads no ref and decides nothing.

A commit on a branch touches a file below `refs` (or `reftable`), also where refs are packed, so only these
folders are watched, never the objects. Waking once too often is harmless; the timer finds what is missed.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import structlog
import watchfiles

from reconciler.source import local

_STEP_MS = 15  # the watcher looks this often; about twice this passes between a commit and its notice
_DEBOUNCE_MS = 60
_LOOK_AGAIN_MS = 500  # how soon a repository that went away or came back is noticed
_POLL_MS = 300
_REFS = ("heads", "tags")

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Folder:
    """A folder to watch: its identity, so that one made anew is seen, and the sources that live of it."""

    identity: tuple[int, int]
    sources: tuple[str, ...]


async def watch(targets: Mapping[str, Path], wake: Callable[[str], None], stop_event: asyncio.Event) -> None:
    """Call `wake` with a source's name soon after its local repository got a commit, until stopped.

    `targets` are work trees, linked worktrees or bare repositories by source name. A repository that is not
    there is waited for; where the system has no file watches left, the folders are polled. Every source is
    woken once when the watch is in place, for what came before.
    """
    while not stop_event.is_set():
        folders = await asyncio.to_thread(_folders, targets)
        if not folders:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop_event.wait(), _LOOK_AGAIN_MS / 1000)
            continue
        try:
            await _watch_until_moved(targets, folders, wake, stop_event, polling=False)
        except FileNotFoundError:
            continue  # it went away between the look and the watch
        except (OSError, RuntimeError) as error:
            _log.warning(
                "watch.polling",
                reason=str(error),
                folders=len(folders),
                hint="raise fs.inotify.max_user_watches or max_user_instances",
            )
            with contextlib.suppress(FileNotFoundError):
                await _watch_until_moved(targets, folders, wake, stop_event, polling=True)


async def _watch_until_moved(
    targets: Mapping[str, Path],
    folders: Mapping[Path, _Folder],
    wake: Callable[[str], None],
    stop_event: asyncio.Event,
    *,
    polling: bool,
) -> None:
    """Watch these folders until one is replaced, goes away, comes, or all is stopped."""
    is_first = True
    async for changes in watchfiles.awatch(
        *folders,
        watch_filter=_is_no_lock,
        debounce=_DEBOUNCE_MS,
        step=_STEP_MS,
        rust_timeout=_LOOK_AGAIN_MS,
        yield_on_timeout=True,
        stop_event=stop_event,
        force_polling=polling,
        poll_delay_ms=_POLL_MS,
        ignore_permission_denied=True,
    ):
        names = _all(folders) if is_first else _touched(folders, (Path(path) for _, path in changes))
        is_first = False
        for name in sorted(names):
            wake(name)
        if not changes and await asyncio.to_thread(_folders, targets) != folders:
            return


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
