"""A generation as JSON and as text: all that a dry run shows of SQL objects; it decides nothing."""

from collections.abc import Iterable, Iterator
from typing import Any

from reconciler.catalog.identifier import quote_identifier, quote_qualified
from reconciler.objects.generation import Generation, ObjectWork, SchemaAction, SchemaWork
from reconciler.objects.model import ObjectName
from reconciler.objects.stable import ObjectAction

_MARKS = {
    ObjectAction.BUILD: "build",
    ObjectAction.ADD: "add in place",
    ObjectAction.REPLACE: "replace in place",
    ObjectAction.MOVE: "build and move in",
    ObjectAction.RETIRE: "move out",
}


def document(generation: Generation) -> dict[str, Any]:
    """Return a generation as JSON values; the same generation gives the same, in the same order."""
    waves = {name: number for number, wave in enumerate(generation.waves, 1) for name in wave}
    return {
        "key": generation.key,
        "schemas": [
            {"schema": work.name, "action": work.action.value, "staging": work.staging}
            for work in generation.schemas
        ],
        "objects": [
            {
                "object": _shown(work.name),
                "sort": work.sort.value,
                "action": work.action.value,
                "wave": waves.get(work.name),
                "because": work.reason,
            }
            for work in _ordered(generation)
        ],
        "in_switch": [_shown(name) for name in generation.in_switch],
        "metadata": [_shown(name) for name in generation.metadata],
        "schema_metadata": list(generation.schema_metadata),
        "stability": [{"schema": name, "stable": stable} for name, stable in generation.stability],
        "reads": list(generation.reads),
        "warnings": [str(problem) for problem in generation.warnings],
        "refused": [str(problem) for problem in generation.refused],
    }


def lines(generation: Generation) -> tuple[str, ...]:
    """Write a generation for people: what there is of it, all of that, in the order in which it is done."""
    parts: list[tuple[str, Iterable[str]]] = [
        ("refused", (str(problem) for problem in generation.refused)),
        ("schemas", (_schema(work) for work in generation.schemas)),
        *((f"wave {number}", _wave(generation, wave)) for number, wave in enumerate(generation.waves, 1)),
        ("moved out", _objects(generation, ObjectAction.RETIRE)),
        ("made under live names in the switch", (_shown(name) for name in generation.in_switch)),
        ("grants, comments and options in place", _metadata(generation)),
        ("warnings", (str(problem) for problem in generation.warnings)),
    ]
    told: list[str] = []
    for title, rows in parts:
        found = [f"  {row}" for row in rows]
        told += [f"{title}:", *found] if found else []
    return tuple(told)


def _ordered(generation: Generation) -> Iterator[ObjectWork]:
    """Yield what is staged, in order, then what is only moved out."""
    staged = [name for wave in generation.waves for name in wave]
    yield from (generation.objects[name] for name in staged)
    yield from (work for work in generation.objects.values() if work.action is ObjectAction.RETIRE)


def _schema(work: SchemaWork) -> str:
    name = quote_identifier(work.name)
    match work.action:
        case SchemaAction.SWAP:
            return f"{name} <-> {quote_identifier(work.staging or '')}"
        case SchemaAction.ADD:
            return f"{name} <- {quote_identifier(work.staging or '')} (new)"
        case SchemaAction.IN_PLACE:
            return f"{name} (in place, tried in {quote_identifier(work.staging or '')})"
        case SchemaAction.RETIRE:
            return f"{name} (retired)"


def _wave(generation: Generation, wave: Iterable[ObjectName]) -> Iterator[str]:
    return (_object(generation.objects[name]) for name in wave)


def _objects(generation: Generation, action: ObjectAction) -> Iterator[str]:
    return (_object(work) for work in generation.objects.values() if work.action is action)


def _object(work: ObjectWork) -> str:
    return f"{_MARKS[work.action]} {work.sort.value} {_shown(work.name)} because {work.reason}"


def because(work: ObjectWork) -> str:
    """Say what becomes of an object, and why: `build because its definition changed`."""
    return f"{_MARKS[work.action]} because {work.reason}"


def _metadata(generation: Generation) -> Iterator[str]:
    yield from (f"schema {quote_identifier(name)}" for name in generation.schema_metadata)
    yield from (_shown(name) for name in generation.metadata)
    for name, stable in generation.stability:
        yield f"schema {quote_identifier(name)} {'becomes stable' if stable else 'is stable no longer'}"


def _shown(name: ObjectName) -> str:
    return quote_qualified(name.schema, name.name)
