"""The runtime `systemd`: each instance of a service is a unit, of the system's manager or of a user's own.

Unit files are written to stay, so that services come back with the machine; systemd runs, restarts and ends
them. What is kept beside a unit stands in a folder of the daemon's, whose lock whoever changes it holds.
"""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from typing_extensions import override

from reconciler.errors import Conflict, PermanentError, RuntimeUnavailable
from reconciler.runtimes import instance as files
from reconciler.runtimes import service_files, systemd_sight, systemd_unit
from reconciler.runtimes.definition import account_of, faults_of_kind, faults_of_program
from reconciler.runtimes.instance_folders import InstanceFolders
from reconciler.runtimes.runtime import (
    Endpoint,
    Identity,
    Observed,
    Runtime,
    ServiceSpec,
    ServiceState,
    environment_of,
    faults,
    without_hidden,
)
from reconciler.runtimes.systemd_sight import Refused, UnitState

_BOOTED = Path("/run/systemd/system")
_UNITS = Path("/etc/systemd/system")
_ENVIRONMENT = "environment"
_EXIT = "exit"
_HOST = "127.0.0.1"
_START_S = 60.0
_ENDED_S = 30.0
_LOCK_S = 60.0
_AGAIN_S, _AGAIN_MAX_S = 0.01, 0.2
_TRIES_MAX = 5
_EXIT_BYTES_MAX = 256
_UNIT_BYTES_MAX = 4 * 1024 * 1024
_LOG_LINES = 200
_LOG_END_BYTES = 8192
_LOG_S = 15.0
_RIGHT, _EDITED, _MISSING = "right", "edited", "missing"
_RULE = "systemd/49-reconciler.rules, see docs/howto/systemd-services.md"


