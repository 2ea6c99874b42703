"""From findings in a document to problems with places and hints; nothing told here ever shows a secret."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from reconciler.errors import Problem
from reconciler.spec import text_rules
from reconciler.spec.words import Path, did_you_mean, path_text, shown
from reconciler.spec.yaml_text import Document, MappingNode, Node, ScalarNode, SequenceNode

PROBLEMS_MAX = 100
"""Of one document; more would only be scrolled past."""
_HIDDEN = "<hidden>"
_HIDDEN_ANYWHERE_FROM = 4
"""Shorter secrets are hidden only where they are quoted: they stand in most words."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing wrong: where to point, what, what to do, and what it is about where that is elsewhere."""

    path: Path
    message: str
    hint: str | None = None
    about: Path | None = None
    at_key: bool = False


def problems_of(
    findings: Iterable[Finding], document: Document, file: str, *, secret_keys: frozenset[str]
) -> tuple[Problem, ...]:
    """Place findings in a document, each once, in order of place, with all that may be secret hidden."""
    told = dict.fromkeys(_placed(finding, document, file) for finding in findings)
    ordered = sorted(told, key=lambda problem: (problem.line or 0, problem.column or 0, problem.message))
    if (more := len(ordered) - PROBLEMS_MAX) > 0:
        ordered = [*ordered[:PROBLEMS_MAX], Problem(file=file, message=f"and {more} more problems")]
    return hidden(ordered, document.root, secret_keys)


def _placed(finding: Finding, document: Document, file: str) -> Problem:
    mark = document.key_mark(finding.path) if finding.at_key else document.mark(finding.path)
    return Problem(
        file=file,
        line=mark.line,
        column=mark.column,
        path=path_text(finding.path if finding.about is None else finding.about) or None,
        message=finding.message,
        hint=finding.hint,
    )


def hidden(problems: Iterable[Problem], root: Node, secret_keys: frozenset[str]) -> tuple[Problem, ...]:
    """Take out of problems whatever stands under a key that should lead to a secret."""
    told = tuple(problems)
    if not told:
        return ()
    secrets = sorted(_secrets(root, secret_keys, secret=False), key=len, reverse=True)
    return tuple(_without(problem, secrets) for problem in told) if secrets else told


def _secrets(node: Node, keys: frozenset[str], *, secret: bool) -> Iterator[str]:
    match node:
        case ScalarNode():
            if secret and node.value is not None and str(node.value):
                yield str(node.value)
        case SequenceNode():
            for item in node.items:
                yield from _secrets(item, keys, secret=secret)
        case MappingNode():
            for key, value in node.entries.items():
                inside = secret or key in keys
                if secret and key not in ("env", "file", "age"):
                    yield key
                if not (inside and _is_reference(key, value)):
                    yield from _secrets(value, keys, secret=inside)


def _is_reference(key: str, value: Node) -> bool:
    if not (isinstance(value, ScalarNode) and isinstance(value.value, str)):
        return False
    if key == "file":
        return text_rules.secret_file(value.value) is None
    return key == "env" and re.fullmatch(r"[A-Z][A-Z0-9_]{0,254}", value.value) is not None


def _without(problem: Problem, secrets: Sequence[str]) -> Problem:
    def clean(text: str | None) -> str | None:
        for secret in secrets:
            if text is not None and len(secret) >= _HIDDEN_ANYWHERE_FROM:
                text = text.replace(secret, _HIDDEN)
            elif text is not None:
                text = text.replace(f"'{secret}'", _HIDDEN)
        return text

    return replace(
        problem, message=clean(problem.message) or "", hint=clean(problem.hint), path=clean(problem.path)
    )


def findings_of(error: ValidationError, model: type[BaseModel], data: object) -> list[Finding]:
    """Say what a model found wrong in words that name the keys as they were written."""
    details = error.errors(include_url=False)[: PROBLEMS_MAX * 2]
    return [_finding(item, model) for item in details if not _is_consequence(item, data)]


def _is_consequence(item: ErrorDetails, data: object) -> bool:
    """That a list is empty, said of one that is not, only repeats what is wrong with its items."""
    return item["type"] == "too_short" and _length(data, item["loc"]) > 0


def _length(data: object, location: tuple[str | int, ...]) -> int:
    for part in location:
        if isinstance(data, dict):
            data = data.get(part)
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
    return len(data) if isinstance(data, list | dict) else 0


