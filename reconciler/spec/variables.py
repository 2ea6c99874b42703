"""Variables: `${name}` in any string of a spec, `$${` for a literal `${`."""

import re
from collections.abc import Mapping
from typing import Any

from reconciler.errors import Problem, SpecError
from reconciler.spec.environment import RESOLVED, EnvironmentSpec

_USE = re.compile(r"\$(\$\{|\{([A-Za-z_][A-Za-z0-9_]{0,62})\})")
_UNTOUCHED = frozenset({"metadata", "variables"})


class UnknownVariable(SpecError):
    """A string uses a variable that nobody gave a value."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__([Problem(message=f"unknown variable '{name}'")])


def values_for(spec: EnvironmentSpec, deployment: str) -> dict[str, str]:
    """All variables of a deployment; the nearer wins, and the two built-in ones are always there."""
    place = next(part for part in spec.deployments if part.name == deployment)
    return {
        **spec.spec.variables,
        **place.variables,
        "environment": spec.name,
        "deployment": deployment,
    }


def substitute(text: str, values: Mapping[str, str]) -> str:
    """Put values in; what was put in is not looked at again. Raises UnknownVariable."""

    def replace(match: re.Match[str]) -> str:
        if match[2] is None:
            return "${"
        if match[2] not in values:
            raise UnknownVariable(match[2])
        return values[match[2]]

    return _USE.sub(replace, text)


def names_in(text: str) -> list[str]:
    """Variables that a text uses."""
    return [match[2] for match in _USE.finditer(text) if match[2] is not None]


def for_deployment(spec: EnvironmentSpec, deployment: str) -> EnvironmentSpec:
    """The spec as one deployment sees it. Raises SpecError where a value does not fit where it is put."""
    values = values_for(spec, deployment)
    data = spec.model_dump(mode="json", by_alias=True)
    body = {
        key: value if key in _UNTOUCHED or key == "deployments" else _deep(value, values)
        for key, value in data["spec"].items()
    }
    try:
        return EnvironmentSpec.model_validate({**data, "spec": body}, context=RESOLVED)
    except ValueError as error:
        raise SpecError(
            [
                Problem(
                    message=f"deployment '{deployment}': with its variables put in, the spec is not valid: "
                    + str(error).splitlines()[2].strip()
                )
            ]
        ) from None


def _deep(value: Any, values: Mapping[str, str]) -> Any:
    match value:
        case str():
            return substitute(value, values)
        case list():
            return [_deep(item, values) for item in value]
        case dict():
            return {key: _deep(item, values) for key, item in value.items()}
        case _:
            return value
