"""The HTTP API over a real socket: what a client can send that a test client cannot."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from urllib.parse import urlsplit

import pytest

from reconciler.web.access import Role, Token
from reconciler.web.guard import BODY_BYTES_MAX
from tests.plugins.memory_service import MemoryService, environment, serving


@pytest.fixture
def service() -> MemoryService:
    return MemoryService()


@pytest.fixture
def url(service: MemoryService) -> Iterator[str]:
    with serving(service) as found:
        yield found


@contextmanager
def connect(url: str) -> Iterator[http.client.HTTPConnection]:
    parts = urlsplit(url)
    with closing(http.client.HTTPConnection(parts.hostname or "", parts.port or 0, timeout=20)) as found:
        yield found


def raw(url: str, request: bytes) -> bytes:
    """Send bytes and read until the server closes or says all it has to say."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as client:
        client.sendall(request)
        client.shutdown(socket.SHUT_WR)
        received = b""
        while block := client.recv(65536):
            received += block
    return received


def test_problem_details_over_the_wire(url: str) -> None:
    """Errors have their media type and headers on the wire, also where the router found nothing."""
    with connect(url) as connection:
        connection.request("GET", "/nothing")
        response = connection.getresponse()
        assert response.status == 404
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["reconciler-version"]
        assert response.headers["cache-control"] == "no-store"
        assert response.headers.get("server") is None
        assert json.loads(response.read())["status"] == 404


def test_announced_body_is_refused_before_it_is_sent(url: str, service: MemoryService) -> None:
    """A body announced as too large is answered with 413 although not a byte of it was sent."""
    head = (
        "POST /v1/environments/production/suspend HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {BODY_BYTES_MAX + 1}\r\n\r\n"
    )
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname or "", parts.port or 0), timeout=20) as client:
        client.sendall(head.encode())
        assert client.recv(100).startswith(b"HTTP/1.1 413 ")
    assert service.calls == []


def test_requests_without_host_are_refused(url: str) -> None:
    """HTTP/1.0 without a Host names nobody, so nobody answers."""
    assert raw(url, b"GET /v1/environments HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 421 ")


def test_encoded_slash_stays_in_the_name(url: str, service: MemoryService) -> None:
    """The path is matched as sent, so a slash in a name is not a step in the path, and dots are no way up."""
    service.known["a/../b"] = environment("a/../b")
    with connect(url) as connection:
        connection.request("GET", "/v1/environments/a%2F..%2Fb")
        assert json.loads(connection.getresponse().read())["name"] == "a/../b"


def test_stream_tells_what_happens_while_it_is_open(url: str, service: MemoryService) -> None:
    """A follower hears of an event soon after it happened, without asking again."""
    service.happen("operation.moved")
    with connect(url) as connection:
        connection.request("GET", "/v1/events?after=1")
        response = connection.getresponse()
        assert response.headers["content-type"].startswith("text/event-stream")
        assert response.readline() == b"retry: 2000\n"
        service.happen("rollout.completed")
        lines = [response.readline() for _ in range(5)]
        assert b"id: 2\n" in lines
        assert b"event: rollout.completed\n" in lines


def test_connection_is_kept(url: str) -> None:
    """Many requests go over one connection."""
    with connect(url) as connection:
        for _ in range(3):
            connection.request("GET", "/v1/environments/production")
            assert connection.getresponse().read()
        assert connection.sock is not None


def test_token_over_the_wire(service: MemoryService) -> None:
    """With tokens a Host of any name is served, for no browser sends the token by itself."""
    tokens = [Token(name="ci", role=Role.READ, value="s3cr3t-token-of-ci")]
    with serving(service, tokens=tokens) as url, connect(url) as connection:
        headers = {"Host": "reconciler.example.com", "Authorization": "Bearer s3cr3t-token-of-ci"}
        connection.request("GET", "/v1/environments", headers=headers)
        response = connection.getresponse()
        assert response.status == 200
        response.read()
        connection.request("GET", "/v1/environments", headers={"Host": "reconciler.example.com"})
        assert connection.getresponse().status == 401