def _finding(item: ErrorDetails, model: type[BaseModel]) -> Finding:
    path, owner = _locate(model, item["loc"])
    match item["type"]:
        case "extra_forbidden":
            key, parent = str(path[-1]), path[:-1]
            hint = did_you_mean(key, _keys(owner), "keys")
            return Finding(path, f"unknown key {shown(key)}", hint, about=parent, at_key=True)
        case "missing":
            return Finding(path[:-1], f"key '{path[-1]}' is missing")
        case "union_tag_not_found":
            return Finding(path, "key 'kind' is missing", f"known kinds: {_tags(owner)}")
        case "union_tag_invalid":
            tag = str(item["ctx"]["tag"])
            return Finding((*path, "kind"), f"unknown kind {shown(tag)}", _kind_hint(tag, owner))
        case "broken_rule":
            context = item["ctx"]
            at_key = item["loc"][-1:] == ("[key]",)
            return Finding(path, str(context["message"]), context["hint"], at_key=at_key)
        case "literal_error":
            return _choice(path, item)
        case _:
            return _other(path, item)


def _choice(path: Path, item: ErrorDetails) -> Finding:
    choices = re.findall(r"'([^']*)'", str(item["ctx"]["expected"]))
    given = item["input"]
    wanted = choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"
    if not isinstance(given, str):
        return Finding(path, f"must be {wanted}, not {_what(given)}")
    hint = did_you_mean(given, choices, "values")
    return Finding(path, f"must be {wanted}, not {shown(given)}", hint if hint.startswith("did") else None)


_WANTED: Mapping[str, str] = {
    "string_type": "a string",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "list_type": "a list",
    "dict_type": "a mapping",
    "mapping_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}


def _other(path: Path, item: ErrorDetails) -> Finding:
    kind, context, given = item["type"], item.get("ctx", {}), item["input"]
    if kind in _WANTED:
        quotes = kind == "string_type" and isinstance(given, bool | int | float)
        hint = "put it in quotes" if quotes else None
        return Finding(path, f"must be {_WANTED[kind]}, not {_what(given)}", hint)
    match kind:
        case "too_short":
            return Finding(path, "must not be empty")
        case "too_long":
            return Finding(path, f"must have at most {context['max_length']} items")
        case "greater_than":
            return Finding(path, f"must be more than {context['gt']:g}")
        case "greater_than_equal":
            return Finding(path, f"must be at least {context['ge']:g}")
        case "less_than_equal":
            return Finding(path, f"must be at most {context['le']:g}")
        case _:
            return Finding(path, f"is not valid ({kind.replace('_', ' ')})")


def _what(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return "true or false"
        case int() | float():
            return "a number"
        case str():
            return "text"
        case dict():
            return "a mapping"
        case _:
            return "a list"


def _locate(model: type[BaseModel], location: tuple[str | int, ...]) -> tuple[Path, Any]:
    """Return the path in the document of a place in the models, and the type there that holds its last part.

    The two differ: a place in the models also names the kind of a component.
    """
    path: list[str | int] = []
    owner: Any = model
    current: Any = model
    for part in location:
        if part == "[key]":
            break
        current = _bare(current)
        if get_origin(current) in (Union, UnionType):
            owner, current = current, next((m for m in get_args(current) if part in _kinds(m)), None)
            continue
        owner = current
        path.append(part)
        current = _below(current, part)
    bare = _bare(current)
    return tuple(path), bare if get_origin(bare) in (Union, UnionType) else owner


def _below(annotation: Any, part: str | int) -> Any:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.items()
        return next((field.annotation for name, field in fields if (field.alias or name) == part), None)
    arguments = get_args(annotation)
    if get_origin(annotation) is tuple:
        return arguments[0]
    return arguments[1] if len(arguments) == 2 else None


def _bare(annotation: Any) -> Any:
    """Take the annotations and the `None` off a type."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
            continue
        members = [member for member in get_args(annotation) if member is not type(None)]
        if get_origin(annotation) not in (Union, UnionType) or len(members) != 1:
            return annotation
        annotation = members[0]


def _keys(owner: Any) -> list[str]:
    if not (isinstance(owner, type) and issubclass(owner, BaseModel)):
        return []
    return [field.alias or name for name, field in owner.model_fields.items()]


def _kinds(model: Any) -> tuple[str, ...]:
    field = (
        model.model_fields.get("kind") if isinstance(model, type) and issubclass(model, BaseModel) else None
    )
    return get_args(field.annotation) if field and get_origin(field.annotation) is Literal else ()


def _tags(owner: Any) -> str:
    return ", ".join(kind for member in get_args(_bare(owner)) for kind in _kinds(member))


def _kind_hint(tag: str, owner: Any) -> str:
    known = [kind for member in get_args(_bare(owner)) for kind in _kinds(member)]
    listed = f"known kinds: {', '.join(known)}"
    near = did_you_mean(tag, known, "kinds")
    return f"{near} {listed}" if near.startswith("did") else listed