class SystemdRuntime(Runtime):
    """Services of one daemon; `root` is a folder of the daemon's own, and holds nothing else.

    `user`: units of the manager of the user that the daemon is; that takes no right, and has fewer walls.
    """

    def __init__(self, root: Path, *, user: bool = False) -> None:
        self._folders = InstanceFolders(root)
        self._is_of_a_user = user

    @property
    @override
    def name(self) -> str:
        return "systemd"

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
        with self._translated(f"looking at services of '{environment}/{deployment}'"):
            return await asyncio.to_thread(self._observe, environment, deployment, component)

    @override
    async def prepare(self, spec: ServiceSpec) -> None:
        found = faults(spec) or await asyncio.to_thread(self._faults_here, spec)
        if found:
            raise PermanentError(f"preparing service '{spec.identity}': {'; '.join(found)}")
        with self._translated(f"preparing service '{spec.identity}'"):
            await asyncio.to_thread(self._folders.check_room)

    @override
    async def apply(self, spec: ServiceSpec, instance: str) -> Observed:
        found = faults(spec)
        if found:
            raise PermanentError(f"starting service '{spec.identity}': {'; '.join(found)}")
        folder = self._folders.of(spec.identity, instance)
        doing = f"starting service '{spec.identity}'"
        with self._translated(doing):
            for _ in range(_TRIES_MAX):
                if files.is_retired(folder):
                    await self.remove(spec.identity, instance)
                await asyncio.to_thread(self._make, spec, instance, folder)
                lock = await self._locked(folder, doing)
                if lock is None:
                    continue
                try:
                    if not files.is_retired(folder):
                        return await self._run(spec, instance, folder)
                finally:
                    os.close(lock)
        raise RuntimeUnavailable(f"{doing}: it was removed meanwhile")

    @override
    async def remove(self, identity: Identity, instance: str) -> None:
        folder = self._folders.of(identity, instance)
        name = systemd_unit.unit_name(identity, instance)
        doing = f"removing service '{identity}'"
        with self._translated(doing):
            if not await asyncio.to_thread(self._folders.retire, folder):
                return
            lock = await self._locked(folder, doing)
            if lock is None:
                return
            try:
                await self._stop(name, _grace_of(folder), doing)
                await asyncio.to_thread(self._uninstall, name)
                place = await asyncio.to_thread(self._folders.set_aside, folder)
            finally:
                os.close(lock)
            await asyncio.to_thread(self._folders.forget, folder, place)

    @override
    async def log_end(self, spec: ServiceSpec, instance: str) -> str:
        name = systemd_unit.unit_name(spec.identity, instance)
        folder = self._folders.of(spec.identity, instance)
        return without_hidden(spec, await asyncio.to_thread(self._log_end, folder, name))

    @override
    async def output(self, spec: ServiceSpec, instance: str) -> bytes | None:
        folder = self._folders.of(spec.identity, instance)
        with self._translated(f"reading the output of '{spec.identity}'"):
            return await asyncio.to_thread(service_files.read_output, spec, folder)

    # ---- under the lock of an instance

    async def _run(self, spec: ServiceSpec, instance: str, folder: Path) -> Observed:
        definition = files.read_definition(folder)
        if definition["hash"] != spec.definition_hash:
            raise Conflict(
                f"starting service '{spec.identity}': its instance '{instance}' has another definition",
                hint="name another instance, or remove this one first",
            )
        doing, name = f"starting service '{spec.identity}'", definition["unit"]
        state = await asyncio.to_thread(self._state, name)
        is_edited = self._installed(folder, name) == _EDITED
        if is_edited or systemd_sight.has_ended(state):
            before = systemd_sight.starts(state, files.read_state(folder).run)
            await asyncio.to_thread(files.write_state, folder, files.State(run=before))
            if is_edited or systemd_sight.is_done(state):
                await self._stop(name, spec.grace_s, doing)
            await asyncio.to_thread(self._start, spec, folder, name)
        await self._until(name, lambda found: not found.has_job, _START_S, f"{doing}: it is not started")
        found = await asyncio.to_thread(self._look, [(spec.identity, instance, folder)])
        if not found:
            raise RuntimeUnavailable(f"{doing}: it was removed meanwhile")
        return found[0]

    async def _stop(self, name: str, grace_s: float, doing: str) -> None:
        def ask() -> None:
            with self._bus() as bus, suppress_missing():
                bus.stop(name)

        await asyncio.to_thread(ask)
        await self._until(
            name,
            lambda found: not found.has_job and found.active in {"inactive", "failed"},
            grace_s + _ENDED_S,
            f"{doing}: its unit '{name}' does not end",
        )

    async def _until(
        self, name: str, is_so: Callable[[UnitState], bool], within_s: float, otherwise: str
    ) -> None:
        deadline, pause_s = time.monotonic() + within_s, _AGAIN_S
        while not is_so(await asyncio.to_thread(self._state, name)):
            if time.monotonic() > deadline:
                raise RuntimeUnavailable(f"{otherwise} within {within_s:g} s")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _AGAIN_MAX_S)

    async def _locked(self, folder: Path, doing: str) -> int | None:
        """The lock of its folder; None where another has removed it."""
        deadline, pause_s = time.monotonic() + _LOCK_S + _grace_of(folder), _AGAIN_S
        while (folder / files.LOCK).exists():
            lock = files.take(folder)
            if lock is not None:
                return lock
            if time.monotonic() > deadline:
                raise RuntimeUnavailable(f"{doing}: another is at it and does not end")
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _AGAIN_MAX_S)
        return None

    # ---- below: blocking, in a thread

    def _bus(self) -> AbstractContextManager[Any]:
        try:
            from reconciler.runtimes import systemd_bus  # an extra: whoever has no units needs none
        except ImportError:
            raise RuntimeUnavailable(
                "speaking to systemd: jeepney is not installed", hint="pip install 'pg-reconciler[systemd]'"
            ) from None
        return systemd_bus.connected(systemd_bus.address_of(user=self._is_of_a_user))

    def _why_not(self) -> str | None:
        if not _BOOTED.is_dir():
            return "services as units need a machine that systemd has booted"
        if find_spec("jeepney") is None:
            return "services as units need jeepney: pip install 'pg-reconciler[systemd]'"
        if not _is_writable(self._folders.root):
            return f"what is kept of units is in '{self._folders.root}', where this user may not write"
        try:
            with self._bus() as bus:
                bus.may_enable()
        except Refused as error:
            if error.name not in systemd_sight.DENIED:
                return f"systemd does not let its units be changed: {error}"
            return f"systemd does not let this user have units: it needs the polkit rule {_RULE}"
        except OSError as error:
            return f"systemd is not reached over D-Bus: {error.strerror or error}"
        return None

    def _faults_here(self, spec: ServiceSpec) -> list[str]:
        found = faults_of_kind(spec, "a unit")
        try:
            account = account_of(spec.user)
        except PermanentError:
            return [*found, f"there is no user '{spec.user}'"]
        if self._is_of_a_user and account is not None and account[0] != os.geteuid():
            found.append(f"it cannot run as '{spec.user}': the manager of a user runs all as that user")
        found += faults_of_program(spec)
        return found + systemd_unit.faults_of_texts(spec, environment_of(spec, {}))

    def _make(self, spec: ServiceSpec, instance: str, folder: Path) -> None:
        self._folders.make(self._folders.root)
        self._folders.sweep()
        if not (folder / files.DEFINITION).exists():
            with self._bus() as bus:
                version = bus.version()
            self._folders.place(folder, lambda fresh: self._write(spec, instance, (fresh, folder), version))

    def _write(
        self, spec: ServiceSpec, instance: str, fresh_and_folder: tuple[Path, Path], version: int
    ) -> None:
        fresh, folder = fresh_and_folder
        program = _program_of(spec)
        if program is None:
            why = "; ".join(faults_of_program(spec)) or "it has no program"
            raise PermanentError(f"starting service '{spec.identity}': {why}")
        fresh.chmod(0o700)
        ports = {port.name: self._folders.port(spec, folder.name, port) for port in spec.ports}
        named = {name: str(folder / name) for name in (_ENVIRONMENT, _EXIT, service_files.OUTPUT)}
        output = None
        if spec.output_bytes_max is not None:
            output = named[service_files.OUTPUT] if self._is_of_a_user else systemd_unit.OUTPUT_INSIDE
        place = systemd_unit.Place(
            folder=folder, program=program, ports=ports, is_of_a_user=self._is_of_a_user, version=version
        )
        name = systemd_unit.unit_name(spec.identity, instance)
        environment = environment_of(spec, ports, None, output)
        _write_new(fresh / _ENVIRONMENT, systemd_unit.environment_text(environment), 0o600)
        _write_new(fresh / name, systemd_unit.unit_text(spec, instance, place, named), 0o644)
        files.write_definition(
            fresh,
            {
                "format": files.FORMAT,
                "hash": spec.definition_hash,
                "unit": name,
                "ports": ports,
                "grace_s": spec.grace_s,
            },
        )

    def _units(self, folder: Path) -> Path:
        """Where its unit file is for systemd to read: the system's own folder where we may write there.

        Else it is linked from ours, which has to be there when the machine starts.
        """
        return _UNITS if not self._is_of_a_user and os.access(_UNITS, os.W_OK) else folder

    def _installed(self, folder: Path, name: str) -> str:
        try:
            with (folder / name).open("rb") as file:
                wanted = file.read(_UNIT_BYTES_MAX)
            with (self._units(folder) / name).open("rb") as file:
                found = file.read(_UNIT_BYTES_MAX)
        except FileNotFoundError:
            return _MISSING
        return _RIGHT if found == wanted else _EDITED

    def _start(self, spec: ServiceSpec, folder: Path, name: str) -> None:
        if spec.output_bytes_max is not None:
            # Every user may write it, once inside of the folder that only we and systemd can enter.
            service_files.make_output(folder, None, 0o666)
        place = self._units(folder)
        if self._installed(folder, name) != _RIGHT:
            fresh = place / f".{name}.{os.getpid()}"
            shutil.copyfile(folder / name, fresh)
            fresh.chmod(0o644)
            fresh.replace(place / name)
        with self._bus() as bus:
            bus.enable(place / name)
            if bus.states([name])[name].is_outdated:
                bus.reload()
            with suppress_missing():
                bus.reset_failed(name)
            bus.start(name)

    def _uninstall(self, name: str) -> None:
        with self._bus() as bus:
            with suppress_missing():
                bus.reset_failed(name)
            with suppress_missing():
                bus.disable(name)
            if not self._is_of_a_user and os.access(_UNITS, os.W_OK):
                (_UNITS / name).unlink(missing_ok=True)

    def _state(self, name: str) -> UnitState:
        with self._bus() as bus:
            found: UnitState = bus.states([name])[name]
        return found

    def _observe(self, environment: str, deployment: str, component: str | None) -> tuple[Observed, ...]:
        there = list(self._folders.all_of(environment, deployment, component))
        return tuple(self._look(there)) if there else ()

    def _look(self, there: list[tuple[Identity, str, Path]]) -> list[Observed]:
        kept: list[tuple[Identity, str, Path, dict[str, Any] | None]] = []
        for identity, instance, folder in there:
            with suppress(FileNotFoundError):
                try:
                    kept.append((identity, instance, folder, files.read_definition(folder)))
                except files.Damaged:
                    kept.append((identity, instance, folder, None))
        names = [definition["unit"] for *_, definition in kept if definition is not None]
        with self._bus() as bus:
            states = bus.states(names)
        found = []
        for identity, instance, folder, definition in kept:
            if definition is None:
                reason = f"'{folder / files.DEFINITION}' is damaged"
                found.append(
                    Observed(identity=identity, instance=instance, state=ServiceState.UNKNOWN, reason=reason)
                )
                continue
            with suppress(FileNotFoundError):
                found.append(self._seen(identity, instance, folder, definition, states[definition["unit"]]))
        return found

    def _seen(
        self, identity: Identity, instance: str, folder: Path, definition: dict[str, Any], state: UnitState
    ) -> Observed:
        status = systemd_sight.exit_status(state, _noted(folder / _EXIT))
        how, reason = systemd_sight.judged(state, status)
        is_edited = self._installed(folder, definition["unit"]) == _EDITED
        if files.is_retired(folder):
            how, reason = ServiceState.UNHEALTHY, "it is being removed"
        return Observed(
            identity=identity,
            instance=instance,
            state=how,
            definition_hash="" if is_edited else definition["hash"],
            since=state.since,
            handle=f"{state.name}, pid {state.main_pid}" if state.main_pid else "",
            endpoints=tuple(
                Endpoint(name=name, host=_HOST, port=port) for name, port in definition["ports"].items()
            ),
            exit_status=status,
            starts=systemd_sight.starts(state, files.read_state(folder).run),
            reason="its unit file was edited" if is_edited and not reason else reason,
        )

    def _log_end(self, folder: Path, name: str) -> str:
        """The end of its journal, as far as this user may read that; not of an earlier one of its name."""
        try:
            made = (folder / files.DEFINITION).stat().st_mtime
        except FileNotFoundError:
            return ""
        if os.geteuid() == 0:
            _said(["journalctl", "--sync"])
        field = "_SYSTEMD_USER_UNIT" if self._is_of_a_user else "_SYSTEMD_UNIT"
        query = [
            "journalctl",
            "--quiet",
            "--no-pager",
            "--output=cat",
            f"--since=@{made:.6f}",
            f"--lines={_LOG_LINES}",
        ]
        return _said([*query, f"{field}={name}"])[-_LOG_END_BYTES:].decode("utf-8", "replace").strip()

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            with self._folders.translated(doing):
                yield
        except Refused as error:
            if error.name in systemd_sight.DENIED:
                raise PermanentError(
                    f"{doing}: systemd does not let this user do it: {error}",
                    hint=f"install the polkit rule {_RULE}",
                ) from error
            raise RuntimeUnavailable(f"{doing}: systemd refused: {error}") from error


