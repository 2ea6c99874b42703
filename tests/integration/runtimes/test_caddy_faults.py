"""Routes in a Caddy that is down, slow, broken or changed by others: nothing is lost, nothing assumed."""

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from reconciler.errors import Conflict, RuntimeUnavailable
from reconciler.runtimes.caddy import CaddyProxy
from reconciler.runtimes.proxy import PlacedRoute
from reconciler.runtimes.runtime import Identity
from tests.plugins.services import until


class Admin:
    """What of an admin API a proxy uses, over one configuration; `fault` is what happens to requests.

    The etag of a configuration comes behind it, as Caddy's does. While `gate` is not set writes wait.
    """

    def __init__(self) -> None:
        self.config: Any = None
        self.fault = ""
        self.writes = 0
        self.asked: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.port = 0

    def proxy(self, owner: str = "one", **other: Any) -> CaddyProxy:
        address = f"http://127.0.0.1:{self.port}"
        return CaddyProxy(name="edge", admin=address, owner=owner, drain_s=0.0, **other)

    def _etag(self) -> str:
        return f'"/config/ {hashlib.sha256(json.dumps(self.config).encode()).hexdigest()[:8]}"'

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
            method, target, _ = head.split("\r\n")[0].split()
            body = await reader.readexactly(int(lines.get("content-length", "0")))
            self.asked.append(f"{method} {target}")
            if self.fault == "hang":
                await reader.read()  # until whoever asks goes away
            writer.write(await self._answer(method, target, body, lines))
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # whoever asked went away
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, method: str, target: str, body: bytes, lines: dict[str, str]) -> bytes:
        if self.fault == "cut":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"
        if self.fault == "garbage":
            return b'HTTP/1.1 200 OK\r\nEtag: "x"\r\nContent-Length: 4\r\n\r\n{{{{'
        if self.fault == "another":
            return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
        if self.fault == "500":
            return b"HTTP/1.1 500 Oops\r\nContent-Length: 4\r\n\r\noops"
        if method == "get":
            said, etag = json.dumps(self.config).encode(), self._etag()
            start = "HTTP/1.1 200 OK\r\nTrailer: ETag\r\nTransfer-Encoding: chunked\r\n\r\n"
            return start.encode() + b"%x\r\n%b\r\n0\r\nEtag: %b\r\n\r\n" % (len(said), said, etag.encode())
        return await self._write(target, body, lines["if-match"])

    async def _write(self, target: str, body: bytes, etag: str) -> bytes:
        await self.gate.wait()
        if self.fault == "moving" or etag != self._etag():
            return b"HTTP/1.1 412 Precondition Failed\r\nContent-Length: 0\r\n\r\n"
        if self.fault == "refuses":
            return b'HTTP/1.1 400 Bad Request\r\nContent-Length: 14\r\n\r\n{"error":"no"}'
        self.writes += 1
        parts = target.strip("/").split("/")[1:]
        if parts:
            self.config = json.loads(json.dumps(self.config))
            at = self.config
            for part in parts[:-1]:
                at = at[part]
            at[parts[-1]] = json.loads(body)
        else:
            self.config = json.loads(body)
        return b"" if self.fault == "silent" else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@asynccontextmanager
async def serving(admin: Admin) -> AsyncIterator[None]:
    clients: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.current_task()
        assert client is not None
        clients.add(client)
        await admin.serve(reader, writer)

    server = await asyncio.start_server(serve, "127.0.0.1", admin.port)
    admin.port = server.sockets[0].getsockname()[1]
    async with server:
        yield
    await asyncio.gather(*clients)


@pytest.fixture
async def admin() -> AsyncIterator[Admin]:
    """An admin API that does what it is asked for."""
    made = Admin()
    async with serving(made):
        yield made


def route(component: str = "edge", path: str = "/", port: int = 8080) -> PlacedRoute:
    return PlacedRoute(
        identity=Identity(environment="production", deployment="eu", component=component),
        host="shop.example.com",
        path=path,
        upstream=("127.0.0.1", port),
        definition_hash="sha256:1",
    )


async def test_set_and_taken_away(admin: Admin) -> None:
    """What is set is observed, and by its own deployment only; what is there already costs no write."""
    proxy = admin.proxy()
    assert await proxy.why_not() is None
    await proxy.put(route())
    await proxy.put(route())
    assert await proxy.observe("production", "eu") == (route(),)
    assert await proxy.observe("production", "us") == ()
    await proxy.remove(route().identity)
    await proxy.remove(route().identity)
    assert await proxy.observe("production", "eu") == ()
    assert admin.writes == 2
    assert {each for each in admin.asked if each != "get /config/"} == {
        "post /config/",
        "post /config/apps/http",
    }


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        pytest.param("hang", "no answer within 0.2 s", id="hangs"),
        pytest.param("cut", "the connection ended in the middle of an answer", id="cut"),
        pytest.param("garbage", "what answers is no admin API of Caddy (status 200)", id="garbage"),
        pytest.param("another", "what answers is no admin API of Caddy (status 200)", id="another"),
        pytest.param("500", "what answers is no admin API of Caddy (status 500)", id="broken"),
    ],
)
async def test_it_does_not_say(admin: Admin, fault: str, said: str) -> None:
    """An API that does not tell its configuration is unavailable, which is not the same as no routes."""
    proxy = admin.proxy(within_s=0.2)
    await proxy.put(route())
    admin.fault = fault
    for asking in (
        proxy.observe("production", "eu"),
        proxy.put(route(port=1)),
        proxy.remove(route().identity),
    ):
        with pytest.raises(RuntimeUnavailable, match="proxy 'edge'") as raised:
            await asking
        assert said in raised.value.message
    assert said in (await proxy.why_not() or "")
    admin.fault = ""
    assert await proxy.observe("production", "eu") == (route(),)


