"""Does once, behind a switch, what was recorded with its generation; it never decides what there is to do.

SQL commits together with the record that it is done. A request to a URL is sent until it is answered, and so
at least once: the header `Idempotency-Key` tells who receives it which of them are the same.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

import psycopg

from reconciler.catalog import sql_text
from reconciler.errors import (
    Conflict,
    NotFound,
    PermanentError,
    ReconcilerError,
    Refused,
    ScriptError,
    StepFailed,
    TemporaryError,
)
from reconciler.execution.objects.sending import Manner, repeatedly, transaction
from reconciler.execution.session import DatabaseSession
from reconciler.tracking import deferred, generations
from reconciler.tracking.deferred import DeferredState, TrackedDeferred
from reconciler.tracking.generations import GenerationState, TrackedGeneration, translated

POST_TIMEOUT_S = 10.0
"""How long each wait for a URL may take."""
POST_MOST_S = 30.0
"""How long it may take to answer, however it dribbles."""
ANSWER_MAX = 2_000
"""Bytes of an answer that are read, and of an error that are told."""
_PASSING = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is sent to a URL."""

    url: str
    body: bytes
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back."""

    status: int
    text: str


Post = Callable[[Request], Awaitable[Answer]]


async def run_deferred(
    session: DatabaseSession,
    key: str,
    name: str,
    *,
    manner: Manner | None = None,
    send: Post | None = None,
) -> bool:
    """Do an action of the generation that is live; again, does nothing: false where it was done before.

    A failure leaves it pending, with the reason recorded. What may pass is raised as TemporaryError.
    """
    manner, doing = manner or Manner(), f"running deferred action '{name}' of generation {key}"
    try:
        found = await generations.find(session.writer, key=key)
        wanted = next(
            (one for one in await deferred.of_generation(session.writer, found.number) if one.name == name),
            None,
        )
    except psycopg.Error as error:
        raise translated(error, doing) from error
    if wanted is None:
        raise NotFound(f"{doing}: no such action was recorded when it was staged")
    if wanted.state is DeferredState.DONE:
        return False
    if wanted.state is DeferredState.GIVEN_UP or found.state is not GenerationState.LIVE:
        why = wanted.error or f"the generation is {found.state.value}"
        raise Conflict(f"{doing}: {why}", hint="what is live now has deferred actions of its own")
    one = _One(session=session, found=found, wanted=wanted, manner=manner, doing=doing)
    try:
        return await (one.outside(send or post) if wanted.outside else one.inside())
    except (PermanentError, TemporaryError) as error:
        await one.failed(error)
        raise


@dataclass(frozen=True, slots=True, kw_only=True)
class _One:
    """One action, about to be done."""

    session: DatabaseSession
    found: TrackedGeneration
    wanted: TrackedDeferred
    manner: Manner
    doing: str

    async def inside(self) -> bool:
        """Run statements in one transaction with the record that they ran."""
        _must_stay_inside(self.wanted.body, self.doing)
        return await repeatedly(self._inside, self.manner)

    async def _inside(self) -> bool:
        async with transaction(self.session, self.manner, self.doing, durable=True) as writer:
            locked = await deferred.lock(writer, self.wanted.generation, self.wanted.name)
            if locked is None or locked.state is not DeferredState.PENDING:
                return False
            self.manner.interference.at("deferred begun")
            try:
                await writer.execute(self.wanted.body.encode())
            except psycopg.Error as error:
                told = translated(error, self.doing)
                if isinstance(told, TemporaryError):
                    raise told from error
                raise StepFailed(
                    told.message, hint=told.hint or "it stays pending", sqlstate=error.sqlstate
                ) from error
            done = await deferred.settle(writer, self.session.fence, self.wanted.generation, self.wanted.name)
            self.manner.interference.at("inside deferred")
        self.manner.interference.at("deferred done")
        return done

    async def outside(self, send: Post) -> bool:
        """Send a request until it is answered, then record that."""
        await repeatedly(lambda: self._answered(send), self.manner)
        self.manner.interference.at("deferred answered")

        async def note() -> bool:
            async with transaction(self.session, self.manner, self.doing, durable=True) as writer:
                fence, wanted = self.session.fence, self.wanted
                return await deferred.settle(writer, fence, wanted.generation, wanted.name)

        return await repeatedly(note, self.manner)

    async def _answered(self, send: Post) -> None:
        found, name = self.found, self.wanted.name
        document = {
            "environment": found.environment,
            "deployment": found.deployment,
            "component": found.component,
            "generation": found.key,
            "commit": found.commit,
            "action": name,
        }
        request = Request(
            url=self.wanted.body,
            body=json.dumps(document, ensure_ascii=False).encode(),
            key=f"{found.key}-{found.number}/{name}",
        )
        try:
            answer = await send(request)
        except (OSError, ValueError) as error:
            raise TemporaryError(f"{self.doing}: {_host(request.url)} did not answer: {error}") from error
        if HTTPStatus.OK <= answer.status < HTTPStatus.MULTIPLE_CHOICES:
            return
        words = f"{self.doing}: {_host(request.url)} answered {answer.status}: {answer.text}".rstrip(": ")
        if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR or answer.status in _PASSING:
            raise TemporaryError(words)
        raise StepFailed(words, hint="mend the receiver or the URL, then retry; it stays pending")

    async def failed(self, error: ReconcilerError) -> None:
        """Record why it failed; where even that fails, the first error is still the one to tell."""
        try:
            async with transaction(self.session, self.manner, self.doing) as writer:
                fence, wanted = self.session.fence, self.wanted
                await deferred.fail(writer, fence, wanted.generation, wanted.name, error.message)
        except ReconcilerError as second:
            error.add_note(f"recording that: {second}")


def _must_stay_inside(text: str, doing: str) -> None:
    """Refuse what would commit without its record."""
    try:
        statements = sql_text.split(text)
    except ScriptError as error:
        raise StepFailed(f"{doing}: {error}", hint="correct the statement") from error
    for one in statements:
        reason = one.facts.transaction or one.facts.outside_transaction
        if reason is not None:
            raise Refused(
                f"{doing}: line {one.line}: {one.kind}: it cannot run in one transaction with its record",
                hint="an action inside of the database commits together with the record that it is done",
            )


def _host(url: str) -> str:
    """Who was asked, without the parts of a URL that may be secret."""
    return urlsplit(url).hostname or "the receiver"


async def post(request: Request) -> Answer:
    """Send a request by POST; follows no redirect. Raises OSError or ValueError where nothing comes back."""
    async with asyncio.timeout(POST_MOST_S):
        return await asyncio.to_thread(_post, request)


def _post(request: Request) -> Answer:
    # Few ever need it, and it takes its time to import.
    from http.client import HTTPConnection, HTTPException, HTTPSConnection

    where = urlsplit(request.url)
    if where.scheme not in ("http", "https") or where.hostname is None:
        raise ValueError("not an http or https URL")
    kind = HTTPSConnection if where.scheme == "https" else HTTPConnection
    connection = kind(where.hostname, where.port, timeout=POST_TIMEOUT_S)
    headers: Mapping[str, str] = {
        "Content-Type": "application/json",
        "Idempotency-Key": request.key,
        "User-Agent": "pg-reconciler",
    }
    try:
        path = (where.path or "/") + (f"?{where.query}" if where.query else "")
        connection.request("POST", path, body=request.body, headers=dict(headers))
        answer = connection.getresponse()
        text = answer.read(ANSWER_MAX).decode(errors="replace").strip()
        return Answer(status=answer.status, text=text)
    except HTTPException as error:
        raise OSError(f"no HTTP answer: {error!r}") from error
    finally:
        connection.close()
