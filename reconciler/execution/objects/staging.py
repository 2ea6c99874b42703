"""Builds a generation in schemas beside those that are live, which it never touches.

What is made is recorded before (the generation) and in the same transaction (its oid). Whatever breaks in,
another call goes on behind what is recorded, or takes back exactly that.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby, zip_longest

import psycopg

from reconciler.errors import (
    Conflict,
    NotFound,
    PermanentError,
    ReconcilerError,
    Refused,
    StepFailed,
    TemporaryError,
)
from reconciler.execution.objects.dropping import drop_parked
from reconciler.execution.objects.sending import (
    QUERIES,
    Manner,
    bound,
    repeatedly,
    send,
    settled,
    transaction,
)
from reconciler.execution.session import DatabaseSession
from reconciler.objects.model import ObjectName
from reconciler.objects.work import ObjectToStage, SchemaToStage, Work
from reconciler.postgres.connection import Connection
from reconciler.tracking import generation_records, generations
from reconciler.tracking.generations import GenerationState, TrackedGeneration, translated
from reconciler.tracking.record import Actor

BATCH_MAX = 16
"""Objects in one message, and in one transaction where their schemas say the same of how they are made."""
FAILURE_MAX = 2_000
"""Characters of a failure that are recorded."""
_TAKEN = "42P06"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Builder:
    """What every step of one call needs."""

    session: DatabaseSession
    beside: tuple[DatabaseSession, ...]
    work: Work
    number: int
    manner: Manner
    made: set[ObjectName] = field(default_factory=set)

    async def told(self, *made: ObjectToStage) -> None:
        """Tell how many objects are made by now."""
        self.made.update(one.name for one in made)
        await self.manner.told(f"{len(self.made)} of {len(self.work.objects)} objects made")

    @property
    def sessions(self) -> tuple[DatabaseSession, ...]:
        return (self.session, *self.beside)


async def stage(
    session: DatabaseSession,
    work: Work,
    by: Actor,
    *,
    manner: Manner | None = None,
    beside: Sequence[DatabaseSession] = (),
    keep: bool = False,
) -> TrackedGeneration:
    """Build a generation, over the writers of `beside` too; again, goes on where it was left.

    A failure takes back what was made, by all attempts, unless `keep` leaves it to be looked at. What may
    pass leaves it for another call.
    """
    manner = manner or Manner()
    number = await _begun(session, work, by, manner)
    builder = _Builder(session=session, beside=tuple(beside), work=work, number=number, manner=manner)
    try:
        found = await generations.find(session.writer, number=number)
        if found.state is not GenerationState.STAGING:
            return found
        await _build(builder)
    except PermanentError as error:
        await _take_back(builder, error, keep=keep)
        raise
    return await generations.find(session.writer, number=number)


async def _begun(session: DatabaseSession, work: Work, by: Actor, manner: Manner) -> int:
    """Record the generation, or find the one that was begun; what one of the same key left goes first."""
    doing = f"beginning generation {work.key} of component '{work.component}'"
    try:
        found = await generations.find(session.writer, key=work.key)
    except NotFound:
        found = None
    except psycopg.Error as error:
        raise translated(error, doing) from error
    if found is not None and found.state in (*generations.BEFORE_SWITCH, GenerationState.LIVE):
        await _same(session, work, found, doing)
        return found.number
    if found is not None and found.state in (GenerationState.REVERTED, GenerationState.FAILED):
        # Nobody would find it behind this one, which has its key from now on.
        await drop_parked(session, found.number, manner)
    try:
        async with session.writer.transaction():
            return await generation_records.begin(
                session.writer, session.fence, work.document(), by, work.component
            )
    except psycopg.Error as error:
        raise translated(error, doing) from error


async def _same(session: DatabaseSession, work: Work, found: TrackedGeneration, doing: str) -> None:
    owner = session.fence.owner
    whose = (found.component, found.environment, found.deployment)
    recorded = {one.name: one.hash for one in await generations.objects(session.writer, found.number)}
    wanted = {name: one.hash for name, one in work.objects.items()}
    same = all(recorded.get(name) == value for name, value in wanted.items())
    if (
        found.state is GenerationState.LIVE
        or whose != (work.component, owner.environment, owner.deployment)
        or not same
    ):
        raise Conflict(
            f"{doing}: a generation of that key is {found.state.value}, of component '{found.component}' of"
            f" environment '{found.environment}', deployment '{found.deployment}', commit {found.commit}",
            hint="cancel that one, or give this one another key",
        )


async def _build(builder: _Builder) -> None:
    manner = builder.manner
    manner.interference.at("begun")
    await _make_schemas(builder)
    manner.interference.at("schemas made")
    done = {one.name for one in await generations.objects(builder.session.writer, builder.number) if one.made}
    builder.made.update(done & builder.work.objects.keys())
    for wave in builder.work.waves:
        await _make_wave(builder, [one for one in wave if one.name not in done])
    manner.interference.at("objects made")
    await _finish(builder)
    manner.interference.at("staged")


async def _make_schemas(builder: _Builder) -> None:
    made = {one.name for one in await generations.schemas(builder.session.writer, builder.number) if one.made}
    wanted = [one for one in builder.work.schemas if one.texts is not None and one.name not in made]
    for one in wanted:
        await repeatedly(partial(_make_schema, builder, one), builder.manner)


async def _make_schema(builder: _Builder, one: SchemaToStage) -> None:
    assert one.texts is not None
    doing = f"making schema '{one.staging}' for '{one.name}'"
    async with transaction(builder.session, builder.manner, doing) as writer:
        for text in one.texts.creates:
            await _run(writer, text, doing, None)
        await generation_records.record_schema(writer, builder.session.fence, builder.number, one.name)


async def _make_wave(builder: _Builder, wave: list[ObjectToStage]) -> None:
    """Make what does not need each other, each writer a batch after the other."""
    if not wave:
        return
    size = min(BATCH_MAX, max(1, len(wave) // (2 * len(builder.sessions))))
    if builder.manner.interference.active:
        size = 1
    batches = [wave[first : first + size] for first in range(0, len(wave), size)]
    batches.reverse()

    async def work_through(session: DatabaseSession) -> None:
        while batches:
            await _make_batch(builder, session, batches.pop())

    async def until_one_fails(session: DatabaseSession) -> None:
        try:
            await work_through(session)
        except BaseException:
            batches.clear()
            raise

    ends = await asyncio.gather(
        *(until_one_fails(session) for session in builder.sessions[: len(batches)]), return_exceptions=True
    )
    for end in ends:
        if isinstance(end, BaseException):
            raise end


async def _make_batch(builder: _Builder, session: DatabaseSession, batch: Sequence[ObjectToStage]) -> None:
    """Send objects with their records as one message; where that fails, one by one, to say which."""
    if len(batch) > 1:
        alike = [list(each) for _, each in groupby(batch, key=partial(_settings, builder))]
        try:
            await send(session.writer, [text for each in alike for text in _texts(builder, session, each)])
        except psycopg.Error as error:
            await settled(session.writer)
            if session.writer.closed:
                raise translated(error, f"making {len(batch)} objects") from error
        else:
            await builder.told(*batch)
            return
    made = {one.name for one in await generations.objects(session.writer, builder.number) if one.made}
    for one in batch:
        if one.name in made:
            continue
        builder.manner.interference.at(f"before {one.name.schema}.{one.name.name}")
        await repeatedly(partial(_make_object, builder, session, one), builder.manner)
        await builder.told(one)
        builder.manner.interference.at(f"after {one.name.schema}.{one.name.name}")


async def _make_object(builder: _Builder, session: DatabaseSession, one: ObjectToStage) -> None:
    """Make one object with its record, statement by statement, so that an error has its place."""
    assert one.texts is not None
    doing = f"making {one.identity} in schema '{one.texts.schema}'"
    async with transaction(session, builder.manner, doing) as writer:
        for text in _settings(builder, one):
            await _run(writer, text, doing, one.path)
        for text, line in zip_longest(_statements(one), one.lines[: len(_statements(one))]):
            await _run(writer, text, doing, one.path, line)
        builder.manner.interference.at(f"inside {one.name.schema}.{one.name.name}")
        await writer.execute(generation_records.RECORD_OBJECT, _record(builder, one))


async def _run(
    writer: Connection, text: str, doing: str, path: str | None, first_line: int | None = None
) -> None:
    """Run one statement of an author that begins in a line of its file; an error is told with its place."""
    try:
        await writer.execute(text.encode())
    except psycopg.Error as error:
        told = translated(error, doing)
        if isinstance(told, TemporaryError) or error.sqlstate is None:
            raise told from error
        if error.sqlstate == _TAKEN:
            raise Refused(
                f"{told.message}; it was not made by us, and is left alone",
                hint="retry: it is built under another name then; or rename what is there",
            ) from error
        at = error.diag.statement_position
        below = text[: int(at) - 1].count("\n") if at is not None else 0
        where = f" (line {below + 1} of the statement)" if first_line is None and below else ""
        raise StepFailed(
            told.message + where,
            hint=told.hint,
            file=path,
            line=first_line + below if first_line is not None else None,
            sqlstate=error.sqlstate,
        ) from error


def _texts(builder: _Builder, session: DatabaseSession, alike: Sequence[ObjectToStage]) -> list[str]:
    """The whole transaction of objects that are made with the same settings, as statements."""
    writer = session.writer
    record: dict[str, object] = {
        "epoch": builder.session.fence.epoch,
        "generation": builder.number,
        "schemas": [one.name.schema for one in alike],
        "names": [one.name.name for one in alike],
    }
    return [
        QUERIES["begin_unit"].as_string(),
        bound(writer, QUERIES["limit_making"], builder.manner.limits()),
        *_settings(builder, alike[0]),
        *(text for one in alike for text in _statements(one)),
        bound(writer, generation_records.RECORD_OBJECTS, record),
        QUERIES["commit_unit"].as_string(),
    ]


def _settings(builder: _Builder, one: ObjectToStage) -> tuple[str, ...]:
    texts = next((each.texts for each in builder.work.schemas if each.name == one.name.schema), None)
    return texts.settings if texts is not None else ()


def _statements(one: ObjectToStage) -> tuple[str, ...]:
    assert one.texts is not None
    return (*one.texts.creates, *one.texts.indexes, *one.texts.metadata)


def _record(builder: _Builder, one: ObjectToStage) -> dict[str, object]:
    return {
        "epoch": builder.session.fence.epoch,
        "generation": builder.number,
        "schema": one.name.schema,
        "name": one.name.name,
    }


async def _finish(builder: _Builder) -> None:
    """Give the schemas their owners and record that all is made, as it stands."""
    doing = f"finishing generation {builder.work.key}"

    async def attempt() -> None:
        async with transaction(builder.session, builder.manner, doing, durable=True) as writer:
            for one in builder.work.schemas:
                if one.texts is not None and one.texts.owner is not None:
                    await _run(writer, one.texts.owner, f"giving schema '{one.staging}' its owner", None)
            await generation_records.finish_staging(writer, builder.session.fence, builder.number)

    await repeatedly(attempt, builder.manner)


async def _take_back(builder: _Builder, error: PermanentError, *, keep: bool) -> None:
    """Drop what was made, or leave it; where even that fails, the first error is still the one to tell."""
    session, failure = builder.session, error.message[:FAILURE_MAX]
    try:
        if keep:
            async with transaction(session, builder.manner, "recording a failure", durable=True) as writer:
                change = ((GenerationState.STAGING,), GenerationState.FAILED)
                await generation_records.move(writer, session.fence, builder.number, change, failure)
        else:
            await drop_parked(session, builder.number, builder.manner, failure=failure)
    except ReconcilerError as second:
        error.add_note(f"taking back what was made: {second}")
