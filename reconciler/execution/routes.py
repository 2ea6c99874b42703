"""Set, lead elsewhere and take away routes in the proxies of this machine; the plan says which."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from reconciler.errors import PermanentError, Refused, RuntimeUnavailable
from reconciler.execution import instances
from reconciler.execution.programs import (
    identity_of,
    machine_of,
    register_of,
    runtime_of,
    spec_of_service,
)
from reconciler.execution.recorded import definition_of, route_before
from reconciler.execution.register import Applying
from reconciler.execution.resources import Resources
from reconciler.plan.steps import RemoveRoute, SetRoute
from reconciler.runtimes.health import why_unhealthy
from reconciler.runtimes.proxy import PlacedRoute, Proxy
from reconciler.runtimes.runtime import Endpoint
from reconciler.state.programs import DesiredRoute, DesiredService


async def set_route(step: SetRoute, resources: Resources) -> None:
    """Lead a host and path to a service that is healthy now, and note it."""
    route = _desired(step.component, resources)
    if route is None or route.definition_hash != step.definition_hash:
        raise Refused(f"the plan sets another version of route '{step.component}' than the commit holds")
    endpoints = await _live(route, resources)
    register = register_of(resources)
    # By its name: the settings may have more than one proxy later.
    route = replace(route, proxy=proxy_of(route, resources).name)
    what = Applying(
        component=route.component,
        kind="Route",
        stage=route.stage,
        definition_hash=route.definition_hash,
        definition=definition_of(route),
        place=machine_of(resources).place,
    )
    assert route.proxy is not None
    await register.claim_route(route.component, route.proxy, route.host, route.path)
    await register.applying(what)
    await _put(route, endpoints, resources)
    resources.interference.at(f"inside {step.id}")
    await _take_away_the_old(route, resources)
    await register.applied(what, healed=step.heals)


async def remove_route(step: RemoveRoute, resources: Resources) -> None:
    """Take a route out of its proxy, and forget it."""
    route = route_before(step.component, resources) or _desired(step.component, resources)
    if route is None:
        raise Refused(f"nothing is recorded of route '{step.component}'")
    await proxy_of(route, resources).remove(identity_of(resources, step.component))
    resources.interference.at(f"inside {step.id}")
    await register_of(resources).removed(step.component)


async def reach(components: Iterable[str], resources: Resources) -> None:
    """Raise RuntimeUnavailable now where a proxy of these routes does not answer: nothing is begun then."""
    desired = resources.desired
    proxies = {
        proxy.name: proxy
        for proxy in (proxy_of(_route(component, resources), resources) for component in components)
    }
    for proxy in proxies.values():
        await proxy.observe(desired.environment, desired.deployment)


async def lead(component: str, endpoints: Sequence[Endpoint], resources: Resources) -> None:
    """Lead a route that is there to another instance of its service."""
    route, wanted = _route(component, resources), _desired(component, resources)
    is_there = any(each.name == route.port for each in endpoints)
    if not is_there and wanted is not None and wanted.service == route.service:
        # The commit calls the port otherwise in both; the step of the route itself comes later.
        route = replace(route, port=wanted.port)
    await _put(route, endpoints, resources)


def proxy_of(route: DesiredRoute, resources: Resources) -> Proxy:
    """The proxy of a route; Refused where the daemon has none of that name, or several and none is named."""
    proxies = machine_of(resources).proxies
    if route.proxy is None and len(proxies) == 1:
        return next(iter(proxies.values()))
    if route.proxy is None or route.proxy not in proxies:
        known = ", ".join(f"'{name}'" for name in sorted(proxies)) or "none"
        which = "does not name its proxy" if route.proxy is None else f"names the proxy '{route.proxy}'"
        raise Refused(
            f"route '{route.component}' {which}, and those of the settings are: {known}",
            hint="name one of them, or add it to the settings under `proxies`",
        )
    return proxies[route.proxy]


def _desired(component: str, resources: Resources) -> DesiredRoute | None:
    found = (route for route in resources.desired.programs.routes if route.component == component)
    return next(found, None)


def _route(component: str, resources: Resources) -> DesiredRoute:
    """A route that is there as it is there: what the commit changes of it is a step of its own."""
    route = route_before(component, resources) or _desired(component, resources)
    if route is None:
        raise Refused(f"route '{component}' is neither in the commit nor recorded")
    return route


async def _put(route: DesiredRoute, endpoints: Sequence[Endpoint], resources: Resources) -> None:
    found = next((each for each in endpoints if each.name == route.port), None)
    if found is None:
        raise PermanentError(
            f"setting route '{route.component}': service '{route.service}' has no port '{route.port}'",
            hint="keep the port until the route leads elsewhere, which takes a commit of its own",
        )
    placed = PlacedRoute(
        identity=identity_of(resources, route.component),
        host=route.host,
        path=route.path,
        upstream=(found.host, found.port),
        definition_hash=route.definition_hash,
    )
    await proxy_of(route, resources).put(placed)


async def _take_away_the_old(route: DesiredRoute, resources: Resources) -> None:
    """A route that moved to another proxy is in the one before still."""
    before = route_before(route.component, resources)
    if before is not None and before.proxy != route.proxy:
        await proxy_of(before, resources).remove(identity_of(resources, route.component))


async def _live(route: DesiredRoute, resources: Resources) -> tuple[Endpoint, ...]:
    """Where the service of a route is reached; raises RuntimeUnavailable where it is not healthy now."""
    service = _service(route, resources)
    runtime = runtime_of(resources, service.program.runtime.value)
    found = await instances.look(service.component, resources, {runtime.name})
    for each in found:
        if each.observed.instance == service.instance:
            why = await why_unhealthy(await spec_of_service(service, resources), each.observed)
            if why is None:
                return each.observed.endpoints
            # It may have ended a moment ago, and be started again by its runtime.
            raise RuntimeUnavailable(
                f"setting route '{route.component}': service '{service.component}' is not healthy: {why}"
            )
    raise PermanentError(f"setting route '{route.component}': service '{service.component}' does not run")


def _service(route: DesiredRoute, resources: Resources) -> DesiredService:
    for service in resources.desired.programs.services:
        if service.component == route.service:
            return service
    raise Refused(f"route '{route.component}' leads to '{route.service}', which is not in the commit")
