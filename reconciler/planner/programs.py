"""Reads what is tracked and what runs of services, jobs and routes; it decides nothing and writes nowhere.

What cannot be seen is told to be unknown, which is not the same as that it is not there.
"""

import asyncio
import json
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import field
from typing import TypeVar

from reconciler.control import programs
from reconciler.control.programs import RouteClaim
from reconciler.errors import NotFound, ReconcilerError
from reconciler.frozen import frozen
from reconciler.planner.shared import Shared
from reconciler.postgres.connection import Connection, Connections, Dsn
from reconciler.runtimes.machine import Machine
from reconciler.runtimes.proxy import PlacedRoute
from reconciler.runtimes.runtime import Observed, Runtime, ServiceState
from reconciler.spec.values import OutputReference
from reconciler.state.desired import DesiredState
from reconciler.state.live import LiveInstance, LivePrograms, LiveRoute
from reconciler.state.programs import DesiredJob, DesiredRoute, DesiredService
from reconciler.state.tracked import TrackedComponent, TrackedPrograms

LASTING_S = 120.0
"""Seen unhealthy for so long, an instance is taken not to mend by itself."""
REMEMBERED = 20_000
"""Instances that are unhealthy, of which it is kept since when."""
KNOWN_S = 120.0

_Found = TypeVar("_Found")


@frozen
class _Seen:
    """What one runtime or proxy says: what it has, and why nothing is known of what it should have."""

    instances: Sequence[Observed] = ()
    routes: Sequence[PlacedRoute] = ()
    unknown: str | None = None
    unfit: str | None = None


@frozen
class _Wanted:
    """Where the components of a deployment are looked for: runtimes and proxies, each with the components."""

    runtimes: Mapping[str, Collection[str]] = field(default_factory=dict)
    proxies: Mapping[str, Collection[str]] = field(default_factory=dict)
    barred: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)


