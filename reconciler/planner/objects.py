"""Reads what is there of SQL objects and compares it with what is wanted; what that means, `diff` decides.

It asks with small queries of its own and never needs the whole catalog, so that a dry run, a pass and a
worker see the same. It writes nowhere.
"""

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from reconciler.catalog.identifier import quote_qualified
from reconciler.diff import skipping
from reconciler.diff.model import Diff, ObjectsDiff
from reconciler.diff.objects import (
    FAILED,
    NOTHING_BUILT,
    BuiltState,
    as_left,
    compare,
    left_behind,
    left_desired,
    named_drift,
    stopped,
    unknown,
)
from reconciler.errors import Problem
from reconciler.frozen import frozen
from reconciler.objects.dirty import forced_schemas
from reconciler.objects.model import Production, Project
from reconciler.objects.preflight import (
    Asked,
    Objection,
    Recorded,
    asked,
    by_hand,
    dependents,
    needed,
    objections,
    readers,
    told,
)
from reconciler.objects.results import asked_names, foreseen
from reconciler.objects.work import Work, work_of
from reconciler.postgres.connection import Connection
from reconciler.snapshot.objects import read_meeting, read_results, read_schemas
from reconciler.state.desired import DesiredObjects, DesiredState
from reconciler.state.live import LiveDatabase, LiveState
from reconciler.state.tracked import TrackedDatabase, TrackedState
from reconciler.tracking.built_objects import (
    OBJECTS_SINCE,
    read_built,
    read_by_hand,
    read_dependents,
    read_recorded,
)

Borrow = Callable[[str], AbstractAsyncContextManager[Connection]]
"""Lends a connection to a database, by its name."""
_BUILDING = (None, "staging", FAILED)


@frozen
class ObjectsLook:
    """What SQL objects are looked at with.

    `forced` are schemas that are built anew in any case, unless `operation` did that; with `prune`, what is
    live of components that left goes; `compute` runs a function beside the event loop.
    """

    forced: frozenset[str]
    operation: str | None
    prune: bool
    borrow: Borrow
    compute: Callable[..., Awaitable[Any]]


def forced_of(states: Sequence[DesiredState], words: Collection[str]) -> frozenset[str]:
    """Read the schemas that people name, of all components; raises InvalidInput with those there are."""
    if not words:
        return frozenset()
    projects = [part.project for state in states for part in state.objects]
    schemas = {name: schema for project in projects for name, schema in project.schemas.items()}
    return forced_schemas(sorted(words), Project(path="", schemas=schemas, objects={}))


async def with_objects(
    desired: DesiredState, states: tuple[TrackedState, LiveState], diff: Diff, look: ObjectsLook
) -> Diff:
    """Add what is pending of SQL objects, and say whose objects drifted.

    Raises what reading a database raises.
    """
    found: dict[str, ObjectsDiff] = {}
    owned: dict[str, list[tuple[str, Project | Production]]] = {}
    declared = {part.component for part in desired.objects}
    left = [left_desired(desired, one) for one in left_behind(desired, states[0])]
    # One of the same name is told of as what it is now.
    every = [*desired.objects, *(part for part in left if part.component not in declared)]
    for name in dict.fromkeys(part.database for part in every):
        wanted = [part for part in every if part.database == name]
        tracked = states[0].databases.get(name, TrackedDatabase())
        live = states[1].databases.get(name, LiveDatabase())
        if _is_silent(name, desired, states[1]):
            found |= {part.component: _with_owner(unknown(part), diff) for part in wanted}
            continue
        for part, built in await _of_database(desired, wanted, (tracked, live), diff, look):
            found[part.desired.component] = _with_owner(part, diff)
            owned.setdefault(name, []).extend(
                [(part.desired.component, built.production), (part.desired.component, part.desired.project)]
            )
    gone = [as_left(found[part.component], prune=look.prune) for part in every if part in left]
    return replace(
        diff,
        left_behind=(*diff.left_behind, *(said for _part, said in gone if said is not None)),
        databases=tuple(named_drift(part, owned.get(part.desired.database, ())) for part in diff.databases),
        objects=(
            *(found[part.component] for part in desired.objects),
            *(part for part, _said in gone if part is not None),
        ),
    )


def _is_silent(database: str, desired: DesiredState, live: LiveState) -> bool:
    """Whether a database is on a service that does not answer."""
    on = next((part.on for part in desired.databases if part.database == database), None)
    return on is not None and on.service in live.silent


