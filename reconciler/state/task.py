"""What a person asks of change modules in place of a whole rollout, and the desired state of that."""

from dataclasses import replace
from difflib import get_close_matches
from enum import StrEnum

from reconciler.errors import NotFound
from reconciler.frozen import frozen
from reconciler.state.desired import DesiredModule, DesiredState
from reconciler.state.registry import RegistryKind


class TaskVerb(StrEnum):
    """What is to be done with modules."""

    DEPLOY = "deploy"
    REVERT = "revert"
    ADOPT = "adopt"


@frozen
class ModuleTask:
    """One deploy, revert or adoption by hand.

    `module` is a component of the spec, or for a revert the project of a module that left it; None deploys
    all modules. `to` names the last change to stay deployed; without it a deploy goes to the end that the
    spec has, and a revert takes back the last change, or all with `everything`. `log_only` records changes
    as deployed and runs nothing. `createdb` makes databases that are not there before. `hold` says why
    passes leave the deployment alone after it.
    An adoption records what the registry `adopt_from`, in schema `registry` or its usual one, has deployed.
    """

    verb: TaskVerb
    module: str | None = None
    to: str | None = None
    everything: bool = False
    with_dependents: bool = False
    log_only: bool = False
    hold: str | None = None
    adopt_from: RegistryKind | None = None
    registry: str | None = None
    createdb: bool = False


def narrowed(desired: DesiredState, task: ModuleTask) -> DesiredState:
    """Leave the modules asked for and their databases; NotFound where the one asked for is not there.

    One that is skipped is left where it is asked for by its name.
    """
    if task.verb is TaskVerb.REVERT:
        return desired
    wanted = (part for part in desired.modules if not part.skip)
    modules = tuple(wanted) if task.module is None else (find_module(desired, task.module),)
    needed = {module.database_component for module in modules}
    return replace(
        desired,
        modules=modules,
        databases=tuple(part for part in desired.databases if part.component in needed),
    )


def find_module(desired: DesiredState, name: str) -> DesiredModule:
    """Find a module by its component, else by its project."""
    for module in desired.modules:
        if module.component == name:
            return module
    for module in desired.modules:
        if module.project == name:
            return module
    names = [module.component for module in desired.modules]
    near = get_close_matches(name, names, n=1)
    raise NotFound(
        f"environment '{desired.environment}' has no module '{name}'",
        hint=f"did you mean '{near[0]}'?" if near else f"it has: {', '.join(names[:20]) or 'none'}",
    )
