"""A TCP proxy that breaks connections in the ways networks do: slow, refused, cut, half-open."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress

import psycopg
import pytest
from psycopg import conninfo

CHUNK_BYTES = 65536


class Proxy:
    """Stands between a client and a server; what it does to their traffic may change at any moment.

    `latency_s` delays every chunk on its way. `refuse` ends new connections at once. `silent` swallows what
    is sent, and tells nobody: the half-open connection of a host that is gone. `cut_after` cuts every
    connection once so many bytes of the server's came through, counted over all of them. `answer` sees the
    first bytes of each client; what it returns is sent back, and the connection ended.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._streams: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.latency_s = 0.0
        self.refuse = False
        self.silent = False
        self.cut_after: int | None = None
        self.answer: Callable[[bytes], bytes | None] | None = None
        self.connections = 0
        self.bytes_of_server = 0

    async def start(self) -> None:
        """Listen; on the same port again after `stop_listening`."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop_listening(self) -> None:
        """Refuse new connections as a host without the server does; those there are go on."""
        assert self._server is not None
        self._server.close()

    def cut(self) -> None:
        """Reset every connection there is."""
        for stream in list(self._streams):
            with suppress(OSError):
                stream.transport.abort()

    async def close(self) -> None:
        """End everything."""
        self.stop_listening()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def text(self, of: str) -> str:
        """The connection string, through this proxy."""
        return conninfo.make_conninfo(of, host="127.0.0.1", port=str(self.port))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        self._streams.add(writer)
        try:
            if self.refuse:
                return
            first = await reader.read(CHUNK_BYTES) if self.answer else b""
            answer = self.answer(first) if self.answer else None
            if answer is not None:
                writer.write(answer)
                await writer.drain()
                return
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            self._streams.add(far_writer)
            far_writer.write(first)
            try:
                ways = [
                    asyncio.create_task(self._pump(reader, far_writer, of_server=False)),
                    asyncio.create_task(self._pump(far_reader, writer, of_server=True)),
                ]
                try:
                    await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for way in ways:
                        way.cancel()
                    await asyncio.gather(*ways, return_exceptions=True)
            finally:
                await self._end(far_writer)
        finally:
            await self._end(writer)

    async def _end(self, writer: asyncio.StreamWriter) -> None:
        self._streams.discard(writer)
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, of_server: bool
    ) -> None:
        while chunk := await reader.read(CHUNK_BYTES):
            if self.latency_s:
                await asyncio.sleep(self.latency_s)
            if self.silent:
                continue
            if of_server:
                self.bytes_of_server += len(chunk)
                if self.cut_after is not None and self.bytes_of_server > self.cut_after:
                    self.cut()
                    return
            writer.write(chunk)
            await writer.drain()


MakeProxy = Callable[[str], Awaitable[Proxy]]


@pytest.fixture
async def make_proxy() -> AsyncIterator[MakeProxy]:
    """Make proxies before servers of connection strings."""
    async with AsyncExitStack() as stack:

        async def make(text: str) -> Proxy:
            given = psycopg.conninfo.conninfo_to_dict(text)
            proxy = Proxy(str(given["host"]), int(str(given["port"])))
            await proxy.start()
            stack.push_async_callback(proxy.close)
            return proxy

        yield make
