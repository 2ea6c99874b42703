"""What the runtime `container` makes of a service, and what becomes of it when things go wrong around it."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from reconciler.errors import Conflict, PermanentError, RuntimeUnavailable
from reconciler.runtimes.container import ContainerRuntime
from reconciler.runtimes.engine import Engine as Api
from reconciler.runtimes.exchange import Answer
from reconciler.runtimes.health import until_steady
from reconciler.runtimes.runtime import (
    Build,
    CommandCheck,
    Data,
    Health,
    HttpCheck,
    Limits,
    Observed,
    Port,
    Restart,
    RestartWhen,
    ServiceState,
)

pytest.register_assert_rewrite("tests.integration.runtimes.conformance")

from tests.integration.runtimes.conformance import ONCE, in_state, look  # noqa: E402
from tests.plugins.package import must  # noqa: E402
from tests.plugins.services import API, FOR_EVER, shell, until  # noqa: E402
from tests.system.conftest import until as ready  # noqa: E402
from tests.system.container_bench import IMAGE, ContainerBench, InImage, running_engine  # noqa: E402
from tests.system.engine import Engine  # noqa: E402

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def placed() -> Iterator[tuple[Engine, str]]:
    """An engine for all tests here, and the name of its network."""
    with running_engine("--live-restore") as found:
        yield found


@pytest.fixture
async def bench(placed: tuple[Engine, str]) -> AsyncIterator[ContainerBench]:
    """Services as containers; all are gone at the end."""
    found = ContainerBench(placed[0])
    yield found
    await found.close()


def container(bench: ContainerBench, observed: Observed) -> dict[str, Any]:
    return bench.engine.inspect(observed.handle.removeprefix("container ").partition(",")[0])


async def test_ports_are_published_and_told(bench: ContainerBench, placed: tuple[Engine, str]) -> None:
    """A service listens where it is told inside, and is reached where its endpoint says, for all its life."""
    script = "echo hello > /tmp/index.html; exec httpd -f -p $PORT_WEB -h /tmp"
    spec = shell(script, ports=(Port(name="web"), Port(name="admin", number=8080)))
    observed = await bench.runtime.apply(spec, "one")
    web, admin = observed.endpoints
    assert (web.name, web.host, admin.name) == ("web", "127.0.0.1", "admin")
    inside = ["nsenter", f"--net=/run/netns/{placed[1]}", "/usr/bin/busybox", "wget", "-qO-"]

    async def answered() -> str:
        url = f"http://{web.host}:{web.port}/index.html"
        done = await asyncio.to_thread(
            subprocess.run, [*inside, url], capture_output=True, text=True, check=False
        )
        return str(done.stdout)

    assert await until(answered, "the service to answer") == "hello\n"
    await bench.kill(observed)

    async def again() -> Observed | None:
        found = await look(bench.runtime, "one")
        return found if found is not None and found.starts == 2 else None

    assert (await until(again, "it to be started again")).endpoints == observed.endpoints
    networks = container(bench, observed)["NetworkSettings"]["Networks"]
    assert ["api" in each["Aliases"] for each in networks.values()] == [True]


async def test_a_port_that_was_taken_meanwhile_is_another(bench: ContainerBench) -> None:
    """What cannot start for its port, which somebody took while it was stopped, is made anew with another."""
    spec = shell(FOR_EVER, ports=(Port(name="web"),))
    before = await bench.runtime.apply(spec, "one")
    bench.engine.docker("stop", "--time=0", container(bench, before)["Id"])
    taken = f"127.0.0.1:{before.endpoints[0].port}:80"
    other = bench.engine.docker(
        "run", "--detach", "--init", "--publish", taken, IMAGE, "sleep", "1000"
    ).stdout.strip()
    try:
        after = await bench.runtime.apply(spec, "one")
        assert after.state is ServiceState.HEALTHY
        assert after.endpoints[0].port != before.endpoints[0].port
        assert await bench.running() == 1
    finally:
        bench.engine.docker("rm", "--force", other)


async def test_limits_are_held(bench: ContainerBench) -> None:
    """Memory, processors, processes and open files are what was asked; want of memory is told as it is."""
    spec = shell(
        "ulimit -n > /written/files; exec dd if=/dev/zero of=/dev/null bs=64M",
        limits=Limits(memory_bytes=16 * 1024 * 1024, cpus=0.5, processes=20, open_files=100),
        restart=ONCE,
    )
    await bench.runtime.prepare(spec)
    observed = await bench.runtime.apply(spec, "one")
    host = container(bench, observed)["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["PidsLimit"]) == (16 * 1024 * 1024, 500_000_000, 20)
    found = await in_state(bench.runtime, "one", ServiceState.EXITED)
    assert "for want of memory" in found.reason
    assert bench.read("files") == "100\n"
    with pytest.raises(PermanentError, match="above the") as refused:
        await bench.runtime.prepare(replace(spec, limits=Limits(cpus=4096.0), networks=("nowhere",)))
    assert "no network 'nowhere'" in str(refused.value)


async def test_its_check_runs_inside(bench: ContainerBench) -> None:
    """A command that asks after its health runs in the container, and nothing counts before it agrees."""
    check = CommandCheck(argv=("test", "-e", "/tmp/ready"))
    health = Health(check=check, interval_s=0.1, steady_s=0.3, deadline_s=30.0)
    spec = shell(FOR_EVER, health=health)
    observed = await bench.runtime.apply(spec, "one")
    assert observed.state is ServiceState.STARTING
    bench.engine.docker("exec", container(bench, observed)["Id"], "touch", "/tmp/ready")
    outcome = await until_steady(spec, lambda: look(bench.runtime, "one"))
    assert outcome.is_steady, outcome.reason
    bench.engine.docker("exec", container(bench, observed)["Id"], "sh", "-c", "rm /tmp/ready")
    found = await in_state(bench.runtime, "one", ServiceState.UNHEALTHY)
    assert found.reason == "its health check failed and exited with 1"


async def test_edits_by_hand_show(bench: ContainerBench) -> None:
    """What was renamed, updated or cut off has no definition of ours, until it is applied again."""
    spec = shell(FOR_EVER)
    made = await bench.runtime.apply(spec, "one")
    network = next(iter(container(bench, made)["NetworkSettings"]["Networks"]))
    edits = (
        (lambda: ["rename", identifier, "mine"], "renamed"),
        (lambda: ["update", "--memory=32m", "--memory-swap=32m", identifier], "edited"),
        (lambda: ["update", "--restart=no", identifier], "edited"),
        (lambda: ["network", "disconnect", network, identifier], "edited"),
    )
    identifier = container(bench, made)["Id"]
    for edit, word in edits:
        bench.engine.docker(*edit())
        found = await look(bench.again(), "one")
        assert found is not None
        assert (found.state, found.definition_hash) == (ServiceState.HEALTHY, "")
        assert found.reason == f"it was {word} by hand"
        again = await bench.runtime.apply(spec, "one")
        assert again.definition_hash == spec.definition_hash
        identifier = container(bench, again)["Id"]
    assert await bench.running() == 1
    bench.engine.docker("rm", "--force", identifier)
    assert await look(bench.runtime, "one") is None


async def test_paused_and_stopped_by_hand(bench: ContainerBench) -> None:
    """What somebody paused or stopped shows as that, and goes on where it is applied again."""
    spec = shell(FOR_EVER, restart=Restart(when=RestartWhen.ALWAYS))
    identifier = container(bench, await bench.runtime.apply(spec, "one"))["Id"]
    for verb, state in (("pause", ServiceState.UNHEALTHY), ("kill", ServiceState.EXITED)):
        bench.engine.docker(verb, identifier)
        await in_state(bench.runtime, "one", state)
        assert (await bench.runtime.apply(spec, "one")).state is ServiceState.HEALTHY
    assert container(bench, await in_state(bench.runtime, "one", ServiceState.HEALTHY))["Id"] == identifier


async def test_what_is_of_others_stays(bench: ContainerBench) -> None:
    """A name or a volume that is somebody's is not taken, and another owner's instances are not seen."""
    spec = shell(FOR_EVER, data=(Data(name="main"),))
    other = ContainerBench(bench.engine, "other")
    made = await bench.runtime.apply(spec, "one")
    assert await other.runtime.observe("production", "eu") == ()
    with pytest.raises(Conflict, match="volume 'reconciler-production-eu-api-main' is there and not ours"):
        await other.runtime.apply(spec, "one")
    await other.runtime.remove(API, "one")
    assert await look(bench.runtime, "one") == made
    await other.close()
    name = container(bench, made)["Name"].removeprefix("/")
    await bench.runtime.remove(API, "one")
    bench.engine.docker("run", "--detach", "--name", name, IMAGE, "sleep", "1000")
    try:
        with pytest.raises(Conflict, match=f"not ours has the name '{name}'"):
            await bench.runtime.apply(spec, "one")
        await bench.runtime.remove(API, "one")
        assert bench.engine.inspect(name)["State"]["Running"]
    finally:
        bench.engine.docker("rm", "--force", name)


async def test_built_once(bench: ContainerBench) -> None:
    """An image is built from the files of a commit, once; one that cannot be built says why, at its end."""
    files = {
        "Dockerfile": b'FROM busybox:test\nCOPY bin/api /bin/api\nRUN /bin/api\nCMD ["/bin/api", "on"]\n',
        "bin/api": b"#!/bin/sh\necho api $1\ntest -z $1 || exec sleep 1000\n",
    }
    build = Build(tag_hash="a" * 64, dockerfile="Dockerfile", files=files)
    spec = replace(shell(""), argv=(), build=build)
    await bench.runtime.prepare(spec)
    image = bench.engine.inspect(f"reconciler-build:{build.tag_hash}")["Id"]
    await bench.again().prepare(replace(spec, build=replace(build, files={"Dockerfile": b"FROM nothing"})))
    observed = await bench.runtime.apply(spec, "one")
    assert container(bench, observed)["Image"] == image
    assert observed.state is ServiceState.HEALTHY

    async def said() -> str:
        return await bench.runtime.log_end(spec, "one")

    assert await until(said, "it to speak") == "api on"
    broken = {**files, "bin/api": b"#!/bin/sh\necho the last words\nexit 3\n"}
    with pytest.raises(PermanentError, match="building the image of service 'production/eu/api'") as failed:
        await bench.runtime.prepare(replace(spec, build=replace(build, tag_hash="b" * 64, files=broken)))
    assert "returned a non-zero code: 3" in str(failed.value)
    assert "the last words" in str(failed.value)
    without = replace(build, tag_hash="c" * 64, dockerfile="Other")
    with pytest.raises(PermanentError, match="by 'Other': there is no such file"):
        await bench.runtime.prepare(replace(spec, build=without))


async def test_cannot_start(bench: ContainerBench) -> None:
    """A user that its image does not have is said at once, and leaves nothing; a program, by how it ends."""
    with pytest.raises(PermanentError, match="unable to find user ghost"):
        await bench.runtime.apply(shell(FOR_EVER, user="ghost"), "one")
    assert await bench.runtime.observe("production", "eu") == ()
    spec = shell("", argv=("no-such",))
    await bench.runtime.apply(spec, "one")
    outcome = await until_steady(spec, lambda: look(bench.runtime, "one"))
    assert "it ended with 127" in outcome.reason
    assert "no-such failed: No such file or directory" in await bench.runtime.log_end(spec, "one")


class Cut(Exception):
    """The daemon died here."""


class DyingApi(Api):
    """An engine's API to one who dies after so many calls that changed something."""

    def __init__(self, api: Api, after: int) -> None:
        super().__init__(api.address)
        self.left = after

    @override
    async def _call(self, method: str, path: str, query: Mapping[str, Any], **how: Any) -> Answer:
        if method != "GET" and self.left == 0:
            raise Cut
        answer = await super()._call(method, path, query, **how)
        self.left -= method != "GET"
        return answer


