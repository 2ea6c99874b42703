"""Variables: `${name}` in the strings of a spec, `$${` for a literal `${`."""

import re
from collections.abc import Mapping, Sequence, Set
from typing import Any

from pydantic import ValidationError

from reconciler.errors import NotFound, Problem, SpecError
from reconciler.spec import text_rules
from reconciler.spec.components import ModuleSpec, ObjectsSpec
from reconciler.spec.environment import EnvironmentSpec
from reconciler.spec.fields import RESOLVED

TEXT_CHARACTERS_MAX = 4096
"""Of a string that uses variables, before and after they are put in."""
BUILT_IN = tuple(sorted(text_rules.RESERVED_VARIABLES))

_PLACES = {"spec": {"deployments", "deployments_from"}}
_USE = re.compile(r"\$\$\{|\$\{([^${}]*)\}|\$\{")


class BadVariable(Exception):
    """A use of a variable that cannot be carried out; `name` is the unknown one, where that is the reason."""

    def __init__(self, message: str, name: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.name = name


def values_for(
    environment: str, deployment: str, shared: Mapping[str, str], own: Mapping[str, str]
) -> dict[str, str]:
    """Return all variables of one deployment, its own before the shared ones, with the built-in ones."""
    built_in = {"environment": environment, "deployment": deployment}
    values = {**shared, **own}
    found: dict[str, str] = {}
    for name, text in values.items():
        try:
            found[name] = substitute(text, built_in)
        except BadVariable:
            found[name] = text
    return {**found, **built_in}


def substitute(text: str, values: Mapping[str, str]) -> str:
    """Put variables into a string; what is put in is not looked at again. Raises BadVariable."""
    if found := faults(text, values):
        raise found[0]
    return _USE.sub(lambda use: "${" if use[0] == "$${" else values[use[1]], text)


def faults(text: str, values: Mapping[str, str]) -> tuple[BadVariable, ...]:
    """Return why variables cannot be put into a string; nothing where they can."""
    if len(text) > TEXT_CHARACTERS_MAX:
        return (BadVariable(f"a string with variables has more than {TEXT_CHARACTERS_MAX} characters"),)
    uses = [use for use in _USE.finditer(text) if use[0] != "$${"]
    found = [fault for use in uses if (fault := _fault(use[1], values)) is not None]
    if not found and len(text) + sum(len(values[use[1]]) for use in uses) > TEXT_CHARACTERS_MAX:
        found = [BadVariable(f"with its variables the string has more than {TEXT_CHARACTERS_MAX} characters")]
    return tuple(found)


def _fault(name: str | None, values: Mapping[str, str]) -> BadVariable | None:
    if name is None:
        return BadVariable("'${' is not followed by a name and '}'")
    if name in values:
        return None
    if text_rules.variable_name(name) is None:
        return BadVariable(f"unknown variable '{name}'", name)
    return BadVariable("the text between '${' and '}' is not the name of a variable")


def for_deployment(spec: EnvironmentSpec, deployment: str) -> EnvironmentSpec:
    """Return a spec as one deployment sees it: variables put in, and no other deployment in it.

    Raises NotFound where there is no such deployment. A spec that was parsed without problems never raises
    SpecError here.
    """
    place = spec.deployment(deployment)
    if place is None:
        raise NotFound(f"environment '{spec.name}' has no deployment '{deployment}'")
    # The others are left out before: there may be thousands.
    data = spec.model_dump(by_alias=True, exclude_unset=True, exclude=_PLACES)
    data["spec"]["deployments"] = [place.model_dump(by_alias=True, exclude_unset=True)]
    try:
        return EnvironmentSpec.model_validate(resolved(data, 0), context=RESOLVED)
    except (BadVariable, ValidationError):
        # Neither error is told: both may hold values.
        problem = Problem(
            message=f"the variables of deployment '{deployment}' give values that are not valid"
        )
        raise SpecError([problem]) from None


def script_values(spec: EnvironmentSpec, part: ModuleSpec | ObjectsSpec) -> dict[str, str]:
    """The variables of a component's files, in a spec of one deployment: the nearest wins."""
    place = spec.deployments[0]
    return {
        **spec.variables,
        **part.variables,
        **place.variables,
        "environment": spec.name,
        "deployment": place.name,
    }


def module_paths(spec: EnvironmentSpec) -> tuple[str, ...]:
    """Return the folders of the modules of a spec in all of its deployments, each once, in order."""
    return _put_in(spec, {part.path for part in spec.modules if part.path is not None})


def object_paths(spec: EnvironmentSpec) -> tuple[str, ...]:
    """Return the folders of SQL objects of a spec in all of its deployments, each once, in order."""
    return _put_in(spec, {part.path for part in spec.objects})


def module_globs(spec: EnvironmentSpec) -> tuple[str, ...]:
    """Return the globs of the modules of a spec in all of its deployments, each once, in order."""
    return _put_in(spec, {glob for part in spec.modules for glob in part.modules or ()})


def build_paths(spec: EnvironmentSpec) -> tuple[str, ...]:
    """Return the folders that images of a spec are built from in all of its deployments; `.` is the root."""
    containers = [part.runtime.container for part in spec.services]
    builds = [each.build for each in (*containers, *(part.runtime.container for part in spec.jobs)) if each]
    return _put_in(spec, {build.context for build in builds if build is not None})


def input_globs(spec: EnvironmentSpec) -> tuple[str, ...]:
    """Return the globs of the files that count for jobs of a spec in all of its deployments."""
    return _put_in(spec, {glob for part in spec.jobs for glob in part.inputs})


def _put_in(spec: EnvironmentSpec, written: Set[str]) -> tuple[str, ...]:
    found = {path for path in written if "${" not in path}
    for place in spec.deployments if written - found else ():
        values = values_for(spec.name, place.name, spec.variables, place.variables)
        for path in written:
            try:
                # The model takes the slash off too, once the variables are in.
                found.add(substitute(path, values).removesuffix("/"))
            except BadVariable:
                continue
    return tuple(sorted(found))


def resolved(data: Mapping[str, Any], position: int) -> dict[str, Any]:
    """Put the variables of the deployment at a position into a sound document, and drop the others.

    Raises BadVariable.
    """
    body = data["spec"]
    place = body["deployments"][position]
    values = values_for(
        data["metadata"]["name"], place["name"], body.get("variables", {}), place.get("variables", {})
    )
    built_in = {name: values[name] for name in BUILT_IN}
    return {
        **data,
        "spec": {
            **{
                key: _deep(item, values)
                for key, item in body.items()
                if key not in ("deployments", "deploymentsFrom", "variables")
            },
            "variables": _deep(body.get("variables", {}), built_in),
            "deployments": [_place(place, values, built_in)],
        },
    }


def _place(
    place: Mapping[str, Any], values: Mapping[str, str], built_in: Mapping[str, str]
) -> dict[str, Any]:
    return {key: _deep(item, built_in if key == "variables" else values) for key, item in place.items()}


def _deep(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return substitute(value, values) if "${" in value else value
    if isinstance(value, Mapping):
        return {key: _deep(item, values) for key, item in value.items()}
    if isinstance(value, Sequence):
        return [_deep(item, values) for item in value]
    return value
