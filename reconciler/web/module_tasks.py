"""Routes that deploy, revert and adopt change modules by hand: each records a rollout, or shows its plan."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import Field
from starlette.responses import JSONResponse

from reconciler.errors import InvalidInput, Problem
from reconciler.plan.encode import to_json as plan_to_json
from reconciler.rollout.status import RolloutStatus
from reconciler.state.registry import RegistryKind
from reconciler.state.task import ModuleTask, TaskVerb
from reconciler.web import models
from reconciler.web.access import Caller
from reconciler.web.requests import (
    PROBLEMS,
    WITH_BODY,
    Environment,
    Operator,
    Reader,
    Reconciling,
    answer,
    name_of,
)
from reconciler.web.service import Service

Target = Annotated[str, Field(min_length=1, max_length=1024, pattern=models.PRINTABLE)]


class _TaskBody(models.Body):
    """What deploys and reverts have in common."""

    deployment: models.DeploymentName | None = None
    reason: models.Reason = ""
    allow_hazards: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=32)] = Field([])


class DeployModulesBody(_TaskBody):
    """How to deploy all modules."""

    log_only: bool = Field(False, description="record the changes as deployed, and run nothing")
    createdb: bool = Field(False, description="make databases of the modules that are not there")


class DeployModuleBody(DeployModulesBody):
    """How far to deploy a module, and how."""

    to: Target | None = Field(
        None, description="change or tag to deploy to; left out: as far as the spec says"
    )


class RevertModuleBody(_TaskBody):
    """How far to take a module back; left out: the last change."""

    to: Target | None = Field(None, description="change or tag that stays deployed, and all before it")
    all: bool = Field(False, description="take back everything")
    with_dependents: bool = Field(
        False, description="take back first what requires it in other modules, instead of refusing"
    )


class AdoptBody(_TaskBody):
    """Whose registry to take over."""

    adopt_from: Literal["sqitch", "pgpm"] = Field(description="the tool whose registry says what is deployed")
    registry: Annotated[str, Field(min_length=1, max_length=63, pattern=models.PRINTABLE)] | None = Field(
        None, description="schema of the registry; left out: where the tool keeps it"
    )


async def _module(
    module: Annotated[str, Path(min_length=1, description="the module's component, or its project")],
) -> str:
    return name_of(module)


Module = Annotated[str, Depends(_module)]
_NOTHING: dict[int | str, dict[str, Any]] = {
    200: {"model": models.Applied, "description": "there was nothing to do"}
}

router = APIRouter(prefix="/v1/environments", responses=PROBLEMS, tags=["modules"])


@router.post(
    "/{env}/modules/deploy",
    response_model=models.Applied,
    status_code=201,
    responses=_NOTHING,
    openapi_extra=WITH_BODY,
)
async def deploy_all(
    reconciler: Reconciling, who: Operator, env: Environment, body: DeployModulesBody | None = None
) -> JSONResponse:
    """Deploy all modules of an environment, and nothing else of it."""
    asked = body if body is not None else DeployModulesBody()
    return await _run(reconciler, who, env, _deploy(None, asked), asked)


@router.post("/{env}/modules/deploy/plan", response_model=models.Diff, openapi_extra=WITH_BODY)
async def plan_deploy_all(
    reconciler: Reconciling, _who: Reader, env: Environment, body: DeployModulesBody | None = None
) -> JSONResponse:
    """Say what deploying all modules would do, and write nothing."""
    asked = body if body is not None else DeployModulesBody()
    return await _show(reconciler, env, _deploy(None, asked), asked)


@router.post(
    "/{env}/modules/{module}/deploy",
    response_model=models.Applied,
    status_code=201,
    responses=_NOTHING,
    openapi_extra=WITH_BODY,
)
async def deploy(
    reconciler: Reconciling,
    who: Operator,
    env: Environment,
    module: Module,
    body: DeployModuleBody | None = None,
) -> JSONResponse:
    """Deploy one module, and nothing else of the environment."""
    asked = body if body is not None else DeployModuleBody()
    return await _run(reconciler, who, env, _deploy(module, asked), asked)


@router.post("/{env}/modules/{module}/deploy/plan", response_model=models.Diff, openapi_extra=WITH_BODY)
async def plan_deploy(
    reconciler: Reconciling,
    _who: Reader,
    env: Environment,
    module: Module,
    body: DeployModuleBody | None = None,
) -> JSONResponse:
    """Say what deploying one module would do, and write nothing."""
    asked = body if body is not None else DeployModuleBody()
    return await _show(reconciler, env, _deploy(module, asked), asked)


@router.post(
    "/{env}/modules/{module}/revert",
    response_model=models.Applied,
    status_code=201,
    responses=_NOTHING,
    openapi_extra=WITH_BODY,
)
async def revert(
    reconciler: Reconciling,
    who: Operator,
    env: Environment,
    module: Module,
    body: RevertModuleBody | None = None,
) -> JSONResponse:
    """Take deployed changes of a module back, the newest first."""
    asked = body if body is not None else RevertModuleBody()
    return await _run(reconciler, who, env, _revert(module, asked), asked)


@router.post("/{env}/modules/{module}/revert/plan", response_model=models.Diff, openapi_extra=WITH_BODY)
async def plan_revert(
    reconciler: Reconciling,
    _who: Reader,
    env: Environment,
    module: Module,
    body: RevertModuleBody | None = None,
) -> JSONResponse:
    """Say what taking a module back would do, and write nothing."""
    asked = body if body is not None else RevertModuleBody()
    return await _show(reconciler, env, _revert(module, asked), asked)


@router.post(
    "/{env}/modules/adopt",
    response_model=models.Applied,
    status_code=201,
    responses=_NOTHING,
    openapi_extra=WITH_BODY,
)
async def adopt_all(
    reconciler: Reconciling, who: Operator, env: Environment, body: AdoptBody
) -> JSONResponse:
    """Record as deployed what another tool's registry has of all modules."""
    return await _run(reconciler, who, env, _adopt(None, body), body)


