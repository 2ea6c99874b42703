"""Carries out the steps of SQL objects, each upon what the managed database has recorded of its generation.

What is done is not done again: every step may be repeated whole. It decides nothing about when to switch.
"""

import time
from collections.abc import Iterable
from datetime import timedelta

from typing_extensions import override

from reconciler.diff.model import ObjectsDiff
from reconciler.errors import NotFound, Refused, StateMoved, TemporaryError
from reconciler.execution.course import Journal
from reconciler.execution.interference import Interference
from reconciler.execution.objects import readiness, staging, switching
from reconciler.execution.objects.ageing import fill_what_is_old
from reconciler.execution.objects.breaking import breakable
from reconciler.execution.objects.cancelling import cancel
from reconciler.execution.objects.checking import check_unit_tests, tests_of
from reconciler.execution.objects.deferred import run_deferred
from reconciler.execution.objects.dropping import Surprised, listed
from reconciler.execution.objects.metadata import Metadata, apply_metadata, settle_stability
from reconciler.execution.objects.preflight import preflight
from reconciler.execution.objects.readiness import Assertion
from reconciler.execution.objects.sending import Manner
from reconciler.execution.objects.switching import Overtaken, Policy
from reconciler.execution.resources import Resources
from reconciler.execution.session import DatabaseSession
from reconciler.objects.assertions import staged_query
from reconciler.objects.generation import Placement
from reconciler.objects.model import ObjectName
from reconciler.objects.preflight import needed
from reconciler.objects.results import answers, asked_names
from reconciler.objects.staging_text import live_metadata, live_options, live_schema_metadata
from reconciler.objects.work import DeferredToRecord, Work, work_of
from reconciler.plan.steps import (
    AlterObjects,
    DiscardObjects,
    PromoteObjects,
    ReadyObjects,
    RunDeferred,
    StageObjects,
)
from reconciler.snapshot.objects import read_results

ObjectsStep = DiscardObjects | StageObjects | ReadyObjects | PromoteObjects | AlterObjects | RunDeferred
OBJECTS_STEPS = (DiscardObjects, StageObjects, ReadyObjects, PromoteObjects, AlterObjects, RunDeferred)
LOCK_TIMEOUT_S = 0.5
"""Locks are waited for this long at most; whole transactions are tried again then."""
_STAGED = ("staged object", "staged schema")
_DROPPED = "dropped"
"""How what is found says that a part of what was staged is gone."""
WRITERS_MAX = 4
"""Objects of one generation that are made or filled side by side; each beyond the first has a connection."""


async def carry_out(step: ObjectsStep, resources: Resources, journal: Journal) -> None:
    """Carry out one step; a promotion has to be let go on before."""
    match step:
        case DiscardObjects():
            await _discard(step, resources, journal)
        case StageObjects():
            await breakable(_stage(step, resources, journal), resources.urgent)
        case ReadyObjects():
            await breakable(_make_ready(step, resources, journal), resources.urgent)
        case PromoteObjects():
            await _promote(step, resources, journal)
        case AlterObjects():
            await _alter(step, resources, journal)
        case RunDeferred():
            await _run_deferred(step, resources, journal)


class _Inside(Interference):
    """The points of one step, told apart from those of others: `ID: POINT`."""

    def __init__(self, step: ObjectsStep, outer: Interference) -> None:
        self._id = step.id
        self._outer = outer
        self.active = outer.active

    @override
    def at(self, point: str) -> None:
        self._outer.at(f"{self._id}: {point}")


def manner_of(step: ObjectsStep, resources: Resources, journal: Journal) -> Manner:
    """How the transactions of a step are made."""
    limits = resources.limits

    async def told(text: str) -> None:
        await journal.progressed(step, text)
        if isinstance(step, StageObjects | ReadyObjects):
            # What is made so far is recorded, and found again by whoever goes on.
            await journal.safe_point()

    return Manner(
        lock_timeout_s=min(limits.lock_timeout_s, LOCK_TIMEOUT_S),
        statement_timeout_s=limits.statement_timeout_s,
        told=told,
        interference=_Inside(step, resources.interference),
    )


