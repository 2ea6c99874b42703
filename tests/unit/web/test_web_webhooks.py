"""The receiver of webhooks, asked without a socket: what opens it, what wakes, and what others got wrong."""

import base64
import gzip
import hmac
import json
import time
from collections.abc import AsyncIterator, Mapping
from urllib.parse import urlencode

import httpx
import pytest

from reconciler.errors import Refused
from reconciler.events import CallerRejected, DeliveryReceived, DeliveryResult, Event
from reconciler.web import webhooks
from reconciler.web.access import Role, Token
from reconciler.web.app import create_app
from reconciler.web.limits import RequestLimits
from reconciler.web.signatures import Provider, is_signed
from reconciler.web.webhooks import Webhook, pushed_ref
from tests.plugins.memory_service import MemoryService, no_metrics

SECRET = "a-secret-of-the-webhook"
SIGNING = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
PUSH = json.dumps({"ref": "refs/heads/main", "after": "0" * 40}).encode()


def hexadecimal(body: bytes, secret: str = SECRET, kind: str = "sha256") -> str:
    return hmac.new(secret.encode(), body, kind).hexdigest()


def github(body: bytes = PUSH, *, event: str = "push", delivery: str = "d1", **more: str) -> dict[str, str]:
    return {
        "x-hub-signature-256": f"sha256={hexadecimal(body)}",
        "x-github-event": event,
        "x-github-delivery": delivery,
        "content-type": "application/json",
        **more,
    }


def standard(body: bytes, *, moment: float | None = None, identity: str = "msg_1") -> dict[str, str]:
    stamp = str(int(time.time() if moment is None else moment))
    key = base64.b64decode(SIGNING.removeprefix("whsec_"))
    made = hmac.new(key, f"{identity}.{stamp}.".encode() + body, "sha256").digest()
    return {
        "webhook-id": identity,
        "webhook-timestamp": stamp,
        "webhook-signature": f"v1,{base64.b64encode(made).decode()}",
        "x-gitlab-event": "Push Hook",
    }


def hook(source: str, provider: str, *, secret: str = SECRET, ref: str | None = "refs/heads/main") -> Webhook:
    return Webhook(source=source, provider=Provider(provider), secrets=(secret,), ref=ref)


HOOKS = (
    hook("github", "github"),
    hook("gitlab", "gitlab"),
    hook("gitlab-signed", "gitlab", secret=SIGNING),
    hook("gitea", "gitea"),
    hook("forgejo", "forgejo"),
    hook("plain", "hmac"),
    hook("pinned", "github", ref=None),
    hook("tagged", "github", ref="refs/tags/live"),
    Webhook(source="rotating", provider=Provider.HMAC, secrets=("the-new-secret-of-it", SECRET)),
)


@pytest.fixture
def service() -> MemoryService:
    return MemoryService()


@pytest.fixture
def seen() -> list[Event]:
    return []


@pytest.fixture
async def client(service: MemoryService, seen: list[Event]) -> AsyncIterator[httpx.AsyncClient]:
    token = Token(name="ci", role=Role.READ, value="ci-0123456789abcdef")
    app = create_app(
        service,
        metrics_text=no_metrics,
        tokens=[token],
        webhooks=HOOKS,
        limits=RequestLimits(webhook_bytes=4096, failures_per_minute=100),
        observe=seen.append,
    )
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hooks.example.com") as found:
        yield found


async def send(
    client: httpx.AsyncClient, source: str, headers: Mapping[str, str], body: bytes = PUSH
) -> httpx.Response:
    return await client.post(f"/v1/webhooks/{source}", headers=dict(headers), content=body)


def woken(service: MemoryService) -> list[str]:
    return [str(given["source"]) for what, given in service.calls if what == "delivered"]