class ProgramReader:
    """Reads of the control database, and of the runtimes and proxies of this machine.

    `control` is None for a dry run where no control database exists yet: nothing is tracked then. Of an
    environment without services, jobs and routes nothing is asked but, once for all, whether it had some.
    """

    def __init__(
        self,
        *,
        control: Dsn | None,
        connections: Connections,
        machine: Machine,
        unseal: Callable[[str], str],
        observe_timeout_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._control = control
        self._connections = connections
        self._machine = machine
        self._unseal = unseal
        self._observe_timeout_s = observe_timeout_s
        self._clock = clock
        self._known: Shared[None, frozenset[str]] = Shared(
            keep_s=KNOWN_S, weight_max=1_000_000, weigh=lambda names: 1 + len(names)
        )
        self._unhealthy: OrderedDict[tuple[str, str, str, str], float] = OrderedDict()

    async def read(
        self, desired: DesiredState, *, not_before: float | None = None
    ) -> tuple[TrackedPrograms, LivePrograms]:
        """What is tracked and live of a deployment; `not_before` as everywhere."""
        tracked = await self._tracked(desired, not_before)
        if not _has_programs(desired) and not tracked.components:
            return tracked, LivePrograms()
        return tracked, await self._live(desired, tracked)

    async def output(self, desired: DesiredState, reference: OutputReference) -> str:
        """The value of an output as a text; raises NotFound where it is not kept."""
        async with self._connection() as connection:
            found = await programs.read_kept_output(
                connection, desired.environment, desired.deployment, reference.component, reference.output
            )
        if found is None:
            raise NotFound(f"the output '{reference}' is not there")
        value = found.value if found.sealed is None else json.loads(self._unseal(found.sealed))
        return (
            value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        )

    async def _tracked(self, desired: DesiredState, not_before: float | None) -> TrackedPrograms:
        if self._control is None:
            return TrackedPrograms()
        try:
            if not _has_programs(desired) and not_before is not None:
                known = await self._known.get(None, self._known_environments, not_before=not_before)
                if desired.environment not in known:
                    return TrackedPrograms()
            async with self._connection() as connection:
                return await programs.read_tracked(connection, desired.environment, desired.deployment)
        except NotFound:
            # There is no control schema yet, or one of before there were programs.
            return TrackedPrograms()

    async def _known_environments(self) -> frozenset[str]:
        async with self._connection() as connection:
            return await programs.known_environments(connection)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[Connection]:
        if self._control is None:
            raise NotFound("there is no control database yet")
        async with self._connections.borrow(self._control, role="control", leaves_nothing=True) as connection:
            yield connection

    async def _live(self, desired: DesiredState, tracked: TrackedPrograms) -> LivePrograms:
        wanted = self._wanted(desired, tracked)
        runtimes, proxies, taken = await asyncio.gather(
            _side_by_side({name: self._observe(desired, name) for name in sorted(wanted.runtimes)}),
            _side_by_side({name: self._routes(desired, name) for name in sorted(wanted.proxies)}),
            self._taken(desired),
        )
        unknown: dict[str, str] = {}
        for found, concerned in ((runtimes, wanted.runtimes), (proxies, wanted.proxies)):
            for name, seen in found.items():
                if seen.unknown is not None:
                    unknown |= dict.fromkeys(concerned[name], seen.unknown)
        instances: dict[str, list[LiveInstance]] = {}
        for seen in runtimes.values():
            for each in seen.instances:
                one = self._instance(desired, each)
                instances.setdefault(each.identity.component, []).append(one)
        return LivePrograms(
            instances={name: tuple(each) for name, each in instances.items()},
            routes={
                each.identity.component: _route(each) for seen in proxies.values() for each in seen.routes
            },
            unknown={**unknown, **wanted.elsewhere},
            unfit={name: seen.unfit for name, seen in runtimes.items() if seen.unfit is not None},
            barred={**wanted.barred, **taken},
        )

    def _wanted(self, desired: DesiredState, tracked: TrackedPrograms) -> _Wanted:
        """Where components are looked for: where they are to be, and where they were applied."""
        runtimes: dict[str, set[str]] = {}
        proxies: dict[str, set[str]] = {}
        barred: dict[str, str] = {}
        run: Sequence[DesiredService | DesiredJob] = (*desired.programs.services, *desired.programs.jobs)
        for part in run:
            runtimes.setdefault(part.program.runtime.value, set()).add(part.component)
        for route in desired.programs.routes:
            try:
                proxies.setdefault(self._proxy(route), set()).add(route.component)
            except NotFound as error:
                barred[route.component] = str(error)
        elsewhere: dict[str, str] = {}
        for name, there in tracked.components.items():
            is_over = there.kind == "Job" and there.applying is None
            if there.place not in (None, self._machine.place) and not is_over:
                elsewhere[name] = (
                    f"it runs on machine '{there.place}', and this daemon is on '{self._machine.place}'; a"
                    " daemon there sees it; where that place is gone, one with its name as runtimes.place"
                )
            runtime, proxy = _runtime_of(there), there.definition.get("proxy")
            if runtime is not None:
                runtimes.setdefault(runtime, set()).add(name)
            elif there.kind == "Route":
                for each in [proxy] if proxy else self._machine.proxies:
                    proxies.setdefault(each, set()).add(name)
        return _Wanted(runtimes=runtimes, proxies=proxies, barred=barred, elsewhere=elsewhere)

    def _proxy(self, route: DesiredRoute) -> str:
        """The proxy that a route is set in; raises NotFound where the settings do not say."""
        names = sorted(self._machine.proxies)
        if route.proxy is not None:
            return route.proxy
        if len(names) == 1:
            return names[0]
        if not names:
            raise NotFound("the settings name no proxy that could have it", hint="name one under proxies")
        raise NotFound(f"the settings name several proxies ({', '.join(names)})", hint="say which: proxy")

    async def _observe(self, desired: DesiredState, name: str) -> _Seen:
        runtime = self._machine.runtimes.get(name)
        if runtime is None:
            why = f"this daemon has no runtime '{name}': name it under runtimes in its settings"
            return _Seen(unknown=why, unfit=why)
        unfit, found = await asyncio.gather(
            self._asked(_why_not(runtime)),
            self._asked(runtime.observe(desired.environment, desired.deployment)),
        )
        return _Seen(
            instances=found if not isinstance(found, str) else (),
            unknown=found if isinstance(found, str) else None,
            unfit=unfit or None,
        )

    async def _routes(self, desired: DesiredState, name: str) -> _Seen:
        proxy = self._machine.proxies.get(name)
        if proxy is None:
            return _Seen(unknown=f"the settings name no proxy '{name}': name it under proxies")
        found = await self._asked(proxy.observe(desired.environment, desired.deployment))
        if isinstance(found, str):
            return _Seen(unknown=found)
        return _Seen(routes=found)

    async def _asked(self, asked: Awaitable[_Found]) -> _Found | str:
        """What a runtime or proxy answers; why it does not, where it does not in time."""
        try:
            async with asyncio.timeout(self._observe_timeout_s):
                return await asked
        except TimeoutError:
            return f"it did not answer within {self._observe_timeout_s:g} s"
        except ReconcilerError as error:
            return str(error)

    async def _taken(self, desired: DesiredState) -> dict[str, str]:
        """Routes whose host and path are another deployment's."""
        wanted: list[RouteClaim] = []
        for route in desired.programs.routes:
            proxy = route.proxy or (next(iter(self._machine.proxies), None))
            if proxy is not None and not route.skip:
                claim = RouteClaim(component=route.component, proxy=proxy, host=route.host, path=route.path)
                wanted.append(claim)
        if not wanted or self._control is None:
            return {}
        try:
            async with self._connection() as connection:
                return await programs.routes_of_others(
                    connection, desired.environment, desired.deployment, wanted
                )
        except NotFound:
            return {}

    def _instance(self, desired: DesiredState, found: Observed) -> LiveInstance:
        return LiveInstance(
            instance=found.instance,
            state=found.state.value,
            definition_hash=found.definition_hash,
            endpoints=tuple((each.name, each.host, each.port) for each in found.endpoints),
            reason=found.reason,
            handle=found.handle,
            lasting=self._is_lasting(desired, found),
        )

    def _is_lasting(self, desired: DesiredState, found: Observed) -> bool:
        """Whether an instance was unhealthy at every look for a while."""
        key = (desired.environment, desired.deployment, found.identity.component, found.instance)
        if found.state is not ServiceState.UNHEALTHY:
            self._unhealthy.pop(key, None)
            return False
        now = self._clock()
        since = self._unhealthy.setdefault(key, now)
        self._unhealthy.move_to_end(key)
        while len(self._unhealthy) > REMEMBERED:
            self._unhealthy.popitem(last=False)
        return now - since >= LASTING_S


def _has_programs(desired: DesiredState) -> bool:
    """Whether a deployment has, or its databases need, anything that stands in these tables."""
    own = desired.programs
    return bool(
        own.services
        or own.jobs
        or own.routes
        or any(part.on is not None or part.access is not None for part in desired.databases)
    )


def _runtime_of(there: TrackedComponent) -> str | None:
    program = there.definition.get("program")
    return program.get("runtime") if isinstance(program, Mapping) else None


def _route(placed: PlacedRoute) -> LiveRoute:
    host, port = placed.upstream
    return LiveRoute(host=placed.host, path=placed.path, to=f"{host}:{port}", edited=placed.edited)


async def _why_not(runtime: Runtime) -> str:
    return await runtime.why_not() or ""


async def _side_by_side(asked: Mapping[str, Awaitable[_Seen]]) -> dict[str, _Seen]:
    found = await asyncio.gather(*asked.values())
    return dict(zip(asked, found, strict=True))
