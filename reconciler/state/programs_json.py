"""Services, jobs and routes to JSON values and back, without loss: what is kept of what was applied.

Only references of secrets stand in it, or encrypted values: what is kept shows no secret.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from enum import StrEnum
from functools import cache
from typing import Any

from reconciler.spec.values import OutputReference, SecretReference
from reconciler.state.programs import (
    DesiredBuild,
    DesiredData,
    DesiredHealth,
    DesiredJob,
    DesiredLimits,
    DesiredOutput,
    DesiredPort,
    DesiredProgram,
    DesiredRestart,
    DesiredRoute,
    DesiredService,
    OutputType,
    RuntimeName,
    Trigger,
    Value,
)

AnyProgram = DesiredService | DesiredJob | DesiredRoute
_KINDS: Mapping[type[AnyProgram], str] = {
    DesiredService: "Service",
    DesiredJob: "Job",
    DesiredRoute: "Route",
}
_WHOLE = {"ports": DesiredPort, "data": DesiredData}


def kind_of(part: AnyProgram) -> str:
    """The kind of a component, as specs name it."""
    return _KINDS[type(part)]


def to_json(part: AnyProgram) -> dict[str, Any]:
    """A component as a JSON value; `kind` says which of them it is."""
    value: dict[str, Any] = _plain(part)
    return {"kind": kind_of(part), **value}


def from_json(value: Mapping[str, Any]) -> AnyProgram:
    """The component of which `to_json` made `value`."""
    given = {name: each for name, each in value.items() if name != "kind"}
    given["after"] = tuple(given.get("after", ()))
    match value["kind"]:
        case "Service":
            given["program"] = program_from_json(given["program"])
            given["health"] = DesiredHealth(**_tuples(given["health"]))
            given["restart"] = DesiredRestart(**given["restart"])
            return DesiredService(**given)
        case "Job":
            given["program"] = program_from_json(given["program"])
            given["triggers"] = frozenset(Trigger(each) for each in given["triggers"])
            given["outputs"] = tuple(
                DesiredOutput(**{**each, "type": OutputType(each["type"])}) for each in given["outputs"]
            )
            return DesiredJob(**given)
        case _:
            return DesiredRoute(**given)


def program_from_json(value: Mapping[str, Any]) -> DesiredProgram:
    """What is run, of the JSON value of a service or a job."""
    given = dict(value)
    given["runtime"] = RuntimeName(given["runtime"])
    given["env"] = tuple((name, _value(each)) for name, each in given["env"])
    for name, kind in _WHOLE.items():
        given[name] = tuple(kind(**each) for each in given[name])
    given["limits"] = DesiredLimits(**given["limits"])
    if given["build"] is not None:
        given["build"] = DesiredBuild(**_tuples(given["build"]))
    given["argv"], given["networks"] = tuple(given["argv"]), tuple(given["networks"])
    return DesiredProgram(**given)


def differences(before: Mapping[str, Any], part: AnyProgram) -> tuple[str, ...]:
    """What another definition has otherwise, in the words of specs, sorted; no value is told.

    A route that names no proxy is recorded with the one it was set in.
    """
    now = to_json(part)
    found = set()
    for name in now.keys() | before.keys():
        old, new = before.get(name), now.get(name)
        if name == "program" and isinstance(old, Mapping):
            found |= _program_differences(old, new or {})
        elif old != new and name not in _UNTOLD and not (name == "proxy" and new is None):
            found.add(_WORDS.get(name, name))
    return tuple(sorted(found))


_UNTOLD = frozenset({"kind", "component", "stage", "after", "skip", "definition_hash", "inputs_hash"})
_WORDS = {
    "grace_s": "grace",
    "timeout_s": "timeout",
    "in_place": "replace",
    "argv": "command",
    "log_bytes_max": "logs",
    "log_files": "logs",
}


def _program_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> set[str]:
    found = set()
    for name in now.keys() | before.keys():
        old, new = before.get(name), now.get(name)
        if old == new:
            continue
        if name == "env":
            olds, news = dict(old or ()), dict(new or ())
            found |= {f"env {key}" for key in olds.keys() | news.keys() if olds.get(key) != news.get(key)}
        else:
            found.add(_WORDS.get(name, name))
    return found


def _value(value: Any) -> Value:
    if isinstance(value, str):
        return value
    if "output" in value:
        return OutputReference(component=value["from"], output=value["output"])
    return SecretReference(**value)


def _plain(value: Any) -> Any:
    """A value as JSON has it: enumerations by their words, sets in order."""
    if isinstance(value, OutputReference):
        return {"from": value.component, "output": value.output}
    if isinstance(value, SecretReference):
        return {name: each for name in _names(SecretReference) if (each := getattr(value, name)) is not None}
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, frozenset):
        return sorted(_plain(each) for each in value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    if is_dataclass(value):
        kind: Any = type(value)
        return {name: _plain(getattr(value, name)) for name in _names(kind)}
    return value


def _tuples(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _tuple(each) for name, each in value.items()}


def _tuple(value: Any) -> Any:
    is_row = isinstance(value, Sequence) and not isinstance(value, str)
    return tuple(_tuple(each) for each in value) if is_row else value


@cache
def _names(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))
