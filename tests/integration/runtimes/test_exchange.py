"""Requests to servers that answer well, badly and not at all; and what an engine is told of registries."""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
import trustme

from reconciler.errors import PermanentError, RuntimeUnavailable
from reconciler.runtimes.container import ContainerRuntime
from reconciler.runtimes.exchange import Address, NoAnswer, TooLarge
from tests.plugins.services import FOR_EVER, shell

VERSION = b'{"ApiVersion": "1.52", "MinAPIVersion": "1.44", "Os": "linux"}'


def answer(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


@asynccontextmanager
async def serving(
    folder: Path, *answers: bytes | None, tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Address, list[str]]]:
    """A server that gives one answer after the other, each to a connection; None is silence."""
    left = list(answers)
    heard: list[str] = []
    clients: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = asyncio.current_task()
        assert client is not None
        clients.add(client)
        said = left.pop(0) if left else None
        try:
            with suppress(OSError, asyncio.IncompleteReadError):
                heard.append((await reader.readuntil(b"\r\n\r\n")).decode())
                if said is None:
                    await reader.read()
                else:
                    writer.write(said)
                    await writer.drain()
        finally:
            writer.close()

    if tls is None:
        path = str(folder / "it.sock")
        server = await asyncio.start_unix_server(serve, path)
        address = Address(text=f"unix://{path}")
    else:
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
        address = Address(text=f"tcp://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    async with server:
        yield address, heard
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


async def test_answers_are_read_to_their_end(tmp_path: Path) -> None:
    """A body with a length, in chunks, or up to the end of the connection is the same body."""
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    to_the_end = b"HTTP/1.0 200 OK\r\n\r\nabcde"
    async with serving(tmp_path, answer("200 OK", b"abcde"), chunked, to_the_end) as (address, heard):
        for _ in range(3):
            found = await address.whole("GET", "/x?y=1")
            assert (found.status, found.body) == (200, b"abcde")
        assert heard[0].startswith("GET /x?y=1 HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        pytest.param(b"SSH-2.0-OpenSSH\r\n\r\n", "does not speak HTTP", id="another-protocol"),
        pytest.param(b"", "in the middle", id="nothing"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "in the middle", id="cut"),
        pytest.param(b"HTTP/1.1 200 OK\r\nA: " + b"x" * 200_000, "does not speak HTTP", id="endless-head"),
        pytest.param(None, "no answer within 0.1 s", id="silence"),
    ],
)
async def test_no_answer(tmp_path: Path, said: bytes | None, why: str) -> None:
    """What is no whole answer in time is none, and says which."""
    async with serving(tmp_path, said) as (address, _):
        with pytest.raises(NoAnswer, match=why):
            await address.whole("GET", "/", within_s=0.1 if said is None else 30.0)


async def test_too_large(tmp_path: Path) -> None:
    """An answer is read no further than it may be."""
    async with serving(tmp_path, answer("200 OK", b"x" * 100_000)) as (address, _):
        with pytest.raises(TooLarge, match="larger than 10 bytes"):
            await address.whole("GET", "/", bytes_max=10)


async def test_refused_before_it_was_sent(tmp_path: Path) -> None:
    """A server that answers without reading all that it is sent is heard."""
    async with serving(tmp_path, answer("413 Too Large", b"no")) as (address, _):
        found = await address.whole("POST", "/", body=bytes(32 * 1024))
        assert (found.status, found.body) == (413, b"no")


async def test_over_tls(tmp_path: Path) -> None:
    """An engine over TCP is known by its certificate; keys that are not there are told."""
    ca = trustme.CA()
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    ca.issue_cert("127.0.0.1").configure_cert(server_side)
    ca.configure_trust(server_side)
    server_side.verify_mode = ssl.CERT_REQUIRED
    client = ca.issue_cert("daemon.example")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    client.private_key_pem.write_to_path(tmp_path / "key.pem")
    client.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    async with serving(tmp_path, answer("200 OK", VERSION), tls=server_side) as (address, heard):
        runtime = ContainerRuntime(host=address.text, owner="me", tls=tmp_path)
        assert await runtime.why_not() is None
        assert len(heard) == 1
    why = await ContainerRuntime(host="tcp://127.0.0.1:1", owner="me", tls=tmp_path / "none").why_not()
    assert why is not None
    assert "are of no use" in why


