"""What the command line makes of an answer that a daemon did not live to end."""

import socket
import threading

import pytest

from reconciler.cli.address import Address
from reconciler.cli.http_backend import HttpBackend, Trust
from reconciler.errors import TemporaryError

CUT = (
    b"HTTP/1.1 200 OK\r\nreconciler-version: 1\r\ncontent-type: application/json\r\n"
    b'content-length: 40\r\n\r\n{"events": [{"id"'
)


def answer_and_end(listener: socket.socket) -> None:
    while True:
        try:
            caller, _ = listener.accept()
        except OSError:
            return
        with caller:
            caller.recv(65536)
            caller.sendall(CUT)


def test_an_answer_that_is_cut_off_may_be_asked_for_again() -> None:
    """A daemon that ends in the middle of an answer is away, and not one that speaks something else."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer_and_end, args=(listener,), daemon=True).start()
        port = listener.getsockname()[1]
        backend = HttpBackend(Address(scheme="http", host="127.0.0.1", port=port), token=None, trust=Trust())
        with pytest.raises(TemporaryError, match="ended the connection"):
            backend.events("production", after=0, limit=10)
        backend.close()
        listener.shutdown(socket.SHUT_RDWR)
