"""Put a module component in the place of each folder that the globs of a spec find; it reads no module."""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

from reconciler.changes.folders import matches
from reconciler.errors import Problem, SpecError
from reconciler.spec import text_rules
from reconciler.spec.check import PLACES_MAX
from reconciler.spec.components import AnyComponent, ModuleSpec
from reconciler.spec.environment import COMPONENTS_MAX, EnvironmentSpec

FOLDERS_NAMED_MAX = 5
_NAME_MAX = 63
_BY_ITSELF = "give one of them a component of its own, with `path` and another name"


def expanded(spec: EnvironmentSpec, folders: Mapping[str, str], *, deployments: int = 1) -> EnvironmentSpec:
    """Return a spec of one deployment with every module by its path; variables are put in before.

    `folders` are those with plan files, with the projects these name; `deployments` is how many there are.
    A module that has a component of its own is left to that. Raises SpecError with everything wrong, at
    places in the spec.
    """
    if not any(part.modules for part in spec.modules):
        return spec
    own = {part.path for part in spec.modules if part.path is not None}
    problems: list[Problem] = []
    names: dict[str, str] = {
        part.name: f"component '{part.name}'" for part in spec.components if not _is_glob(part)
    }
    found: list[tuple[AnyComponent, ...]] = []
    for position, part in enumerate(spec.components):
        if isinstance(part, ModuleSpec) and part.modules:
            place = f"spec.components[{position}].modules"
            made = _modules(part, folders, own, place, problems)
            problems += _collisions(part, made, names, place)
            found.append(tuple(made))
        else:
            found.append((part,))
    groups = {
        part.name: tuple(each.name for each in parts)
        for part, parts in zip(spec.components, found, strict=True)
        if _is_glob(part)
    }
    components = tuple(_after(part, groups) for part in chain.from_iterable(found))
    problems += _too_many(len(components), deployments)
    if problems:
        raise SpecError(problems)
    return spec.model_copy(update={"spec": spec.spec.model_copy(update={"components": components})})


def component_name(project: str) -> str:
    """The name of the component that a module gets which nobody named; '' where none can be made."""
    plain = re.sub(r"[^a-z0-9._-]+", "-", project.lower())[:_NAME_MAX].strip("._-")
    return plain if text_rules.name(plain) is None else ""


def _is_glob(part: AnyComponent) -> bool:
    return isinstance(part, ModuleSpec) and part.modules is not None


def _modules(
    part: ModuleSpec, folders: Mapping[str, str], own: set[str], place: str, problems: list[Problem]
) -> list[ModuleSpec]:
    """The modules that the globs of a component find, by folder; each once, whatever finds it."""
    wanted: set[str] = set()
    for number, glob in enumerate(part.modules or ()):
        here = {folder for folder in folders if matches(glob, folder)}
        if not here:
            problems.append(
                Problem(
                    path=f"{place}[{number}]",
                    message=f"no folder with a plan file matches '{glob}'",
                    hint=_known(folders),
                )
            )
        wanted |= here
    made = []
    for folder in sorted(wanted - own):
        name = component_name(folders[folder])
        if not name:
            message = f"project '{folders[folder]}' of '{folder}' gives no name for a component"
            hint = "give the module a component of its own, with `path`"
            problems.append(Problem(path=place, message=message, hint=hint))
            continue
        made.append(part.model_copy(update={"name": name, "path": folder, "modules": None}))
    return made


def _known(folders: Mapping[str, str]) -> str:
    if not folders:
        return "a module is a folder with a sqitch.plan or pgpm.plan, and there is none below the root"
    named = list(folders)[:FOLDERS_NAMED_MAX]
    more = f" and {len(folders) - len(named)} more" if len(folders) > len(named) else ""
    return f"folders with one are: {', '.join(named)}{more}"


def _collisions(
    part: ModuleSpec, made: Sequence[ModuleSpec], names: dict[str, str], place: str
) -> Iterator[Problem]:
    """Names that stand for two things; `names` says for what, and learns the new ones."""
    for module in made:
        what = f"the module in '{module.path}'"
        if module.name == part.name:
            message = f"{what} has the name '{part.name}' of the component whose globs find it"
            yield Problem(path=place, message=message, hint="give that component another name")
            continue
        other = names.setdefault(module.name, what)
        if other != what:
            message = f"two components are called '{module.name}': {other} and {what}"
            yield Problem(path=place, message=message, hint=_BY_ITSELF)


def _after(part: AnyComponent, groups: Mapping[str, Sequence[str]]) -> AnyComponent:
    """Put all modules that globs found in the place of the component they stand in."""
    if not any(name in groups for name in part.after):
        return part
    names = (each for name in part.after for each in groups.get(name, (name,)))
    return part.model_copy(update={"after": tuple(dict.fromkeys(names))})


def _too_many(components: int, deployments: int) -> Iterator[Problem]:
    if components > COMPONENTS_MAX:
        message = f"with what globs find there are {components} components, at most {COMPONENTS_MAX} may be"
        yield Problem(path="spec.components", message=message, hint="split the environment into several")
    elif components * deployments > PLACES_MAX:
        message = (
            f"with what globs find, deployments times components make {components * deployments}, more "
            f"than the limit of {PLACES_MAX}"
        )
        yield Problem(path="spec.deployments", message=message, hint="split the environment into several")
