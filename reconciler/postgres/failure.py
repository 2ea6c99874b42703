"""What an error of the driver means: whether trying again may help, and the words for it, without secrets."""

import re
from dataclasses import dataclass

import psycopg

from reconciler.errors import (
    DatabaseUnavailable,
    NotFound,
    PermanentError,
    ReconcilerError,
    TemporaryError,
)
from reconciler.postgres.redact import redact
from reconciler.postgres.sqlstates import verdict


class DatabaseMissing(NotFound):
    """The server answers, and has no database of that name."""


@dataclass(frozen=True, slots=True)
class _Cause:
    """Words of libpq or the server by which a failure to connect is known, and ours for it."""

    words: str
    why: str
    error: type[ReconcilerError]
    hint: str | None = None


_CREDENTIALS = "check user and password in the connection string; a variable is read when the daemon starts"

_CONNECT_CAUSES = (
    _Cause(r'FATAL: +database ".*" does not exist', "the database does not exist", DatabaseMissing),
    _Cause(r"is not currently accepting connections", "the database accepts no connections", PermanentError),
    _Cause(r'FATAL: +role ".*" does not exist', "authentication failed", PermanentError, _CREDENTIALS),
    _Cause(r'role ".*" is not permitted to log in', "the role may not log in", PermanentError),
    _Cause(r"authentication failed|no password supplied|authentication method requirement",
           "authentication failed", PermanentError, _CREDENTIALS),
    _Cause(r"no pg_hba\.conf entry|pg_hba\.conf rejects", "pg_hba.conf of the server does not let us in",
           PermanentError),
    _Cause(r"permission denied for database", "the role may not connect to the database", PermanentError),
    _Cause(r"too many clients|remaining connection slots|too many connections",
           "the server has no connection left", DatabaseUnavailable),
    _Cause(r"server does not support SSL|certificate|SSL error|root\.crt", "the TLS handshake failed",
           PermanentError),
    _Cause(r"invalid (connection option|integer value|sslmode value|\S+ value)|bad value for|must be int",
           "a value of the connection string is not valid", PermanentError),
    _Cause(r"Connection refused|No such file or directory", "connection refused", DatabaseUnavailable),
    _Cause(r"could not translate host name|Name or service not known|failed to resolve|name resolution",
           "the host name cannot be resolved", DatabaseUnavailable),
    _Cause(r"starting up|not yet accepting", "the server is starting up", DatabaseUnavailable),
    _Cause(r"shutting down", "the server is shutting down", DatabaseUnavailable),
    _Cause(r"recovery mode", "the server is in recovery after a crash", DatabaseUnavailable),
    _Cause(r"timeout|timed out", "no answer in time", DatabaseUnavailable),
    _Cause(r"No route to host|unreachable", "the host cannot be reached", DatabaseUnavailable),
    _Cause(r"closed the connection|reset by peer|terminating connection|SSL SYSCALL",
           "the server closed the connection", DatabaseUnavailable),
)  # fmt: skip


def connect_failure(error: BaseException, doing: str) -> ReconcilerError:
    """Say why connecting failed in our own words: libpq's may quote the connection string."""
    text = str(error)
    for cause in _CONNECT_CAUSES:
        if re.search(cause.words, text, re.DOTALL):
            return cause.error(f"{doing}: {cause.why}", hint=cause.hint)
    if isinstance(error, psycopg.ProgrammingError | psycopg.InterfaceError | psycopg.NotSupportedError):
        return PermanentError(f"{doing}: the connection string is not valid")
    return DatabaseUnavailable(f"{doing}: the connection could not be made")


def is_transient(error: BaseException) -> bool:
    """Whether trying again may help."""
    if isinstance(error, ReconcilerError):
        return isinstance(error, TemporaryError)
    if not isinstance(error, psycopg.Error):
        return isinstance(error, TimeoutError | OSError)
    code = error.sqlstate
    if code is None:
        return isinstance(error, psycopg.OperationalError)
    return verdict(code, error.diag.message_primary or "").passes


def translate(error: psycopg.Error, doing: str) -> ReconcilerError:
    """Our error for the driver's: the server's own words are kept, what looks like a secret is masked."""
    code = error.sqlstate
    if code is None and isinstance(error, psycopg.OperationalError):
        return DatabaseUnavailable(f"{doing}: the connection to the server was lost")
    message = f"{doing}: {_words(error)}" + (f" [{code}]" if code else "")
    hint = redact(error.diag.message_hint) if error.diag.message_hint else None
    return _kind(error)(message, hint=hint)


def _kind(error: psycopg.Error) -> type[ReconcilerError]:
    code = error.sqlstate
    if code == "3D000":
        return DatabaseMissing
    if code is not None:
        return verdict(code, error.diag.message_primary or "").error
    return DatabaseUnavailable if is_transient(error) else PermanentError


def _words(error: psycopg.Error) -> str:
    """The server's primary message and detail; without a server's message, the driver's first line."""
    words = (error.diag.message_primary or "").strip()
    if not words:
        lines = str(error).strip().splitlines()
        words = lines[0] if lines else type(error).__name__
    detail = (error.diag.message_detail or "").strip()
    return redact(f"{words} ({detail})" if detail else words)
