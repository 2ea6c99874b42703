"""What routes take from a request: names, roles, and JSON answers; shared by all of them."""

from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Depends, HTTPException, Path, Query, Request
from starlette.responses import JSONResponse

from reconciler.errors import NotFound
from reconciler.web.access import Caller, Role
from reconciler.web.models import ProblemDetails
from reconciler.web.problems import MEDIA_TYPE
from reconciler.web.service import Service
from reconciler.web.values import to_json

NAME_CHARACTERS_MAX = 255

PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {MEDIA_TYPE: {"schema": ProblemDetails.model_json_schema()}}}
    for status, text in (
        (401, "a token is needed"),
        (403, "the token may not do this"),
        (404, "there is no such thing"),
        (409, "it contradicts what is there, or a rule of safety forbids it"),
        (415, "writes are taken as JSON only"),
        (422, "the input is wrong"),
        (503, "not possible now"),
    )
}


def service(request: Request) -> Service:
    """The facade of this application."""
    found: Service = request.app.state.service
    return found


def caller(request: Request) -> Caller:
    """Who asks; the guard has let nobody else through."""
    found: Caller | None = request.scope["state"].get("caller")
    if found is None:
        raise HTTPException(401, "a token is needed")
    return found


def at_least(role: Role) -> Callable[[Request], Caller]:
    """A dependency that gives the caller, or answers 403 where the caller's role is too small."""

    def check(request: Request) -> Caller:
        who = caller(request)
        if who.role < role:
            raise HTTPException(
                403, f"token '{who.name}' has the role {who.role.name.lower()}; {role.name.lower()} is needed"
            )
        return who

    return check


def name_of(sent: str) -> str:
    """A name as it stood percent-encoded in the path; one that cannot exist is not found."""
    try:
        name = unquote(sent, errors="strict")
    except UnicodeDecodeError:
        raise NotFound("the name in the path is not UTF-8 text") from None
    if not name or len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
        raise NotFound("no environment or rollout can have such a name")
    return name


def printable(value: str | None, what: str) -> str | None:
    """A value of the query that ends up in messages and look-ups."""
    if value is not None and not value.isprintable():
        raise HTTPException(422, f"{what} holds characters that cannot be shown")
    return value


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    """A JSON answer of view values."""
    return JSONResponse(to_json(value), status_code=status, headers=headers)


def _environment(env: Annotated[str, Path(description="the environment's name, percent-encoded")]) -> str:
    return name_of(env)


def _rollout(rollout: Annotated[str, Path(description="the rollout's id")]) -> str:
    return name_of(rollout)


Reconciling = Annotated[Service, Depends(service)]
Environment = Annotated[str, Depends(_environment)]
RolloutId = Annotated[str, Depends(_rollout)]
Limit = Annotated[int, Query(ge=1, le=500, description="rows at most")]
After = Annotated[int, Query(ge=0, le=2**63 - 1, description="only events with a greater id")]
OneDeployment = Annotated[
    str | None, Query(min_length=1, max_length=NAME_CHARACTERS_MAX, description="only this deployment")
]
Reader = Annotated[Caller, Depends(at_least(Role.READ))]
Provisioner = Annotated[Caller, Depends(at_least(Role.PROVISION))]
Operator = Annotated[Caller, Depends(at_least(Role.OPERATE))]
