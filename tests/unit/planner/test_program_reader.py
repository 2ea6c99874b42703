"""What is seen of services, jobs and routes, and what is said where nothing can be seen."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from reconciler.errors import RuntimeUnavailable
from reconciler.planner.programs import LASTING_S, ProgramReader
from reconciler.postgres.connection import Connections
from reconciler.runtimes.machine import Machine
from reconciler.runtimes.proxy import PlacedRoute
from reconciler.runtimes.runtime import ServiceState
from reconciler.state.live import LivePrograms
from reconciler.state.programs import DesiredJob, DesiredRoute, DesiredService, RuntimeName
from tests.plugins.seen import API, HEALTHY, Clock, Seen, SeenRoutes, desired, route, service


def reader(
    *runtimes: Seen, proxies: Sequence[SeenRoutes] = (), clock: Clock | None = None, timeout_s: float = 30.0
) -> ProgramReader:
    return ProgramReader(
        control=None,
        connections=Connections(),
        machine=Machine(
            place="one",
            runtimes={one.name: one for one in runtimes},
            proxies={one.name: one for one in proxies},
        ),
        unseal=lambda sealed: sealed,
        observe_timeout_s=timeout_s,
        clock=clock or Clock(),
    )


async def live(of: ProgramReader, *parts: DesiredService | DesiredRoute | DesiredJob) -> LivePrograms:
    return (await of.read(desired(*parts)))[1]


async def test_each_runtime_is_asked_once_for_a_whole_deployment() -> None:
    """However many components it has; runtimes and proxies that nobody names are not asked at all."""
    process, container = Seen("process", [HEALTHY]), Seen("container")
    found = await live(reader(process, container), service("api"), service("web"))
    (instance,) = found.instances["api"]
    assert (instance.instance, instance.state, instance.handle) == ("i1", "healthy", "pid 7")
    assert instance.endpoints == (("http", "127.0.0.1", 8080),)
    assert (process.looks, container.looks) == (1, 0)
    assert not found.unknown


async def test_nothing_is_asked_for_who_has_nothing_to_run() -> None:
    """An environment of databases alone costs nothing."""
    process = Seen("process", [HEALTHY])
    assert await live(reader(process)) == LivePrograms()
    assert process.looks == 0


@pytest.mark.parametrize("how", ["unavailable", "silent", "not there"])
async def test_who_does_not_answer_makes_its_own_unknown(how: str) -> None:
    """The others are seen as ever: one engine that is down hides no process."""
    process, container = Seen("process", [HEALTHY]), Seen("container")
    container.error = RuntimeUnavailable("the engine is down") if how == "unavailable" else None
    container.silent = how == "silent"
    runtimes = (process,) if how == "not there" else (process, container)
    found = await live(
        reader(*runtimes, timeout_s=0.2), service("api"), service("cache", RuntimeName.CONTAINER)
    )
    says = {
        "unavailable": "the engine is down",
        "silent": "it did not answer within 0.2 s",
        "not there": "this daemon has no runtime 'container': name it under runtimes in its settings",
    }
    assert found.unknown == {"cache": says[how]}
    assert set(found.instances) == {"api"}
    assert ("container" in found.unfit) is (how == "not there")


async def test_runtime_that_can_run_nothing_says_why() -> None:
    """What it ran before is seen still."""
    process = Seen("process", [HEALTHY])
    process.unfit = "no unit can be made"
    found = await live(reader(process), service("api"))
    assert found.unfit == {"process": "no unit can be made"}
    assert set(found.instances) == {"api"}


async def test_unhealthy_for_long_is_for_good() -> None:
    """Time counts from the first of the looks that all saw it so."""
    clock = Clock()
    process = Seen("process", [replace(HEALTHY, state=ServiceState.UNHEALTHY)])
    of = reader(process, clock=clock)

    async def lasting() -> bool:
        return (await live(of, service("api"))).instances["api"][0].lasting

    assert not await lasting()
    clock.now += LASTING_S - 1
    assert not await lasting()
    clock.now += 1
    assert await lasting()
    process.found = (HEALTHY,)
    assert not await lasting()
    process.found = (replace(HEALTHY, state=ServiceState.UNHEALTHY),)
    assert not await lasting()


async def test_routes_are_seen_in_the_only_proxy() -> None:
    """A route that names no proxy is the only one's."""
    placed = PlacedRoute(
        identity=replace(API, component="edge"),
        host="shop.example.com",
        path="/",
        upstream=("127.0.0.1", 8080),
        definition_hash="r1",
        edited=True,
    )
    found = await live(reader(proxies=[SeenRoutes("caddy", [placed])]), route("edge"))
    assert found.routes["edge"].to == "127.0.0.1:8080"
    assert found.routes["edge"].edited
    assert not found.barred


async def test_route_of_no_proxy_or_of_several_is_barred() -> None:
    """Nobody guesses where it is to be set."""
    found = await live(reader(), route("edge"))
    assert "name no proxy" in found.barred["edge"]
    both = [SeenRoutes("a"), SeenRoutes("b")]
    found = await live(reader(proxies=both), route("edge"), route("named", "b"), route("lost", "c"))
    assert set(found.barred) == {"edge"}
    assert "several proxies (a, b)" in found.barred["edge"]
    assert found.unknown == {"lost": "the settings name no proxy 'c': name it under proxies"}


async def test_proxy_that_is_down_hides_routes_and_nothing_else() -> None:
    """Services are seen."""
    proxy = SeenRoutes("caddy")
    proxy.error = RuntimeUnavailable("connection refused")
    of = reader(Seen("process", [HEALTHY]), proxies=[proxy])
    found = await live(of, service("api"), route("edge"))
    assert found.unknown == {"edge": "connection refused"}
    assert set(found.instances) == {"api"}
