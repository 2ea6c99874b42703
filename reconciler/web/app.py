"""The HTTP API as an application: puts the guard, the routes and the problem details together.

Routes translate and nothing else: each calls one coroutine of the reconciler.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response
from starlette.routing import Match
from typing_extensions import override

from reconciler import __version__
from reconciler.errors import NotFound, ReconcilerError, Refused
from reconciler.events import Event
from reconciler.web import environments, event_stream, health, module_looks, module_tasks, rollouts, webhooks
from reconciler.web.access import Token, check_tokens, is_loopback_name
from reconciler.web.guard import WRITING, Doorkeeper, Guard
from reconciler.web.limits import RequestLimits, Turns
from reconciler.web.models import ProblemDetails
from reconciler.web.problems import of_error, problem
from reconciler.web.requests import PROBLEM_SCHEMA
from reconciler.web.service import Service
from reconciler.web.webhooks import Webhook, check_webhooks

PROBLEMS_SHOWN_MAX = 50
ROUTERS = (
    environments.router,
    module_looks.router,
    module_tasks.router,
    rollouts.router,
    event_stream.router,
    webhooks.router,
    health.router,
)


_WRITES = tuple(
    route.path_regex
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute) and WRITING in (route.methods or ())
)


def _takes_writes(path: str) -> bool:
    return any(pattern.match(path) for pattern in _WRITES)


class _Api(FastAPI):
    """Describes itself with the shape of its errors, which no route names as its answer."""

    @override
    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            schemas = super().openapi()["components"]["schemas"]
            schemas[PROBLEM_SCHEMA] = ProblemDetails.model_json_schema()
        assert self.openapi_schema is not None
        return self.openapi_schema


def create_app(
    reconciler: Service,
    *,
    metrics_text: Callable[[], Awaitable[bytes]],
    tokens: Sequence[Token] = (),
    webhooks: Sequence[Webhook] = (),
    limits: RequestLimits | None = None,
    listen_host: str = "127.0.0.1",
    observe: Callable[[Event], None] = lambda _event: None,
    stopping: asyncio.Event | None = None,
) -> FastAPI:
    """Build the application.

    Without tokens it may listen on loopback only; that is checked here as well as on each request.
    Streams end when `stopping` is set.
    """
    check_access(tokens, webhooks, listen_host)
    bounds = limits if limits is not None else RequestLimits()
    doorkeeper = Doorkeeper(bounds, observe)
    guard = Middleware(
        Guard,
        tokens=tokens,
        observe=observe,
        limits=bounds,
        doorkeeper=doorkeeper,
        takes_writes=_takes_writes,
    )
    app = _Api(
        title="pg-reconciler",
        version=__version__,
        summary="Environments around PostgreSQL, reconciled from Git",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        middleware=[guard],
    )
    app.state.service = reconciler
    app.state.metrics_text = metrics_text
    app.state.webhooks = {webhook.source: webhook for webhook in webhooks}
    app.state.doorkeeper = doorkeeper
    app.state.observe = observe
    app.state.stopping = stopping if stopping is not None else asyncio.Event()
    app.state.dry_runs = Turns(
        at_once=bounds.dry_runs_in_parallel,
        waiting=bounds.dry_runs_waiting,
        waits_s=bounds.dry_run_waits_s,
        what="dry runs",
    )
    app.state.streams = set()
    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(ReconcilerError, _reconciler_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    return app


def check_access(tokens: Sequence[Token], webhooks: Sequence[Webhook], listen_host: str) -> None:
    """Refuse what would let strangers in. Raises Refused."""
    if not tokens and not is_loopback_name(listen_host):
        raise Refused(
            f"the API may not listen on '{listen_host}' without tokens",
            hint="configure tokens, or listen on 127.0.0.1",
        )
    check_tokens(tokens)
    check_webhooks(tuple(webhooks))


async def _reconciler_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ReconcilerError)
    caller = request.scope["state"].get("caller")
    if isinstance(error, NotFound) and caller is not None and not caller.sees_all:
        # Hints name what is there instead, which may not be there for this caller.
        return of_error(NotFound(error.message))
    return of_error(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = error.detail if error.detail != HTTPStatus(error.status_code).phrase else None
    known = {404: "there is nothing at this path", 405: "this path does not take this method"}
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = ", ".join(_methods(request))
    return problem(
        error.status_code,
        said or known.get(error.status_code, "the request failed"),
        headers=headers,
    )


def _methods(request: Request) -> list[str]:
    """The methods that the path of a request takes, over all routes: each of them knows its own only."""
    found: set[str] = set()
    for route in (*request.app.routes, *(route for router in ROUTERS for route in router.routes)):
        match, _scope = route.matches(request.scope)
        if match is not Match.NONE:
            found |= getattr(route, "methods", None) or set()
    return sorted(found)


async def _invalid(_request: Request, error: Exception) -> Response:
    """Say what is wrong with the input and where; what was sent is not repeated."""
    assert isinstance(error, RequestValidationError)
    found = [_invalid_row(item) for item in error.errors()[:PROBLEMS_SHOWN_MAX]]
    detail = "; ".join(f"{item['path']}: {item['message']}" for item in found)
    return problem(422, detail, problems=found)


def _invalid_row(item: dict[str, Any]) -> dict[str, str]:
    return {"path": ".".join(str(part) for part in item["loc"]), "message": str(item["msg"]).lower()}
