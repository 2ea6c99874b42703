"""A real Caddy of a test's own, programs behind it that say their name, and clients that count what fails."""

import asyncio
import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from reconciler.runtimes.caddy import CaddyProxy
from reconciler.runtimes.exchange import Address
from tests.plugins.postgres import DIE_WITH_US, free_port

START_S = 60.0
Configure = Callable[[int], dict[str, Any]]


class Caddy:
    """One Caddy, which keeps all it writes in a folder; its admin API is on a socket file where `unix`."""

    def __init__(self, folder: Path, config: Configure, *, unix: bool) -> None:
        self.folder = folder
        self.port = free_port()
        self.admin = f"unix://{folder}/admin.sock" if unix else f"http://127.0.0.1:{free_port()}"
        listen = self.admin.replace("unix://", "unix/").removeprefix("http://")
        self._config = folder / "caddy.json"
        self._config.write_text(json.dumps({**config(self.port), "admin": {"listen": listen}}))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, resume: bool = False) -> None:
        """Start it, and wait until its admin API answers."""
        program = shutil.which("caddy")
        assert program is not None, "caddy is not installed"
        more = ["--resume"] if resume else []
        environment = {**os.environ, "HOME": str(self.folder), "XDG_CONFIG_HOME": str(self.folder)}
        with (self.folder / "caddy.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*DIE_WITH_US, program, "run", "--config", str(self._config), *more],
                env={**environment, "XDG_DATA_HOME": str(self.folder)},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    async def until_up(self) -> None:
        """Wait until its admin API answers."""
        deadline = time.monotonic() + START_S
        while await self.proxy().why_not() is not None:
            assert self.process is not None
            assert self.process.poll() is None, (self.folder / "caddy.log").read_text()
            assert time.monotonic() < deadline, "Caddy does not answer"
            await asyncio.sleep(0.05)

    def kill(self) -> None:
        """End it as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(START_S)

    def proxy(self, owner: str = "one", *, drain_s: float = 0.2, port: int | None = None) -> CaddyProxy:
        """What speaks to it."""
        listen = (f"127.0.0.1:{port or self.port}",)
        return CaddyProxy(name="edge", admin=self.admin, owner=owner, listen=listen, drain_s=drain_s)

    async def config(self) -> Any:
        """All it is configured with."""
        host = {"host": ""} if self.admin.startswith("unix:") else {}
        return json.loads((await Address(text=self.admin).whole("GET", "/config/", headers=host)).body)


@contextmanager
def caddy(folder: Path, config: Configure = lambda _: {}, *, unix: bool = False) -> Iterator[Caddy]:
    """A Caddy that runs, configured for its port, and is gone afterwards."""
    found = Caddy(folder, config, unix=unix)
    found.start()
    try:
        yield found
    finally:
        found.kill()


@asynccontextmanager
async def answering(name: str, port: int = 0, slow_s: float = 0.3) -> AsyncIterator[int]:
    """A program that answers with its name, below `/slow` after a while; an upgrade it takes."""
    clients: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.current_task()
        assert client is not None
        clients.add(client)
        writers.append(writer)
        with suppress(OSError, asyncio.IncompleteReadError):
            while head := (await reader.readuntil(b"\r\n\r\n")).lower():
                if b"upgrade: echo" in head:
                    writer.write(b"HTTP/1.1 101 Go on\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
                    writer.write(await reader.read(100))
                    break
                if b" /slow" in head:
                    await asyncio.sleep(slow_s)
                said = name.encode()
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(said), said))
                await writer.drain()
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", port)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.gather(*clients)


class Load:
    """Clients that keep their connections and ask without a pause; `failed` is what went wrong for them."""

    def __init__(self, port: int, host: str) -> None:
        self.failed: list[str] = []
        self.answers: Counter[str] = Counter()
        self._port = port
        self._host = host
        self._is_over = False

    async def run(self, path: str) -> None:
        """Ask until it is over; a connection is left only where its end was announced."""
        while not self._is_over:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                while await self._ask(reader, writer, path):
                    pass
            except (OSError, asyncio.IncompleteReadError, ValueError) as error:
                self.failed.append(f"{path}: {error!r}")
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> bool:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {self._host}\r\n\r\n".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        said = (await reader.readexactly(int(lines.get("content-length", "0")))).decode()
        if " 200 " not in head.split("\r\n")[0]:
            self.failed.append(f"{path}: {head} {said}")
        self.answers[said] += 1
        return lines.get("connection") != "close" and not self._is_over

    def end(self) -> None:
        """Ask no more."""
        self._is_over = True


async def ask(port: int, host: str, path: str = "/") -> str:
    """What one request is answered with: the body, or the status where that is not 200."""
    answer = await Address(text=f"http://127.0.0.1:{port}").whole("GET", path, headers={"host": host})
    return answer.body.decode() if answer.status == 200 else str(answer.status)
