"""Assertions over SQL objects: queries with live names, read as their parse tree and told where these stand.

What is no object of the project is left as it is written. It sends nothing.
"""

from collections.abc import Iterable

from reconciler.catalog import sql_text
from reconciler.catalog.sql_text import SyntaxProblem, Tree
from reconciler.errors import InvalidInput, Problem
from reconciler.objects.generation import Placement
from reconciler.objects.mentions import Reference, Use, references
from reconciler.objects.model import Mention, ObjectName, Project, SqlStatement
from reconciler.objects.staging_text import rewritten
from reconciler.objects.words import shown

_CALLED = frozenset({Use.ROUTINE, Use.ROUTINE_LITERAL})
_READ = frozenset({Use.RELATION, Use.LITERAL})


def check(project: Project, name: str, text: str) -> tuple[Problem, ...]:
    """Return what is wrong with an assertion, as far as that shows without running it."""
    return tuple(_read(project, name, text)[1])


def staged_query(project: Project, placement: Placement, name: str, text: str) -> str:
    """Return an assertion over what is staged, and over what stays live where nothing is staged of it."""
    statement, problems = _read(project, name, text)
    if statement is None or problems:
        raise InvalidInput(tuple(problems))

    def schema_of(target: ObjectName) -> str:
        beside = target.schema in placement.swapped or placement.is_staged(target)
        return placement.staging[target.schema] if beside else target.schema

    return rewritten(statement, schema_of)


def _read(project: Project, name: str, text: str) -> tuple[SqlStatement | None, list[Problem]]:
    doing = f"assertion '{name}'"
    try:
        trees = sql_text.trees(text)
    except SyntaxProblem as error:
        return None, [Problem(message=f"{doing}: {error.message_alone}", hint="write one SELECT")]
    if len(trees) != 1 or trees[0].node != "SelectStmt" or "intoClause" in trees[0].body:
        return None, [Problem(message=f"{doing} is not one query", hint="write one SELECT")]
    tree = trees[0]
    found = references(tree.body, text, tree.places, shift=tree.start)
    mentions, problems = _mentions(project, doing, found)
    statement = SqlStatement(
        text=text[tree.start : tree.end], line=_line(text, tree), mentions=tuple(mentions)
    )
    return statement, problems


def _mentions(
    project: Project, doing: str, found: Iterable[Reference]
) -> tuple[list[Mention], list[Problem]]:
    mentions, problems = list[Mention](), list[Problem]()
    for reference in found:
        if len(reference.question.parts) != 2:
            continue
        target, use = ObjectName(*reference.question.parts), reference.question.use
        wanted = project.objects.get(target)
        if wanted is None:
            schema = project.schemas.get(target.schema)
            if schema is not None and not schema.stable and use in _READ:
                problems.append(
                    Problem(
                        message=f"{doing} reads {shown(target)}, which is not in the project",
                        hint=f"the project makes all of schema '{target.schema}'",
                    )
                )
            continue
        if (use in _CALLED) is not wanted.sort.is_routine:
            continue
        if reference.end is None:
            problems.append(
                Problem(
                    message=f"{doing}: the name of {shown(target)} is written with escapes",
                    hint="write it plainly, in double quotes if need be",
                )
            )
            continue
        mentions.append(
            Mention(start=reference.start, end=reference.end, target=target, routine=wanted.sort.is_routine)
        )
    return mentions, problems


def _line(text: str, tree: Tree) -> int:
    return text.count("\n", 0, tree.start) + 1
