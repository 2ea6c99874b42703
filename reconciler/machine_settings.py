"""What settings say of the machine: what services are run by there, and the proxies that lead to them.

It only says; what is made of it is `daemon.machine`.
"""

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

from reconciler.secret_settings import Name, SettingsModel, broken

PROXIES_MAX = 100
LISTEN_MAX = 20
_ENGINE = re.compile(r"unix:///\S+|tcp://\S+")
_ADMIN = re.compile(r"https?://[^\s/]+|unix://?/\S+")


def _engine(value: object) -> object:
    if not isinstance(value, str) or not _ENGINE.fullmatch(value):
        raise broken(
            "must be the address of an engine", "as in unix:///var/run/docker.sock or tcp://10.0.0.7:2376"
        )
    return value


def _admin(value: object) -> object:
    if not isinstance(value, str) or not _ADMIN.fullmatch(value):
        raise broken(
            "must be the address of an admin API",
            "as in http://127.0.0.1:2019 or unix:///run/caddy/admin.sock",
        )
    return value


class ContainerSettings(SettingsModel):
    """The engine that runs containers."""

    host: Annotated[str, BeforeValidator(_engine)] = Field(
        default="unix:///var/run/docker.sock", description="Address of its API: a socket, or tcp with TLS."
    )
    tls: str | None = Field(
        default=None, description="Folder with ca.pem, cert.pem and key.pem, for an engine over tcp."
    )
    credentials: str | None = Field(
        default=None, description="File of credentials of registries, as `docker login` writes it."
    )
    publish_at: str = Field(
        default="127.0.0.1", description="Address of this machine at which ports of containers are published."
    )


class SystemdSettings(SettingsModel):
    """The manager that runs units."""

    user: bool = Field(
        default=False, description="Whether units are those of the daemon's user, not of the system."
    )


class RuntimesSettings(SettingsModel):
    """What services and jobs are run by, beside plain processes, which always are."""

    container: ContainerSettings | None = Field(
        default=None, description="Containers; left out: none are run."
    )
    systemd: SystemdSettings | None = Field(default=None, description="Units; left out: none are run.")
    place: Annotated[str, Field(min_length=1, max_length=200)] | None = Field(
        default=None,
        description="What this machine is called to other daemons of the control database; what was started "
        "in one place is left alone in any other. Left out: the host name, with `state_dir` where that is "
        "not the usual one.",
    )


class CaddySettings(SettingsModel):
    """A Caddy that runs here or elsewhere."""

    admin: Annotated[str, BeforeValidator(_admin)] = Field(description="Address of its admin API.")
    listen: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=200)], ...],
        Field(strict=False, min_length=1, max_length=LISTEN_MAX),
    ] = Field(default=(":80",), description="Addresses at which the routes answer, as Caddy writes them.")


class ProxySettings(SettingsModel):
    """A reverse proxy that routes are set in."""

    name: Name = Field(description="Name of the proxy; unique.")
    caddy: CaddySettings = Field(description="A Caddy.")
