"""What a plan made anew has to do with the one that was recorded, and with what people agreed to; pure."""

from reconciler.control.claims import Claim
from reconciler.plan.hazards import NEEDS_CONSENT
from reconciler.plan.model import DeploymentPlan
from reconciler.plan.steps import RevertChange
from reconciler.state.task import TaskVerb


def how_to_consent(claim: Claim, plan: DeploymentPlan, allowed: frozenset[str]) -> str:
    """How a person agrees to what the plan needs by now: nobody is asked to approve what fails."""
    codes = {hazard.code for hazard in plan.hazards} & NEEDS_CONSENT
    named = " ".join(
        f"--allow-hazard {code}" for code in sorted(code.value for code in codes) if code not in allowed
    )
    if plan.task is not None:
        return f"look at its --dry-run again, then ask for the same with {named}"
    # What left the spec is no deployment of it to be named.
    one = f" --deployment {claim.deployment}" if plan.prune_from is None else ""
    return (
        f"look at it: reconciler diff {claim.environment}{one}; then consent for this once: reconciler apply "
        f"{claim.environment}{one} {named}, or in policy.allowHazards of the spec"
    )


def approved_hazards(claim: Claim, plan: DeploymentPlan) -> frozenset[str]:
    """The hazards that a person agreed to with the plan; that it is that plan is seen to before it begins."""
    if claim.approved is None:
        return frozenset()
    return frozenset(hazard.code.value for hazard in plan.hazards)


def done_before(recorded: DeploymentPlan, plan: DeploymentPlan) -> tuple[str, ...]:
    """The steps of the recorded plan that are done already; none where another plan took its place."""
    known, left = [step.id for step in recorded.steps], [step.id for step in plan.steps]
    before = len(known) - len(left)
    return tuple(known[:before]) if before > 0 and known[before:] == left else ()


def shown_reverts(plan: DeploymentPlan) -> frozenset[str] | None:
    """The changes that a revert by hand was shown to take back; nothing else may go with it."""
    if plan.task is None or plan.task.verb is not TaskVerb.REVERT:
        return None
    return frozenset(step.change_id for step in plan.steps if isinstance(step, RevertChange))