async def _discard(step: DiscardObjects, resources: Resources, journal: Journal) -> None:
    session = await resources.session(step.database)
    try:
        await cancel(session, step.generation, manner=manner_of(step, resources, journal))
    except NotFound:
        await journal.progressed(step, "nothing of it is recorded any more")
    await journal.discarded(step)


async def _stage(step: StageObjects, resources: Resources, journal: Journal) -> None:
    pending = _pending(step, step.generation, resources)
    work = _work(pending)
    session = await resources.session(step.database)
    await _look_ahead(step, pending, work, session)
    # Recorded first there: what a worker leaves behind that dies now is found by it.
    await journal.staging(step, resources.server_of(step.database))
    await staging.stage(
        session,
        work,
        resources.actor,
        manner=manner_of(step, resources, journal),
        beside=await _beside(session, work, resources),
        keep=resources.keep_failed,
    )


async def _look_ahead(step: StageObjects, pending: ObjectsDiff, work: Work, session: DatabaseSession) -> None:
    """Look again at what was looked at as it was planned, now that nobody else writes."""
    owner = session.fence.owner
    externals, roles = needed(pending.desired.project, pending.generation)
    found = await preflight(
        session.writer,
        work,
        place=(owner.environment, owner.deployment),
        externals=externals,
        roles=roles,
    )
    if found:
        raise Surprised(
            f"staging generation {step.generation} of component '{step.component}': {listed(found)}",
            found,
            hint="nothing was made: take it away, declare it, or grant what is missing",
        )


async def _make_ready(step: ReadyObjects, resources: Resources, journal: Journal) -> None:
    pending = _pending(step, step.generation, resources)
    desired, work = pending.desired, _work(pending)
    session, manner = await resources.session(step.database), manner_of(step, resources, journal)
    await _compare_results(step, pending, session, resources)
    placement, began = Placement.of(pending.generation), time.monotonic()
    assertions = tuple(
        Assertion(name=one.name, query=staged_query(desired.project, placement, one.name, one.sql))
        for one in desired.assertions
    )
    # First, for they need nothing of what is staged, and tell at once what would be told late.
    tests = tests_of(desired.project, pending.generation)
    await check_unit_tests(session, desired.project, tests, manner=manner, within_s=step.within_s)
    await readiness.make_ready(
        session,
        work,
        deadline_s=max(0.0, step.within_s - (time.monotonic() - began)),
        manner=manner,
        beside=await _beside(session, work, resources),
        assertions=assertions,
    )


async def _compare_results(
    step: ReadyObjects, pending: ObjectsDiff, session: DatabaseSession, resources: Resources
) -> None:
    """Refuse what cannot be changed in place, and say what readers will hear, now that it can be seen."""
    names = asked_names(pending.generation)
    if not names:
        return
    live = await read_results(session.writer, names)
    built = await read_results(session.writer, names, staging=pending.generation.staging)
    problems, warnings = answers(pending.desired.project, pending.generation, live, built)
    if problems:
        raise Refused(
            f"making generation {step.generation} of component '{step.component}' ready: "
            + "; ".join(str(one) for one in problems)
        )
    resources.remarks.extend(str(one) for one in warnings)


