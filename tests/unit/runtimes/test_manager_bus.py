"""A bus that is away or hangs keeps nobody waiting."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reconciler.runtimes import systemd_bus
from reconciler.runtimes.systemd_bus import address_of, connected


@pytest.fixture
def listening(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "bus"))
        server.listen()
        yield server


def test_nobody_there(tmp_path: Path) -> None:
    """Where no bus is, that is said at once."""
    with pytest.raises(FileNotFoundError), connected(f"unix:path={tmp_path}/bus"):
        pass


def test_address_of_another_machine() -> None:
    """A bus that is reached over the network is none of ours."""
    with pytest.raises(OSError, match="is not one of this machine"), connected("tcp:host=a,port=1"):
        pass


@pytest.mark.parametrize("logs_in", [False, True], ids=["at-login", "at-first-call"])
def test_bus_that_hangs(
    tmp_path: Path, listening: socket.socket, logs_in: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that takes the connection and says no more is given up in time."""
    monkeypatch.setattr(systemd_bus, "_CONNECT_S", 5.0 if logs_in else 0.05)
    monkeypatch.setattr(systemd_bus, "_CALL_S", 0.05)

    def serve() -> None:
        with listening.accept()[0] as client:
            while said := client.recv(4096):
                if logs_in and b"AUTH" in said:
                    client.sendall(b"OK 0123456789abcdef0123456789abcdef\r\n")

    thread = threading.Thread(target=serve)
    thread.start()
    with pytest.raises(TimeoutError, match="not answer"), connected(f"unix:path={tmp_path}/bus"):
        pass
    thread.join(30)


def test_addresses() -> None:
    """The bus of the system or of the user is where the environment says, else where it always is."""
    assert address_of(user=False, environment={}) == "unix:path=/run/dbus/system_bus_socket"
    assert (
        address_of(user=True, environment={"XDG_RUNTIME_DIR": "/run/user/7"}) == "unix:path=/run/user/7/bus"
    )
    assert (
        address_of(user=True, environment={"DBUS_SESSION_BUS_ADDRESS": "unix:abstract=x"})
        == "unix:abstract=x"
    )
