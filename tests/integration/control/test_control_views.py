"""What people are shown of rollouts: complete in numbers, bounded in rows, in a fixed number of queries."""

from dataclasses import replace

import pytest
from psycopg.types.json import Jsonb

from reconciler.control import claims, views
from reconciler.control.requests import submit
from reconciler.control.transitions import finish_many, step_started, transition
from reconciler.rollout.states import OperationEvent, OperationState
from reconciler.rollout.status import StepStatus
from reconciler.rollout.summary import RolloutPolicy
from tests.plugins.control import Control, new_rollout

E = OperationEvent
B = "b" * 40


class Counted:
    """Counts the queries of a connection."""

    def __init__(self, control: Control) -> None:
        self.queries = 0
        self._cursor = control.connection.cursor
        control.connection.cursor = self  # type: ignore[method-assign,assignment]

    def __call__(self, *arguments: object, **named: object) -> object:
        self.queries += 1
        return self._cursor(*arguments, **named)  # type: ignore[call-overload]


async def test_progress_and_what_is_waited_for(control: Control) -> None:
    """Of what runs: steps done and the one at hand; of what does not: what it waits for, and what to do."""
    policy = RolloutPolicy(order="rolling", max_parallel=1)
    rollout = await control.record("eu", "us", policy=policy)
    claim = await control.must_claim(await control.worker())
    await finish_many(control.connection, claim, ["s1"])
    await step_started(control.connection, claim, "s2")
    await submit(
        control.connection,
        rollout=rollout,
        verb="stop",
        deployment="eu",
        requested_by="ada",
        why="incident",
    )
    found = await control.rollout(rollout)
    eu, us = found.operations
    assert (eu.steps_done, eu.steps_total, eu.current) == (1, 2, "deploy-change change two")
    assert eu.current_since is not None
    assert eu.waits_for is not None
    assert "to stop (request" in eu.waits_for
    assert us.waits_for == "'eu', which is running"
    assert found.counts == {"pending": 1, "running": 1}
    assert (found.order, found.on_failure, found.max_parallel) == ("rolling", "halt", 1)
    (request,) = found.requests
    assert (request.verb, request.state, request.why) == ("stop", "pending", "incident")
    assert found.next == ("follow it with: reconciler events production --follow",)


async def test_who_follows_a_rollout_is_told_of_each_step_once(control: Control) -> None:
    """A look reads only the steps that ended since the one before, however many there are."""
    rollout = await control.record("eu")
    claim = await control.must_claim(await control.worker())
    seen = views.StepsSeen()

    async def look() -> list[str]:
        (operation,) = (await views.read_progress(control.connection, rollout, seen)).operations
        assert operation.steps_total == 2
        return [step.id for step in operation.steps]

    assert await look() == []
    await finish_many(control.connection, claim, ["s1"])
    assert [await look(), await look()] == [["s1"], []]
    await finish_many(control.connection, claim, ["s2"])
    assert [await look(), await look()] == [["s2"], []]
    # What ends once more, in the place of what was seen, is told anew.
    await control.rows("UPDATE reconciler_control.steps SET finished_at = clock_timestamp() WHERE id = 's1'")
    assert await look() == ["s1"]


def test_steps_that_were_seen_are_asked_for_as_ranges() -> None:
    """Two thousand of them in a row are one."""
    seen = views.StepsSeen()
    assert seen.places(1) == "{}"
    step = StepStatus(id="s", ordinal=0, stage="s", kind="k", component="c", identity="i", state="done")
    for ordinal in (*range(2000), 2003, 2005, 2006):
        seen.add(1, replace(step, ordinal=ordinal))
    assert seen.places(1) == "{[0,1999],[2003,2003],[2005,2006]}"


