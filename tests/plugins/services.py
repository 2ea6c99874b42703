"""Services for tests: definitions of small shell scripts, and runtimes that are clean again afterwards."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from reconciler.runtimes import instance as files
from reconciler.runtimes import processes
from reconciler.runtimes.process import ProcessRuntime
from reconciler.runtimes.runtime import Health, Identity, Observed, Restart, Runtime, ServiceSpec

T = TypeVar("T")
DEADLINE_S = 60.0
AGAIN_S = 0.02
API = Identity(environment="production", deployment="eu", component="api")
QUICKLY = Restart(delay_s=0.01, delay_max_s=0.02)
FOR_EVER = "exec sleep 1000"


async def until(condition: Callable[[], Awaitable[T | None]], what: str, deadline_s: float = DEADLINE_S) -> T:
    """Wait for a condition; what it gives is returned once it is true."""
    deadline = time.monotonic() + deadline_s
    while not (found := await condition()):
        assert time.monotonic() < deadline, f"waited {deadline_s:g} s for {what}"
        await asyncio.sleep(AGAIN_S)
    return found


def shell(script: str, **changes: Any) -> ServiceSpec:
    """A service that is a script of the shell; its hash is of all that it is."""
    spec = ServiceSpec(
        identity=API,
        definition_hash="",
        argv=("/bin/sh", "-c", script),
        grace_s=5.0,
        health=Health(interval_s=AGAIN_S, steady_s=0.1),
        restart=QUICKLY,
    )
    spec = replace(spec, **changes)
    return replace(spec, definition_hash=hashlib.sha256(repr(spec).encode()).hexdigest()[:16])


class Bench(Protocol):
    """What a runtime brings to be tried."""

    runtime: Runtime

    @property
    def place(self) -> str:
        """A folder that services of it can write to, as they see it."""
        ...

    def read(self, name: str) -> str:
        """A file that a service wrote there; empty where it did not yet."""
        ...

    def again(self) -> Runtime:
        """The runtime as a daemon has it that was started anew."""
        ...

    async def kill(self, observed: Observed) -> None:
        """End the service of an instance as a crash would."""
        ...

    async def running(self) -> int:
        """How many processes run, whatever the runtime thinks."""
        ...


class ProcessBench:
    """The runtime `process` in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "services"
        self.runtime = ProcessRuntime(self.root)
        self._written = folder / "written"
        self._written.mkdir(mode=0o777)
        self._tokens: set[str] = set()

    @property
    def place(self) -> str:
        """A folder that services can write to."""
        return str(self._written)

    def read(self, name: str) -> str:
        """A file that a service wrote there."""
        with suppress(FileNotFoundError):
            return (self._written / name).read_text()
        return ""

    def again(self) -> ProcessRuntime:
        """Another one on the same folder."""
        return ProcessRuntime(self.root)

    async def kill(self, observed: Observed) -> None:
        """Kill its process."""
        found = processes.look(int(observed.handle.removeprefix("pid ")))
        assert found is not None
        processes.send(found, 9)

    def folder(self, instance: str, identity: Identity = API) -> Path:
        """Where an instance is kept."""
        return self.root / identity.environment / identity.deployment / identity.component / instance

    def definitions(self) -> list[Path]:
        """The folders of all instances there are."""
        return [path.parent for path in self.root.glob(f"*/*/*/*/{files.DEFINITION}")]

    def pids(self) -> list[int]:
        """All processes with the mark of an instance that is there, or was when this was asked before."""
        for folder in self.definitions():
            self._tokens.add(files.read_definition(folder)["token"])
        return [each.pid for token in self._tokens for each in processes.belonging(token)]

    async def running(self) -> int:
        """How many there are."""
        return len(self.pids())

    async def close(self) -> None:
        """End everything, and see that nothing is left."""
        self.pids()
        for folder in self.definitions():
            environment, deployment, component, instance = folder.parts[-4:]
            identity = Identity(environment=environment, deployment=deployment, component=component)
            await self.runtime.remove(identity, instance)
        assert self.pids() == []
        assert self.definitions() == []


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[ProcessBench]:
    """Services as processes; all are gone at the end."""
    found = ProcessBench(tmp_path)
    yield found
    await found.close()
