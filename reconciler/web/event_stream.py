"""Routes of events: a page of them, and a stream that goes on as they happen."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import JSONResponse, StreamingResponse

from reconciler.errors import TemporaryError
from reconciler.rollout.status import EventRecord
from reconciler.web import models
from reconciler.web.access import Caller
from reconciler.web.requests import (
    NAME_CHARACTERS_MAX,
    PROBLEMS,
    After,
    Environment,
    Limit,
    Reader,
    Reconciling,
    answer,
)
from reconciler.web.service import Service
from reconciler.web.values import to_json

STREAMS_MAX = 64
STREAM_LASTS_S = 3600.0
"""A stream ends after an hour; clients come back with the last id they saw."""
LOOK_EVERY_S = 0.5
KEEP_ALIVE_S = 15.0
ROWS_AT_ONCE = 200
CLIENT_RETRY_MS = 2000

router = APIRouter(prefix="/v1", responses=PROBLEMS, tags=["events"])


@router.get("/environments/{env}/events", response_model=models.Events)
async def environment_events(
    reconciler: Reconciling,
    _who: Reader,
    env: Environment,
    after: After | None = None,
    limit: Limit = 100,
) -> JSONResponse:
    """List events of an environment by rising id: those after an id, else the newest."""
    await reconciler.environment(env)
    rows = await reconciler.events(environment=env, after=after, limit=limit)
    return answer({"events": rows, "next": rows[-1].id if rows else after or 0})


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def stream(
    request: Request,
    reconciler: Reconciling,
    who: Reader,
    after: After = 0,
    environment: Annotated[
        str | None, Query(max_length=NAME_CHARACTERS_MAX, pattern=models.PRINTABLE)
    ] = None,
    last_event_id: Annotated[str | None, Header(max_length=20)] = None,
) -> StreamingResponse:
    """Send events as they happen (server-sent events); `Last-Event-ID` goes before `after`."""
    if last_event_id is not None and last_event_id.isascii() and last_event_id.isdigit():
        after = min(int(last_event_id), 2**63 - 1)
    streams: set[object] = request.app.state.streams
    if len(streams) >= STREAMS_MAX:
        raise TemporaryError(f"{STREAMS_MAX} clients follow events already")
    return StreamingResponse(
        _follow(_Followed(reconciler, who, environment), after, streams, request.app.state.stopping),
        media_type="text/event-stream",
    )


@dataclass(frozen=True, slots=True)
class _Followed:
    """Events of one environment or of all, as far as they are there for the caller."""

    reconciler: Service
    who: Caller
    environment: str | None

    async def rows(self, after: int) -> tuple[Sequence[EventRecord], int, bool]:
        """Those after a number that the caller sees, the number to go on from, and whether there are more."""
        found = await self.reconciler.events(environment=self.environment, after=after, limit=ROWS_AT_ONCE)
        seen = [row for row in found if self.who.sees(row.environment)]
        return seen, found[-1].id if found else after, len(found) >= ROWS_AT_ONCE


async def _follow(
    followed: _Followed,
    after: int,
    streams: set[object],
    stopping: asyncio.Event,
) -> AsyncIterator[str]:
    """Look for events every so often until the client goes, the daemon stops, or the hour is over."""
    mark = object()
    streams.add(mark)
    ends = time.monotonic() + STREAM_LASTS_S
    silent_since = time.monotonic()
    try:
        yield f"retry: {CLIENT_RETRY_MS}\n\n"
        while not stopping.is_set() and time.monotonic() < ends:
            rows: Sequence[EventRecord] = ()
            more = False
            # While the control database is away there is nothing to tell; the stream outlives that.
            with suppress(TemporaryError):
                rows, after, more = await followed.rows(after)
            for row in rows:
                data = json.dumps(to_json(row), ensure_ascii=False)
                yield f"id: {row.id}\nevent: {_line(row.kind)}\ndata: {data}\n\n"
            if rows:
                silent_since = time.monotonic()
            elif time.monotonic() - silent_since > KEEP_ALIVE_S:
                silent_since = time.monotonic()
                yield ": still here\n\n"
            if not more:
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), timeout=LOOK_EVERY_S)
    finally:
        streams.discard(mark)


def _line(text: str) -> str:
    return " ".join(text.split())