async def test_it_is_down_and_comes_back_empty() -> None:
    """A Caddy that is away is unavailable; one that came back without its configuration has no routes."""
    admin = Admin()
    async with serving(admin):
        proxy = admin.proxy()
        await proxy.put(route())
    with pytest.raises(RuntimeUnavailable, match="connection refused"):
        await proxy.observe("production", "eu")
    with pytest.raises(RuntimeUnavailable, match="connection refused"):
        await proxy.put(route())
    admin.config = {"apps": {}}
    async with serving(admin):
        assert await proxy.observe("production", "eu") == ()
        await proxy.put(route())
        assert await proxy.observe("production", "eu") == (route(),)


async def test_its_address_is_wrong(tmp_path: Path) -> None:
    """An address that cannot be one is said, and one where nobody is."""
    wrong = CaddyProxy(name="edge", admin="localhost", owner="one")
    assert "'localhost' is no address" in (await wrong.why_not() or "")
    nobody = CaddyProxy(name="edge", admin=f"unix://{tmp_path}/admin.sock", owner="one")
    assert "no such file or directory" in (await nobody.why_not() or "")


async def test_an_answer_that_is_lost(admin: Admin) -> None:
    """Where the answer to a write is lost it is not claimed; asked again, it is seen that it was done."""
    proxy = admin.proxy()
    admin.fault = "silent"
    with pytest.raises(RuntimeUnavailable, match="changing routes in proxy 'edge'"):
        await proxy.put(route())
    await proxy.put(route())
    assert await proxy.observe("production", "eu") == (route(),)
    assert admin.writes == 1


async def test_it_refuses(admin: Admin) -> None:
    """What Caddy says against a configuration is told."""
    admin.fault = "refuses"
    with pytest.raises(RuntimeUnavailable, match=r'with status 400: \{"error":"no"\}'):
        await admin.proxy().put(route())


async def test_others_change_it_all_the_time(admin: Admin) -> None:
    """Where every write comes too late it is given up in the end."""
    proxy = admin.proxy()
    admin.fault = "moving"
    with pytest.raises(RuntimeUnavailable, match="somebody else changed its configuration each of 10 times"):
        await proxy.put(route())


async def test_two_daemons(admin: Admin) -> None:
    """Two that write at once lose nothing of each other, and what came together is written together."""
    daemons = {owner: admin.proxy(owner) for owner in ("one", "two")}
    wanted = {owner: [route(f"r{n}", f"/{owner}/{n}") for n in range(20)] for owner in daemons}
    await asyncio.gather(*(daemons[owner].put(each) for owner in daemons for each in wanted[owner]))
    for owner, proxy in daemons.items():
        assert set(await proxy.observe("production", "eu")) == set(wanted[owner])
    assert admin.writes <= 6
    with pytest.raises(Conflict, match=r"of another reconciler \('one'\) has it"):
        await daemons["two"].put(route("late", "/one/3"))


async def test_one_is_refused_with_others(admin: Admin) -> None:
    """Of changes that are written together only what is wrong fails."""
    proxy = admin.proxy()
    await proxy.put(route())
    admin.gate.clear()
    first = asyncio.create_task(proxy.put(route("first", "/first")))
    await until(lambda: _is(admin.asked[-1].startswith("post")), "the write that others wait for")
    rest = [asyncio.create_task(proxy.put(each)) for each in (route("bad"), route("good", "/good"))]
    await asyncio.sleep(0)
    admin.gate.set()
    bad, good = await asyncio.gather(*rest, return_exceptions=True)
    await first
    assert isinstance(bad, Conflict)
    assert good is None
    assert {each.path for each in await proxy.observe("production", "eu")} == {"/", "/first", "/good"}


async def test_one_that_writes_is_given_up(admin: Admin) -> None:
    """Where the call that writes for others is given up, the next of them writes."""
    proxy = admin.proxy()
    admin.gate.clear()
    calls = [asyncio.create_task(proxy.put(route(f"r{n}", f"/{n}"))) for n in range(3)]
    await until(lambda: _is(admin.asked[-1:] == ["post /config/"]), "the first write")
    calls[0].cancel()
    with suppress(asyncio.CancelledError):
        await calls[0]
    admin.gate.set()
    await asyncio.gather(*calls[1:])
    assert {"/1", "/2"} <= {each.path for each in await proxy.observe("production", "eu")}


async def _is(value: bool) -> bool:
    return value
