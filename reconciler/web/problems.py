"""Errors as RFC 9457 problem details: which status each has, and what a caller may see of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import JSONResponse

from reconciler.errors import (
    Conflict,
    IllegalTransition,
    InvalidInput,
    NotFound,
    PermanentError,
    Problem,
    ReconcilerError,
    Refused,
    TemporaryError,
)

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:pg-reconciler:problem:"
RETRY_AFTER_S = 5

TITLES: Mapping[int, tuple[str, str]] = {
    400: ("bad-request", "The request cannot be understood"),
    401: ("unauthenticated", "It is not known who asks"),
    403: ("forbidden", "The request is not allowed"),
    404: ("not-found", "There is no such thing"),
    405: ("method-not-allowed", "The method is not allowed here"),
    408: ("request-timeout", "The request took too long to arrive"),
    409: ("conflict", "The request contradicts what is there"),
    413: ("too-large", "The request is too large"),
    415: ("unsupported-media-type", "The content type is not supported"),
    421: ("misdirected", "The request names a host that is not served here"),
    422: ("invalid-input", "The input is wrong"),
    429: ("too-many", "Too many requests in a short time"),
    431: ("headers-too-large", "The head of the request is too large"),
    500: ("internal-error", "Something went wrong here"),
    501: ("not-implemented", "The request uses what is not supported"),
    503: ("unavailable", "Not possible now; trying again may help"),
    504: ("timeout", "The answer took too long"),
}
"""By status: the last part of the problem's type, and its title."""


def problem(
    status: int,
    detail: str,
    *,
    kind: str | None = None,
    hint: str | None = None,
    problems: Sequence[Mapping[str, Any]] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:
    """Build a problem response; `kind` refines the type of its status."""
    found = content(status, detail, kind=kind)
    if hint is not None:
        found["hint"] = hint
    if problems:
        found["problems"] = list(problems)
    return JSONResponse(found, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def content(status: int, detail: str, *, kind: str | None = None) -> dict[str, Any]:
    """A problem as a JSON value."""
    name, title = TITLES.get(status, ("error", "The request failed"))
    return {"type": TYPE_PREFIX + (kind or name), "title": title, "status": status, "detail": detail}


def too_many(detail: str, wait_s: int) -> JSONResponse:
    """The answer to whoever asks too often."""
    return problem(429, detail, headers={"Retry-After": str(wait_s)})


def of_error(error: ReconcilerError) -> JSONResponse:
    """The response to an error that was raised on purpose: its message was written for people."""
    match error:
        case NotFound():
            return problem(404, error.message, hint=error.hint)
        case InvalidInput():
            return problem(
                422, error.message, hint=error.hint, problems=[row(item) for item in error.problems]
            )
        case Refused():
            return problem(409, error.message, kind="refused", hint=error.hint)
        case Conflict() | IllegalTransition():
            return problem(409, error.message, hint=error.hint)
        case TemporaryError():
            retry = {"Retry-After": str(RETRY_AFTER_S)}
            return problem(503, error.message, hint=error.hint, headers=retry)
        case PermanentError():
            return problem(500, error.message, kind="permanent-error", hint=error.hint)
        case _:
            return problem(500, error.message, hint=error.hint)


def row(item: Problem) -> dict[str, Any]:
    """One problem of an input as a JSON value, without the parts that are not known."""
    parts = {
        "message": item.message,
        "file": item.file,
        "line": item.line,
        "column": item.column,
        "path": item.path,
        "hint": item.hint,
    }
    return {key: value for key, value in parts.items() if value is not None}
