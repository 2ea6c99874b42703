"""What a pass found, as values to record: pure functions from views, plans and what is known."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from reconciler.changes.unread import HINT
from reconciler.control.environments import DeploymentObservation, Observation
from reconciler.control.facts import Facts
from reconciler.control.ownership import Owned
from reconciler.events import PassResult
from reconciler.frozen import frozen
from reconciler.plan.model import DeploymentPlan, Scope
from reconciler.plan.steps import (
    AnyStep,
    PrepareProgram,
    RemoveRoute,
    RemoveService,
    RollService,
    RunJob,
    SetRoute,
)
from reconciler.planner.planner import Assessment
from reconciler.planner.view import SourceView
from reconciler.reconcile.heads import Head
from reconciler.rollout.states import OperationState
from reconciler.spec.environment import EnvironmentSpec
from reconciler.state.programs import Trigger
from reconciler.state.tracked import TrackedPrograms

BY_ITSELF = "reconciler"
"""Who asked for a rollout that nobody asked for by hand."""


@frozen
class Outcome:
    """How a pass over one environment ended; `unavailable`: who could not be read, and why."""

    result: PassResult
    pending: int = 0
    drift: int = 0
    diverged: int = 0
    held: int = 0
    unavailable: tuple[str, ...] = ()
    rollout: str | None = None


@frozen
class UnderWay:
    """Operations of an environment that are not over: deployments by commit, and whether passes began any.

    `waiting`: the digests of the plans of the commit that wait for approval, by deployment.
    """

    deployments: Mapping[str, frozenset[str]]
    older_by_itself: bool
    waiting: Mapping[str, str]

    @property
    def everywhere(self) -> frozenset[str]:
        """Deployments on which anything is under way, of whichever commit."""
        return frozenset().union(*self.deployments.values())


def under_way(facts: Facts | None, commit: str) -> UnderWay:
    """What is not over of an environment, as seen from a commit.

    What is all applied, and may still be taken back, counts as over: its deployment is looked at like any.
    """
    window = OperationState.REVERT_WINDOW.value
    rows = [row for row in facts.row["under_way"] if row["state"] != window] if facts is not None else []
    deployments: dict[str, set[str]] = {}
    for row in rows:
        deployments.setdefault(row["commit"], set()).add(row["deployment"])
    return UnderWay(
        deployments={key: frozenset(names) for key, names in deployments.items()},
        older_by_itself=any(row["commit"] != commit and row["requested_by"] == BY_ITSELF for row in rows),
        waiting={
            row["deployment"]: row["digest"]
            for row in rows
            if row["commit"] == commit and row["state"] == OperationState.WAITING_FOR_APPROVAL.value
        },
    )


def silent(facts: Facts | None) -> dict[str, str]:
    """Deployments that could not be read the last time, and why."""
    rows = facts.deployments if facts is not None else {}
    return {name: row["unavailable"] for name, row in rows.items() if row["unavailable"] is not None}


def has_left(facts: Facts | None, spec: EnvironmentSpec) -> bool:
    """Whether any deployment that the environment had is not in its spec."""
    if facts is None:
        return False
    names = {place.name for place in spec.deployments}
    return facts.row["has_left"] or not names.issuperset(facts.deployments)


def keeps(facts: Facts | None, spec: EnvironmentSpec, under_way: UnderWay, commit: str) -> bool:
    """Whether another commit is at work on what had left the spec, and this one is not to take it back."""
    if facts is None or not facts.row["has_left"]:
        return False
    older = {name for key, names in under_way.deployments.items() if key != commit for name in names}
    gone = older - facts.deployments.keys()
    if not spec.policy.prune or spec.policy.mode == "observe":
        return bool(gone)
    return any(place.name in gone for place in spec.deployments)


def outdated(plans: Sequence[DeploymentPlan], waiting: Mapping[str, str]) -> list[str]:
    """Deployments whose plan waits for approval and has nothing left to do, for somebody else did it."""
    return [
        plan.name
        for plan in plans
        if plan.name in waiting and plan.unavailable is None and not plan.steps and not plan.refused
    ]


def out_of_turn(
    plans: Sequence[DeploymentPlan],
    waves: Mapping[str, int],
    busy: Collection[str],
    *,
    goes_on: bool,
) -> dict[str, str]:
    """Deployments that wait for an earlier wave which no rollout holds back, and what for.

    An earlier deployment that cannot be read, or may not go on by itself, is in no rollout; nor is one that
    another rollout is at work on (`busy`). `goes_on`: what cannot be done there holds nobody up.
    """
    if len(set(waves.values())) < 2:
        return {}
    # Some that are at work were not looked at.
    stuck = {
        waves.get(name, 0): f"'{name}', which {_BEING_BROUGHT}"
        for name in sorted(set(busy) - {plan.name for plan in plans}, reverse=True)
    }
    for plan in plans:
        why = _holds_up(plan, plan.name in busy, goes_on=goes_on)
        if why is not None:
            stuck.setdefault(waves.get(plan.name, 0), f"'{plan.name}', which {why}")
    if not stuck:
        return {}
    first = min(stuck)
    told = f"it waits for wave {first}: {stuck[first]}"
    return {plan.name: told for plan in plans if waves.get(plan.name, 0) > first}


_BEING_BROUGHT = "is being brought to this commit"


def _holds_up(plan: DeploymentPlan, busy: bool, *, goes_on: bool) -> str | None:
    if busy:
        return _BEING_BROUGHT
    if goes_on or plan.held is not None:
        return None
    if plan.unavailable is not None:
        return "cannot be read"
    if plan.blocked and plan.pending:
        return "is blocked"
    return "needs consent" if plan.refused else None


def reason_of(found: Sequence[Assessment]) -> str:
    """Why a pass records a rollout: a commit, a stop, a start, or that others altered what runs."""
    whys = {why for item in found for why in _whys(item)}
    return whys.pop() if len(whys) == 1 else "commit"


def _whys(item: Assessment) -> Iterable[str]:
    """What each step of a deployment is for; one word where that is the same for all."""
    programs = item.tracked.programs if item.tracked is not None else TrackedPrograms()
    drifted = {row.component for row in item.plan.drift}
    ended = {name for name, part in programs.components.items() if part.definition_hash and not part.instance}
    for step in item.plan.steps:
        if step.component in drifted:
            yield "drift"
        elif programs.stopped and isinstance(step, RemoveRoute | RemoveService | RunJob):
            yield "stop"
        elif not programs.started and _starts(step, ended):
            yield "start"
        elif not isinstance(step, PrepareProgram | SetRoute):
            # These two serve others, or say nothing of why.
            yield "commit"


def _starts(step: AnyStep, ended: Collection[str]) -> bool:
    if isinstance(step, RunJob):
        return bool(ended) and step.trigger == Trigger.START.value
    return isinstance(step, RollService) and step.component in ended


def intended(facts: Facts | None) -> dict[str, frozenset[str]]:
    """Databases about to be made, by deployment."""
    found: dict[str, set[str]] = {}
    for deployment, database in facts.row["intents"] if facts is not None else ():
        found.setdefault(deployment, set()).add(database)
    return {name: frozenset(databases) for name, databases in found.items()}


def outcome_of(
    plans: Sequence[DeploymentPlan], recorded: str | None, known: Sequence[Mapping[str, Any]] = ()
) -> Outcome:
    """The numbers of a pass; `known` are the rows of the deployments that it left as they were."""
    result = _result(plans, recorded)
    if result is PassResult.IN_SYNC and any(row["pending"] for row in known):
        result = PassResult.PENDING
    return Outcome(
        result=result,
        pending=sum(len(plan.pending) for plan in plans) + sum(row["pending"] for row in known),
        drift=sum(len(plan.drift) for plan in plans) + sum(row["drift"] for row in known),
        diverged=sum(len(plan.told_diverged) for plan in plans) + sum(row["diverged"] for row in known),
        held=sum(1 for plan in plans if plan.held is not None),
        unavailable=tuple(
            f"{plan.name}: {plan.unavailable}" for plan in plans if plan.unavailable is not None
        ),
        rollout=recorded,
    )


def _result(plans: Sequence[DeploymentPlan], recorded: str | None) -> PassResult:
    if recorded is not None:
        return PassResult.RECORDED
    if any(plan.held is not None for plan in plans):
        return PassResult.HELD
    if any(plan.pending or plan.blocked or plan.unavailable is not None for plan in plans):
        return PassResult.PENDING
    return PassResult.IN_SYNC


def unreadable(view: SourceView, known: Collection[Owned]) -> dict[str, tuple[str, str]]:
    """Known environments whose file no longer says whose it is, with file and problems.

    They did not leave the source; nobody can tell what they are to be.
    """
    broken: dict[str, list[str]] = {}
    for item in view.nameless:
        broken.setdefault(item.file, []).extend(str(problem) for problem in item.problems)
    for owned in known:
        why = view.tree.why_unread(owned.path)
        if why is not None:
            broken[owned.path] = [f"{why}; {HINT}"]
    return {
        owned.name: (owned.path, "\n".join(broken[owned.path]))
        for owned in known
        if owned.path in broken and owned.name not in view.environments
    }


def looked_at(view: SourceView, head: Head, name: str) -> Observation:
    """A pass that knows of a commit and did not plan it; for a suspended environment."""
    return Observation(
        name=name,
        source=view.source,
        path=view.environments[name].file,
        head_commit=head.commit,
        head_commit_at=head.committed_at,
        error=head.error,
        error_reason=head.error_reason,
    )


def planned(
    view: SourceView,
    head: Head,
    name: str,
    mode: str,
    deployments: tuple[DeploymentObservation, ...],
) -> Observation:
    """A pass that planned every deployment."""
    return Observation(
        name=name,
        source=view.source,
        path=view.environments[name].file,
        head_commit=head.commit,
        head_commit_at=head.committed_at,
        observed_commit=view.commit,
        error=head.error,
        error_reason=head.error_reason,
        inputs=view.inputs.get(name),
        mode=mode,
        deployments=deployments,
    )


def failed(view: SourceView, head: Head | None, name: str, why: tuple[str, str], *, path: str) -> Observation:
    """A pass that came to nothing; `why` is the error and one word for it. No head: ours is not newest."""
    return Observation(
        name=name,
        source=view.source,
        path=path,
        head_commit=head.commit if head is not None else None,
        head_commit_at=head.committed_at if head is not None else None,
        error=why[0],
        error_reason=why[1],
    )


def observed(
    plan: DeploymentPlan, active: Collection[str], mode: str, waits: str | None = None
) -> DeploymentObservation:
    """One deployment as its plan shows it; where plans are approved, their hazards are too.

    `waits`: what it waits for with what is pending there.
    """
    refused = () if mode == "approve" and plan.steps else plan.refused
    turn = (waits,) if waits is not None and plan.steps else ()
    return DeploymentObservation(
        name=plan.name,
        pending=len(plan.pending),
        drift=len(plan.drift),
        diverged=len(plan.told_diverged),
        held=plan.held,
        unavailable=plan.unavailable,
        blocked="; ".join((*plan.blocked, *refused, *turn)) or None,
        in_sync=not plan.pending
        and not plan.blocked
        and plan.unavailable is None
        and plan.name not in active,
        left_out=plan.left_out if plan.scope is Scope.PROVISION_ONLY else (),
    )
