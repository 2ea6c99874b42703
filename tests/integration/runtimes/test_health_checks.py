"""Health checks against real servers and programs: each has an answer within its deadline."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

import pytest

from reconciler.runtimes.health import why_unhealthy
from reconciler.runtimes.runtime import (
    Check,
    CommandCheck,
    Endpoint,
    Health,
    Hidden,
    HttpCheck,
    Observed,
    OwnCheck,
    ServiceState,
    TcpCheck,
)
from tests.plugins.services import API, shell

UP = Observed(identity=API, instance="one", state=ServiceState.HEALTHY)


async def ask(check: Check, port: int | None = None, timeout_s: float = 30.0) -> str | None:
    endpoints = () if port is None else (Endpoint(name="web", host="127.0.0.1", port=port),)
    service = shell(
        "",
        health=Health(check=check, timeout_s=timeout_s),
        env=(("NAME", "shop"), ("PASSWORD", Hidden("hunter2"))),
    )
    return await why_unhealthy(service, replace(UP, endpoints=endpoints))


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that says one thing to everybody, or nothing at all."""
    heard: list[bytes] = []
    clients: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.current_task()
        assert client is not None
        clients.add(client)
        with suppress(OSError):
            heard.append(await reader.readline())
            if answer is None:
                await reader.read()
            else:
                writer.write(answer)
                await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heard
    await asyncio.gather(*clients)


async def unused_port() -> int:
    async with answering(b"") as (port, _):
        return port


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", None, id="ok"),
        pytest.param(b"HTTP/1.1 302 Found\r\n\r\n", None, id="elsewhere"),
        pytest.param(b"HTTP/1.0 204 \r\n\r\n", None, id="without-words"),
        pytest.param(b"HTTP/1.1 503 Down\r\n\r\n", "status 503", id="down"),
        pytest.param(b"HTTP/1.1 404 Not Found\r\n\r\n", "status 404", id="not-there"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", "what answers is no HTTP server", id="another-protocol"),
        pytest.param(b"", "what answers is no HTTP server", id="nothing"),
        pytest.param(b"x" * 100_000, "the connection ended without an answer", id="no-end"),
    ],
)
async def test_http(answer: bytes, expected: str | None) -> None:
    """Healthy is a status from 200 to 399; everything else is said as it is."""
    async with answering(answer) as (port, heard):
        why = await ask(HttpCheck(port="web", path="/healthz"), port)
        assert why == (expected and f"GET /healthz on 127.0.0.1:{port}: {expected}")
        assert heard == [b"GET /healthz HTTP/1.1\r\n"]


async def test_nobody_listens() -> None:
    """A connection that is refused is said, for http and tcp alike."""
    port = await unused_port()
    for check in (HttpCheck(port="web"), TcpCheck(port="web")):
        assert await ask(check, port) == f"connecting to 127.0.0.1:{port}: connection refused"
        assert await ask(check) == "its port 'web' is not reachable"


async def test_hangs() -> None:
    """A server that takes the question and never answers costs no more than the check's time."""
    async with answering(None) as (port, _):
        why = await ask(HttpCheck(port="web"), port, timeout_s=0.05)
        assert why == "its health check had no answer within 0.05 s"
        assert await ask(TcpCheck(port="web"), port) is None


async def test_command() -> None:
    """A program asks with the service's own environment; its exit status answers, its last words tell why."""
    assert await ask(CommandCheck(argv=("sh", "-c", 'test "$NAME/$PASSWORD" = shop/hunter2'))) is None
    why = await ask(CommandCheck(argv=("sh", "-c", "echo first; echo no $PASSWORD here >&2; exit 3")))
    assert why == "'sh' exited with 3: no <hidden> here"
    assert await ask(CommandCheck(argv=("no-such-program",))) == (
        "running 'no-such-program': no such file or directory"
    )
    async with answering(b"") as (port, _):
        assert await ask(CommandCheck(argv=("sh", "-c", f"test $PORT_WEB = {port}")), port) is None


async def test_command_that_its_runtime_runs() -> None:
    """Where a runtime asks the program itself, inside of a container, it is not run here as well."""
    spec = shell("", health=Health(check=CommandCheck(argv=("no-such-program",))))
    assert await why_unhealthy(spec, replace(UP, is_checked=True)) is None
    down = replace(UP, is_checked=True, state=ServiceState.UNHEALTHY, reason="its health check failed")
    assert await why_unhealthy(spec, down) == "its health check failed"


async def test_command_as_the_user_of_the_service() -> None:
    """A check has no more rights than the service; where that user is not there, it says so."""
    check = Health(check=CommandCheck(argv=("sh", "-c", "echo $(id -un) $(id -G); exit 1")), timeout_s=30.0)
    why = await why_unhealthy(shell("", user="nobody-at-all", health=check), UP)
    assert why == "running 'sh': there is no user 'nobody-at-all'"
    if os.geteuid() == 0:
        why = await why_unhealthy(shell("", user="nobody", health=check), UP)
        assert why is not None
        assert why.startswith("'sh' exited with 1: nobody ")
        assert " 0" not in why


async def test_command_that_hangs() -> None:
    """A program that does not end is ended with what it started, and what it said does not hold it up."""
    check = CommandCheck(argv=("sh", "-c", "trap '' TERM; seq 100000; sleep 1000 & sleep 1000"))
    assert await ask(check, timeout_s=0.2) == "its health check had no answer within 0.2 s"


async def test_of_the_runtime() -> None:
    """What its runtime does not call healthy is not asked; without another check its word counts."""
    assert await ask(OwnCheck()) is None
    down = replace(UP, state=ServiceState.UNHEALTHY, reason="it exited with 1; it is started again")
    assert await why_unhealthy(shell("", health=Health(check=TcpCheck(port="web"))), down) == down.reason
    assert await why_unhealthy(shell(""), replace(UP, state=ServiceState.STARTING)) == "it is starting"
