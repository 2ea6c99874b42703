"""What a pass is said to have come to."""

from reconciler.events import PassResult
from reconciler.plan.model import DeploymentPlan
from reconciler.reconcile.findings import outcome_of


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
