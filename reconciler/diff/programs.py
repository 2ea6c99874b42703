"""Compare services, jobs and routes: what is pending, what drifted, what is in the way; it orders nothing."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from reconciler.diff.model import (
    Action,
    Drift,
    JobDiff,
    LeftComponent,
    ProgramDiff,
    RouteDiff,
    ServiceAction,
    ServiceDiff,
)
from reconciler.frozen import frozen
from reconciler.state import outputs
from reconciler.state.desired import DesiredState
from reconciler.state.healing import HEALS_MAX, why_not_healed
from reconciler.state.live import LiveInstance, LiveState
from reconciler.state.programs import (
    DesiredJob,
    DesiredProgram,
    DesiredRoute,
    DesiredService,
    RuntimeName,
    Trigger,
)
from reconciler.state.programs_json import differences, kind_of, program_from_json
from reconciler.state.tracked import TrackedComponent, TrackedPrograms, TrackedState

DIFFERENCES_MAX = 5
STOPPED = "the environment is stopped"


@frozen
class ProgramContext:
    """What services, jobs and routes are compared under.

    `insist`: a person asked for this, so that what drifted is put back however often it was before. `ran`
    are jobs which this operation ran to their end already. `healing` are components that the recorded plan
    puts back: they were paced as it was recorded.
    """

    drift: Literal["ignore", "warn", "heal"] = "warn"
    prune: bool = False
    insist: bool = False
    ran: frozenset[str] = frozenset()
    healing: frozenset[str] = frozenset()


def compare_programs(
    desired: DesiredState, tracked: TrackedState, live: LiveState, context: ProgramContext
) -> tuple[tuple[ProgramDiff, ...], tuple[LeftComponent, ...]]:
    """Say of each service, job and route by itself what is to be done; `settle` blocks what needs others.

    The second are those that are tracked and not in the spec, or to be off.
    """
    own = desired.programs
    ground = _Ground(
        desired=desired,
        tracked=tracked.programs,
        live=live,
        context=context,
        consumed=outputs.consumed(desired),
        versions=outputs.versions(desired),
    )
    parts: list[ProgramDiff] = [
        *(ground.service(part) for part in own.services),
        *(ground.job(part) for part in own.jobs),
        *(ground.route(part) for part in own.routes),
    ]
    return tuple(parts), tuple(ground.left())


@dataclass(slots=True)
class _Ground:
    """The three states and what follows from them, looked up once."""

    desired: DesiredState
    tracked: TrackedPrograms
    live: LiveState
    context: ProgramContext
    consumed: Mapping[str, tuple[str, ...]]
    versions: Mapping[str, str]
    _routes: dict[str, list[str]] = field(default_factory=dict)
    _holders: dict[tuple[object, object], list[TrackedComponent]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Which routes lead to which service as they were set, whatever the spec says of them by now."""
        for name, there in sorted(self.tracked.components.items()):
            service = there.definition.get("service") if there.kind == "Route" else None
            if service is not None and (self._is_routed(name) or name in self.live.programs.unknown):
                self._routes.setdefault(str(service), []).append(name)
                place = there.definition.get("host"), there.definition.get("path")
                self._holders.setdefault(place, []).append(there)

    def _is_routed(self, component: str) -> bool:
        return component in self.live.programs.routes

    def service(self, part: DesiredService) -> ServiceDiff:
        """One service; of one that is to be off nothing is said here."""
        if self.tracked.stopped:
            return ServiceDiff(desired=part)
        there = self.tracked.components.get(part.component)
        instances = self.live.programs.instances.get(part.component, ())
        current = there.instance if there is not None else None
        found = next((one for one in instances if one.instance == current), None)
        drifted = self._drift(part.component, there, found)
        action, reason = self._service_action(part, there)
        why_not: list[str] = []
        if action is None and drifted is not None and there is not None:
            mends = found is None or found.state != "unhealthy" or found.lasting
            heals, why = self._heals(there, mends=mends)
            action = ServiceAction.HEAL if heals else None
            reason, why_not = drifted.detail, [why] if why is not None else []
        strays = tuple(
            sorted(one.instance for one in instances if one.instance not in (current, part.instance))
        )
        if action is None and strays and drifted is None:
            action, reason = (
                ServiceAction.SETTLE,
                f"instances that nobody needs are there: {', '.join(strays)}",
            )
        replaces = self._replaces(action, current, strays)
        routes = self._routes.get(part.component, ())
        return ServiceDiff(
            desired=part,
            action=action,
            reason=reason,
            beside=action is ServiceAction.SETTLE
            or (action is not ServiceAction.HEAL and _beside(part, there, replaces)),
            replaces=replaces,
            strays=strays,
            leaves=_leaves(part, there) if action in (ServiceAction.ADD, ServiceAction.CHANGE) else (),
            routes=tuple(name for name in routes if self._is_routed(name)),
            consumes=_consumes(part.program),
            produces=self._produces(part.component),
            outputs_hash=self.versions[part.component],
            drift=self._told(drifted),
            blocked=(
                *self._in_the_way(part, there, works=action is not None),
                *(self._unswitched(routes) if replaces is not None else ()),
                *why_not,
            ),
        )

    def _unswitched(self, routes: Sequence[str]) -> Iterable[str]:
        """Routes that would be left leading to what is gone."""
        for name in routes:
            unknown = self.live.programs.unknown.get(name)
            if unknown is not None:
                yield f"route '{name}', which leads to it, cannot be switched now: {unknown}"

    def _service_action(
        self, part: DesiredService, there: TrackedComponent | None
    ) -> tuple[ServiceAction | None, str]:
        if there is None or there.instance is None:
            if there is not None and there.definition_hash:
                return ServiceAction.ADD, "it was stopped, and is to run again"
            return ServiceAction.ADD, "it was never started here"
        if there.definition_hash != part.definition_hash:
            return ServiceAction.CHANGE, _what_changed(there, part)
        missing = self._missing_outputs(part.component)
        if missing:
            return ServiceAction.SETTLE, f"of its outputs these are not kept yet: {', '.join(missing)}"
        if there.applying is not None and there.applying != there.instance:
            return ServiceAction.SETTLE, "another instance was being put in its place, and is not to be"
        return None, ""

    def _replaces(
        self, action: ServiceAction | None, current: str | None, strays: tuple[str, ...]
    ) -> str | None:
        """The instance that runs now; where nobody recorded one, an instance of ours that is there."""
        if action in (None, ServiceAction.SETTLE):
            return None
        return current or (strays[0] if strays else None)

    def _drift(
        self, component: str, there: TrackedComponent | None, found: LiveInstance | None
    ) -> Drift | None:
        """How an instance that was applied differs from what it was then."""
        if there is None or there.instance is None or component in self.live.programs.unknown:
            return None
        if there.applying not in (None, there.instance):
            # We are at it ourselves: in place, the old one ends before the new one is there.
            return None
        identity = f"service {component}"
        if found is None or found.state == "absent":
            detail = f"its instance {there.instance} is not there any more"
            return Drift(component=component, identity=identity, action=Action.REMOVED, detail=detail)
        why = f": {found.reason}" if found.reason else ""
        detail = ""
        if found.definition_hash and found.definition_hash != there.definition_hash:
            detail = f"its instance {there.instance} was replaced by one with another definition"
        elif found.state == "exited":
            detail = f"its instance {there.instance} has ended{why}"
        elif found.state == "unhealthy":
            detail = f"its instance {there.instance} is unhealthy{why}"
        if not detail:
            return None
        return Drift(component=component, identity=identity, action=Action.CHANGED, detail=detail)

    def _heals(self, there: TrackedComponent, *, mends: bool = True) -> tuple[bool, str | None]:
        """Whether what drifted is put back now, and why it is not any more."""
        if self.context.drift != "heal" or not mends:
            return False, None
        if self.context.insist or there.component in self.context.healing:
            return True, None
        now = self.tracked.read_at or 0.0
        why = why_not_healed(there.heals, there.heal_after, now)
        return why is None, why if there.heals >= HEALS_MAX else None

    def _told(self, drifted: Drift | None) -> tuple[Drift, ...]:
        return (drifted,) if drifted is not None and self.context.drift != "ignore" else ()

    def _in_the_way(
        self, part: DesiredService | DesiredJob | DesiredRoute, there: TrackedComponent | None, *, works: bool
    ) -> tuple[str, ...]:
        """Why nothing can be done about a component."""
        found = []
        if there is not None and there.kind != kind_of(part):
            found.append(
                f"a {there.kind} of this name runs here: give the {kind_of(part)} another name, or take the "
                "component out of the spec first and let it be removed (policy.prune)"
            )
        unfit = None
        if works and not isinstance(part, DesiredRoute):
            unfit = self.live.programs.unfit.get(part.program.runtime.value)
        unknown = self.live.programs.unknown.get(part.component)
        if unknown is not None and (unfit is None or there is not None):
            # Of what was never there, why its runtime cannot run it says all.
            found.append(f"nothing is known of it: {unknown}")
        barred = self.live.programs.barred.get(part.component)
        if barred is not None and works:
            found.append(barred)
        for instance in self.live.programs.instances.get(part.component, ()):
            if instance.state == "unknown":
                why = instance.reason or "its runtime does not say"
                found.append(f"nothing is known of its instance {instance.instance}: {why}")
        if unfit and not isinstance(part, DesiredRoute):
            found.append(f"runtime '{part.program.runtime.value}' cannot run it: {unfit}")
        return tuple(found)

    def _produces(self, component: str) -> tuple[str, ...]:
        return tuple(f"{component}.{name}" for name in self.consumed.get(component, ()))

    def _missing_outputs(self, component: str) -> tuple[str, ...]:
        """Outputs that are consumed and not kept as the spec has them now."""
        wanted = self.versions.get(component)
        kept = self.tracked.outputs
        return tuple(
            name
            for name in self.consumed.get(component, ())
            if (one := kept.get(f"{component}.{name}")) is None or one.inputs_hash != wanted
        )

    def job(self, part: DesiredJob) -> JobDiff:
        """One job: whether it runs, and what for."""
        there = self.tracked.components.get(part.component)
        trigger, reason = self._job_trigger(part)
        return JobDiff(
            desired=part,
            trigger=trigger,
            reason=reason,
            consumes=_consumes(part.program),
            produces=self._produces(part.component) if self._ending() is None else (),
            blocked=self._in_the_way(part, there, works=trigger is not None) if trigger is not None else (),
        )

    def _ending(self) -> Trigger | None:
        return Trigger.STOP if self.tracked.stopped else None

    def _job_trigger(self, part: DesiredJob) -> tuple[Trigger | None, str]:
        ending = self._ending()
        ran = part.component in self.context.ran or part.component in self.tracked.ran
        if ending is not None:
            ends = ending in part.triggers and not ran and bool(self.tracked.components)
            return (ending, f"for the {ending.value} of its environment") if ends else (None, "")
        if Trigger.START in part.triggers and not self.tracked.started and not ran:
            return Trigger.START, "for the start of its environment"
        done = self.tracked.jobs.get(part.component)
        if Trigger.CHANGE in part.triggers and done != part.inputs_hash:
            return Trigger.CHANGE, "never ran to its end" if done is None else "its inputs changed"
        missing = self._missing_outputs(part.component)
        if missing:
            return Trigger.CHANGE, f"of its outputs these are not kept: {', '.join(missing)}"
        return None, ""

    def route(self, part: DesiredRoute) -> RouteDiff:
        """One route; its proxy may have lost it, or somebody led it elsewhere."""
        if self.tracked.stopped:
            return RouteDiff(desired=part)
        there = self.tracked.components.get(part.component)
        drifted = self._route_drift(part, there)
        action: Action | None = None
        reason, why_not, heals = "", list[str](), False
        if there is None or not there.definition_hash:
            action, reason = Action.ADD, "not set yet"
        elif there.definition_hash != part.definition_hash:
            action, reason = Action.CHANGE, _what_changed(there, part)
        elif drifted is not None:
            heals, why = self._heals(there)
            action = Action.CHANGE if heals else None
            reason, why_not = drifted.detail, [why] if why is not None else []
        return RouteDiff(
            desired=part,
            action=action,
            reason=reason,
            heals=heals,
            drift=self._told(drifted),
            blocked=(
                *self._in_the_way(part, there, works=action is not None),
                *(self._held(part) if action is not None else ()),
                *why_not,
            ),
        )

    def _held(self, part: DesiredRoute) -> Iterable[str]:
        """Two routes of one host and path cannot be there at once, and in between there would be none."""
        for holder in self._holders.get((part.host, part.path), ()):
            same_proxy = part.proxy is None or holder.definition.get("proxy") in (None, part.proxy)
            if holder.component != part.component and same_proxy:
                yield (
                    f"route '{holder.component}' has this host and path now: keep its name, or let it be "
                    "removed or moved by a commit before"
                )

    def _route_drift(self, part: DesiredRoute, there: TrackedComponent | None) -> Drift | None:
        component, live = part.component, self.live.programs
        if there is None or there.kind != "Route" or not there.definition_hash or component in live.unknown:
            return None
        identity = f"route {part.host}{part.path}"
        found = live.routes.get(component)
        if found is None:
            detail = "its proxy does not have it any more"
            return Drift(component=component, identity=identity, action=Action.REMOVED, detail=detail)
        if found.edited:
            detail = f"it was changed in its proxy, and leads to {found.to}"
        elif (ends := self._ends(part)) and found.to not in ends:
            detail = f"it leads to {found.to}, where service '{part.service}' is not"
        else:
            return None
        return Drift(component=component, identity=identity, action=Action.CHANGED, detail=detail)

    def _ends(self, part: DesiredRoute) -> tuple[str, ...]:
        """Where the port of its service is that it leads to; unknown while another instance takes over."""
        service = self.tracked.components.get(part.service)
        return tuple(
            f"{host}:{number}"
            for one in self.live.programs.instances.get(part.service, ())
            if service is not None
            and one.instance == service.instance
            and service.applying in (None, service.instance)
            for port, host, number in one.endpoints
            if port == part.port
        )

    def left(self) -> list[LeftComponent]:
        """What is tracked and not to be there: of a spec without it, or of an environment that is stopped."""
        if self.desired.provision_only:
            return []
        known = {part.component for part in self._known()}
        found = []
        for name, there in sorted(self.tracked.components.items()):
            instances = tuple(one.instance for one in self.live.programs.instances.get(name, ()))
            unknown = self.live.programs.unknown.get(name)
            blocked = (f"nothing is known of it: {unknown}",) if unknown is not None else ()
            if name not in known:
                removes, reason = self._prunes()
                one = LeftComponent(
                    tracked=there,
                    removes=removes and not blocked,
                    reason=reason,
                    instances=instances,
                    blocked=blocked if removes else (),
                )
            elif self.tracked.stopped and self._runs(there, instances):
                one = LeftComponent(
                    tracked=there,
                    removes=not blocked,
                    reason=STOPPED,
                    instances=instances,
                    blocked=blocked,
                    stops=True,
                )
            else:
                continue
            found.append(one)
        return found

    def _known(self) -> tuple[DesiredService | DesiredJob | DesiredRoute, ...]:
        own = self.desired.programs
        return (*own.services, *own.jobs, *own.routes)

    def _runs(self, there: TrackedComponent, instances: tuple[str, ...]) -> bool:
        match there.kind:
            case "Service":
                return bool(there.instance or there.applying or instances)
            case "Route":
                return True
            case _:
                return False

    def _prunes(self) -> tuple[bool, str]:
        """Whether what left the spec is removed, and what is told of it."""
        if self.desired.prune_from is not None:
            return True, "its deployment left the spec"
        if not self.context.prune:
            return False, "it left the spec and stays, for policy.prune is off"
        if not self.desired.components:
            return False, "it stays, for the spec declares nothing at all, and never is everything pruned"
        return True, "it left the spec"


