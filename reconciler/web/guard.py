"""The ASGI layer around every route: who may come in, how much they may send, how long an answer may take.

It is also the boundary of a request: an error nobody expected becomes a problem without internals, is
reported under an id, and the next request is served.
"""

import asyncio
import re
import secrets
import traceback
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum, auto
from typing import Any

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from reconciler import __version__
from reconciler.errors import ReconcilerError
from reconciler.events import CallerRejected, Event, TaskFailed
from reconciler.web.access import LOCAL, Token, authenticate, is_loopback_host, is_own_origin
from reconciler.web.limits import Buckets, RequestLimits, Room
from reconciler.web.problems import of_error, problem, too_many

HEAD_BYTES_MAX = 32 * 1024
BODY_BYTES_MAX = 64 * 1024
SPEC_BYTES_MAX = 1024 * 1024
"""What a spec file in a source may have."""
BODY_ARRIVES_WITHIN_S = 10.0
ANSWER_WITHIN_S = 120.0
JSON_TYPE = "application/json"
YAML_TYPE = "application/yaml"
"""Neither is what a form or a simple request of a page in a browser can send."""
WRITING = "POST"
"""The method of all writes; no path takes another one but to read."""
WEBHOOKS = "/v1/webhooks/"

HEADERS = (
    (b"reconciler-version", __version__.encode()),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)

_POSTED_SPEC = re.compile("/v1/environments/[^/]*/diff")


class Kind(Enum):
    """What a request is, as far as the way in depends on it."""

    HEALTH = auto()
    """Needs no token and is never turned away: it says nothing about any environment."""
    METRICS = auto()
    STREAM = auto()
    """An answer without an end; streams have a limit of their own."""
    READ = auto()
    WRITE = auto()
    SPEC = auto()
    """A write in form only: a spec to plan."""
    WEBHOOK = auto()
    """Its signature is what opens the door; the route checks it before anything is parsed."""


_READ_PATHS = {
    "/livez": Kind.HEALTH,
    "/readyz": Kind.HEALTH,
    "/openapi.json": Kind.HEALTH,
    "/metrics": Kind.METRICS,
    "/v1/events": Kind.STREAM,
}
_BODIES = frozenset({Kind.WRITE, Kind.SPEC, Kind.WEBHOOK})
_UNCOUNTED = frozenset({Kind.HEALTH, Kind.METRICS, Kind.STREAM})


def kind_of(method: str, path: str, *, takes: bool = True) -> Kind:
    """Tell what a request is by its method and its path as it was sent; `takes`: the path takes writes."""
    if method != WRITING or not takes:
        return _READ_PATHS.get(path, Kind.READ)
    if path.startswith(WEBHOOKS):
        return Kind.WEBHOOK
    return Kind.SPEC if _POSTED_SPEC.fullmatch(path) else Kind.WRITE


class _Rejected(Exception):
    def __init__(self, response: JSONResponse) -> None:
        super().__init__()
        self.response = response


class Doorkeeper:
    """Tells callers whose token or signature is wrong that it is; those who come in masses, to wait."""

    def __init__(self, limits: RequestLimits, observe: Callable[[Event], None]) -> None:
        self._failures = Buckets(limits.failures_per_minute)
        self._observe = observe

    def reject(self, scope: Scope, what: str, response: JSONResponse) -> JSONResponse:
        """The answer to a wrong token or signature: the response, or 429. Right ones never wait for this."""
        client = scope.get("client")
        address = str(client[0]) if client else "unknown"
        wait_s = self._failures.take(address)
        self._observe(CallerRejected(what=what, address=address, told=not wait_s))
        return too_many(f"too many wrong {what}s from this address", wait_s) if wait_s else response


