"""A request and its answer over HTTP/1.1, to a program that serves on a socket file or over TCP.

It knows nothing of who answers: no status is an error here, nothing is tried again, nothing is followed.
"""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import field
from urllib.parse import urlsplit

import h11

from reconciler.frozen import frozen

_CHUNK_BYTES = 64 * 1024
_HEAD_BYTES_MAX = 64 * 1024
_BYTES_MAX = 32 * 1024 * 1024


class NoAnswer(Exception):
    """Nobody answered, or not to the end; whether the request was carried out is not known."""


class TooLarge(Exception):
    """The answer is larger than it may be."""


@frozen
class Answer:
    """What was answered; names of headers are lower case, and those that follow a body stand with them."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


@frozen
class Address:
    """Where somebody serves: `unix:///run/some.sock`, `http://host:port`, `https://…` or `tcp://…`."""

    text: str
    tls: ssl.SSLContext | None = field(default=None, repr=False)

    def fault(self) -> str | None:
        """What is wrong with it; None where nothing is."""
        try:
            parts = urlsplit(self.text)
            port = parts.port
        except ValueError:
            return f"'{self.text}' is no address"
        if parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc:
            return None
        if parts.scheme in {"http", "https", "tcp"} and parts.hostname and (port or parts.scheme != "tcp"):
            return None
        return f"'{self.text}' is no address: unix:///path, tcp://host:port, http://… or https://…"

    @asynccontextmanager
    async def ask(
        self, method: str, target: str, *, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> AsyncIterator[tuple[Answer, AsyncIterator[bytes]]]:
        """Send a request; gives the head of its answer, and its body as it comes. The caller bounds the time.

        Raises NoAnswer, in the middle of the body too.
        """
        reader, writer = await self._connect()
        try:
            wire = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_BYTES_MAX)
            head = {"host": urlsplit(self.text).netloc or "localhost", "connection": "close"}
            head |= {"content-length": str(len(body))} if body or method in {"POST", "PUT", "PATCH"} else {}
            head |= headers or {}
            request = h11.Request(method=method, target=target, headers=list(head.items()))
            # Who refuses a large body answers before it has read it: the answer is what counts then.
            with suppress(OSError):
                writer.write(wire.send(request) or b"")
                for start in range(0, len(body), _CHUNK_BYTES):
                    writer.write(wire.send(h11.Data(data=body[start : start + _CHUNK_BYTES])) or b"")
                    await writer.drain()
                wire.send(h11.EndOfMessage())
            event = await self._next(wire, reader)
            while isinstance(event, h11.InformationalResponse):
                event = await self._next(wire, reader)
            if not isinstance(event, h11.Response):
                raise NoAnswer(f"{self.text}: the connection ended without an answer")
            named = {name.decode(): value.decode("latin-1") for name, value in event.headers}
            yield Answer(status=event.status_code, headers=named), self._body(wire, reader, named)
        finally:
            writer.transport.abort()
            with suppress(OSError):
                await writer.wait_closed()

    async def whole(
        self,
        method: str,
        target: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        within_s: float = 30.0,
        bytes_max: int = _BYTES_MAX,
    ) -> Answer:
        """Send a request and read all that is answered. Raises NoAnswer and TooLarge."""
        try:
            async with (
                asyncio.timeout(within_s),
                self.ask(method, target, headers=headers, body=body) as (answer, chunks),
            ):
                said = bytearray()
                async for chunk in chunks:
                    said += chunk
                    if len(said) > bytes_max:
                        raise TooLarge(f"{self.text}: the answer is larger than {bytes_max} bytes")
                return Answer(status=answer.status, headers=answer.headers, body=bytes(said))
        except TimeoutError:
            raise NoAnswer(f"{self.text}: no answer within {within_s:g} s") from None

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.text)
        try:
            if parts.scheme == "unix":
                return await asyncio.open_unix_connection(parts.path)
            tls = self.tls or (ssl.create_default_context() if parts.scheme == "https" else None)
            port = parts.port or (443 if tls else 80)
            return await asyncio.open_connection(parts.hostname, port, ssl=tls)
        except OSError as error:
            # An address that leads to several names each of them in a sentence of its own: one is enough.
            said = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
            raise NoAnswer(f"{self.text}: {said.lower()}") from error

    async def _next(self, wire: h11.Connection, reader: asyncio.StreamReader) -> h11.Event | None:
        came = b""
        try:
            while (event := wire.next_event()) is h11.NEED_DATA:
                came = await reader.read(_CHUNK_BYTES)
                wire.receive_data(came)
        except (OSError, h11.RemoteProtocolError) as error:
            why = "the connection ended in the middle of an answer"
            if isinstance(error, h11.RemoteProtocolError) and came:
                why = "what answers does not speak HTTP"
            raise NoAnswer(f"{self.text}: {why}") from error
        return None if isinstance(event, type) else event

    async def _body(
        self, wire: h11.Connection, reader: asyncio.StreamReader, named: dict[str, str]
    ) -> AsyncIterator[bytes]:
        while isinstance(event := await self._next(wire, reader), h11.Data):
            yield bytes(event.data)
        if isinstance(event, h11.EndOfMessage):
            named.update((name.decode(), value.decode("latin-1")) for name, value in event.headers)