class Dying(InImage):
    """The runtime of a daemon that dies on the way."""

    after = 0

    @override
    def _engine(self) -> Api:
        if not isinstance(self._made, DyingApi):
            self._made = DyingApi(super()._engine(), self.after)
        return self._made


async def test_killed_on_the_way(bench: ContainerBench) -> None:
    """Wherever a daemon dies in applying or removing, the next one ends with one instance, or none."""
    spec = shell(FOR_EVER, grace_s=0.0, output_bytes_max=10)

    async def live(runtime: ContainerRuntime) -> None:
        await runtime.apply(spec, "one")
        await runtime.remove(API, "one")

    # After the network, the container, its start, its end, and after it is gone with its network left.
    for after in (1, 3, 5, 6, 7):
        dying = Dying(host=bench.engine.address, owner=bench.owner)
        dying.after = after
        with pytest.raises(Cut):
            await live(dying)
        assert (await bench.again().apply(spec, "one")).state is ServiceState.HEALTHY
        assert await bench.running() == 1
        await bench.again().remove(API, "one")
        assert await bench.ids(all_of_them=True) == []


async def test_engine_killed_and_back(bench: ContainerBench, placed: tuple[Engine, str]) -> None:
    """Where services outlive their engine, nothing is said of them while it is away, and none is touched."""
    spec = shell(FOR_EVER)
    before = await bench.runtime.apply(spec, "one")
    bench.engine.kill()
    for call in (bench.runtime.observe("production", "eu"), bench.runtime.apply(spec, "one")):
        with pytest.raises(RuntimeUnavailable, match="connection refused"):
            await call
    bench.engine.start("--live-restore", namespace=placed[1])
    assert await look(bench.runtime, "one") == before
    assert await bench.runtime.apply(spec, "one") == before
    assert await bench.running() == 1


