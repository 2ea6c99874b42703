"""The conditions of an environment as a function of what is known about it; `since` is the caller's clock."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from reconciler.frozen import frozen
from reconciler.rollout.states import TERMINAL_ROLLOUT, RolloutState
from reconciler.rollout.status import Condition

MESSAGE_CHARACTERS_MAX = 1000
"""A condition is a summary; what is longer is cut, and stands whole in `error` and in events."""


@frozen
class DeploymentFacts:
    """What the conditions need to know of one deployment; `failed`, why the last attempt under way did.

    `left_out`: what is left to roll out, where it carries the resources of a commit alone.
    """

    name: str
    pending: int = 0
    drift: int = 0
    diverged: int = 0
    held: str | None = None
    unavailable: str | None = None
    blocked: str | None = None
    failed: str | None = None
    verify_failures: int = 0
    left_out: tuple[str, ...] = ()


@frozen
class Asking:
    """One rollout that waits for somebody to approve its plans."""

    rollout: int
    reason: str
    deployments: tuple[str, ...]


@frozen
class Parking:
    """One rollout of which something waits to go live. `needs_word`: that somebody lets it."""

    rollout: int
    deployments: tuple[str, ...]
    needs_word: bool


@frozen
class EnvironmentFacts:
    """What the conditions need to know of an environment.

    `rollouts` are those that are not over, `asking` those of them that wait for approval, `parking` those
    that wait for promotion.
    """

    observed: bool
    name: str = "ENV"
    error: str | None = None
    error_reason: str | None = None
    suspended: str | None = None
    orphaned: bool = False
    deployments: tuple[DeploymentFacts, ...] = ()
    rollouts: tuple[RolloutState, ...] = ()
    asking: tuple[Asking, ...] = ()
    parking: tuple[Parking, ...] = ()


def conditions(
    facts: EnvironmentFacts,
    before: Sequence[Condition],
    now: datetime,
    observed_commit: str | None = None,
) -> tuple[Condition, ...]:
    """All five conditions in a stable order; one whose status is what it was keeps its `since`."""
    found = (_ready(facts), _reconciling(facts), _stalled(facts), _drifted(facts), _suspended(facts))
    known = {condition.type: condition for condition in before}
    return tuple(
        replace(_carry(type_, what, known.get(type_), now), observed_commit=observed_commit)
        for type_, what in found
    )


_What = tuple[bool, str, str]


def _carry(type_: str, what: _What, before: Condition | None, now: datetime) -> Condition:
    status, reason, message = what
    fresh = Condition(
        type=type_, status=status, reason=reason, message=message[:MESSAGE_CHARACTERS_MAX], since=now
    )
    if before is not None and before.status == status:
        return replace(fresh, since=before.since)
    return fresh


def _ready(facts: EnvironmentFacts) -> tuple[str, _What]:
    for is_it, reason, message in _not_ready(facts):
        if is_it:
            return "Ready", (False, reason, message)
    return "Ready", (True, "InSync", "every deployment carries the observed commit")


def _not_ready(facts: EnvironmentFacts) -> tuple[_What, ...]:
    pending = sum(deployment.pending for deployment in facts.deployments)
    unavailable = _named((d.name, d.unavailable) for d in facts.deployments)
    stalled, reason, message = _stalled(facts)[1]
    return (
        (facts.orphaned, "Orphaned", "its source no longer declares it; nothing is done to it"),
        (stalled, reason, message),
        (bool(unavailable), "Unavailable", unavailable),
        (not facts.observed, "NotObserved", "no pass has looked at it yet"),
        (bool(facts.asking), "WaitsForApproval", "; ".join(map(_asked, facts.asking))),
        (bool(facts.parking), "WaitsForPromotion", "; ".join(map(_waits, facts.parking))),
        (bool(_under_way(facts)), "RolloutUnderWay", "a rollout is under way"),
        (pending > 0, "Pending", f"{pending} pending change{'' if pending == 1 else 's'}"),
        (any(d.left_out for d in facts.deployments), "Provisioned", _provisioned(facts)),
    )


def _provisioned(facts: EnvironmentFacts) -> str:
    rest = "; ".join(f"{d.name}: {_some(d.left_out)}" for d in facts.deployments if d.left_out)
    return (
        f"only the resources of the commit are there; left out on {rest}; roll out the rest with: "
        f"reconciler apply {facts.name} --full"
    )


def _asked(asking: Asking) -> str:
    return (
        f"rollout {asking.rollout} ({asking.reason}) waits on {_some(asking.deployments)} until somebody "
        f"agrees to it: reconciler approve {asking.rollout}"
    )


def _waits(parking: Parking) -> str:
    told = f"rollout {parking.rollout} waits for promotion on {_some(parking.deployments)}"
    if not parking.needs_word:
        return f"{told}, until it is its turn"
    return f"{told}, until somebody lets it go live: reconciler promote {parking.rollout}"


def _some(deployments: Sequence[str]) -> str:
    more = f" and {len(deployments) - 10} more" if len(deployments) > 10 else ""
    return ", ".join(deployments[:10]) + more


def _under_way(facts: EnvironmentFacts) -> list[RolloutState]:
    """Rollouts that are not over; one that is applied, and may still be taken back, is as good as that."""
    return [state for state in facts.rollouts if state not in TERMINAL_ROLLOUT | {RolloutState.REVERT_WINDOW}]


def _reconciling(facts: EnvironmentFacts) -> tuple[str, _What]:
    under_way = _under_way(facts)
    if not under_way:
        return "Reconciling", (False, "Idle", "no rollout is under way")
    names = ", ".join(sorted({state.value for state in under_way}))
    failed = _named((d.name, d.failed) for d in facts.deployments)
    told = f"; the last attempt failed on {failed}" if failed else ""
    if facts.parking and set(under_way) == {RolloutState.WAITING_FOR_PROMOTION}:
        return "Reconciling", (True, "WaitsForPromotion", "; ".join(map(_waits, facts.parking)))
    return "Reconciling", (True, "RolloutUnderWay", f"a rollout is under way: {names}{told}")


def _stalled(facts: EnvironmentFacts) -> tuple[str, _What]:
    held = _named((d.name, d.held) for d in facts.deployments)
    blocked = _named((d.name, d.blocked) for d in facts.deployments)
    waits = any(state in (RolloutState.STOPPED, RolloutState.PAUSED) for state in facts.rollouts)
    choices: tuple[_What, ...] = (
        (facts.error is not None, facts.error_reason or "Failed", facts.error or ""),
        (bool(held), "Held", held),
        (bool(blocked), "Blocked", blocked),
        (waits, "WaitsForOperator", "a rollout is stopped or paused until an operator decides"),
    )
    for choice in choices:
        if choice[0]:
            return "Stalled", choice
    return "Stalled", (False, "Moving", "nothing needs a person")


def _drifted(facts: EnvironmentFacts) -> tuple[str, _What]:
    drift = {d.name: d.drift for d in facts.deployments if d.drift}
    failing = {d.name: d.verify_failures for d in facts.deployments if d.verify_failures}
    if failing and not drift:
        found = ", ".join(f"{name}: {count}" for name, count in sorted(failing.items()))
        return "Drifted", (True, "VerifyFailed", f"verify scripts that fail, by deployment: {found}")
    if not drift:
        return "Drifted", (False, "NoDrift", "what is there is what was applied")
    found = ", ".join(f"{name}: {count}" for name, count in sorted(drift.items()))
    return "Drifted", (True, "DriftFound", f"objects altered by others, by deployment: {found}")


def _suspended(facts: EnvironmentFacts) -> tuple[str, _What]:
    if facts.suspended is None:
        return "Suspended", (False, "Active", "it is reconciled")
    return "Suspended", (True, "Suspended", facts.suspended)


def _named(reasons: Iterable[tuple[str, str | None]]) -> str:
    return "; ".join(f"{name}: {reason}" for name, reason in reasons if reason)