@pytest.mark.parametrize(
    ("source", "headers", "delivery"),
    [
        ("github", github(), "d1"),
        ("gitlab", {"x-gitlab-token": SECRET, "x-gitlab-event": "Push Hook", "idempotency-key": "k"}, "k"),
        ("gitlab", {"x-gitlab-token": SECRET, "x-gitlab-event-uuid": "u"}, "u"),
        ("gitlab-signed", standard(PUSH), "msg_1"),
        ("gitea", {"x-gitea-signature": hexadecimal(PUSH), "x-gitea-delivery": "g"}, "g"),
        ("gitea", {"x-hub-signature-256": f"sha256={hexadecimal(PUSH)}"}, None),
        ("forgejo", {"x-forgejo-signature": hexadecimal(PUSH), "x-forgejo-delivery": "f"}, "f"),
        ("forgejo", {"x-gitea-signature": hexadecimal(PUSH), "x-gitea-event": "push"}, None),
        ("plain", {"x-signature-256": f"sha256={hexadecimal(PUSH)}", "x-delivery": "p"}, "p"),
        ("plain", {"x-signature-256": hexadecimal(PUSH)}, None),
        ("rotating", {"x-signature-256": hexadecimal(PUSH)}, None),
        ("rotating", {"x-signature-256": hexadecimal(PUSH, "the-new-secret-of-it")}, None),
    ],
)
async def test_each_provider_wakes(
    client: httpx.AsyncClient,
    service: MemoryService,
    source: str,
    headers: dict[str, str],
    delivery: str | None,
) -> None:
    """A push signed in the provider's way wakes its source, under any Host and without a token."""
    answer = await send(client, source, headers)
    assert (answer.status_code, answer.json()) == (202, {"source": source, "result": "woken"})
    assert service.calls == [("delivered", {"source": source, "delivery": delivery})]


async def test_a_repeated_delivery_wakes_nobody(
    client: httpx.AsyncClient, service: MemoryService, seen: list[Event]
) -> None:
    """The same id again is answered 202 and told apart; another id wakes again."""
    results = [
        (await send(client, "github", github(delivery=each))).json()["result"] for each in ("a", "a", "b")
    ]
    assert results == ["woken", "repeated", "woken"]
    told = [event.result for event in seen if isinstance(event, DeliveryReceived)]
    assert told == [DeliveryResult.WOKEN, DeliveryResult.REPEATED, DeliveryResult.WOKEN]


@pytest.mark.parametrize(
    ("source", "headers"),
    [
        ("github", {}),
        ("github", {"x-hub-signature-256": ""}),
        ("github", {"x-hub-signature-256": "sha256="}),
        ("github", {"x-hub-signature-256": f"sha256={'0' * 64}"}),
        ("github", {"x-hub-signature-256": f"sha256={hexadecimal(PUSH).upper()}"}),
        ("github", {"x-hub-signature-256": f"sha256={hexadecimal(PUSH)[:-1]}"}),
        ("github", {"x-hub-signature-256": f"sha256={hexadecimal(PUSH)}0"}),
        ("github", {"x-hub-signature-256": f"sha256={hexadecimal(PUSH + b' ')}"}),
        ("github", {"x-hub-signature-256": f"sha1={hexadecimal(PUSH, kind='sha1')}"}),
        ("github", {"x-hub-signature": f"sha1={hexadecimal(PUSH, kind='sha1')}"}),
        ("github", {"x-gitlab-token": SECRET}),
        ("github", {"x-hub-signature-256": "sha256=" + "\u00fc" * 64}),
        ("gitlab", {"x-gitlab-token": SECRET + "x"}),
        ("gitlab", {"x-gitlab-token": ""}),
        ("gitlab", {"x-hub-signature-256": f"sha256={hexadecimal(PUSH)}"}),
        ("gitlab-signed", {"x-gitlab-token": SIGNING}),
        ("gitlab-signed", {**standard(PUSH), "webhook-id": "msg_2"}),
        ("gitlab-signed", {**standard(PUSH), "webhook-signature": "v1,"}),
        ("gitlab-signed", standard(PUSH + b" ")),
        ("gitlab-signed", standard(PUSH, moment=time.time() - 2 * 86400)),
        ("gitlab-signed", standard(PUSH, moment=time.time() + 2 * 86400)),
        ("gitlab-signed", {**standard(PUSH), "webhook-timestamp": "\u00b2"}),
        ("forgejo", {"x-forgejo-signature": "0" * 64, "x-gitea-signature": hexadecimal(PUSH)}),
        ("plain", {"x-signature-256": hexadecimal(PUSH, "the-new-secret-of-it")}),
        ("nobody", github()),
        ("no%00body", github()),
        ("%FF", github()),
        ("a%2Fb", github()),
    ],
)
async def test_wrong_signatures_and_unknown_sources_look_the_same(
    client: httpx.AsyncClient, service: MemoryService, seen: list[Event], source: str, headers: dict[str, str]
) -> None:
    """Whatever is wrong, the answer is the same 401, and nothing of the body was looked at."""
    raw = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = await client.post(f"/v1/webhooks/{source}", headers=raw, content=PUSH)  # type: ignore[arg-type]
    plain = await send(client, "github", {"x-hub-signature-256": "sha256=0"})
    assert (answer.status_code, answer.content) == (401, plain.content)
    assert answer.headers["content-type"] == "application/problem+json"
    assert service.calls == []
    assert [type(event) for event in seen] == [CallerRejected, CallerRejected]