async def test_credentials_go_to_their_registry(tmp_path: Path) -> None:
    """What a config.json knows of a registry is sent with what is pulled from there, and never shown."""
    config = tmp_path / "config.json"
    secret = base64.b64encode(b"robot:hunter2").decode()
    config.write_text(json.dumps({"auths": {"registry.example:5000": {"auth": secret}}}))
    denied = b'{"status": "pulling"}\n{"error": "denied: requested access to the resource is denied"}\n'
    for image, is_sent in (("registry.example:5000/shop/api:1", True), ("shop/api:1", False)):
        answers = (
            answer("200 OK", VERSION),
            answer("404 Not Found", b'{"message": "no such image"}'),
            answer("200 OK", denied),
        )
        async with serving(tmp_path, *answers) as (address, heard):
            runtime = ContainerRuntime(host=address.text, owner="me", credentials=config)
            with pytest.raises(PermanentError, match="its registry does not give it to us") as refused:
                await runtime.prepare(shell(FOR_EVER, image=image))
            assert "hunter2" not in str(refused.value)
            head = dict(line.split(": ", 1) for line in heard[-1].split("\r\n")[1:] if line)
            assert ("x-registry-auth" in head) is is_sent
            if is_sent:
                sent = json.loads(base64.urlsafe_b64decode(head["x-registry-auth"]))
                assert (sent["username"], sent["password"]) == ("robot", "hunter2")
            assert heard[-1].startswith("POST /v1.44/images/create?fromImage=")
    config.write_text("[]")
    async with serving(tmp_path, *answers[:2]) as (address, _):
        runtime = ContainerRuntime(host=address.text, owner="me", credentials=config)
        with pytest.raises(PermanentError, match=r"no config\.json of Docker"):
            await runtime.prepare(shell(FOR_EVER, image="shop/api:1"))


@pytest.mark.parametrize(
    ("said", "kind", "why"),
    [
        pytest.param("manifest unknown", PermanentError, "there is no such image", id="no-tag"),
        pytest.param(
            "dial tcp: lookup registry: no such host", RuntimeUnavailable, "no such host", id="away"
        ),
        pytest.param("write: no space left on device", RuntimeUnavailable, "disk .* is full", id="disk"),
    ],
)
async def test_why_not_pulled(tmp_path: Path, said: str, kind: type[Exception], why: str) -> None:
    """Whether trying again may help is told by what the engine says."""
    answers = (
        answer("200 OK", VERSION),
        answer("404 Not Found", b'{"message": "no such image"}'),
        answer("200 OK", json.dumps({"error": said}).encode()),
    )
    async with serving(tmp_path, *answers) as (address, _):
        with pytest.raises(kind, match=why):
            await ContainerRuntime(host=address.text, owner="me").prepare(shell(FOR_EVER, image="shop/api:1"))


async def test_engines_that_are_of_no_use(tmp_path: Path) -> None:
    """An engine that is too old, is for another system or is none says why nothing runs there."""
    for said, why in (
        (b'{"ApiVersion": "1.24", "Version": "1.12"}', "older than Docker 20.10"),
        (b'{"ApiVersion": "1.52", "Os": "windows"}', "another system"),
        (b"[]", "no container engine"),
    ):
        async with serving(tmp_path, answer("200 OK", said)) as (address, _):
            found = await ContainerRuntime(host=address.text, owner="me").why_not()
            assert found is not None
            assert why in found
    found = await ContainerRuntime(host="ssh://there", owner="me").why_not()
    assert found is not None
    assert "is no address" in found
