"""The runtime `process`: services as plain processes of this machine, each under a supervisor of its own.

The daemon may end, crash and come back: what runs is found again by the folder of its instance, whose lock
the kernel gives to its supervisor. It reads and writes those folders, starts supervisors and signals them;
services it never touches, but for those whose supervisor is gone.
"""

import asyncio
import errno
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from typing_extensions import override

import reconciler
from reconciler.errors import Conflict, PermanentError, RuntimeUnavailable
from reconciler.runtimes import instance as files
from reconciler.runtimes import processes, service_files, sight, supervisor, transient
from reconciler.runtimes.definition import account_of, definition_of, faults_here, is_free
from reconciler.runtimes.runtime import (
    Identity,
    Observed,
    Port,
    Runtime,
    ServiceSpec,
    check_names,
    faults,
    without_hidden,
)

_MAKING = ".making"
_GONE = ".gone"
_FORGOTTEN_S = 3600.0
_START_S = 30.0
_ASKED_S = 20.0
_STOP_S = 20.0
_LOCK_AGAIN_S = 0.02
_FULL = (errno.ENOSPC, errno.EDQUOT)
_ROOM_BYTES_MIN = 1024 * 1024
_LOG_END_BYTES = 8192
_RENAMES_MAX = 5
_OF_THE_BUS = ("PATH", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")
_PORTS = range(20000, 32000)
"""Below those that the system gives to outgoing connections."""
_PORTS_TRIED_MAX = 100


class ProcessRuntime(Runtime):
    """Services of one daemon; `root` is a folder of the daemon's own, and holds nothing else."""

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._given: set[int] = set()

    @property
    @override
    def name(self) -> str:
        return "process"

    @override
    def may_stand_beside(self, spec: ServiceSpec) -> bool:
        return all(port.number is None for port in spec.ports)

    @override
    async def why_not(self) -> str | None:
        return await asyncio.to_thread(self._why_not)

    @override
    async def observe(
        self, environment: str, deployment: str, component: str | None = None
    ) -> tuple[Observed, ...]:
        with self._translated(f"looking at services of '{environment}/{deployment}'"):
            return await asyncio.to_thread(self._observe, environment, deployment, component)

    @override
    async def prepare(self, spec: ServiceSpec) -> None:
        found = faults(spec) or await asyncio.to_thread(self._faults_here, spec)
        if found:
            raise PermanentError(f"preparing service '{spec.identity}': {'; '.join(found)}")
        with self._translated(f"preparing service '{spec.identity}'"):
            await asyncio.to_thread(self._check_room)

    @override
    async def apply(self, spec: ServiceSpec, instance: str) -> Observed:
        found = faults(spec)
        if found:
            raise PermanentError(f"starting service '{spec.identity}': {'; '.join(found)}")
        folder = self._folder(spec.identity, instance)
        if files.is_retired(folder):
            await self.remove(spec.identity, instance)
        with self._translated(f"starting service '{spec.identity}'"):
            return await asyncio.to_thread(self._apply, spec, instance, folder)

    @override
    async def remove(self, identity: Identity, instance: str) -> None:
        folder = self._folder(identity, instance)
        with self._translated(f"removing service '{identity}'"):
            if not await asyncio.to_thread(self._retire, folder):
                return
            grace_s = await asyncio.to_thread(_grace_of, folder)
            await self._stop(identity, folder, grace_s)
            lock = await asyncio.to_thread(self._locked, identity, folder)
            if lock is not None:
                await asyncio.to_thread(self._clear, identity, folder, lock, grace_s)

    @override
    async def log_end(self, spec: ServiceSpec, instance: str) -> str:
        folder = self._folder(spec.identity, instance)
        return without_hidden(spec, await asyncio.to_thread(_ends_of_logs, folder))

    @override
    async def output(self, spec: ServiceSpec, instance: str) -> bytes | None:
        folder = self._folder(spec.identity, instance)
        with self._translated(f"reading the output of '{spec.identity}'"):
            return await asyncio.to_thread(service_files.read_output, spec, folder)

    # ---- below: blocking, in a thread

    def _faults_here(self, spec: ServiceSpec) -> list[str]:
        found = faults_here(spec, in_unit=transient.here() is not None)
        return found or service_files.faults_of_reach(self._root, spec, account_of(spec.user))

    def _why_not(self) -> str | None:
        if not sys.platform.startswith("linux") or processes.look(os.getpid()) is None:
            return "services as processes need Linux and its /proc"
        there = next(place for place in (self._root, *self._root.parents) if place.exists())
        if not os.access(there, os.W_OK | os.X_OK):
            return f"services as processes are kept in '{self._root}', where this user may not write"
        with processes.held(os.getpid()) as descriptor:
            if descriptor is None or not files.can_lock():
                return "services as processes need pidfd_open and locks of open files: Linux 5.3 or later"
        unit = transient.here()
        return None if unit is None else transient.why_no_unit(unit)

    def _folder(self, identity: Identity, instance: str) -> Path:
        check_names(identity, instance)
        return self._root / identity.environment / identity.deployment / identity.component / instance

    def _observe(self, environment: str, deployment: str, component: str | None) -> tuple[Observed, ...]:
        place = self._root / environment / deployment
        found = []
        for name in [component] if component is not None else _names_in(place):
            identity = Identity(environment=environment, deployment=deployment, component=name)
            for instance in _names_in(place / name):
                observed = sight.look(self._folder(identity, instance), identity, instance)
                if observed is not None:
                    found.append(observed)
        return tuple(found)

    def _make_folder(self, folder: Path) -> None:
        service_files.make_folder(self._root, folder)

    def _check_room(self) -> None:
        self._make_folder(self._root)
        facts = os.statvfs(self._root)
        if facts.f_bavail * facts.f_frsize < _ROOM_BYTES_MIN or (facts.f_files and not facts.f_favail):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._root))

    def _apply(self, spec: ServiceSpec, instance: str, folder: Path) -> Observed:
        self._make_folder(self._root)
        self._sweep()
        if not (folder / files.DEFINITION).exists():
            self._make(spec, folder)
        definition = files.read_definition(folder)
        if definition["hash"] != spec.definition_hash:
            raise Conflict(
                f"starting service '{spec.identity}': its instance '{instance}' has another definition",
                hint="name another instance, or remove this one first",
            )
        self._await_last_word(spec, folder)
        if files.holder(folder) is None:
            account = account_of(spec.user)
            service_files.make_data(self._root, spec, account)
            if spec.output_bytes_max is not None:
                service_files.make_output(folder, account)
            self._launch(spec, folder, definition)
        observed = sight.look(folder, spec.identity, instance)
        if observed is None:
            raise RuntimeUnavailable(f"starting service '{spec.identity}': it was removed meanwhile")
        return observed

    def _make(self, spec: ServiceSpec, folder: Path) -> None:
        """Write the instance whole beside its place, and move it there: half of one is never found."""
        if folder.exists() and not (folder / files.DEFINITION).exists():
            # It came whole: what lacks its definition was being removed when that was cut short.
            shutil.rmtree(folder)
        fresh = self._root / _MAKING / secrets.token_hex(8)
        self._make_folder(fresh)
        try:
            ports = {port.name: self._number_of(spec, port) for port in spec.ports}
            folders = service_files.data_folders(self._root, spec)
            output = None if spec.output_bytes_max is None else str(folder / service_files.OUTPUT)
            files.write_definition(fresh, definition_of(spec, ports, folders, output))
            for attempt in range(1, _RENAMES_MAX + 1):
                try:
                    self._make_folder(folder.parent)
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

    def _number_of(self, spec: ServiceSpec, port: Port) -> int:
        if port.number is not None:
            if not is_free(port.number):
                raise PermanentError(
                    f"starting service '{spec.identity}': its port {port.number} is taken",
                    hint="end what listens there, or give the service another port",
                )
            return port.number
        for number in random.sample(_PORTS, _PORTS_TRIED_MAX):
            if number not in self._given and is_free(number):
                if len(self._given) > len(_PORTS) // 2:
                    self._given.clear()
                self._given.add(number)
                return number
        raise RuntimeUnavailable(
            f"starting service '{spec.identity}': no free port for '{port.name}' among {_PORTS_TRIED_MAX}"
        )

    def _launch(self, spec: ServiceSpec, folder: Path, definition: dict[str, Any]) -> None:
        home = str(Path(reconciler.__file__).resolve().parents[1])
        program = [sys.executable, "-P", "-S", "-m", "reconciler.runtimes.supervisor"]
        environment = {"PYTHONPATH": home, "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8"}
        unit = transient.here()
        if unit is not None:
            argv = transient.command(
                unit, [*program, "--foreground", str(folder)],
                name=f"reconciler-service-{definition['token']}.service",
                description=f"service {spec.identity}",
                environment=environment,
                stop_s=spec.grace_s + _ASKED_S,
                limits=spec.limits,
            )  # fmt: skip
            environment = {name: os.environ[name] for name in _OF_THE_BUS if name in os.environ}
        else:
            argv = [*program, str(folder)]
        answer = _run(argv, environment, folder, spec.grace_s + _START_S)
        if answer is None:
            raise RuntimeUnavailable(
                f"starting service '{spec.identity}': its supervisor was not ready within"
                f" {spec.grace_s + _START_S:g} s",
                hint=f"see '{folder / files.COMPLAINTS}'",
            )
        status, said = answer
        is_known = said in {supervisor.READY, supervisor.BUSY, supervisor.GONE}
        if not (is_known if unit is None else status == 0) and files.holder(folder) is None:
            raise RuntimeUnavailable(
                f"starting service '{spec.identity}': its supervisor did not start:"
                f" {_end_of(folder / files.COMPLAINTS) or f'it exited with {status}'}"
            )

    def _await_last_word(self, spec: ServiceSpec, folder: Path) -> None:
        """A supervisor that is done has the lock for a moment longer, and is not taken for one at work."""
        deadline = time.monotonic() + _STOP_S
        while (pid := files.holder(folder)) is not None:
            state = sight.state_of(folder)
            if state.phase != files.ENDED or state.supervisor != pid:
                return
            if time.monotonic() > deadline:
                raise RuntimeUnavailable(
                    f"starting service '{spec.identity}': the supervisor of its last run, process {pid},"
                    " does not end"
                )
            time.sleep(_LOCK_AGAIN_S)

    def _retire(self, folder: Path) -> bool:
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

    async def _stop(self, identity: Identity, folder: Path, grace_s: float) -> None:
        """Ask its supervisor to end it all; one that does not in time is killed."""
        for number, within_s in ((signal.SIGTERM, grace_s + _ASKED_S), (signal.SIGKILL, _STOP_S)):
            pid = files.holder(folder)
            if pid is None or pid <= 0:
                return
            with processes.held(pid) as descriptor:
                # Asked again now that it cannot become another's: it still is the one that has the lock.
                if descriptor is None or files.holder(folder) != pid:
                    return
                with suppress(ProcessLookupError):
                    signal.pidfd_send_signal(descriptor, number)
                if await _has_ended(descriptor, within_s):
                    return
        raise RuntimeUnavailable(f"removing service '{identity}': its supervisor does not end")

    def _locked(self, identity: Identity, folder: Path) -> int | None:
        """The lock of its folder; None where another has removed it."""
        deadline = time.monotonic() + _STOP_S
        while folder.exists():
            lock = files.take(folder)
            if lock is not None:
                return lock
            if time.monotonic() > deadline:
                raise RuntimeUnavailable(f"removing service '{identity}': another is at it and does not end")
            time.sleep(_LOCK_AGAIN_S)
        return None

    def _clear(self, identity: Identity, folder: Path, lock: int, grace_s: float) -> None:
        """End what runs without a supervisor, then let the folder go; nobody starts anything meanwhile."""
        try:
            with suppress(files.Damaged, FileNotFoundError):
                token = files.read_definition(folder)["token"]
                left = supervisor.end_left(token, sight.state_of(folder), grace_s=grace_s)
                if left:
                    raise RuntimeUnavailable(
                        f"removing service '{identity}': {left} of its processes do not end"
                    )
            place = self._set_aside(folder)
            if place == folder:
                shutil.rmtree(folder)
        finally:
            os.close(lock)
        shutil.rmtree(place, ignore_errors=True)
        for above in folder.parents:
            if above == self._root:
                break
            with suppress(OSError):
                above.rmdir()

    def _set_aside(self, folder: Path) -> Path:
        """Take it from its place in one move; on a disk too full for that it stays, and goes bit by bit."""
        gone = self._root / _GONE
        try:
            self._make_folder(gone)
            return folder.rename(gone / secrets.token_hex(8))
        except OSError as error:
            if error.errno not in _FULL:
                raise
        (folder / files.DEFINITION).unlink(missing_ok=True)
        return folder

    def _sweep(self) -> None:
        """Remove what a crash left of making and removing folders: there are hidden values in them."""
        for name in _names_in(self._root / _GONE):
            shutil.rmtree(self._root / _GONE / name, ignore_errors=True)
        for name in _names_in(self._root / _MAKING):
            place = self._root / _MAKING / name
            with suppress(FileNotFoundError):
                if time.time() - place.stat().st_mtime > _FORGOTTEN_S:
                    shutil.rmtree(place, ignore_errors=True)

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except files.Damaged as error:
            raise PermanentError(
                f"{doing}: {error}", hint="remove the instance, and start another"
            ) from error
        except OSError as error:
            why = "the disk is full" if error.errno in _FULL else (error.strerror or str(error)).lower()
            raise RuntimeUnavailable(f"{doing} in '{self._root}': {why}") from error