async def _promote(step: PromoteObjects, resources: Resources, journal: Journal) -> None:
    session = await resources.session(step.database)
    policy = Policy.said(dependents=step.dependents, hand_made=step.hand_made, altered=step.altered)
    desired = _diff(step, resources).desired
    if desired.data_age_s is not None:
        await fill_what_is_old(
            session,
            step.generation,
            data_age_s=desired.data_age_s,
            within_s=desired.ready_within_s,
            manner=manner_of(step, resources, journal),
        )
    try:
        switched = await switching.promote(
            session,
            step.generation,
            policy=policy,
            retain=timedelta(seconds=step.retain_s),
            manner=manner_of(step, resources, journal),
        )
    except Overtaken as error:
        raise StateMoved(error.message, hint="nothing: it is planned anew upon what is live now") from error
    except Surprised as error:
        if await _given_up(step, error, session, manner_of(step, resources, journal)):
            raise StateMoved(error.message, hint="nothing: it is built anew by itself") from error
        raise
    for statement in switched.carried:
        resources.remarks.append(f"carried over what was granted by hand: {statement}")
    for identity in switched.rebound:
        resources.remarks.append(f"bound {identity} to what took the place of what it read")
    await journal.promoted(step, switched.generation.retained_until)


async def _given_up(step: PromoteObjects, error: Surprised, session: DatabaseSession, manner: Manner) -> bool:
    """Give a generation up of which somebody dropped a part, and of which nothing else is to be said."""
    if not all(one.kind in _STAGED and one.detail.endswith(_DROPPED) for one in error.findings):
        return False
    await cancel(session, step.generation, manner=manner)
    # What was only renamed is still there: nobody but who did that can say what is to become of it.
    return not await switching.is_open(session, step.generation)


async def _run_deferred(step: RunDeferred, resources: Resources, journal: Journal) -> None:
    session = await resources.session(step.database)
    manner = manner_of(step, resources, journal)
    if not await run_deferred(session, step.generation, step.action, manner=manner):
        await journal.progressed(step, "it was done before")


async def _alter(step: AlterObjects, resources: Resources, journal: Journal) -> None:
    pending = _diff(step, resources)
    session = await resources.session(step.database)
    manner = manner_of(step, resources, journal)
    await apply_metadata(session, tuple(_metadata(pending)), manner=manner)
    await settle_stability(session, pending.generation.stability, manner=manner)


def _metadata(pending: ObjectsDiff) -> Iterable[Metadata]:
    project, generation = pending.desired.project, pending.generation
    for schema in generation.schema_metadata:
        said = project.schemas[schema]
        yield Metadata(
            name=ObjectName(schema, ""),
            statements=live_schema_metadata(said),
            metadata_hash=said.metadata_hash,
            path=said.path,
        )
    for name in generation.metadata:
        wanted = project.objects[name]
        yield Metadata(
            name=name,
            statements=live_metadata(wanted),
            metadata_hash=wanted.metadata_hash,
            options=live_options(wanted),
            path=wanted.path,
        )


def _diff(step: ObjectsStep, resources: Resources) -> ObjectsDiff:
    found = resources.objects.get(step.component)
    if found is None:
        raise Refused(f"component '{step.component}' is not in the commit")
    return found


def _pending(step: ObjectsStep, key: str, resources: Resources) -> ObjectsDiff:
    """What is to be built; it is what the plan shows, or nothing is done."""
    found = _diff(step, resources)
    if found.generation.key != key:
        raise StateMoved(
            f"the plan is about generation {key} of component '{step.component}', and what is to be built is"
            f" {found.generation.key}",
            hint="nothing: it is planned anew by itself",
        )
    return found


def _work(pending: ObjectsDiff) -> Work:
    desired = pending.desired
    return work_of(
        desired.project,
        pending.generation,
        component=desired.component,
        deferred=tuple(
            DeferredToRecord(name=one.name, body=one.url or one.sql or "", outside=one.url is not None)
            for one in desired.deferred
        ),
    )


async def _beside(session: DatabaseSession, work: Work, resources: Resources) -> list[DatabaseSession]:
    """Writers for what is made side by side; those that steps before this one used are used again."""
    wanted = min(WRITERS_MAX, max((len(wave) for wave in work.waves), default=1)) - 1
    while len(session.beside) < wanted:
        try:
            await session.with_writer(await resources.dsn_of(session.database))
        except TemporaryError:
            # The server may have no more connections just now: with those there are it only takes longer.
            break
    return session.beside[:wanted]
