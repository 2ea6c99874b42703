"""Starts that cannot succeed: said in words, with what to do, and an exit code that means it."""

import socket

from tests.plugins.daemon import World


def test_port_that_is_taken(world: World) -> None:
    """A daemon whose address another program has ends with code 1 and says so."""
    daemon = world.daemon()
    with socket.socket() as other:
        other.bind(("127.0.0.1", daemon.port))
        other.listen()
        daemon.start(wait=False)
        assert daemon.process is not None
        assert daemon.process.wait(timeout=45) == 1, daemon.tail()
        daemon.process = None
    assert f"the API cannot listen on 127.0.0.1:{daemon.port}" in daemon.tail()
    assert "--listen" in daemon.tail()
