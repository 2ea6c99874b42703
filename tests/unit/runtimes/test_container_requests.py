"""What an engine is asked for, and how its answers are read: plain values in, plain values out."""

import io
import tarfile
from dataclasses import replace
from typing import Any

import pytest

from reconciler.runtimes import container_texts as texts
from reconciler.runtimes.container_sight import edited, observed
from reconciler.runtimes.images import context_of
from reconciler.runtimes.runtime import (
    Build,
    CommandCheck,
    Data,
    Endpoint,
    Health,
    Hidden,
    Identity,
    Limits,
    Port,
    Restart,
    RestartWhen,
    ServiceSpec,
    ServiceState,
)

API = Identity(environment="production", deployment="eu", component="api")
SPEC = ServiceSpec(
    identity=API,
    definition_hash="d1",
    image="shop/api:1",
    argv=("serve",),
    env=(("MODE", "prod"), ("TOKEN", Hidden("hunter2"))),
    ports=(Port(name="http"), Port(name="admin", number=8080)),
)
ASKED = texts.Asked(
    owner="me",
    instance="one",
    image="shop/api@sha256:11",
    image_id="sha256:22",
    network_id="n1",
    publish_at="127.0.0.1",
    published={"http": 20001, "admin": 20002},
)
NETWORK = texts.network_name("me", "production", "eu")


def inspected(spec: ServiceSpec = SPEC, /, restarts: int = 0, **state: Any) -> dict[str, Any]:
    """What an engine says of a container that it was asked for."""
    body = texts.container_of(spec, ASKED)
    body["Env"] = ["PATH=/bin", *body["Env"]]
    return {
        "Id": "0123456789abcdef",
        "Name": "/" + texts.container_name("me", API, "one"),
        "Image": "sha256:22",
        "Created": "2026-01-02T03:04:05.123456789Z",
        "RestartCount": restarts,
        "State": {"Status": "running", "Running": True, "Pid": 42, **state},
        "Config": body,
        "HostConfig": {**body["HostConfig"], "Memory": body["HostConfig"].get("Memory", 0), "NanoCpus": 0},
        "NetworkSettings": {"Networks": dict.fromkeys([NETWORK, *spec.networks])},
    }


def test_names_are_told_apart() -> None:
    """Whatever parts are called, no two instances share a name, and none is too long to have one."""
    left = replace(API, deployment="eu-api", component="web")
    right = replace(API, deployment="eu", component="api-web")
    assert texts.container_name("me", left, "one") != texts.container_name("me", right, "one")
    assert texts.container_name("me", API, "one") != texts.container_name("you", API, "one")
    assert texts.volume_name(API, "main") == "reconciler-production-eu-api-main"
    long = Identity(environment="e" * 63, deployment="d" * 63, component="c" * 63)
    assert len(texts.container_name("me", long, "i" * 63)) < 140
    assert texts.volume_name(long, "a") != texts.volume_name(long, "b")


def test_a_container_has_what_its_spec_says() -> None:
    """Ports, variables, limits, restarts, logs and data are the engine's own."""
    spec = replace(
        SPEC,
        user="api",
        cwd="/srv",
        data=(Data(name="main", path="/var/lib/shop"), Data(name="cache")),
        output_bytes_max=10,
        grace_s=1.5,
        restart=Restart(when=RestartWhen.ON_FAILURE, limit=3),
        limits=Limits(memory_bytes=2**29, cpus=0.5, processes=9, open_files=99),
        health=Health(check=CommandCheck(argv=("ok",)), interval_s=2.0),
    )
    body = texts.container_of(spec, ASKED)
    host = body["HostConfig"]
    assert body["Env"] == [
        "DATA_CACHE=/data/cache",
        "DATA_MAIN=/var/lib/shop",
        "JOB_OUTPUT=/reconciler/output.json",
        "MODE=prod",
        "PORT_ADMIN=8080",
        "PORT_HTTP=8081",
        "TOKEN=hunter2",
    ]
    assert (body["Image"], body["Cmd"], body["User"], body["WorkingDir"]) == (
        "shop/api@sha256:11",
        ["serve"],
        "api",
        "/srv",
    )
    assert host["PortBindings"]["8081/tcp"] == [{"HostIp": "127.0.0.1", "HostPort": "20001"}]
    assert [each["Target"] for each in host["Mounts"]] == ["/var/lib/shop", "/data/cache"]
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 3}
    assert (host["Memory"], host["MemorySwap"], host["NanoCpus"], host["PidsLimit"]) == (
        2**29, 2**29, 500_000_000, 9,
    )  # fmt: skip
    assert (body["StopTimeout"], body["Healthcheck"]["Interval"]) == (2, 2 * 10**9)
    assert body["NetworkingConfig"]["EndpointsConfig"] == {"n1": {"Aliases": ["api"]}}
    assert "hunter2" not in str(body["Labels"]) + repr(spec)


