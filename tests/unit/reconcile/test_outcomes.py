"""What a pass is said to have come to."""

from dataclasses import replace

from reconciler.diff.model import Action, Drift
from reconciler.events import PassResult
from reconciler.plan.model import DeploymentPlan, PlanStage
from reconciler.plan.steps import ForgetJob, StepKind
from reconciler.planner.planner import Assessment
from reconciler.reconcile.findings import out_of_turn, outcome_of, reason_of
from tests.plugins.seen import desired


def test_a_pass_names_what_it_could_not_read() -> None:
    """A deployment that could not be read is named with the reason, and the pass is not in sync."""
    away = DeploymentPlan(
        name="eu", digest="", base="", stages=(), unavailable="connecting to db1:5432: no answer"
    )
    there = DeploymentPlan(name="us", digest="", base="", stages=())
    found = outcome_of([away, there], None)
    assert found.unavailable == ("eu: connecting to db1:5432: no answer",)
    assert found.result is PassResult.PENDING
    assert outcome_of([there], None).unavailable == ()


def test_later_waves_wait_for_whom_no_rollout_holds_back() -> None:
    """An earlier deployment that cannot be read, or is at work elsewhere, holds all later waves alone."""
    away = DeploymentPlan(name="a", digest="", base="", stages=(), unavailable="no answer")
    fine = [DeploymentPlan(name=name, digest="", base="", stages=()) for name in ("b", "c", "d")]
    waves = {"a": 1, "b": 0, "c": 1, "d": 2}
    told = "it waits for wave 1: 'a', which cannot be read"
    assert out_of_turn([away, *fine], waves, (), goes_on=False) == {"d": told}
    assert out_of_turn([away, *fine], waves, (), goes_on=True) == {}
    assert set(out_of_turn([away, *fine], waves, ("b",), goes_on=True)) == {"a", "c", "d"}
    assert out_of_turn([away, *fine], dict.fromkeys("abcd", 3), ("b",), goes_on=False) == {}


def test_rollouts_that_only_put_back_say_so() -> None:
    """One step for anything else makes it a rollout of the commit."""
    drift = Drift(component="api", identity="service api", action=Action.CHANGED, detail="it has ended")
    plan = DeploymentPlan(name="eu", digest="", base="", stages=(), drift=(drift,))

    def steps(*components: str) -> Assessment:
        made = tuple(
            ForgetJob(
                id=f"s{number}",
                kind=StepKind.FORGET_JOB,
                component=name,
                identity=f"service {name}",
                database="",
            )
            for number, name in enumerate(components)
        )
        stages = (PlanStage(name="services", steps=made),)
        return Assessment(desired=desired(), plan=replace(plan, stages=stages), tracked=None, diff=None)

    assert reason_of([steps("api")]) == "drift"
    assert reason_of([steps("api"), steps("api", "web")]) == "commit"
