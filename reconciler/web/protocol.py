"""How the server speaks HTTP: slow clients are cut, and what is no HTTP is told so as a problem.

A client that is slow with the head of a request, or with reading its answer, holds a connection only. So
there is a bound on connections, and the one that was waited for longest makes room for the next.
"""

import asyncio
import json
import sys
from typing import Any

import h11
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol

from reconciler.web.guard import HEADERS
from reconciler.web.problems import MEDIA_TYPE, content

HEAD_ARRIVES_WITHIN_S = 10.0
STALLED_S = 30.0
"""How long a client may leave an answer unread."""
CONNECTIONS_MAX = 1024


class Protocol(H11Protocol):
    """One connection."""

    _deadline: asyncio.TimerHandle | None = None
    _stall: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._await_head()
        if len(self.connections) > CONNECTIONS_MAX:
            self._make_room()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        self.resume_writing()
        super().connection_lost(exc)

    @override
    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:
            self._stop_waiting()

    @override
    def on_response_complete(self) -> None:
        cycle = self.cycle
        super().on_response_complete()
        if self.cycle is cycle and not self.transport.is_closing():
            self._await_head()

    @override
    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall is None:
            self._stall = self.loop.call_later(STALLED_S, self.transport.abort)

    @override
    def resume_writing(self) -> None:
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None
        super().resume_writing()

    @override
    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP; called while the parser's error is handled, which knows the status."""
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        detail = str(error) if isinstance(error, h11.RemoteProtocolError) else msg
        self._refuse(status, detail)

    def _await_head(self) -> None:
        self._stop_waiting()
        self._deadline = self.loop.call_later(HEAD_ARRIVES_WITHIN_S, self._late)

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _late(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(408, f"the head of the request did not arrive within {HEAD_ARRIVES_WITHIN_S:.0f} s")
        else:
            self.transport.close()

    def _make_room(self) -> None:
        """Close the connection that has waited longest for a head; this one, where it is the only one."""
        waiting = [
            (one._deadline.when(), one)
            for one in self.connections
            if isinstance(one, Protocol) and one._deadline is not None
        ]
        if waiting:
            min(waiting, key=lambda pair: pair[0])[1].transport.abort()

    def _refuse(self, status: int, detail: str) -> None:
        """Answer with a problem and close."""
        body = json.dumps(content(status, detail)).encode()
        headers: list[Any] = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", str(len(body)).encode()),
            (b"connection", b"close"),
            *HEADERS,
        ]
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            for event in (
                h11.Response(status_code=status, headers=headers),
                h11.Data(data=body),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
