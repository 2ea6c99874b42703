"""Roles that others get into a database with, and what they are given; it makes none and asks nobody."""

from collections.abc import Mapping, Sequence
from dataclasses import field
from typing import Any
from urllib.parse import quote

from reconciler.frozen import frozen

_CARRIED = ("sslmode", "target_session_attrs")
"""What others have to know too of how a server is reached."""
DEFAULT_PORT = "5432"


@frozen
class Whose:
    """The database that a role was made for."""

    environment: str
    deployment: str
    database: str

    @property
    def mark(self) -> str:
        """The comment of such a role: who finds another there, or none, did not make it."""
        return (
            f"made by pg-reconciler for database '{self.database}' of deployment '{self.deployment}' of "
            f"environment '{self.environment}'"
        )


@frozen
class Login:
    """A role that may connect."""

    user: str
    password: str = field(repr=False)


def access_outputs(
    server: Mapping[str, Any], database: str, owner: Login, reader: Login
) -> Mapping[str, str | int]:
    """All outputs of a database, by their names; `server` are keywords and values of libpq."""
    hosts = _list(server.get("host") or server.get("hostaddr"), "localhost")
    ports = _list(server.get("port"), DEFAULT_PORT)
    ports = [*ports, *[ports[-1]] * (len(hosts) - len(ports))]
    place = ",".join(f"{_host(host)}:{port}" for host, port in zip(hosts, ports, strict=False))
    carried = "&".join(f"{name}={quote(str(server[name]), safe='')}" for name in _CARRIED if server.get(name))

    def url(login: Login) -> str:
        who = f"{quote(login.user, safe='')}:{quote(login.password, safe='')}"
        return f"postgresql://{who}@{place}/{quote(database, safe='')}{'?' if carried else ''}{carried}"

    return {
        "url": url(owner),
        "host": ",".join(hosts),
        "port": int(ports[0]) if len(set(ports)) == 1 else ",".join(ports),
        "database": database,
        "user": owner.user,
        "password": owner.password,
        "readerUrl": url(reader),
        "readerUser": reader.user,
        "readerPassword": reader.password,
    }


def _list(value: object, default: str) -> Sequence[str]:
    """The parts of a value of libpq that may name several; what it leaves out is the default."""
    return [part or default for part in str(value or "").split(",")]


def _host(host: str) -> str:
    """As it stands in a URL: an address of version 6 in brackets, the path of a socket encoded."""
    return f"[{host}]" if ":" in host else quote(host, safe="")
