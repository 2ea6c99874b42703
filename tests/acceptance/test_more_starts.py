"""Starts that cannot succeed: said in words, with what to do, and an exit code that means it."""

import signal
import socket

from tests.plugins.daemon import World, until


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


def test_stopped_while_it_waits_for_the_control_database(world: World) -> None:
    """A start says what it waits for, and ends at once and in order when it is asked to."""
    daemon = world.daemon()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        away = f"127.0.0.1:{nobody.getsockname()[1]}"
        daemon.environ["RECONCILER_CONTROL_DSN"] = f"postgresql://somebody@{away}/control"
        daemon.start(wait=False)
        assert daemon.process is not None
        until(lambda: "control.awaited" in daemon.tail(), "the daemon to say what it waits for")
        assert f"connecting to {away}: connection refused" in daemon.tail()
        daemon.process.send_signal(signal.SIGTERM)
        assert daemon.process.wait(timeout=60) == 0, daemon.tail()
        daemon.process = None
    assert "daemon.stopped" in daemon.tail()
