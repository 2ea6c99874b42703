"""Routes of environments: status, dry run, suspend, resume, reconcile, forget, modules."""

import time
from typing import Annotated, Literal

from fastapi import APIRouter, Query, Request
from pydantic import StringConstraints
from starlette.responses import JSONResponse

from reconciler.events import DiffServed
from reconciler.frozen import frozen
from reconciler.plan.encode import to_json as plan_to_json
from reconciler.rollout.status import EnvironmentStatus
from reconciler.web import models
from reconciler.web.guard import SPEC_BYTES_MAX, YAML_TYPE
from reconciler.web.limits import Turns
from reconciler.web.requests import (
    PROBLEMS,
    WITH_BODY,
    Admin,
    Environment,
    OneDeployment,
    Operator,
    Reader,
    Reconciling,
    answer,
)
from reconciler.web.service import Service

Ref = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=255,
        pattern=models.PRINTABLE,
        description="branch, tag or commit; else the head",
    ),
]
Redeploy = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=models.PRINTABLE)]] | None,
    Query(max_length=models.SCHEMAS_MAX, description="schemas of SQL objects to be built anew in any case"),
]
Databases = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=255, pattern=models.PRINTABLE)]] | None,
    Query(max_length=models.SCHEMAS_MAX, description="databases that would go too, by component or name"),
]
OneScope = Annotated[Literal["full", "provision-only"] | None, Query()]
SPEC_BODY = {
    "requestBody": {
        "description": f"The spec of the environment, as it would stand in its file; {SPEC_BYTES_MAX} bytes.",
        "required": True,
        "content": {
            YAML_TYPE: {
                "schema": {
                    "type": "object",
                    "required": ["apiVersion", "kind", "metadata", "spec"],
                    "properties": {
                        "apiVersion": {"const": "reconciler/v1"},
                        "kind": {"const": "Environment"},
                        "metadata": {"type": "object"},
                        "spec": {"type": "object"},
                    },
                    "additionalProperties": False,
                }
            }
        },
    }
}

router = APIRouter(prefix="/v1/environments", responses=PROBLEMS, tags=["environments"])


@router.get("", response_model=models.Environments)
async def list_environments(reconciler: Reconciling, who: Reader) -> JSONResponse:
    """List all environments that the token is for: what is desired, applied, live and drifting."""
    found = await reconciler.environments()
    return answer({"environments": [status for status in found if who.sees(status.name)]})


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
    ref: Ref = None,
    deployment: OneDeployment = None,
    scope: OneScope = None,
    redeploy_schemas: Redeploy = None,
) -> JSONResponse:
    """Say what applying a commit would do, and write nothing."""
    named = frozenset(redeploy_schemas or ())
    asked = _Asked(name=env, ref=ref, deployment=deployment, scope=scope, redeploy=named)
    return await _preview(request, reconciler, asked)


@router.post("/{env}/diff", response_model=models.Diff, openapi_extra=SPEC_BODY)
async def diff_of_spec(
    request: Request,
    reconciler: Reconciling,
    _who: Reader,
    env: Environment,
    ref: Ref = None,
    deployment: OneDeployment = None,
    scope: OneScope = None,
) -> JSONResponse:
    """Say what applying a commit would do if this spec stood in it, and write nothing.

    It connects only through references that the environment's spec has at the head of its source.
    """
    asked = _Asked(name=env, ref=ref, deployment=deployment, scope=scope, spec=await request.body())
    return await _preview(request, reconciler, asked)


@frozen
class _Asked:
    """What a dry run is asked for."""

    name: str
    ref: str | None
    deployment: str | None
    scope: str | None
    spec: bytes | None = None
    redeploy: frozenset[str] = frozenset()


async def _preview(request: Request, reconciler: Service, asked: _Asked) -> JSONResponse:
    turns: Turns = request.app.state.dry_runs
    began = time.monotonic()
    ok = False
    try:
        async with turns.turn():
            plan = await reconciler.preview(
                asked.name,
                ref=asked.ref,
                deployment=asked.deployment,
                scope=asked.scope,
                posted=asked.spec,
                redeploy=asked.redeploy,
            )
        ok = True
    finally:
        served = DiffServed(environment=asked.name, duration_s=time.monotonic() - began, ok=ok, ref=asked.ref)
        request.app.state.observe(served)
    return JSONResponse(plan_to_json(plan))


