"""Plans that somebody has to agree to: exactly those are carried out, under the fence, or asked for anew."""

from typing import Any

import pytest

from reconciler.rollout.status import RolloutStatus
from reconciler.rollout.verbs import approval_digest
from tests.plugins.site import Gate, Process, Site, holds

APPROVE = "  policy: {mode: approve}\n"


async def newest(process: Process) -> RolloutStatus:
    return (await process.rollouts())[0]


async def approve(process: Process, rollout: RolloutStatus, deployment: str | None = None) -> str | None:
    """Agree to what waits; gives what came of it."""
    waiting = [
        (one.deployment, one.plan_digest)
        for one in rollout.operations
        if one.state.value == "waiting_for_approval" and deployment in (None, one.deployment)
    ]
    digest = approval_digest(waiting)
    assert digest is not None
    request = await process.parts.reconciler.request(
        rollout.id, "approve", deployment=deployment, requested_by="ada", digest=digest
    )
    process.worker.wake()
    return request.reason if request.state == "failed" else None


async def state_of(process: Process, rollout: str, *states: str) -> str:
    """The state of a rollout once it is one of these."""

    async def is_one() -> str | None:
        found = (await process.parts.reconciler.rollout(rollout)).state.value
        return found if found in states else None

    found: str = await holds(is_one, f"rollout {rollout} to be {states}")
    return found


async def condition(process: Process, kind: str) -> Any:
    return next(row for row in (await process.environment()).conditions if row.type == kind)


async def approvals(site: Site) -> list[tuple[Any, ...]]:
    return await site.control_rows(
        "SELECT approved_by, used_at IS NOT NULL, void_reason FROM reconciler_control.approvals "
        "ORDER BY operation"
    )


async def test_approved_plan_is_carried_out(site: Site) -> None:
    """It waits with a condition that says so; agreed to, it runs, hazards and all, and that is noted."""
    process = site.process()
    site.commit({"a": "create table a ();"}, site.spec())
    await process.look()
    process.work()
    await state_of(process, (await newest(process)).id, "completed")
    site.commit({"a": "create table a ();", "b": "drop table a;"}, site.spec(more=APPROVE))
    await process.look()
    waiting = await newest(process)
    assert [one.state.value for one in waiting.operations] == ["waiting_for_approval"]
    ready = await condition(process, "Ready")
    assert (ready.status, ready.reason) == (False, "WaitsForApproval")
    assert f"reconciler approve {waiting.id}" in ready.message
    assert (await process.environment()).deployments[0].blocked is None
    assert await approve(process, waiting) is None
    assert await state_of(process, waiting.id, "completed", "failed") == "completed"
    assert site.deployed() == ["a", "b"]
    assert await approvals(site) == [("ada", True, None)]
    await process.look()
    assert (await condition(process, "Ready")).reason == "InSync"


async def test_approval_does_not_count_once_the_state_moved(site: Site) -> None:
    """Moved by hand before the first claim, nothing is done: the plan is superseded and a new one asks."""
    process = site.process()
    site.commit({"a": "create table a ();"}, site.spec(more=APPROVE))
    await process.look()
    first = await newest(process)
    assert await approve(process, first) is None
    site.server.create_database(site.database())
    process.work()
    assert await state_of(process, first.id, "superseded", "failed", "completed") == "superseded"
    operation = (await process.parts.reconciler.rollout(first.id)).operations[0]
    assert operation.reason is not None
    assert operation.reason.startswith(f"the state moved since ada approved {operation.plan_digest}")
    ((who, used, void),) = await approvals(site)
    assert (who, used) == ("ada", False)
    assert void == operation.reason
    await process.look()
    second = await newest(process)
    assert second.id != first.id
    assert second.reason == f"commit; the state moved since ada approved rollout {first.id} ('eu')"
    assert (
        f"the state moved since ada approved rollout {first.id}"
        in (await condition(process, "Ready")).message
    )
    assert await approve(process, second) is None
    assert await state_of(process, second.id, "completed", "superseded") == "completed"


async def test_plan_that_waits_follows_the_state(site: Site) -> None:
    """Moved while it waits, the next pass asks for the plan of what is there; the old digest is refused."""
    process = site.process()
    site.commit({"a": "create table a ();"}, site.spec(more=APPROVE, deployments=("eu", "us")))
    await process.look()
    first = await newest(process)
    site.server.create_database(site.database("us"))
    await process.look()
    await process.look()
    second = await newest(process)
    assert [one.deployment for one in second.operations] == ["us"]
    assert len(await process.rollouts()) == 2
    assert second.reason == f"commit; the state moved since it was asked for in rollout {first.id} ('us')"
    refused = await approve(process, first)
    assert refused is not None
    assert "the plan that waits is" in refused
    still = await process.parts.reconciler.rollout(first.id)
    assert [one.state.value for one in still.operations] == ["waiting_for_approval", "superseded"]
    assert await approve(process, still) is None
    assert await approve(process, second) is None
    process.work()
    await state_of(process, second.id, "completed")
    assert await state_of(process, first.id, "superseded") == "superseded"
    assert site.deployed("eu") == site.deployed("us") == ["a"]


