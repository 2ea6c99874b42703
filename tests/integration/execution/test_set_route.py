"""Routes are set to what is healthy, moved, taken away, and never made for somebody else's host."""

import pytest

from reconciler.errors import Conflict, PermanentError, Refused, RuntimeUnavailable
from reconciler.plan.steps import RemoveRoute, StepKind
from tests.plugins.rolling import HTTP, MemoryProxy, Rolling, rolling, route, service
from tests.plugins.services import FOR_EVER, bench

__all__ = ["bench", "rolling"]

API = service(FOR_EVER, program=HTTP)
SHOP = route()


async def test_a_route_leads_to_its_service_until_it_is_removed(rolling: Rolling) -> None:
    """A worker that dies in between leaves nothing that the next one does not finish."""
    await rolling.carry_out(rolling.roll(API), API)
    step = rolling.set_route(SHOP)
    await rolling.until_struck(f"inside {step.id}", step, SHOP, API)
    await rolling.carry_out(step, SHOP, API)
    (endpoint,) = (await rolling.there())[0].endpoints
    assert rolling.proxy.placed["shop"].upstream == (endpoint.host, endpoint.port)
    assert rolling.register.components["shop"].definition_hash == SHOP.definition_hash
    away = RemoveRoute(
        id="shop/remove-route", kind=StepKind.REMOVE_ROUTE, component="shop", identity="route shop",
        database="", host=SHOP.host, path=SHOP.path,
    )  # fmt: skip
    await rolling.until_struck(f"inside {away.id}", away)
    await rolling.carry_out(away)
    assert rolling.proxy.placed == {}
    assert "shop" not in rolling.register.components


async def test_nothing_leads_to_what_is_not_healthy(rolling: Rolling) -> None:
    """A service that does not run gets no route; one whose check fails gets it later, if ever."""
    with pytest.raises(PermanentError, match="does not run"):
        await rolling.carry_out(rolling.set_route(SHOP), SHOP, API)
    await rolling.carry_out(rolling.roll(API), API)
    deaf = service(FOR_EVER, program=HTTP, health={"check": "tcp", "port": "http"})
    assert deaf.instance == API.instance
    with pytest.raises(RuntimeUnavailable, match="is not healthy: connecting to"):
        await rolling.carry_out(rolling.set_route(SHOP), SHOP, deaf)
    assert rolling.proxy.placed == {}


async def test_a_host_of_somebody_else_is_left_to_them(rolling: Rolling) -> None:
    """Who claimed a host and path first has them; the proxy is not even asked."""
    await rolling.carry_out(rolling.roll(API), API)
    await rolling.register.claim_route("other", "edge", SHOP.host, SHOP.path)
    with pytest.raises(Conflict):
        await rolling.carry_out(rolling.set_route(SHOP), SHOP, API)
    assert rolling.proxy.led == []


async def test_a_route_that_moves_to_another_proxy_leaves_the_first(rolling: Rolling) -> None:
    """It stands in one of them in the end; one that is not in the settings is told with those that are."""
    await rolling.carry_out(rolling.roll(API), API)
    await rolling.carry_out(rolling.set_route(SHOP), SHOP, API)
    other = MemoryProxy()
    other.name = "inner"
    rolling.proxies["inner"] = other
    moved = route(proxy="inner")
    await rolling.carry_out(rolling.set_route(moved), moved, API)
    assert (list(rolling.proxy.placed), list(other.placed)) == ([], ["shop"])
    with pytest.raises(
        Refused, match="names the proxy 'outer', and those of the settings are: 'edge', 'inner'"
    ):
        await rolling.carry_out(rolling.set_route(route(proxy="outer")), route(proxy="outer"), API)
    with pytest.raises(Refused, match="does not name its proxy"):
        await rolling.carry_out(rolling.set_route(SHOP), SHOP, API)
