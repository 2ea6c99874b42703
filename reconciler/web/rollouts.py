"""Routes of rollouts: record one, list them, show one, and what operators ask of one."""

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path
from starlette.responses import JSONResponse

from reconciler.errors import NotFound
from reconciler.plan.model import ObjectsAsked
from reconciler.rollout.status import RequestStatus, RolloutStatus
from reconciler.rollout.verbs import RequestVerb
from reconciler.web import models
from reconciler.web.access import Caller, Role
from reconciler.web.requests import (
    PROBLEMS,
    WITH_BODY,
    Environment,
    Limit,
    Operator,
    Provisioner,
    Reader,
    Reconciling,
    RolloutId,
    answer,
    no_rollout,
)
from reconciler.web.service import Service

VERBS = tuple(verb.value for verb in RequestVerb)
"""What may be asked of a rollout."""

router = APIRouter(prefix="/v1", responses=PROBLEMS, tags=["rollouts"])


@router.post(
    "/environments/{env}/rollouts",
    response_model=models.Applied,
    status_code=201,
    responses={200: {"model": models.Applied, "description": "there was nothing to do"}},
    openapi_extra=WITH_BODY,
)
async def apply(
    reconciler: Reconciling, who: Provisioner, env: Environment, body: models.RolloutBody | None = None
) -> JSONResponse:
    """Record one rollout now, held or not; workers carry it out after this answer."""
    asked = body if body is not None else models.RolloutBody()
    _may_apply(who, asked)
    recorded = await reconciler.apply(
        env,
        ref=asked.ref,
        deployment=asked.deployment,
        scope=asked.scope,
        reason=asked.reason,
        requested_by=who.name,
        allow_hazards=frozenset(asked.allow_hazards),
        objects=ObjectsAsked(redeploy=frozenset(asked.redeploy_schemas), keep_failed=asked.keep_failed),
    )
    if recorded is None:
        return answer({"rollout": None})
    return answer({"rollout": recorded}, 201, {"Location": f"/v1/rollouts/{recorded.id}"})


def _may_apply(who: Caller, asked: models.RolloutBody) -> None:
    """A provisioner applies provision-only plans without consent to hazards; more takes an operator."""
    if who.role >= Role.OPERATE:
        return
    more = asked.allow_hazards or asked.redeploy_schemas or asked.keep_failed
    if asked.scope != "provision-only" or more:
        raise HTTPException(
            403, f"token '{who.name}' has the role provision: it may apply provision-only, without hazards"
        )


@router.get("/environments/{env}/rollouts", response_model=models.Rollouts)
async def history(reconciler: Reconciling, _who: Reader, env: Environment, limit: Limit = 20) -> JSONResponse:
    """List the latest rollouts of an environment, newest first."""
    return answer({"rollouts": await reconciler.rollouts(env, limit=limit)})


@router.get("/rollouts/{rollout}", response_model=RolloutStatus)
async def show(reconciler: Reconciling, who: Reader, rollout: RolloutId) -> JSONResponse:
    """Show one rollout with its operations and steps."""
    return answer(await _seen(reconciler, who, rollout))


async def _seen(reconciler: Service, who: Caller, rollout: str) -> RolloutStatus:
    """A rollout, if it is there for the caller."""
    if who.sees_all:
        return await reconciler.rollout(rollout)
    try:
        found = await reconciler.rollout(rollout)
    except NotFound:
        raise no_rollout(rollout) from None
    if not who.sees(found.environment):
        raise no_rollout(rollout)
    return found


@router.post(
    "/rollouts/{rollout}/{verb}", response_model=RequestStatus, status_code=202, openapi_extra=WITH_BODY
)
async def request(
    reconciler: Reconciling,
    who: Operator,
    rollout: RolloutId,
    verb: Annotated[str, Path(json_schema_extra={"enum": list(VERBS)})],
    body: models.VerbBody | None = None,
) -> JSONResponse:
    """Ask something of a rollout; it is recorded before this answer.

    `pending`: a worker carries it out at the next safe point. `already`: the same was asked before and waits.
    """
    if verb not in VERBS:
        raise NotFound("no such verb", hint=f"possible: {', '.join(VERBS)}")
    if not who.sees_all:
        await _seen(reconciler, who, rollout)
    asked = body if body is not None else models.VerbBody()
    return answer(
        await reconciler.request(
            rollout,
            verb,
            deployment=asked.deployment,
            requested_by=who.name,
            reason=asked.reason,
            digest=asked.digest,
        ),
        202,
    )
