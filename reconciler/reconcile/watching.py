"""Looks whether what runs is as it should, between looks at databases, and notes it; it mends nothing."""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from reconciler.control import programs
from reconciler.control.programs import FoundState
from reconciler.diff import requirements
from reconciler.diff.model import Diff, RouteDiff, ServiceDiff
from reconciler.errors import ReconcilerError
from reconciler.planner.planner import Assessment, Planner
from reconciler.reconcile.assess import Assessor
from reconciler.spec.environment import EnvironmentSpec
from reconciler.state import order
from reconciler.state.desired import DesiredState
from reconciler.state.live import LivePrograms
from reconciler.state.tracked import TrackedComponent, TrackedPrograms

EVERY_S = 30.0
"""Between two looks at what runs of an environment, at least; commits may come more often."""
AT_ONCE = 8
"""Deployments of an environment that are looked at side by side."""

_Applied = tuple[tuple[str, str | None, int, str], ...]
_Noted = tuple[tuple[FoundState, ...], _Applied]


class Watching:
    """Finds deployments whose services, jobs and routes are not as they should, and keeps how they are.

    What it keeps is of this process: after a restart it is written once more.
    """

    def __init__(
        self, *, planner: Planner, assessor: Assessor, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._planner = planner
        self._assessor = assessor
        self._clock = clock
        self._seen_at: dict[str, float] = {}
        self._noted: dict[tuple[str, str], _Noted] = {}

    def forget(self, environment: str) -> None:
        """Others pass over an environment now."""
        self._seen_at.pop(environment, None)
        for key in [key for key in self._noted if key[0] == environment]:
            del self._noted[key]

    def is_due(self, spec: EnvironmentSpec | None) -> bool:
        """Whether an environment that nothing else asks for is to be looked at for what runs of it."""
        if spec is None or not (spec.services or spec.routes):
            return False
        return self._clock() - self._seen_at.get(spec.name, float("-inf")) >= EVERY_S

    async def find(
        self, spec: EnvironmentSpec, states: Sequence[DesiredState], *, not_before: float
    ) -> set[str]:
        """Deployments of which something does not run as it should, or nobody knows how it runs."""
        if not (spec.services or spec.routes):
            return set()
        self._seen_at[spec.name] = self._clock()
        slots = asyncio.Semaphore(AT_ONCE)

        async def otherwise(desired: DesiredState) -> bool:
            async with slots:
                try:
                    return await self._planner.runs_otherwise(spec, desired, not_before=not_before)
                except (ReconcilerError, TimeoutError):
                    # Whoever looks at all of it says what is wrong.
                    return True

        found = await asyncio.gather(*(otherwise(desired) for desired in states))
        return {desired.deployment for desired, moved in zip(states, found, strict=True) if moved}

    async def note(
        self,
        environment: str,
        found: Iterable[Assessment],
        *,
        busy: Collection[str],
        afresh: bool,
        only_seen: bool = False,
    ) -> None:
        """Write down how services and routes were found, where that is news, and which stay quiet.

        What operations are at in `busy` deployments changes meanwhile, and they note it themselves. `afresh`:
        also what was written before, for others may have. `only_seen`: who has no say here leaves what it
        cannot see as it was found by others.
        """
        for item in found:
            tracked, diff = item.tracked, item.diff
            deployment = item.desired.deployment
            if tracked is None or diff is None or item.running is None or deployment in busy:
                continue
            if not tracked.programs.components:
                continue
            states = _states(item.desired, tracked.programs, item.running, diff)
            if only_seen:
                states = tuple(each for each in states if each.state != "unknown")
            # Whoever applies something notes how it is, too, over what we noted before.
            noted = (states, _applied(tracked.programs))
            if states and (afresh or self._noted.get((environment, deployment)) != noted):
                async with self._assessor.connection() as connection:
                    await programs.note_states(connection, environment, deployment, states)
                self._noted[environment, deployment] = noted
            quiet = _quiet(tracked.programs, diff)
            if quiet:
                async with self._assessor.connection() as connection:
                    await programs.forget_heals(connection, environment, deployment, quiet)


def _applied(tracked: TrackedPrograms) -> _Applied:
    """What changes whenever a component is applied."""
    return tuple(
        (name, there.instance, there.heals, there.definition_hash)
        for name, there in sorted(tracked.components.items())
    )


def _states(
    desired: DesiredState, tracked: TrackedPrograms, live: LivePrograms, diff: Diff
) -> tuple[FoundState, ...]:
    """How all that was ever applied is, in the order in which it is shown."""
    drifted = {row.component: row.detail for row in diff.drift}
    there = {name: part for name, part in tracked.components.items() if part.definition_hash}
    names = [name for name in _in_order(desired, diff) if name in there]
    names += sorted(there.keys() - set(names))
    return tuple(
        replace(_state(there[name], live, drifted), ordinal=ordinal) for ordinal, name in enumerate(names)
    )


def _in_order(desired: DesiredState, diff: Diff) -> list[str]:
    """The components of the spec by stage, dependency and name."""
    found: list[str] = []
    for stage in desired.stages:
        own = [part for part in diff.parts if part.desired.stage == stage]
        requires = {part.desired.component: requirements.awaited(part) for part in own}
        found += order.topological(sorted(requires), requires)
    return found


def _state(there: TrackedComponent, live: LivePrograms, drifted: Mapping[str, str]) -> FoundState:
    name = there.component
    if there.kind not in {"Service", "Route"}:
        # How a job is, its runs tell.
        return FoundState(component=name, state=None)
    if name in live.unknown:
        return FoundState(component=name, state="unknown", reason=live.unknown[name])
    if there.kind == "Route":
        found = live.routes.get(name)
        state = "absent" if found is None else "edited" if found.edited else "set"
        return FoundState(component=name, state=state, reason=drifted.get(name))
    if there.instance is None:
        return FoundState(component=name, state="stopped")
    instances = live.instances.get(name, ())
    current = next((one for one in instances if one.instance == there.instance), None)
    if current is None:
        return FoundState(component=name, state="absent", reason=drifted.get(name))
    return FoundState(component=name, state=current.state, reason=current.reason or drifted.get(name))


def _quiet(tracked: TrackedPrograms, diff: Diff) -> list[str]:
    """Services and routes that were put back before, and are as they should be."""
    parts = [part for part in diff.programs if isinstance(part, ServiceDiff | RouteDiff)]
    return [
        part.desired.component
        for part in parts
        if not part.drift
        and not part.works
        and (there := tracked.components.get(part.desired.component)) is not None
        and there.heals
    ]
