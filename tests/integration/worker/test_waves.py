"""Waves with a gate, from the commit to the databases."""

import asyncio

from tests.integration.worker.test_module_by_hand import ended
from tests.plugins.site import Process, Site, holds

PLACES = "".join(
    f"    - {{name: {name}, {wave}postgres: {{dsn: {{env: SHOP_DSN}}}}}}\n"
    for name, wave in (("canary", "wave: 0, "), ("eu", ""), ("us", ""))
)
GATE = (
    "  rollout:\n    order: parallel\n    maxParallel: 4\n"
    "    waves: {gate: {database: shop-db, sql: SELECT open FROM gate}}\n"
)


def spec(site: Site) -> dict[str, str]:
    ((name, text),) = site.spec(more=GATE).items()
    head, _, rest = text.partition("  deployments:\n")
    components = rest.partition("  components:\n")[2]
    return {name: f"{head}  deployments:\n{PLACES}  components:\n{components}"}


async def newest(process: Process) -> tuple[str, list[str]]:
    rollout = (await process.rollouts())[0]
    return rollout.id, await ended(process, rollout.id)


async def test_a_gate_holds_the_next_wave_until_it_says_yes(site: Site) -> None:
    """It is asked again with the next commit, also where nothing else is to do, and then lets go on."""
    process = site.process()
    site.commit({"one": "CREATE TABLE gate AS SELECT false AS open"}, spec(site))
    await process.look()
    process.work()
    first, states = await newest(process)
    assert states == ["failed", "cancelled", "cancelled"]
    rollout = await process.parts.reconciler.rollout(first)
    error = rollout.operations[0].error
    assert error is not None
    assert (error["what"], error["where"]) == ("check-gate gate of wave 0", "shop-db/check-gate/0")
    assert error["why"].endswith("the answer is false")
    assert site.deployed("canary") == ["one"]
    assert site.server.run(f"select 1 from pg_database where datname = '{site.database('eu')}'") == []

    ((name, text),) = spec(site).items()
    site.repository.commit({name: text.replace("maxParallel: 4", "maxParallel: 3")})
    await process.look()
    second, states = await newest(process)
    assert (first != second, states) == (True, ["failed", "cancelled", "cancelled"])
    asked = (await process.parts.reconciler.rollout(second)).operations[0]
    assert [step.kind for step in asked.steps] == ["check-gate"]

    await asyncio.to_thread(site.rows, "update gate set open = true", "canary")
    # What the others make says yes as well: nobody comes after them, so nobody asks.
    site.commit({"one": "CREATE TABLE gate AS SELECT false AS open", "two": "SELECT 1"}, spec(site))
    await process.look()
    _third, states = await newest(process)
    assert states == ["completed", "completed", "completed"]
    assert site.deployed("us") == ["one", "two"]
    await process.look()
    assert (await process.environment()).applied_commit is not None
    assert await site.control_rows("SELECT * FROM reconciler_control.gates_due") == []


async def test_a_wave_that_cannot_be_planned_holds_the_next_one(site: Site) -> None:
    """Where the first cannot be read, nothing is recorded for those after it, and they say why."""
    process = site.process()
    files = spec(site)
    files = {name: text.replace("SHOP_DSN", "AWAY_DSN", 1) for name, text in files.items()}
    site.environ["AWAY_DSN"] = "host=127.0.0.1 port=1"
    site.commit({"one": "CREATE TABLE gate AS SELECT true AS open"}, files)
    await process.look()
    assert await process.rollouts() == ()
    canary, eu, us = (await process.environment()).deployments
    assert canary.unavailable is not None
    assert eu.blocked == us.blocked == "it waits for wave 0: 'canary', which cannot be read"

    site.repository.commit(spec(site))
    await process.look()
    process.work()
    assert (await newest(process))[1] == ["completed"] * 3

    async def free() -> bool:
        await process.look()
        return all(one.blocked is None for one in (await process.environment()).deployments)

    await holds(free, "nobody to wait any more")