class Guard:
    """Wraps the application; without tokens only requests from this machine's own programs pass."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        tokens: Sequence[Token],
        observe: Callable[[Event], None],
        limits: RequestLimits,
        doorkeeper: Doorkeeper,
        takes_writes: Callable[[str], bool],
    ) -> None:
        """`takes_writes(path)` says whether there is anything to write to; elsewhere nothing sent is read."""
        self._app = app
        self._takes_writes = takes_writes
        self._tokens = tuple(tokens)
        self._observe = observe
        self._limits = limits
        self._doorkeeper = doorkeeper
        self._writes = Buckets(limits.writes_per_minute)
        self._requests = Room(limits.in_parallel, "requests")
        self._webhooks = Room(limits.webhooks_in_parallel, "webhooks")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        # Routes match the path as it was sent, so that a name may hold an encoded slash.
        sent = bytes(scope.get("raw_path") or b"").partition(b"?")[0].decode("latin-1")
        scope = {**scope, "path": sent or scope["path"]}
        kind = kind_of(scope["method"], scope["path"], takes=self._takes_writes(scope["path"]))
        answer = _Answer(send)
        try:
            with self._place(kind):
                self._admit(scope, kind)
                body = await _read_body(scope, receive, self._body_bytes(kind)) if kind in _BODIES else b""
                async with asyncio.timeout(None if kind is Kind.STREAM else ANSWER_WITHIN_S):
                    await self._app(scope, _replay(body, receive), answer)
        except _Rejected as rejected:
            await rejected.response(scope, receive, answer)
        except TimeoutError:
            await answer.fail(scope, receive, problem(504, f"no answer within {ANSWER_WITHIN_S:.0f} s"))
        except ReconcilerError as error:
            await answer.fail(scope, receive, of_error(error))
        except Exception as error:  # noqa: BLE001 - the boundary of a request
            await answer.fail(scope, receive, self._report(scope, error))

    def _place(self, kind: Kind) -> AbstractContextManager[None]:
        """Room for the request: webhooks, whose senders nobody knows yet, never take that of callers."""
        if kind in _UNCOUNTED:
            return nullcontext()
        return self._webhooks.place() if kind is Kind.WEBHOOK else self._requests.place()

    def _body_bytes(self, kind: Kind) -> int:
        return {Kind.WEBHOOK: self._limits.webhook_bytes, Kind.SPEC: SPEC_BYTES_MAX}.get(kind, BODY_BYTES_MAX)

    def _admit(self, scope: Scope, kind: Kind) -> None:
        headers = Headers(scope=scope)
        state: MutableMapping[str, Any] = scope.setdefault("state", {})
        _check_head(scope)
        if kind is Kind.WEBHOOK:
            return
        if self._tokens:
            state["caller"] = authenticate(self._tokens, headers.get("authorization"))
            if state["caller"] is None and kind is not Kind.HEALTH:
                raise _Rejected(self._without_token(scope, headers))
        else:
            _admit_local(headers)
            state["caller"] = LOCAL
        if kind in _BODIES:
            _check_type(headers, YAML_TYPE if kind is Kind.SPEC else JSON_TYPE)
            wait_s = self._writes.take(state["caller"].name) if kind is Kind.WRITE else 0
            if wait_s:
                raise _Rejected(too_many("this token writes too often", wait_s))

    def _without_token(self, scope: Scope, headers: Headers) -> JSONResponse:
        wrong = "authorization" in headers
        response = problem(
            401,
            "the token that was sent is none of this API's" if wrong else "this API asks for a bearer token",
            hint="send 'Authorization: Bearer …' with a token of the daemon's settings",
            headers={"WWW-Authenticate": 'Bearer realm="reconciler"'},
        )
        return self._doorkeeper.reject(scope, "token", response) if wrong else response

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


def _check_head(scope: Scope) -> None:
    """Bound the head; the server bounds only one that comes in pieces."""
    size = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
    if size + sum(len(name) + len(value) for name, value in scope["headers"]) > HEAD_BYTES_MAX:
        raise _Rejected(problem(431, f"the head of a request may have {HEAD_BYTES_MAX} bytes"))


def _check_type(headers: Headers, wanted: str) -> None:
    if (headers.get("content-type") or "").partition(";")[0].strip().lower() != wanted:
        raise _Rejected(
            problem(
                415,
                f"this is taken as {wanted} only",
                hint=f"send 'Content-Type: {wanted}', also with an empty body",
            )
        )


async def _read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Read the body of a write whole, within its limits."""
    too_large = problem(413, f"a body may have {limit} bytes here", headers={"Connection": "close"})
    announced = Headers(scope=scope).get("content-length", "0")
    if not (announced.isascii() and announced.isdigit()) or int(announced[:20]) > limit:
        raise _Rejected(too_large)
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_ARRIVES_WITHIN_S):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    raise _Rejected(problem(400, "the request ended before its body did"))
                body += message.get("body", b"")
                if len(body) > limit:
                    raise _Rejected(too_large)
                if not message.get("more_body", False):
                    return bytes(body)
    except TimeoutError:
        late = problem(
            408,
            f"the body did not arrive within {BODY_ARRIVES_WITHIN_S:.0f} s",
            headers={"Connection": "close"},
        )
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
