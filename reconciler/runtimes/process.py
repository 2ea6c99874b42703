"""The runtime `process`: services as plain processes of this machine, each under a supervisor of its own.

The daemon may end, crash and come back: what runs is found again by the folder of its instance, whose lock
the kernel gives to its supervisor. It reads and writes those folders, starts supervisors and signals them;
services it never touches, but for those whose supervisor is gone.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from typing_extensions import override

import reconciler
from reconciler.errors import Conflict, PermanentError, RuntimeUnavailable
from reconciler.runtimes import instance as files
from reconciler.runtimes import processes, service_files, sight, supervisor, transient
from reconciler.runtimes.definition import account_of, definition_of, faults_here
from reconciler.runtimes.forked import Forker
from reconciler.runtimes.instance_folders import InstanceFolders
from reconciler.runtimes.runtime import (
    Identity,
    Observed,
    Runtime,
    ServiceSpec,
    faults,
    without_hidden,
)

_START_S = 30.0
_ASKED_S = 20.0
_STOP_S = 20.0
_LOCK_AGAIN_S = 0.02
_LOG_END_BYTES = 8192
_WORDS = {supervisor.READY, supervisor.BUSY, supervisor.GONE}
_PYTHON = (sys.executable, "-P", "-S", "-m")
_ENVIRONMENT = {
    "PYTHONPATH": str(Path(reconciler.__file__).resolve().parents[1]),
    "PYTHONDONTWRITEBYTECODE": "1",
    "LC_ALL": "C.UTF-8",
}
_OF_THE_BUS = ("PATH", "XDG_RUNTIME_DIR", "DBUS_SESSION_BUS_ADDRESS")


class ProcessRuntime(Runtime):
    """Services of one daemon; `root` is a folder of the daemon's own, and holds nothing else."""

    def __init__(self, root: Path) -> None:
        self._folders = InstanceFolders(root)
        self._root = self._folders.root
        self._forker = Forker([*_PYTHON, "reconciler.runtimes.forker"], _ENVIRONMENT)

    @property
    @override
    def name(self) -> str:
        return "process"

    @override
    def may_stand_beside(self, spec: ServiceSpec) -> bool:
        return not spec.data and all(port.number is None for port in spec.ports)

    @override
    async def why_not(self) -> str | None:
        return await asyncio.to_thread(self._why_not)

    @override
    async def observe(
        self, environment: str, deployment: str, component: str | None = None
    ) -> tuple[Observed, ...]:
        with self._folders.translated(f"looking at services of '{environment}/{deployment}'"):
            return await asyncio.to_thread(self._observe, environment, deployment, component)

    @override
    async def prepare(self, spec: ServiceSpec) -> None:
        found = faults(spec) or await asyncio.to_thread(self._faults_here, spec)
        if found:
            raise PermanentError(f"preparing service '{spec.identity}': {'; '.join(found)}")
        with self._folders.translated(f"preparing service '{spec.identity}'"):
            await asyncio.to_thread(self._folders.check_room)

    @override
    async def apply(self, spec: ServiceSpec, instance: str) -> Observed:
        found = faults(spec)
        if found:
            raise PermanentError(f"starting service '{spec.identity}': {'; '.join(found)}")
        folder = self._folders.of(spec.identity, instance)
        if files.is_retired(folder):
            await self.remove(spec.identity, instance)
        with self._folders.translated(f"starting service '{spec.identity}'"):
            return await _to_its_end(self._apply, spec, instance, folder)

    @override
    async def remove(self, identity: Identity, instance: str) -> None:
        folder = self._folders.of(identity, instance)
        with self._folders.translated(f"removing service '{identity}'"):
            if not await asyncio.to_thread(self._folders.retire, folder):
                return
            grace_s = await asyncio.to_thread(_grace_of, folder)
            await self._stop(identity, folder, grace_s)
            lock = await asyncio.to_thread(self._locked, identity, folder)
            if lock is not None:
                await asyncio.to_thread(self._clear, identity, folder, lock, grace_s)

    @override
    async def log_end(self, spec: ServiceSpec, instance: str) -> str:
        folder = self._folders.of(spec.identity, instance)
        ends = await asyncio.to_thread(_ends_of_logs, folder)
        return "\n".join(without_hidden(spec, each) for each in ends if each)

    @override
    async def output(self, spec: ServiceSpec, instance: str) -> bytes | None:
        folder = self._folders.of(spec.identity, instance)
        with self._folders.translated(f"reading the output of '{spec.identity}'"):
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

    def _observe(self, environment: str, deployment: str, component: str | None) -> tuple[Observed, ...]:
        looks = (
            sight.look(folder, identity, instance)
            for identity, instance, folder in self._folders.all_of(environment, deployment, component)
        )
        return tuple(observed for observed in looks if observed is not None)

    def _apply(self, spec: ServiceSpec, instance: str, folder: Path) -> Observed:
        self._folders.make(self._root)
        self._folders.sweep()
        if not (folder / files.DEFINITION).exists():
            self._folders.place(folder, lambda fresh: self._write(spec, fresh, folder))
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

    def _write(self, spec: ServiceSpec, fresh: Path, folder: Path) -> None:
        ports = {port.name: self._folders.port(spec, folder.name, port) for port in spec.ports}
        folders = service_files.data_folders(self._root, spec)
        output = None if spec.output_bytes_max is None else str(folder / service_files.OUTPUT)
        files.write_definition(fresh, definition_of(spec, ports, folders, output))

    def _launch(self, spec: ServiceSpec, folder: Path, definition: dict[str, Any]) -> None:
        program = [*_PYTHON, "reconciler.runtimes.supervisor"]
        environment = _ENVIRONMENT
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
            said = self._forker.start(folder, folder / files.COMPLAINTS, spec.grace_s + _START_S)
            if said is None:
                raise _late(spec, folder)
            if said in _WORDS:
                return
            # There was nobody to say it, or it died of something: as a program of its own it says of what.
            argv = [*program, str(folder)]
        answer = _started(argv, environment, folder, spec.grace_s + _START_S, in_unit=unit is not None)
        if answer is None:
            raise _late(spec, folder)
        status, said = answer
        if not (said in _WORDS if unit is None else status == 0) and files.holder(folder) is None:
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
            place = self._folders.set_aside(folder)
        finally:
            os.close(lock)
        self._folders.forget(folder, place)


