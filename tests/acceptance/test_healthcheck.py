"""The health check of the image tells a daemon that answers from one that does not, with TLS and without."""

import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme
from typing_extensions import override

from tests.plugins.package import ROOT
from tests.plugins.postgres import free_port


class Answer(BaseHTTPRequestHandler):
    """Answers as its server's `status` says."""

    def do_GET(self) -> None:
        found = self.path == "/livez"
        self.send_response(self.server.status if found else 404)  # type: ignore[attr-defined]
        self.end_headers()

    @override
    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    """A server that answers with 200."""
    made = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    made.status = 200  # type: ignore[attr-defined]
    thread = threading.Thread(target=made.serve_forever, args=(0.05,))
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def healthy(listen: str, **environ: str) -> bool:
    done = subprocess.run(
        [sys.executable, "-I", ROOT / "tools" / "healthcheck.py"],
        env={**os.environ, "RECONCILER_LISTEN": listen, **environ},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.stdout, done.stderr) == (b"", b"")
    return done.returncode == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", ""])
def test_an_answer_is_healthy(server: ThreadingHTTPServer, host: str) -> None:
    """It asks on loopback at the port of RECONCILER_LISTEN, past every proxy."""
    nowhere = f"http://127.0.0.1:{free_port()}"
    assert healthy(f"{host}:{server.server_port}", http_proxy=nowhere, https_proxy=nowhere)


def test_tls_is_spoken_too(server: ThreadingHTTPServer) -> None:
    """A certificate of any name will do: what is asked is whether somebody answers."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("reconciler.example.com").configure_cert(context)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    assert healthy(f"127.0.0.1:{server.server_port}")


def test_a_failure_or_nobody_is_not(server: ThreadingHTTPServer) -> None:
    """An answer that is not a success is as bad as none."""
    server.status = 503  # type: ignore[attr-defined]
    assert not healthy(f"127.0.0.1:{server.server_port}")
    assert not healthy(f"127.0.0.1:{free_port()}")
    assert not healthy("nonsense")
