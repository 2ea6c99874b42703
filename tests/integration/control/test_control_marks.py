"""Noting what happened: twice is as good as once, no time goes back, and three answers are told apart."""

from dataclasses import replace

import pytest

from reconciler.control.claims import Claim
from reconciler.control.moves import Why
from reconciler.control.transitions import Mark, mark, step_finished, step_started, transition
from reconciler.errors import IllegalTransition, LeaseLost, NotFound
from reconciler.rollout.states import OperationEvent, OperationState
from tests.plugins.control import Control

E = OperationEvent
S = OperationState
OPERATION = """
SELECT to_jsonb(o), (SELECT jsonb_agg(to_jsonb(s) ORDER BY s.id) FROM reconciler_control.steps AS s)
FROM reconciler_control.operations AS o
"""
ERROR = {"what": "deploy", "where": None, "why": "no", "next": None, "sqlstate": None}


async def _claimed(control: Control) -> Claim:
    await control.record("eu")
    return await control.must_claim(await control.worker())


@pytest.mark.parametrize(
    ("event", "after"),
    [(E.DONE, S.COMPLETED), (E.FAIL, S.FAILED), (E.RETRY, S.RETRYING), (E.STOP, S.STOPPED)],
)
async def test_an_outcome_said_twice_is_written_once(
    control: Control, event: OperationEvent, after: OperationState
) -> None:
    """Who does not know whether its word arrived says it again: it is told, and nothing is written."""
    claim = await _claimed(control)
    why = Why(reason="so it is", error=ERROR, delay_s=60)
    assert await mark(control.connection, claim, event, why) == (after, Mark.WRITTEN)
    found, kinds = await control.rows(OPERATION), await control.kinds()
    assert await mark(control.connection, claim, event, why) == (after, Mark.ALREADY)
    assert await control.rows(OPERATION) == found
    assert await control.kinds() == kinds


async def test_an_outcome_of_what_is_anothers_or_not_there(control: Control) -> None:
    """What another claim did is not so already, another end is not the same one, and no row is no lease."""
    claim = await _claimed(control)
    await transition(control.connection, claim, E.RETRY, error=ERROR, delay_s=0)
    again = await control.must_claim(await control.worker("other"))
    with pytest.raises(LeaseLost):
        await transition(control.connection, claim, E.RETRY, error=ERROR)
    await transition(control.connection, again, E.DONE)
    for other in (claim, replace(again, lease_token=again.lease_token + 1)):
        with pytest.raises(LeaseLost):
            await transition(control.connection, other, E.DONE)
    with pytest.raises(LeaseLost):
        await transition(control.connection, again, E.FAIL, error=ERROR)
    with pytest.raises(NotFound, match="no operation 999"):
        await transition(control.connection, replace(again, operation="999"), E.DONE)


async def test_an_event_that_the_state_does_not_take(control: Control) -> None:
    """The holder is told that the table of states forbids it, and not that somebody else has it."""
    claim = await _claimed(control)
    with pytest.raises(IllegalTransition):
        await transition(control.connection, claim, E.EXPIRE)


async def test_a_step_marked_twice_keeps_its_times(control: Control) -> None:
    """Started and ended, each said twice: the first time stands."""
    claim = await _claimed(control)
    connection = control.connection
    assert await step_started(connection, claim, "s1") is Mark.WRITTEN
    found = await control.rows(OPERATION)
    assert await step_started(connection, claim, "s1") is Mark.ALREADY
    assert await control.rows(OPERATION) == found
    for state in ("failed", "done"):
        assert await step_finished(connection, claim, "s1", state, "so") is Mark.WRITTEN
        found = await control.rows(OPERATION)
        assert await step_finished(connection, claim, "s1", state, "so") is Mark.ALREADY
        assert await control.rows(OPERATION) == found
    assert await step_finished(connection, claim, "s1", "failed") is Mark.ALREADY
    assert await step_started(connection, claim, "s1") is Mark.ALREADY
    assert await control.rows(OPERATION) == found


async def test_a_step_of_what_is_anothers_or_not_there(control: Control) -> None:
    """A lease that is gone, a step that no plan has, an operation that is none: three answers."""
    claim = await _claimed(control)
    connection = control.connection
    with pytest.raises(NotFound, match="has no step 's9'"):
        await step_started(connection, claim, "s9")
    with pytest.raises(NotFound, match="no operation 999"):
        await step_finished(connection, replace(claim, operation="999"), "s1", "done")
    with pytest.raises(LeaseLost):
        await step_started(connection, replace(claim, lease_token=claim.lease_token + 1), "s1")


async def test_waiting_for_another_spends_no_attempt(control: Control) -> None:
    """However often a database was taken, the attempt that then fails is the first; why it waits is shown."""
    rollout = await control.record("eu")
    worker = await control.worker()
    for number in range(3):
        claim = await control.must_claim(worker)
        assert (claim.attempts, claim.waits) == (1, number)
        reason = "waits until its database is free: operation 7 is at work there"
        await transition(control.connection, claim, E.RETRY, reason=reason, error=ERROR, waits=True)
        (operation,) = (await control.rollout(rollout)).operations
        assert (operation.state, operation.reason) == (S.RETRYING, reason)
    claim = await control.must_claim(worker)
    assert (claim.attempts, claim.waits) == (1, 3)
    await transition(control.connection, claim, E.RETRY, error=ERROR)
    claim = await control.must_claim(worker)
    assert (claim.attempts, claim.waits) == (2, 0)