@router.post("/{env}/forget", response_model=EnvironmentStatus, openapi_extra=WITH_BODY)
async def forget(
    reconciler: Reconciling, who: Operator, env: Environment, body: models.ForgetBody
) -> JSONResponse:
    """Stop telling of a deployment that left the spec; its databases stay as they are."""
    await reconciler.forget(env, body.deployment, reason=body.reason, requested_by=who.name)
    return answer(await reconciler.environment(env))


@router.post("/{env}/suspend", response_model=EnvironmentStatus, openapi_extra=WITH_BODY)
async def suspend(
    reconciler: Reconciling, who: Operator, env: Environment, body: models.ReasonBody | None = None
) -> JSONResponse:
    """Stop reconciling an environment; what runs goes on to its end."""
    reason = body.reason if body is not None else ""
    await reconciler.suspend(env, reason=reason or f"suspended by {who.name}", requested_by=who.name)
    return answer(await reconciler.environment(env))


@router.post("/{env}/resume", response_model=EnvironmentStatus, openapi_extra=WITH_BODY)
async def resume(
    reconciler: Reconciling, who: Operator, env: Environment, _body: models.NoBody | None = None
) -> JSONResponse:
    """Reconcile a suspended environment again."""
    await reconciler.resume(env, requested_by=who.name)
    return answer(await reconciler.environment(env))


@router.post("/{env}/stop", response_model=EnvironmentStatus, status_code=202, openapi_extra=WITH_BODY)
async def stop(
    reconciler: Reconciling, who: Operator, env: Environment, body: models.ReasonBody | None = None
) -> JSONResponse:
    """Want the services and routes of an environment off; the next rollout ends them."""
    reason = body.reason if body is not None else ""
    await reconciler.stop(env, reason=reason, requested_by=who.name)
    return answer(await reconciler.environment(env), 202)


@router.post("/{env}/start", response_model=EnvironmentStatus, status_code=202, openapi_extra=WITH_BODY)
async def start(
    reconciler: Reconciling, who: Operator, env: Environment, body: models.ReasonBody | None = None
) -> JSONResponse:
    """Want them on again; the next rollout starts them."""
    reason = body.reason if body is not None else ""
    await reconciler.start(env, reason=reason, requested_by=who.name)
    return answer(await reconciler.environment(env), 202)


@router.get("/{env}/outputs", response_model=models.Outputs)
async def outputs(
    reconciler: Reconciling, _who: Reader, env: Environment, deployment: OneDeployment = None
) -> JSONResponse:
    """List what databases, services and jobs put out; sensitive values are told to nobody."""
    return answer({"outputs": await reconciler.outputs(env, deployment=deployment)})


@router.get("/{env}/jobs", response_model=models.Jobs)
async def jobs(reconciler: Reconciling, _who: Reader, env: Environment) -> JSONResponse:
    """List the jobs that ran or have a schedule, with their last runs and when they run next."""
    return answer({"jobs": await reconciler.jobs(env)})


@router.get("/{env}/removal", response_model=models.Diff)
async def removal(
    request: Request, reconciler: Reconciling, _who: Reader, env: Environment, databases: Databases = None
) -> JSONResponse:
    """Say what removing an environment that left its source would do, and write nothing."""
    turns: Turns = request.app.state.dry_runs
    async with turns.turn():
        return JSONResponse(plan_to_json(await reconciler.preview_removal(env, databases or ())))


@router.post(
    "/{env}/remove",
    response_model=models.Applied,
    status_code=201,
    responses={200: {"model": models.Applied, "description": "nothing was left to remove"}},
    openapi_extra=WITH_BODY,
)
async def remove(
    reconciler: Reconciling, who: Admin, env: Environment, body: models.RemovalBody | None = None
) -> JSONResponse:
    """Remove what an environment that left its source deployed; databases stay unless they are named."""
    asked = body if body is not None else models.RemovalBody()
    reason = asked.reason or f"removed by {who.name}"
    recorded = await reconciler.remove(env, asked.databases, reason=reason, requested_by=who.name)
    if recorded is None:
        return answer({"rollout": None})
    return answer({"rollout": recorded}, 201, {"Location": f"/v1/rollouts/{recorded.id}"})


@router.post("/{env}/reconcile", response_model=EnvironmentStatus, status_code=202, openapi_extra=WITH_BODY)
async def reconcile(
    reconciler: Reconciling, who: Operator, env: Environment, _body: models.NoBody | None = None
) -> JSONResponse:
    """Ask for a pass now; it runs after this answer."""
    await reconciler.reconcile(env, requested_by=who.name)
    return answer(await reconciler.environment(env), 202)
