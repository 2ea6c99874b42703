"""Compare the SQL objects of a component with what is live of them: what is pending, and what is in the way.

What differs between live objects and what we built is drift, which the comparison of catalogs finds.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from reconciler.catalog.identifier import quote_identifier
from reconciler.catalog.model import Catalog, CatalogObject, ObjectKind
from reconciler.diff.model import Action, ObjectsDiff, OpenGeneration, PendingChange
from reconciler.objects.dirty import Dirty, by_name, dirty
from reconciler.objects.generation import Generation, SchemaAction, plan
from reconciler.objects.model import ObjectName, Production, Project
from reconciler.objects.name_text import name_at
from reconciler.state.desired import DesiredObjects

NAMED_MAX = 20
"""Objects in the way that one message names."""

_OF_THEIR_OWN = frozenset(
    {
        ObjectKind.TABLE,
        ObjectKind.FOREIGN_TABLE,
        ObjectKind.VIEW,
        ObjectKind.MATERIALIZED_VIEW,
        ObjectKind.SEQUENCE,
        ObjectKind.FUNCTION,
        ObjectKind.PROCEDURE,
        ObjectKind.AGGREGATE,
        ObjectKind.TYPE,
        ObjectKind.DOMAIN,
    }
)
"""Kinds of what stands in a schema by itself and not on something else there."""


def compare(
    desired: DesiredObjects,
    production: Production,
    *,
    catalog: Catalog | None,
    key: str,
    forced: Collection[str] = (),
    staged: Sequence[OpenGeneration] = (),
) -> ObjectsDiff:
    """Compare a project with what is recorded as built of it, and with the catalog where that was read.

    A live schema that is empty is taken over: there is nothing in it that could be lost. `staged` are
    generations of the component that are recorded and not live yet.
    """
    project = desired.project
    there = _schemas(catalog.objects if catalog is not None else {})
    empty = {
        name: False for name in project.schemas if name not in production.schemas and there.get(name) == []
    }
    live = replace(production, schemas={**production.schemas, **empty})
    found = dirty(project, live, forced=forced)
    generation = plan(project, live, found, key=key, taken=there)
    rows = (*_of_schemas(generation), *_of_objects(generation, project, live, found))
    return ObjectsDiff(
        desired=desired,
        generation=generation,
        begun=next((one for one in staged if one.key == key and generation.works), None),
        discard=tuple(one for one in staged if one.key != key or not generation.works),
        pending=tuple(
            PendingChange(component=desired.component, identity=identity, action=action, reason=reason)
            for identity, action, reason in rows
        ),
        warnings=generation.warnings,
        blocked=(*(str(problem) for problem in generation.refused), *_in_the_way(generation, live, there)),
    )


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


def _schemas(objects: Mapping[str, CatalogObject]) -> dict[str, list[CatalogObject]]:
    """Return the schemas of a catalog with what stands in them by itself, in the order of identities."""
    there: dict[str, list[CatalogObject]] = {}
    for identity in sorted(objects):
        row = objects[identity]
        name = name_at(row.name, 0)
        if name is not None and row.kind is ObjectKind.SCHEMA:
            there.setdefault(name.parts[0], [])
        elif name is not None and row.kind in _OF_THEIR_OWN:
            there.setdefault(name.parts[0], []).append(row)
    return there


def _in_the_way(
    generation: Generation, live: Production, there: Mapping[str, list[CatalogObject]]
) -> Iterator[str]:
    """Find what would go away with a schema and was not built from objects."""
    for work in generation.schemas:
        if work.action is SchemaAction.IN_PLACE:
            continue
        unknown = [row.identity for row in there.get(work.name, ()) if not _is_built(row, live)]
        if not unknown:
            continue
        more = f" and {len(unknown) - NAMED_MAX} more" if len(unknown) > NAMED_MAX else ""
        what = "retired" if work.action is SchemaAction.RETIRE else "swapped"
        yield (
            f"schema {quote_identifier(work.name)} would be {what}, and holds what was not built from "
            f"objects: {', '.join(unknown[:NAMED_MAX])}{more}; move it to another schema first, or drop it"
        )


def _is_built(row: CatalogObject, live: Production) -> bool:
    name = name_at(row.name, 0)
    return name is not None and len(name.parts) == 2 and ObjectName(*name.parts) in live.objects