def test_an_image_knows_its_own_programs() -> None:
    """The path of programs is the image's, unless the spec gives another."""
    assert not [each for each in texts.container_of(SPEC, ASKED)["Env"] if each.startswith("PATH=")]
    given = replace(SPEC, env=(("PATH", "/opt/bin"),))
    assert "PATH=/opt/bin" in texts.container_of(given, ASKED)["Env"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        pytest.param({"image": None}, "an image or a build", id="neither"),
        pytest.param({"cwd": "srv"}, "not absolute", id="folder"),
        pytest.param(
            {"data": (Data(name="a", path="/x"), Data(name="b", path="/x"))}, "two of its data", id="data"
        ),
        pytest.param({"data": (Data(name="a", path="x"),)}, "is not absolute", id="data-path"),
        pytest.param(
            {"ports": (Port(name="a", number=1), Port(name="b", number=1))}, "two of its ports", id="ports"
        ),
        pytest.param({"networks": ("host",)}, "needs a number", id="host-ports"),
        pytest.param({"networks": ("host", "db"), "ports": ()}, "in no other", id="host-and-more"),
        pytest.param({"limits": Limits(memory_bytes=1)}, "bytes of memory", id="memory"),
        pytest.param({"limits": Limits(cpus=0.001)}, "processors is below", id="processors"),
        pytest.param({"limits": Limits(processes=0)}, "processes is below", id="processes"),
    ],
)
def test_faults(change: dict[str, Any], why: str) -> None:
    """What no engine could do is refused before one is asked."""
    assert texts.faults_as_container(SPEC) == []
    assert why in "; ".join(texts.faults_as_container(replace(SPEC, **change)))


def test_on_the_network_of_the_machine() -> None:
    """There a port is the machine's own, and nothing is published."""
    spec = replace(SPEC, networks=("host",), ports=(Port(name="http", number=8000),))
    assert texts.faults_as_container(spec) == []
    facts = inspected(spec)
    facts["NetworkSettings"] = {"Networks": {"host": {}}}
    assert "PortBindings" not in facts["HostConfig"]
    assert observed(facts, "127.0.0.1").endpoints == (Endpoint(name="http", host="127.0.0.1", port=8000),)
    assert edited(facts) == ""


def test_seen_as_it_was_made() -> None:
    """A container that nobody touched is its instance, with its definition and its endpoints."""
    found = observed(inspected(StartedAt="2026-01-02T03:04:06.5+00:00"), "127.0.0.1")
    assert (found.identity, found.instance, found.definition_hash) == (API, "one", "d1")
    assert (found.state, found.reason, found.starts, found.exit_status) == (
        ServiceState.HEALTHY, "", 1, None,
    )  # fmt: skip
    assert found.endpoints == (
        Endpoint(name="http", host="127.0.0.1", port=20001),
        Endpoint(name="admin", host="127.0.0.1", port=20002),
    )
    assert found.handle == "container 0123456789ab, pid 42"
    assert found.since == 1767323046.0


