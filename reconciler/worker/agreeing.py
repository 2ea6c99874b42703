"""What a plan made anew has to do with the one that was recorded, and with what people agreed to; pure."""

from collections.abc import Sequence
from dataclasses import replace

from reconciler.control.claims import Claim
from reconciler.plan.hazards import NEEDS_CONSENT
from reconciler.plan.model import DeploymentPlan
from reconciler.plan.steps import AnyStep, RevertChange, RollService, SetRoute
from reconciler.state.live import LivePrograms
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
    if not is_rest(recorded, plan):
        return ()
    left = {step.id for step in plan.steps}
    return tuple(step.id for step in recorded.steps if step.id not in left)


def is_rest(recorded: DeploymentPlan, plan: DeploymentPlan) -> bool:
    """Whether a plan is what is left of the recorded one: its steps in its order, without those done.

    What ran side by side is done in no one order, so that any of them may be left.
    """
    known = iter(step.id for step in recorded.steps)
    return all(step.id in known for step in plan.steps)


def is_agreed_rest(recorded: DeploymentPlan, plan: DeploymentPlan) -> bool:
    """The same of a plan that a person agreed to: whole steps are compared, with the dangers they have."""
    known = iter(recorded.steps)
    return all(any(_is_same(step, one) for one in known) for step in plan.steps)


def _is_same(step: AnyStep, agreed: AnyStep) -> bool:
    if not isinstance(step, RollService) or not isinstance(agreed, RollService):
        return step == agreed
    # How it stood when the plan was made is not how it stands half way.
    half_way = replace(
        agreed,
        action=step.action,
        beside=step.beside,
        replaces=step.replaces,
        routes=step.routes,
        hazards=step.hazards,
    )
    return step == half_way and set(step.hazards) <= set(agreed.hazards)


def shown_reverts(plan: DeploymentPlan) -> frozenset[str] | None:
    """The changes that a revert by hand was shown to take back; nothing else may go with it."""
    if plan.task is None or plan.task.verb is not TaskVerb.REVERT:
        return None
    return frozenset(step.change_id for step in plan.steps if isinstance(step, RevertChange))


def put_back(plan: DeploymentPlan) -> frozenset[str]:
    """The services and routes that a plan may put back: how often, is judged when it is recorded."""
    return frozenset(
        step.component
        for step in plan.steps
        if (isinstance(step, SetRoute) and step.heals)
        or (isinstance(step, RollService) and step.action == "heal")
    )


def is_out_of_sight(blocked: Sequence[str], recorded: Sequence[str], running: LivePrograms | None) -> bool:
    """Whether something is in the way that was not when it was planned: nothing is known of what runs.

    A runtime or a proxy does not answer, or this is not the machine that it runs on.
    """
    if running is None:
        return False
    reasons = {*running.unknown.values()}
    for instances in running.instances.values():
        reasons |= {each.reason for each in instances if each.state == "unknown" and each.reason}
    return any(reason in each for each in set(blocked) - set(recorded) for reason in reasons)
