"""Real Git for tests: repositories to commit to, and a loopback server that serves them or fails on cue."""

import base64
import gzip
import os
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typing_extensions import override

_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_AUTHOR_NAME": "Test",
    "GIT_AUTHOR_EMAIL": "test@example.com",
    "GIT_COMMITTER_NAME": "Test",
    "GIT_COMMITTER_EMAIL": "test@example.com",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
}


def git_environment() -> dict[str, str]:
    """Return an environment in which Git obeys nothing of the machine it runs on."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    return {**kept, **_ENVIRONMENT}


def git(folder: Path, *arguments: str, stdin: bytes | None = None) -> str:
    """Run Git in a folder and return what it says; a failure fails the test with Git's words."""
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env=git_environment(),
        input=stdin,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, f"git {' '.join(arguments)}: {done.stderr.decode(errors='replace')}"
    return done.stdout.decode(errors="replace").strip()


class GitRepository:
    """A work tree with branch `main` to commit to; `path` is what a source names as its url."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True)
        git(path, "init", "--quiet", "--initial-branch=main", "--template=")
        git(path, "config", "gc.auto", "0")

    @property
    def git_dir(self) -> Path:
        return self.path / ".git"

    def git(self, *arguments: str) -> str:
        """Run Git in the work tree."""
        return git(self.path, *arguments)

    def write(self, files: Mapping[str, str | bytes | None]) -> None:
        """Write files by path from the root; None removes one."""
        for name, content in files.items():
            path = self.path / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, files: Mapping[str, str | bytes | None] | None = None, message: str = "Change") -> str:
        """Write files, commit everything there is, and return the commit's id."""
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.head()

    def head(self, ref: str = "HEAD") -> str:
        """Return the commit a ref stands at."""
        return self.git("rev-parse", f"{ref}^{{commit}}")

    def rewrite(self, files: Mapping[str, str | bytes | None] | None = None) -> str:
        """Replace the newest commit by another, as `commit --amend` and a forced push do."""
        self.write(files or {})
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--amend", "--message", "Rewritten")
        return self.head()


@pytest.fixture
def make_repository(tmp_path: Path) -> Callable[[str], GitRepository]:
    """Make a repository of a given name below the test's folder."""
    return lambda name: GitRepository(tmp_path / "repositories" / name)


@pytest.fixture
def git_repository(make_repository: Callable[[str], GitRepository]) -> GitRepository:
    """A repository with one commit that holds `README`."""
    repository = make_repository("config")
    repository.commit({"README": "sample\n"}, "Begin")
    return repository


class GitServer:
    """Serves repositories over smart HTTP on loopback through `git http-backend`.

    `fault` is what happens to the requests: None, `500`, `hang`, `cut` (the pack breaks off), `redirect`.
    `login` is a user and password to ask for. `requests` are the paths asked for so far.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.fault: str | None = None
        self.login: tuple[str, str] | None = None
        self.redirect_to = "http://127.0.0.1:9/elsewhere"
        self.requests: list[str] = []
        self.held = threading.Event()  # set once a request hangs
        self.released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, repository: GitRepository, userinfo: str = "") -> str:
        """Return the url of a repository below the root."""
        at = f"{userinfo}@" if userinfo else ""
        return f"http://{at}127.0.0.1:{self.port}/{repository.path.relative_to(self.root)}/.git"

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        served = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                served._answer(self)

            def do_POST(self) -> None:
                served._answer(self)

            @override
            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.requests.append(request.path)
        request.close_connection = True
        if self.fault == "hang":
            self.held.set()
            self.released.wait(60)
        elif self.fault == "redirect":
            _reply(request, 302, {"Location": self.redirect_to + request.path}, b"")
        elif self.fault == "500":
            _reply(request, 500, {}, b"broken")
        elif self.login is not None and not self._is_allowed(request):
            _reply(request, 401, {"WWW-Authenticate": 'Basic realm="test"'}, b"")
        else:
            status, headers, content = self._run_backend(request, body)
            cut = self.fault == "cut" and request.path.endswith("/git-upload-pack") and b"PACK" in content
            _reply(request, status, headers, content, cut=len(content) // 2 if cut else None)

    def _is_allowed(self, request: BaseHTTPRequestHandler) -> bool:
        assert self.login is not None
        wanted = base64.b64encode(":".join(self.login).encode()).decode()
        return request.headers.get("Authorization") == f"Basic {wanted}"

    def _run_backend(self, request: BaseHTTPRequestHandler, body: bytes) -> tuple[int, dict[str, str], bytes]:
        path, _, query = request.path.partition("?")
        if request.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        environment = {
            **git_environment(),
            "GIT_PROJECT_ROOT": str(self.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": request.command,
            "CONTENT_TYPE": request.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "GIT_PROTOCOL": request.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(
            ["git", "http-backend"],
            env=environment,
            input=body,
            capture_output=True,
            timeout=60,
            check=False,
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if line)
        return int(headers.pop("Status", "200").split()[0]), headers, content


def _reply(
    request: BaseHTTPRequestHandler,
    status: int,
    headers: Mapping[str, str],
    content: bytes,
    cut: int | None = None,
) -> None:
    request.send_response(status)
    for name, value in headers.items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(content)))
    request.end_headers()
    request.wfile.write(content if cut is None else content[:cut])
    request.wfile.flush()


@pytest.fixture
def git_server(tmp_path: Path) -> Iterator[GitServer]:
    """A loopback HTTP server for the repositories that `make_repository` makes."""
    root = tmp_path / "repositories"
    root.mkdir(exist_ok=True)
    server = GitServer(root)
    yield server
    server.close()


@pytest.fixture
def closed_port() -> int:
    """A loopback port where nothing listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])
