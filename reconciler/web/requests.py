"""What routes take from a request: names, roles, and JSON answers; shared by all of them.

Dependencies are coroutines although they wait for nothing: others are run in threads, which there are few of.
"""

from typing import Annotated, Any
from urllib.parse import unquote

from fastapi import Depends, HTTPException, Path, Query, Request, Security
from fastapi.security import HTTPBearer
from starlette.responses import JSONResponse

from reconciler.errors import NotFound
from reconciler.web.access import Caller, Role
from reconciler.web.models import PRINTABLE
from reconciler.web.problems import MEDIA_TYPE
from reconciler.web.service import Service
from reconciler.web.values import to_json

NAME_CHARACTERS_MAX = 255

PROBLEM_SCHEMA = "ProblemDetails"
PROBLEMS: dict[int | str, dict[str, Any]] = {
    status: {
        "description": text,
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{PROBLEM_SCHEMA}"}}},
    }
    for status, text in (
        (400, "the request cannot be understood"),
        (401, "a token is needed, or a right signature"),
        (403, "the token may not do this; the detail names the role that is needed"),
        (404, "there is no such thing, or the token is not for it"),
        (405, "the path does not take this method; `Allow` names those it takes"),
        (408, "the body took too long to arrive"),
        (409, "it contradicts what is there, or a rule of safety forbids it"),
        (413, "the body is too large"),
        (415, "the body is not of the type that is taken"),
        (421, "without tokens: the Host is not this machine"),
        (422, "the input is wrong; `problems` names each field"),
        (429, "too many in a short time; `Retry-After` says when to try again"),
        (431, "the head of the request is too large"),
        (500, "something went wrong; the daemon's log tells more"),
        (503, "not possible now; `Retry-After` says when to try again"),
        (504, "the answer took too long"),
    )
}
WITH_BODY: dict[str, Any] = {"requestBody": {"required": True}}
"""Writes say that they are JSON, which a page of another site cannot; so there is a body, if only `{}`."""
BEARER = HTTPBearer(scheme_name="token", description="A token of the daemon's settings.", auto_error=False)


async def service(request: Request) -> Service:
    """The facade of this application."""
    found: Service = request.app.state.service
    return found


def caller(request: Request) -> Caller:
    """Who asks; the guard has let nobody else through."""
    found: Caller | None = request.scope["state"].get("caller")
    if found is None:
        raise HTTPException(401, "a token is needed")
    return found


class Needs:
    """A dependency that gives the caller, or answers 403 where the caller's role is too small."""

    def __init__(self, role: Role) -> None:
        self.role = role

    async def __call__(self, request: Request, _bearer: Annotated[Any, Security(BEARER)] = None) -> Caller:
        """The caller; the guard has looked at the token already, here it is only documented."""
        who = caller(request)
        if who.role < self.role:
            raise HTTPException(
                403,
                f"token '{who.name}' has the role {who.role.name.lower()}; "
                f"{self.role.name.lower()} is needed",
            )
        return who


def no_environment(name: str) -> NotFound:
    """What a caller is told of an environment that is not there for it, whether or not there is one."""
    return NotFound(f"environment '{name}' does not exist")


def no_rollout(rollout: str) -> NotFound:
    """What a caller is told of a rollout that is not there for it, whether or not there is one."""
    return NotFound(f"there is no rollout '{rollout}'")


def name_of(sent: str) -> str:
    """A name as it stood percent-encoded in the path; one that cannot exist is not found."""
    try:
        name = unquote(sent, errors="strict")
    except UnicodeDecodeError:
        raise NotFound("the name in the path is not UTF-8 text") from None
    if not name or len(name) > NAME_CHARACTERS_MAX or not name.isprintable():
        raise NotFound("no environment or rollout can have such a name")
    return name


def answer(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> JSONResponse:
    """A JSON answer of view values."""
    return JSONResponse(to_json(value), status_code=status, headers=headers)


async def _environment(
    request: Request,
    env: Annotated[str, Path(min_length=1, description="the environment's name, percent-encoded")],
) -> str:
    name = name_of(env)
    if not caller(request).sees(name):
        raise no_environment(name)
    return name


async def _rollout(rollout: Annotated[str, Path(min_length=1, description="the rollout's id")]) -> str:
    return name_of(rollout)


Reconciling = Annotated[Service, Depends(service)]
Environment = Annotated[str, Depends(_environment)]
RolloutId = Annotated[str, Depends(_rollout)]
Limit = Annotated[int, Query(ge=1, le=500, description="rows at most")]
After = Annotated[int, Query(ge=0, le=2**63 - 1, description="only events with a greater id")]
OneDeployment = Annotated[
    str | None,
    Query(
        min_length=1, max_length=NAME_CHARACTERS_MAX, pattern=PRINTABLE, description="only this deployment"
    ),
]
Reader = Annotated[Caller, Depends(Needs(Role.READ))]
Provisioner = Annotated[Caller, Depends(Needs(Role.PROVISION))]
Operator = Annotated[Caller, Depends(Needs(Role.OPERATE))]
Admin = Annotated[Caller, Depends(Needs(Role.ADMIN))]
