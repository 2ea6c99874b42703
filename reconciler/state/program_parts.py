"""Parts of services and jobs as desired values, each from what the spec says of it alone."""

from collections.abc import Iterator, Mapping, Sequence

from reconciler.changes.unread import HINT
from reconciler.errors import Problem
from reconciler.spec import text_rules
from reconciler.spec.programs import (
    BuildSpec,
    ContainerSpec,
    JobRuntimeSpec,
    LimitsSpec,
    ProcessSpec,
    ServedContainerSpec,
    ServedProcessSpec,
    ServiceRuntimeSpec,
)
from reconciler.spec.services import HealthSpec, RestartSpec
from reconciler.state.programs import (
    DesiredHealth,
    DesiredLimits,
    DesiredPort,
    DesiredRestart,
    RuntimeName,
)
from reconciler.state.source_files import SourceFile

BUILD_FILES_MAX = 10_000
BUILD_BYTES_MAX = 64 * 1024 * 1024


def runtime_of(
    runtime: ServiceRuntimeSpec | JobRuntimeSpec,
) -> tuple[RuntimeName, ProcessSpec | ContainerSpec]:
    """What runs a program, and what it says of it."""
    if runtime.container is not None:
        return RuntimeName.CONTAINER, runtime.container
    if runtime.systemd is not None:
        return RuntimeName.SYSTEMD, runtime.systemd
    assert runtime.process is not None
    return RuntimeName.PROCESS, runtime.process


def ports_of(runtime: ServiceRuntimeSpec | JobRuntimeSpec) -> tuple[DesiredPort, ...]:
    """The ports a program listens on; a job has none."""
    _name, program = runtime_of(runtime)
    if not isinstance(program, ServedProcessSpec | ServedContainerSpec):
        return ()
    return tuple(
        DesiredPort(name=port.name, number=int(port.port) if port.port is not None else None)
        for port in program.ports
    )


def health_of(health: HealthSpec, ports: Sequence[DesiredPort]) -> DesiredHealth:
    """When it counts as healthy; a check without a port asks the first one."""
    check, port, path = "own", None, "/"
    if health.http is not None:
        check, port, path = "http", health.http.port, health.http.path
    elif health.tcp is not None:
        check, port = "tcp", health.tcp.port
    elif health.command is not None:
        check = "command"
    if check in ("http", "tcp") and port is None and ports:
        port = ports[0].name
    return DesiredHealth(
        check=check,
        port=port,
        path=path,
        argv=health.command or (),
        interval_s=seconds(health.interval),
        check_timeout_s=seconds(health.check_timeout),
        deadline_s=seconds(health.timeout),
        steady_s=seconds(health.steady),
        crashes_max=health.crashes,
    )


def restart_of(restart: RestartSpec) -> DesiredRestart:
    """How what ended is started again."""
    return DesiredRestart(
        when=restart.when,
        delay_s=seconds(restart.delay),
        delay_max_s=seconds(restart.delay_max),
        limit=restart.limit,
    )


def limits_of(limits: LimitsSpec) -> DesiredLimits:
    """What it may take at most."""
    return DesiredLimits(
        memory_bytes=limits.memory,
        cpus=limits.cpus,
        processes=limits.processes,
        open_files=limits.open_files,
    )


def faults_of_build(
    build: BuildSpec,
    files: Sequence[SourceFile],
    dockerfile: str,
    unread: Mapping[str, str],
    place: str,
) -> Iterator[Problem]:
    """What keeps an image from being built from these files."""
    if unread:
        path, why = min(unread.items())
        yield Problem(path=f"{place}.context", message=f"'{path}' was not read: {why}", hint=HINT)
    elif not files:
        hint = "paths are relative to the root of the source; has the folder been added?"
        yield Problem(path=f"{place}.context", message=f"there is no file below '{build.context}'", hint=hint)
    elif dockerfile not in {file.path for file in files}:
        hint = "`dockerfile` is relative to the context"
        yield Problem(path=f"{place}.context", message=f"there is no file '{dockerfile}'", hint=hint)
    size = sum(file.size for file in files)
    if len(files) > BUILD_FILES_MAX or size > BUILD_BYTES_MAX:
        message = (
            f"'{build.context}' has {len(files)} files of {size} bytes in all, and an image is built from "
            f"{BUILD_FILES_MAX} files of {BUILD_BYTES_MAX} bytes at most"
        )
        yield Problem(path=f"{place}.context", message=message, hint="name a folder that holds less")


def seconds(text: str) -> float:
    """The seconds of a duration that the model checked."""
    found = text_rules.span_seconds(text)
    assert found is not None, "the model checked it"
    return found