@pytest.mark.parametrize(
    ("state", "expected", "reason"),
    [
        pytest.param({"Status": "created"}, ServiceState.EXITED, "it was never started", id="created"),
        pytest.param({"Status": "paused"}, ServiceState.UNHEALTHY, "it is paused", id="paused"),
        pytest.param(
            {"Status": "restarting", "ExitCode": 7},
            ServiceState.UNHEALTHY,
            "it exited with 7; it is started again",
            id="restarting",
        ),
        pytest.param(
            {"Status": "exited", "ExitCode": 137},
            ServiceState.EXITED,
            "it was ended by signal 9",
            id="killed",
        ),
        pytest.param(
            {"Status": "exited", "ExitCode": 137, "OOMKilled": True},
            ServiceState.EXITED,
            "it was killed for want of memory: it may have no bytes",
            id="memory",
        ),
        pytest.param({"Status": "removing"}, ServiceState.UNHEALTHY, "it is being removed", id="removing"),
        pytest.param({"Status": "odd"}, ServiceState.UNKNOWN, "its engine calls it 'odd'", id="odd"),
        pytest.param(
            {"Health": {"Status": "starting"}},
            ServiceState.STARTING,
            "its engine has not found it healthy yet",
            id="starting",
        ),
        pytest.param(
            {"Health": {"Status": "unhealthy", "Log": [{"ExitCode": 1, "Output": "hunter2"}]}},
            ServiceState.UNHEALTHY,
            "its health check failed and exited with 1",
            id="unhealthy",
        ),
    ],
)
def test_states(state: dict[str, Any], expected: ServiceState, reason: str) -> None:
    """Each state of an engine is one of ours, with words that hide what a check may have said."""
    found = observed(inspected(**state), "127.0.0.1")
    assert (found.state, found.reason) == (expected, reason)


def test_starts_are_counted() -> None:
    """Restarts of the engine count, and so does a start by hand, after which it counts from nothing."""
    ended = "2026-01-02T03:04:05Z"
    assert observed(inspected(), "127.0.0.1").starts == 1
    assert observed(inspected(restarts=2, FinishedAt=ended), "127.0.0.1").starts == 3
    assert observed(inspected(FinishedAt=ended), "127.0.0.1").starts == 2
    assert observed(inspected(FinishedAt="0001-01-01T00:00:00Z"), "127.0.0.1").starts == 1
    assert observed(inspected(Status="created"), "127.0.0.1").starts == 0


@pytest.mark.parametrize(
    ("edit", "why"),
    [
        pytest.param({"Name": "/mine"}, "it was renamed by hand", id="renamed"),
        pytest.param({"Image": "sha256:33"}, "it was edited by hand", id="image"),
        pytest.param({"NetworkSettings": {"Networks": {}}}, "it was edited by hand", id="network"),
    ],
)
def test_edits(edit: dict[str, Any], why: str) -> None:
    """What was changed by hand has no definition of ours any more, and says why."""
    found = observed({**inspected(), **edit}, "127.0.0.1")
    assert (found.definition_hash, found.reason) == ("", why)


def test_edits_of_what_was_asked() -> None:
    """Variables, the command, limits and restarts are compared; what the image or the engine adds is not."""
    for part, name, value in (
        ("Config", "Cmd", ["other"]),
        ("Config", "Env", ["MODE=test", "TOKEN=hunter2"]),
        ("HostConfig", "Memory", 1),
        ("HostConfig", "RestartPolicy", {"Name": "no"}),
    ):
        facts = inspected()
        facts[part] = {**facts[part], name: value}
        assert edited(facts) == "it was edited by hand"
    facts = inspected()
    facts["Config"]["Env"].append("ADDED=by-the-engine")
    assert edited(facts) == ""


def test_the_context_of_a_build_is_the_same_each_time() -> None:
    """Files come in order, without times; what can be run stays so."""
    files = {"z": b"plain", "bin/run": b"#!/bin/sh\n"}
    build = Build(tag_hash="t", dockerfile="Dockerfile", files=files)
    again = replace(build, files=dict(reversed(files.items())))
    assert context_of(build) == context_of(again)
    with tarfile.open(fileobj=io.BytesIO(context_of(build))) as tar:
        found = [(each.name, each.mode, each.mtime) for each in tar]
    assert found == [("bin/run", 0o755, 0), ("z", 0o644, 0)]
