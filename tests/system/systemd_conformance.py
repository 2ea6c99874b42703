"""The runtime `systemd` does what every runtime does; `test_systemd_services` runs it while booted.

With XDG_RUNTIME_DIR set it is the manager of the user root that is tried.
"""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pytest

pytest.register_assert_rewrite("tests.integration.runtimes.conformance")

from reconciler.errors import RuntimeUnavailable  # noqa: E402
from reconciler.runtimes.runtime import Identity, Observed, ServiceState  # noqa: E402
from reconciler.runtimes.systemd import SystemdRuntime  # noqa: E402
from reconciler.runtimes.systemd_bus import SystemdBus  # noqa: E402
from tests.integration.runtimes.conformance import Conformance, in_state, look  # noqa: E402
from tests.plugins.services import API, FOR_EVER, shell  # noqa: E402

USER = "XDG_RUNTIME_DIR" in os.environ
GROUPS = Path("/sys/fs/cgroup") / (
    "user.slice/user-0.slice/user@0.service/app.slice" if USER else "system.slice"
)
UNITS = Path("/etc/systemd/system")
NUMBERS = count(1)
PLACE = Path("/srv/services-of-tests")


class SystemdBench:
    """The runtime `systemd` in folders of its own."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "services"
        self.runtime = SystemdRuntime(self.root, user=USER)
        self._written = folder / "written"
        self._written.mkdir(parents=True)
        self._written.chmod(0o777)

    @property
    def place(self) -> str:
        """Services under their walls may not write there, but for what `opened` lets them."""
        return str(self._written)

    def read(self, name: str) -> str:
        """A file that a service wrote there."""
        path = self._written / name
        return path.read_text() if path.exists() else ""

    def again(self) -> SystemdRuntime:
        """Another one on the same folder."""
        return SystemdRuntime(self.root, user=USER)

    async def kill(self, observed: Observed) -> None:
        """Kill its main process."""
        os.kill(int(observed.handle.rpartition(" ")[2]), 9)

    async def running(self) -> int:
        """All processes of all our units."""
        return len(pids())

    async def close(self) -> None:
        """End everything, and see that nothing is left."""
        for path in list(self.root.rglob("definition.json")):
            environment, deployment, component, instance = path.parts[-5:-1]
            identity = Identity(environment=environment, deployment=deployment, component=component)
            await self.runtime.remove(identity, instance)
        check_nothing_is_left()
        shutil.rmtree(self._written.parent)


def pids() -> list[str]:
    return [pid for group in GROUPS.glob("reconciler-*/cgroup.procs") for pid in group.read_text().split()]


def check_nothing_is_left() -> None:
    assert pids() == []
    assert list(UNITS.rglob("*reconciler-*-one-*.service")) == []
    manager = ["--user"] if USER else []
    listed = subprocess.run(
        ["systemctl", *manager, "list-units", "--all", "--plain", "--no-legend", "reconciler-production-*"],
        capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert "failed" not in listed.stdout
    for place in (
        "/var/lib/private/reconciler-data",
        "/var/lib/reconciler-data",
        "/root/.config/reconciler-data",
    ):
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module", autouse=True)
def opened() -> Iterator[None]:
    """An administrator opens a wall for the services of an environment: by the first part of their names."""
    folder = UNITS / "reconciler-production-.service.d"
    folder.mkdir()
    PLACE.mkdir()
    (folder / "test.conf").write_text(f"[Service]\nReadWritePaths={PLACE}\n")
    yield
    shutil.rmtree(folder)
    shutil.rmtree(PLACE)


@pytest.fixture
async def bench() -> AsyncIterator[SystemdBench]:
    """Services as units; all are gone at the end."""
    found = SystemdBench(PLACE / str(next(NUMBERS)))
    yield found
    await found.close()


class TestSystemd(Conformance):
    """The whole suite."""

    @pytest.mark.parametrize("call", ["version", "enable", "reset_failed", "start"])
    async def test_start_that_was_cut_short_is_finished(self, bench: SystemdBench, call: str) -> None:
        """Whoever comes after a daemon that died while it started an instance starts it, once."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SystemdBus, call, _cut)
            with pytest.raises(RuntimeUnavailable):
                await bench.runtime.apply(shell(FOR_EVER), "one")
        await bench.again().apply(shell(FOR_EVER), "one")
        assert (await in_state(bench.runtime, "one", ServiceState.HEALTHY)).starts == 1
        assert await bench.running() == 1

    @pytest.mark.parametrize("call", ["stop", "reset_failed", "disable"])
    async def test_removal_that_was_cut_short_is_finished(self, bench: SystemdBench, call: str) -> None:
        """What was being removed is not taken for what runs, and is gone once somebody asks again."""
        await bench.runtime.apply(shell(FOR_EVER), "one")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(SystemdBus, call, _cut)
            with pytest.raises(RuntimeUnavailable):
                await bench.runtime.remove(API, "one")
        found = await look(bench.again(), "one")
        assert found is not None
        assert (found.state, found.reason) == (ServiceState.UNHEALTHY, "it is being removed")
        await bench.again().remove(API, "one")
        assert await look(bench.runtime, "one") is None


def _cut(*_: object) -> None:
    raise ConnectionResetError("the bus went away")
