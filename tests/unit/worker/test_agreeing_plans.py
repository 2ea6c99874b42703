"""What a plan made anew has to do with the one that was recorded."""

from dataclasses import replace

import pytest

from reconciler.plan.hazards import Hazard, HazardCode
from reconciler.plan.model import DeploymentPlan, PlanStage
from reconciler.plan.steps import AnyStep, RollService, StepKind, TakeBaseLine
from reconciler.worker.agreeing import done_before, is_agreed_rest, is_rest


def step(name: str) -> AnyStep:
    return TakeBaseLine(id=name, kind=StepKind.TAKE_BASE_LINE, component=name, identity=name, database="shop")


def roll(**more: object) -> RollService:
    whole = RollService(
        id="api/roll-service",
        kind=StepKind.ROLL_SERVICE,
        component="api",
        identity="service api",
        database="",
        runtime="process",
        instance="two",
        definition_hash="two",
        action="change",
        beside=True,
        replaces="one",
    )
    return replace(whole, **more)  # type: ignore[arg-type]


def plan(*steps: AnyStep) -> DeploymentPlan:
    return DeploymentPlan(name="eu", base="", digest="", stages=(PlanStage(name="all", steps=steps),))


@pytest.mark.parametrize(
    ("left", "done"),
    [("abcd", ""), ("bcd", "a"), ("ad", "bc"), ("c", "abd"), ("", "abcd")],
)
def test_what_ran_side_by_side_may_leave_any_steps(left: str, done: str) -> None:
    """Steps that are missing in the new plan are done, whichever they are; the rest keeps its order."""
    recorded, fresh = plan(*map(step, "abcd")), plan(*map(step, left))
    assert is_rest(recorded, fresh)
    assert is_agreed_rest(recorded, fresh)
    assert done_before(recorded, fresh) == tuple(done)


@pytest.mark.parametrize("other", ["ba", "ae", "aa"])
def test_another_plan_is_no_rest(other: str) -> None:
    """Another order, or a step that was not there, is another plan, and nothing of it counts as done."""
    recorded, fresh = plan(*map(step, "abcd")), plan(*map(step, other))
    assert not is_rest(recorded, fresh)
    assert not is_agreed_rest(recorded, fresh)
    assert done_before(recorded, fresh) == ()


def test_a_service_half_way_is_what_was_agreed_to() -> None:
    """How it stands half way moves its step, and what comes of it is the same; another instance is not."""
    agreed = plan(step("a"), roll())
    assert is_agreed_rest(agreed, plan(roll(action="add", replaces=None)))
    assert not is_agreed_rest(agreed, plan(roll(instance="three")))
    danger = Hazard(code=HazardCode.NOT_TRANSACTIONAL, message="x")
    assert not is_agreed_rest(agreed, plan(roll(hazards=(danger,))))
    assert is_agreed_rest(plan(roll(hazards=(danger,))), plan(roll()))
