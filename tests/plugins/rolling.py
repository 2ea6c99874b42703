"""Services and jobs carried out as steps of plans, by the runtime `process`, with a register in memory."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from reconciler.errors import Conflict, NotFound
from reconciler.execution import program_steps
from reconciler.execution.interference import Interference
from reconciler.execution.program_steps import ProgramStep
from reconciler.execution.register import Applying, KeptOutput, Made, Register
from reconciler.execution.resources import Resources
from reconciler.execution.session import Limits
from reconciler.plan.steps import AnyStep, RemoveService, RollService, RunJob, SetRoute, StepKind
from reconciler.postgres.dsn import Dsn
from reconciler.runtimes.machine import Machine
from reconciler.runtimes.proxy import PlacedRoute
from reconciler.runtimes.runtime import Identity, Observed, Runtime, ServiceState
from reconciler.spec.values import OutputReference, SecretReference
from reconciler.state.desired import DesiredState
from reconciler.state.programs import (
    DesiredHealth,
    DesiredJob,
    DesiredOutput,
    DesiredPort,
    DesiredProgram,
    DesiredPrograms,
    DesiredRestart,
    DesiredRoute,
    DesiredService,
    RuntimeName,
)
from reconciler.state.tracked import TrackedComponent, TrackedPrograms
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.record import Actor
from tests.plugins.services import AGAIN_S, ProcessBench
from tests.plugins.states import desired

OPERATION = "7"


class MemoryRegister(Register):
    """The record of one deployment, which outlives those who write to it."""

    def __init__(self) -> None:
        self.components: dict[str, TrackedComponent] = {}
        self.outputs: dict[str, tuple[Made, str]] = {}
        self.runs: list[dict[str, Any]] = []
        self.routes: dict[tuple[str, str, str], str] = {}

    def tracked(self) -> TrackedPrograms:
        """As it is read when something is planned."""
        return TrackedPrograms(components=dict(self.components))

    async def applying(self, what: Applying) -> None:
        before = self.components.get(what.component)
        if before is None:
            before = _component(what, instance=None)
        self.components[what.component] = replace(before, applying=what.instance)

    async def applied(self, what: Applying, *, healed: bool = False) -> None:
        heals = self.components[what.component].heals + 1 if healed else 0
        self.components[what.component] = replace(_component(what, instance=what.instance), heals=heals)

    async def rolled_back(self, component: str) -> None:
        found = self.components.get(component)
        if found is not None and found.instance is None:
            del self.components[component]
        elif found is not None:
            self.components[component] = replace(found, applying=None)

    async def removed(self, component: str) -> None:
        self.components.pop(component, None)
        for name in [name for name in self.outputs if name.startswith(f"{component}.")]:
            del self.outputs[name]

    async def stopped(self, component: str) -> None:
        self.components[component] = replace(self.components[component], instance=None)

    async def output(self, reference: OutputReference) -> KeptOutput:
        if str(reference) not in self.outputs:
            raise NotFound(f"output '{reference}' is not kept")
        made, inputs_hash = self.outputs[str(reference)]
        return KeptOutput(value=made.value, sensitive=made.sensitive, inputs_hash=inputs_hash)

    async def keep(self, component: str, inputs_hash: str, outputs: Sequence[Made]) -> None:
        for made in outputs:
            self.outputs[f"{component}.{made.name}"] = (made, inputs_hash)

    async def password(self, component: str, role: str) -> str:
        return f"password of {component} {role}"

    async def job_began(self, component: str, trigger: str, inputs_hash: str, instance: str) -> int:
        self.runs.append({"component": component, "trigger": trigger, "instance": instance, "ended": False})
        return len(self.runs)

    async def job_ended(
        self, component: str, instance: str, *, exit_status: int | None, error: str | None
    ) -> None:
        for run in self.runs:
            if run["instance"] == instance and not run["ended"]:
                run.update(ended=True, exit_status=exit_status, error=error)

    async def claim_route(self, component: str, proxy: str, host: str, path: str) -> None:
        if self.routes.setdefault((proxy, host, path), component) != component:
            raise Conflict(f"'{host}{path}' is another's")


def _component(what: Applying, *, instance: str | None) -> TrackedComponent:
    return TrackedComponent(
        component=what.component,
        kind=what.kind,
        stage=what.stage,
        definition_hash=what.definition_hash,
        definition=what.definition,
        instance=instance,
        place=what.place,
    )


class MemoryProxy:
    """A proxy that only notes where it leads, and fails as it is told."""

    name = "edge"

    def __init__(self) -> None:
        self.placed: dict[str, PlacedRoute] = {}
        self.led: list[tuple[str, tuple[str, int]]] = []
        self.fails: list[Exception] = []
        self.is_away: Exception | None = None

    async def why_not(self) -> str | None:
        return None

    async def observe(self, environment: str, deployment: str) -> tuple[PlacedRoute, ...]:
        if self.is_away is not None:
            raise self.is_away
        return tuple(self.placed.values())

    async def put(self, route: PlacedRoute) -> None:
        if self.fails:
            raise self.fails.pop(0)
        self.placed[route.identity.component] = route
        self.led.append((route.identity.component, route.upstream))

    async def remove(self, identity: Identity) -> None:
        self.placed.pop(identity.component, None)


class Struck(BaseException):
    """A worker died at a point."""


class StopsAt(Interference):
    """Stops the worker at a point, as if it died there."""

    active = True

    def __init__(self, point: str | None = None) -> None:
        self.point = point
        self.seen: list[str] = []
        self.then: Callable[[], object] = lambda: None

    def at(self, point: str) -> None:
        """Die if it is the point, and let happen what is to be `then`; the next worker passes it."""
        self.seen.append(point)
        if point == self.point:
            self.point = None
            self.then()
            raise Struck(point)


class NoJournal:
    """Where nobody reads how far it is."""

    async def started(self, step: AnyStep, *, instead_of: AnyStep | None = None) -> None: ...

    async def finished(self, step: AnyStep, duration_s: float) -> None: ...

    async def failed(self, step: AnyStep, duration_s: float, error: BaseException) -> None: ...

    async def safe_point(self) -> None: ...

    async def progressed(self, step: AnyStep, text: str) -> None: ...

    async def staging(self, step: AnyStep, server: str) -> None: ...

    async def discarded(self, step: AnyStep) -> None: ...

    async def may_promote(self, step: AnyStep) -> None: ...

    async def promoted(self, step: AnyStep, retained_until: datetime | None) -> None: ...


def _hash(part: object) -> str:
    return hashlib.sha256(repr(part).encode()).hexdigest()


def service(script: str, component: str = "api", **more: Any) -> DesiredService:
    """A service that is a script of the shell; `program` are changes of what is run."""
    program = DesiredProgram(
        **{"runtime": RuntimeName.PROCESS, "argv": ("/bin/sh", "-c", script), **more.pop("program", {})}
    )
    health = DesiredHealth(**{"interval_s": AGAIN_S, "steady_s": 0.1, **more.pop("health", {})})
    return DesiredService(
        component=component,
        stage="services",
        program=program,
        definition_hash=_hash(program),
        health=health,
        restart=DesiredRestart(delay_s=0.01, delay_max_s=0.02),
        **{"grace_s": 5.0, **more},
    )


def job(script: str, component: str = "seed", **more: Any) -> DesiredJob:
    """A job that is a script of the shell; `outputs` are names, or whole outputs."""
    program = DesiredProgram(
        runtime=RuntimeName.PROCESS, argv=("/bin/sh", "-c", script), **more.pop("program", {})
    )
    outputs = [each if isinstance(each, DesiredOutput) else DesiredOutput(name=each) for each in
               more.pop("outputs", ())]  # fmt: skip
    return DesiredJob(
        component=component,
        stage="jobs",
        program=program,
        inputs_hash=_hash(program),
        outputs=tuple(outputs),
        **{"grace_s": 5.0, "timeout_s": 60.0, **more},
    )


def route(to: str = "api", component: str = "shop", **more: Any) -> DesiredRoute:
    """A route to the port `http` of a service."""
    values = {"host": "shop.example.org", "path": "/", "port": "http", "stage": "routes", **more}
    return DesiredRoute(component=component, service=to, definition_hash=_hash(values), **values)


HTTP = {"ports": (DesiredPort(name="http"),)}


class Rolling:
    """What steps are carried out with; a register, a proxy and the processes outlive who works with them."""

    def __init__(self, bench: ProcessBench) -> None:
        self.bench = bench
        self.register = MemoryRegister()
        self.proxy = MemoryProxy()
        self.proxies = {"edge": self.proxy}
        self.secrets: Mapping[str, str] = {}
        self.journal = NoJournal()
        self.place = "here"
        self.more_runtimes: dict[str, Runtime] = {}

    def resources(
        self, *parts: DesiredService | DesiredJob | DesiredRoute, interference: Interference | None = None
    ) -> Resources:
        """Those of an operation that was planned from what is there now."""
        wanted: DesiredState = replace(
            desired(stages=("services", "jobs", "routes")),
            databases=(),
            programs=DesiredPrograms(
                services=tuple(part for part in parts if isinstance(part, DesiredService)),
                jobs=tuple(part for part in parts if isinstance(part, DesiredJob)),
                routes=tuple(part for part in parts if isinstance(part, DesiredRoute)),
            ),
        )
        runtime = self.bench.again()
        return Resources(
            dsn=Dsn("host=127.0.0.1 port=1"),
            owner=FenceOwner(control_id="c", environment="production", deployment="eu", operation=OPERATION),
            actor=Actor(commit="c" * 40, operation=OPERATION, committer="test"),
            limits=Limits(),
            desired=wanted,
            unprepared=frozenset(),
            standing={},
            planned_from={},
            intend=_nothing,
            forget=_nothing,
            secret=self._secret,
            machine=Machine(
                place=self.place,
                runtimes={runtime.name: runtime, **self.more_runtimes},
                proxies=dict(self.proxies),
            ),
            register=self.register,
            programs=self.register.tracked(),
            interference=interference or Interference(),
        )

    def _secret(self, reference: SecretReference) -> str:
        return self.secrets[reference.env or ""]

    async def carry_out(
        self,
        step: ProgramStep,
        *parts: DesiredService | DesiredJob | DesiredRoute,
        interference: Interference | None = None,
    ) -> None:
        """One step, by a worker that knows nothing but what is recorded and there."""
        resources = self.resources(*parts, interference=interference)
        await program_steps.carry_out(step, resources, self.journal)

    def roll(self, wanted: DesiredService, **more: Any) -> RollService:
        """The step that rolls a service."""
        before = self.register.components.get(wanted.component)
        values = {
            "action": "add" if before is None else "change",
            "beside": not wanted.in_place,
            "replaces": before.instance if before is not None else None,
            **more,
        }
        return RollService(
            id=f"{wanted.component}/roll-service",
            kind=StepKind.ROLL_SERVICE,
            component=wanted.component,
            identity=f"service {wanted.component}",
            database="",
            runtime=wanted.program.runtime.value,
            instance=wanted.instance,
            definition_hash=wanted.definition_hash,
            **values,
        )

    def job(self, wanted: DesiredJob, **more: Any) -> RunJob:
        """The step that runs a job."""
        return RunJob(
            id=f"{wanted.component}/run-job",
            kind=StepKind.RUN_JOB,
            component=wanted.component,
            identity=f"job {wanted.component}",
            database="",
            runtime=wanted.program.runtime.value,
            trigger="change",
            inputs_hash=wanted.inputs_hash,
            timeout_s=wanted.timeout_s,
            attempts=wanted.attempts,
            produces=tuple(f"{wanted.component}.{output.name}" for output in wanted.outputs),
            **more,
        )

    def set_route(self, wanted: DesiredRoute) -> SetRoute:
        """The step that sets a route."""
        return SetRoute(
            id=f"{wanted.component}/set-route",
            kind=StepKind.SET_ROUTE,
            component=wanted.component,
            identity=f"route {wanted.component}",
            database="",
            proxy=wanted.proxy,
            host=wanted.host,
            path=wanted.path,
            service=wanted.service,
            port=wanted.port,
            definition_hash=wanted.definition_hash,
        )

    def remove(self, component: str, **more: Any) -> RemoveService:
        """The step that removes a service."""
        return RemoveService(
            id=f"{component}/remove-service",
            kind=StepKind.REMOVE_SERVICE,
            component=component,
            identity=f"service {component}",
            database="",
            runtime="process",
            **more,
        )

    async def serving(self, component: str = "api") -> list[str]:
        """The instances that are healthy; there is no other."""
        found = await self.there(component)
        assert all(each.state is ServiceState.HEALTHY for each in found)
        return sorted(each.instance for each in found)

    async def there(self, component: str = "api") -> tuple[Observed, ...]:
        """All instances of a component."""
        return await self.bench.runtime.observe("production", "eu", component)

    async def until_struck(
        self, point: str, step: ProgramStep, *parts: DesiredService | DesiredJob | DesiredRoute
    ) -> None:
        """A worker that dies at a point."""
        stops = StopsAt(point)
        with suppress(Struck):
            await self.carry_out(step, *parts, interference=stops)
        assert stops.point is None, f"it never came to '{point}': {stops.seen}"


async def _nothing(_database: str) -> None: ...


@pytest.fixture
def rolling(bench: ProcessBench) -> Rolling:
    """Steps of services and jobs, on processes that are gone at the end."""
    return Rolling(bench)
