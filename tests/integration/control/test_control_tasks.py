"""Rollouts of modules by hand: what holds after them, and that they are no rollouts of everything."""

from dataclasses import replace
from typing import Any

import pytest

from reconciler.control import intents, rollouts
from reconciler.control.environments import DeploymentObservation
from reconciler.control.requests import submit
from reconciler.control.transitions import transition
from reconciler.rollout.states import OperationEvent
from tests.plugins.control import Control, new_rollout

A = "a" * 40
HOLD = "module 'shop' was reverted by hand"


def task(hold: str | None = HOLD, **more: Any) -> dict[str, Any]:
    return {"verb": "revert", "module": "shop", "hold": hold, **more}


async def record(control: Control, asked: dict[str, Any] | None) -> str:
    new = new_rollout("eu")
    (operation,) = new.operations
    plan = {**operation.plan, "task": asked}
    return await rollouts.record(
        control.connection, replace(new, operations=(replace(operation, plan=plan),), narrowed=True)
    )


async def finish(control: Control, event: OperationEvent = OperationEvent.DONE) -> None:
    claim = await control.must_claim(await control.worker())
    await transition(control.connection, claim, event, reason="x")


async def applied(control: Control) -> list[str | None]:
    rows = await control.rows("SELECT applied_commit FROM reconciler_control.environment_deployments")
    return [row[0] for row in rows]


async def test_what_passes_would_undo_is_held(control: Control) -> None:
    """Once it is done the commit is held, and the deployment carries no commit any more."""
    await control.observe(DeploymentObservation(name="eu", in_sync=True))
    assert await applied(control) == [A]
    await record(control, task())
    await finish(control)
    assert await intents.held(control.connection, "production", A) == {"eu": HOLD}
    assert await applied(control) == [None]
    assert await record(control, None)
    assert await intents.held(control.connection, "production", A) == {}


async def test_what_holds_nothing_applies_nothing(control: Control) -> None:
    """A deploy of some modules does not make the commit applied; a pass that finds it so does."""
    await control.observe(DeploymentObservation(name="eu", pending=3))
    await record(control, task(hold=None))
    await finish(control)
    assert await intents.held(control.connection, "production", A) == {}
    assert await applied(control) == [None]


async def test_one_task_is_not_another(control: Control) -> None:
    """Only the same task for the same commit is under way already; another one takes its place."""
    first = await record(control, task())
    assert await record(control, task()) == first
    second = await record(control, task(module="other"))
    assert second != first
    assert await control.states(first) == {"eu": "superseded"}
    everything = await record(control, None)
    assert await control.states(second) == {"eu": "superseded"}
    assert await record(control, None) == everything


@pytest.mark.parametrize(("asked", "state"), [(None, "completed"), (task(), "failed")])
async def test_retry_never_makes_a_deploy_of_a_revert(
    control: Control, asked: dict[str, Any] | None, state: str
) -> None:
    """What passes try again is everything; so a revert that failed stays held, and is asked for anew."""
    rollout = await record(control, asked)
    await finish(control, OperationEvent.FAIL)
    request = await submit(
        control.connection, rollout=rollout, verb="retry", deployment=None, requested_by="ada"
    )
    assert request.state == state
    assert bool(await intents.held(control.connection, "production", A)) == (state == "failed")
    if state == "failed":
        assert "is asked for anew" in str(request.reason)
