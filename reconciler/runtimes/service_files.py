"""What a service itself may write here: the folders of its data, and the file of its output.

Its data outlive its instances: nothing here removes them.
"""

import os
import stat
from pathlib import Path

from reconciler.errors import PermanentError
from reconciler.runtimes.runtime import Identity, ServiceSpec

OUTPUT = "output"
_DATA = ".data"
_BELOW = 0o711  # to go through for a service's user, and to list for nobody else
_SEARCH = stat.S_IXOTH

Account = tuple[int, int, list[int]]
"""A user's number, the number of its group, and those of all its groups."""


def make_folder(root: Path, folder: Path) -> None:
    """Make it and those above it, up to our root; others may go through, and read nothing."""
    root.parent.mkdir(parents=True, exist_ok=True)
    for each in (*reversed(folder.parents), folder):
        if each.is_relative_to(root):
            each.mkdir(mode=_BELOW, exist_ok=True)


def data_folders(root: Path, spec: ServiceSpec) -> dict[str, str]:
    """Where the data of a service stand, by their names."""
    place = _place_of_data(root, spec.identity)
    return {each.name: str(place / each.name) for each in spec.data}


def _place_of_data(root: Path, identity: Identity) -> Path:
    return root / _DATA / identity.environment / identity.deployment / identity.component


def make_data(root: Path, spec: ServiceSpec, account: Account | None) -> None:
    """See to it that its data have their folders, for its user alone; what is there stays as it is."""
    if not spec.data:
        return
    make_folder(root, _place_of_data(root, spec.identity))
    for folder in map(Path, data_folders(root, spec).values()):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
            _hand_over(folder, account)


def make_output(folder: Path, account: Account | None, mode: int = 0o600) -> None:
    """An empty file for its output, in place of an earlier one."""
    path = folder / OUTPUT
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    path.chmod(mode)
    _hand_over(path, account)


def _hand_over(path: Path, account: Account | None) -> None:
    if account is not None and account[0] != os.geteuid():
        os.chown(path, account[0], account[1])


def read_output(spec: ServiceSpec, folder: Path) -> bytes | None:
    """What it wrote; None where it wrote none. Raises PermanentError where that is no text of that size."""
    limit = spec.output_bytes_max or 0
    doing = f"reading the output of '{spec.identity}'"
    try:
        handle = os.open(folder / OUTPUT, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise PermanentError(
            f"{doing}: its file cannot be opened: {(error.strerror or '').lower()}"
        ) from None
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise PermanentError(f"{doing}: it put something else in the place of its file")
        written = os.read(handle, limit + 1)
    finally:
        os.close(handle)
    if len(written) > limit:
        raise PermanentError(
            f"{doing}: it wrote more than the {limit} bytes that it may",
            hint="write large results elsewhere, and their address to JOB_OUTPUT",
        )
    return written or None


def faults_of_reach(root: Path, spec: ServiceSpec, account: Account | None) -> list[str]:
    """What keeps another user from what it is to write; none where the service runs as ourselves."""
    if account is None or account[0] in (0, os.geteuid()):
        return []
    if not spec.data and spec.output_bytes_max is None:
        return []
    shut = next(
        (each for each in (root, *root.parents) if each.exists() and not _is_open(each, account)), None
    )
    if shut is None:
        return []
    return [
        f"its user '{spec.user}' does not reach its data or output below '{shut}', which others may not enter"
    ]


def _is_open(folder: Path, account: Account) -> bool:
    uid, _, groups = account
    facts = folder.stat()
    if facts.st_uid == uid:
        return bool(facts.st_mode & stat.S_IXUSR)
    if facts.st_gid in groups:
        return bool(facts.st_mode & stat.S_IXGRP)
    return bool(facts.st_mode & _SEARCH)
