"""A connection string that never shows itself; it parses, and says nothing of what it could not parse."""

import re
from typing import Any

import psycopg
from psycopg import conninfo
from typing_extensions import override

from reconciler.errors import PermanentError

_HOST = re.compile(r"[A-Za-z0-9._:%-]{1,253}|/[A-Za-z0-9._/ +=~-]{0,200}")
_PORTS = re.compile(r"\d{0,5}(,\d{0,5})*")
_URI_SCHEMES = ("postgresql://", "postgres://")
_HINT = (
    "write it as postgresql://user:password@host:port/database, with characters such as @ / : # in user and"
    " password percent-encoded, or as keyword=value pairs, with values that hold spaces in single quotes"
)


class Dsn:
    """A connection string that never shows itself; `reveal` gives the text to the driver."""

    __slots__ = ("_parsed", "_server", "_text")

    def __init__(self, text: str) -> None:
        self._text = text
        # Every connection asks anew, and parsing costs a tenth of a millisecond.
        self._parsed: dict[str, Any] | None = None
        self._server: str | None = None

    @classmethod
    def of(cls, **parameters: str | None) -> "Dsn":
        """One of these keywords and values of libpq; None leaves a keyword out."""
        given = {name: value for name, value in parameters.items() if value is not None}
        return cls(conninfo.make_conninfo(**given))

    def reveal(self) -> str:
        """The text itself; only for handing to the driver."""
        return self._text

    def parameters(self, purpose: str = "of the server") -> dict[str, Any]:
        """Its keywords and values; raises PermanentError that names `purpose` and quotes nothing."""
        if self._parsed is None:
            try:
                parsed = dict(conninfo.conninfo_to_dict(self._text))
            except (psycopg.Error, ValueError):
                parsed = None
            if parsed is None or not self._is_plain(parsed):
                raise PermanentError(
                    f"the connection string {purpose} cannot be parsed", hint=_HINT
                ) from None
            self._parsed = parsed
        return dict(self._parsed)

    @property
    def server(self) -> str:
        """`host:port` for people; no user, no password."""
        if self._server is None:
            self._server = self._find_server()
        return self._server

    def _find_server(self) -> str:
        try:
            given = self.parameters()
        except PermanentError:
            return "unknown server"
        hosts = str(given.get("host") or given.get("hostaddr") or "localhost").split(",")
        ports = str(given.get("port") or "5432").split(",")
        if len(ports) < len(hosts):
            ports = [ports[0]] * len(hosts)
        return ", ".join(
            f"{host or 'localhost'}:{port or 5432}" for host, port in zip(hosts, ports, strict=False)
        )

    def _is_plain(self, parsed: dict[str, Any]) -> bool:
        """Whether no part of a password can have slipped into another part.

        A password that is not percent-encoded moves the borders of a URI: libpq then takes a piece of it for
        the host, the port or the database, which are shown.
        """
        hosts = str(parsed.get("host") or "localhost").split(",")
        plain = "\0" not in self._text
        plain = plain and all(not host or _HOST.fullmatch(host) for host in hosts)
        plain = plain and _PORTS.fullmatch(str(parsed.get("port") or "")) is not None
        for scheme in _URI_SCHEMES:
            if self._text.startswith(scheme):
                body = self._text.removeprefix(scheme)
                first = re.search(r"[@/]", body)
                after = body[first.end() :] if first and first[0] == "@" else body
                plain = plain and "@" not in after.split("?", 1)[0]
        return plain

    @override
    def __repr__(self) -> str:
        return "<dsn>"

    __str__ = __repr__

    @override
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dsn) and other._text == self._text

    @override
    def __hash__(self) -> int:
        return hash(self._text)
