"""What has to be built anew, and why: changed objects and all that follows from them; it plans nothing.

A swapped schema is the unit of what is exchanged: one object of it that is built anew takes the others along,
and whoever depends on any of them, for views are bound to what they were made over and not to its name.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from enum import StrEnum
from operator import attrgetter

from reconciler.catalog.identifier import quote_identifier, quote_qualified
from reconciler.catalog.sql_lexer import next_token
from reconciler.errors import InvalidInput, Problem
from reconciler.frozen import frozen
from reconciler.objects.model import ObjectName, Production, Project
from reconciler.objects.name_text import name_at
from reconciler.objects.words import joined, meant

LISTED_MAX = 12
"""Schemas that one message lists."""

CHAIN_SHOWN_MAX = 50
"""Links from an object to its root cause that are shown."""

by_name = attrgetter("schema", "name")
"""The order of names, wherever one is shown or breaks a tie."""


@frozen
class Changes:
    """How a project differs from what is live, each part in the order of names.

    `metadata` are objects of which grants, comments or options alone differ, `schemas` schemas of which what
    their own file says differs; `retired` are live schemas that the project does not have.
    """

    added: tuple[ObjectName, ...] = ()
    edited: tuple[ObjectName, ...] = ()
    deleted: tuple[ObjectName, ...] = ()
    metadata: tuple[ObjectName, ...] = ()
    schemas: tuple[str, ...] = ()
    retired: tuple[str, ...] = ()


class Why(StrEnum):
    """Why an object is built anew; of several, the first in this order that was found first."""

    ADDED = "added"
    EDITED = "edited"
    DELETED = "deleted"
    FORCED = "forced"
    READS = "reads"
    CALLS = "calls"
    NEIGHBOUR = "neighbour"


@frozen
class Reason:
    """The first reason that an object is built anew, and the object that it comes from, where it does."""

    why: Why
    cause: ObjectName | None = None


@frozen
class Dirty:
    """All that is built anew or deleted: reasons by name, root causes first, then level by level."""

    changes: Changes
    reasons: Mapping[ObjectName, Reason]

    def because(self, name: ObjectName) -> str:
        """Say why an object is built anew, to go on behind "because"."""
        reason = self.reasons[name]
        schema = quote_identifier(name.schema)
        match reason.why:
            case Why.ADDED:
                return "it is new"
            case Why.EDITED:
                return "its definition changed"
            case Why.DELETED:
                return "it is no longer in the project"
            case Why.FORCED:
                return f"--redeploy-schema named {schema}"
            case Why.READS | Why.CALLS:
                verb = "reads" if reason.why is Why.READS else "calls"
                return f"{_shown(reason.cause)}, which it {verb}, is rebuilt"
            case Why.NEIGHBOUR:
                return f"it shares schema {schema} with {_shown(reason.cause)}, {self._what_of(reason.cause)}"

    def chain(self, name: ObjectName) -> tuple[ObjectName, ...]:
        """Return the objects from this one back to the root cause, both included."""
        path = [name]
        while (cause := self.reasons[path[-1]].cause) is not None:
            path.append(cause)
        return tuple(path)

    def explained(self, name: ObjectName) -> tuple[str, ...]:
        """Tell the whole chain, a line for each object: `ops.late because core.open, which it reads, …`."""
        chain = self.chain(name)
        lines = [f"{_shown(one)} because {self.because(one)}" for one in chain[:CHAIN_SHOWN_MAX]]
        if len(chain) > CHAIN_SHOWN_MAX:
            lines.append(f"and {len(chain) - CHAIN_SHOWN_MAX} more, back to {_shown(chain[-1])}")
        return tuple(lines)

    def _what_of(self, cause: ObjectName | None) -> str:
        match self.reasons[cause].why if cause is not None else Why.READS:
            case Why.ADDED:
                return "which is new"
            case Why.EDITED:
                return "whose definition changed"
            case Why.DELETED:
                return "which is no longer in the project"
            case Why.FORCED | Why.READS | Why.CALLS | Why.NEIGHBOUR:
                return "which is rebuilt"


def in_place(project: Project, production: Production) -> frozenset[str]:
    """Return the schemas that are changed in place: stable ones that were built as stable ones already.

    One that only becomes stable is swapped a last time, for what it was built as may be anything.
    """
    return frozenset(
        name
        for name, schema in project.schemas.items()
        if schema.stable and production.schemas.get(name, False)
    )


def changed(project: Project, production: Production) -> Changes:
    """Compare a project with what is live, object by object; what follows from it is not looked at."""
    added, edited, metadata = [], [], []
    for name, wanted in project.objects.items():
        built = production.objects.get(name)
        if built is None:
            added.append(name)
        elif (built.hash, built.sort) != (wanted.hash, wanted.sort):
            edited.append(name)
        elif built.metadata_hash != wanted.metadata_hash:
            metadata.append(name)
    return Changes(
        added=_sorted(added),
        edited=_sorted(edited),
        deleted=_sorted(name for name in production.objects if name not in project.objects),
        metadata=_sorted(metadata),
        schemas=tuple(
            sorted(
                name
                for name, schema in project.schemas.items()
                if name in production.schemas
                and schema.metadata_hash != production.schema_hashes.get(name, "")
            )
        ),
        retired=tuple(sorted(name for name in production.schemas if name not in project.schemas)),
    )


def dirty(project: Project, production: Production, *, forced: Collection[str] = ()) -> Dirty:
    """Return all that has to be built anew, as a least fixed point, each with its first reason.

    It is found level by level, each level in the order of names, so that neither the order of files nor that
    of mappings shows. Every object and every edge is looked at once.
    """
    changes = changed(project, production)
    bound = in_place(project, production)
    reasons = dict(_roots(project, changes, forced))
    dependents, members = _dependents(project), _members(project)
    spread = set(bound)
    level: Sequence[ObjectName] = tuple(reasons)
    while level:
        found: dict[ObjectName, Reason] = {}
        for cause in level:
            if cause.schema in bound:
                continue
            for name in dependents.get(cause, ()):
                if name not in reasons and name not in found:
                    found[name] = Reason(why=_uses(project, cause), cause=cause)
        for cause in level:
            if cause.schema in spread:
                continue
            spread.add(cause.schema)
            for name in members.get(cause.schema, ()):
                if name not in reasons and name not in found:
                    found[name] = Reason(why=Why.NEIGHBOUR, cause=cause)
        level = _sorted(found)
        reasons.update((name, found[name]) for name in level)
    return Dirty(changes=changes, reasons=reasons)


def forced_schemas(words: Iterable[str], project: Project) -> frozenset[str]:
    """Read the schemas that `--redeploy-schema` names, as SQL or as they are; raises all problems at once."""
    schemas, problems = set[str](), list[Problem]()
    for word in words:
        read = _read_forced(word, project)
        if isinstance(read, Problem):
            problems.append(read)
        else:
            schemas.add(read)
    if problems:
        raise InvalidInput(problems)
    return frozenset(schemas)


def names_of(text: str) -> tuple[str, ...] | None:
    """Read a name as SQL has it, qualified or not, into its parts; None where it is no name."""
    name = name_at(text, 0)
    return None if name is None or next_token(text, name.end) is not None else name.parts


def _roots(
    project: Project, changes: Changes, forced: Collection[str]
) -> Iterable[tuple[ObjectName, Reason]]:
    reasons = {name: Reason(why=Why.FORCED) for name in project.objects if name.schema in forced}
    for why, names in (
        (Why.ADDED, changes.added),
        (Why.EDITED, changes.edited),
        (Why.DELETED, changes.deleted),
    ):
        reasons.update(dict.fromkeys(names, Reason(why=why)))
    return ((name, reasons[name]) for name in _sorted(reasons))


def _dependents(project: Project) -> dict[ObjectName, list[ObjectName]]:
    dependents: dict[ObjectName, list[ObjectName]] = {}
    for name, wanted in project.objects.items():
        for needed in wanted.depends_on:
            dependents.setdefault(needed, []).append(name)
    return dependents


def _members(project: Project) -> dict[str, list[ObjectName]]:
    members: dict[str, list[ObjectName]] = {}
    for name in project.objects:
        members.setdefault(name.schema, []).append(name)
    return members


def _uses(project: Project, cause: ObjectName) -> Why:
    wanted = project.objects.get(cause)
    return Why.CALLS if wanted is not None and wanted.sort.is_routine else Why.READS


def _read_forced(word: str, project: Project) -> str | Problem:
    if word in project.schemas:
        return word
    parts = names_of(word)
    if parts is not None and len(parts) == 1 and parts[0] in project.schemas:
        return parts[0]
    what = f"'{word}'" if word.isprintable() and len(word) <= 130 else f"a word of {len(word)} characters"
    if parts is None:
        return Problem(message=f"--redeploy-schema: {what} is not a name", hint=_listed(project))
    if len(parts) == 1:
        hint = joined(meant(parts[0], project.schemas), _listed(project))
        return Problem(message=f"--redeploy-schema: no schema {what} in the project", hint=hint)
    known = next((part for part in parts if part in project.schemas), None)
    hint = f"a schema is built anew as a whole: name '{known}' alone" if known is not None else None
    message = f"--redeploy-schema: {what} is more than the name of a schema"
    return Problem(message=message, hint=hint or _listed(project))


def _listed(project: Project) -> str:
    names = sorted(project.schemas)
    if not names:
        return "the project has no schemas"
    more = f" and {len(names) - LISTED_MAX} more" if len(names) > LISTED_MAX else ""
    return f"the project has: {', '.join(names[:LISTED_MAX])}{more}"


def _sorted(names: Iterable[ObjectName]) -> tuple[ObjectName, ...]:
    return tuple(sorted(names, key=by_name))


def _shown(name: ObjectName | None) -> str:
    return quote_qualified(name.schema, name.name) if name is not None else ""
