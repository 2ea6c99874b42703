"""Block services, jobs and routes that need what does not come; what each lacks by itself is known before."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from reconciler.diff import requirements
from reconciler.diff.model import AnyPart, DatabaseDiff, Diff, JobDiff, ProgramDiff, RouteDiff, ServiceDiff
from reconciler.spec.values import OutputReference
from reconciler.state import order, outputs
from reconciler.state.desired import DesiredState
from reconciler.state.programs import ENDINGS, DesiredServer
from reconciler.state.tracked import TrackedPrograms


def settled(diff: Diff, desired: DesiredState, tracked: TrackedPrograms) -> Diff:
    """The same diff with all that cannot go on blocked, each naming what it waits for; twice is as once."""
    if not diff.programs:
        return diff
    ground = _Ground(
        parts={part.desired.component: part for part in diff.parts},
        tracked=tracked,
        versions=outputs.versions(desired),
    )
    for stage in desired.stages:
        own = [part for part in diff.parts if part.desired.stage == stage]
        requires = {part.desired.component: requirements.awaited(part) for part in own}
        for name in order.topological(sorted(requires), requires):
            ground.look_at(name)
    programs = tuple(ground.program(part) for part in diff.programs)
    return replace(diff, programs=programs)


def why_server_blocked(on: DesiredServer, programs: Mapping[str, ProgramDiff]) -> tuple[str, ...]:
    """Why nothing can be done in a database that lives on a service: that, or who makes its password."""
    found = []
    service = programs.get(on.service)
    if service is not None and service.blocked and service.works:
        found.append(f"service '{on.service}', on which it lives, is blocked")
    elif service is not None and service.desired.skip and service.works:
        found.append(f"service '{on.service}', on which it lives, is skipped, and {service.reason}")
    for value in (on.user, on.password):
        maker = programs.get(value.component) if isinstance(value, OutputReference) else None
        if maker is not None and maker.works and (maker.blocked or maker.desired.skip):
            word = "blocked" if maker.blocked else "skipped"
            found.append(f"component '{maker.desired.component}', which makes {value}, is {word}")
    return tuple(found)


@dataclass(slots=True)
class _Ground:
    """All parts by component, of which those that were looked at are final."""

    parts: dict[str, AnyPart]
    tracked: TrackedPrograms
    versions: Mapping[str, str]
    _seen: set[str] = field(default_factory=set)

    def look_at(self, component: str) -> None:
        """Add to a part what is in its way, once."""
        part = self.parts[component]
        if isinstance(part, ServiceDiff | JobDiff | RouteDiff) and part.works:
            found = [why for why in self._in_the_way(part) if why not in part.blocked]
            if found:
                self.parts[component] = replace(part, blocked=(*part.blocked, *found))

    def program(self, part: ProgramDiff) -> ProgramDiff:
        """A part as it is by now."""
        now = self.parts[part.desired.component]
        return now if isinstance(now, ServiceDiff | JobDiff | RouteDiff) else part

    def _in_the_way(self, part: ProgramDiff) -> Iterable[str]:
        for name in part.desired.after:
            other = self.parts.get(name)
            if other is not None and other.blocked and other.works:
                yield f"component '{name}', which it comes after, is blocked"
        if isinstance(part, RouteDiff):
            yield from self._no_service(part)
            return
        for reference in part.desired.program.consumes:
            why = self._not_coming(
                reference, any_version=isinstance(part, JobDiff) and part.trigger in ENDINGS
            )
            if why is not None:
                yield why

    def _no_service(self, part: RouteDiff) -> Iterable[str]:
        name = part.desired.service
        service = self.parts.get(name)
        if service is None:
            return
        if service.blocked:
            yield f"service '{name}', to which it leads, is blocked"
        elif service.desired.skip and name not in self.tracked.components:
            yield f"service '{name}', to which it leads, is skipped and was never started"

    def _not_coming(self, output: OutputReference, *, any_version: bool) -> str | None:
        """Why an output will not be there; None where it is kept, or made before."""
        component, identity = output.component, str(output)
        kept = self.tracked.outputs.get(identity)
        if kept is not None and (any_version or kept.inputs_hash == self.versions.get(component)):
            return None
        maker = self.parts.get(component)
        if maker is None:
            return f"nothing makes {identity}, which it consumes"
        if maker.blocked:
            return f"component '{component}', which makes {identity}, is blocked"
        if maker.desired.skip:
            return f"component '{component}', which makes {identity}, is skipped"
        makes = maker.access is not None if isinstance(maker, DatabaseDiff) else maker.works
        return None if makes else f"nothing is going to make {identity}, which it consumes"
