"""What states are compared under: the policies of a spec, what was asked, and what is recorded; pure."""

from typing import Protocol

from reconciler.diff.programs import ProgramContext
from reconciler.spec.environment import EnvironmentSpec
from reconciler.state.programs import Trigger
from reconciler.state.task import ModuleTask
from reconciler.state.tracked import TrackedPrograms


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
    def ending(self) -> Trigger | None:
        """Why the environment ends."""
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
        ending=asked.ending or (Trigger.STOP if tracked.stopped else None),
        ran=asked.ran | (tracked.ran if tracked.stopped else frozenset()),
    )
