"""Check what pending changes require and conflict with, over all modules of a deployment; it orders nothing.

A requirement is met by what is deployed in the same database, or by what is about to be, before it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from reconciler.changes import reference
from reconciler.changes.reference import Reference
from reconciler.diff.matching import plain_name
from reconciler.diff.model import AnyPart, DatabaseDiff, ModuleDiff, ObjectsDiff, RouteDiff
from reconciler.spec.values import OutputReference
from reconciler.state.desired import DesiredModule
from reconciler.state.line import Line, deployed_line, desired_line
from reconciler.state.order import Cycle, topological
from reconciler.state.programs import DesiredServer
from reconciler.state.tracked import TrackedDatabase, TrackedState

NAMED_MAX = 50
"""Missing requirements that one message names."""


def check(
    databases: Sequence[DatabaseDiff],
    parts: Sequence[ModuleDiff],
    tracked: TrackedState,
    stages: Sequence[str],
) -> tuple[ModuleDiff, ...]:
    """Block modules whose pending changes miss something, conflict, or wait for each other.

    `stages` are in their order. What a blocked module has pending is not about to be, so blocking one may
    block others.
    """
    places = {name: place for place, name in enumerate(stages)}
    parts = tuple(parts)
    while True:
        ground = _Ground(parts, tracked, places)
        parts = tuple(replace(part, awaits=tuple(ground.awaited(part))) for part in _met(parts, ground))
        told = _cycles([*databases, *parts], stages)
        if not told:
            return parts
        parts = tuple(
            replace(part, blocked=(*part.blocked, told[part.desired.component]))
            if part.desired.component in told
            else part
            for part in parts
        )


def awaited(part: AnyPart) -> tuple[str, ...]:
    """Return the components that come before one: what it is declared after, and what it requires.

    One that is blocked will do nothing, and waits for nothing.
    """
    if part.blocked:
        return ()
    if isinstance(part, DatabaseDiff):
        return (*part.desired.after, *_under(part.desired.on))
    if isinstance(part, ObjectsDiff):
        return (*part.desired.after, part.desired.database_component)
    if isinstance(part, ModuleDiff):
        return (*part.desired.after, part.desired.database_component, *part.awaits)
    if isinstance(part, RouteDiff):
        return (*part.desired.after, part.desired.service)
    makers = (reference.component for reference in part.desired.program.consumes)
    return (*part.desired.after, *makers)


def _under(on: DesiredServer | None) -> tuple[str, ...]:
    """The service that a database lives on, and who makes what the daemon signs in with there."""
    if on is None:
        return ()
    made = (value.component for value in (on.user, on.password) if isinstance(value, OutputReference))
    return (on.service, *made)


def _met(parts: tuple[ModuleDiff, ...], ground: "_Ground") -> tuple[ModuleDiff, ...]:
    blocked = frozenset(part.desired.component for part in parts if part.blocked)
    while True:
        checked = tuple(
            replace(part, blocked=(*part.blocked, *ground.unmet(part, blocked))) for part in parts
        )
        now = frozenset(part.desired.component for part in checked if part.blocked)
        if now == blocked:
            return checked
        blocked = now


def _state_of(blocked: DesiredModule) -> str:
    return "skipped" if blocked.skip else "blocked"


def _cycles(parts: Sequence[DatabaseDiff | ModuleDiff], stages: Sequence[str]) -> dict[str, str]:
    """Find components of one stage that wait for each other, and say so of each module among them."""
    told: dict[str, str] = {}
    for stage in stages:
        own = [part for part in parts if part.desired.stage == stage]
        requires = {part.desired.component: awaited(part) for part in own}
        try:
            topological(list(requires), requires)
        except Cycle as cycle:
            why = (
                f"these components wait for each other: {' -> '.join(cycle.path)}; "
                "bring one of them up to a change that the others need first, with `to:`"
            )
            modules = {part.desired.component for part in own if isinstance(part, ModuleDiff)}
            told.update(dict.fromkeys(modules.intersection(cycle.path), why))
    return told


@dataclass(slots=True)
class _Ground:
    """All that a requirement may be met by."""

    parts: Sequence[ModuleDiff]
    tracked: TrackedState
    stages: Mapping[str, int]
    _deployed: dict[tuple[str, str], Line] = field(default_factory=dict)
    _desired: dict[str, Line] = field(default_factory=dict)

    def unmet(self, part: ModuleDiff, blocked: Collection[str]) -> Iterable[str]:
        """Why the pending changes of a module cannot be deployed; nothing for one without any."""
        if not part.deploy:
            return
        needs = dict.fromkeys(need for change in part.deploy for need in change.requires)
        missing = [
            f"'{need}'{why}" for need in needs if (why := self._missing(part, need, blocked)) is not None
        ]
        if missing:
            more = f" and {len(missing) - NAMED_MAX} more" if len(missing) > NAMED_MAX else ""
            yield f"missing required changes: {', '.join(missing[:NAMED_MAX])}{more}"
        for project in part.desired.requires_modules:
            why = self._missing_module(part, project, blocked)
            if why is not None:
                yield f"module '{project}', required by its control file, {why}"
        yield from self._conflicts(part)

    def awaited(self, part: ModuleDiff) -> Iterable[str]:
        """The components that deploy what the pending changes of a module require and is not deployed yet."""
        own = part.desired
        others = [
            other.desired
            for other in (self.parts if part.deploy else ())
            if other.deploy
            and other.desired.database == own.database
            and other.desired.project != own.project
        ]
        foreign = tuple(self._foreign(part)) if others else ()
        for theirs in others:
            here = self._recorded(own.database, theirs.project)
            if theirs.project in own.requires_modules or any(
                self._may_mean(wanted, theirs) and not here.has(wanted) for wanted in foreign
            ):
                yield theirs.component

    def _foreign(self, part: ModuleDiff) -> Iterable[Reference]:
        """What pending changes require of other modules; an id is that of whoever has it."""
        own = self._line_of(part.desired)
        for change in part.deploy:
            for need in change.requires:
                wanted = reference.parse(need)
                if wanted is None or (wanted.project is None and (wanted.id is None or own.has(wanted))):
                    continue
                yield wanted

    def _may_mean(self, wanted: Reference, theirs: DesiredModule) -> bool:
        """Whether what is required is a change of a module, as far as the reference tells."""
        if wanted.project is not None:
            return wanted.project == theirs.project
        return self._line_of(theirs).has(wanted)

    def _missing(self, part: ModuleDiff, need: str, blocked: Collection[str]) -> str | None:
        """Say why a requirement is missing, '' where that is clear; None where it is met."""
        wanted = reference.parse(need)
        own = part.desired
        if wanted is None:
            return ""
        if wanted.project in (None, own.project):
            lines = (self._line_of(own), self._recorded(own.database, own.project))
            if any(line.has(wanted) for line in lines):
                return None
            return self._missing_id(part, wanted, blocked) if wanted.project is None else ""
        database = own.database
        if self._recorded(database, wanted.project or "").has(wanted):
            return None
        others = [other for other in self.parts if other.desired.project == wanted.project]
        other = next((other for other in others if other.desired.database == database), None)
        if other is None and others:
            elsewhere = others[0].desired
            return (
                f" (component '{elsewhere.component}' deploys its project to database "
                f"'{elsewhere.database}', not to '{database}')"
            )
        if other is None:
            return f" (no module here deploys project '{wanted.project}' to database '{database}')"
        return self._not_coming(part, other, wanted, blocked)

    def _missing_id(self, part: ModuleDiff, wanted: Reference, blocked: Collection[str]) -> str | None:
        """Say why a change that the module itself lacks is missing: by its id it may be another module's."""
        if wanted.id is None:
            return ""
        if self._has_deployed(part.desired.database, part.desired.project, wanted):
            return None
        for other in self.parts:
            theirs = other.desired
            if theirs.database != part.desired.database or theirs.project == part.desired.project:
                continue
            if self._line_of(theirs).has(wanted):
                return self._not_coming(part, other, wanted, blocked)
            if any(wanted.id == beyond for beyond, _name in theirs.beyond_target):
                return f" (component '{theirs.component}' goes only up to its target '{theirs.target}')"
        return " (no module here has a change of this id)"

    def _not_coming(
        self, part: ModuleDiff, other: ModuleDiff, wanted: Reference, blocked: Collection[str]
    ) -> str | None:
        """Return why a change that is not deployed does not come before the pending ones; None if it does."""
        theirs = other.desired
        if not self._line_of(theirs).has(wanted):
            beyond = {plain_name(name) for _id, name in theirs.beyond_target} if theirs.target else set()
            if theirs.target and (wanted.name in beyond or wanted.name is None):
                return f" (component '{theirs.component}' goes only up to its target '{theirs.target}')"
            return f" (component '{theirs.component}' has no '{wanted.key}')"
        if self._is_later(theirs, part.desired):
            return f" (component '{theirs.component}' deploys it in the later stage '{theirs.stage}')"
        if theirs.component in blocked:
            return f" (component '{theirs.component}', which deploys it, is {_state_of(theirs)})"
        return None

    def _missing_module(self, part: ModuleDiff, project: str, blocked: Collection[str]) -> str | None:
        """Return why a module that a control file requires will not be there; None if it will."""
        own = part.desired
        others = [other for other in self.parts if other.desired.project == project]
        other = next((other for other in others if other.desired.database == own.database), None)
        if other is None:
            if self._recorded(own.database, project).names:
                return None
            elsewhere = others[0].desired if others else None
            where = (
                f"; component '{elsewhere.component}' deploys it to '{elsewhere.database}'"
                if elsewhere
                else ""
            )
            return f"is not deployed to database '{own.database}'{where}"
        if not other.deploy:
            return None
        if self._is_later(other.desired, own):
            theirs = other.desired
            return f"is deployed by component '{theirs.component}' in the later stage '{theirs.stage}'"
        if other.desired.component in blocked:
            return f"cannot be deployed: component '{other.desired.component}' is {_state_of(other.desired)}"
        return None

    def _conflicts(self, part: ModuleDiff) -> Iterable[str]:
        """Name what stands in the way: deployed, or to be deployed before the change itself or by others."""
        own = part.desired
        line = self._line_of(own)
        for change in part.deploy:
            for conflict in change.conflicts:
                wanted = reference.parse(conflict)
                if wanted is None:
                    continue
                project = wanted.project or own.project
                place = line.place(wanted) if project == own.project else None
                if self._has_deployed(own.database, project, wanted):
                    yield f"'{change.name}' conflicts with deployed '{conflict}'"
                elif place is not None and place < line.ids[change.change_id]:
                    yield f"'{change.name}' conflicts with '{conflict}', which is to be deployed before it"
                elif any(
                    other.desired.project == project
                    and other.desired.database == own.database
                    and self._line_of(other.desired).has(wanted)
                    for other in self.parts
                    if other.desired.project != own.project
                ):
                    yield f"'{change.name}' conflicts with '{conflict}', which is to be deployed too"

    def _has_deployed(self, database: str, project: str, wanted: Reference) -> bool:
        if wanted.id is None:
            return self._recorded(database, project).has(wanted)
        recorded = self.tracked.databases.get(database, TrackedDatabase())
        return any(self._recorded(database, each).has(wanted) for each in recorded.modules)

    def _is_later(self, theirs: DesiredModule, own: DesiredModule) -> bool:
        return self.stages.get(theirs.stage, 0) > self.stages.get(own.stage, 0)

    def _recorded(self, database: str, project: str) -> Line:
        """What is deployed of a project in a database."""
        found = self._deployed.get((database, project))
        if found is None:
            module = self.tracked.databases.get(database, TrackedDatabase()).modules.get(project)
            found = self._deployed[database, project] = deployed_line(module)
        return found

    def _line_of(self, module: DesiredModule) -> Line:
        found = self._desired.get(module.component)
        if found is None:
            found = self._desired[module.component] = desired_line(module)
        return found
