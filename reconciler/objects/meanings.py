"""What names mean in a project: an object of it, a declared external, neither of ours, or a mistake."""

import hashlib
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import Enum

from reconciler.catalog.identifier import quote_qualified
from reconciler.objects.files import is_of_server
from reconciler.objects.mentions import Question, Use
from reconciler.objects.model import ObjectName, ObjectSort
from reconciler.objects.words import joined, meant, shown

_NEAR_MAX = 50
"""Hints with a near name that are looked for at most: each compares a name with many."""
_PUBLIC = "public"


class Whose(Enum):
    """To whom belongs what a name means."""

    PROJECT = "project"
    OUTSIDE = "outside"
    NOT_OURS = "not ours"
    MISTAKE = "mistake"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a name means: the target where it is known, or what is wrong with it."""

    whose: Whose
    target: ObjectName | None = None
    routine: bool = False
    message: str = ""
    hint: str | None = None


NOT_OURS = Meaning(Whose.NOT_OURS)
_ROUTINES = frozenset({Use.ROUTINE, Use.ROUTINE_LITERAL})
_TYPES = frozenset({Use.TYPE, Use.TYPE_LITERAL})


class Names:
    """All names of a project, asked by how they are used and from which schema."""

    def __init__(
        self,
        objects: Mapping[ObjectName, ObjectSort],
        schemas: Mapping[str, bool],
        externals: Collection[ObjectName],
        *,
        unread: Collection[ObjectName] = (),
    ) -> None:
        """Take all objects with their sorts, schemas with whether they are stable, and declared externals.

        What is `unread` is there, and nobody knows yet what it is.
        """
        self._objects = objects
        self._schemas = schemas
        self._externals = frozenset(externals)
        self._unread = frozenset(unread)
        self._known: dict[tuple[str, Question], Meaning] = {}
        self.key = _key(objects, schemas, self._externals, self._unread)
        self._hints = 0
        self._by_schema: dict[str, list[str]] | None = None

    def meaning(self, schema: str, question: Question) -> Meaning:
        """Say what a name means in a file of a schema."""
        asked = (schema, question)
        known = self._known.get(asked)
        if known is None:
            known = self._known[asked] = self._meaning(schema, question)
        return known

    def _meaning(self, schema: str, question: Question) -> Meaning:
        parts, use = question.parts, question.use
        target = ObjectName(*parts) if len(parts) == 2 else ObjectName(schema, parts[0])
        sort = self._objects.get(target)
        if sort is not None and (found := self._object(target, sort, question)) is not None:
            return found
        if target in self._unread:
            return NOT_OURS
        if use is Use.COLUMN:
            return Meaning(Whose.OUTSIDE, target) if target in self._externals else NOT_OURS
        if use in _ROUTINES:
            return self._missing(target) if self._is_swapped(target, qualified=len(parts) == 2) else NOT_OURS
        return self._relation(target, question)

    def _object(self, target: ObjectName, sort: ObjectSort, question: Question) -> Meaning | None:
        """Say what a name of the project means where it is used; None where it means something else."""
        use = question.use
        if use is Use.WORDS or (use in _ROUTINES) is sort.is_routine:
            return Meaning(Whose.PROJECT, target, sort.is_routine)
        if len(question.parts) == 1 and use in (*_ROUTINES, *_TYPES):
            return None
        if use in (Use.COLUMN, *_TYPES):
            return NOT_OURS
        verb = "called, not read" if sort.is_routine else "read, not called"
        return Meaning(Whose.MISTAKE, message=f"{shown(target)} is a {sort.value}, which is {verb}")

    def _relation(self, target: ObjectName, question: Question) -> Meaning:
        """Say what a name means that is no object of the project."""
        use, qualified = question.use, len(question.parts) == 2
        outside = target if qualified or target in self._externals else ObjectName(_PUBLIC, target.name)
        if outside in self._externals:
            return Meaning(Whose.OUTSIDE, outside)
        if use is Use.WORDS or (use in _TYPES and not self._is_swapped(target, qualified=qualified)):
            return NOT_OURS
        if is_of_server(target.schema if qualified else target.name):
            return NOT_OURS
        if qualified and target.schema in self._schemas:
            return self._missing(target)
        if qualified:
            return _undeclared(target, None)
        return _undeclared(outside, self._near(target), written=target.name, schema=target.schema)

    def _is_swapped(self, target: ObjectName, *, qualified: bool) -> bool:
        return qualified and self._schemas.get(target.schema) is False

    def _missing(self, target: ObjectName) -> Meaning:
        message = f"no such object {shown(target)} in the project"
        hint = self._near(target)
        if hint is None and self._schemas[target.schema]:
            hint = f"what others make in a stable schema is declared: {_yaml(target)}"
        elif hint is None:
            hint = f"the project makes all of schema '{target.schema}'; tables belong to another schema"
        return Meaning(Whose.MISTAKE, message=message, hint=hint)

    def _near(self, target: ObjectName) -> str | None:
        self._hints += 1
        if self._hints > _NEAR_MAX:
            return None
        if self._by_schema is None:
            self._by_schema = defaultdict(list)
            for name in sorted(self._objects):
                self._by_schema[name.schema].append(name.name)
        return meant(target.name, self._by_schema.get(target.schema, ()))


def _key(
    objects: Mapping[ObjectName, ObjectSort],
    schemas: Mapping[str, bool],
    externals: Collection[ObjectName],
    unread: Collection[ObjectName],
) -> bytes:
    """Return a digest of all that a meaning may hang on."""
    parts = [f"{name.schema}\0{name.name}\0{sort}" for name, sort in sorted(objects.items())]
    parts += ["schemas", *(f"{name}\0{stable}" for name, stable in sorted(schemas.items()))]
    for names in (externals, unread):
        parts += ["names", *(f"{name.schema}\0{name.name}" for name in sorted(names))]
    return hashlib.sha256("\0\0".join(parts).encode("utf-8", "surrogatepass")).digest()


def _undeclared(
    name: ObjectName, near: str | None, *, written: str | None = None, schema: str = ""
) -> Meaning:
    if written is None:
        message = f"undeclared external {shown(name)}"
    else:
        message = f"undeclared external '{written}': schema '{schema}' of the project has no such object"
    hint = joined(near, f"declare it on the component: {_yaml(name)}")
    return Meaning(Whose.MISTAKE, message=message, hint=hint)


def _yaml(name: ObjectName) -> str:
    """The line to paste; a name with quotes is a string of YAML in quotes of the other sort."""
    text = quote_qualified(name.schema, name.name)
    quoted = "'" + text.replace("'", "''") + "'" if '"' in text else text
    return f"externals: [{quoted}]"
