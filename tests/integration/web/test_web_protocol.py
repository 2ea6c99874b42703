"""What reaches the server that is no proper HTTP, or is slow: told as a problem or cut; others are served."""

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest

from reconciler.web import guard, protocol
from tests.plugins.daemon import until
from tests.plugins.memory_service import MemoryService, serving


@pytest.fixture
def service() -> MemoryService:
    return MemoryService()


@pytest.fixture
def url(service: MemoryService) -> Iterator[str]:
    with serving(service) as found:
        yield found


def connect(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20)


def answer_to(url: str, sent: bytes) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Send bytes, and read the answer until the server closes."""
    with connect(url) as client:
        client.sendall(sent)
        return read(client)


def read(client: socket.socket) -> tuple[int, http.client.HTTPMessage, bytes]:
    response = http.client.HTTPResponse(client)
    response.begin()
    return response.status, response.headers, response.read()


def assert_problem(found: tuple[int, http.client.HTTPMessage, bytes], status: int) -> None:
    code, headers, body = found
    assert (code, headers["content-type"]) == (status, "application/problem+json")
    assert headers["reconciler-version"]
    assert json.loads(body)["status"] == status


def is_alive(url: str) -> bool:
    with connect(url) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return read(client)[0] == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"GET / HTTP/x\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\n\r\n", 400),
        (b"GET /livez HTTP/1.1\r\nHost: localhost\r\nbad header\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * guard.HEAD_BYTES_MAX + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * guard.HEAD_BYTES_MAX, 431),
    ],
)
def test_what_is_no_http_is_a_problem(url: str, sent: bytes, status: int) -> None:
    """Broken requests are answered in the form of all errors, and the connection ends."""
    assert_problem(answer_to(url, sent), status)
    assert is_alive(url)


def test_a_slow_head_is_cut(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends its head byte by byte is told that it took too long; no byte gives it new time."""
    monkeypatch.setattr(protocol, "HEAD_ARRIVES_WITHIN_S", 0.4)
    with connect(url) as client:
        client.settimeout(0.05)
        received = b""
        began = time.monotonic()
        for byte in b"GET /livez HTTP/1.1\r\nX: " + b"x" * 10_000:
            try:
                client.sendall(bytes([byte]))
                received = client.recv(65536)
                break
            except TimeoutError:
                assert time.monotonic() - began < 20
        assert received.startswith(b"HTTP/1.1 408 ")
        assert b"application/problem+json" in received
    assert is_alive(url)


def test_a_silent_client_is_cut(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever connects and says nothing is gone after a while, also between two requests."""
    monkeypatch.setattr(protocol, "HEAD_ARRIVES_WITHIN_S", 0.2)
    with connect(url) as client:
        assert client.recv(100) == b""
    with connect(url) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert read(client)[0] == 200
        assert client.recv(100) == b""


def test_a_slow_body_is_cut(url: str, service: MemoryService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that does not arrive in time is a problem, for webhooks as for writes."""
    monkeypatch.setattr(guard, "BODY_ARRIVES_WITHIN_S", 0.2)
    for path in ("/v1/environments/production/suspend", "/v1/webhooks/nobody"):
        head = (
            f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "Content-Length: 10\r\n\r\n{"
        )
        assert_problem(answer_to(url, head.encode()), 408)
    assert service.calls == []


def test_many_idle_connections_make_room(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of too many connections the one that was waited for longest is closed; whoever asks is served."""
    monkeypatch.setattr(protocol, "CONNECTIONS_MAX", 8)
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(url)) for _ in range(24)]
        assert is_alive(url)
        idle[0].settimeout(20)
        assert gone(idle[0])
        idle[-1].sendall(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert read(idle[-1])[0] == 200


def gone(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_an_answer_that_nobody_reads_is_cut(
    url: str, service: MemoryService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A follower that leaves its stream unread loses it, and the place goes to the next."""
    monkeypatch.setattr(protocol, "STALLED_S", 0.3)
    for _ in range(200):
        service.happen("operation.moved", message="x" * 100_000)
    with connect(url) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.sendall(b"GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(10)
        until_cut(client)
    assert is_alive(url)


def until_cut(client: socket.socket) -> None:
    """Wait without reading until the other side has given up."""
    client.setblocking(False)

    def given_up() -> bool:
        try:
            client.send(b"x")
        except BlockingIOError:
            return False
        except OSError:
            return True
        return False

    until(given_up, "the server to cut the connection")
