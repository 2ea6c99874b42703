"""Who may ask for what: tokens, roles, environments; asked without a socket."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from reconciler.errors import NotFound, Refused
from reconciler.events import CallerRejected, Event
from reconciler.web.access import Caller, Role, Token, check_tokens
from reconciler.web.app import ROUTERS, create_app
from reconciler.web.limits import RequestLimits
from reconciler.web.requests import Needs
from tests.plugins.memory_service import COMMIT, MemoryService, environment, no_metrics, rollout

JSON = {"content-type": "application/json"}
PAGE = Path(__file__).resolve().parents[3] / "docs/reference/http-api.md"
TOKENS = [
    Token(name="all", role=Role.ADMIN, value="all-0123456789abcdef"),
    Token(
        name="prod", role=Role.OPERATE, value="prod-0123456789abcdef", environments=("prod-*", "production")
    ),
    Token(name="reader", role=Role.READ, value="read-0123456789abcdef"),
    Token(name="provisioner", role=Role.PROVISION, value="prov-0123456789abcdef"),
]


def bearer(name: str) -> dict[str, str]:
    value = next(token.value for token in TOKENS if token.name == name)
    return {"authorization": f"Bearer {value}"}


@pytest.fixture
def service() -> MemoryService:
    names = ("prod-eu", "production", "staging")
    return MemoryService(
        known={name: environment(name) for name in names},
        history=[rollout(1), rollout(2, environment="staging")],
    )


def client_of(
    service: MemoryService, *, limits: RequestLimits | None = None, seen: list[Event] | None = None
) -> httpx.AsyncClient:
    app = create_app(
        service,
        metrics_text=no_metrics,
        tokens=TOKENS,
        limits=limits,
        listen_host="0.0.0.0",
        observe=(seen if seen is not None else []).append,
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://api.example.com")


async def test_lists_leave_out_what_a_token_is_not_for(service: MemoryService) -> None:
    """A token for some environments sees those and no others."""
    async with client_of(service) as client:
        found = (await client.get("/v1/environments", headers=bearer("prod"))).json()["environments"]
        assert [row["name"] for row in found] == ["prod-eu", "production"]
        found = (await client.get("/v1/environments", headers=bearer("all"))).json()["environments"]
        assert len(found) == 3


async def test_what_is_not_for_a_token_is_as_if_absent(service: MemoryService) -> None:
    """Every path answers for a foreign environment byte for byte as for one that is not there."""
    below = ("", "/diff", "/rollouts", "/events", "/modules", "/modules/log", "/outputs", "/jobs", "/removal")
    writes = ("/suspend", "/resume", "/stop", "/start", "/reconcile", "/forget", "/rollouts")
    writes += ("/modules/verify",)
    async with client_of(service) as client:
        for method, path in [*(("GET", path) for path in below), *(("POST", path) for path in writes)]:
            answers = [
                await client.request(
                    method, f"/v1/environments/{name}{path}", headers={**bearer("prod"), **JSON}
                )
                for name in ("staging", "stagong")
            ]
            assert [answer.status_code for answer in answers] == [404, 404], path
            assert answers[0].text.replace("staging", "stagong") == answers[1].text
    assert not [what for what, _given in service.calls if what != "environment"]


async def test_a_misspelt_name_suggests_nothing_that_is_hidden(service: MemoryService) -> None:
    """The hint that names what is there instead is for those who see all."""
    service.fails = NotFound("environment 'prod-xx' does not exist", hint="did you mean 'prod-secret'?")
    async with client_of(service) as client:
        narrow = await client.get("/v1/environments/prod-xx", headers=bearer("prod"))
        wide = await client.get("/v1/environments/prod-xx", headers=bearer("reader"))
    assert "hint" not in narrow.json()
    assert "prod-secret" in wide.json()["hint"]


async def test_rollouts_of_others_are_as_if_absent(service: MemoryService) -> None:
    """A rollout is found by its id only by whom its environment is there for, for reading and for verbs."""
    foreign, absent = service.history[1].id, "99"
    async with client_of(service) as client:
        shown = [await client.get(f"/v1/rollouts/{one}", headers=bearer("prod")) for one in (foreign, absent)]
        assert [answer.status_code for answer in shown] == [404, 404]
        assert shown[0].text.replace(foreign, absent) == shown[1].text
        headers = {**bearer("prod"), **JSON}
        assert (await client.post(f"/v1/rollouts/{foreign}/retry", headers=headers)).status_code == 404
        assert not [what for what, _given in service.calls if what == "request"]
        own = service.history[0].id
        assert (await client.get(f"/v1/rollouts/{own}", headers=bearer("prod"))).status_code == 200
        assert (await client.post(f"/v1/rollouts/{own}/retry", headers=headers)).status_code == 202
        assert (await client.get(f"/v1/rollouts/{foreign}", headers=bearer("reader"))).status_code == 200


async def test_streams_tell_only_what_a_token_is_for(service: MemoryService) -> None:
    """Events of other environments, and of none, are left out of the stream, and what follows is not lost."""
    for name in ("staging", "prod-eu", "staging", "production"):
        service.happen("operation.moved", environment=name)
    app = create_app(service, metrics_text=no_metrics, tokens=TOKENS)
    app.state.stopping.clear()

    async def stop_after_first(*arguments: Any, **given: Any) -> Any:
        app.state.stopping.set()
        return await MemoryService.events(service, *arguments, **given)

    service.events = stop_after_first  # type: ignore[method-assign]
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        text = (await client.get("/v1/events", headers=bearer("prod"))).text
    assert re.findall(r"^id: (\d+)$", text, re.MULTILINE) == ["2", "4"]
    assert "staging" not in text


async def test_metrics_are_for_those_who_see_all(service: MemoryService) -> None:
    """Metrics name every environment."""
    async with client_of(service) as client:
        assert (await client.get("/metrics", headers=bearer("prod"))).status_code == 403
        assert (await client.get("/metrics", headers=bearer("reader"))).status_code == 200


def routes() -> Iterator[tuple[str, Role | None]]:
    """Every route with the least role it asks for."""
    for route in (route for router in ROUTERS for route in router.routes):
        assert isinstance(route, APIRoute)
        asked = [each.call for each in route.dependant.dependencies]
        roles = [call.role for call in asked if isinstance(call, Needs)]
        for method in route.methods:
            yield f"{method} {route.path}", roles[0] if roles else None


def test_every_route_is_in_the_table_of_roles() -> None:
    """The page says of each route which role it asks for at least, and the code asks for it."""
    table = PAGE.read_text().partition("### What each path asks for")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([A-Z]+ /\S*)` \| (\w+) \|", table, re.MULTILINE))
    code = {path: role.name.lower() if role is not None else "none" for path, role in routes()}
    assert rows == {**code, "GET /openapi.json": "none"}


async def test_each_role_may_what_the_table_says(service: MemoryService) -> None:
    """Asked with each role, a route answers 403 to those below its least role alone, and names it."""
    roles = {"reader": Role.READ, "provisioner": Role.PROVISION, "all": Role.ADMIN}
    async with client_of(service) as client:
        for path, least in routes():
            method, _, template = path.partition(" ")
            if least is None or template == "/v1/events":
                continue
            place = template.format(
                env="production", module="shop-schema", rollout=service.history[0].id, verb="retry"
            )
            spec = method == "POST" and place.endswith("/diff")
            kind = "application/yaml" if spec else "application/json"
            body = '{"scope": "provision-only"}' if template.endswith("/rollouts") else ""
            for name, role in roles.items():
                headers = {**bearer(name), "content-type": kind}
                content = body if method == "POST" else None
                answer = await client.request(method, place, headers=headers, content=content)
                assert (answer.status_code == 403) == (role < least), (name, path, answer.text)
                if role < least:
                    assert f"{least.name.lower()} is needed" in answer.json()["detail"]


async def test_provision_is_for_provision_only(service: MemoryService) -> None:
    """A provisioner records provision-only rollouts and is told what more would take."""
    async with client_of(service) as client:
        path, headers = "/v1/environments/production/rollouts", bearer("provisioner")
        assert (await client.post(path, headers=headers, json={"scope": "provision-only"})).status_code == 201
        assert (await client.post(path, headers=headers, json={})).status_code == 403


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (("short",), "less than 16"),
        (("x" * 15,), "less than 16"),
        (("same-0123456789abcdef", "same-0123456789abcdef"), "same value"),
    ],
)
def test_weak_tokens_are_refused(values: tuple[str, ...], why: str) -> None:
    """Short tokens and two names for one value are told by name, never by value."""
    tokens = [Token(name=f"token-{place}", role=Role.READ, value=value) for place, value in enumerate(values)]
    with pytest.raises(Refused, match=why) as told:
        check_tokens(tokens)
    assert "token-0" in str(told.value)
    assert values[0] not in str(told.value)


@pytest.mark.parametrize(
    ("globs", "name", "sees"),
    [
        (("*",), None, True),
        (("*",), "a/b", True),
        (("prod-*",), "prod-eu", True),
        (("prod-*",), "PROD-eu", False),
        (("prod-*",), "production", False),
        (("prod-*",), None, False),
        (("a", "b"), "b", True),
        (("team-[12]",), "team-2", True),
    ],
)
def test_globs_name_environments(globs: tuple[str, ...], name: str | None, sees: bool) -> None:
    """Globs are matched in full and by case; what is of no environment is for those who see all."""
    assert Caller(name="x", role=Role.READ, environments=globs).sees(name) is sees


async def test_wrong_tokens_in_masses_are_told_to_wait(service: MemoryService) -> None:
    """After so many wrong tokens an address gets 429 for them; the right one is served all the same."""
    seen: list[Event] = []
    async with client_of(service, limits=RequestLimits(failures_per_minute=3), seen=seen) as client:
        wrong = {"authorization": "Bearer not-the-right-token"}
        codes = [(await client.get("/v1/environments", headers=wrong)).status_code for _ in range(5)]
        assert codes == [401, 401, 401, 429, 429]
        told = await client.get("/v1/environments", headers=wrong)
        assert int(told.headers["retry-after"]) > 0
        assert told.headers["content-type"] == "application/problem+json"
        assert (await client.get("/v1/environments", headers=bearer("reader"))).status_code == 200
        assert (await client.get("/v1/environments")).status_code == 401
        assert (await client.get("/livez")).status_code == 200
    rejected = [event.told for event in seen if isinstance(event, CallerRejected)]
    assert rejected == [True, True, True, False, False, False]


async def test_writes_have_a_rate(service: MemoryService) -> None:
    """A token that writes too often is told when to come back; reading and other tokens are not held up."""
    async with client_of(service, limits=RequestLimits(writes_per_minute=2)) as client:
        path = "/v1/environments/production/reconcile"
        codes = [(await client.post(path, headers={**bearer("all"), **JSON})).status_code for _ in range(3)]
        assert codes == [202, 202, 429]
        assert (await client.post(path, headers={**bearer("prod"), **JSON})).status_code == 202
        assert (await client.get("/v1/environments", headers=bearer("all"))).status_code == 200
        yaml = {**bearer("all"), "content-type": "application/yaml"}
        dry = await client.post("/v1/environments/production/diff", headers=yaml, content="x")
        assert (dry.status_code, dry.json()["commit"]) == (200, COMMIT)
