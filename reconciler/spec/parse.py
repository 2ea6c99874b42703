"""From the text of spec files to models, with every problem at its place; bad input never raises."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from reconciler.errors import Problem
from reconciler.spec import check, environment, yaml_text
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.words import Path
from reconciler.spec.yaml_text import Document

KINDS = ("Database", "Module")
PROBLEMS_MAX = 200
"""Problems told of one document; more help nobody."""
_SECRET_KEYS = frozenset({"dsn"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ParsedEnvironment:
    """One document of a file; `name` is known wherever the text gives one, `spec` only without problems."""

    name: str | None
    file: str
    spec: EnvironmentSpec | None
    problems: tuple[Problem, ...] = ()


def parse_tree(files: Mapping[str, bytes]) -> tuple[ParsedEnvironment, ...]:
    """Parse all spec files of a source; a name that is declared twice is a problem of both."""
    parsed = [item for file in sorted(files) for item in parse_file(file, files[file])]
    places: dict[str, list[str]] = {}
    for item in parsed:
        if item.name is not None:
            places.setdefault(item.name, []).append(item.file)
    return tuple(_with_twice(item, places) for item in parsed)


def _with_twice(item: ParsedEnvironment, places: Mapping[str, list[str]]) -> ParsedEnvironment:
    if item.name is None or len(places[item.name]) == 1:
        return item
    problem = Problem(
        file=item.file,
        message=f"environment '{item.name}' is declared more than once: {', '.join(places[item.name])}",
        hint="an environment is one document",
    )
    return replace(item, spec=None, problems=(*item.problems, problem))


def parse_file(file: str, content: bytes) -> tuple[ParsedEnvironment, ...]:
    """Parse the documents of one file; empty ones are left out."""
    loaded = yaml_text.load(file, content)
    if loaded.problems:
        names = [_name(document.plain()) for document in loaded.documents]
        name = names[0] if len(names) == 1 else None
        return (ParsedEnvironment(name=name, file=file, spec=None, problems=loaded.problems),)
    return tuple(_parse(file, document) for document in loaded.documents if document.plain() is not None)


def _parse(file: str, document: Document) -> ParsedEnvironment:
    name = _name(document.plain())
    try:
        spec = EnvironmentSpec.model_validate(document.plain())
    except ValidationError as error:
        problems = tuple(_problems(file, document, error))
        return ParsedEnvironment(name=name, file=file, spec=None, problems=problems[:PROBLEMS_MAX])
    except RecursionError:
        problem = Problem(file=file, message="is nested too deeply")
        return ParsedEnvironment(name=name, file=file, spec=None, problems=(problem,))
    findings = check.check(spec)
    problems = tuple(_at(file, document, finding.path, finding.message, finding.hint) for finding in findings)
    return ParsedEnvironment(
        name=name, file=file, spec=None if problems else spec, problems=problems[:PROBLEMS_MAX]
    )


def _name(value: Any) -> str | None:
    metadata = value.get("metadata") if isinstance(value, dict) else None
    name = metadata.get("name") if isinstance(metadata, dict) else None
    return name if isinstance(name, str) and name else None


def _problems(file: str, document: Document, error: ValidationError) -> Iterator[Problem]:
    found = sorted(
        (
            _problem(file, document, details)
            for details in error.errors(include_url=False, include_context=True, include_input=False)
        ),
        key=lambda problem: (problem.line or 0, problem.column or 0, problem.message),
    )
    seen: set[str] = set()
    for problem in found:
        if str(problem) not in seen:
            seen.add(str(problem))
            yield problem


def _problem(file: str, document: Document, details: ErrorDetails) -> Problem:
    path, owner = _path(document.plain(), details["loc"])
    match details["type"]:
        case "extra_forbidden":
            key = str(path[-1])
            known = _known_keys(owner)
            hint = check.nearest(key, known) or (f"keys here are: {', '.join(known)}" if known else None)
            return _at(file, document, path, f"unknown key '{key}'", hint, key=True)
        case "missing":
            return _at(file, document, path[:-1], f"'{path[-1]}' is missing", None)
        case "union_tag_invalid":
            kind = str(owner.get("kind")) if isinstance(owner, dict) else ""
            hint = check.nearest(kind, KINDS) or f"kinds are: {', '.join(KINDS)}"
            return _at(file, document, (*path, "kind"), f"unknown kind '{kind}'", hint)
        case "union_tag_not_found":
            return _at(file, document, path, "'kind' is missing", f"kinds are: {', '.join(KINDS)}")
        case "broken_rule":
            context = details.get("ctx", {})
            return _at(file, document, path, str(context.get("message")), context.get("hint"))
        case "literal_error" | "enum":
            expected = str(details.get("ctx", {}).get("expected", ""))
            return _at(file, document, path, f"must be {expected}", None)
        case "string_pattern_mismatch":
            return _at(
                file,
                document,
                path,
                "is not a valid name",
                "use lower-case letters, digits, '.', '_' and '-'",
            )
        case "value_error":
            return _at(file, document, path, str(details.get("ctx", {}).get("error", details["msg"])), None)
    if path and any(part in _SECRET_KEYS for part in path):
        return _at(
            file,
            document,
            path,
            "must say where the secret stands, and must not be the secret itself",
            "write {env: NAME} or {file: /path}",
        )
    message = details["msg"][:1].lower() + details["msg"][1:]
    return _at(file, document, path, message, None)


def _path(value: Any, location: tuple[str | int, ...]) -> tuple[Path, Any]:
    """The path in the document for pydantic's location, which also names members of unions."""
    path: list[str | int] = []
    owner = current = value
    for position, part in enumerate(location):
        last = position == len(location) - 1
        if isinstance(current, dict) and (part in current or (last and isinstance(part, str))):
            if last and part not in current and part in KINDS:
                continue
            path.append(part)
            owner, current = current, current.get(part)
        elif isinstance(current, list) and isinstance(part, int) and part < len(current):
            path.append(part)
            owner, current = current, current[part]
    if isinstance(current, dict) and location and location[-1] == (path[-1] if path else None):
        return tuple(path), current if not isinstance(owner, dict) else owner
    return tuple(path), owner if isinstance(owner, dict) else current


def _known_keys(owner: Any) -> list[str]:
    """Keys of the model that a mapping was meant to be, told by what it holds."""
    if not isinstance(owner, dict):
        return []
    models: list[type[environment.SpecModel]] = [
        environment.EnvironmentSpec,
        environment.EnvironmentBody,
        environment.MetadataSpec,
        environment.StageSpec,
        environment.DeploymentSpec,
        environment.PostgresSpec,
        environment.RolloutSpec,
        environment.PolicySpec,
        environment.ComponentReference,
        environment.DatabaseSpec,
        environment.ModuleSpec,
    ]
    kind = owner.get("kind")
    if kind in KINDS:
        models = [environment.DatabaseSpec if kind == "Database" else environment.ModuleSpec]

    def keys(model: type[environment.SpecModel]) -> list[str]:
        return [field.alias or name for name, field in model.model_fields.items()]

    best = max(models, key=lambda model: (len(set(keys(model)) & set(owner)), -len(keys(model))))
    return sorted(keys(best))


def _at(
    file: str, document: Document, path: Path, message: str, hint: str | None, *, key: bool = False
) -> Problem:
    place = document.key_mark(path) if key else document.mark(path)
    return Problem(
        file=file,
        line=place.line,
        column=place.column,
        path=_text(path) or None,
        message=message,
        hint=hint,
    )


def _text(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text
