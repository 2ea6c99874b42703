"""The receiver of webhooks: checks the signature of what arrived, and wakes the source; it does nothing else.

An unknown source, a source without a webhook and a wrong signature get the same answer in the same time. Only
a body whose signature is right is parsed, and one that cannot be is taken for a push.
"""

import asyncio
import json
import secrets
import time
from dataclasses import field
from typing import Annotated
from urllib.parse import parse_qs

from fastapi import APIRouter, Path, Request
from starlette.responses import JSONResponse

from reconciler.errors import NotFound, Refused
from reconciler.events import DeliveryReceived, DeliveryResult
from reconciler.frozen import frozen
from reconciler.web import models
from reconciler.web.access import SECRET_CHARACTERS_MIN
from reconciler.web.guard import Doorkeeper
from reconciler.web.problems import problem
from reconciler.web.requests import PROBLEMS, Reconciling, answer, name_of
from reconciler.web.signatures import Provider, delivery_of, event_of, is_signed

PARSED_APART_BYTES = 64 * 1024
"""Larger bodies are parsed in a thread, so that nobody waits for them."""
PUSHES = frozenset({"", "push", "push hook", "tag push hook", "system hook", "create"})
"""Events that may tell of new commits, in lower case; the empty one of a sender that does not say."""

router = APIRouter(prefix="/v1/webhooks", responses=PROBLEMS, tags=["webhooks"])


@frozen
class Webhook:
    """Who may wake a source; `ref` is the full name of what is followed, None where any push may matter."""

    source: str
    provider: Provider
    secrets: tuple[str, ...] = field(repr=False)
    ref: str | None = None


NOBODY = Webhook(source="", provider=Provider.GITHUB, secrets=(secrets.token_hex(32), secrets.token_hex(32)))
"""Stands in for a source that has no webhook; nobody knows its secrets."""


def check_webhooks(webhooks: tuple[Webhook, ...]) -> None:
    """Refuse secrets that can be guessed from one signature."""
    for webhook in webhooks:
        if any(len(secret) < SECRET_CHARACTERS_MIN for secret in webhook.secrets):
            raise Refused(
                f"the webhook secret of source '{webhook.source}' has less than "
                f"{SECRET_CHARACTERS_MIN} characters",
                hint="make one with `openssl rand -hex 32`, and give it to the provider as well",
            )


_BODY = {
    "requestBody": {
        "description": "What the provider sends, signed; JSON or a form, and nothing is lost on other types.",
        "content": {"*/*": {"schema": {"type": "string"}}},
    }
}


@router.post("/{source}", response_model=models.Delivery, status_code=202, openapi_extra=_BODY)
async def receive(
    request: Request,
    reconciler: Reconciling,
    source: Annotated[str, Path(description="the source's name in the settings")],
) -> JSONResponse:
    """Wake a source where the signature is right; answered at once, a pass runs after this answer."""
    webhook = _webhook(request, source)
    body = await request.body()
    now = time.time()
    # Always as many as a source can have, so that the time tells nothing.
    tried = (*webhook.secrets, *NOBODY.secrets)[: len(NOBODY.secrets)]
    signed = [is_signed(webhook.provider, secret, request.headers, body, now) for secret in tried]
    if not any(signed):
        refused = problem(
            401,
            "there is no webhook of this source that was signed like this",
            hint="set the provider and its secret under `webhook` of the source in the settings",
        )
        doorkeeper: Doorkeeper = request.app.state.doorkeeper
        return doorkeeper.reject(request.scope, "signature", refused)
    delivery = delivery_of(webhook.provider, request.headers)
    result = DeliveryResult.IGNORED
    if await _matters(webhook, event_of(webhook.provider, request.headers), body):
        woken = await reconciler.delivered(webhook.source, delivery=delivery)
        result = DeliveryResult.WOKEN if woken else DeliveryResult.REPEATED
    request.app.state.observe(DeliveryReceived(source=webhook.source, result=result, id=delivery))
    return answer({"source": webhook.source, "result": result}, 202)


def _webhook(request: Request, source: str) -> Webhook:
    known: dict[str, Webhook] = request.app.state.webhooks
    try:
        return known.get(name_of(source), NOBODY)
    except NotFound:
        return NOBODY


async def _matters(webhook: Webhook, event: str, body: bytes) -> bool:
    """Whether it may tell of new commits on what the source follows."""
    if event.lower() not in PUSHES:
        return False
    if webhook.ref is None:
        return True
    read = asyncio.to_thread(pushed_ref, body) if len(body) > PARSED_APART_BYTES else None
    ref = await read if read is not None else pushed_ref(body)
    return ref is None or ref == webhook.ref


def pushed_ref(body: bytes) -> str | None:
    """The full name of the branch or tag that was pushed to; None where the body does not say."""
    try:
        if body.startswith(b"payload="):
            body = parse_qs(body.decode(), max_num_fields=10)["payload"][0].encode()
        value = json.loads(body)
    except (ValueError, KeyError, RecursionError):
        return None
    ref = value.get("ref") if isinstance(value, dict) else None
    return ref if isinstance(ref, str) and ref.startswith(("refs/heads/", "refs/tags/")) else None
