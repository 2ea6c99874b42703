"""What is done once behind a switch: with its record inside of the database, until answered outside."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest

from reconciler.errors import Conflict, NotFound, Refused, StepFailed, TemporaryError
from reconciler.execution.objects.deferred import Answer, Post, Request, post, run_deferred
from reconciler.execution.objects.sending import Manner
from reconciler.execution.objects.switching import promote, retire, revert
from reconciler.objects.work import DeferredToRecord, Work
from reconciler.tracking import deferred
from reconciler.tracking.deferred import DeferredState
from tests.plugins.generations import QUICK, Stand, StrikeOnce, Struck, live, ready, view, work

COUNT = "SELECT count(*) FROM public.told"
TELL = DeferredToRecord(name="tell", body="INSERT INTO public.told VALUES (1)")
ASK = DeferredToRecord(name="ask", body="https://receiver.example/hook?token=hidden", outside=True)


def wanted(key: str, *actions: DeferredToRecord, answer: int = 1) -> Work:
    """A generation with deferred actions."""
    return replace(work(key, view("app.plain", f"SELECT {answer} AS n")), deferred=actions)


def states(stand: Stand) -> list[tuple[object, ...]]:
    """What is recorded of all actions."""
    return stand.run(
        "SELECT g.key, d.name, d.state, d.attempts, d.error FROM reconciler.deferred_actions AS d"
        " JOIN reconciler.generations AS g USING (generation) ORDER BY d.generation, d.ordinal"
    )


async def test_an_action_commits_once_with_its_record(stand: Stand) -> None:
    """It waits for the switch, is done in one transaction with its record, and never again."""
    session = await stand.session()
    stand.run("CREATE TABLE public.told (n int)")
    await ready(stand, session, wanted("k1", TELL))
    with pytest.raises(Conflict, match="the generation is ready"):
        await run_deferred(session, "k1", "tell")
    await promote(session, "k1")
    with pytest.raises(Struck):
        await run_deferred(session, "k1", "tell", manner=Manner(interference=StrikeOnce("inside deferred")))
    await session.abandon()
    session = await stand.session()
    assert stand.run(COUNT) == [(0,)]
    assert await run_deferred(session, "k1", "tell")
    assert not await run_deferred(session, "k1", "tell")
    assert stand.run(COUNT) == [(1,)]
    assert states(stand) == [("k1", "tell", "done", 0, None)]
    with pytest.raises(NotFound, match="no such action"):
        await run_deferred(session, "k1", "other")


async def test_a_failure_leaves_it_pending_and_what_was_displaced_in_place(stand: Stand) -> None:
    """The reason is recorded, another call tries again, and nothing of the old side goes before."""
    session = await stand.session()
    await live(stand, session, wanted("k1"))
    await live(stand, session, wanted("k2", TELL, answer=2))
    with pytest.raises(StepFailed, match=r'tell.*relation "public.told" does not exist'):
        await run_deferred(session, "k2", "tell")
    ((key, name, state, attempts, error),) = states(stand)
    assert (key, name, state, attempts) == ("k2", "tell", "pending", 1)
    assert "public.told" in str(error)
    owner = session.fence.owner
    (pending,) = await deferred.pending(
        session.writer, component="reports", environment=owner.environment, deployment=owner.deployment
    )
    assert pending.state is DeferredState.PENDING
    with pytest.raises(Conflict, match="deferred action 'tell' of it is still pending"):
        await retire(session, "k2", now=True)
    stand.run("CREATE TABLE public.told (n int)")
    assert await run_deferred(session, "k2", "tell")
    await retire(session, "k2", now=True)
    assert stand.schemas == ["app", "public"]


async def test_what_nobody_will_do_is_given_up(stand: Stand) -> None:
    """A newer generation takes over, or the switch is taken back: it is not pending, and says why."""
    session = await stand.session()
    await live(stand, session, wanted("k1", TELL))
    await live(stand, session, wanted("k2", TELL, answer=2))
    await revert(session, "k2")
    assert states(stand) == [
        ("k1", "tell", "given_up", 0, "generation k2 took over before it was done"),
        ("k2", "tell", "given_up", 0, "its generation was reverted before it was done"),
    ]
    with pytest.raises(Conflict, match="generation k2 took over"):
        await run_deferred(session, "k1", "tell")


@pytest.mark.parametrize("text", ["COMMIT", "INSERT INTO public.told VALUES (1); COMMIT; BEGIN"])
async def test_an_action_cannot_commit_without_its_record(stand: Stand, text: str) -> None:
    """Control of transactions is refused before anything is run."""
    session = await stand.session()
    stand.run("CREATE TABLE public.told (n int)")
    await live(stand, session, wanted("k1", DeferredToRecord(name="tell", body=text)))
    with pytest.raises(Refused, match="COMMIT: it cannot run in one transaction"):
        await run_deferred(session, "k1", "tell")
    assert stand.run(COUNT) == [(0,)]


def answering(*answers: Answer | OSError, to: list[Request]) -> Post:
    """A receiver that gives answers in turn and keeps what it was asked."""
    left = list(answers)

    async def send(request: Request) -> Answer:
        to.append(request)
        answer = left.pop(0)
        if isinstance(answer, OSError):
            raise answer
        return answer

    return send


async def test_a_request_is_sent_until_it_is_answered(stand: Stand) -> None:
    """At least once, each time with the same key; the record follows the answer."""
    session = await stand.session()
    await live(stand, session, wanted("k1", ASK))
    asked: list[Request] = []
    send = answering(OSError("refused"), Answer(status=503, text="not now"), to=asked)
    with pytest.raises(TemporaryError, match=r"receiver\.example answered 503: not now"):
        await run_deferred(session, "k1", "ask", manner=replace(QUICK, attempts=2), send=send)
    with pytest.raises(Struck):
        await run_deferred(
            session,
            "k1",
            "ask",
            manner=Manner(interference=StrikeOnce("deferred answered")),
            send=answering(Answer(status=202, text=""), to=asked),
        )
    with pytest.raises(StepFailed, match="answered 404: nobody here"):
        await run_deferred(
            session, "k1", "ask", send=answering(Answer(status=404, text="nobody here"), to=asked)
        )
    assert await run_deferred(session, "k1", "ask", send=answering(Answer(status=200, text="ok"), to=asked))
    assert len(asked) == 5
    (key,) = {one.key for one in asked}
    assert key.startswith("k1-")
    assert key.endswith("/ask")
    assert json.loads(asked[0].body) == {
        "environment": "production",
        "deployment": "eu",
        "component": "reports",
        "generation": "k1",
        "commit": "c" * 40,
        "action": "ask",
    }
    assert "hidden" not in str(states(stand))


Serve = Callable[[bytes], Awaitable[str]]


@pytest.fixture
async def serve() -> AsyncIterator[Serve]:
    """A receiver that answers each request with the same bytes."""
    servers = []

    async def start(answer: bytes) -> str:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                int(line.split(b":")[1])
                for line in head.split(b"\r\n")
                if line.lower().startswith(b"content-length")
            )
            await reader.readexactly(length)
            writer.write(answer)
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        servers.append(server)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"

    yield start
    for server in servers:
        server.close()
        await server.wait_closed()


async def test_a_request_goes_over_http(serve: Serve) -> None:
    """By POST; a redirect is an answer like others and is not followed."""
    at = await serve(b"HTTP/1.1 307 Elsewhere\r\nLocation: /x\r\nContent-Length: 3\r\n\r\nno \r\n")
    answer = await post(Request(url=f"{at}/hook?a=1", body=b"{}", key="k/a"))
    assert answer == Answer(status=307, text="no")
    silent = await serve(b"")
    with pytest.raises(OSError, match="no HTTP answer"):
        await post(Request(url=silent, body=b"{}", key="k/a"))
