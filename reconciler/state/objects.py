"""What a deployment wants of SQL objects, from its spec and the files of a commit; it opens no file.

Everything wrong is told at once: in files with its line, in the spec by its path.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from dataclasses import replace

from reconciler.catalog import sql_text
from reconciler.catalog.identifier import quote_identifier, quote_qualified
from reconciler.changes.unread import HINT, NOTHING, why_unread
from reconciler.errors import Problem, ScriptError, SpecError
from reconciler.objects.model import ObjectName, ObjectSort, Project
from reconciler.objects.name_text import name_at
from reconciler.objects.project import Compiled, compile_project
from reconciler.objects.unit_test_sql import check
from reconciler.objects.variables import names_in
from reconciler.objects.words import meant
from reconciler.spec.components import AssertionSpec, DeferredSpec, ObjectsSpec, RefreshSpec
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.variables import script_values
from reconciler.state.desired import (
    DesiredAssertion,
    DesiredDatabase,
    DesiredDeferred,
    DesiredObjects,
    DesiredRefresh,
)

SUFFIX = ".sql"
_BOM = b"\xef\xbb\xbf"

ReadObjects = Callable[[str, Sequence[str], Mapping[str, str]], Compiled]
"""Gives the project of a folder, with the externals that are declared and values for variables.

