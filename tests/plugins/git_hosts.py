"""A host of Git repositories on loopback: `git http-backend` behind a server that asks, or fails on cue."""

import asyncio
import base64
import os
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvicorn

from tests.plugins.git import GitRepository, git_environment

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]


class GitHost:
    """Serves repositories over smart HTTP or HTTPS; pushes are taken.

    `fault` is what happens to the requests: None, `500`, `hang` (no answer), `stall` (half an answer, then
    nothing), `cut` (the pack breaks off), `redirect`. `login` is a user and password to ask for, `bearer` a
    token. `requests` are the paths asked for so far, `authorizations` what was sent with them.
    """

    def __init__(self, root: Path, certificate: trustme.LeafCert | None = None) -> None:
        self.root = root
        self.scheme = "http" if certificate is None else "https"
        self.fault: str | None = None
        self.login: tuple[str, str] | None = None
        self.bearer: str | None = None
        self.redirect_to = "http://127.0.0.1:9/elsewhere"
        self.requests: list[str] = []
        self.authorizations: list[str] = []
        self.held = threading.Event()  # set once a request hangs
        self.released = threading.Event()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        config = uvicorn.Config(
            self._serve,
            log_config=None,
            log_level="critical",
            access_log=False,
            lifespan="off",
            ws="none",
            interface="asgi3",
            timeout_graceful_shutdown=1,
        )
        config.load()
        if certificate is not None:
            config.ssl = _server_context(certificate)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([self._socket],), daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 10
        while not self._server.started:
            assert self._thread.is_alive()
            assert time.monotonic() < deadline, "the host did not start"
            time.sleep(0.005)

    def url(self, repository: GitRepository, userinfo: str = "") -> str:
        """Return the url of a repository below the root."""
        at = f"{userinfo}@" if userinfo else ""
        path = repository.path.relative_to(self.root)
        return f"{self.scheme}://{at}127.0.0.1:{self.port}/{path}/.git"

    def close(self) -> None:
        self.released.set()
        self._server.should_exit = True
        self._thread.join(15)
        assert not self._thread.is_alive()

    async def _serve(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        body = await _body(receive)
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        self.requests.append(scope["path"])
        self.authorizations.append(headers.get("authorization", ""))
        if self.fault == "hang":
            self.held.set()
            await asyncio.to_thread(self.released.wait, 60)
        elif self.fault == "redirect":
            query = scope["query_string"].decode()
            location = f"{self.redirect_to}{scope['path']}" + (f"?{query}" if query else "")
            await _reply(send, 302, {"Location": location}, b"")
        elif self.fault == "500":
            await _reply(send, 500, {}, b"broken")
        elif not self._is_allowed(headers.get("authorization", "")):
            await _reply(send, 401, {"WWW-Authenticate": 'Basic realm="test"'}, b"")
        else:
            status, answered, content = await self._run_backend(scope, headers, body)
            await self._answer(send, status, answered, content)

    async def _answer(self, send: Send, status: int, headers: Mapping[str, str], content: bytes) -> None:
        half = b"PACK" in content if self.fault == "cut" else self.fault == "stall"
        if not half:
            await _reply(send, status, headers, content)
            return
        await _reply(send, status, headers, content, cut=len(content) // 2)
        if self.fault == "stall":
            self.held.set()
            await asyncio.to_thread(self.released.wait, 60)
        # An answer that is shorter than it said closes the connection.

    def _is_allowed(self, authorization: str) -> bool:
        wanted = []
        if self.login is not None:
            wanted.append(f"Basic {base64.b64encode(':'.join(self.login).encode()).decode()}")
        if self.bearer is not None:
            wanted.append(f"Bearer {self.bearer}")
        return not wanted or authorization in wanted

    async def _run_backend(
        self, scope: Mapping[str, Any], headers: Mapping[str, str], body: bytes
    ) -> tuple[int, dict[str, str], bytes]:
        environment = {
            **git_environment(),
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "2",
            "GIT_CONFIG_KEY_0": "http.receivepack",
            "GIT_CONFIG_VALUE_0": "true",
            "GIT_CONFIG_KEY_1": "receive.denyCurrentBranch",
            "GIT_CONFIG_VALUE_1": "updateInstead",
            "PATH_INFO": scope["path"],
            "QUERY_STRING": scope["query_string"].decode(),
            "REQUEST_METHOD": scope["method"],
            "REMOTE_USER": self.login[0] if self.login else "",
            "CONTENT_TYPE": headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": headers.get("content-encoding", ""),
            "GIT_PROTOCOL": headers.get("git-protocol", ""),
        }
        backend = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        stdout, _ = await backend.communicate(body)
        head, _, content = stdout.partition(b"\r\n\r\n")
        answered = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        return int(answered.pop("Status", "200").split()[0]), answered, content


def _server_context(certificate: trustme.LeafCert) -> Any:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


async def _body(receive: Receive) -> bytes:
    chunks = []
    while True:
        message = await receive()
        chunks.append(message.get("body", b""))
        if not message.get("more_body"):
            return b"".join(chunks)


async def _reply(
    send: Send, status: int, headers: Mapping[str, str], content: bytes, cut: int | None = None
) -> None:
    raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    raw += [(b"content-length", str(len(content)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    shown = content if cut is None else content[:cut]
    await send({"type": "http.response.body", "body": shown, "more_body": cut is not None})


MakeGitHost = Callable[..., GitHost]


@pytest.fixture
def make_git_host(tmp_path: Path) -> Iterator[MakeGitHost]:
    """Make hosts for the repositories that `make_repository` makes; `certificate` makes one speak TLS."""
    root = tmp_path / "repositories"
    root.mkdir(exist_ok=True)
    made: list[GitHost] = []

    def make(certificate: trustme.LeafCert | None = None) -> GitHost:
        made.append(GitHost(root, certificate))
        return made[-1]

    yield make
    for host in made:
        host.close()


@pytest.fixture
def git_server(make_git_host: MakeGitHost) -> GitHost:
    """A host that speaks plain HTTP."""
    return make_git_host()


class Authority:
    """A certificate authority nobody else knows; `file` is what one trusts it by."""

    def __init__(self, folder: Path) -> None:
        self._authority = trustme.CA()
        self.file = folder / f"authority-{os.urandom(4).hex()}.pem"
        self._authority.cert_pem.write_to_path(str(self.file))

    def certificate(self, name: str = "127.0.0.1", *, expired: bool = False) -> trustme.LeafCert:
        """Make a certificate of a name or address."""
        if not expired:
            return self._authority.issue_cert(name)
        past = datetime.now(UTC) - timedelta(days=30)
        return self._authority.issue_cert(name, not_before=past - timedelta(days=30), not_after=past)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """A certificate authority of the test's own."""
    return Authority(tmp_path)
