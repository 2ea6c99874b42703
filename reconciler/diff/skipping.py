"""Components that are skipped: what they lack is not done, and who needs it waits."""

from dataclasses import replace

from reconciler.diff.model import (
    DatabaseDiff,
    Diff,
    JobDiff,
    ModuleDiff,
    ProgramDiff,
    RouteDiff,
    ServiceDiff,
)
from reconciler.state.desired import DesiredState
from reconciler.state.tracked import TrackedPrograms

REASON = "skip: true in the spec"


def without_skips(desired: DesiredState) -> DesiredState:
    """The same with nothing skipped: what a person asks for by name, and what is removed, is not left out."""
    if not desired.skipped:
        return desired
    return replace(
        desired,
        databases=tuple(replace(part, skip=False) for part in desired.databases),
        modules=tuple(replace(part, skip=False) for part in desired.modules),
        objects=tuple(replace(part, skip=False) for part in desired.objects),
        programs=replace(
            desired.programs,
            services=tuple(replace(part, skip=False) for part in desired.programs.services),
            jobs=tuple(replace(part, skip=False) for part in desired.programs.jobs),
            routes=tuple(replace(part, skip=False) for part in desired.programs.routes),
        ),
    )


def database(part: DatabaseDiff) -> DatabaseDiff:
    """A database as those see it that are in it: one that is skipped and lacks something is blocked.

    Nobody makes its roles, extensions and access; a module that requires an extension makes it itself.
    """
    if not part.desired.skip:
        return part
    why = [f"it is skipped, and {part.reason}"] if part.need is not None else []
    return replace(part, roles=(), extensions=(), access=None, blocked=(*part.blocked, *why))


def module(part: ModuleDiff) -> ModuleDiff:
    """A module as those see it that require it: what one that is skipped has to deploy does not come."""
    if part.desired.skip and part.works:
        return replace(part, blocked=(*part.blocked, "it is skipped"))
    return part


def why_not(owner: DatabaseDiff) -> str:
    """What is told of a component whose database is blocked."""
    name = owner.desired.component
    if owner.desired.skip and owner.need is not None:
        return f"its database component '{name}' is skipped, and {owner.reason}"
    return f"its database component '{name}' is blocked"


def without_stopped(diff: Diff, tracked: TrackedPrograms) -> Diff:
    """A diff in which nothing is done in databases on services of an environment that is stopped.

    They cannot be reached, as they should not; what is pending in them is, when it was started again.
    """
    if not tracked.stopped:
        return diff
    off = {part.desired.component for part in diff.databases if part.desired.on is not None}
    return replace(
        diff,
        databases=tuple(
            DatabaseDiff(desired=part.desired) if part.desired.component in off else part
            for part in diff.databases
        ),
        modules=tuple(
            ModuleDiff(desired=part.desired) if part.desired.database_component in off else part
            for part in diff.modules
        ),
        objects=tuple(part for part in diff.objects if part.desired.database_component not in off),
    )


def left_out(diff: Diff) -> Diff:
    """A diff without what is skipped; drift of databases stays, for it is told and nothing is done.

    What is skipped runs on where its environment is stopped.
    """
    skipped = {part.desired.component for part in diff.programs if part.desired.skip}
    return replace(
        diff,
        left=tuple(part for part in diff.left if not part.stops or part.tracked.component not in skipped),
        databases=tuple(_quiet(part) if part.desired.skip else part for part in diff.databases),
        modules=tuple(part for part in diff.modules if not part.desired.skip),
        objects=tuple(part for part in diff.objects if not part.desired.skip),
        programs=tuple(_idle(part) if part.desired.skip else part for part in diff.programs),
    )


def _quiet(part: DatabaseDiff) -> DatabaseDiff:
    return replace(part, need=None, reason="", diverged=(), blocked=())


def _idle(part: ProgramDiff) -> ProgramDiff:
    """Nothing is done about it; what drifted is told."""
    match part:
        case ServiceDiff():
            return ServiceDiff(desired=part.desired, drift=part.drift)
        case JobDiff():
            return JobDiff(desired=part.desired)
        case RouteDiff():
            return RouteDiff(desired=part.desired, drift=part.drift)