def test_every_check_computes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the provider and whatever was sent, so many digests are made over the body."""
    made: list[int] = []
    real = hmac.new

    def counted(key: bytes, text: bytes, kind: object) -> object:
        made.append(len(text) // 1000)
        return real(key, text, kind)  # type: ignore[arg-type]

    monkeypatch.setattr("reconciler.web.signatures.hmac.new", counted)
    body = b"x" * 9000
    for provider in Provider:
        for secret in (SECRET, SIGNING):
            for headers in ({}, github(body), {"x-gitlab-token": SECRET}, standard(body)):
                made.clear()
                is_signed(provider, secret, headers, body, time.time())
                assert made == [9, 9]


async def test_unknown_sources_try_as_many_secrets(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source that is not there costs as much as one that is, also while its secret is replaced."""
    tried: list[int] = []

    def counted(*_arguments: object) -> bool:
        tried.append(1)
        return False

    monkeypatch.setattr(webhooks, "is_signed", counted)
    for source in ("github", "rotating", "nobody"):
        tried.clear()
        assert (await send(client, source, github())).status_code == 401
        assert len(tried) == 2


@pytest.mark.parametrize(
    ("source", "body", "event", "result"),
    [
        ("github", PUSH, "push", "woken"),
        ("github", b'{"zen": "x", "hook_id": 1}', "ping", "ignored"),
        ("github", b'{"action": "opened"}', "issues", "ignored"),
        ("github", b'{"ref": "refs/heads/other"}', "push", "ignored"),
        ("github", b'{"ref": "refs/tags/main"}', "push", "ignored"),
        ("github", b'{"ref": "refs/heads/main", "deleted": true}', "push", "woken"),
        ("github", b'{"ref": "main"}', "push", "woken"),
        ("github", b'{"ref": null}', "push", "woken"),
        ("github", b'{"ref": ["refs/heads/other"]}', "push", "woken"),
        ("github", b"[]", "push", "woken"),
        ("github", b"null", "push", "woken"),
        ("github", b"", "push", "woken"),
        ("github", b"{", "push", "woken"),
        ("github", b"\xff\xfe\x00", "push", "woken"),
        ("github", b"[" * 3000, "push", "woken"),
        ("github", b'{"ref": ' + b"9" * 4000 + b"}", "push", "woken"),
        ("github", gzip.compress(PUSH, mtime=0), "push", "woken"),
        ("github", urlencode({"payload": PUSH.decode()}).encode(), "push", "woken"),
        ("github", urlencode({"payload": '{"ref": "refs/heads/other"}'}).encode(), "push", "ignored"),
        ("github", b"payload=", "push", "woken"),
        ("github", b"payload=%FF&payload=2", "push", "woken"),
        ("github", PUSH, "", "woken"),
        ("tagged", b'{"ref": "refs/tags/live"}', "push", "woken"),
        ("tagged", PUSH, "push", "ignored"),
        ("pinned", b'{"ref": "refs/heads/other"}', "push", "woken"),
    ],
)
async def test_what_wakes(
    client: httpx.AsyncClient, service: MemoryService, source: str, body: bytes, event: str, result: str
) -> None:
    """Pushes to what is followed wake, and whatever cannot be understood; the rest is taken and ignored."""
    answer = await send(client, source, github(body, event=event), body)
    assert (answer.status_code, answer.json()["result"]) == (202, result)
    assert woken(service) == ([source] if result == "woken" else [])


