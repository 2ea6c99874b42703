"""Certificates of the API: checked at the start, taken anew when their files change; nothing is served."""

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

from reconciler.errors import PermanentError
from reconciler.events import CertificateRenewed, Event
from reconciler.settings import TlsSettings

LOOK_EVERY_S = 2.0

_Stamp = tuple[tuple[int, int, int], ...]


class Certificates:
    """The context that the API listens with; new connections use what its files held last."""

    def __init__(self, settings: TlsSettings, emit: Callable[[Event], None]) -> None:
        """Read the files. Raises PermanentError with what is wrong with which of them."""
        self._settings = settings
        self._emit = emit
        for path in _files(settings):
            _check_readable(path)
        self._stamp = self._look()
        self.context = _context(settings)

    async def renew(self, stopping: asyncio.Event) -> None:
        """Look at the files every so often until `stopping`; files that do not fit are told of and left."""
        while not stopping.is_set():
            try:
                await asyncio.wait_for(stopping.wait(), timeout=LOOK_EVERY_S)
            except TimeoutError:
                await asyncio.to_thread(self.renew_now)

    def renew_now(self) -> None:
        """Take the files if they changed since they were last looked at."""
        stamp = self._look()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            for path in _files(self._settings):
                _check_readable(path)
            # Apart first: the files may be in the middle of being replaced, and the live one must go on.
            _context(self._settings)
            _load(self.context, self._settings)
        except PermanentError as error:
            self._emit(CertificateRenewed(file=self._settings.certificate, error=str(error)))
            return
        self._emit(CertificateRenewed(file=self._settings.certificate))

    def _look(self) -> _Stamp:
        """What tells one content of the files from another."""
        return tuple(_stamp(path) for path in _files(self._settings))


def _files(settings: TlsSettings) -> list[str]:
    return [path for path in (settings.certificate, settings.key, settings.client_ca) if path is not None]


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        found = Path(path).stat()
    except OSError:
        return (0, 0, 0)
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def _check_readable(path: str) -> None:
    try:
        with Path(path).open("rb") as file:
            file.read(1)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise PermanentError(f"file '{path}' of tls cannot be read: {why}") from None


def _context(settings: TlsSettings) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    _load(context, settings)
    if settings.client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _load(context: ssl.SSLContext, settings: TlsSettings) -> None:
    """Load the files into a context; the connections it has already keep what they were opened with."""
    where = f"certificate '{settings.certificate}' and key '{settings.key}' of tls"
    try:
        # Without a password OpenSSL would ask for one on the terminal, and wait for it.
        context.load_cert_chain(settings.certificate, settings.key, password=lambda: "")
    except ssl.SSLError as error:
        why = {
            "KEY_VALUES_MISMATCH": "the key is not that of the certificate",
            "KEY_TYPE_MISMATCH": "the key is not that of the certificate",
            "BAD_DECRYPT": "the key has a passphrase",
            "BAD_PASSWORD_READ": "the key has a passphrase",
        }.get(error.reason or "", "one of them is not PEM")
        raise PermanentError(f"{where} cannot be used: {why}") from None
    except (OSError, ValueError) as error:
        raise PermanentError(f"{where} cannot be used: {error}") from None
    if settings.client_ca is not None:
        try:
            context.load_verify_locations(cafile=settings.client_ca)
        except (ssl.SSLError, OSError):
            raise PermanentError(f"client_ca '{settings.client_ca}' of tls holds no certificates") from None
