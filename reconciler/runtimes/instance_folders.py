"""The folders in which a runtime keeps its instances: each comes to its place whole, and leaves it whole.

What stands in them is their runtime's; ports that instances get are chosen here too, each once.
"""

import errno
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from reconciler.errors import PermanentError, RuntimeUnavailable
from reconciler.runtimes import instance as files
from reconciler.runtimes import service_files
from reconciler.runtimes.definition import PORTS, PORTS_TRIED_MAX, candidates, is_free
from reconciler.runtimes.runtime import Identity, Port, ServiceSpec, check_names

_MAKING = ".making"
_GONE = ".gone"
_FORGOTTEN_S = 3600.0
_FULL = (errno.ENOSPC, errno.EDQUOT)
_ROOM_BYTES_MIN = 1024 * 1024
_RENAMES_MAX = 5


class InstanceFolders:
    """Those of one runtime of one daemon, below `root`, which holds nothing else."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self._given: dict[int, tuple[str, str, str]] = {}

    def of(self, identity: Identity, instance: str) -> Path:
        """Where an instance is kept, if it is."""
        check_names(identity, instance)
        return self.root / identity.environment / identity.deployment / identity.component / instance

    def all_of(
        self, environment: str, deployment: str, component: str | None
    ) -> Iterator[tuple[Identity, str, Path]]:
        """All instances of a service, or of a deployment, by component and name."""
        place = self.root / environment / deployment
        for name in [component] if component is not None else names_in(place):
            identity = Identity(environment=environment, deployment=deployment, component=name)
            for instance in names_in(place / name):
                yield identity, instance, self.of(identity, instance)

    def make(self, folder: Path) -> None:
        """Make a folder and those above it, up to our root."""
        service_files.make_folder(self.root, folder)

    def check_room(self) -> None:
        """Raise OSError where the disk has no room for another instance."""
        self.make(self.root)
        facts = os.statvfs(self.root)
        if facts.f_bavail * facts.f_frsize < _ROOM_BYTES_MIN or (facts.f_files and not facts.f_favail):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.root))

    def place(self, folder: Path, write: Callable[[Path], None]) -> None:
        """Write an instance whole beside its place, and move it there: half of one is never found.

        One that is there already stays.
        """
        if folder.exists() and not (folder / files.DEFINITION).exists():
            # It came whole: what lacks its definition was being removed when that was cut short.
            shutil.rmtree(folder)
        fresh = self.root / _MAKING / secrets.token_hex(8)
        self.make(fresh)
        try:
            write(fresh)
            for attempt in range(1, _RENAMES_MAX + 1):
                try:
                    self.make(folder.parent)
                    fresh.rename(folder)
                except FileNotFoundError:
                    # The last other instance was removed a moment ago, and the folder above with it.
                    if attempt == _RENAMES_MAX:
                        raise
                except OSError as error:
                    if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                        return
                    raise
                else:
                    return
        finally:
            shutil.rmtree(fresh, ignore_errors=True)

    def port(self, spec: ServiceSpec, instance: str, port: Port) -> int:
        """The number of a port of a new instance, which nobody listens on."""
        if port.number is not None:
            if not is_free(port.number):
                raise PermanentError(
                    f"starting service '{spec.identity}': its port {port.number} is taken",
                    hint="end what listens there, or leave the number out, and a free one is chosen",
                )
            return port.number
        whose = (str(spec.identity), instance, port.name)
        for number in candidates(spec, instance, port.name):
            if self._given.get(number, whose) == whose and is_free(number):
                if len(self._given) > len(PORTS) // 2:
                    self._given.clear()
                self._given[number] = whose
                return number
        raise RuntimeUnavailable(
            f"starting service '{spec.identity}': no free port for '{port.name}' among {PORTS_TRIED_MAX}"
        )

    def retire(self, folder: Path) -> bool:
        """Let nothing start there any more; False where there is nothing."""
        if not folder.exists():
            return False
        try:
            files.retire(folder)
        except FileNotFoundError:
            return False
        except OSError as error:
            # A full disk keeps nobody from stopping: it is only not known after a crash in the middle.
            if error.errno not in _FULL:
                raise
        return True

    def set_aside(self, folder: Path) -> Path:
        """Take it from its place in one move; on a disk too full for that it goes bit by bit.

        Its lock is held meanwhile, and let go before `forget` is called with what this returns.
        """
        gone = self.root / _GONE
        try:
            self.make(gone)
            return folder.rename(gone / secrets.token_hex(8))
        except OSError as error:
            if error.errno not in _FULL:
                raise
        (folder / files.DEFINITION).unlink(missing_ok=True)
        shutil.rmtree(folder)
        return folder

    def forget(self, folder: Path, place: Path) -> None:
        """Remove what was set aside, and the folders above its old place that are empty now."""
        shutil.rmtree(place, ignore_errors=True)
        for above in folder.parents:
            if above == self.root:
                break
            with suppress(OSError):
                above.rmdir()

    def sweep(self) -> None:
        """Remove what a crash left of making and removing folders: there are hidden values in them."""
        for name in names_in(self.root / _GONE):
            shutil.rmtree(self.root / _GONE / name, ignore_errors=True)
        for name in names_in(self.root / _MAKING):
            place = self.root / _MAKING / name
            with suppress(FileNotFoundError):
                if time.time() - place.stat().st_mtime > _FORGOTTEN_S:
                    shutil.rmtree(place, ignore_errors=True)

    @contextmanager
    def translated(self, doing: str) -> Iterator[None]:
        """What goes wrong with files, said as what it is to the caller of a runtime."""
        try:
            yield
        except files.Damaged as error:
            raise PermanentError(
                f"{doing}: {error}", hint="remove the instance, and start another"
            ) from error
        except OSError as error:
            why = "the disk is full" if error.errno in _FULL else (error.strerror or str(error)).lower()
            raise RuntimeUnavailable(f"{doing} in '{self.root}': {why}") from error


def names_in(folder: Path) -> list[str]:
    """What stands in a folder, without what is hidden; nothing where there is no folder."""
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []
