"""The HTTP API as an application, asked without a socket."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import httpx
import pytest

from reconciler.errors import (
    DatabaseUnavailable,
    IllegalTransition,
    InvalidInput,
    PermanentError,
    Problem,
    Refused,
)
from reconciler.events import DiffServed, Event, TaskFailed
from reconciler.plan.encode import to_json as plan_to_json
from reconciler.plan.model import LeftDeployment, ObjectsAsked
from reconciler.rollout.status import JobStatus, LeftStatus, OutputStatus
from reconciler.state.registry import RegistryKind
from reconciler.state.task import ModuleTask, TaskVerb
from reconciler.web import models
from reconciler.web.access import Role, Token
from reconciler.web.app import create_app
from reconciler.web.guard import BODY_BYTES_MAX
from reconciler.web.rollouts import VERBS
from reconciler.web.values import to_json
from tests.plugins.memory_service import AT, MemoryService, environment, plan

JSON = {"content-type": "application/json"}


async def metrics_text() -> bytes:
    return b"reconciler_up 1\n"


@pytest.fixture
def service() -> MemoryService:
    return MemoryService()


@pytest.fixture
def seen() -> list[Event]:
    return []


@pytest.fixture
async def client(service: MemoryService, seen: list[Event]) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(service, metrics_text=metrics_text, observe=seen.append)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as found:
        yield found


def tokens_client(service: MemoryService) -> httpx.AsyncClient:
    tokens = [
        Token(name="reader", role=Role.READ, value="read-0123456789ab"),
        Token(name="provisioner", role=Role.PROVISION, value="prov-0123456789ab"),
        Token(name="operator", role=Role.OPERATE, value="oper-0123456789ab"),
    ]
    app = create_app(service, metrics_text=metrics_text, tokens=tokens, listen_host="0.0.0.0")
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://reconciler.example.com")


def bearer(value: str) -> dict[str, str]:
    return {"authorization": f"Bearer {value}", **JSON}


def assert_problem(response: httpx.Response, status: int) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert found["status"] == status
    assert found["type"].startswith("urn:pg-reconciler:problem:")
    assert {"title", "detail"} <= set(found)
    return found


async def test_environments_are_listed_and_shown(client: httpx.AsyncClient, service: MemoryService) -> None:
    """An answer is the view value, field by field, with times in UTC."""
    listed = (await client.get("/v1/environments")).json()
    shown = (await client.get("/v1/environments/production")).json()
    assert listed == {"environments": [shown]}
    assert shown == to_json(service.known["production"])
    assert shown["applied_at"] == "2026-03-01T12:00:01Z"


async def test_diff_is_the_plan_value_byte_for_byte(client: httpx.AsyncClient, seen: list[Event]) -> None:
    """The dry run answers the value that `--output json` prints, the same each time, and is counted."""
    first = await client.get("/v1/environments/production/diff?ref=feature/x&scope=full&deployment=eu")
    again = await client.get("/v1/environments/production/diff?ref=feature/x&scope=full&deployment=eu")
    assert first.status_code == 200
    assert first.json() == plan_to_json(plan())
    assert first.content == again.content
    assert [type(event) for event in seen] == [DiffServed, DiffServed]


async def test_diff_passes_what_was_asked(client: httpx.AsyncClient, service: MemoryService) -> None:
    """Ref, deployment and scope reach the planner as they were sent."""
    await client.get("/v1/environments/production/diff?ref=feature/x&scope=provision-only&deployment=eu")
    assert service.calls[0] == (
        "preview",
        {"name": "production", "ref": "feature/x", "deployment": "eu", "scope": "provision-only"},
    )


def test_models_describe_the_diff() -> None:
    """The OpenAPI shapes hold for a plan with pending changes, drift and an unreadable deployment."""
    row = LeftDeployment(name="us", leaves=True, prune=False, detail="it stays")
    left = replace(plan(), left=(row,))
    for value in (plan(), plan(pending=False, drift=True), plan(unavailable="no route"), left):
        document = plan_to_json(value)
        assert models.Diff.model_validate(document).model_dump() == document


async def test_apply_records_a_rollout(client: httpx.AsyncClient, service: MemoryService) -> None:
    """A rollout is answered with 201 and its place; who asked and why are passed on."""
    body = {"ref": "main", "reason": "hot fix", "allow_hazards": ["DELETES_DATA"]}
    response = await client.post("/v1/environments/production/rollouts", json=body)
    assert response.status_code == 201
    made = response.json()["rollout"]
    assert response.headers["location"] == f"/v1/rollouts/{made['id']}"
    assert (await client.get(response.headers["location"])).json() == made
    asked = service.calls[0][1]
    assert asked["reason"] == "hot fix"
    assert asked["requested_by"] == "local"
    assert asked["allow_hazards"] == frozenset({"DELETES_DATA"})


async def test_schemas_to_be_built_anew_are_passed_on(
    client: httpx.AsyncClient, service: MemoryService
) -> None:
    """What is asked of SQL objects goes to dry run and rollout; more schemas than fit are refused."""
    body = {"redeploy_schemas": ["reports"], "keep_failed": True}
    assert (await client.post("/v1/environments/production/rollouts", json=body)).status_code == 201
    assert service.calls[0][1]["objects"] == ObjectsAsked(redeploy=frozenset({"reports"}), keep_failed=True)
    query = [("redeploy_schemas", "reports"), ("redeploy_schemas", "ops")]
    assert (await client.get("/v1/environments/production/diff", params=query)).status_code == 200
    assert ("preview", frozenset({"reports", "ops"})) in [
        (name, asked.get("redeploy")) for name, asked in service.calls
    ]
    many = {"redeploy_schemas": ["reports"] * (models.SCHEMAS_MAX + 1)}
    assert (await client.post("/v1/environments/production/rollouts", json=many)).status_code == 422


async def test_apply_with_nothing_to_do(client: httpx.AsyncClient, service: MemoryService) -> None:
    """Where nothing is pending no rollout is made, and that is no error; the body may be left out."""
    service.next_apply = None
    response = await client.post("/v1/environments/production/rollouts", headers=JSON)
    assert (response.status_code, response.json()) == (200, {"rollout": None})


async def test_history_is_limited(client: httpx.AsyncClient) -> None:
    """Limits outside 1 to 500 are refused before anything is read."""
    path = "/v1/environments/production/rollouts"
    assert len((await client.get(path, params={"limit": 1})).json()["rollouts"]) == 1
    for limit in ("0", "501", "x", "-1"):
        found = assert_problem(await client.get(path, params={"limit": limit}), 422)
        assert found["problems"][0]["path"] == "query.limit"


async def test_verbs(client: httpx.AsyncClient, service: MemoryService) -> None:
    """A verb is recorded and answered with 202; an unknown one is not found, a contradiction a conflict."""
    path = f"/v1/rollouts/{service.history[0].id}"
    accepted = await client.post(f"{path}/retry", json={"deployment": "eu"})
    assert accepted.status_code == 202
    assert accepted.json()["verb"] == "retry"
    assert_problem(await client.post(f"{path}/cancel", headers=JSON), 409)
    assert "retry" in assert_problem(await client.post(f"{path}/explode", headers=JSON), 404)["hint"]


async def test_verbs_are_of_operators(service: MemoryService) -> None:
    """Every verb of a rollout asks for `operate`, approving too; who asked is the token's name."""
    path = f"/v1/rollouts/{service.history[0].id}"
    async with tokens_client(service) as client:
        for verb in VERBS:
            for small in ("read-0123456789ab", "prov-0123456789ab"):
                refused = await client.post(f"{path}/{verb}", headers=bearer(small), json={})
                assert "operate is needed" in assert_problem(refused, 403)["detail"]
        body = {"deployment": "eu", "reason": "looked at it", "digest": "sha256:" + "1" * 64}
        operate = bearer("oper-0123456789ab")
        answer = await client.post(f"{path}/approve", headers=operate, json=body)
        assert (answer.status_code, answer.json()["why"]) == (202, "looked at it")
        wrong = await client.post(f"{path}/approve", headers=operate, json={"digest": "sha256:1"})
        assert assert_problem(wrong, 422)["problems"][0]["path"] == "body.digest"
    asked = [given for what, given in service.calls if what == "request"]
    assert [(given["verb"], given["requested_by"], given["digest"]) for given in asked] == [
        ("approve", "operator", body["digest"])
    ]


async def test_outputs_are_listed_without_sensitive_values(
    client: httpx.AsyncClient, service: MemoryService
) -> None:
    """Of one deployment or of all; who may read the status may read them."""
    host = OutputStatus(
        deployment="eu",
        component="shop-db",
        name="host",
        type="string",
        sensitive=False,
        value="db",
        made_at=AT,
    )
    service.kept_outputs = (host, replace(host, name="password", sensitive=True, value=None))
    response = await client.get("/v1/environments/production/outputs", params={"deployment": "eu"})
    found = response.json()["outputs"]
    assert [(row["name"], row["sensitive"], row["value"]) for row in found] == [
        ("host", False, "db"),
        ("password", True, None),
    ]
    assert service.calls[-1] == ("outputs", {"name": "production", "deployment": "eu"})


async def test_jobs_are_listed_with_their_times(client: httpx.AsyncClient, service: MemoryService) -> None:
    """What came of the last run of each, and when it runs next."""
    ran = JobStatus(
        deployment="eu", component="nightly", trigger="schedule", began_at=AT, ended_at=AT, exit_status=0
    )
    service.known_jobs = (ran, replace(ran, component="seed", schedule="0 3 * * *", next_at=AT))
    found = (await client.get("/v1/environments/production/jobs")).json()["jobs"]
    assert [(row["component"], row["trigger"], row["next_at"] is None) for row in found] == [
        ("nightly", "schedule", True),
        ("seed", "schedule", False),
    ]
    assert service.calls[-1] == ("jobs", {"name": "production"})


async def test_suspend_resume_reconcile(client: httpx.AsyncClient, service: MemoryService) -> None:
    """Each answers with the environment as it is after."""
    path = "/v1/environments/production"
    suspended = await client.post(f"{path}/suspend", json={"reason": "maintenance"})
    assert (suspended.json()["suspended"], suspended.json()["suspended_reason"]) == (True, "maintenance")
    assert (await client.post(f"{path}/resume", headers=JSON)).json()["suspended"] is False
    assert (await client.post(f"{path}/reconcile", headers=JSON)).status_code == 202
    assert ("reconcile", {"name": "production", "requested_by": "local"}) in service.calls


async def test_forget(client: httpx.AsyncClient, service: MemoryService) -> None:
    """It answers with the environment as it is after; what did not leave is not found, no name is wrong."""
    path = "/v1/environments/production/forget"
    service.known["production"] = environment(
        left=(LeftStatus(name="us", left_at=AT, applied_commit=None, server=None),)
    )
    assert (await client.post(path, headers=JSON)).status_code == 422
    assert (await client.post(path, json={"deployment": "eu"})).status_code == 404
    answer = await client.post(path, json={"deployment": "us", "reason": "its server was sold"})
    assert (answer.status_code, answer.json()["left"]) == (200, [])
    asked = [given for what, given in service.calls if what == "forget"][-1]
    assert (asked["reason"], asked["requested_by"]) == ("its server was sold", "local")


async def test_events_page_by_id(client: httpx.AsyncClient, service: MemoryService) -> None:
    """Each page says where the next one begins."""
    for _ in range(3):
        service.happen("operation.moved")
    path = "/v1/environments/production/events"
    first = (await client.get(path, params={"after": 0, "limit": 2})).json()
    rest = (await client.get(path, params={"after": first["next"]})).json()
    assert [row["id"] for row in first["events"] + rest["events"]] == [1, 2, 3]
    assert rest["next"] == 3
    newest = (await client.get(path, params={"limit": 2})).json()
    assert [row["id"] for row in newest["events"]] == [2, 3]


async def test_events_stream(service: MemoryService) -> None:
    """Followers get what happened after the id they name, each event once, until the daemon stops."""
    stopping = asyncio.Event()
    app = create_app(service, metrics_text=metrics_text, stopping=stopping)
    for _ in range(3):
        service.happen("operation.moved", message="ünï\ncode")
    stopping.set()
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        ended = await client.get("/v1/events")
        assert ended.text == "retry: 2000\n\n"
        stopping.clear()
        asyncio.get_running_loop().call_later(0.05, stopping.set)
        response = await client.get("/v1/events?after=0", headers={"last-event-id": "1"})
    assert response.headers["content-type"].startswith("text/event-stream")
    blocks = [block for block in response.text.split("\n\n") if block.startswith("id:")]
    assert [block.splitlines()[0] for block in blocks] == ["id: 2", "id: 3"]
    assert json.loads(blocks[0].splitlines()[2].removeprefix("data: "))["message"] == "ünï\ncode"
    assert app.state.streams == set()


async def test_modules(client: httpx.AsyncClient) -> None:
    """Module status and log are answered as they are."""
    status = (await client.get("/v1/environments/production/modules")).json()
    assert status["deployments"][0]["modules"][0]["deployed"] == 3
    log = (await client.get("/v1/environments/production/modules/log?limit=5")).json()
    assert log["databases"][0]["events"][0]["change"] == "orders"


async def test_log_of_modules_is_asked_for_by_module_change_and_kind(
    client: httpx.AsyncClient, service: MemoryService
) -> None:
    """The filters arrive, and a kind that nothing can have is refused."""
    path = "/v1/environments/production/modules/log"
    await client.get(f"{path}?module=shop&change=a&kind=revert&limit=7")
    wanted = {"module": "shop", "change": "a", "kind": "revert", "limit": 7}
    assert service.calls[-1][0] == "module_log"
    assert wanted.items() <= service.calls[-1][1].items()
    assert_problem(await client.get(f"{path}?kind=drop"), 422)


async def test_verify_of_modules(client: httpx.AsyncClient, service: MemoryService) -> None:
    """What was asked for is verified, and every failure is answered with its place."""
    asked = {"module": "shop-schema", "from": "@v1", "to": "orders", "deployment": "eu"}
    answer = await client.post("/v1/environments/production/modules/verify", json=asked)
    assert answer.status_code == 200
    failed = answer.json()["deployments"][0]["modules"][0]["failed"][0]
    assert (failed["file"], failed["line"], failed["sqlstate"]) == (
        "modules/shop/verify/orders.sql",
        2,
        "42P01",
    )
    given = {"module": "shop-schema", "first": "@v1", "last": "orders", "deployment": "eu"}
    assert given.items() <= service.calls[-1][1].items()
    nothing = await client.post("/v1/environments/production/modules/verify", json={})
    assert nothing.status_code == 200
    misspelt = await client.post("/v1/environments/production/modules/verify", json={"first": "a", "x": 1})
    assert_problem(misspelt, 422)


async def test_modules_by_hand(client: httpx.AsyncClient, service: MemoryService) -> None:
    """Deploy and revert arrive as tasks, their plans write nothing, what contradicts itself is 422."""
    path = "/v1/environments/production/modules/shop-schema"
    body = {"to": "@v1", "with_dependents": True, "allow_hazards": ["REVERTS_CHANGE"], "deployment": "eu"}
    response = await client.post(f"{path}/revert", json=body)
    assert response.status_code == 201
    assert response.headers["location"] == f"/v1/rollouts/{response.json()['rollout']['id']}"
    task = ModuleTask(verb=TaskVerb.REVERT, module="shop-schema", to="@v1", with_dependents=True)
    assert service.calls[0] == (
        "run_module",
        {
            "name": "production",
            "task": task,
            "deployment": "eu",
            "reason": "module revert by local",
            "requested_by": "local",
            "allow_hazards": frozenset({"REVERTS_CHANGE"}),
        },
    )
    service.calls.clear()
    shown = await client.post(f"{path}/deploy/plan", json={"log_only": True})
    assert (shown.status_code, shown.json()["environment"]) == (200, "production")
    assert service.calls[0][0] == "preview_module"
    assert service.calls[0][1]["task"] == ModuleTask(
        verb=TaskVerb.DEPLOY, module="shop-schema", log_only=True
    )
    service.calls.clear()
    asked = {"adopt_from": "sqitch", "registry": "theirs"}
    assert (await client.post(f"{path}/adopt", json=asked)).status_code == 201
    assert (await client.post(f"{path}/adopt/plan", json=asked)).status_code == 200
    assert [values["task"] for _name, values in service.calls if "task" in values] == 2 * [
        ModuleTask(
            verb=TaskVerb.ADOPT,
            module="shop-schema",
            adopt_from=RegistryKind.SQITCH,
            registry="theirs",
        )
    ]
    everything = "/v1/environments/production/modules/adopt"
    assert (await client.post(f"{everything}/plan", json={"adopt_from": "pgpm"})).status_code == 200
    assert (await client.post(everything, json={"adopt_from": "pgpm"})).status_code == 201
    assert_problem(await client.post(everything, json={"adopt_from": "flyway"}), 422)
    assert_problem(await client.post(f"{path}/revert", json={"all": True, "to": "t1"}), 422)
    assert_problem(await client.post("/v1/environments/production/modules/deploy", json={"to": "t1"}), 422)


async def test_health(client: httpx.AsyncClient, service: MemoryService) -> None:
    """Liveness depends on nothing; readiness says why not."""
    assert (await client.get("/readyz")).status_code == 200
    service.fails = DatabaseUnavailable("the control database cannot be reached")
    assert (await client.get("/livez")).status_code == 200
    assert "control database" in assert_problem(await client.get("/readyz"), 503)["detail"]
    scraped = await client.get("/metrics")
    assert scraped.text == "reconciler_up 1\n"
    assert scraped.headers["content-type"].startswith("text/plain; version=0.0.4")


async def test_names_may_be_percent_encoded(client: httpx.AsyncClient, service: MemoryService) -> None:
    """A name with a slash, a quote or letters beyond ASCII is reached by its encoded form."""
    for name in ("a/b", "o'brien", "ünï code", "50%"):
        service.known[name] = environment(name)
        sent = "".join(f"%{byte:02X}" for byte in name.encode())
        found = await client.get(f"/v1/environments/{sent}")
        assert found.json()["name"] == name


@pytest.mark.parametrize("sent", ["%00", "%0A", "%FF%FE", "a" * 300, "%E2%80%AE"])
async def test_names_that_cannot_be(client: httpx.AsyncClient, service: MemoryService, sent: str) -> None:
    """A name with control characters, broken text or too many characters is not found, and not looked up."""
    assert_problem(await client.get(f"/v1/environments/{sent}"), 404)
    assert service.calls == []


async def test_unknown_paths_and_methods(client: httpx.AsyncClient) -> None:
    """Everything that is not there answers in the same form; there are no documentation pages."""
    for path in ("/", "/docs", "/redoc", "/v1", "/v1/environments/", "/v2/environments"):
        assert_problem(await client.get(path), 404)
    response = await client.request("DELETE", "/v1/environments/production", headers=JSON)
    assert_problem(response, 405)
    assert response.headers["allow"] == "GET"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Refused("it needs consent", hint="use --allow-hazard"), 409),
        (IllegalTransition("it is over"), 409),
        (DatabaseUnavailable("the server is away"), 503),
        (PermanentError("permission denied"), 500),
        (InvalidInput([Problem(message="unknown key", file="a.yaml", line=3)]), 422),
    ],
)
async def test_errors_keep_their_words(
    client: httpx.AsyncClient, service: MemoryService, error: Exception, status: int
) -> None:
    """Errors raised on purpose reach the caller with message, hint and problems."""
    service.fails = error
    found = assert_problem(await client.get("/v1/environments"), status)
    assert str(error).startswith(found["detail"])
    if status == 422:
        assert found["problems"] == [{"message": "unknown key", "file": "a.yaml", "line": 3}]


async def test_internal_errors_stay_inside(
    client: httpx.AsyncClient, service: MemoryService, seen: list[Event]
) -> None:
    """An error nobody expected is told to the log under an id, and its text to no caller."""
    service.fails = RuntimeError("the secret is hunter2")
    found = assert_problem(await client.get("/v1/environments"), 500)
    assert "hunter2" not in json.dumps(found)
    failed = [event for event in seen if isinstance(event, TaskFailed)]
    assert "RuntimeError" in failed[0].error
    assert found["detail"].rsplit(" ", 1)[1] in failed[0].error


@pytest.mark.parametrize(
    "body",
    ['{"why": "x"}', '{"reason": 5}', "[]", "{", '{"scope": "half"}', '{"reason": "%s"}' % ("x" * 1001)],
)
async def test_bodies_are_strict(client: httpx.AsyncClient, service: MemoryService, body: str) -> None:
    """Unknown keys, wrong types, broken JSON and overlong texts are refused with the place."""
    response = await client.post("/v1/environments/production/rollouts", content=body, headers=JSON)
    assert assert_problem(response, 422)["problems"][0]["path"].startswith("body")
    assert service.calls == []


async def test_body_cap(client: httpx.AsyncClient, service: MemoryService) -> None:
    """A body beyond the cap is refused, announced or not, before any route sees it."""
    path = "/v1/environments/production/suspend"
    assert_problem(await client.post(path, content=b" " * (BODY_BYTES_MAX + 1), headers=JSON), 413)

    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b" " * 4096

    assert_problem(await client.post(path, content=endless(), headers=JSON), 413)
    assert service.calls == []


@pytest.mark.parametrize(
    "host", ["evil.example.com", "127.0.0.1.evil.example.com", "10.0.0.1:8080", "", "[::1"]
)
async def test_foreign_hosts_are_refused(client: httpx.AsyncClient, host: str) -> None:
    """Without tokens a request must name this machine, so a rebound DNS name reads nothing."""
    assert_problem(await client.get("/v1/environments", headers={"host": host}), 421)
    assert_problem(await client.get("/livez", headers={"host": host}), 421)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080", "127.9.9.9"])
async def test_own_hosts_are_served(client: httpx.AsyncClient, host: str) -> None:
    """Every name of the loopback interface is one of ours."""
    assert (await client.get("/v1/environments", headers={"host": host})).status_code == 200


async def test_foreign_origins_are_refused(client: httpx.AsyncClient, service: MemoryService) -> None:
    """A page of another site, or of another port of this machine, cannot make this API do something."""
    path = "/v1/environments/production/suspend"
    for origin in ("https://evil.example.com", "null", "http://127.0.0.1:3000", "http://localhost:8080"):
        assert_problem(await client.post(path, headers={**JSON, "origin": origin}), 403)
    assert service.calls == []
    own = {**JSON, "origin": "http://127.0.0.1:8080"}
    assert (await client.post(path, headers=own)).status_code == 200


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "application/jsonx"]
)
async def test_writes_are_json_only(
    client: httpx.AsyncClient, service: MemoryService, kind: str | None
) -> None:
    """What a form or a simple request of a browser can send is never taken as a write."""
    headers = {"content-type": kind} if kind is not None else {}
    response = await client.post("/v1/environments/production/suspend", content="{}", headers=headers)
    assert_problem(response, 415)
    assert service.calls == []


