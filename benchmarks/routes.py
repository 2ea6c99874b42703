"""Switches of a route in a real Caddy under wrk: none of its requests may fail.

It needs the Debian packages caddy and wrk, and tells whether the kernel hands connections that wait to be accepted
from a socket that is closed to another (`tcp_migrate_req`): without, one that is new at that moment is lost. Half of wrk's connections ask for what takes a while. Beside it the
same switches as a bare change of the upstream, of which wrk loses some: what draining connections is for.
"""

import argparse
import asyncio
import json
import os
import re
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from benchmarks.meters import tell, tell_seconds
from reconciler.errors import RuntimeUnavailable
from reconciler.runtimes.caddy import CaddyProxy
from reconciler.runtimes.exchange import Address
from reconciler.runtimes.proxy import PlacedRoute
from reconciler.runtimes.runtime import Identity

QUICK = ["--switches", "10"]
HOST = "shop.example.com"
SLOW_S = 0.25
PAUSE_S = 0.1
CONNECTIONS = 32
LIMIT_S = 4.0
IDENTITY = Identity(environment="bench", deployment="eu", component="edge")
ERRORS = re.compile(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)")
OTHERS = re.compile(r"Non-2xx or 3xx responses: (\d+)")
REQUESTS = re.compile(r"(\d+) requests in")

MIGRATES = Path("/proc/sys/net/ipv4/tcp_migrate_req")

Switch = Callable[[int], Awaitable[None]]


@asynccontextmanager
async def upstream() -> AsyncIterator[int]:
    """A program that answers at once, below `/slow` after a while."""
    writers = []
    clients = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        clients.add(asyncio.current_task())
        with suppress(OSError, asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                if head.startswith(b"GET /slow"):
                    await asyncio.sleep(SLOW_S)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*clients)


@asynccontextmanager
async def caddy(folder: Path, admin: int) -> AsyncIterator[None]:
    """A Caddy with an empty configuration."""
    (folder / "caddy.json").write_text(json.dumps({"admin": {"listen": f"127.0.0.1:{admin}"}}))
    process = await asyncio.create_subprocess_exec(
        "caddy", "run", "--config", str(folder / "caddy.json"),
        env={**os.environ, "HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)},
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def wrk(port: int, path: str, over: asyncio.Event) -> tuple[int, int]:
    """Requests of one wrk, which keeps its connections, until it is told to end; and how many of them failed."""
    process = await asyncio.create_subprocess_exec(
        "wrk", "-t1", f"-c{CONNECTIONS}", "-d3600s", "--timeout", "20s", "-H", f"Host: {HOST}",
        f"http://127.0.0.1:{port}{path}", stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    await over.wait()
    process.send_signal(2)
    said = (await process.communicate())[0].decode()
    errors = ERRORS.search(said)
    others = OTHERS.search(said)
    failed = sum(int(each) for each in errors.groups()) if errors else 0
    requests = REQUESTS.search(said)
    return int(requests[1]) if requests else 0, failed + (int(others[1]) if others else 0)


async def under_load(port: int, switches: int, switch: Switch) -> tuple[list[float], int, int]:
    """What each switch took, how many requests there were meanwhile, and how many of them failed."""
    over = asyncio.Event()
    load = [asyncio.create_task(wrk(port, path, over)) for path in ("/", "/slow")]
    await asyncio.sleep(1.0)
    taken = []
    for number in range(switches):
        began = time.perf_counter()
        await switch(number)
        taken.append(time.perf_counter() - began)
        await asyncio.sleep(PAUSE_S)
    over.set()
    counted = await asyncio.gather(*load)
    return taken, sum(each for each, _ in counted), sum(failed for _, failed in counted)


async def measure(folder: Path, switches: int) -> int:
    """Both ways to switch, one after the other in the same Caddy."""
    admin, port = free_port(), free_port()
    address = f"http://127.0.0.1:{admin}"
    proxy = CaddyProxy(name="edge", admin=address, owner="bench", listen=(f"127.0.0.1:{port}",))
    async with upstream() as one, upstream() as two, caddy(folder, admin):
        for _ in range(200):
            with suppress(RuntimeUnavailable):
                await proxy.observe("bench", "eu")
                break
            await asyncio.sleep(0.05)

        async def put(number: int) -> None:
            to = ("127.0.0.1", (one, two)[number % 2])
            await proxy.put(
                PlacedRoute(
                    identity=IDENTITY, host=HOST, path="/", upstream=to, definition_hash="sha256:bench"
                )
            )

        async def bare(number: int) -> None:
            where = "/config/apps/http/servers/reconciler/routes/0/handle/2/upstreams/0/dial"
            said = json.dumps(f"127.0.0.1:{(one, two)[number % 2]}").encode()
            answer = await Address(text=address).whole(
                "PATCH", where, headers={"content-type": "application/json"}, body=said
            )
            if answer.status != 200:
                raise RuntimeError(answer.body.decode())

        await put(1)
        drained = await under_load(port, switches, put)
        await Address(text=address).whole("DELETE", "/config/apps/http/shutdown_delay")
        without = await under_load(port, max(1, switches // 4), bare)
    return report(switches, drained, without)


def report(
    switches: int, drained: tuple[list[float], int, int], without: tuple[list[float], int, int]
) -> int:
    """Print both; the exit code says whether every request was answered."""
    taken, requests, failed = drained
    migrates = MIGRATES.read_text().strip() if MIGRATES.exists() else "unknown"
    print(
        f"{switches} switches of a route under wrk, {2 * CONNECTIONS} connections; tcp_migrate_req {migrates}\n"
    )
    tell_seconds("one switch", taken, limit=LIMIT_S, bare=without[0])
    tell(
        "requests that failed",
        f"{failed} of {requests}",
        limit="ok, limit 0" if not failed else "OVER, limit 0",
    )
    tell("  by a bare change", f"{without[2]} of {without[1]} in {len(without[0])} switches")
    return int(failed > 0)


async def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--switches", type=int, default=100)
    options = parser.parse_args(arguments)
    missing = [program for program in ("caddy", "wrk") if shutil.which(program) is None]
    if missing:
        print(f"routes: left out, for these are not installed: {', '.join(missing)}")
        return 0
    with tempfile.TemporaryDirectory(prefix="reconciler-benchmark-") as folder:
        return await measure(Path(folder), options.switches)


if __name__ == "__main__":
    asyncio.run(main())
