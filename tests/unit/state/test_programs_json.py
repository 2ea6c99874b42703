"""What is kept of services, jobs and routes: all of them, and references in place of secrets."""

import json

import pytest

from reconciler.spec.values import OutputReference, SecretReference
from reconciler.state.programs import (
    DesiredBuild,
    DesiredData,
    DesiredHealth,
    DesiredJob,
    DesiredLimits,
    DesiredOutput,
    DesiredPort,
    DesiredProgram,
    DesiredRestart,
    DesiredRoute,
    DesiredService,
    OutputType,
    RuntimeName,
    Trigger,
)
from reconciler.state.programs_json import AnyProgram, differences, from_json, kind_of, to_json

PROGRAM = DesiredProgram(
    runtime=RuntimeName.CONTAINER,
    argv=("serve", "--all"),
    image="registry.example.com/api@sha256:1",
    build=DesiredBuild(
        context="api", dockerfile="Dockerfile", hash="h", files=(("api/a", "1"), ("api/b", "2"))
    ),
    cwd="/srv",
    user="api",
    ports=(DesiredPort(name="http", number=8080), DesiredPort(name="admin")),
    env=(
        ("MODE", "prod"),
        ("TOKEN", SecretReference(file="/run/secrets/token")),
        ("URL", OutputReference(component="shop-db", output="url")),
    ),
    data=(DesiredData(name="main", path="/data"), DesiredData(name="cache")),
    networks=("one", "two"),
    limits=DesiredLimits(memory_bytes=1024, cpus=0.5, processes=10, open_files=20),
    log_bytes_max=4096,
    log_files=2,
)
SERVICE = DesiredService(
    component="api",
    stage="services",
    program=PROGRAM,
    definition_hash="d" * 64,
    health=DesiredHealth(check="command", argv=("true",), steady_s=1.5),
    restart=DesiredRestart(when="on-failure", limit=3),
    grace_s=2.5,
    in_place=True,
    after=("db", "other"),
    skip=True,
)
JOB = DesiredJob(
    component="seed",
    stage="jobs",
    program=PROGRAM,
    inputs_hash="i" * 64,
    triggers=frozenset({Trigger.START, Trigger.CHANGE}),
    schedule="0 3 * * *",
    attempts=3,
    outputs=(DesiredOutput(name="token", type=OutputType.JSON, sensitive=True, keep=True),),
    after=("db",),
)
ROUTE = DesiredRoute(
    component="edge",
    stage="routes",
    host="shop.example.com",
    path="/api",
    service="api",
    port="http",
    definition_hash="r" * 64,
    proxy="edge",
    after=("api",),
)


@pytest.mark.parametrize("part", [SERVICE, JOB, ROUTE], ids=kind_of)
def test_definitions_go_to_json_and_back_without_loss(part: AnyProgram) -> None:
    """Through a text, as the control database keeps them, and always with the same bytes."""
    text = json.dumps(to_json(part))
    assert from_json(json.loads(text)) == part
    assert json.dumps(to_json(from_json(json.loads(text)))) == text
    assert json.loads(text)["kind"] == kind_of(part)


def test_differences_are_told_in_words_of_the_spec() -> None:
    """No value, no hash, and nothing that makes no other instance."""
    before = json.loads(json.dumps(to_json(SERVICE)))
    before["program"]["env"][0][1] = "test"
    before["program"]["argv"] = ["serve"]
    before["grace_s"] = 9.0
    before["definition_hash"] = "another"
    before["stage"] = "elsewhere"
    assert differences(before, SERVICE) == ("command", "env MODE", "grace")
    assert differences(to_json(SERVICE), SERVICE) == ()
    assert differences({**to_json(ROUTE), "path": "/"}, ROUTE) == ("path",)