async def _to_its_end(work: Callable[[ServiceSpec, str, Path], Observed], *about: Any) -> Observed:
    """Do work in a thread; who cancels it waits for its end too.

    A thread goes on: whoever looked before it has made its folder would start the same once more.
    """
    task = asyncio.create_task(asyncio.to_thread(work, *about))
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    failed = task.exception()
    if cancelled is not None:
        raise cancelled
    if failed is not None:
        raise failed
    return task.result()


def _late(spec: ServiceSpec, folder: Path) -> RuntimeUnavailable:
    return RuntimeUnavailable(
        f"starting service '{spec.identity}': its supervisor was not ready within"
        f" {spec.grace_s + _START_S:g} s",
        hint=f"see '{folder / files.COMPLAINTS}'",
    )


def _grace_of(folder: Path) -> float:
    try:
        return float(files.read_definition(folder)["grace_s"])
    except (files.Damaged, FileNotFoundError):
        return 0.0


def _started(
    argv: list[str], environment: dict[str, str], folder: Path, timeout_s: float, *, in_unit: bool
) -> tuple[int, str] | None:
    """What `_run` gives; while the unit is there by another who starts the same instance, it is tried again.

    That one has no lock yet, and may fail to get there.
    """
    deadline = time.monotonic() + _STOP_S
    while True:
        answer = _run(argv, environment, folder, timeout_s)
        if not in_unit or answer is None or answer[0] == 0 or time.monotonic() > deadline:
            return answer
        if files.holder(folder) is not None or not transient.is_taken(_end_of(folder / files.COMPLAINTS)):
            return answer
        time.sleep(_LOCK_AGAIN_S)


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


def _ends_of_logs(folder: Path) -> list[str]:
    return [_end_of(folder / name) for name in (files.STDOUT, files.STDERR)]
