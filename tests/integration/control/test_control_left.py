"""Deployments that leave the spec: kept in mind with what is left of them, until they are back."""

from reconciler.control import environments
from reconciler.control.environments import DeploymentObservation
from reconciler.control.transitions import step_finished, transition
from reconciler.rollout.states import OperationEvent
from tests.plugins.control import Control


def seen(*names: str) -> tuple[DeploymentObservation, ...]:
    return tuple(DeploymentObservation(name=name, in_sync=True) for name in names)


async def left(control: Control) -> dict[str, tuple[str, ...]]:
    (found,) = await environments.read_environments(control.connection, ["production"])
    return {one.name: one.databases for one in found.left}


async def test_what_left_is_told_until_it_is_back(control: Control) -> None:
    """One that was applied is left behind with its databases; one that never was is forgotten."""
    await control.observe(*seen("eu", "us"), DeploymentObservation(name="new", pending=1))
    await control.record("us")
    await control.rows(
        "UPDATE reconciler_control.steps SET kind = 'create-database', identity = 'database shop_us'"
    )
    claim = await control.must_claim(await control.worker())
    await step_finished(control.connection, claim, "s1", "done")
    await transition(control.connection, claim, OperationEvent.DONE)
    assert await left(control) == {}
    await control.observe(*seen("eu"))
    assert await left(control) == {"us": ("shop_us",)}
    await control.observe(*seen("eu"))
    assert (await control.kinds()).count("deployment.left") == 1
    await control.observe(*seen("us", "eu"))
    assert await left(control) == {}
    assert (await control.kinds()).count("deployment.returned") == 1


async def test_a_pass_that_failed_leaves_nobody_behind(control: Control) -> None:
    """What could not be read says nothing of who is in the spec."""
    await control.observe(*seen("eu", "us"))
    await control.observe(error="broken", deployments=None)
    assert await left(control) == {}
