"""Routes that tell of change modules: what is deployed, what was done, and whether it verifies."""

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import JSONResponse

from reconciler.state.module_requests import LogRequest, VerifyRequest
from reconciler.web import models
from reconciler.web.requests import (
    NAME_CHARACTERS_MAX,
    PROBLEMS,
    WITH_BODY,
    Environment,
    Limit,
    OneDeployment,
    Operator,
    Reader,
    Reconciling,
    answer,
)

OneModule = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=NAME_CHARACTERS_MAX,
        pattern=models.PRINTABLE,
        description="only this module: its component, or its project",
    ),
]
OneChange = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=NAME_CHARACTERS_MAX,
        pattern=models.PRINTABLE,
        description="only this change, with its older instances",
    ),
]
OneKind = Annotated[models.ModuleEventKind | None, Query(description="only events of this kind")]

router = APIRouter(prefix="/v1/environments", responses=PROBLEMS, tags=["modules"])


@router.get("/{env}/modules", response_model=models.ModuleStatus)
async def modules(
    reconciler: Reconciling,
    _who: Reader,
    env: Environment,
    deployment: OneDeployment = None,
    module: OneModule = None,
) -> JSONResponse:
    """Per deployment and module: what is deployed, pending and diverged."""
    return answer(await reconciler.module_status(env, deployment=deployment, module=module))


@router.get("/{env}/modules/log", response_model=models.ModuleLog)
async def module_log(
    reconciler: Reconciling,
    _who: Reader,
    env: Environment,
    deployment: OneDeployment = None,
    module: OneModule = None,
    change: OneChange = None,
    kind: OneKind = None,
    limit: Limit = 100,
) -> JSONResponse:
    """Per deployment and database: what was deployed and what failed, newest first."""
    request = LogRequest(module=module, change=change, kind=kind, limit=limit)
    return answer(await reconciler.module_log(env, request, deployment=deployment))


@router.post("/{env}/modules/verify", response_model=models.ModuleVerify, openapi_extra=WITH_BODY)
async def module_verify(
    reconciler: Reconciling, _who: Operator, env: Environment, body: models.VerifyModulesBody | None = None
) -> JSONResponse:
    """Run the verify scripts of what is deployed; nothing is changed, and every failure is told.

    It needs the role operate: it runs the SQL of the source against the databases, and takes their time.
    """
    asked = body if body is not None else models.VerifyModulesBody()
    request = VerifyRequest(module=asked.module, first=asked.first, last=asked.to)
    return answer(await reconciler.module_verify(env, request, deployment=asked.deployment))
