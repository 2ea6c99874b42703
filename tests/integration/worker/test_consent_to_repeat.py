"""Consent to run what may have run already: by the approval of a plan, and by what policy lets a prune do."""

from reconciler.rollout.status import RolloutStatus
from reconciler.rollout.verbs import approval_digest
from tests.plugins.modules import tables
from tests.plugins.site import Process, Site, holds

DONE = "create table done (what text);"
OUTSIDE = "-- transaction: none\ninsert into done values ('{}');\n"
TOLD = "1 statement of another version of the script ran, up to CALL at line 2"
NEEDS = ("NOT_TRANSACTIONAL", "REPEATS_STATEMENT", "REVERTS_CHANGE")
OTHER = "    - {name: other, kind: Module, database: {from: shop-db}, path: modules/other}\n"


def interrupted(site: Site, change_id: str, project: str) -> None:
    """As it is where an attempt to run another version of the script of change `c` was broken off."""
    site.rows(
        "insert into reconciler.unfinished (change_id, project, name, done, words, actor, commit, operation) "
        f"values ({change_id}, '{project}', 'c', '{{aa}}', 'CALL at line 2', 'ada', 'c', '1') returning 1"
    )


def done(site: Site) -> list[object]:
    return [row[0] for row in site.rows("select what from done")]


async def ended(process: Process) -> RolloutStatus:
    """The newest rollout once it is over."""
    process.worker.wake()

    async def over() -> RolloutStatus | None:
        status = (await process.rollouts())[0]
        return status if status.finished_at is not None else None

    found: RolloutStatus = await holds(over, "the rollout to end")
    return found


async def test_approving_a_plan_agrees_to_repeat_what_it_names(site: Site) -> None:
    """The plan that waits says what may have run; once approved, the script runs from its beginning."""
    process = site.process()
    site.commit({"t": DONE}, site.spec())
    await process.look()
    process.work()
    assert (await ended(process)).state.value == "completed"
    interrupted(site, "'of before the plan file moved'", "shop")
    site.commit({"t": DONE, "c": OUTSIDE.format("deploy")}, site.spec(more="  policy: {mode: approve}\n"))
    await process.look()
    rollout = (await process.rollouts())[0].id
    (waiting,) = (await process.parts.reconciler.rollout(rollout)).operations
    assert waiting.state.value == "waiting_for_approval"
    assert done(site) == []
    (step,) = (each for each in waiting.steps if each.identity == "change c")
    assert {each["code"]: each["message"] for each in step.hazards}["REPEATS_STATEMENT"] == TOLD
    digest = approval_digest([(waiting.deployment, waiting.plan_digest)])
    assert digest is not None
    request = await process.parts.reconciler.request(
        rollout, "approve", deployment=None, requested_by="ada", digest=digest
    )
    assert request.state != "failed", request.reason
    assert (await ended(process)).state.value == "completed"
    assert done(site) == ["deploy"]
    assert site.rows("select count(*) from reconciler.unfinished") == [(0,)]


async def test_a_prune_repeats_nothing_without_consent(site: Site) -> None:
    """What may have run of a revert script keeps its module, by name, until policy allows to run it again."""
    process = site.process()
    ((name, text),) = site.spec().items()
    files = {**tables("t"), **tables("c", project="other")}
    files["modules/shop/deploy/t.sql"] = DONE
    files["modules/other/revert/c.sql"] = OUTSIDE.format("revert")
    site.repository.commit({name: text + OTHER, **files})
    await process.look()
    process.work()
    assert (await ended(process)).state.value == "completed"
    interrupted(site, "(select change_id from reconciler.changes where project = 'other')", "other")

    async def without(*allowed: str) -> list[str]:
        policy = f"  policy: {{prune: true, allowHazards: [{', '.join(allowed)}]}}\n"
        site.repository.commit({name: site.spec(more=policy)[name]})
        await process.look()
        plan = await process.parts.reconciler.preview("production")
        return [row.detail for row in plan.deployments[0].diverged if row.sort.value == "orphaned"]

    (detail,) = await without(*(each for each in NEEDS if each != "REPEATS_STATEMENT"))
    assert "needs consent to REPEATS_STATEMENT" in detail
    assert (await process.rollouts())[0].state.value == "completed"
    assert (sorted(site.deployed()), done(site)) == (["c", "t"], [])
    await without(*NEEDS)
    assert (await ended(process)).state.value == "completed"
    assert (site.deployed(), done(site)) == (["t"], ["revert"])
    assert site.rows("select count(*) from reconciler.unfinished") == [(0,)]
