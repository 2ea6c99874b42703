"""Compile the files of a component to a project, or to everything that is wrong with them.

What was read of a file is kept by its contents, so that a project of which little changed is compiled in
little time. It reads no files and knows no database.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from reconciler.catalog.text_cache import TextCache, text_key
from reconciler.errors import Problem
from reconciler.frozen import frozen
from reconciler.objects import linking, object_file, order, schema_file
from reconciler.objects.drafts import ObjectDraft
from reconciler.objects.files import Layout, is_of_server, layout, path_of
from reconciler.objects.linking import Linked
from reconciler.objects.meanings import Meaning, Names
from reconciler.objects.model import ObjectName, Project, SqlObject, SqlSchema
from reconciler.objects.name_text import name_at
from reconciler.objects.source_file import SourceFile
from reconciler.objects.variables import TEXT_MAX, may_use, substitute
from reconciler.objects.words import Finding, shown

PROBLEMS_MAX = 1_000
"""Of one project; more would only be scrolled past."""
CYCLE_SHOWN_MAX = 100
"""Objects of one circle that are named; no reader follows more."""

_CACHE_MAX = 64 * 1024 * 1024


@frozen
class Compiled:
    """A project, or the problems that leave none, in the order of their places; and what only looks wrong."""

    project: Project | None
    problems: tuple[Problem, ...] = ()
    warnings: tuple[Problem, ...] = ()


@frozen
class _ObjectFile:
    """What the file of an object says by itself; without a draft it could not be read."""

    key: bytes
    file: SourceFile
    draft: ObjectDraft | None
    problems: tuple[Problem, ...]


@frozen
class _LinkedFile:
    """An object, with all names it was made among, and what its own names meant then."""

    names: bytes
    meanings: tuple[Meaning, ...]
    linked: Linked


_object_files: TextCache[_ObjectFile] = TextCache(weight_max=_CACHE_MAX)
_linked_files: TextCache[_LinkedFile] = TextCache(weight_max=_CACHE_MAX)
_schema_files: TextCache[tuple[SqlSchema, tuple[Problem, ...]]] = TextCache(weight_max=_CACHE_MAX // 8)


def compile_project(
    path: str, files: Mapping[str, str], *, externals: Collection[str], variables: Mapping[str, str]
) -> Compiled:
    """Compile files, by their paths below `path`; `externals` are relations as SQL writes them in full."""
    return _Compiling(path, files, variables).compiled(externals)


@dataclass(slots=True)
class _Compiling:
    """One project on its way from texts to objects, and the problems so far."""

    path: str
    texts: Mapping[str, str]
    variables: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)

    def compiled(self, externals: Collection[str]) -> Compiled:
        """Go all the way, past whatever is wrong, so that all of it is told at once."""
        laid_out = layout(self.path, self.texts)
        self.problems.extend(laid_out.problems)
        schemas = self._schemas(laid_out)
        declared = self._declared(externals, schemas)
        read = [self._object_file(key, name) for key, name in laid_out.objects]
        drafts = [(each, each.draft) for each in read if each.draft is not None]
        self._check_index_names(drafts)
        names = Names(
            {draft.name: draft.sort for _, draft in drafts},
            {name: each.stable for name, each in schemas.items()},
            declared,
            unread=[
                name for (_, name), each in zip(laid_out.objects, read, strict=True) if each.draft is None
            ],
        )
        linked = [self._linked(each, draft, names) for each, draft in drafts]
        objects = {each.made.name: each.made for each in linked}
        ordered = self._ordered(objects, drafts, names)
        if self.problems:
            return Compiled(project=None, problems=_in_place(self.problems))
        project = Project(
            path=self.path,
            schemas=schemas,
            objects={name: objects[name] for name in ordered},
            externals=frozenset(declared),
        )
        return Compiled(project=project, warnings=_unused(declared, objects, drafts))

    def _schemas(self, laid_out: Layout) -> dict[str, SqlSchema]:
        found = {name.schema: SqlSchema(name=name.schema) for _, name in laid_out.objects}
        for key, name in laid_out.schemas:
            cache_key = self._key(key)
            known = _schema_files.get(cache_key)
            if known is None:
                file, problems = self._source(key)
                known = (SqlSchema(name=name), problems) if problems else schema_file.read(file, name)
                _schema_files.put(cache_key, known, weight=len(self.texts[key]))
            found[name] = known[0]
            self.problems.extend(known[1])
        return dict(sorted(found.items()))

    def _declared(
        self, externals: Collection[str], schemas: Mapping[str, SqlSchema]
    ) -> dict[ObjectName, str]:
        """Read the names of declared externals, each with how it was written."""
        found: dict[ObjectName, str] = {}
        for number, written in enumerate(externals):
            name = name_at(written, 0)
            wrong = None
            if name is None or len(name.parts) != 2 or (name.start, name.end) != (0, len(written)):
                wrong = ("is no name in full", "write SCHEMA.RELATION, as SQL does")
            elif is_of_server(name.parts[0]):
                wrong = ("is the server's own", "leave it out: it is always there")
            elif name.parts[0] in schemas and not schemas[name.parts[0]].stable:
                wrong = (
                    "is in a schema that the project makes",
                    "what a Module makes belongs to another schema, or SET api = stable for this one",
                )
            if wrong is not None:
                message = f"external '{written[:140]}' {wrong[0]}"
                self.problems.append(Problem(path=f"externals[{number}]", message=message, hint=wrong[1]))
            elif name is not None:
                found[ObjectName(*name.parts)] = written
        return found

    def _object_file(self, key: str, name: ObjectName) -> _ObjectFile:
        cache_key = self._key(key)
        found = _object_files.get(cache_key)
        if found is None:
            file, problems = self._source(key)
            draft = None
            if not problems:
                draft, problems = object_file.read(file, name)
            found = _ObjectFile(key=cache_key, file=file, draft=draft, problems=problems)
            _object_files.put(cache_key, found, weight=2 * len(self.texts[key]) + 512)
        self.problems.extend(found.problems)
        return found

    def _key(self, key: str) -> bytes:
        text = self.texts[key]
        if not may_use(text):
            return text_key(text, path_of(self.path, key), key)
        values = (part for item in sorted(self.variables.items()) for part in item)
        return text_key(text, path_of(self.path, key), key, *values)

    def _source(self, key: str) -> tuple[SourceFile, tuple[Problem, ...]]:
        """Put variables into a file; with problems it cannot be read."""
        text, path = self.texts[key], path_of(self.path, key)
        if len(text) > TEXT_MAX:
            message = f"the file has {len(text)} characters, more than the limit of {TEXT_MAX}"
            return SourceFile(path, ""), (Problem(file=path, message=message),)
        read, findings = substitute(text, self.variables)
        problems = SourceFile(path, text).problems(findings) if findings else ()
        return SourceFile(path, text, read), problems

    def _linked(self, read: _ObjectFile, draft: ObjectDraft, names: Names) -> Linked:
        known = _linked_files.get(read.key)
        if known is None or known.names != names.key:
            meanings = tuple(names.meaning(draft.name.schema, each) for each in draft.questions)
            if known is not None and known.meanings == meanings:
                linked = known.linked
            else:
                linked = linking.link(read.file, draft, dict(zip(draft.questions, meanings, strict=True)))
            known = _LinkedFile(names=names.key, meanings=meanings, linked=linked)
            _linked_files.put(read.key, known, weight=len(read.file.text) + 512)
        self.problems.extend(known.linked.problems)
        return known.linked

    def _check_index_names(self, drafts: Iterable[tuple[_ObjectFile, ObjectDraft]]) -> None:
        """Indexes and relations of a schema share their names."""
        taken = {draft.name: draft.name for _, draft in drafts if not draft.sort.is_routine}
        for read, draft in drafts:
            for index in draft.indexes:
                name = ObjectName(draft.name.schema, index.name)
                if not index.name:
                    continue
                if name in taken and taken[name] != draft.name:
                    message = f"the name {shown(name)} is taken by the file of {shown(taken[name])}"
                    finding = Finding(offset=index.draft.offset, message=message, hint="rename the index")
                    self.problems.extend(read.file.problems([finding]))
                elif name == draft.name:
                    message = f"the index has the name of its materialized view {shown(name)}"
                    finding = Finding(offset=index.draft.offset, message=message, hint="rename the index")
                    self.problems.extend(read.file.problems([finding]))
                taken.setdefault(name, draft.name)

    def _ordered(
        self,
        objects: Mapping[ObjectName, SqlObject],
        drafts: Iterable[tuple[_ObjectFile, ObjectDraft]],
        names: Names,
    ) -> tuple[ObjectName, ...]:
        needs = {name: each.depends_on for name, each in objects.items()}
        ordered = order.in_order(needs)
        if len(ordered) < len(objects):
            by_name = {draft.name: (read, draft) for read, draft in drafts}
            for cycle in order.cycles(needs):
                read, draft = by_name[cycle[0]]
                self.problems.extend(_cycle(cycle, objects, read.file, draft, names))
        return ordered


def _cycle(
    cycle: Sequence[ObjectName],
    objects: Mapping[ObjectName, SqlObject],
    file: SourceFile,
    draft: ObjectDraft,
    names: Names,
) -> tuple[Problem, ...]:
    """Name a cycle in full, where its first object uses its second."""
    steps = [objects[name].identity for name in (*cycle, cycle[0])]
    if (more := len(steps) - CYCLE_SHOWN_MAX) > 0:
        steps[CYCLE_SHOWN_MAX - 1 : -1] = [f"{more} more"]
    path = " → ".join(steps)
    message = f"objects need each other in a circle: {path}"
    hint = "objects are made one after the other: take one of these uses away"
    for statement in draft.drafts:
        for reference in statement.references:
            if names.meaning(draft.name.schema, reference.question).target == cycle[1]:
                start = statement.offset + reference.start
                return file.problems([Finding(offset=start, message=message, hint=hint)])
    return (Problem(file=file.path, message=message, hint=hint),)


def _unused(
    declared: Mapping[ObjectName, str],
    objects: Mapping[ObjectName, SqlObject],
    drafts: Iterable[tuple[_ObjectFile, ObjectDraft]],
) -> tuple[Problem, ...]:
    """Warn of externals that nothing reads, as far as bodies that no parser reads here let that be known."""
    used = {name for each in objects.values() for name in each.externals}
    words = frozenset().union(*(draft.words for _, draft in drafts))
    return tuple(
        Problem(
            path=f"externals[{number}]",
            message=f"external '{written}' is declared, and no object reads it",
            hint="leave it out",
        )
        for number, (name, written) in enumerate(declared.items())
        if name not in used and name.name not in words
    )


def _in_place(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    ordered = sorted(
        dict.fromkeys(problems),
        key=lambda each: (
            each.file or "",
            each.line or 0,
            each.column or 0,
            each.message if each.file else "",
        ),
    )
    if (more := len(ordered) - PROBLEMS_MAX) > 0:
        return (*ordered[:PROBLEMS_MAX], Problem(message=f"and {more} more problems"))
    return tuple(ordered)
