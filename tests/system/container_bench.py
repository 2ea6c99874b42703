"""The runtime `container` on an engine of the tests: services are scripts in an image of BusyBox."""

import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from typing_extensions import override

from reconciler.runtimes.container import ContainerRuntime
from reconciler.runtimes.engine import Engine as Api
from reconciler.runtimes.engine import EngineRefusal
from reconciler.runtimes.exchange import Address
from reconciler.runtimes.runtime import Data, Observed, ServiceSpec
from tests.plugins.services import until
from tests.system.engine import Engine, engine_folder, network_namespace

IMAGE = "busybox:test"
BUSYBOX = Path("/usr/bin/busybox")
WRITTEN = Data(name="written", path="/written")


@contextmanager
def running_engine(*switches: str) -> Iterator[tuple[Engine, str]]:
    """An engine in a network of its own, with the image; and the name of that network."""
    with engine_folder() as folder, network_namespace() as namespace:
        engine = Engine(folder)
        engine.start(*switches, namespace=namespace)
        try:
            tree = folder / "busybox.tar"
            tree.write_bytes(busybox())
            engine.docker("import", str(tree), IMAGE)
            tree.unlink()
            yield engine, namespace
        finally:
            engine.stop()


def busybox() -> bytes:
    """The tree of an image with a shell and the programs that scripts need."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name in ("bin", "tmp", "etc"):
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if name == "tmp" else 0o755
            tar.addfile(entry)
        users = b"root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n"
        entry = tarfile.TarInfo("etc/passwd")
        entry.size, entry.mode = len(users), 0o644
        tar.addfile(entry, io.BytesIO(users))
        entry = tar.gettarinfo(str(BUSYBOX), "bin/busybox")
        entry.mode = 0o755
        with BUSYBOX.open("rb") as file:
            tar.addfile(entry, file)
        for name in (
            "sh",
            "sleep",
            "touch",
            "cat",
            "echo",
            "test",
            "seq",
            "head",
            "dd",
            "httpd",
            "wget",
            "id",
        ):
            entry = tarfile.TarInfo(f"bin/{name}")
            entry.type, entry.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(entry)
    return archive.getvalue()


class InImage(ContainerRuntime):
    """The runtime, with an image for services that name none, and a place to write to for tests to read."""

    def _filled(self, spec: ServiceSpec) -> ServiceSpec:
        if spec.image is not None or spec.build is not None:
            return spec
        return replace(spec, image=IMAGE, data=(*spec.data, WRITTEN))

    @override
    async def prepare(self, spec: ServiceSpec) -> None:
        await super().prepare(self._filled(spec))

    @override
    async def apply(self, spec: ServiceSpec, instance: str) -> Observed:
        return await super().apply(self._filled(spec), instance)


class ContainerBench:
    """The runtime `container` on a shared engine."""

    def __init__(self, engine: Engine, owner: str = "bench") -> None:
        self.engine = engine
        self.api = Api(Address(text=engine.address))
        self.owner = owner
        self.runtime = self.again()

    @property
    def place(self) -> str:
        """Where a service writes to."""
        return str(WRITTEN.path)

    def read(self, name: str) -> str:
        """A file that the service `api` wrote there."""
        volume = "reconciler-production-eu-api-written"
        with suppress(FileNotFoundError):
            return (self.engine.folder / "root/volumes" / volume / "_data" / name).read_text()
        return ""

    def again(self) -> InImage:
        """Another one on the same engine."""
        return InImage(host=self.engine.address, owner=self.owner)

    async def kill(self, observed: Observed) -> None:
        """Kill its first process, as nobody does who asks the engine."""
        os.kill(int(observed.handle.rpartition("pid ")[2]), 9)

    async def ids(self, *, all_of_them: bool = False) -> list[str]:
        """Containers with our mark."""
        mark = {"label": [f"reconciler.owner={self.owner}"]}
        listed = await self.api.get("/containers/json", all=int(all_of_them), filters=mark)
        return [str(each["Id"]) for each in listed]

    async def running(self) -> int:
        """How many processes run in containers of ours, beside the first of each, which starts the others."""
        found = [
            await until(partial(self._pids, each), f"'{each}' to start its program")
            for each in await self.ids()
        ]
        return sum(len(pids) - 1 for pids in found)

    async def _pids(self, identifier: str) -> list[Any] | None:
        """Its processes once there is more than the first; where it ended, one that counts for nothing."""
        try:
            pids = (await self.api.get(f"/containers/{identifier}/top"))["Processes"]
        except EngineRefusal:
            pids = []
        if identifier not in await self.ids():
            return ["one"]
        return list(pids) if len(pids) > 1 else None

    async def close(self) -> None:
        """End everything, and remove what it wrote."""
        mark = {"label": [f"reconciler.owner={self.owner}"]}
        for each in await self.ids(all_of_them=True):
            await self.api.delete(f"/containers/{each}", force=1, v=1)
        for each in (await self.api.get("/volumes", filters=mark))["Volumes"] or []:
            await self.api.delete(f"/volumes/{each['Name']}")
