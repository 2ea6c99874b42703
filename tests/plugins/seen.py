"""Runtimes and proxies that only look, and desired states for them; nothing is started anywhere."""

import asyncio
from collections.abc import Sequence

from reconciler.runtimes.proxy import PlacedRoute
from reconciler.runtimes.runtime import Endpoint, Identity, Observed, ServiceSpec, ServiceState
from reconciler.spec.values import SecretReference
from reconciler.state.desired import DesiredState
from reconciler.state.programs import (
    DesiredJob,
    DesiredProgram,
    DesiredPrograms,
    DesiredRoute,
    DesiredService,
    RuntimeName,
)

API = Identity(environment="production", deployment="eu", component="api")
HEALTHY = Observed(
    identity=API,
    instance="i1",
    state=ServiceState.HEALTHY,
    definition_hash="d1",
    endpoints=(Endpoint(name="http", host="127.0.0.1", port=8080),),
    handle="pid 7",
)


class Seen:
    """A runtime that only looks, and says what it is told to."""

    def __init__(self, name: str, found: Sequence[Observed] = ()) -> None:
        self._name = name
        self.found = tuple(found)
        self.error: Exception | None = None
        self.silent = False
        self.unfit: str | None = None
        self.looks = 0

    @property
    def name(self) -> str:
        return self._name

    async def why_not(self) -> str | None:
        return self.unfit

    def may_stand_beside(self, spec: ServiceSpec) -> bool:
        return True

    async def observe(
        self, environment: str, deployment: str, component: str | None = None
    ) -> tuple[Observed, ...]:
        assert (environment, deployment, component) == ("production", "eu", None)
        self.looks += 1
        if self.silent:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return self.found

    async def prepare(self, spec: ServiceSpec) -> None:
        raise AssertionError

    async def apply(self, spec: ServiceSpec, instance: str) -> Observed:
        raise AssertionError

    async def remove(self, identity: Identity, instance: str) -> None:
        raise AssertionError

    async def log_end(self, spec: ServiceSpec, instance: str) -> str:
        raise AssertionError

    async def output(self, spec: ServiceSpec, instance: str) -> bytes | None:
        raise AssertionError


class SeenRoutes:
    """A proxy that only looks."""

    def __init__(self, name: str, found: Sequence[PlacedRoute] = ()) -> None:
        self._name = name
        self.found = tuple(found)
        self.error: Exception | None = None

    @property
    def name(self) -> str:
        return self._name

    async def why_not(self) -> str | None:
        return None

    async def observe(self, environment: str, deployment: str) -> tuple[PlacedRoute, ...]:
        if self.error is not None:
            raise self.error
        return self.found

    async def put(self, route: PlacedRoute) -> None:
        raise AssertionError

    async def remove(self, identity: Identity) -> None:
        raise AssertionError


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def service(component: str, runtime: RuntimeName = RuntimeName.PROCESS) -> DesiredService:
    program = DesiredProgram(runtime=runtime, argv=("bin/run",))
    return DesiredService(component=component, stage="services", program=program, definition_hash="d1")


def route(component: str, proxy: str | None = None) -> DesiredRoute:
    return DesiredRoute(
        component=component,
        stage="routes",
        host="shop.example.com",
        path="/",
        service="api",
        port="http",
        definition_hash="r1",
        proxy=proxy,
    )


def desired(*parts: DesiredService | DesiredRoute | DesiredJob) -> DesiredState:
    return DesiredState(
        environment="production",
        deployment="eu",
        commit="a" * 40,
        postgres=SecretReference(env="DSN"),
        stages=("services", "jobs", "routes"),
        databases=(),
        modules=(),
        programs=DesiredPrograms(
            services=tuple(part for part in parts if isinstance(part, DesiredService)),
            jobs=tuple(part for part in parts if isinstance(part, DesiredJob)),
            routes=tuple(part for part in parts if isinstance(part, DesiredRoute)),
        ),
    )
