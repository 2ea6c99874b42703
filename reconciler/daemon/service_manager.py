"""Tell the service manager (systemd) that we are ready, alive, or stopping; silent where there is none.

The protocol is `sd_notify(3)`: datagrams to the socket named in NOTIFY_SOCKET.
"""

import socket
from collections.abc import Mapping
from contextlib import suppress

MICROSECONDS = 1_000_000


class ServiceManager:
    """Sends notifications; `environ` is the environment of the process."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = environ.get("NOTIFY_SOCKET")
        usec = environ.get("WATCHDOG_USEC", "")
        self.watchdog_s = int(usec) / MICROSECONDS if usec.isdigit() and int(usec) > 0 else None

    def ready(self, status: str) -> None:
        """We serve."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._send(f"STATUS={status}")

    def alive(self) -> None:
        """Pet the watchdog."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """We were asked to stop and do so."""
        self._send("STOPPING=1\nSTATUS=stopping")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        # A leading @ names an abstract socket.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
            client.settimeout(1.0)
            client.sendto(message.encode(), address)
