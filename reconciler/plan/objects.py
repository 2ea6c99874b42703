"""The steps of SQL objects: what is discarded, built, filled, switched to, altered and done behind that.

Which of them are left follows from how far the generation is, so that what an interrupted operation plans
again is the end of what it planned before.
"""

import hashlib
import json
from collections.abc import Iterable

from reconciler.catalog.identifier import quote_identifier, quote_qualified
from reconciler.diff.model import ObjectsDiff
from reconciler.objects.generation import Generation
from reconciler.objects.generation_text import because
from reconciler.objects.model import ObjectSort
from reconciler.objects.staging_text import live_metadata, live_options, live_schema_metadata
from reconciler.objects.work import hash_of, work_of
from reconciler.plan.hazards import Hazard, HazardCode
from reconciler.plan.steps import (
    AlterObjects,
    AnyStep,
    DiscardObjects,
    PromoteObjects,
    ReadyObjects,
    RunDeferred,
    StageObjects,
    StepKind,
)

TOLD_MAX = 5
"""Objects with other results that one hazard names."""
_STAGED = frozenset({"staged", "ready"})


def objects_steps(part: ObjectsDiff) -> Iterable[AnyStep]:
    """Make the steps of one component, in their order."""
    generation, component = part.generation, part.desired.component
    for one in part.discard:
        yield DiscardObjects(
            id=f"{component}/{StepKind.DISCARD_OBJECTS.value}/{one.key}",
            kind=StepKind.DISCARD_OBJECTS,
            component=component,
            identity=f"generation {one.key}",
            database=part.desired.database,
            generation=one.key,
        )
    if generation.schemas:
        state = part.begun.state if part.begun is not None else None
        if state not in _STAGED:
            yield _stage(part)
        if state != "ready":
            yield _ready(part)
        yield _promote(part)
    if generation.metadata or generation.schema_metadata or generation.stability:
        yield _alter(part)
    yield from _deferred(part)


def _stage(part: ObjectsDiff) -> StageObjects:
    generation, desired = part.generation, part.desired
    return StageObjects(
        id=f"{desired.component}/{StepKind.STAGE_OBJECTS.value}",
        kind=StepKind.STAGE_OBJECTS,
        component=desired.component,
        identity=_identity(generation),
        database=desired.database,
        generation=generation.key,
        schemas=tuple((work.name, work.action.value, work.staging or "") for work in generation.schemas),
        objects=tuple(
            (f"{work.sort.value} {quote_qualified(name.schema, name.name)}", because(work))
            for name, work in sorted(generation.objects.items())
        ),
        waves=len(generation.waves),
        hash=hash_of(work_of(desired.project, generation, component=desired.component)),
    )


def _ready(part: ObjectsDiff) -> ReadyObjects:
    generation, desired = part.generation, part.desired
    staged = [desired.project.objects[name] for wave in generation.waves for name in wave]
    return ReadyObjects(
        id=f"{desired.component}/{StepKind.READY_OBJECTS.value}",
        kind=StepKind.READY_OBJECTS,
        component=desired.component,
        identity=_identity(generation),
        database=desired.database,
        generation=generation.key,
        views=tuple(
            sorted(
                quote_qualified(one.name.schema, one.name.name)
                for one in staged
                if one.sort is ObjectSort.MATERIALIZED_VIEW
            )
        ),
        assertions=tuple(one.name for one in desired.assertions),
        tests=sum(len(one.tests) for one in staged),
        within_s=desired.ready_within_s,
    )


def _promote(part: ObjectsDiff) -> PromoteObjects:
    generation, desired = part.generation, part.desired
    return PromoteObjects(
        id=f"{desired.component}/{StepKind.PROMOTE_OBJECTS.value}",
        kind=StepKind.PROMOTE_OBJECTS,
        component=desired.component,
        identity=_identity(generation),
        database=desired.database,
        hazards=tuple(_broken_plans(part)),
        generation=generation.key,
        schemas=tuple(work.name for work in generation.schemas),
        retain_s=desired.retain_s,
        dependents=desired.dependents,
        hand_made=desired.hand_made,
        altered=desired.altered,
    )


def _broken_plans(part: ObjectsDiff) -> Iterable[Hazard]:
    """What sessions hear that prepared statements over columns that change."""
    found = [f"{identity} ({how})" for identity, how in part.changed_results]
    if found:
        more = f" and {len(found) - TOLD_MAX} more" if len(found) > TOLD_MAX else ""
        yield Hazard(
            code=HazardCode.BREAKS_CACHED_PLANS,
            message="sessions with statements prepared over what changes hear 'cached plan must not change "
            f"result type' once: {', '.join(found[:TOLD_MAX])}{more}",
        )


def _alter(part: ObjectsDiff) -> AlterObjects:
    generation, desired = part.generation, part.desired
    objects = [desired.project.objects[name] for name in generation.metadata]
    schemas = [desired.project.schemas[name] for name in generation.schema_metadata]
    altered = sorted({*generation.schema_metadata, *(name for name, _stable in generation.stability)})
    texts = [
        [[*live_metadata(one), sorted(live_options(one).items())] for one in objects],
        [live_schema_metadata(one) for one in schemas],
        generation.stability,
    ]
    value = json.dumps(texts, ensure_ascii=False)
    count = len(objects) + len(altered)
    return AlterObjects(
        id=f"{desired.component}/{StepKind.ALTER_OBJECTS.value}",
        kind=StepKind.ALTER_OBJECTS,
        component=desired.component,
        identity=f"grants, comments and options of {count} object{'' if count == 1 else 's'}",
        database=desired.database,
        objects=(
            *(f"schema {quote_identifier(name)}" for name in altered),
            *(one.identity for one in objects),
        ),
        hash=hashlib.sha256(value.encode("utf-8", "surrogatepass")).hexdigest(),
    )


def _deferred(part: ObjectsDiff) -> Iterable[RunDeferred]:
    """What is done behind this switch; where there is none, what switches before left to do."""
    desired = part.desired
    if part.generation.schemas:
        wanted = [(part.generation.key, one.name, one.url is not None) for one in desired.deferred]
    else:
        wanted = [(one.key, one.name, one.outside) for one in part.deferred]
    for key, name, outside in wanted:
        yield RunDeferred(
            id=f"{desired.component}/{StepKind.RUN_DEFERRED.value}/{name}",
            kind=StepKind.RUN_DEFERRED,
            component=desired.component,
            identity=f"deferred action {name}",
            database=desired.database,
            generation=key,
            action=name,
            outside=outside,
        )


def _identity(generation: Generation) -> str:
    """`generation 0c9f1b2a…: 3 schemas, 12 objects`."""
    schemas, objects = len(generation.schemas), len(generation.objects)
    return (
        f"generation {generation.key}: {schemas} schema{'' if schemas == 1 else 's'}, "
        f"{objects} object{'' if objects == 1 else 's'}"
    )
