"""The ASGI layer around every route: who may come in, how much they may send, how long an answer may take.

It is also the boundary of a request: an error nobody expected becomes a problem without internals, is
reported under an id, and the next request is served.
"""

import asyncio
import secrets
import traceback
from collections.abc import Callable, MutableMapping, Sequence
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler import __version__
from reconciler.errors import ReconcilerError
from reconciler.events import Event, TaskFailed
from reconciler.web.access import LOCAL, Token, authenticate, is_loopback_host, is_own_origin
from reconciler.web.problems import of_error, problem

BODY_BYTES_MAX = 64 * 1024
BODY_ARRIVES_WITHIN_S = 10.0
ANSWER_WITHIN_S = 120.0
OPEN_PATHS = frozenset({"/livez", "/readyz", "/openapi.json"})
"""Paths that need no token: they say nothing about any environment."""
STREAMS = frozenset({"/v1/events"})
"""Paths whose answers have no end; they have a limit of their own."""
READING = frozenset({"GET", "HEAD", "OPTIONS"})

HEADERS = (
    (b"reconciler-version", __version__.encode()),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)


class _Rejected(Exception):
    def __init__(self, response: JSONResponse) -> None:
        super().__init__()
        self.response = response


class Guard:
    """Wraps the application; without tokens only requests from this machine's own programs pass."""

    def __init__(self, app: ASGIApp, *, tokens: Sequence[Token], observe: Callable[[Event], None]) -> None:
        self._app = app
        self._tokens = tuple(tokens)
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Routes match the path as it was sent, so that a name may hold an encoded slash.
        sent = bytes(scope.get("raw_path") or b"").partition(b"?")[0].decode("latin-1")
        scope = {**scope, "path": sent or scope["path"]}
        answer = _Answer(send)
        try:
            self._admit(scope)
            body = await _read_body(scope, receive)
            limit = None if scope["path"] in STREAMS else ANSWER_WITHIN_S
            async with asyncio.timeout(limit):
                await self._app(scope, _replay(body, receive), answer)
        except _Rejected as rejected:
            await rejected.response(scope, receive, answer)
        except TimeoutError:
            await answer.fail(scope, receive, problem(504, f"no answer within {ANSWER_WITHIN_S:.0f} s"))
        except ReconcilerError as error:
            await answer.fail(scope, receive, of_error(error))
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            await answer.fail(scope, receive, self._report(scope, error))

    def _admit(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        if self._tokens:
            caller = authenticate(self._tokens, headers.get("authorization"))
            if caller is None and scope["path"] not in OPEN_PATHS:
                raise _Rejected(
                    problem(
                        401,
                        "this API asks for a bearer token",
                        hint="send 'Authorization: Bearer …' with a token of the daemon's settings",
                        headers={"WWW-Authenticate": 'Bearer realm="reconciler"'},
                    )
                )
            state["caller"] = caller
        else:
            _admit_local(headers)
            state["caller"] = LOCAL
        if scope["method"] not in READING and not _is_json(headers.get("content-type")):
            raise _Rejected(
                problem(
                    415,
                    "writes are taken as JSON only",
                    hint="send 'Content-Type: application/json', also with an empty body",
                )
            )

    def _report(self, scope: Scope, error: Exception) -> JSONResponse:
        reference = secrets.token_hex(6)
        frame = traceback.extract_tb(error.__traceback__)[-1:]
        where = f" at {frame[0].filename}:{frame[0].lineno}" if frame else ""
        what = f"{scope['method']} {scope['path']!r} ({reference}): {type(error).__name__}: {error}{where}"
        self._observe(TaskFailed(task="http", error=what))
        return problem(
            500, f"an internal error; the daemon's log tells more under {reference}", hint="report it"
        )


def _admit_local(headers: Headers) -> None:
    host, origin = headers.get("host"), headers.get("origin")
    if not is_loopback_host(host):
        raise _Rejected(
            problem(
                421,
                "without tokens this API answers to names of this machine only",
                hint="use http://127.0.0.1, or configure tokens",
            )
        )
    if origin is not None and not is_own_origin(origin, host or ""):
        raise _Rejected(problem(403, "requests from pages of other origins are refused"))


def _is_json(content_type: str | None) -> bool:
    return (content_type or "").partition(";")[0].strip().lower() == "application/json"


async def _read_body(scope: Scope, receive: Receive) -> bytes:
    """Read the body of a write whole, within its limits; reading requests have none."""
    if scope["method"] in READING:
        return b""
    too_large = problem(413, f"a body may have {BODY_BYTES_MAX} bytes", headers={"Connection": "close"})
    announced = Headers(scope=scope).get("content-length", "0")
    if not announced.isdigit() or int(announced) > BODY_BYTES_MAX:
        raise _Rejected(too_large)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_ARRIVES_WITHIN_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise _Rejected(problem(400, "the request ended before its body did"))
                body += message.get("body", b"")
                if len(body) > BODY_BYTES_MAX:
                    raise _Rejected(too_large)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        late = problem(408, f"the body did not arrive within {BODY_ARRIVES_WITHIN_S:.0f} s")
        raise _Rejected(late) from None


def _replay(body: bytes, receive: Receive) -> Receive:
    """Give the body once, then whatever the client does (which is: to disconnect)."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if not given:
            given = True
            return {"type": "http.request", "body": body, "more_body": False}
        while (message := await receive())["type"] == "http.request":
            pass
        return message

    return replay


class _Answer:
    """The way out: adds our headers, and knows whether an answer has begun."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._begun = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun = True
            message = {**message, "headers": [*message.get("headers", ()), *HEADERS]}
        await self._send(message)

    async def fail(self, scope: Scope, receive: Receive, response: JSONResponse) -> None:
        """Answer with a problem; where an answer has begun already it can only be cut off."""
        if not self._begun:
            await response(scope, receive, self)
