"""Services and jobs as a runtime is told them: secrets looked up, and outputs of others put in.

Values stand in what is made here and nowhere else; it starts and records nothing.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from reconciler.errors import PermanentError, Refused
from reconciler.execution.register import Register
from reconciler.execution.resources import Resources
from reconciler.runtimes.machine import Machine
from reconciler.runtimes.runtime import (
    Build,
    Check,
    CommandCheck,
    Data,
    Health,
    Hidden,
    HttpCheck,
    Identity,
    Limits,
    Logs,
    OwnCheck,
    Port,
    Restart,
    RestartWhen,
    Runtime,
    ServiceSpec,
    TcpCheck,
)
from reconciler.spec.values import OutputReference, SecretReference
from reconciler.state.programs import (
    DesiredBuild,
    DesiredHealth,
    DesiredJob,
    DesiredProgram,
    DesiredService,
    Value,
)

OUTPUT_BYTES_MAX = 256 * 1024
"""Of the file that a job writes its outputs to."""


def machine_of(resources: Resources) -> Machine:
    """What there is to run things on; Refused where there is nothing."""
    if resources.machine is None:
        raise Refused("services, jobs and routes cannot be carried out here: nothing is there to run them on")
    return resources.machine


def register_of(resources: Resources) -> Register:
    """The record of services, jobs and routes."""
    if resources.register is None:
        raise Refused("services, jobs and routes cannot be carried out here: nobody keeps a record of them")
    return resources.register


def runtime_of(resources: Resources, name: str) -> Runtime:
    """A runtime by its name in specs; Refused where the daemon has none of that name."""
    runtimes = machine_of(resources).runtimes
    if name not in runtimes:
        known = ", ".join(f"'{each}'" for each in sorted(runtimes)) or "none"
        raise Refused(f"the runtime '{name}' is not among those of this daemon: {known}")
    return runtimes[name]


def identity_of(resources: Resources, component: str) -> Identity:
    """What a component is called to runtimes and proxies."""
    desired = resources.desired
    return Identity(environment=desired.environment, deployment=desired.deployment, component=component)


async def spec_of_service(
    service: DesiredService, resources: Resources, *, preparing: bool = False
) -> ServiceSpec:
    """A service with its values; while `preparing`, outputs may be missing still, and files are read."""
    spec = await _spec(service.component, service.program, resources, preparing=preparing)
    return replace(
        spec,
        definition_hash=service.definition_hash,
        health=_health(service.health),
        grace_s=service.grace_s,
        restart=Restart(
            when=RestartWhen(service.restart.when),
            delay_s=service.restart.delay_s,
            delay_max_s=service.restart.delay_max_s,
            limit=service.restart.limit,
        ),
    )


async def spec_of_job(job: DesiredJob, resources: Resources, *, preparing: bool = False) -> ServiceSpec:
    """A job with its values, as something that is started once."""
    spec = await _spec(job.component, job.program, resources, preparing=preparing)
    return replace(
        spec,
        definition_hash=job.inputs_hash,
        grace_s=job.grace_s,
        restart=Restart(when=RestartWhen.NEVER),
        output_bytes_max=OUTPUT_BYTES_MAX if job.outputs else None,
    )


async def _spec(
    component: str, program: DesiredProgram, resources: Resources, *, preparing: bool
) -> ServiceSpec:
    limits = program.limits
    return ServiceSpec(
        identity=identity_of(resources, component),
        definition_hash="",
        argv=program.argv,
        image=program.image,
        build=await _build(program.build, resources, preparing=preparing),
        data=tuple(Data(name=each.name, path=each.path) for each in program.data),
        networks=program.networks,
        env=tuple(
            [
                (name, await value_of(component, value, resources, preparing=preparing))
                for name, value in program.env
            ]
        ),
        cwd=program.cwd,
        user=program.user,
        ports=tuple(Port(name=port.name, number=port.number) for port in program.ports),
        limits=Limits(
            open_files=limits.open_files,
            memory_bytes=limits.memory_bytes,
            cpus=limits.cpus,
            processes=limits.processes,
        ),
        logs=Logs(bytes_max=program.log_bytes_max, files=program.log_files),
    )


async def _build(build: DesiredBuild | None, resources: Resources, *, preparing: bool) -> Build | None:
    """What an image is built from; its files only where it may have to be built now."""
    if build is None:
        return None
    files: Mapping[str, bytes] = {}
    if preparing:
        if resources.build_files is None:
            raise Refused(
                f"building an image from '{build.context}': the files of the commit are not at hand"
            )
        files = await resources.build_files(build)
    return Build(tag_hash=build.hash, dockerfile=build.dockerfile, files=files)


async def value_of(
    component: str, value: Value, resources: Resources, *, preparing: bool = False
) -> str | Hidden:
    """A value of a variable; what is secret or sensitive is hidden. Raises NotFound for what is not there."""
    match value:
        case str():
            return value
        case SecretReference():
            if resources.secret is None:
                raise Refused(f"no secret can be looked up for '{component}'")
            return Hidden(resources.secret(value))
        case OutputReference():
            if preparing:
                return Hidden("")
            kept = await register_of(resources).output(value)
            text = text_of(kept.value)
            return Hidden(text) if kept.sensitive else text


def text_of(value: Any) -> str:
    """An output as the text that a variable holds: texts as they are, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _health(health: DesiredHealth) -> Health:
    return Health(
        check=_check(health),
        interval_s=health.interval_s,
        timeout_s=health.check_timeout_s,
        deadline_s=health.deadline_s,
        steady_s=health.steady_s,
        crashes_max=health.crashes_max,
    )


def _check(health: DesiredHealth) -> Check:
    match health.check:
        case "own":
            return OwnCheck()
        case "command":
            return CommandCheck(argv=health.argv)
        case "http" if health.port is not None:
            return HttpCheck(port=health.port, path=health.path)
        case "tcp" if health.port is not None:
            return TcpCheck(port=health.port)
        case _:
            raise PermanentError(f"a health check of the kind '{health.check}' needs a port, and names none")
