"""Which step status and rollout name as the one that runs, where many changes go to the server at once."""

import pytest

from tests.plugins.site import Gate, Site, holds


@pytest.mark.parametrize("mode", ["change", "module"])
async def test_the_change_that_hangs_is_named(site: Site, mode: str) -> None:
    """Those before it are done, or wait for it where all share a transaction; no other is said to run."""
    process = site.process()
    ((name, text),) = site.spec().items()
    text = text.replace("path: modules/shop}", f"path: modules/shop, transaction: {mode}}}")
    first = {"gate": "create table gate ();"}
    site.commit(first, {name: text})
    await process.look()
    process.work()

    async def completed() -> bool:
        return await process.states() == ["completed"]

    await holds(completed, "the gate to be there")
    gate = Gate(site)
    await gate.close()
    quick = {f"q{number}": f"create table q{number} ();" for number in range(20)}
    site.commit({**first, **quick, "slow": Gate.SCRIPT, "z": "create table z ();"})
    await process.look()
    process.worker.wake()
    await gate.until_waited_for()

    async def named() -> bool:
        newest = (await process.rollouts())[0].id
        operation = (await process.parts.reconciler.rollout(newest)).operations[0]
        return operation.current == "deploy-change change slow"

    await holds(named, "the change that waits to be named")
    rollout = await process.parts.reconciler.rollout((await process.rollouts())[0].id)
    states = {step.identity: step.state for step in rollout.operations[0].steps}
    before = {states[f"change {each}"] for each in quick}
    assert (before, states["change z"]) == ({"done" if mode == "change" else "pending"}, "pending")
    await gate.open()
    await holds(completed, "the end")
