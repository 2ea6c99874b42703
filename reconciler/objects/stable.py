"""What can be changed in place in a stable schema, and what the catalog has to say first; it changes nothing.

What is in place keeps its identity, so that what depends on it from outside stays bound to it. PostgreSQL
replaces views (columns may be appended, no other may differ) and routines (of the same parameters and
results) that way, and no materialized view.
"""

from collections.abc import Sequence
from enum import StrEnum

from reconciler.catalog.identifier import quote_identifier, quote_qualified
from reconciler.errors import Problem
from reconciler.frozen import frozen
from reconciler.objects.dirty import Dirty, Why, by_name, in_place
from reconciler.objects.model import ObjectName, ObjectSort, Production, Project, SqlObject

SHOWN_MAX = 20
"""Differing columns that one message names."""


class ObjectAction(StrEnum):
    """What becomes of an object.

    `build`: it is made in the staging schema that takes the place of the live one. `add`, `replace`: it is
    tried in a staging schema, then made in place while the switch is made. `move`: it is made in a staging
    schema, and moved from there. `retire`: it is moved out, and dropped with the old generation.
    """

    BUILD = "build"
    ADD = "add"
    REPLACE = "replace"
    MOVE = "move"
    RETIRE = "retire"


IN_PLACE = frozenset({ObjectAction.ADD, ObjectAction.REPLACE})
"""What is tried in a staging schema and made in a live one."""


class Question(StrEnum):
    """What only the catalog knows, and is asked once the staging schemas are built.

    `appended`: columns of what was tried must be those that are live, and more behind them. `replaceable`:
    what was tried must have parameters and results as those that are live. `result`: readers hear where
    columns or results differ from those that are live. `unused`: nothing outside may depend on it.
    """

    APPENDED = "appended"
    REPLACEABLE = "replaceable"
    RESULT = "result"
    UNUSED = "unused"


@frozen
class Asked:
    """One question of one object."""

    question: Question
    name: ObjectName
    sort: ObjectSort


@frozen
class Column:
    """A column of a relation or of a routine's result: its name and its type as the catalog writes it."""

    name: str
    type: str


@frozen
class Signature:
    """One overload of a routine as the catalog has it.

    `types` are the types of its parameters, `parameters` the same with names and modes, `defaults` how many
    of them have a default, `result` is what it returns; empty for a procedure.
    """

    types: str
    parameters: str
    result: str = ""
    defaults: int = 0


def action(name: ObjectName, project: Project, production: Production, found: Dirty) -> ObjectAction | None:
    """Say what becomes of a dirty object of a stable schema; None where it stays as it is.

    Nothing of a materialized view that is only asked to be built anew would differ but its rows.
    """
    wanted = project.objects.get(name)
    if wanted is None:
        return ObjectAction.RETIRE
    if name not in production.objects:
        return ObjectAction.MOVE if wanted.sort is ObjectSort.MATERIALIZED_VIEW else ObjectAction.ADD
    only_forced = (
        found.reasons[name].why is Why.FORCED and _rebuilt(wanted, project, production, found) is None
    )
    if wanted.sort is ObjectSort.MATERIALIZED_VIEW and only_forced:
        return None
    return ObjectAction.REPLACE


def refusal(name: ObjectName, project: Project, production: Production, found: Dirty) -> Problem | None:
    """Say why an object of a stable schema cannot be replaced in place, as far as files show it."""
    wanted, built = project.objects[name], production.objects[name]
    if wanted.sort is not built.sort:
        return Problem(
            message=f"{wanted.identity} is a {built.sort.value} in the stable schema that is live; "
            "one cannot be replaced by the other in place",
            file=wanted.path,
            hint="give it another name, or take `SET api = stable` out of the schema's file for one rollout",
        )
    if wanted.sort is not ObjectSort.MATERIALIZED_VIEW:
        return None
    why, need = found.because(name), _rebuilt(wanted, project, production, found)
    if found.reasons[name].why is Why.FORCED and need is not None:
        why = f"{quote_qualified(need.schema, need.name)}, which it needs, is rebuilt"
    return Problem(
        message=f"{wanted.identity} is in a stable schema and would be built anew, because {why}; "
        "a materialized view cannot be replaced in place",
        file=wanted.path,
        hint="keep the materialized view in a schema that is swapped, and a view over it in the stable one",
    )


