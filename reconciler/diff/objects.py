"""Compare the SQL objects of a component with what is live of them: what is pending, and what is in the way.

What differs between live objects and what we built is drift, which the comparison of catalogs finds.
"""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import field, replace

from reconciler.catalog.identifier import quote_identifier
from reconciler.diff.model import (
    Action,
    DatabaseDiff,
    Divergence,
    DivergencePolicy,
    DivergenceSort,
    Drift,
    LeftDeferred,
    ObjectsDiff,
    OpenGeneration,
    PendingChange,
)
from reconciler.errors import Problem
from reconciler.frozen import frozen
from reconciler.objects.dirty import Dirty, by_name, dirty
from reconciler.objects.generation import Generation, SchemaAction, plan
from reconciler.objects.model import Production, Project
from reconciler.state.desired import DesiredDatabase, DesiredObjects, DesiredState
from reconciler.state.tracked import TrackedDatabase, TrackedObjects, TrackedState

FAILED = "failed"
"""The state of a generation that was kept as it was when its staging failed, to be looked at."""
OBJECTS_STAGE = "objects"
NAMED_MAX = 20
"""Schemas that one message names."""
KEY_LENGTH = 16
"""Hexadecimal digits of the key of a generation."""


@frozen
class BuiltState:
    """What a database has of one component.

    `generations` say which one is live in each schema, `operations` which operation made it so. `unfinished`
    are recorded and not live yet, or failed and kept, `staging` the schemas that these have made. `schemas`
    are all of the database, whoever's, `empty` those of the project that hold nothing. `deferred` is what is
    still to be done behind switches.
    """

    production: Production
    generations: Mapping[str, int] = field(default_factory=dict)
    operations: Mapping[str, str] = field(default_factory=dict)
    unfinished: tuple[OpenGeneration, ...] = ()
    staging: frozenset[str] = frozenset()
    schemas: frozenset[str] = frozenset()
    empty: frozenset[str] = frozenset()
    deferred: tuple[LeftDeferred, ...] = ()


NOTHING_BUILT = BuiltState(production=Production(objects={}, schemas={}))


def compare(
    desired: DesiredObjects,
    built: BuiltState,
    *,
    place: tuple[str, str],
    forced: Collection[str] = (),
    operation: str | None = None,
) -> ObjectsDiff:
    """Compare a project with what is recorded as built of it; `place` is environment and deployment.

    A live schema that is empty is taken over: there is nothing in it that could be lost. Of `forced` schemas,
    those are left out that `operation` has exchanged already.
    """
    project = desired.project
    live = _with_empty(project, built)
    forced = frozenset(
        name for name in forced if operation is None or built.operations.get(name) != operation
    )
    key = key_of(desired, built, place=place, forced=forced)
    found = dirty(project, live, forced=forced)
    # What is discarded is gone before anything is staged.
    generation = plan(project, live, found, key=key, taken=built.schemas - built.staging)
    open_ones = (one for one in built.unfinished if one.key == key and one.state != FAILED)
    begun = next(open_ones, None) if generation.schemas else None
    discard = tuple(one for one in built.unfinished if one is not begun)
    left = () if generation.schemas else built.deferred
    rows = (
        *_of_schemas(generation),
        *_of_objects(generation, project, live, found),
        *((f"generation {one.key}", Action.REMOVE, _UNUSED) for one in discard),
        *((f"deferred action {one.name}", Action.CHANGE, _STILL_TO_DO) for one in left),
    )
    return ObjectsDiff(
        desired=desired,
        generation=generation,
        begun=begun,
        discard=discard,
        deferred=left,
        pending=tuple(
            PendingChange(component=desired.component, identity=identity, action=action, reason=reason)
            for identity, action, reason in rows
        ),
        warnings=(*desired.warnings, *generation.warnings),
        blocked=tuple(str(problem) for problem in generation.refused),
    )


_UNUSED = "it was staged, and its turn never came"
_STILL_TO_DO = "its generation is live, and it is not done yet"


def key_of(
    desired: DesiredObjects, built: BuiltState, *, place: tuple[str, str], forced: Collection[str] = ()
) -> str:
    """Name a generation by all that it follows from; the commit is not among that.

    So a commit that changes nothing of it goes on with what was staged for the one before. What is checked of
    it, and done behind its switch, was recorded or passed with it, and so is part of it.
    """
    project, live = desired.project, built.production
    value = {
        "place": [*place, desired.component],
        "objects": {one.identity: [one.hash, one.metadata_hash] for one in project.objects.values()},
        "schemas": {
            name: [one.stable, one.metadata_hash, one.settings] for name, one in project.schemas.items()
        },
        "forced": sorted(forced),
        "asserted": [[one.name, one.sql] for one in desired.assertions],
        "deferred": [[one.name, one.sql, one.url] for one in desired.deferred],
        "live": {one.identity: [one.hash, one.metadata_hash] for one in live.objects.values()},
        "generations": {
            name: [stable, built.generations.get(name), live.schema_hashes.get(name, "")]
            for name, stable in live.schemas.items()
        },
    }
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:KEY_LENGTH]


