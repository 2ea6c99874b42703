"""What scripts say with \\echo reaches the events and the steps of their rollout, and no secret with it."""

from reconciler.events import ScriptSaid
from reconciler.state.task import ModuleTask, TaskVerb
from tests.plugins.modules import tables
from tests.plugins.site import Site, holds


async def test_what_scripts_say_is_told(site: Site) -> None:
    """Of deploy and revert, with variables put in; what looks like a secret is masked; others say nothing."""
    files = tables("t1", "t2")
    files["modules/shop/deploy/t1.sql"] += (
        "\\set who ada\n\\echo made for :who\n\\echo password=s3cr3t-word\n"
    )
    files["modules/shop/revert/t1.sql"] += "\\echo gone\n"
    process = site.process()
    site.repository.commit({**site.spec(more="  policy: {mode: observe}\n"), **files})
    await process.look()
    process.work()
    said = {}
    for task in (
        ModuleTask(verb=TaskVerb.DEPLOY, module="shop-schema", createdb=True),
        ModuleTask(verb=TaskVerb.REVERT, module="shop-schema", everything=True),
    ):
        recorded = await process.parts.reconciler.run_module(
            "production",
            task,
            reason="test",
            requested_by="ada",
            allow_hazards=frozenset({"REVERTS_CHANGE", "DELETES_DATA"}),
        )
        assert recorded is not None
        rollout = recorded.id

        async def over(rollout: str = rollout) -> bool:
            return (await process.parts.reconciler.rollout(rollout)).finished_at is not None

        await holds(over, "the rollout to end")
        status = await process.parts.reconciler.rollout(rollout)
        steps = [step for operation in status.operations for step in operation.steps]
        said[task.verb] = {step.identity: step.said for step in steps if step.said}
    assert said == {
        TaskVerb.DEPLOY: {"change t1": "made for ada\npassword=***"},
        TaskVerb.REVERT: {"change t1": "gone"},
    }
    told = [event.text for event in process.told(ScriptSaid) if isinstance(event, ScriptSaid)]
    assert told == ["made for ada\npassword=***", "gone"]


async def test_what_scripts_said_before_they_failed_is_told(site: Site) -> None:
    """Of the change that fails, as far as its scripts came, also where a file that one includes fails."""
    files = tables("t1", "t2", "t3")
    files["modules/shop/deploy/t2.sql"] += "\\echo deployed\n"
    files["modules/shop/verify/t2.sql"] = "\\echo looking\n\\ir lib.sql\n\\echo never\n"
    files["modules/shop/verify/lib.sql"] = "select nothing_like_it;\n"
    process = site.process()
    site.repository.commit({**site.spec(more="  policy: {mode: observe}\n"), **files})
    await process.look()
    process.work()
    task = ModuleTask(verb=TaskVerb.DEPLOY, module="shop-schema", createdb=True)
    recorded = await process.parts.reconciler.run_module(
        "production", task, reason="test", requested_by="ada", allow_hazards=frozenset()
    )
    assert recorded is not None
    rollout = recorded.id

    async def over() -> bool:
        return (await process.parts.reconciler.rollout(rollout)).finished_at is not None

    await holds(over, "the rollout to end")
    status = await process.parts.reconciler.rollout(rollout)
    steps = {step.identity: step for operation in status.operations for step in operation.steps}
    assert steps["change t2"].said == "deployed\nlooking"
    assert steps["change t2"].state == "failed"
