"""Routes of environments: status, dry run, suspend, resume, reconcile, modules."""

import asyncio
import time
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import JSONResponse

from reconciler.errors import TemporaryError
from reconciler.events import DiffServed
from reconciler.plan.encode import to_json as plan_to_json
from reconciler.plan.model import Plan
from reconciler.rollout.status import EnvironmentStatus
from reconciler.web import models
from reconciler.web.requests import (
    PROBLEMS,
    Environment,
    Limit,
    OneDeployment,
    Operator,
    Reader,
    Reconciling,
    answer,
    printable,
)

DIFFS_MAX = 8
"""Dry runs under way at once; each may read whole catalogs."""
DIFF_WAITS_S = 30.0

router = APIRouter(prefix="/v1/environments", responses=PROBLEMS, tags=["environments"])


@router.get("", response_model=models.Environments)
async def list_environments(reconciler: Reconciling, _who: Reader) -> JSONResponse:
    """List all environments: what is desired, applied, live and drifting."""
    return answer({"environments": await reconciler.environments()})


@router.get("/{env}", response_model=EnvironmentStatus)
async def show_environment(reconciler: Reconciling, _who: Reader, env: Environment) -> JSONResponse:
    """Show one environment."""
    return answer(await reconciler.environment(env))


@router.get("/{env}/diff", response_model=models.Diff)
async def diff(
    request: Request,
    reconciler: Reconciling,
    _who: Reader,
    env: Environment,
    ref: Annotated[
        str | None, Query(min_length=1, max_length=255, description="branch, tag or commit; else the head")
    ] = None,
    deployment: OneDeployment = None,
    scope: Annotated[Literal["full", "provision-only"] | None, Query()] = None,
) -> JSONResponse:
    """Say what applying a commit would do, and write nothing."""
    printable(ref, "ref")
    printable(deployment, "deployment")
    began = time.monotonic()
    ok = False
    try:
        plan = await _preview(request, reconciler, env, ref=ref, deployment=deployment, scope=scope)
        ok = True
    finally:
        served = DiffServed(environment=env, duration_s=time.monotonic() - began, ok=ok, ref=ref)
        request.app.state.observe(served)
    return JSONResponse(plan_to_json(plan))


async def _preview(
    request: Request,
    reconciler: Reconciling,
    env: str,
    *,
    ref: str | None,
    deployment: str | None,
    scope: str | None,
) -> Plan:
    slots: asyncio.Semaphore = request.app.state.diff_slots
    try:
        await asyncio.wait_for(slots.acquire(), timeout=DIFF_WAITS_S)
    except TimeoutError:
        raise TemporaryError(f"{DIFFS_MAX} dry runs are under way already") from None
    try:
        return await reconciler.preview(env, ref=ref, deployment=deployment, scope=scope)
    finally:
        slots.release()


@router.post("/{env}/suspend", response_model=EnvironmentStatus)
async def suspend(
    reconciler: Reconciling, who: Operator, env: Environment, body: models.ReasonBody | None = None
) -> JSONResponse:
    """Stop reconciling an environment; what runs goes on to its end."""
    reason = body.reason if body is not None else ""
    await reconciler.suspend(env, reason=reason or f"suspended by {who.name}", requested_by=who.name)
    return answer(await reconciler.environment(env))


@router.post("/{env}/resume", response_model=EnvironmentStatus)
async def resume(
    reconciler: Reconciling, who: Operator, env: Environment, _body: models.NoBody | None = None
) -> JSONResponse:
    """Reconcile a suspended environment again."""
    await reconciler.resume(env, requested_by=who.name)
    return answer(await reconciler.environment(env))


@router.post("/{env}/reconcile", response_model=EnvironmentStatus, status_code=202)
async def reconcile(
    reconciler: Reconciling, who: Operator, env: Environment, _body: models.NoBody | None = None
) -> JSONResponse:
    """Ask for a pass now; it runs after this answer."""
    await reconciler.reconcile(env, requested_by=who.name)
    return answer(await reconciler.environment(env), 202)


@router.get("/{env}/modules", response_model=models.ModuleStatus)
async def modules(
    reconciler: Reconciling, _who: Reader, env: Environment, deployment: OneDeployment = None
) -> JSONResponse:
    """Per deployment and module: what is deployed, pending and diverged."""
    return answer(await reconciler.module_status(env, deployment=printable(deployment, "deployment")))


@router.get("/{env}/modules/log", response_model=models.ModuleLog)
async def module_log(
    reconciler: Reconciling,
    _who: Reader,
    env: Environment,
    deployment: OneDeployment = None,
    limit: Limit = 100,
) -> JSONResponse:
    """Per deployment and database: what was deployed and what failed, newest first."""
    where = printable(deployment, "deployment")
    return answer(await reconciler.module_log(env, deployment=where, limit=limit))