async def test_the_chain_of_what_took_the_place_of_what(control: Control) -> None:
    """Each rollout names the one before and the one after it, in a list and alone, and why."""
    first = await control.record("eu", "us")
    claim = await control.must_claim(await control.worker())
    second = await control.record("eu", "us", commit=B)
    assert await claims.interruption(control.connection, claim) == "superseded"
    await transition(control.connection, claim, E.SUPERSEDE, reason="a newer commit took its place")
    before, after = await control.rollout(first), await control.rollout(second)
    assert (before.replaced_by, after.replaces) == ((second,), (first,))
    assert {one.superseded_by for one in before.operations} == {second}
    assert before.operations[1].reason == f"rollout {second} at {B[:12]} takes its place"
    assert before.next == (f"see what took its place with: reconciler show {second}",)
    listed = await views.read_rollouts(control.connection, "production")
    assert [(one.id, one.replaced_by) for one in listed] == [(second, ()), (first, (second,))]


async def test_what_is_agreed_to_is_shown_with_its_hazards(control: Control) -> None:
    """The plans that wait stand there with their dangers, and the digest over all of them."""
    waits = OperationState.WAITING_FOR_APPROVAL
    rollout = await control.record("eu", operations=new_rollout("eu", initial=waits).operations)
    hazards = [{"code": "DELETES_DATA", "message": "drops"}]
    step = {"id": "s2", "hazards": hazards}
    plan = {"name": "eu", "plan": {"stages": [{"steps": [{"id": "s1", "hazards": []}, step]}]}}
    await control.rows("UPDATE reconciler_control.operations SET plan = %s", Jsonb(plan))
    found = await control.rollout(rollout)
    assert found.digest == "sha256:1"
    assert [one.hazards for one in found.operations[0].steps] == [(), tuple(hazards)]
    await submit(
        control.connection,
        rollout=rollout,
        verb="approve",
        deployment=None,
        requested_by="ada",
        digest="sha256:1",
    )
    approved = await control.rollout(rollout)
    (approval,) = approved.approvals
    assert (approval.approved_by, approval.plan_digest, approval.void_at) == ("ada", "sha256:1", None)
    assert approved.digest is None
    assert approved.operations[0].steps[1].hazards == tuple(hazards)


@pytest.mark.parametrize("count", [3, 1000])
async def test_many_deployments_cost_no_more_queries(
    control: Control, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand operations are read in as many queries as three; bounds leave the interesting ones in."""
    names = [f"d{number:04}" for number in range(count)]
    rollout = await control.record(*names, policy=RolloutPolicy(order="parallel", on_failure="continue"))
    failed = int(await _fail(control, rollout, names[-1]))
    counted = Counted(control)
    whole = await control.rollout(rollout)
    assert counted.queries == 11
    assert len(whole.operations) == count
    assert sum(len(one.steps) for one in whole.operations) == 2 * count
    assert whole.counts == {"failed": 1, "pending": count - 1}
    monkeypatch.setattr(views, "STEPS_MAX", 4)
    monkeypatch.setattr(views, "LISTED_MAX", 2)
    bounded = await control.rollout(rollout)
    given = {one.deployment for one in bounded.operations if one.steps}
    assert given == {names[0], names[-1]}
    assert all(one.steps_total == 2 for one in bounded.operations)
    counted.queries = 0
    (listed,) = await views.read_rollouts(control.connection, "production")
    assert counted.queries == 3
    assert [one.deployment for one in listed.operations] == [names[0], names[-1]]
    assert listed.operations[-1].id == str(failed)
    assert listed.counts == whole.counts


async def _fail(control: Control, rollout: str, deployment: str) -> str:
    """Let one operation fail, whichever would be claimed first."""
    rows = await control.rows(
        "UPDATE reconciler_control.operations SET state = 'failed', finished_at = clock_timestamp(), "
        "started_at = clock_timestamp(), attempts = 1, error = '{}', reason = 'bad' "
        "WHERE rollout = %s AND deployment = %s RETURNING id",
        int(rollout),
        deployment,
    )
    return str(rows[0][0])