async def test_tokens_are_asked_for(service: MemoryService) -> None:
    """With tokens configured nothing but health and the API's description is answered without one."""
    async with tokens_client(service) as client:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic cmVhZA=="}):
            found = await client.get("/v1/environments", headers=headers)
            assert_problem(found, 401)
            assert found.headers["www-authenticate"].startswith("Bearer")
            wanted = "none of this API's" if headers else "asks for a bearer token"
            assert wanted in found.json()["detail"]
        assert_problem(await client.get("/metrics"), 401)
        assert_problem(await client.get("/nowhere"), 401)
        assert_problem(await client.get("/%6Civez"), 401)
        for path in ("/livez", "/readyz", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        assert (await client.get("/metrics", headers=bearer("read-0123456789ab"))).status_code == 200


async def test_roles(service: MemoryService) -> None:
    """Readers read; provisioners apply provision-only without hazards; operators do the rest."""
    async with tokens_client(service) as client:
        read, provision, operate = map(
            bearer, ("read-0123456789ab", "prov-0123456789ab", "oper-0123456789ab")
        )
        path = "/v1/environments/production"
        assert (await client.get(f"{path}/diff", headers=read)).status_code == 200
        assert (
            "provision is needed"
            in assert_problem(await client.post(f"{path}/rollouts", headers=read), 403)["detail"]
        )
        only = {"scope": "provision-only"}
        assert (await client.post(f"{path}/rollouts", headers=provision, json=only)).status_code == 201
        more = ({"allow_hazards": ["DELETES_DATA"]}, {"redeploy_schemas": ["reports"]}, {"keep_failed": True})
        for body in ({}, {"scope": "full"}, *({**only, **each} for each in more)):
            assert_problem(await client.post(f"{path}/rollouts", headers=provision, json=body), 403)
        assert_problem(await client.post(f"{path}/suspend", headers=provision), 403)
        assert (await client.post(f"{path}/suspend", headers=operate)).status_code == 200
        assert [given["requested_by"] for what, given in service.calls if what == "suspend"] == ["operator"]


def test_open_listener_needs_tokens(service: MemoryService) -> None:
    """Without tokens the application is not even built for an address others can reach."""
    with pytest.raises(Refused, match="without tokens"):
        create_app(service, metrics_text=metrics_text, listen_host="0.0.0.0")


def test_token_never_shows() -> None:
    """A token's repr holds its name and not its value."""
    assert "hunter2" not in repr(Token(name="ci", role=Role.READ, value="hunter2"))


async def test_openapi_describes_every_route(client: httpx.AsyncClient) -> None:
    """The document has typed answers and problem details; nothing is fetched from elsewhere to show it."""
    document = (await client.get("/openapi.json")).json()
    routes = {f"{method.upper()} {path}" for path, methods in document["paths"].items() for method in methods}
    assert {
        "GET /v1/environments",
        "GET /v1/environments/{env}",
        "GET /v1/environments/{env}/diff",
        "POST /v1/environments/{env}/diff",
        "POST /v1/webhooks/{source}",
        "POST /v1/environments/{env}/rollouts",
        "GET /v1/environments/{env}/rollouts",
        "GET /v1/rollouts/{rollout}",
        "POST /v1/rollouts/{rollout}/{verb}",
        "POST /v1/environments/{env}/suspend",
        "POST /v1/environments/{env}/resume",
        "POST /v1/environments/{env}/reconcile",
        "POST /v1/environments/{env}/forget",
        "POST /v1/environments/{env}/stop",
        "POST /v1/environments/{env}/start",
        "GET /v1/environments/{env}/removal",
        "POST /v1/environments/{env}/remove",
        "GET /v1/environments/{env}/outputs",
        "GET /v1/environments/{env}/jobs",
        "GET /v1/environments/{env}/events",
        "GET /v1/events",
        "GET /v1/environments/{env}/modules",
        "GET /v1/environments/{env}/modules/log",
        "POST /v1/environments/{env}/modules/verify",
        *(
            f"POST /v1/environments/{{env}}/modules/{which}"
            for verb in ("deploy", "{module}/deploy", "{module}/revert", "adopt", "{module}/adopt")
            for which in (verb, f"{verb}/plan")
        ),
        "GET /metrics",
        "GET /livez",
        "GET /readyz",
    } == routes
    schemas = document["components"]["schemas"]
    assert {"Diff", "EnvironmentStatus", "RolloutStatus", "OperationState"} <= set(schemas)
    parameters = document["paths"]["/v1/environments/{env}/diff"]["get"]["parameters"]
    assert {parameter["name"] for parameter in parameters} == {
        "env",
        "ref",
        "deployment",
        "scope",
        "redeploy_schemas",
    }
    assert "HTTPValidationError" not in schemas


def test_times_are_written_in_utc() -> None:
    """A time of another zone is the same moment in UTC."""
    moment = datetime(2026, 3, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    assert to_json(moment) == "2026-03-01T12:00:00Z"
    assert to_json(datetime(2026, 3, 1, 12, 0, 0, 5, tzinfo=UTC)) == "2026-03-01T12:00:00.000005Z"
