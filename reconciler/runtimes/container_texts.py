"""How a service is asked of a container engine: names, labels, and the container itself, as plain values.

It decides and asks nobody; what is asked is written down as a label, so that an edit by hand can be seen.
"""

import hashlib
import json
import math
import re
from collections.abc import Mapping
from typing import Any

from reconciler.frozen import frozen
from reconciler.runtimes.runtime import (
    CommandCheck,
    Identity,
    OwnCheck,
    RestartWhen,
    ServiceSpec,
    environment_of,
    faults,
)

OWNER = "reconciler.owner"
ENVIRONMENT = "reconciler.environment"
DEPLOYMENT = "reconciler.deployment"
COMPONENT = "reconciler.component"
INSTANCE = "reconciler.instance"
DEFINITION = "reconciler.definition"
PORTS = "reconciler.ports"
GRACE = "reconciler.grace"
FIELDS = "reconciler.fields"
MADE = "reconciler.made"
DATA = "reconciler.data"
BUILD = "reconciler.build"
HOST = "host"
JOB_FOLDER = "reconciler"
JOB_OUTPUT = f"/{JOB_FOLDER}/output.json"
"""In the container's own layer, which is there after its end; what lies in memory is not."""

_NAME_MAX = 120
_FIRST_PORT = 8080
_MEMORY_MIN = 6 * 1024 * 1024
_NANO = 10**9
_MILLISECOND_NS = 10**6
_CHECKS_FAILED = 3
_RESTART = {RestartWhen.ALWAYS: "always", RestartWhen.NEVER: "no"}
"""Not `unless-stopped`: an engine that was killed takes all that it then ends for stopped by hand."""


@frozen
class Asked:
    """What a container is made of, beside its spec: the image by what cannot move, and where it is placed."""

    owner: str
    instance: str
    image: str
    image_id: str
    network_id: str
    publish_at: str
    published: Mapping[str, int]


def labels_of(owner: str, identity: Identity, instance: str | None = None) -> dict[str, str]:
    """What marks a container, a network or a volume as ours, and says whose it is."""
    found = {OWNER: owner, ENVIRONMENT: identity.environment, DEPLOYMENT: identity.deployment}
    found |= {COMPONENT: identity.component} if identity.component else {}
    return found | ({} if instance is None else {INSTANCE: instance})


def container_name(owner: str, identity: Identity, instance: str) -> str:
    """Its name: for people to read, and one for each instance, so that it is made once."""
    parts = (identity.environment, identity.deployment, identity.component, instance)
    return _named(*parts, told_apart=(owner, *parts))


def network_name(owner: str, environment: str, deployment: str) -> str:
    """The network of a deployment."""
    return _named(environment, deployment, told_apart=(owner, environment, deployment))


def volume_name(identity: Identity, data: str) -> str:
    """The volume that holds data of a service; whose it is, its labels say."""
    parts = (identity.environment, identity.deployment, identity.component, data)
    plain = "-".join(("reconciler", *parts))
    return plain if len(plain) <= _NAME_MAX else _named(*parts, told_apart=parts)


def _named(*parts: str, told_apart: tuple[str, ...]) -> str:
    digest = hashlib.sha256("\0".join(told_apart).encode()).hexdigest()[:12]
    return f"{'-'.join(('reconciler', *parts))[:_NAME_MAX]}-{digest}"


def is_on_host(spec: ServiceSpec) -> bool:
    """Whether it shares the network of the machine."""
    return HOST in spec.networks


def inside_ports(spec: ServiceSpec) -> dict[str, int]:
    """The port that each of its names is inside of the container; chosen where no number is given."""
    taken = {port.number for port in spec.ports if port.number is not None}
    free = iter(number for number in range(_FIRST_PORT, 65536) if number not in taken)
    return {port.name: next(free) if port.number is None else port.number for port in spec.ports}


def folders_of(spec: ServiceSpec) -> dict[str, str]:
    """Where its data stand in the container."""
    return {data.name: data.path or f"/data/{data.name}" for data in spec.data}


def faults_as_container(spec: ServiceSpec) -> list[str]:
    """All that keeps it from running as a container, wherever that is; none of it quotes a value."""
    found = faults(spec)
    if (spec.image is None) == (spec.build is None):
        found.append("a container needs an image or a build, one of them")
    if spec.cwd is not None and not spec.cwd.startswith("/"):
        found.append(f"its working directory '{spec.cwd}' is not absolute")
    folders = list(folders_of(spec).values())
    found += [
        f"the path '{path}' of its data is not absolute" for path in folders if not path.startswith("/")
    ]
    found += sorted({f"two of its data stand at '{path}'" for path in folders if folders.count(path) > 1})
    numbers = [port.number for port in spec.ports if port.number is not None]
    found += sorted({f"two of its ports are {each}" for each in numbers if numbers.count(each) > 1})
    if is_on_host(spec) and len(spec.networks) > 1:
        found.append("who shares the network of the machine ('host') can be in no other")
    if is_on_host(spec) and len(numbers) < len(spec.ports):
        found.append("on the network of the machine ('host') each of its ports needs a number")
    return found + _faults_of_limits(spec)


def _faults_of_limits(spec: ServiceSpec) -> list[str]:
    found = []
    limits = spec.limits
    if limits.memory_bytes is not None and limits.memory_bytes < _MEMORY_MIN:
        found.append(f"a limit of {limits.memory_bytes} bytes of memory is below {_MEMORY_MIN}")
    if limits.cpus is not None and not limits.cpus >= 0.01:
        found.append(f"a limit of {limits.cpus:g} processors is below 0.01")
    for what, number in (("processes", limits.processes), ("open files", limits.open_files)):
        if number is not None and number < 1:
            found.append(f"a limit of {number} {what} is below 1")
    return found