A problem without a file is about the component: its path goes on from there.
"""


def read_objects(
    path: str,
    files: Mapping[str, bytes],
    externals: Sequence[str],
    values: Mapping[str, str],
    *,
    unread: Mapping[str, str] = NOTHING,
    judges_tests: bool = True,
) -> Compiled:
    """Compile the files below a folder; `unread` are the paths that were left out, with the reason.

    With `judges_tests`, unit tests that cannot run are problems too.
    """
    prefix = f"{path}/"
    below = {file.removeprefix(prefix): file for file in files if file.startswith(prefix)}
    own = dict(_left_out(path, unread))
    if not below and not own:
        return Compiled(project=None, problems=(_nothing_there(path, unread),))
    texts = {file.removeprefix(prefix): "" for file in own}
    for key, file in below.items():
        texts[key] = ""
        if key.endswith(SUFFIX):
            try:
                texts[key] = files[file].removeprefix(_BOM).decode()
            except UnicodeDecodeError as error:
                own[file] = _not_text(file, files[file], error)
    compiled = compile_project(path, texts, externals=externals, variables=values)
    if not own:
        return _with_tests(compiled) if judges_tests else compiled
    if any(not file.endswith(SUFFIX) for file in own):
        # It may be a folder of objects, and these would be missed everywhere.
        return Compiled(project=None, problems=tuple(own.values()))
    others = (problem for problem in compiled.problems if problem.file not in own)
    return Compiled(project=None, problems=(*own.values(), *others))


class Projects:
    """The projects among some files, each compiled once for all who want the same of it."""

    def __init__(
        self, files: Mapping[str, bytes], unread: Mapping[str, str] = NOTHING, *, judges_tests: bool = True
    ) -> None:
        self._judges_tests = judges_tests
        self._files = files
        self._unread = unread
        self._names: dict[str, frozenset[str]] = {}
        self._known: dict[tuple[object, ...], Compiled] = {}

    def read(self, path: str, externals: Sequence[str], values: Mapping[str, str]) -> Compiled:
        """As `ReadObjects`."""
        if path not in self._names:
            prefix = f"{path}/"
            below = {file: self._files[file] for file in self._files if file.startswith(prefix)}
            self._names[path] = object_variables(below)
        used = used_values(values, self._names[path])
        key = (path, tuple(externals), tuple(used.items()))
        if key not in self._known:
            self._known[key] = read_objects(
                path, self._files, externals, used, unread=self._unread, judges_tests=self._judges_tests
            )
        return self._known[key]


def used_values(values: Mapping[str, str], names: Set[str]) -> dict[str, str]:
    """The values of the variables that files use by these names; all, where an unknown one is to be told."""
    return {name: values[name] for name in sorted(values) if name in names or names - values.keys()}


def object_variables(files: Mapping[str, bytes]) -> frozenset[str]:
    """The names of the variables that files of SQL objects use: only these can move what they mean."""
    found: set[str] = set()
    for file, content in files.items():
        if file.endswith(SUFFIX) and b":" in content:
            found.update(names_in(content.decode("utf-8", "replace")))
    return frozenset(found)


def _nothing_there(path: str, unread: Mapping[str, str]) -> Problem:
    why = why_unread(path, unread)
    hint = "paths begin at the root of the source; to have no objects any more, keep another file in it"
    message = why or f"there is no file below '{path}'"
    return Problem(path="path", message=message, hint=hint if why is None else HINT)


def _with_tests(compiled: Compiled) -> Compiled:
    if compiled.project is None:
        return compiled
    problems = check(compiled.project)
    return replace(compiled, project=None, problems=problems) if problems else compiled


def _left_out(path: str, unread: Mapping[str, str]) -> Iterator[tuple[str, Problem]]:
    """What may be a file or a folder of objects, and was not read."""
    for each in sorted(unread):
        name = each.rpartition("/")[2]
        if each.startswith(f"{path}/") and (name.lower().endswith(SUFFIX) or "." not in name):
            yield each, Problem(file=each, message=f"was not read: {unread[each]}", hint=HINT)


def _not_text(file: str, content: bytes, error: UnicodeDecodeError) -> Problem:
    line = content.count(b"\n", 0, error.start) + 1
    message = f"not UTF-8: byte 0x{content[error.start]:02x}"
    return Problem(file=file, line=line, message=message, hint="save the file as UTF-8")


def desired_objects(
    spec: EnvironmentSpec,
    databases: Mapping[str, DesiredDatabase],
    read: ReadObjects,
    *,
    places: Mapping[str, str],
) -> tuple[DesiredObjects, ...]:
    """What the Objects components of a spec of one deployment want; raises SpecError with all that is wrong.

    `places` are where components stand in the document, by name.
    """
    found = [_Component(spec, part, databases, places[part.name]).desired(read) for part in spec.objects]
    wanted = tuple(each for each, _ in found if each is not None)
    problems = [problem for _, own in found for problem in own]
    problems += _same_schema_twice(wanted, places)
    if problems:
        raise SpecError(problems)
    return wanted


def _same_schema_twice(wanted: Sequence[DesiredObjects], places: Mapping[str, str]) -> Iterator[Problem]:
    first: dict[tuple[str, str], str] = {}
    for part in wanted:
        for schema in part.project.schemas:
            other = first.setdefault((part.database, schema), part.component)
            if other != part.component:
                yield Problem(
                    path=f"{places[part.component]}.path",
                    message=f"schema {quote_identifier(schema)} of database '{part.database}' is made by two "
                    f"components, '{other}' and '{part.component}'",
                    hint="a schema goes live as a whole: keep its files in the folder of one of them",
                )


class _Component:
    """One component on its way to what it wants."""

    def __init__(
        self,
        spec: EnvironmentSpec,
        part: ObjectsSpec,
        databases: Mapping[str, DesiredDatabase],
        place: str,
    ) -> None:
        self._spec = spec
        self._part = part
        self._database = databases[part.database.component]
        self._path = place
        self._problems: list[Problem] = []

    def desired(self, read: ReadObjects) -> tuple[DesiredObjects | None, tuple[Problem, ...]]:
        """Return what is wanted, where nothing is wrong, and what is wrong."""
        part, spec = self._part, self._spec
        compiled = read(part.path, part.externals, script_values(spec, part))
        self._problems += self._placed(compiled.problems)
        assertions = tuple(
            DesiredAssertion(name=each.name, sql=self._assertion(number, each))
            for number, each in enumerate(part.assertions)
        )
        deferred = tuple(
            DesiredDeferred(name=each.name, sql=self._deferred(number, each), url=each.url)
            for number, each in enumerate(part.deferred)
        )
        if compiled.project is None:
            return None, tuple(self._problems)
        refresh = tuple(
            self._refresh(number, each, compiled.project) for number, each in enumerate(part.refresh)
        )
        if self._problems:
            return None, tuple(self._problems)
        return (
            DesiredObjects(
                component=part.name,
                stage=spec.stage_of(part),
                database_component=self._database.component,
                database=self._database.database,
                path=part.path,
                project=compiled.project,
                after=tuple(part.after),
                retain_s=part.retain_s,
                ready_within_s=part.ready_within_s,
                data_age_s=part.data_age_s,
                dependents=part.dependents,
                hand_made=part.hand_made_grants,
                altered=part.altered,
                assertions=assertions,
                refresh=refresh,
                deferred=deferred,
                warnings=tuple(self._placed(compiled.warnings)),
                skip=part.skip,
            ),
            (),
        )

    def _placed(self, problems: Sequence[Problem]) -> Iterator[Problem]:
        for problem in problems:
            if problem.file is None and problem.path is not None:
                yield replace(problem, path=f"{self._path}.{problem.path}")
            else:
                yield problem

    def _wrong(self, at: str, message: str, hint: str | None = None) -> None:
        self._problems.append(Problem(path=f"{self._path}.{at}", message=message, hint=hint))

    def _statements(self, at: str, text: str) -> tuple[sql_text.Statement, ...]:
        try:
            found = sql_text.split(text)
        except ScriptError as error:
            self._wrong(at, f"is no SQL: {error.problems[0].message}")
            return ()
        if not found:
            self._wrong(at, "holds no statement")
        return found

    def _assertion(self, number: int, written: AssertionSpec) -> str:
        """The one SELECT that an assertion is, without what may stand behind it."""
        at, hint = f"assertions[{number}].sql", "write one SELECT of the rows that there must not be"
        statements = self._statements(at, written.sql)
        if len(statements) > 1:
            self._wrong(at, f"must be one statement, and has {len(statements)}", hint)
        for each in statements[:1]:
            if each.node != "SelectStmt" or each.facts.makes:
                kind = "one that makes a table" if each.facts.makes else each.kind
                self._wrong(at, f"must be a SELECT, not {kind}", hint)
        return statements[0].text if statements else ""

    def _deferred(self, number: int, written: DeferredSpec) -> str | None:
        if written.sql is None:
            return None
        at = f"deferred[{number}].sql"
        for each in self._statements(at, written.sql):
            why = None
            if each.facts.transaction is not None:
                why = "it and its record are one transaction, which nothing in it begins or ends"
            elif each.facts.outside_transaction is not None:
                why = f"{each.facts.outside_transaction} cannot run inside of a transaction"
            elif each.facts.client_data is not None:
                why = "no data comes with it"
            if why is not None:
                self._wrong(at, f"{each.kind} cannot be deferred: {why}", "put it into a change of a module")
        return written.sql

    def _refresh(self, number: int, written: RefreshSpec, project: Project) -> DesiredRefresh:
        views: list[ObjectName] = []
        for position, text in enumerate(written.views):
            at = f"refresh[{number}].views[{position}]"
            name = _named_in_full(text)
            if name is None:
                self._wrong(at, f"'{text}' is no name in full", "write SCHEMA.VIEW, as SQL does")
            elif name in views:
                self._wrong(at, f"'{text}' is listed twice", "name it once")
            elif wrong := _why_not_refreshed(name, text, project):
                self._wrong(at, *wrong)
            else:
                views.append(name)
        return DesiredRefresh(name=written.name, schedule=written.schedule, views=tuple(views))


def _named_in_full(text: str) -> ObjectName | None:
    name = name_at(text, 0)
    if name is None or len(name.parts) != 2 or (name.start, name.end) != (0, len(text)):
        return None
    return ObjectName(*name.parts)


def _why_not_refreshed(name: ObjectName, text: str, project: Project) -> tuple[str, str | None] | None:
    wanted = project.objects.get(name)
    if wanted is not None and wanted.sort is not ObjectSort.MATERIALIZED_VIEW:
        return f"'{text}' is a {wanted.sort.value}, and only materialized views are refreshed", None
    if wanted is not None:
        return None
    views = [
        quote_qualified(each.name.schema, each.name.name)
        for each in project.objects.values()
        if each.sort is ObjectSort.MATERIALIZED_VIEW
    ]
    hint = meant(text, views) or f"it has {len(views)} materialized views"
    return f"'{text}' is no object of '{project.path}'", hint
