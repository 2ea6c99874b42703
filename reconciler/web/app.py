"""The HTTP API as an application: puts the guard, the routes and the problem details together.

Routes translate and nothing else: each calls one coroutine of the reconciler.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.responses import Response

from reconciler import __version__
from reconciler.errors import ReconcilerError, Refused
from reconciler.events import Event
from reconciler.web import environments, event_stream, health, rollouts
from reconciler.web.access import Token, is_loopback_name
from reconciler.web.guard import Guard
from reconciler.web.problems import of_error, problem
from reconciler.web.service import Service

PROBLEMS_SHOWN_MAX = 50


def create_app(
    reconciler: Service,
    *,
    metrics_text: Callable[[], Awaitable[bytes]],
    tokens: Sequence[Token] = (),
    listen_host: str = "127.0.0.1",
    observe: Callable[[Event], None] = lambda _event: None,
    stopping: asyncio.Event | None = None,
) -> FastAPI:
    """Build the application.

    Without tokens it may listen on loopback only; that is checked here as well as on each request.
    Streams end when `stopping` is set.
    """
    if not tokens and not is_loopback_name(listen_host):
        raise Refused(
            f"the API may not listen on '{listen_host}' without tokens",
            hint="configure tokens, or listen on 127.0.0.1",
        )
    app = FastAPI(
        title="pg-reconciler",
        version=__version__,
        summary="Environments around PostgreSQL, reconciled from Git",
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
        redirect_slashes=False,
        middleware=[Middleware(Guard, tokens=tokens, observe=observe)],
    )
    app.state.service = reconciler
    app.state.metrics_text = metrics_text
    app.state.observe = observe
    app.state.stopping = stopping if stopping is not None else asyncio.Event()
    app.state.diff_slots = asyncio.Semaphore(environments.DIFFS_MAX)
    app.state.streams = set()
    for router in (environments.router, rollouts.router, event_stream.router, health.router):
        app.include_router(router)
    app.add_exception_handler(ReconcilerError, _reconciler_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _invalid)
    return app


async def _reconciler_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, ReconcilerError)
    return of_error(error)


async def _http_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    said = error.detail if error.detail != HTTPStatus(error.status_code).phrase else None
    known = {404: "there is nothing at this path", 405: "this path does not take this method"}
    return problem(
        error.status_code,
        said or known.get(error.status_code, "the request failed"),
        headers=error.headers,
    )


async def _invalid(_request: Request, error: Exception) -> Response:
    """Say what is wrong with the input and where; what was sent is not repeated."""
    assert isinstance(error, RequestValidationError)
    found = [_invalid_row(item) for item in error.errors()[:PROBLEMS_SHOWN_MAX]]
    detail = "; ".join(f"{item['path']}: {item['message']}" for item in found)
    return problem(422, detail, problems=found)


def _invalid_row(item: dict[str, Any]) -> dict[str, str]:
    return {"path": ".".join(str(part) for part in item["loc"]), "message": str(item["msg"]).lower()}