def _rebuilt(wanted: SqlObject, project: Project, production: Production, found: Dirty) -> ObjectName | None:
    """Return the first of what an object needs that another takes the place of."""
    bound = in_place(project, production)
    needs = (need for need in wanted.depends_on if need in found.reasons and need.schema not in bound)
    return min(needs, key=by_name, default=None)


def question(wanted: SqlObject, action: ObjectAction) -> Question | None:
    """Return what has to be asked of the catalog for a live object that is made again."""
    match action:
        case ObjectAction.BUILD:
            return Question.RESULT
        case ObjectAction.REPLACE:
            return Question.REPLACEABLE if wanted.sort.is_routine else Question.APPENDED
        case ObjectAction.ADD | ObjectAction.MOVE | ObjectAction.RETIRE:
            return None


def column_differences(live: Sequence[Column], built: Sequence[Column]) -> tuple[str, ...]:
    """Name what differs: columns that are gone, of another type or another order; then those that are new."""
    old, new = ({column.name: column.type for column in columns} for columns in (live, built))
    differences = []
    for name, type_name in old.items():
        if name not in new:
            differences.append(f"- {quote_identifier(name)} {type_name}")
        elif new[name] != type_name:
            differences.append(f"~ {quote_identifier(name)}: {type_name} -> {new[name]}")
    kept = [name for name in new if name in old]
    for before, after in zip([name for name in old if name in new], kept, strict=True):
        if before != after:
            differences.append(f"~ {quote_identifier(after)} stands where {quote_identifier(before)} stood")
    for place, (name, type_name) in enumerate(new.items(), 1):
        if name not in old:
            inside = f" as column {place}" if place <= len(kept) else ""
            differences.append(f"+ {quote_identifier(name)} {type_name}{inside}")
    return tuple(differences)


def appended_only(live: Sequence[Column], built: Sequence[Column]) -> bool:
    """Whether a view with the columns `live` can be replaced by one with the columns `built`."""
    return tuple(built[: len(live)]) == tuple(live)


def columns_problem(wanted: SqlObject, live: Sequence[Column], built: Sequence[Column]) -> Problem | None:
    """Refuse to replace a view in place whose columns are not those that are live, and more behind them."""
    if appended_only(live, built):
        return None
    return Problem(
        message=f"{wanted.identity} is in a stable schema, and its columns may only be added to at the end: "
        f"{_few(column_differences(live, built))}",
        file=wanted.path,
        hint="keep the columns as they are and add new ones behind them, or make a view of a new name",
    )


def routine_problem(
    wanted: SqlObject, live: Sequence[Signature], built: Sequence[Signature]
) -> Problem | None:
    """Refuse to replace a routine in place where an overload would be left behind or cannot be replaced.

    New overloads are added beside those that are live.
    """
    now = {one.types: one for one in built}
    differences = [
        difference for one in live if (difference := _signature_difference(one, now.get(one.types)))
    ]
    if not differences:
        return None
    what = _few(differences)
    return Problem(
        message=f"{wanted.identity} is in a stable schema, and cannot be replaced in place: {what}",
        file=wanted.path,
        hint="keep parameters and result as they are, or make a routine of a new name",
    )


def _signature_difference(live: Signature, built: Signature | None) -> str | None:
    if built is None:
        return f"- ({live.types})"
    if built.result != live.result:
        return f"~ ({live.types}) returns {live.result} -> {built.result}"
    if built.parameters != live.parameters:
        return f"~ ({live.parameters}) -> ({built.parameters})"
    if built.defaults < live.defaults:
        return f"~ ({live.types}) has fewer defaults"
    return None


def result_warning(wanted: SqlObject, live: Sequence[Column], built: Sequence[Column]) -> Problem | None:
    """Say that sessions with prepared statements will hear `cached plan must not change result type`."""
    if tuple(live) == tuple(built):
        return None
    shown = quote_qualified(wanted.name.schema, wanted.name.name)
    return Problem(
        message=f"the result of {wanted.sort.value} {shown} changes: {_few(column_differences(live, built))}",
        file=wanted.path,
        hint="a session that prepared a statement over it hears 'cached plan must not change result type' "
        "once, and has to prepare it again",
    )


def _few(lines: Sequence[str]) -> str:
    more = f"; and {len(lines) - SHOWN_MAX} more" if len(lines) > SHOWN_MAX else ""
    return "; ".join(lines[:SHOWN_MAX]) + more
