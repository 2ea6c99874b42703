"""Compares what readers get of objects before and after: columns of relations, signatures of routines.

What is not built yet has no columns; as far as its text names them, they are told from that.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import field
from typing import Any

from reconciler.catalog import sql_text
from reconciler.catalog.sql_text import SyntaxProblem
from reconciler.errors import Problem
from reconciler.frozen import frozen
from reconciler.objects.generation import Generation
from reconciler.objects.model import ObjectName, Project, SqlObject
from reconciler.objects.stable import (
    Column,
    Question,
    Signature,
    column_differences,
    columns_problem,
    result_warning,
    routine_problem,
)

_LEFT = "larg"  # codespell:ignore larg - the left side of a UNION, which names its columns
UNKNOWN_TYPE = "(its type is known once it is built)"


@frozen
class Results:
    """What readers get, of relations by their columns and of routines by their overloads."""

    columns: Mapping[ObjectName, tuple[Column, ...]] = field(default_factory=dict)
    signatures: Mapping[ObjectName, tuple[Signature, ...]] = field(default_factory=dict)


def asked_names(generation: Generation) -> tuple[ObjectName, ...]:
    """Return the objects whose results are compared, in order."""
    return tuple(sorted({one.name for one in generation.questions if one.question is not Question.UNUSED}))


def answers(
    project: Project, generation: Generation, live: Results, built: Results
) -> tuple[tuple[Problem, ...], tuple[Problem, ...]]:
    """Return what cannot be done in place, and what readers hear, once the objects are built."""
    problems, warnings = list[Problem | None](), list[Problem | None]()
    for one in generation.questions:
        wanted = project.objects.get(one.name)
        if wanted is None:
            continue
        match one.question:
            case Question.APPENDED:
                columns = live.columns.get(one.name, ()), built.columns.get(one.name, ())
                problems.append(columns_problem(wanted, *columns))
            case Question.REPLACEABLE:
                both = live.signatures.get(one.name, ()), built.signatures.get(one.name, ())
                problems.append(routine_problem(wanted, *both))
            case Question.RESULT:
                warnings.append(result_warning(wanted, _result(wanted, live), _result(wanted, built)))
            case Question.UNUSED:
                continue
    return (
        tuple(one for one in problems if one is not None),
        tuple(one for one in warnings if one is not None),
    )


def foreseen(
    project: Project, generation: Generation, live: Results
) -> tuple[tuple[Problem, ...], tuple[tuple[str, str], ...]]:
    """Return what cannot be done in place, and whose columns change and how, as far as texts name columns."""
    problems, changed = list[Problem](), list[tuple[str, str]]()
    for one in generation.questions:
        wanted, before = project.objects.get(one.name), live.columns.get(one.name)
        if wanted is None or before is None or one.question in (Question.REPLACEABLE, Question.UNUSED):
            continue
        names = column_names(wanted)
        if names is None or names == tuple(column.name for column in before):
            continue
        types = {column.name: column.type for column in before}
        after = tuple(Column(name=name, type=types.get(name, UNKNOWN_TYPE)) for name in names)
        if one.question is Question.APPENDED:
            problem = columns_problem(wanted, before, after)
            problems += [problem] if problem is not None else []
        else:
            changed.append((wanted.identity, _brief(column_differences(before, after))))
    return tuple(problems), tuple(changed)


def column_names(wanted: SqlObject) -> tuple[str, ...] | None:
    """Return the names of a relation's columns where its text names every one; else None."""
    if wanted.sort.is_routine:
        return None
    try:
        (tree,) = sql_text.trees(wanted.creates[0].text)
    except (SyntaxProblem, ValueError):
        return None
    if tree.node == "ViewStmt":
        aliases, query = tree.body.get("aliases"), tree.body.get("query")
    else:
        aliases, query = (tree.body.get("into") or {}).get("colNames"), tree.body.get("query")
    select = (query or {}).get("SelectStmt")
    if select is None:
        return None
    names = _of_query(select)
    given = [str(each["String"]["sval"]) for each in aliases or () if "String" in each]
    if names is None:
        return None
    return (*given, *names[len(given) :])


def _of_query(select: Mapping[str, Any]) -> tuple[str, ...] | None:
    while _LEFT in select:
        select = select[_LEFT]
    if select.get("valuesLists"):
        first = select["valuesLists"][0].get("List", {}).get("items") or ()
        return tuple(f"column{number}" for number in range(1, len(first) + 1))
    names = [_of_target(each.get("ResTarget") or {}) for each in select.get("targetList") or ()]
    return None if None in names or not names else tuple(str(name) for name in names)


def _of_target(target: Mapping[str, Any]) -> str | None:
    if "name" in target:
        return str(target["name"])
    fields = ((target.get("val") or {}).get("ColumnRef") or {}).get("fields") or ()
    last = fields[-1] if fields else {}
    return str(last["String"]["sval"]) if "String" in last else None


def _result(wanted: SqlObject, of: Results) -> Sequence[Column]:
    if not wanted.sort.is_routine:
        return of.columns.get(wanted.name, ())
    return [Column(name=f"({one.types})", type=one.result) for one in of.signatures.get(wanted.name, ())]


def _brief(differences: Iterable[str]) -> str:
    return "; ".join(differences)