async def test_what_somebody_did_by_hand_is_not_asked_for(site: Site) -> None:
    """Once nothing of a plan is left to be done, it waits no more."""
    process = site.process()
    site.commit({"a": "create table a ();"}, site.spec())
    await process.look()
    process.work()
    await state_of(process, (await newest(process)).id, "completed")
    ((path, text),) = site.spec(more=APPROVE).items()
    site.commit({"a": "create table a ();"}, {path: text.replace("'}", "', extensions: [citext]}")})
    await process.look()
    waiting = await newest(process)
    assert waiting.state.value == "waiting_for_approval"
    site.rows("create extension citext")
    await process.look()
    over = await process.parts.reconciler.rollout(waiting.id)
    assert over.state.value == "superseded"
    assert "nothing of the plan is left" in str(over.operations[0].reason)
    await process.look()
    assert (await newest(process)).id == waiting.id
    assert (await condition(process, "Ready")).reason == "InSync"


@pytest.mark.parametrize("verb", ["stop", "cancel"])
async def test_approved_and_halted_by_an_operator(site: Site, verb: str) -> None:
    """Stopped after it was approved, it goes on under the same approval; cancelled, it asks for nothing."""
    process = site.process()
    site.commit({"a": "create table a ();"}, site.spec(more=APPROVE))
    await process.look()
    waiting = await newest(process)
    assert await approve(process, waiting) is None
    ask = process.parts.reconciler.request
    assert (await ask(waiting.id, verb, deployment=None, requested_by="ada")).state == "completed"
    process.work()
    await process.look()
    assert len(await process.rollouts()) == 1
    if verb == "stop":
        assert (await ask(waiting.id, "start", deployment=None, requested_by="ada")).state == "completed"
        process.worker.wake()
        assert await state_of(process, waiting.id, "completed", "superseded") == "completed"
    else:
        assert (await process.parts.reconciler.rollout(waiting.id)).state.value == "cancelled"
        assert "cancelled" in str((await process.environment()).deployments[0].held)


async def begun_and_handed_back(site: Site) -> RolloutStatus:
    """An approved rollout of which half is done, and which nobody works on."""
    process = site.process("one")
    before = {"gate": "create table gate ();"}
    site.commit(before, site.spec())
    await process.look()
    process.work()
    await state_of(process, (await newest(process)).id, "completed")
    gate = Gate(site)
    await gate.close()
    site.commit({**before, "b": Gate.SCRIPT, "c": "create table c ();"}, site.spec(more=APPROVE))
    await process.look()
    rollout = await newest(process)
    assert await approve(process, rollout) is None
    await gate.until_waited_for()
    process.worker.stop()
    await gate.open()
    await process.stop()
    assert site.deployed() == ["gate", "b"]
    return await newest(process)


async def test_approved_plan_goes_on_after_an_interruption(site: Site) -> None:
    """What is left of an approved plan that began needs nobody's agreement again."""
    rollout = await begun_and_handed_back(site)
    other = site.process("two")
    other.work()
    assert await state_of(other, rollout.id, "completed", "superseded", "failed") == "completed"
    assert site.deployed() == ["gate", "b", "c"]
    assert await approvals(site) == [("ada", True, None)]


async def test_approved_plan_that_is_not_what_is_left_asks_anew(site: Site) -> None:
    """Moved in the middle, what is left is another plan, and nobody agreed to that."""
    rollout = await begun_and_handed_back(site)
    site.server.drop_database(site.database())
    other = site.process("two")
    other.work()
    assert await state_of(other, rollout.id, "completed", "superseded", "failed") == "superseded"
    await other.look()
    asks = await newest(other)
    assert (asks.state.value, asks.id != rollout.id) == ("waiting_for_approval", True)
    assert f"the state moved since ada approved rollout {rollout.id}" in asks.reason
    shown = await other.parts.reconciler.rollout(asks.id)
    codes = {hazard["code"] for step in shown.operations[0].steps for hazard in step.hazards}
    assert codes == {"RECREATES_DATABASE"}
    assert await approve(other, asks) is None
    assert await state_of(other, asks.id, "completed", "superseded", "failed") == "completed"
    assert site.deployed() == ["gate", "b", "c"]