@router.post("/{env}/modules/adopt/plan", response_model=models.Diff, openapi_extra=WITH_BODY)
async def plan_adopt_all(
    reconciler: Reconciling, _who: Reader, env: Environment, body: AdoptBody
) -> JSONResponse:
    """Say what taking all modules over would record, and write nothing."""
    return await _show(reconciler, env, _adopt(None, body), body)


@router.post(
    "/{env}/modules/{module}/adopt",
    response_model=models.Applied,
    status_code=201,
    responses=_NOTHING,
    openapi_extra=WITH_BODY,
)
async def adopt(
    reconciler: Reconciling, who: Operator, env: Environment, module: Module, body: AdoptBody
) -> JSONResponse:
    """Record as deployed what another tool's registry has of a module."""
    return await _run(reconciler, who, env, _adopt(module, body), body)


@router.post("/{env}/modules/{module}/adopt/plan", response_model=models.Diff, openapi_extra=WITH_BODY)
async def plan_adopt(
    reconciler: Reconciling, _who: Reader, env: Environment, module: Module, body: AdoptBody
) -> JSONResponse:
    """Say what taking a module over would record, and write nothing."""
    return await _show(reconciler, env, _adopt(module, body), body)


def _adopt(module: str | None, asked: AdoptBody) -> ModuleTask:
    return ModuleTask(
        verb=TaskVerb.ADOPT, module=module, adopt_from=RegistryKind(asked.adopt_from), registry=asked.registry
    )


def _deploy(module: str | None, asked: DeployModulesBody) -> ModuleTask:
    to = asked.to if isinstance(asked, DeployModuleBody) else None
    return ModuleTask(
        verb=TaskVerb.DEPLOY, module=module, to=to, log_only=asked.log_only, createdb=asked.createdb
    )


def _revert(module: str, asked: RevertModuleBody) -> ModuleTask:
    if asked.all and asked.to is not None:
        raise InvalidInput([Problem(path="all", message="either everything goes, or `to` says what stays")])
    return ModuleTask(
        verb=TaskVerb.REVERT,
        module=module,
        to=asked.to,
        everything=asked.all,
        with_dependents=asked.with_dependents,
    )


async def _run(
    reconciler: Service, who: Caller, env: str, task: ModuleTask, asked: _TaskBody
) -> JSONResponse:
    recorded: RolloutStatus | None = await reconciler.run_module(
        env,
        task,
        deployment=asked.deployment,
        reason=asked.reason or f"module {task.verb.value} by {who.name}",
        requested_by=who.name,
        allow_hazards=frozenset(asked.allow_hazards),
    )
    if recorded is None:
        return answer({"rollout": None})
    return answer({"rollout": recorded}, 201, {"Location": f"/v1/rollouts/{recorded.id}"})


async def _show(reconciler: Service, env: str, task: ModuleTask, asked: _TaskBody) -> JSONResponse:
    plan = await reconciler.preview_module(
        env, task, deployment=asked.deployment, allow_hazards=frozenset(asked.allow_hazards)
    )
    return JSONResponse(plan_to_json(plan))