def left_behind(
    desired: DesiredState, tracked: TrackedState
) -> tuple[tuple[DesiredDatabase, TrackedObjects], ...]:
    """Components that have schemas in a database of this deployment, and that it does not declare there."""
    return tuple(
        (database, one)
        for database in desired.databases
        for one in tracked.databases.get(database.database, TrackedDatabase()).objects
        if (one.environment, one.deployment) == (desired.environment, desired.deployment)
        and not any(
            (part.component, part.database) == (one.component, database.database) for part in desired.objects
        )
    )


def left_desired(desired: DesiredState, left: tuple[DesiredDatabase, TrackedObjects]) -> DesiredObjects:
    """What is to be of a component that left: nothing, in the stage where objects are."""
    database, one = left
    stage = OBJECTS_STAGE if OBJECTS_STAGE in desired.stages else desired.stages[-1]
    return DesiredObjects(
        component=one.component,
        stage=stage,
        database_component=database.component,
        database=database.database,
        path="",
        project=Project(path="", schemas={}, objects={}),
    )


def as_left(part: ObjectsDiff, *, prune: bool) -> tuple[ObjectsDiff | None, Divergence | None]:
    """Say what is done about a component that left, and what is told of it.

    What was staged of it is discarded in any case, for nobody would promote it; what is live of it goes with
    `prune` alone.
    """
    live = [quote_identifier(work.name) for work in part.generation.schemas]
    told = None
    if live:
        why = "they are taken out" if prune else "policy.prune is off, so they stay as they are"
        told = Divergence(
            component=part.desired.component,
            identity=f"objects of {part.desired.component}",
            sort=DivergenceSort.ORPHANED,
            policy=DivergencePolicy.WARN,
            detail=f"it left the spec, and its schemas are live: {', '.join(live[:NAMED_MAX])}"
            + (f" and {len(live) - NAMED_MAX} more" if len(live) > NAMED_MAX else "")
            + f"; {why}",
        )
    if not prune:
        rows = tuple(row for row in part.pending if row.identity.startswith("generation "))
        part = replace(
            part,
            generation=Generation(key=part.generation.key),
            begun=None,
            deferred=(),
            blocked=(),
            pending=rows,
        )
    return (part if part.works else None), told


def unknown(desired: DesiredObjects) -> ObjectsDiff:
    """What there is to say of objects in a database of which nothing is known."""
    return ObjectsDiff(desired=desired, generation=Generation(key=""))


def stopped(part: ObjectsDiff, why: Sequence[str], warnings: Sequence[Problem] = ()) -> ObjectsDiff:
    """Add why nothing can be done, and what is only said."""
    return replace(part, blocked=(*part.blocked, *why), warnings=(*part.warnings, *warnings))


def named_drift(database: DatabaseDiff, owned: Sequence[tuple[str, Project | Production]]) -> DatabaseDiff:
    """Give drift of SQL objects to the components whose they are, by what is built and wanted of each."""
    if not database.drift or not owned:
        return database
    whose = {one.identity: component for component, of in owned for one in of.objects.values()}
    whose |= {f"schema {quote_identifier(name)}": component for component, of in owned for name in of.schemas}
    return replace(database, drift=tuple(_named(row, whose) for row in database.drift))


def _named(row: Drift, whose: Mapping[str, str]) -> Drift:
    # Routines are told with their arguments, which their files may have several of.
    component = whose.get(row.identity) or whose.get(row.identity.partition("(")[0])
    return row if component is None else replace(row, component=component)


def _with_empty(project: Project, built: BuiltState) -> Production:
    live = built.production
    empty = {name: False for name in project.schemas if name in built.empty and name not in live.schemas}
    return replace(live, schemas={**live.schemas, **empty}) if empty else live


def _of_schemas(generation: Generation) -> Iterator[tuple[str, Action, str]]:
    told: dict[str, tuple[Action, list[str]]] = {}
    for work in generation.schemas:
        if work.action is SchemaAction.ADD:
            told[work.name] = (Action.ADD, ["not built yet"])
        elif work.action is SchemaAction.RETIRE:
            told[work.name] = (Action.REMOVE, ["it is no longer in the project"])
    for name in generation.schema_metadata:
        told.setdefault(name, (Action.CHANGE, []))[1].append("what its file says of it changed")
    for name, is_stable in generation.stability:
        becomes = "it becomes stable" if is_stable else "it is stable no longer"
        told.setdefault(name, (Action.CHANGE, []))[1].append(becomes)
    for name in sorted(told):
        action, reasons = told[name]
        yield f"schema {quote_identifier(name)}", action, "; ".join(reasons)


def _of_objects(
    generation: Generation, project: Project, live: Production, found: Dirty
) -> Iterator[tuple[str, Action, str]]:
    for name in sorted({*found.reasons, *generation.metadata}, key=by_name):
        wanted, built = project.objects.get(name), live.objects.get(name)
        if wanted is None:
            assert built is not None  # what is neither wanted nor built is not dirty
            yield built.identity, Action.REMOVE, found.because(name)
        elif name in generation.objects:
            action = Action.ADD if built is None else Action.CHANGE
            yield wanted.identity, action, found.because(name)
        elif name in generation.metadata:
            yield wanted.identity, Action.CHANGE, "its grants, comments or options changed"
