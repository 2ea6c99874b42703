"""Routes for whoever watches the daemon: liveness, readiness, metrics."""

from fastapi import APIRouter, HTTPException, Request
from starlette.responses import JSONResponse, Response

from reconciler.web import models
from reconciler.web.problems import problem
from reconciler.web.requests import PROBLEMS, Reader, Reconciling, answer

METRICS_MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"

router = APIRouter(responses=PROBLEMS, tags=["health"])


@router.get("/livez", response_model=models.Health)
async def livez() -> JSONResponse:
    """Say that this process answers, and nothing about what it depends on."""
    return answer({"status": "alive", "detail": "reconciler"})


@router.get("/readyz", response_model=models.Health)
async def readyz(reconciler: Reconciling) -> JSONResponse:
    """Say whether the control database is reachable and every source was tried once."""
    ready, why = await reconciler.ready()
    if not ready:
        return problem(503, why, kind="not-ready", headers={"Retry-After": "1"})
    return answer({"status": "ready", "detail": why})


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
async def metrics(request: Request, who: Reader) -> Response:
    """Give all metrics in Prometheus' text format."""
    if not who.sees_all:
        raise HTTPException(403, f"token '{who.name}' is not for all environments, which metrics name")
    return Response(await request.app.state.metrics_text(), media_type=METRICS_MEDIA_TYPE)
