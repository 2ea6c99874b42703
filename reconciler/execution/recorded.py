"""What was applied before of a service, a job or a route, as the register has it; it reads values only."""

from collections.abc import Mapping
from typing import Any

from reconciler.errors import Refused
from reconciler.execution.resources import Resources
from reconciler.state import programs_json
from reconciler.state.programs import DesiredJob, DesiredRoute, DesiredService


def definition_of(part: DesiredService | DesiredJob | DesiredRoute) -> Mapping[str, Any]:
    """What is recorded of a component: references, and no secrets."""
    return programs_json.to_json(part)


def service_before(component: str, resources: Resources) -> DesiredService | None:
    """A service as it was applied last."""
    found = _before(component, resources)
    return found if isinstance(found, DesiredService) else None


def route_before(component: str, resources: Resources) -> DesiredRoute | None:
    """A route as it was applied last."""
    found = _before(component, resources)
    return found if isinstance(found, DesiredRoute) else None


def check_place(component: str, resources: Resources) -> None:
    """Refuse to touch what runs on another machine: here nobody sees how it is."""
    tracked, machine = resources.programs.components.get(component), resources.machine
    if tracked is None or machine is None or tracked.place in (None, machine.place):
        return
    raise Refused(
        f"'{component}' runs at '{tracked.place}', and this is '{machine.place}'",
        hint="let daemons of that machine alone have its environment, by a source of their own",
    )


def runtimes_of(component: str, resources: Resources, *more: str) -> set[str]:
    """The runtimes in which there may be something of a component: the one it was applied to, and others."""
    found = _before(component, resources)
    if isinstance(found, DesiredService | DesiredJob):
        return {*more, found.program.runtime.value}
    return set(more)


def _before(component: str, resources: Resources) -> DesiredService | DesiredJob | DesiredRoute | None:
    tracked = resources.programs.components.get(component)
    return programs_json.from_json(tracked.definition) if tracked is not None and tracked.definition else None