def _consumes(program: DesiredProgram) -> tuple[str, ...]:
    return tuple(str(reference) for reference in program.consumes)


def _beside(part: DesiredService, there: TrackedComponent | None, replaces: str | None) -> bool:
    """Whether the new instance can stand beside the old one: not where both want one port of the machine."""
    if replaces is None:
        return True
    if part.in_place:
        return False
    wanted = _own_ports(part.program)
    if not wanted or there is None or "program" not in there.definition:
        return not wanted
    return not wanted & _own_ports(program_from_json(there.definition["program"]))


def _leaves(part: DesiredService, there: TrackedComponent | None) -> tuple[str, ...]:
    """Data of what was applied that the new instance does not see: by another name, or in another runtime."""
    if there is None or "program" not in there.definition:
        return ()
    before, wanted = program_from_json(there.definition["program"]), part.program
    kept = {each.name for each in wanted.data} if wanted.runtime is before.runtime else set[str]()
    return tuple(each.name for each in before.data if each.name not in kept)


def _own_ports(program: DesiredProgram) -> frozenset[int]:
    """The ports of the machine itself that a program has by number; those in a container are its own."""
    if program.runtime is RuntimeName.CONTAINER:
        return frozenset()
    return frozenset(port.number for port in program.ports if port.number is not None)


def _what_changed(there: TrackedComponent, part: DesiredService | DesiredRoute) -> str:
    """What is told of another definition; where nothing of its own changed, what it consumes did."""
    found = differences(there.definition, part) if there.definition else ()
    if found:
        more = f" and {len(found) - DIFFERENCES_MAX} more" if len(found) > DIFFERENCES_MAX else ""
        return f"changed: {', '.join(found[:DIFFERENCES_MAX])}{more}"
    consumed = part.program.consumes if isinstance(part, DesiredService) else ()
    if there.definition and consumed:
        return f"changed: what it consumes ({', '.join(map(str, consumed[:DIFFERENCES_MAX]))})"
    return "its definition changed"
