"""Services, jobs and routes as a deployment should have them; nothing of how they are run stands here."""

from dataclasses import field
from enum import StrEnum

from reconciler.frozen import frozen
from reconciler.spec import values
from reconciler.spec.values import OutputReference, SecretReference

Value = str | SecretReference | OutputReference
"""What a variable of a program is given: a text, a secret, or an output of another component."""


class RuntimeName(StrEnum):
    """What runs a program."""

    PROCESS = "process"
    SYSTEMD = "systemd"
    CONTAINER = "container"


class Trigger(StrEnum):
    """What a job runs for."""

    CHANGE = "change"
    START = "start"
    STOP = "stop"
    REMOVE = "remove"
    SCHEDULE = "schedule"


ENDINGS = frozenset({Trigger.STOP, Trigger.REMOVE})
"""Triggers of jobs that run when their environment ends, with the outputs that are kept by then."""


class OutputType(StrEnum):
    """What an output is, as JSON knows it."""

    STRING = "string"
    NUMBER = "number"
    BOOLEAN = "boolean"
    JSON = "json"


@frozen
class DesiredPort:
    """A port a program listens on; without a number its runtime chooses one."""

    name: str
    number: int | None = None


@frozen
class DesiredData:
    """A folder that outlives the instances of a service."""

    name: str
    path: str | None = None


@frozen
class DesiredBuild:
    """An image that is built from a folder of the source; `files` are (path in the source, hash)."""

    context: str
    dockerfile: str
    hash: str
    files: tuple[tuple[str, str], ...] = ()


@frozen
class DesiredLimits:
    """What a program may take at most."""

    memory_bytes: int | None = None
    cpus: float | None = None
    processes: int | None = None
    open_files: int | None = None


@frozen
class DesiredProgram:
    """What is run, and by what. `env` is in the order of its names."""

    runtime: RuntimeName
    argv: tuple[str, ...] = ()
    image: str | None = None
    build: DesiredBuild | None = None
    cwd: str | None = None
    user: str | None = None
    ports: tuple[DesiredPort, ...] = ()
    env: tuple[tuple[str, Value], ...] = ()
    data: tuple[DesiredData, ...] = ()
    networks: tuple[str, ...] = ()
    limits: DesiredLimits = DesiredLimits()
    log_bytes_max: int = 10 * 1024 * 1024
    log_files: int = 5

    @property
    def consumes(self) -> tuple[OutputReference, ...]:
        """The outputs its variables are taken from, each once, in order."""
        return tuple(dict.fromkeys(value for _, value in self.env if isinstance(value, OutputReference)))


@frozen
class DesiredHealth:
    """When a new instance counts as healthy. `check` is http, tcp, command or own (the runtime's)."""

    check: str = "own"
    port: str | None = None
    path: str = "/"
    argv: tuple[str, ...] = ()
    interval_s: float = 1.0
    check_timeout_s: float = 5.0
    deadline_s: float = 60.0
    steady_s: float = 5.0
    crashes_max: int = 2


@frozen
class DesiredRestart:
    """How what ended is started again: always, on-failure or never."""

    when: str = "always"
    delay_s: float = 1.0
    delay_max_s: float = 60.0
    limit: int | None = None


@frozen
class DesiredService:
    """A `Service` component.

    `definition_hash` is over all that makes an instance another one, with the versions of the outputs that it
    consumes, and names no secret. `in_place`: a new instance never stands beside the old one, because it
    holds data, a database lives on it, or the spec says so.
    """

    component: str
    stage: str
    program: DesiredProgram
    definition_hash: str
    health: DesiredHealth = DesiredHealth()
    restart: DesiredRestart = DesiredRestart()
    grace_s: float = 10.0
    in_place: bool = False
    after: tuple[str, ...] = ()
    skip: bool = False

    @property
    def instance(self) -> str:
        """The name of the instance that has this definition."""
        return self.definition_hash[:16]


@frozen
class DesiredOutput:
    """An output that a job has to write; `keep`: it need not be consumed by anybody."""

    name: str
    type: OutputType = OutputType.STRING
    sensitive: bool = False
    keep: bool = False


@frozen
class DesiredJob:
    """A `Job` component; `inputs_hash` is over its program, the files it names, and what it consumes.

    `triggers` say what it runs for; with a `schedule` (five fields of cron, UTC) also at those times.
    """

    component: str
    stage: str
    program: DesiredProgram
    inputs_hash: str
    triggers: frozenset[Trigger] = frozenset({Trigger.CHANGE})
    schedule: str | None = None
    timeout_s: float = 600.0
    attempts: int = 1
    grace_s: float = 10.0
    outputs: tuple[DesiredOutput, ...] = ()
    after: tuple[str, ...] = ()
    skip: bool = False


@frozen
class DesiredRoute:
    """A `Route` component: a host, and a path below which requests go to a port of a service."""

    component: str
    stage: str
    host: str
    path: str
    service: str
    port: str
    definition_hash: str
    proxy: str | None = None
    """The proxy of the daemon's settings; None: the only one there is."""
    after: tuple[str, ...] = ()
    skip: bool = False


@frozen
class DesiredServer:
    """The service that a database lives on, and how the daemon signs in there."""

    service: str
    port: str
    user: Value
    password: Value | None = None
    maintenance_database: str = "postgres"


@frozen
class DesiredAccess:
    """Roles that are made for a database with generated passwords, and the outputs that are asked for.

    `inputs_hash` is over all of it: outputs that are kept with the same hash need not be made again.
    """

    owner: str
    reader: str
    outputs: tuple[str, ...]
    inputs_hash: str


DATABASE_OUTPUTS = values.DATABASE_OUTPUTS
SERVICE_OUTPUTS = ("host", "port")
"""Of a Service; with more than one port also `port.<name>` for each."""


@frozen
class DesiredPrograms:
    """All services, jobs and routes of a deployment, each in the order of the spec."""

    services: tuple[DesiredService, ...] = ()
    jobs: tuple[DesiredJob, ...] = ()
    routes: tuple[DesiredRoute, ...] = ()
    sink: tuple[OutputReference, ...] = field(default=())
    """Outputs that are made though their consumers were left out: provision-only plans consume them."""