async def _of_database(
    desired: DesiredState,
    wanted: Sequence[DesiredObjects],
    there: tuple[TrackedDatabase, LiveDatabase],
    diff: Diff,
    look: ObjectsLook,
) -> list[tuple[ObjectsDiff, BuiltState]]:
    """Compare all components of one database; one that is not there yet has nothing of them."""
    place = (desired.environment, desired.deployment)
    tracked, live = there
    if not live.exists:
        return [
            (await look.compute(_compared, part, NOTHING_BUILT, place, look), NOTHING_BUILT)
            for part in wanted
        ]
    found = []
    async with look.borrow(wanted[0].database) as connection:
        schemas, empty = await read_schemas(connection)
        version = tracked.version if tracked.installed else 0
        for part in wanted:
            built = NOTHING_BUILT
            if version >= OBJECTS_SINCE:
                built = await read_built(
                    connection,
                    component=part.component,
                    environment=desired.environment,
                    deployment=desired.deployment,
                    version=version,
                )
            built = replace(built, schemas=schemas, empty=empty.intersection(part.project.schemas))
            compared: ObjectsDiff = await look.compute(_compared, part, built, place, look)
            if compared.generation.schemas and not compared.blocked:
                others = [each.project for each in wanted if each is not part and not each.skip]
                coming = _Coming(diff=diff, projects=others)
                compared = await _looked_ahead(connection, compared, (built, version), (place, coming), look)
            found.append((compared, built))
    return found


def _compared(
    part: DesiredObjects, built: BuiltState, place: tuple[str, str], look: ObjectsLook
) -> ObjectsDiff:
    return compare(part, built, place=place, forced=look.forced, operation=look.operation)


@frozen
class _Coming:
    """What may still be made in a database: by modules and roles of a diff, and by other projects."""

    diff: Diff
    projects: Sequence[Project]


async def _looked_ahead(
    connection: Connection,
    part: ObjectsDiff,
    recorded: tuple[BuiltState, int],
    context: tuple[tuple[str, str], _Coming],
    look: ObjectsLook,
) -> ObjectsDiff:
    """Add all that would stop the generation later, and what its readers will hear."""
    built, version = recorded
    place, coming = context
    work, looked = await look.compute(_asked, part)
    why, said = await _done_by_hand(connection, part, looked) if version >= OBJECTS_SINCE else ((), ())
    if _is_building(part):
        known = Recorded()
        if version >= OBJECTS_SINCE:
            known = await read_recorded(connection, looked, part.generation.key)
            known = replace(known, staging=known.staging | built.staging)
        met = await read_meeting(connection, looked)
        against = objections(work, looked, met, known, ours=(part.desired.component, *place))
        against = tuple(one for one in against if not _is_coming(one, part, coming))
        why = (*told(against, readers(part.desired.project, part.generation)), *why)
        if known.objects:
            own = {*part.desired.project.schemas, *built.production.schemas}
            gone = built.production.objects.keys() - part.desired.project.objects.keys()
            found = await read_dependents(connection, known.objects, looked.displaced, own, gone)
            refused, bound = dependents(found, adopt=part.desired.dependents == "adopt")
            why, said = (*why, *refused), (*said, *bound)
    names = asked_names(part.generation)
    if names:
        live = await read_results(connection, names)
        problems, changed = await look.compute(foreseen, part.desired.project, part.generation, live)
        why = (*why, *(str(problem) for problem in problems))
        part = replace(part, changed_results=changed)
    return stopped(part, why, [Problem(message=one) for one in said])


def _is_building(part: ObjectsDiff) -> bool:
    return (part.begun.state if part.begun is not None else None) in _BUILDING


async def _done_by_hand(
    connection: Connection, part: ObjectsDiff, looked: Asked
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Say what was done by hand that the switch refuses, and what it takes along.

    Of what is staged already it is only told: the switch looks by itself, and may be let go on later.
    """
    found = await read_by_hand(connection, looked)
    why, said = by_hand(found, altered=part.desired.altered, hand_made=part.desired.hand_made)
    return (why, said) if _is_building(part) else ((), (*why, *said))


def _asked(part: ObjectsDiff) -> tuple[Work, Asked]:
    project = part.desired.project
    work = work_of(project, part.generation, component=part.desired.component)
    externals, roles = needed(project, part.generation)
    return work, asked(work, externals=externals, granted=roles)


def _is_coming(one: Objection, part: ObjectsDiff, coming: _Coming) -> bool:
    """Whether a step before may make what is missing: another component of objects, a module, or a new role.

    Which relations and roles scripts make cannot be told from their texts; once they have run, it is looked
    at again.
    """
    if one.kind not in ("missing", "role"):
        return False
    database = part.desired.database
    if any(
        each.deploy and not each.blocked and each.desired.database == database for each in coming.diff.modules
    ):
        return True
    if one.kind == "role":
        return any(role.name == one.subject for each in coming.diff.databases for role in each.roles)
    return any(
        quote_qualified(name.schema, name.name) == one.subject
        for project in coming.projects
        for name in project.objects
    )


def _with_owner(part: ObjectsDiff, diff: Diff) -> ObjectsDiff:
    """Nothing is built in a database of which nothing can be done."""
    owner = next(
        (each for each in diff.databases if each.desired.component == part.desired.database_component), None
    )
    if owner is None or not owner.blocked:
        return part
    return stopped(part, [skipping.why_not(owner)])
