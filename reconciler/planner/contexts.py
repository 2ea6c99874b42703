"""What states are compared under: the policies of a spec, what was asked, and what is recorded; pure."""

from typing import Protocol

from reconciler.diff.model import JobDiff
from reconciler.diff.programs import ProgramContext, compare_programs
from reconciler.spec.environment import EnvironmentSpec
from reconciler.state.desired import DesiredState
from reconciler.state.live import LivePrograms, LiveState
from reconciler.state.task import ModuleTask
from reconciler.state.tracked import TrackedPrograms, TrackedState


class Asked(Protocol):
    """The part of a request to plan that concerns services, jobs and routes."""

    @property
    def task(self) -> ModuleTask | None:
        """What is asked of modules in place of everything."""
        ...

    @property
    def insist(self) -> bool:
        """Whether what drifted is put back however often it was."""
        ...

    @property
    def healing(self) -> frozenset[str]:
        """Components that the recorded plan puts back."""
        ...

    @property
    def ran(self) -> frozenset[str]:
        """Jobs that ran to their end already."""
        ...


def program_context(spec: EnvironmentSpec, tracked: TrackedPrograms, asked: Asked) -> ProgramContext | None:
    """How services, jobs and routes are compared; None where it is not about them.

    Jobs for the stop of what is stopped run once each.
    """
    if asked.task is not None:
        return None
    return ProgramContext(
        drift=spec.policy.drift,
        prune=spec.policy.prune,
        insist=asked.insist,
        ran=asked.ran | (tracked.ran if tracked.stopped else frozenset()),
        healing=asked.healing,
    )


def runs_otherwise(
    spec: EnvironmentSpec, desired: DesiredState, tracked: TrackedPrograms, live: LivePrograms
) -> bool:
    """Whether any service, job or route is not as it should, or nobody knows how it is."""
    context = ProgramContext(drift=spec.policy.drift, prune=spec.policy.prune)
    parts, left = compare_programs(
        desired,
        TrackedState(databases={}, programs=tracked),
        LiveState(server_major=0, databases={}, programs=live),
        context,
    )
    drifted = any(part.drift for part in parts if not isinstance(part, JobDiff))
    return drifted or any(part.works or part.blocked for part in parts) or any(one.removes for one in left)
