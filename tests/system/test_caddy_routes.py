"""Routes in a real Caddy: switched under load, beside a configuration of its user's, through its death."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import RuntimeUnavailable
from reconciler.runtimes.proxy import PlacedRoute
from reconciler.runtimes.runtime import Identity
from tests.plugins.caddy import Caddy, Load, answering, ask, caddy

pytestmark = [pytest.mark.system, pytest.mark.timeout(120)]

SHOP = "shop.example.com"


def route(component: str, port: int, host: str = SHOP, path: str = "/") -> PlacedRoute:
    return PlacedRoute(
        identity=Identity(environment="production", deployment="eu", component=component),
        host=host,
        path=path,
        upstream=("127.0.0.1", port),
        definition_hash="sha256:1",
    )


def site(port: int) -> dict[str, Any]:
    """A configuration as a user has it: a site, and something for everybody else."""
    www = {
        "match": [{"host": ["www.example.com"]}],
        "handle": [{"handler": "static_response", "body": "the site"}],
        "terminal": True,
    }
    rest = {"handle": [{"handler": "static_response", "body": "anybody"}]}
    server = {"listen": [f"127.0.0.1:{port}"], "automatic_https": {"disable": True}, "routes": [www, rest]}
    return {"apps": {"http": {"servers": {"users": server}}}}


@pytest.fixture
async def empty(tmp_path: Path) -> AsyncIterator[Caddy]:
    """A Caddy without any configuration but where its admin API is."""
    with caddy(tmp_path) as found:
        await found.until_up()
        yield found


async def test_a_switch_drops_no_request(tmp_path: Path) -> None:
    """Ten switches under clients that keep their connections, some of them slow: all are answered, by the new
    one only once the switch is over.
    """
    async with answering("old", slow_s=0.05) as old, answering("new", slow_s=0.05) as new:
        with caddy(tmp_path) as found:
            await found.until_up()
            proxy = found.proxy(drain_s=0.6)
            await proxy.put(route("edge", old))
            load = Load(found.port, SHOP)
            clients = [asyncio.create_task(load.run("/slow" if n % 2 else "/")) for n in range(8)]
            for n in range(10):
                await proxy.put(route("edge", old if n % 2 else new))
                assert await ask(found.port, SHOP) == ("old" if n % 2 else "new")
            load.end()
            await asyncio.gather(*clients)
            assert load.failed == []
            assert min(load.answers["old"], load.answers["new"]) > 10


async def test_beside_the_configuration_of_its_user(tmp_path: Path) -> None:
    """In a server of the user's ours are asked first, below their paths only; the last one leaves nothing."""
    async with answering("all") as everything, answering("api") as api, answering("wild") as wild:
        with caddy(tmp_path, site, unix=True) as found:
            await found.until_up()
            before = await found.config()
            proxy = found.proxy()
            routes = (
                route("edge", everything),
                route("wild", wild, host="*.example.com"),
                route("api", api, path="/api"),
            )
            await asyncio.gather(*(proxy.put(each) for each in routes))
            asked = {
                (SHOP, "/"): "all",
                (SHOP, "/api"): "api",
                (SHOP, "/api/v2"): "api",
                (SHOP, "/apix"): "all",
                ("SHOP.example.com:80", "/"): "all",
                ("other.example.com", "/"): "wild",
                ("example.org", "/"): "anybody",
            }
            said = {(host, path): await ask(found.port, host, path) for host, path in asked}
            assert said == asked
            assert {each.edited for each in await proxy.observe("production", "eu")} == {False}
            for each in routes:
                await proxy.remove(each.identity)
            assert await found.config() == before


async def test_a_server_of_ours(empty: Caddy) -> None:
    """Where nobody listens a server is made; it knows no other host, and lets connections become others."""
    async with answering("all") as port:
        proxy = empty.proxy()
        await proxy.put(route("edge", port))
        assert await ask(empty.port, SHOP) == "all"
        assert await ask(empty.port, "other.example.com") == "404"
        reader, writer = await asyncio.open_connection("127.0.0.1", empty.port)
        writer.write(
            f"GET / HTTP/1.1\r\nHost: {SHOP}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"connection: upgrade\r\n" in head.lower()
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        empty.kill()
        with pytest.raises(RuntimeUnavailable):
            await proxy.observe("production", "eu")
        with pytest.raises(RuntimeUnavailable):
            await proxy.put(route("edge", port))


async def test_killed(empty: Caddy) -> None:
    """Started again with --resume a Caddy has its routes; without, it gets them by the next put."""
    async with answering("all") as port:
        proxy = empty.proxy()
        set_one = route("edge", port)
        await proxy.put(set_one)
        empty.kill()
        empty.start(resume=True)
        await empty.until_up()
        assert await proxy.observe("production", "eu") == (set_one,)
        assert await ask(empty.port, SHOP) == "all"
        empty.kill()
        empty.start()
        await empty.until_up()
        assert await proxy.observe("production", "eu") == ()
        await proxy.put(set_one)
        assert await ask(empty.port, SHOP) == "all"
        empty.kill()


async def test_two_daemons_at_once(empty: Caddy) -> None:
    """Two with control databases of their own lose nothing of each other."""
    daemons = {owner: empty.proxy(owner, drain_s=0.0) for owner in ("one", "two")}
    wanted = {owner: [route(f"r{n}", 1, path=f"/{owner}/{n}") for n in range(5)] for owner in daemons}
    await asyncio.gather(*(daemons[owner].put(each) for owner in daemons for each in wanted[owner]))
    for owner, proxy in daemons.items():
        assert set(await proxy.observe("production", "eu")) == set(wanted[owner])


async def test_what_it_leads_to_is_away_for_a_moment(empty: Caddy) -> None:
    """A request waits for a service that starts again, as one that is replaced in place does."""
    async with answering("old") as port:
        await empty.proxy().put(route("edge", port))
    asking = asyncio.create_task(ask(empty.port, SHOP))
    await asyncio.sleep(0.3)  # most of it passes while nobody listens there
    async with answering("new", port):
        assert await asking == "new"
        empty.kill()


async def test_an_address_that_is_taken(empty: Caddy) -> None:
    """Where another program listens, what Caddy says of it is told, and nothing of it stays."""
    async with answering("another") as taken:
        before = await empty.config()
        proxy = empty.proxy(port=taken)
        with pytest.raises(RuntimeUnavailable, match="address already in use"):
            await proxy.put(route("edge", 1))
        assert await empty.config() == before