def container_of(spec: ServiceSpec, asked: Asked) -> dict[str, Any]:
    """The container as the engine is asked to make it."""
    inside = inside_ports(spec)
    output = None if spec.output_bytes_max is None else JOB_OUTPUT
    variables = environment_of(spec, inside, folders_of(spec), output)
    if "PATH" not in {name for name, _ in spec.env}:
        # The image knows where its programs are.
        variables.pop("PATH", None)
    body: dict[str, Any] = {
        "Image": asked.image,
        "Env": [f"{name}={value}" for name, value in sorted(variables.items())],
        "StopTimeout": stop_s(spec.grace_s),
        "ExposedPorts": {f"{number}/tcp": {} for number in inside.values()},
        "HostConfig": _host_config(spec, asked, inside),
    }
    body |= {"Cmd": list(spec.argv)} if spec.argv else {}
    body |= {"User": spec.user} if spec.user is not None else {}
    body |= {"WorkingDir": spec.cwd} if spec.cwd is not None else {}
    body |= {"Healthcheck": check} if (check := _healthcheck(spec)) is not None else {}
    if not is_on_host(spec):
        place = {"Aliases": [spec.identity.component]}
        body["NetworkingConfig"] = {"EndpointsConfig": {asked.network_id: place}}
    fields = _fields(spec, variables)
    networks = networks_of(asked.owner, spec)
    body["Labels"] = {
        **labels_of(asked.owner, spec.identity, asked.instance),
        DEFINITION: spec.definition_hash,
        PORTS: json.dumps(inside),
        GRACE: f"{spec.grace_s:g}",
        FIELDS: json.dumps(fields),
        MADE: made(body, body["HostConfig"], asked.image_id, networks, fields),
    }
    return body


def networks_of(owner: str, spec: ServiceSpec) -> list[str]:
    """The networks it is in."""
    if is_on_host(spec):
        return [HOST]
    return [network_name(owner, spec.identity.environment, spec.identity.deployment), *spec.networks]


def stop_s(grace_s: float) -> int:
    """The engine counts a grace in whole seconds."""
    return math.ceil(grace_s)


def _host_config(spec: ServiceSpec, asked: Asked, inside: Mapping[str, int]) -> dict[str, Any]:
    limits = spec.limits
    retries = (spec.restart.limit or 0) if spec.restart.when is RestartWhen.ON_FAILURE else 0
    found: dict[str, Any] = {
        "Init": True,
        "NetworkMode": HOST if is_on_host(spec) else asked.network_id,
        "RestartPolicy": {
            "Name": _RESTART.get(spec.restart.when, "on-failure"),
            "MaximumRetryCount": retries,
        },
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": str(spec.logs.bytes_max), "max-file": str(spec.logs.files)},
        },
        "Mounts": [
            {"Type": "volume", "Source": volume_name(spec.identity, name), "Target": path}
            for name, path in folders_of(spec).items()
        ],
    }
    if not is_on_host(spec):
        found["PortBindings"] = {
            f"{number}/tcp": [{"HostIp": asked.publish_at, "HostPort": str(asked.published[name])}]
            for name, number in inside.items()
        }
    if limits.memory_bytes is not None:
        # With what it may swap, so that the limit is one.
        found |= {"Memory": limits.memory_bytes, "MemorySwap": limits.memory_bytes}
    found |= {"NanoCpus": round(limits.cpus * _NANO)} if limits.cpus is not None else {}
    found |= {"PidsLimit": limits.processes} if limits.processes is not None else {}
    if limits.open_files is not None:
        number = limits.open_files
        found["Ulimits"] = [{"Name": "nofile", "Soft": number, "Hard": number}]
    return found


def _healthcheck(spec: ServiceSpec) -> dict[str, Any] | None:
    """The engine's own check; None leaves that of the image."""
    check, health = spec.health.check, spec.health
    if isinstance(check, OwnCheck):
        return None
    if not isinstance(check, CommandCheck):
        # It is asked from outside, over its port, and only that counts.
        return {"Test": ["NONE"]}
    return {
        "Test": ["CMD", *check.argv],
        "Interval": max(_MILLISECOND_NS, round(health.interval_s * _NANO)),
        "Timeout": max(_MILLISECOND_NS, round(health.timeout_s * _NANO)),
        "StartPeriod": round(health.deadline_s * _NANO),
        "Retries": _CHECKS_FAILED,
    }


def _fields(spec: ServiceSpec, variables: Mapping[str, str]) -> list[str]:
    found = [f"env {name}" for name in sorted(variables)]
    found += ["command"] if spec.argv else []
    found += ["user"] if spec.user is not None else []
    return found + (["folder"] if spec.cwd is not None else [])


def made(
    config: Mapping[str, Any],
    host: Mapping[str, Any],
    image_id: str,
    networks: list[str],
    fields: list[str],
) -> str:
    """A hash of all that can be changed by hand, of what was asked and of what is there alike."""
    variables = dict(each.partition("=")[::2] for each in config.get("Env") or [])
    asked: dict[str, Any] = {"command": "Cmd", "user": "User", "folder": "WorkingDir"}
    policy = host.get("RestartPolicy") or {}
    facts: dict[str, Any] = {
        name: variables.get(name.removeprefix("env "))
        if name.startswith("env ")
        else config.get(asked.get(name, ""))
        for name in fields
    }
    facts |= {
        "image": re.sub(r"^sha256:", "", image_id),
        "memory": host.get("Memory") or 0,
        "cpus": host.get("NanoCpus") or 0,
        "processes": host.get("PidsLimit") or 0,
        "restart": [policy.get("Name") or "no", policy.get("MaximumRetryCount") or 0],
        "ports": host.get("PortBindings") or {},
        "networks": sorted(networks),
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
