"""Services, jobs and routes as a spec declares them, strict and frozen; how they fit is `check`'s."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from reconciler.spec import text_rules
from reconciler.spec.fields import (
    LIST_ITEMS_MAX,
    ComponentModel,
    Name,
    Schedule,
    SourceGlob,
    SpecModel,
    broken_rule,
    follows,
)
from reconciler.spec.programs import (
    Argv,
    Deadline,
    Interval,
    JobRuntimeSpec,
    LimitsSpec,
    LogsSpec,
    Pause,
    PortName,
    RestartWhen,
    ServiceRuntimeSpec,
    Variables,
)
from reconciler.spec.text_rules import Broken

ATTEMPTS_MAX = 100

OutputName = Annotated[str, follows(text_rules.output)]


class HttpHealthSpec(SpecModel):
    """Healthy while a GET is answered with 200 to 399."""

    port: PortName | None = Field(
        default=None, description="Port that is asked; left out: the only one the service has."
    )
    path: Annotated[str, follows(text_rules.route_path, template=True)] = Field(
        default="/", description="Path that is asked for."
    )


class TcpHealthSpec(SpecModel):
    """Healthy while a connection is accepted."""

    port: PortName | None = Field(
        default=None, description="Port that is tried; left out: the only one the service has."
    )


class HealthSpec(SpecModel):
    """When a new instance counts as healthy; without http, tcp and command the runtime itself says."""

    http: HttpHealthSpec | None = Field(default=None, description="By a request over HTTP.")
    tcp: TcpHealthSpec | None = Field(default=None, description="By a connection.")
    command: Argv | None = Field(
        default=None, description="By a program, run beside the service, that exits with 0."
    )
    timeout: Deadline = Field(default="60s", description="Within what time it has to become healthy.")
    interval: Interval = Field(default="1s", description="How long after one check the next one comes.")
    check_timeout: Interval = Field(
        default="5s", alias="checkTimeout", description="How long one check may take."
    )
    steady: Pause = Field(
        default="5s", description="How long it has to stay healthy before anything is switched to it."
    )
    crashes: int = Field(
        default=2, ge=0, le=100, description="Starts beyond the first that are not taken for a crash loop."
    )

    @model_validator(mode="after")
    def _one_check(self) -> Self:
        named = [name for name in ("http", "tcp", "command") if getattr(self, name) is not None]
        if len(named) > 1:
            raise broken_rule(Broken(f"has {len(named)} checks: {', '.join(named)}", "keep one of them"))
        return self


class RestartSpec(SpecModel):
    """How what ended is started again by the runtime."""

    when: RestartWhen = Field(default="always", description="After which ends it is started again.")
    delay: Pause = Field(
        default="1s", description="How long after an end; doubled with every quick end in a row."
    )
    delay_max: Pause = Field(default="60s", alias="delayMax", description="How long after an end at most.")
    limit: int | None = Field(
        default=None, ge=1, le=1_000_000, description="Quick ends in a row after which nothing is tried."
    )


class ServiceSpec(ComponentModel):
    """A program that runs until it is replaced or removed."""

    kind: Literal["Service"] = Field(description="Kind of the component.")
    runtime: ServiceRuntimeSpec = Field(description="What runs it.")
    env: Variables = Field(default_factory=dict, description="Variables it is given.")
    health: HealthSpec = Field(
        default_factory=HealthSpec, description="When a new instance counts as healthy."
    )
    restart: RestartSpec = Field(default_factory=RestartSpec, description="How what ended is started again.")
    replace: Literal["beside", "in-place"] | None = Field(
        default=None,
        description="beside: a new instance is healthy before the old one goes; in-place: the old one ends "
        "first. Left out: beside where runtime and ports allow it, in-place where it has data or a database "
        "lives on it.",
    )
    grace: Pause = Field(default="10s", description="How long it has to end by itself when it is asked to.")
    limits: LimitsSpec = Field(default_factory=LimitsSpec, description="What it may take at most.")
    logs: LogsSpec = Field(default_factory=LogsSpec, description="How much of what it says is kept.")


class JobRunSpec(SpecModel):
    """What a job runs for."""

    on: Annotated[
        tuple[Literal["change", "start", "stop", "remove"], ...], Field(strict=False, max_length=4)
    ] = Field(
        default=("change",),
        description="change: it or what it is made from is another; start, stop, remove: of the environment.",
    )
    schedule: Schedule | None = Field(
        default=None, description="Also at these times: the five fields of cron, in UTC."
    )

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.on and self.schedule is None:
            raise broken_rule(Broken("runs for nothing", "name something under `on`, or a `schedule`"))
        return self


class JobOutputSpec(SpecModel):
    """A value that a job has to write, into the JSON file of `JOB_OUTPUT`."""

    name: OutputName = Field(description="Name of the output, unique in the job.")
    type: Literal["string", "number", "boolean", "json"] = Field(
        default="string", description="What it has to be."
    )
    sensitive: bool = Field(default=False, description="Whether it is a secret: it is shown nowhere.")
    keep: bool = Field(default=False, description="Whether it is kept though no component consumes it.")


class JobSpec(ComponentModel):
    """A program that runs to its end."""

    kind: Literal["Job"] = Field(description="Kind of the component.")
    runtime: JobRuntimeSpec = Field(description="What runs it.")
    env: Variables = Field(default_factory=dict, description="Variables it is given.")
    inputs: Annotated[tuple[SourceGlob, ...], Field(strict=False, max_length=LIST_ITEMS_MAX)] = Field(
        default=(), description="Globs for files of the source; it counts as changed when one of them is."
    )
    run: JobRunSpec = Field(default_factory=JobRunSpec, description="What it runs for.")
    timeout: Deadline = Field(default="10m", description="How long one attempt may take.")
    attempts: int = Field(default=1, ge=1, le=ATTEMPTS_MAX, description="Attempts before it has failed.")
    grace: Pause = Field(default="10s", description="How long it has to end by itself when it is asked to.")
    limits: LimitsSpec = Field(default_factory=LimitsSpec, description="What it may take at most.")
    logs: LogsSpec = Field(default_factory=LogsSpec, description="How much of what it says is kept.")
    outputs: Annotated[tuple[JobOutputSpec, ...], Field(strict=False, max_length=LIST_ITEMS_MAX)] = Field(
        default=(), description="What it has to write for others."
    )


class RouteTargetSpec(SpecModel):
    """Where requests go."""

    service: Name = Field(alias="from", description="The Service component.")
    port: PortName | None = Field(
        default=None, description="One of its ports; left out: the only one it has."
    )


class RouteSpec(ComponentModel):
    """A way in from outside: a host, and a path below which requests go to a service."""

    kind: Literal["Route"] = Field(description="Kind of the component.")
    host: Annotated[str, follows(text_rules.host, template=True)] = Field(
        description="Host of the requests, in lower case."
    )
    path: Annotated[str, follows(text_rules.route_path, template=True)] = Field(
        default="/", description="Path below which they are; the longest one of a host is taken."
    )
    to: RouteTargetSpec = Field(description="Where they go.")
    proxy: Name | None = Field(
        default=None, description="Proxy of the daemon's settings; left out: the only one there is."
    )