async def test_no_engine() -> None:
    """Where no engine answers, nothing is said to be absent, and what to do is told."""
    runtime = ContainerRuntime(host="unix:///run/no-such/docker.sock", owner="me")
    with pytest.raises(RuntimeUnavailable, match="no such file"):
        await runtime.observe("production", "eu")
    why = await runtime.why_not()
    assert why is not None
    assert "start Docker" in why


async def test_http_check_is_not_the_images(bench: ContainerBench) -> None:
    """A check over a port takes the place of the image's own."""
    spec = shell(FOR_EVER, ports=(Port(name="web"),), health=Health(check=HttpCheck(port="web")))
    observed = await bench.runtime.apply(spec, "one")
    assert container(bench, observed)["Config"]["Healthcheck"]["Test"] == ["NONE"]
    assert json.loads(container(bench, observed)["Config"]["Labels"]["reconciler.ports"]) == {"web": 8080}


REGISTRY = """\
version: 0.1
storage: {{filesystem: {{rootdirectory: {folder}/registry}}}}
http: {{addr: 127.0.0.1:5000, secret: of-the-tests}}
log: {{accesslog: {{disabled: true}}}}
"""


@pytest.fixture
def registry(placed: tuple[Engine, str], tmp_path: Path) -> Iterator[str]:
    """A registry beside the engine; gives where it is."""
    engine, namespace = placed
    config = tmp_path / "registry.yml"
    config.write_text(REGISTRY.format(folder=tmp_path))
    inside = ["nsenter", f"--net=/run/netns/{namespace}"]
    with (tmp_path / "registry.log").open("wb") as log:
        process = subprocess.Popen([*inside, "docker-registry", "serve", str(config)], stdout=log, stderr=log)
    try:
        engine.docker("tag", IMAGE, "127.0.0.1:5000/shop/api:1")
        ready(
            lambda: engine.docker("push", "127.0.0.1:5000/shop/api:1", check=False).returncode == 0,
            lambda: "the registry",
            deadline_s=60.0,
        )
        yield "127.0.0.1:5000/shop/api"
    finally:
        process.terminate()
        process.wait(timeout=30)


