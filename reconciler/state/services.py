"""What a deployment wants of services, jobs and routes, and of access to databases, from its spec.

It opens no file: what is built and what jobs read is known by the hashes of the files of a commit.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from reconciler.changes.folders import matches
from reconciler.changes.unread import HINT
from reconciler.errors import Problem, SpecError
from reconciler.frozen import frozen
from reconciler.spec import text_rules
from reconciler.spec.components import DatabaseSpec, consumed, needed
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.programs import BuildSpec, ContainerSpec, ProcessSpec
from reconciler.spec.services import JobSpec, RouteSpec, ServiceSpec
from reconciler.spec.values import OutputReference, SecretReference
from reconciler.state.order import topological
from reconciler.state.outputs import service_version
from reconciler.state.program_parts import (
    faults_of_build,
    health_of,
    limits_of,
    ports_of,
    restart_of,
    runtime_of,
    seconds,
)
from reconciler.state.programs import (
    DesiredAccess,
    DesiredBuild,
    DesiredData,
    DesiredJob,
    DesiredOutput,
    DesiredProgram,
    DesiredPrograms,
    DesiredRoute,
    DesiredServer,
    DesiredService,
    OutputType,
    Trigger,
    Value,
)
from reconciler.state.source_files import SourceFiles, fixed_folder

INPUT_FILES_MAX = 10_000


@frozen
class Wanted:
    """Services, jobs and routes; and who gets into databases, by their components."""

    programs: DesiredPrograms
    access: Mapping[str, DesiredAccess]


def desired_programs(spec: EnvironmentSpec, files: SourceFiles, places: Mapping[str, str]) -> Wanted:
    """Say what a spec of one deployment wants; `places` are where components stand in the document, by name.

    Raises SpecError with everything wrong, at places in the spec.
    """
    making = _Making(spec, files, places)
    for name in making.order():
        making.make(name)
    if making.problems:
        raise SpecError(making.problems)
    return making.wanted()


def desired_servers(spec: EnvironmentSpec) -> dict[str, DesiredServer]:
    """The services that databases live on, by Database component; without a port, the first one it has."""
    services = {part.name: part for part in spec.services}
    found: dict[str, DesiredServer] = {}
    for part in spec.databases:
        if part.on is None:
            continue
        service = services.get(part.on.service)
        ports = ports_of(service.runtime) if service is not None and part.on.port is None else ()
        found[part.name] = DesiredServer(
            service=part.on.service,
            port=part.on.port or (ports[0].name if ports else ""),
            user=part.on.user,
            password=part.on.password,
            maintenance_database=part.on.database,
        )
    return found


def access_roles(spec: EnvironmentSpec) -> Iterable[str]:
    """The roles that are made for others to get into the databases of a spec of one deployment."""
    asked = _asked(spec)
    for part in spec.databases:
        if part.name in asked or part.owner is not None or part.reader is not None:
            yield from _who_gets_in(part)


def _who_gets_in(part: DatabaseSpec) -> tuple[str, str]:
    return part.owner or f"{part.database}_owner", part.reader or f"{part.database}_reader"


class _Making:
    """Makes what each component wants, after what it is made from: versions of outputs go into hashes."""

    def __init__(self, spec: EnvironmentSpec, files: SourceFiles, places: Mapping[str, str]) -> None:
        self.problems: list[Problem] = []
        self._spec = spec
        self._files = files
        self._places = places
        self._parts = {part.name: part for part in spec.components}
        self._stages = spec.stages_of()
        self._on = spec.servers
        self._asked = _asked(spec)
        self._versions: dict[str, str] = {}
        self._services: dict[str, DesiredService] = {}
        self._jobs: dict[str, DesiredJob] = {}
        self._routes: dict[str, DesiredRoute] = {}
        self._servers = desired_servers(spec)
        self._access: dict[str, DesiredAccess] = {}
        self._taken: dict[tuple[str | None, str], str] = {}
        self._declared: dict[str | None, set[str]] = {}
        for part in spec.databases:
            server = part.on.service if part.on is not None else None
            self._declared.setdefault(server, set()).update(role.name for role in part.roles)

    def order(self) -> Iterable[str]:
        """Components after those whose outputs they take."""
        needs = {name: tuple(needed(part)) for name, part in self._parts.items()}
        return topological(list(self._parts), needs)

    def make(self, name: str) -> None:
        """Make what one component wants; those it needs were made before."""
        part = self._parts[name]
        match part:
            case ServiceSpec():
                self._service(part)
            case JobSpec():
                self._job(part)
            case RouteSpec():
                self._route(part)
            case DatabaseSpec():
                self._database(part)
            case _:
                pass

    def wanted(self) -> Wanted:
        """All of it, in the order of the spec."""
        return Wanted(
            programs=DesiredPrograms(
                services=tuple(self._services[part.name] for part in self._spec.services),
                jobs=tuple(self._jobs[part.name] for part in self._spec.jobs),
                routes=tuple(self._routes[part.name] for part in self._spec.routes),
            ),
            access=self._access,
        )

    def _service(self, part: ServiceSpec) -> None:
        program = self._program(part)
        health = health_of(part.health, program.ports)
        check = [health.check, health.port, health.path, list(health.argv)]
        definition = _hash("service", self._shown(program), check)
        self._services[part.name] = DesiredService(
            component=part.name,
            stage=self._stages[part.name],
            program=program,
            definition_hash=definition,
            health=health,
            restart=restart_of(part.restart),
            grace_s=seconds(part.grace),
            in_place=part.replace == "in-place" or bool(program.data) or part.name in self._on,
            after=part.after,
            skip=part.skip,
        )
        self._versions[part.name] = service_version(program, definition)

    def _job(self, part: JobSpec) -> None:
        program = self._program(part)
        outputs = tuple(
            DesiredOutput(
                name=each.name, type=OutputType(each.type), sensitive=each.sensitive, keep=each.keep
            )
            for each in part.outputs
        )
        declared = [[each.name, each.type.value, each.sensitive] for each in outputs]
        inputs = _hash("job", self._shown(program), self._inputs(part), declared)
        self._jobs[part.name] = DesiredJob(
            component=part.name,
            stage=self._stages[part.name],
            program=program,
            inputs_hash=inputs,
            triggers=frozenset(Trigger(each) for each in part.run.on),
            schedule=part.run.schedule,
            timeout_s=seconds(part.timeout),
            attempts=part.attempts,
            grace_s=seconds(part.grace),
            outputs=outputs,
            after=part.after,
            skip=part.skip,
        )
        self._versions[part.name] = inputs

    def _route(self, part: RouteSpec) -> None:
        port = part.to.port or self._only_port(part.to.service)
        # As proxies and others' claims have it: `/api/` is no other path than `/api`.
        path = part.path.rstrip("/") or "/"
        self._routes[part.name] = DesiredRoute(
            component=part.name,
            stage=self._stages[part.name],
            host=part.host,
            path=path,
            service=part.to.service,
            port=port,
            definition_hash=_hash("route", part.host, path, part.to.service, port, part.proxy),
            proxy=part.proxy,
            after=part.after,
            skip=part.skip,
        )

    def _database(self, part: DatabaseSpec) -> None:
        asked = self._asked.get(part.name, ())
        owner, reader = _who_gets_in(part)
        # Not which outputs are asked for: one more of them makes none of the others another.
        inputs = _hash("access", part.database, owner, reader, self._place(part))
        self._versions[part.name] = inputs
        if asked or part.owner is not None or part.reader is not None:
            self.problems += self._roles(part, owner, reader)
            self._access[part.name] = DesiredAccess(
                owner=owner, reader=reader, outputs=asked, inputs_hash=inputs
            )

    def _place(self, part: DatabaseSpec) -> object:
        """How the server of a database is reached, by references."""
        server = self._servers.get(part.name)
        if server is None:
            return ["dsn", self._value(self._spec.deployments[0].postgres.dsn)]
        return ["on", server.service, server.port, self._versions[server.service]]

    def _roles(self, part: DatabaseSpec, *names: str) -> Iterator[Problem]:
        """The roles others get in with are of one database alone: each has a password of its own."""
        server = part.on.service if part.on is not None else None
        path = self._places[part.name]
        for name in names:
            if name not in (part.owner, part.reader) and (broken := text_rules.role(name)) is not None:
                message = f"the role '{name}' {broken.message}"
                yield Problem(path=path, message=message, hint="name `owner` and `reader`")
            other = self._taken.setdefault((server, name), part.name)
            if other != part.name or (names.count(name) > 1 and name is names[0]):
                message = f"role '{name}' is to get into '{other}' already"
                yield Problem(path=path, message=message, hint="give `owner` and `reader` names of their own")
            elif name in self._declared.get(server, ()):
                message = f"role '{name}' is one of `roles` too, which are made without a generated password"
                yield Problem(path=path, message=message, hint="leave it out of `roles`, or name another one")

    def _only_port(self, service: str) -> str:
        part = self._parts[service]
        ports = ports_of(part.runtime) if isinstance(part, ServiceSpec) else ()
        return ports[0].name if ports else ""

    def _program(self, part: ServiceSpec | JobSpec) -> DesiredProgram:
        name, runtime = runtime_of(part.runtime)
        container = runtime if isinstance(runtime, ContainerSpec) else None
        process = runtime if isinstance(runtime, ProcessSpec) else None
        return DesiredProgram(
            runtime=name,
            argv=runtime.command or (),
            image=container.image if container is not None else None,
            build=self._build(part, container.build) if container is not None else None,
            cwd=process.cwd if process is not None else None,
            user=runtime.user,
            ports=ports_of(part.runtime),
            env=tuple(sorted(part.env.items())),
            data=tuple(DesiredData(name=each.name, path=each.path) for each in runtime.data),
            networks=container.networks if container is not None else (),
            limits=limits_of(part.limits),
            log_bytes_max=part.logs.size,
            log_files=part.logs.files,
        )

    def _build(self, part: ServiceSpec | JobSpec, build: BuildSpec | None) -> DesiredBuild | None:
        if build is None:
            return None
        place = f"{self._places[part.name]}.runtime.container.build"
        folder = "" if build.context == "." else build.context
        files = self._files.below(folder)
        dockerfile = f"{folder}/{build.dockerfile}" if folder else build.dockerfile
        self.problems += faults_of_build(build, files, dockerfile, self._files.unread(folder), place)
        pairs = tuple((file.path, file.hash) for file in files)
        return DesiredBuild(
            context=build.context,
            dockerfile=build.dockerfile,
            hash=_hash("build", build.context, build.dockerfile, pairs),
            files=pairs,
        )

    def _inputs(self, part: JobSpec) -> list[object]:
        found: dict[str, str] = {}
        for number, glob in enumerate(part.inputs):
            files = self._files.matching(glob)
            found |= {file.path: file.hash for file in files}
            path = f"{self._places[part.name]}.inputs[{number}]"
            unread = self._files.unread(fixed_folder(glob))
            left_out = sorted(file for file in unread if matches(glob, file) or not files)
            if left_out:
                message = f"'{left_out[0]}' was not read: {unread[left_out[0]]}"
                self.problems.append(Problem(path=path, message=message, hint=HINT))
            elif not files or len(found) > INPUT_FILES_MAX:
                message = (
                    f"means more than {INPUT_FILES_MAX} files" if files else "means no file of the source"
                )
                hint = "paths begin at the root of the source; `**` stands for any folders"
                self.problems.append(Problem(path=path, message=message, hint=hint))
        return [*sorted(found.items())]

    def _shown(self, program: DesiredProgram) -> object:
        """All that makes an instance another one, with references in the place of secrets."""
        limits = program.limits
        return [
            program.runtime.value,
            program.argv,
            program.image,
            program.build.hash if program.build is not None else None,
            program.cwd,
            program.user,
            [(port.name, port.number) for port in program.ports],
            [(name, self._value(value)) for name, value in program.env],
            [(each.name, each.path) for each in program.data],
            program.networks,
            [limits.memory_bytes, limits.cpus, limits.processes, limits.open_files],
        ]

    def _value(self, value: Value) -> object:
        match value:
            case str():
                return ["text", value]
            case SecretReference():
                return ["secret", value.env, value.file, value.age]
            case OutputReference():
                return ["output", str(value), self._versions.get(value.component, "")]


def _asked(spec: EnvironmentSpec) -> dict[str, tuple[str, ...]]:
    """The outputs that somebody who is not skipped takes, by component, in order."""
    found: dict[str, set[str]] = {}
    for part in spec.components:
        for reference in consumed(part) if not part.skip else ():
            found.setdefault(reference.component, set()).add(reference.output)
    return {name: tuple(sorted(outputs)) for name, outputs in found.items()}


def _hash(*said: Any) -> str:
    text = json.dumps(said, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
