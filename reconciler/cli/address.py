"""Where a daemon would answer, found without loading all of the settings: start-up time counts."""

import socket
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from reconciler.errors import Problem, SettingsError
from reconciler.frozen import frozen

DEFAULT_LISTEN = "127.0.0.1:8080"
CONFIG_PLACES = ("reconciler.yaml", "/etc/reconciler/reconciler.yaml")
CONFIG_BYTES_MAX = 1024 * 1024
CONNECT_WITHIN_S = 2.0
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 - what to call, not to bind


@frozen
class Address:
    """Where to call; `given` says that a person named it, so that nothing else is tried."""

    scheme: str
    host: str
    port: int
    path: str = ""
    given: bool = False

    @property
    def url(self) -> str:
        """The address as a URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"


def find(server: str | None, config: str | None, environ: Mapping[str, str]) -> Address:
    """The address of --server, else of `listen` in the settings; variables go before the file."""
    if server is not None:
        return of_server(server)
    listen, tls = _of_file(config)
    tls = tls or bool(environ.get("RECONCILER_TLS_CERTIFICATE") or environ.get("RECONCILER_TLS__CERTIFICATE"))
    return of_listen(environ.get("RECONCILER_LISTEN") or listen or DEFAULT_LISTEN, tls=tls)


def of_server(text: str) -> Address:
    """An address as a person writes it: a URL, or host:port."""
    wrong = SettingsError(
        [Problem(message="the server is not a URL", hint="write it as http://127.0.0.1:8080 or host:port")]
    )
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise wrong from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise wrong
    return Address(
        scheme=parts.scheme, host=parts.hostname, port=port, path=parts.path.rstrip("/"), given=True
    )


def of_listen(listen: str, *, tls: bool = False) -> Address:
    """The address to call for an address that is listened on."""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not port.isdigit():
        raise SettingsError(
            [Problem(message=f"'{listen}' is not an address", path="listen", hint="host:port")]
        )
    return Address(scheme="https" if tls else "http", host=ANY_ADDRESS.get(host, host), port=int(port))


def listens(address: Address) -> bool:
    """Whether anything takes a connection: where nothing does, nobody needs to load what speaks HTTP."""
    try:
        socket.create_connection((address.host, address.port), timeout=CONNECT_WITHIN_S).close()
    except OSError:
        return False
    return True


def _of_file(config: str | None) -> tuple[str | None, bool]:
    """The `listen` of the settings file, and whether it has `tls`; what is wrong is told elsewhere."""
    import yaml

    for place in (config,) if config is not None else CONFIG_PLACES:
        path = Path(place)
        if not path.is_file():
            continue
        with path.open("rb") as file:
            content = file.read(CONFIG_BYTES_MAX)
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            value = yaml.load(content, Loader=loader)  # noqa: S506 - a safe loader, the C one where it is
        except (yaml.YAMLError, UnicodeDecodeError, ValueError, RecursionError):
            return None, False
        found = value if isinstance(value, dict) else {}
        listen = found.get("listen")
        return listen if isinstance(listen, str) else None, found.get("tls") is not None
    return None, False