async def test_large_bodies(client: httpx.AsyncClient, service: MemoryService) -> None:
    """A body up to the cap is taken, one byte more is refused before its signature is looked at."""
    exact = PUSH + b" " * (4096 - len(PUSH))
    assert (await send(client, "github", github(exact), exact)).status_code == 202
    over = exact + b" "
    for source in ("github", "nobody"):
        assert (await send(client, source, github(over), over)).status_code == 413

    async def chunks() -> AsyncIterator[bytes]:
        for start in range(0, len(over), 100):
            yield over[start : start + 100]

    path = "/v1/webhooks/github"
    assert (await client.post(path, headers=github(over), content=chunks())).status_code == 413
    assert woken(service) == ["github"]


async def test_ids_that_cannot_be_kept_are_none(client: httpx.AsyncClient, service: MemoryService) -> None:
    """An overlong id, or one that cannot be shown, wakes like a delivery without one."""
    for delivery in ("x" * 201, "", "a\tb"):
        assert (await send(client, "github", github(delivery=delivery))).status_code == 202
    assert [given["delivery"] for _what, given in service.calls] == [None] * 3


async def test_only_posts_are_taken(client: httpx.AsyncClient) -> None:
    """Other methods are told what the path takes; they need a token like every other path."""
    headers = {"authorization": "Bearer ci-0123456789abcdef"}
    answer = await client.get("/v1/webhooks/github", headers=headers)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert (await client.get("/v1/webhooks/github")).status_code == 401


async def test_wrong_signatures_in_masses(service: MemoryService) -> None:
    """An address that sends many wrong signatures is told to wait, and its right ones are still taken."""
    app = create_app(
        service, metrics_text=no_metrics, webhooks=HOOKS, limits=RequestLimits(failures_per_minute=2)
    )
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hooks.example.com") as client:
        codes = [(await send(client, each, {})).status_code for each in ("github", "nobody", "github", "x")]
        assert codes == [401, 401, 429, 429]
        assert (await send(client, "github", github())).status_code == 202


async def test_without_tokens_only_webhooks_are_open(service: MemoryService) -> None:
    """Where no token is set, a foreign Host and a foreign Origin reach the webhooks and nothing else."""
    app = create_app(service, metrics_text=no_metrics, webhooks=HOOKS)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://hooks.example.com") as client:
        headers = github(origin="https://elsewhere.example.com")
        assert (await send(client, "github", headers)).status_code == 202
        assert (await client.get("/v1/environments")).status_code == 421


def test_short_secrets_are_refused() -> None:
    """A secret that can be guessed from one signature is told by its source's name."""
    with pytest.raises(Refused, match="source 'x'"):
        create_app(MemoryService(), metrics_text=no_metrics, webhooks=[hook("x", "hmac", secret="short")])


def test_a_webhook_does_not_show_its_secret() -> None:
    """Neither its repr nor that of what holds it has the secret in it."""
    assert SECRET not in repr(HOOKS)


def test_refs_of_forms() -> None:
    """The name of what was pushed to is found in JSON and in a form."""
    assert pushed_ref(PUSH) == "refs/heads/main"
    assert pushed_ref(urlencode({"payload": PUSH.decode(), "x": "y"}).encode()) == "refs/heads/main"
