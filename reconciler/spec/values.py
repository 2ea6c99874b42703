"""Small values that specs are made of and other layers use as they are."""

from collections.abc import Mapping, Sequence
from dataclasses import field

from typing_extensions import override

from reconciler.frozen import frozen


@frozen
class OutputReference:
    """An output of another component: `{from: COMPONENT, output: NAME}`."""

    component: str
    output: str

    @override
    def __str__(self) -> str:
        return f"{self.component}.{self.output}"


@frozen
class SecretReference:
    """Where a secret stands: a variable of the daemon, a file, or here, encrypted. Never in the clear."""

    env: str | None = None
    file: str | None = None
    age: str | None = field(default=None, repr=False)
    """In base64, on one line."""

    @override
    def __str__(self) -> str:
        if self.age is not None:
            return "an encrypted value"
        return f"env {self.env}" if self.env is not None else f"file {self.file}"


DATABASE_OUTPUTS: Mapping[str, bool] = {
    "url": True,
    "host": False,
    "port": False,
    "database": False,
    "user": False,
    "password": True,
    "readerUrl": True,
    "readerUser": False,
    "readerPassword": True,
}
"""The outputs of a Database, and which of them are sensitive."""


def service_outputs(ports: Sequence[str]) -> tuple[str, ...]:
    """The outputs of a Service with these ports: with several of them, each has its own."""
    if not ports:
        return ()
    return ("host", "port") if len(ports) == 1 else ("host", *(f"port.{name}" for name in ports))
