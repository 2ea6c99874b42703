"""Dangers that show only once a worker plans: nothing is done, and a person is told how to agree to them."""

from reconciler.plan.hazards import HazardCode
from reconciler.rollout.status import RolloutStatus
from tests.integration.worker.test_approved_plans import APPROVE, approve
from tests.integration.worker.test_module_by_hand import ended
from tests.plugins.site import Process, Site

GONE = HazardCode.RECREATES_DATABASE.value


async def recorded(site: Site, more: str = "") -> tuple[Process, RolloutStatus]:
    """A rollout that waits for a worker; its database is dropped after it was planned."""
    process = site.process()
    site.commit({"a": "create table a ();"}, site.spec(deployments=("eu", "us")))
    await process.look()
    process.work()
    await ended(process, (await process.rollouts())[0].id)
    await process.stop()
    changes = {"a": "create table a ();", "b": "create table b ();"}
    site.commit(changes, site.spec(deployments=("eu", "us"), more=more))
    await process.look()
    found = (await process.rollouts())[0]
    assert "b" in str([step.identity for step in (await show(process, found.id)).operations[1].steps])
    site.server.drop_database(site.database("us"))
    return process, found


async def show(process: Process, rollout: str) -> RolloutStatus:
    return await process.parts.reconciler.rollout(rollout)


async def test_nobody_consented_to_what_the_plan_needs_by_now(site: Site) -> None:
    """It fails before anything is done and names the command that consents; that command goes on."""
    _process, rollout = await recorded(site)
    worker = site.process("two")
    worker.work()
    assert await ended(worker, rollout.id) == ["completed", "failed"]
    error = (await show(worker, rollout.id)).operations[1].error
    assert error is not None
    assert error["why"].startswith(
        "the state moved since the plan was made, and it now needs consent: shop-db: "
    )
    consent = f"reconciler apply production --deployment us --allow-hazard {GONE}"
    assert error["next"] == (
        "look at it: reconciler diff production --deployment us; then consent for this once: "
        f"{consent}, or in policy.allowHazards of the spec"
    )
    assert site.server.run(f"select 1 from pg_database where datname = '{site.database('us')}'") == []
    await worker.look()
    us = (await worker.environment()).deployments[1]
    assert us.held is not None
    assert "it now needs consent" in us.held

    # As a retry alone does not consent, the pass that follows it says what is missing.
    await worker.parts.reconciler.request(rollout.id, "retry", deployment=None, requested_by="ada")
    await worker.look()
    assert GONE in str((await worker.environment()).deployments[1].blocked)
    applied = await worker.parts.reconciler.apply(
        "production", deployment="us", reason="", requested_by="ada", allow_hazards=frozenset({GONE})
    )
    assert applied is not None
    assert await ended(worker, applied.id) == ["completed"]
    assert site.deployed("us") == ["a", "b"]


async def test_where_plans_are_approved_the_new_one_asks(site: Site) -> None:
    """An approval of a plan without the danger counts no more: the next one shows it, and can be approved."""
    process, rollout = await recorded(site, APPROVE)
    assert await approve(process, rollout) is None
    worker = site.process("two")
    worker.work()
    assert await ended(worker, rollout.id) == ["completed", "superseded"]
    await worker.look()
    asks = (await worker.rollouts())[0]
    shown = await show(worker, asks.id)
    codes = {hazard["code"] for step in shown.operations[0].steps for hazard in step.hazards}
    assert (shown.operations[0].deployment, codes) == ("us", {GONE})
    assert await approve(worker, asks) is None
    assert await ended(worker, asks.id) == ["completed"]
    assert site.deployed("us") == ["a", "b"]
