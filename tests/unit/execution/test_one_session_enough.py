"""Which databases are written to through one session of the server."""

from dataclasses import replace

import pytest

from reconciler.changes.script import Script
from reconciler.execution.one_session import enough_with_one
from reconciler.plan.model import DeploymentPlan, PlanStage
from reconciler.plan.steps import DeployChange, RecordTag, StepKind
from reconciler.state.desired import DesiredChange, DesiredState
from tests.plugins.states import change, desired, module


def plan_of(*changes: DesiredChange, database: str = "shop", tags: int = 0) -> DeploymentPlan:
    steps: list[DeployChange | RecordTag] = [
        DeployChange(
            id=f"deploy {one.name}",
            kind=StepKind.DEPLOY_CHANGE,
            component="shop-schema",
            identity=f"change {one.name}",
            database=database,
            project="shop",
            change=one.name,
            change_id=one.change_id,
            script=one.deploy.path,
            script_hash=one.script_hash,
            transaction="change",
        )
        for one in changes
    ]
    steps += [
        RecordTag(
            id=f"tag {number}",
            kind=StepKind.RECORD_TAG,
            component="shop-schema",
            identity=f"tag {number}",
            database=database,
            project="shop",
            change_id=changes[0].change_id,
            change=changes[0].name,
            tag=f"v{number}",
        )
        for number in range(tags)
    ]
    return DeploymentPlan(
        name="eu", base="b", digest="d", stages=(PlanStage(name="migrations", steps=tuple(steps)),)
    )


def state_of(*changes: DesiredChange) -> DesiredState:
    return desired(module(*changes))


def test_one_change_takes_one_session() -> None:
    """A single change in a transaction of ours needs no session beside that of the fence."""
    one = change("a", text="create table a (id int); comment on table a is 'x'")
    assert enough_with_one(plan_of(one), state_of(one)) == {"shop"}


@pytest.mark.parametrize(
    "text",
    [
        "select pg_advisory_unlock_all()",
        "do $$ begin perform PG_Advisory_Unlock_All(); end $$",
        "create table a (); deallocate all",
        "do $$ begin execute 'DISCARD PLANS'; end $$",
        "create index concurrently i on a (b)",
    ],
)
def test_what_a_session_keeps_stays_with_the_fence(text: str) -> None:
    """Scripts that could let go of the fence's lock or of prepared statements, or that run alone, get two."""
    one = replace(change("a", text=text), transactional="concurrently" not in text)
    assert enough_with_one(plan_of(one), state_of(one)) == frozenset()
    quiet = change("a")
    if one.transactional:
        verified = replace(quiet, verify=Script("modules/shop/verify/a.sql", text))
        assert enough_with_one(plan_of(quiet), state_of(verified)) == frozenset()


def test_more_than_one_change_takes_two_sessions() -> None:
    """Whatever else is done in the database is done beside the session of the fence."""
    one, two = change("a"), change("b")
    assert enough_with_one(plan_of(one, two), state_of(one, two)) == frozenset()
    assert enough_with_one(plan_of(one, tags=1), state_of(one)) == frozenset()
    assert enough_with_one(plan_of(one), state_of(two)) == frozenset()
