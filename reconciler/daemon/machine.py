"""Make what there is to run services on here of what the settings say; each part when it is first used."""

import socket
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from typing_extensions import override

from reconciler.control.install import control_id
from reconciler.errors import ReconcilerError
from reconciler.machine_settings import ProxySettings
from reconciler.postgres.connection import Connection
from reconciler.runtimes.machine import Machine
from reconciler.runtimes.proxy import Proxy
from reconciler.runtimes.runtime import Runtime
from reconciler.settings import Settings

USUAL_STATE_DIR = "/var/lib/reconciler"
_Part = TypeVar("_Part")


class _WhenUsed(Mapping[str, _Part]):
    """Parts by name that are made at their first use: most commands use none."""

    def __init__(self, makers: Mapping[str, Callable[[], _Part]]) -> None:
        self._makers = makers
        self._made: dict[str, _Part] = {}

    @override
    def __getitem__(self, name: str) -> _Part:
        if name not in self._made:
            self._made[name] = self._makers[name]()
        return self._made[name]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    @override
    def __len__(self) -> int:
        return len(self._makers)


def place_of(settings: Settings) -> str:
    """What this machine is called to other daemons.

    Two daemons of one machine do not see each other's processes, which are kept below their `state_dir`.
    """
    if settings.runtimes.place is not None:
        return settings.runtimes.place
    host, folder = socket.gethostname(), str(Path(settings.state_dir).absolute())
    return host if folder == USUAL_STATE_DIR else f"{host}:{folder}"


def needs_owner(settings: Settings) -> bool:
    """Whether anything is shared with others, and has to be marked as ours."""
    return bool(settings.proxies) or settings.runtimes.container is not None


async def owner_of(connection: Connection) -> str:
    """What marks as ours what others see too: the identity of the control database; empty without one."""
    try:
        return await control_id(connection)
    except ReconcilerError:
        return ""


def build_machine(settings: Settings, owner: str) -> Machine:
    """The runtimes and proxies of the settings; opens nothing yet."""
    runtimes: dict[str, Callable[[], Runtime]] = {"process": lambda: _process(settings)}
    if settings.runtimes.systemd is not None:
        runtimes["systemd"] = lambda: _systemd(settings)
    if settings.runtimes.container is not None:
        runtimes["container"] = lambda: _container(settings, owner)
    proxies = {each.name: _proxy_maker(each, owner) for each in settings.proxies}
    return Machine(place=place_of(settings), runtimes=_WhenUsed(runtimes), proxies=_WhenUsed(proxies))


def _process(settings: Settings) -> Runtime:
    from reconciler.runtimes.process import ProcessRuntime

    return ProcessRuntime(Path(settings.state_dir) / "services")


def _systemd(settings: Settings) -> Runtime:
    from reconciler.runtimes.systemd import SystemdRuntime

    given = settings.runtimes.systemd
    assert given is not None
    return SystemdRuntime(Path(settings.state_dir) / "units", user=given.user)


def _container(settings: Settings, owner: str) -> Runtime:
    from reconciler.runtimes.container import ContainerRuntime

    given = settings.runtimes.container
    assert given is not None
    return ContainerRuntime(
        host=given.host,
        owner=owner,
        tls=Path(given.tls) if given.tls is not None else None,
        publish_at=given.publish_at,
        credentials=Path(given.credentials) if given.credentials is not None else None,
    )


def _proxy_maker(given: ProxySettings, owner: str) -> Callable[[], Proxy]:
    def make() -> Proxy:
        from reconciler.runtimes.caddy import CaddyProxy

        return CaddyProxy(name=given.name, admin=given.caddy.admin, owner=owner, listen=given.caddy.listen)

    return make