def _names_in(folder: Path) -> list[str]:
    try:
        return sorted(name for name in os.listdir(folder) if not name.startswith("."))  # noqa: PTH208
    except (FileNotFoundError, NotADirectoryError):
        return []


def _grace_of(folder: Path) -> float:
    try:
        return float(files.read_definition(folder)["grace_s"])
    except (files.Damaged, FileNotFoundError):
        return 0.0


def _run(
    argv: list[str], environment: dict[str, str], folder: Path, timeout_s: float
) -> tuple[int, str] | None:
    """Start a supervisor; returns its exit status and what it answered, None where it did not in time."""
    complaints = os.open(
        folder / files.COMPLAINTS, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600
    )
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            cwd="/",
            env=environment,
            start_new_session=True,
        )
    finally:
        os.close(complaints)
    with process:
        try:
            said, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            assert process.stdout is not None
            process.stdout.close()
            return None
    return process.returncode, said.decode("utf-8", "replace").strip()


async def _has_ended(descriptor: int, within_s: float) -> bool:
    """Wait for a process by its descriptor."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(within_s):
            await ended.wait()
    except TimeoutError:
        return False
    finally:
        loop.remove_reader(descriptor)
    return True


def _end_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _LOG_END_BYTES))
            return file.read(_LOG_END_BYTES).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _ends_of_logs(folder: Path) -> str:
    return "\n".join(filter(None, (_end_of(folder / name) for name in (files.STDOUT, files.STDERR))))