@contextmanager
def suppress_missing() -> Iterator[None]:
    """A unit that is not there, or not any more, is nothing to complain of."""
    try:
        yield
    except Refused as error:
        if error.name != systemd_sight.NO_SUCH_UNIT:
            raise


def _is_writable(root: Path) -> bool:
    there = next(place for place in (root, *root.parents) if place.exists())
    return os.access(there, os.W_OK | os.X_OK)


def _program_of(spec: ServiceSpec) -> str | None:
    """The whole path of its program, for systemd looks in places of its own."""
    if not spec.argv:
        return None
    if "/" in spec.argv[0]:
        return os.path.normpath(Path(spec.cwd or "/") / spec.argv[0])
    return shutil.which(spec.argv[0], path=environment_of(spec, {})["PATH"])


def _write_new(path: Path, text: str, mode: int) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(text.encode("utf-8", "surrogateescape"))
        file.flush()
        os.fsync(file.fileno())


def _grace_of(folder: Path) -> float:
    try:
        return float(files.read_definition(folder)["grace_s"])
    except (files.Damaged, FileNotFoundError):
        return 0.0


def _noted(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_EXIT_BYTES_MAX).decode("ascii", "replace")
    except OSError:
        return ""


def _said(argv: list[str]) -> bytes:
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=_LOG_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return b""
    return done.stdout