async def test_pulled_by_digest(bench: ContainerBench, registry: str) -> None:
    """What runs is a digest: that of the tag when it was prepared, or the one that was asked for."""
    spec = shell(FOR_EVER, image=f"{registry}:1")
    bench.engine.docker("rmi", spec.image or "")
    await bench.runtime.prepare(spec)
    config = container(bench, await bench.runtime.apply(spec, "one"))["Config"]
    name, _, digest = config["Image"].partition("@")
    assert (name, digest[:7]) == (registry, "sha256:")
    await bench.runtime.remove(API, "one")
    bench.engine.docker("rmi", f"{registry}:1")
    exact = shell(FOR_EVER, image=f"{registry}@{digest}")
    await bench.runtime.prepare(exact)
    assert container(bench, await bench.runtime.apply(exact, "one"))["Config"]["Image"] == exact.image
    for image, why in (
        (f"{registry}:2", "there is no such image"),
        (f"{registry}@sha256:{'0' * 64}", "there is no such image"),
    ):
        with pytest.raises(PermanentError, match=why):
            await bench.runtime.prepare(shell(FOR_EVER, image=image))
    with pytest.raises(RuntimeUnavailable, match="connection refused"):
        await bench.runtime.prepare(shell(FOR_EVER, image="127.0.0.1:5001/nowhere:1"))


@contextmanager
def full_disk(place: Path) -> Iterator[None]:
    """A folder with next to no room for as long as this lasts."""
    must("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place))
    try:
        yield
    finally:
        must("umount", str(place))


async def test_disk_full(bench: ContainerBench) -> None:
    """Where the engine's disk is full, a build says so, and may be tried again."""
    build = Build(
        tag_hash="f" * 64,
        dockerfile="Dockerfile",
        files={"Dockerfile": b"FROM busybox:test\nCOPY large /\n", "large": bytes(4 * 1024 * 1024)},
    )
    spec = replace(shell(FOR_EVER), build=build)
    with (
        full_disk(bench.engine.folder / "root/tmp"),
        pytest.raises(RuntimeUnavailable, match="the disk of the container engine is full"),
    ):
        await bench.runtime.prepare(spec)
    await bench.runtime.prepare(spec)
