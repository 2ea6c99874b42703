"""From the text of spec files to models, with every problem at its place; bad input never raises."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import field, replace
from typing import Any

from pydantic import ValidationError

from reconciler.errors import Problem
from reconciler.frozen import frozen
from reconciler.spec import text_rules, variables, yaml_text
from reconciler.spec.check import PLACES_MAX, check
from reconciler.spec.components import DatabaseSpec, ModuleSpec, ObjectsSpec
from reconciler.spec.environment import API_VERSION, EnvironmentSpec
from reconciler.spec.fields import RESOLVED
from reconciler.spec.listing import Listing, ReadFile, Unread, listing
from reconciler.spec.outline import outline
from reconciler.spec.problems import PROBLEMS_MAX, Finding, findings_of, hidden, problems_of
from reconciler.spec.services import JobSpec, ServiceSpec
from reconciler.spec.variables import BadVariable
from reconciler.spec.words import Path, did_you_mean, path_text, shown
from reconciler.spec.yaml_text import Document, Mark

SUFFIXES = (".yaml", ".yml")
DOCUMENT_KINDS = ("Environment",)
_SECRET_KEYS = frozenset({"dsn", "provisionDsn", "password"})


@frozen
class ParsedEnvironment:
    """One document of a file, or what no document could be read from.

    `spec` is there if and only if there are no problems; `name` wherever the text gives a sound one.
    """

    name: str | None
    file: str
    spec: EnvironmentSpec | None
    problems: tuple[Problem, ...] = ()
    marks: Mapping[str, Mark] = field(default_factory=dict, compare=False)
    """Where things stand that are judged only with all of a deployment, or with a commit, by path."""

    def placed(self, problems: Iterable[Problem]) -> tuple[Problem, ...]:
        """Give those problems their place that were found in what this document says, beside a commit."""
        return tuple(self._placed(problem) for problem in problems)

    def _placed(self, problem: Problem) -> Problem:
        if problem.file is not None or problem.path is None:
            return problem
        mark = self.marks.get(problem.path) or self.marks.get(problem.path.rpartition("[")[0])
        if mark is None:
            return replace(problem, file=self.file)
        return replace(problem, file=self.file, line=mark.line, column=mark.column)


@frozen
class ParsedFile:
    """The environments of one file, and where each names itself: the same for the same path and content.

    `lists` are the other files that were read for it, by path.
    """

    environments: tuple[ParsedEnvironment, ...]
    marks: tuple[Mark, ...]
    lists: tuple[str, ...] = ()


def parse_file(file: str, content: bytes, read_file: ReadFile | None = None) -> tuple[ParsedEnvironment, ...]:
    """Parse the documents of one file; empty ones are left out."""
    return parse_spec_file(file, content, read_file).environments


def parse_spec_file(file: str, content: bytes, read_file: ReadFile | None = None) -> ParsedFile:
    """Parse one file, to be put together with others; `read_file` gives the lists it refers to."""
    lists: dict[str, None] = {}

    def noted(path: str) -> bytes | Unread | None:
        lists[path] = None
        return read_file(path) if read_file is not None else None

    parsed = _parse_file(file, content, noted)
    return ParsedFile(
        environments=tuple(environment for environment, _mark in parsed),
        marks=tuple(mark for _environment, mark in parsed),
        lists=tuple(lists),
    )


def parse_tree(
    files: Mapping[str, bytes], read_file: ReadFile | None = None
) -> tuple[ParsedEnvironment, ...]:
    """Parse all spec files, which end in .yaml or .yml; a name declared twice is a problem of both.

    `read_file` gives the lists they refer to, where these are not among the files.
    """
    return put_together(
        parse_spec_file(file, files[file], read_file or files.get)
        for file in sorted(files)
        if file.endswith(SUFFIXES)
    )


def put_together(files: Iterable[ParsedFile]) -> tuple[ParsedEnvironment, ...]:
    """The environments of all files; a name declared twice is a problem of both."""
    parsed = [pair for file in files for pair in zip(file.environments, file.marks, strict=True)]
    declared: dict[str, list[tuple[str, Mark]]] = {}
    for environment, mark in parsed:
        if environment.name is not None:
            declared.setdefault(environment.name, []).append((environment.file, mark))
    return tuple(
        _claimed(environment, mark, declared.get(environment.name or "", [])) for environment, mark in parsed
    )


def _claimed(environment: ParsedEnvironment, mark: Mark, places: list[tuple[str, Mark]]) -> ParsedEnvironment:
    if len(places) < 2:
        return environment
    other_file, other = next(place for place in places if place != (environment.file, mark))
    problem = Problem(
        file=environment.file,
        line=mark.line,
        column=mark.column,
        path="metadata.name",
        message=f"environment '{environment.name}' is declared more than once",
        hint=f"also at {other_file}:{other.line}",
    )
    return replace(environment, spec=None, problems=(*environment.problems, problem))


def _parse_file(file: str, content: bytes, read_file: ReadFile) -> list[tuple[ParsedEnvironment, Mark]]:
    loaded = yaml_text.load(file, content)
    parsed = [
        (_parse(file, document, read_file), document.mark(("metadata", "name")))
        for document in loaded.documents
        if document.problems or not _is_empty(document)
    ]
    if loaded.stray:
        parsed.append((ParsedEnvironment(name=None, file=file, spec=None, problems=loaded.stray), Mark(1, 1)))
    return parsed


def _is_empty(document: Document) -> bool:
    return isinstance(document.root, yaml_text.ScalarNode) and document.root.value is None


def _parse(file: str, document: Document, read_file: ReadFile) -> ParsedEnvironment:
    data = document.plain()
    spec: EnvironmentSpec | None = None
    findings: list[Finding] = []
    of_list: list[Problem] = []
    if document.complete:
        listed = listing(data, read_file) if _is_ours(data) else Listing(data=data)
        spec, found = _read(listed.data)
        findings, of_list = listed.placed([*listed.findings, *found])
        of_list = [*listed.problems, *of_list]
    problems = (
        *hidden(document.problems, document.root, _SECRET_KEYS),
        *problems_of(findings, document, file, secret_keys=_SECRET_KEYS),
        *hidden(of_list[:PROBLEMS_MAX], document.root, _SECRET_KEYS),
    )
    return ParsedEnvironment(
        name=_name(data),
        file=file,
        spec=None if problems else spec,
        problems=problems,
        marks=_marks(spec, document) if spec is not None and not problems else {},
    )


def _marks(spec: EnvironmentSpec, document: Document) -> dict[str, Mark]:
    """Where what is judged with the files of a commit, or with a whole deployment, stands in a document."""
    places: list[Path] = []
    if spec.rollout.waves.gate is not None:
        places.append(("spec", "rollout", "waves", "gate", "sql"))
    for position, part in enumerate(spec.components):
        here: Path = ("spec", "components", position)
        if isinstance(part, ModuleSpec) and part.modules is not None:
            places.append((*here, "modules"))
            places += [(*here, "modules", number) for number in range(len(part.modules))]
        elif isinstance(part, DatabaseSpec):
            places += [here, *([(*here, "roles")] if part.roles else [])]
        elif isinstance(part, ObjectsSpec):
            places += _of_objects(part, here)
        elif isinstance(part, ServiceSpec | JobSpec):
            places += _of_program(part, here)
    return {path_text(place): document.mark(place) for place in places}


def _of_program(part: ServiceSpec | JobSpec, here: Path) -> Iterator[Path]:
    if part.runtime.container is not None and part.runtime.container.build is not None:
        yield (*here, "runtime", "container", "build", "context")
    if isinstance(part, JobSpec):
        yield from ((*here, "inputs", number) for number in range(len(part.inputs)))


def _of_objects(part: ObjectsSpec, here: Path) -> Iterator[Path]:
    yield (*here, "path")
    yield from ((*here, "externals", number) for number in range(len(part.externals)))
    yield from ((*here, "assertions", number, "sql") for number in range(len(part.assertions)))
    yield from ((*here, "deferred", number, "sql") for number, each in enumerate(part.deferred) if each.sql)
    for number, group in enumerate(part.refresh):
        yield from ((*here, "refresh", number, "views", position) for position in range(len(group.views)))


def _name(data: Any) -> str | None:
    """Return the name of a document that may be an environment, however broken."""
    if not isinstance(data, dict) or data.get("kind", "Environment") not in DOCUMENT_KINDS:
        return None
    metadata = data.get("metadata")
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) and text_rules.name(name) is None else None


def _read(data: Any) -> tuple[EnvironmentSpec | None, list[Finding]]:
    if not isinstance(data, dict):
        return None, [Finding((), "the document must be a mapping", "start with apiVersion and kind")]
    other = _other_kind(data)
    if other is not None:
        return None, [other]
    spec: EnvironmentSpec | None = None
    findings: list[Finding] = []
    try:
        spec = EnvironmentSpec.model_validate(data)
    except ValidationError as error:
        findings = findings_of(error, EnvironmentSpec, data)
    shape = outline(data)
    findings += check(shape)
    if spec is not None and not findings and shape.strings:
        findings = _resolved(spec, data)
    return spec, findings


def _is_ours(data: Any) -> bool:
    return isinstance(data, dict) and _other_kind(data) is None


def _other_kind(data: Mapping[str, Any]) -> Finding | None:
    """A document of another kind or version is not read further: it may follow other rules."""
    kind, version = data.get("kind"), data.get("apiVersion")
    if isinstance(kind, str) and kind not in DOCUMENT_KINDS:
        hint = did_you_mean(kind, DOCUMENT_KINDS, "kinds of document")
        return Finding(("kind",), f"unknown kind of document {shown(kind)}", hint)
    if isinstance(version, str) and version != API_VERSION:
        return Finding(
            ("apiVersion",), f"unknown version {shown(version)}", f"this daemon reads {API_VERSION}"
        )
    return None


def _resolved(spec: EnvironmentSpec, data: dict[str, Any]) -> list[Finding]:
    """Find what breaks a rule once the variables of a deployment are put in."""
    if len(spec.deployments) * len(spec.components) > PLACES_MAX:
        return []
    findings: dict[tuple[object, ...], Finding] = {}
    for position, place in enumerate(spec.deployments):
        for finding in _in_deployment(data, position):
            path = finding.path
            if path[:2] == ("spec", "deployments"):
                path = ("spec", "deployments", position, *path[3:])
            told = replace(finding, path=path, message=f"in deployment '{place.name}', {finding.message}")
            findings.setdefault(path, told)
        if len(findings) > PROBLEMS_MAX:
            break
    return list(findings.values())


def _in_deployment(data: dict[str, Any], position: int) -> list[Finding]:
    try:
        substituted = variables.resolved(data, position)
    except BadVariable as error:
        return [Finding(("spec",), error.message)]
    try:
        EnvironmentSpec.model_validate(substituted, context=RESOLVED)
    except ValidationError as error:
        return findings_of(error, EnvironmentSpec, substituted)
    return []
