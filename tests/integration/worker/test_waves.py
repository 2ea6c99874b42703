"""Waves with a gate, from the commit to the databases."""

import asyncio

import httpx

from reconciler.web.app import create_app
from tests.integration.worker.test_module_by_hand import ended
from tests.plugins.memory_service import no_metrics
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


async def ask_over_http(process: Process, verb: str, rollout: str) -> tuple[str, str]:
    """What came of a verb that was sent over HTTP: its state, and why."""
    app = create_app(process.parts.reconciler, metrics_text=no_metrics)
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as client:
        answer = await client.post(f"/v1/rollouts/{rollout}/{verb}", json={"reason": "test"})
    assert answer.status_code == 202, answer.text
    process.worker.wake()
    return answer.json()["state"], answer.json()["reason"]


async def paused(process: Process, rollout: str) -> list[str]:
    """The states of the operations of a rollout once it has paused."""

    async def is_paused() -> bool:
        return (await process.parts.reconciler.rollout(rollout)).state.value == "paused"

    await holds(is_paused, "the rollout to pause")
    found = await process.parts.reconciler.rollout(rollout)
    return [one.state.value for one in found.operations]


async def test_a_gate_that_says_no_pauses_until_somebody_releases(site: Site) -> None:
    """Under `onFailure: pause` retry asks the gate alone again, and release lets the next wave start."""
    process = site.process()
    ((name, text),) = spec(site).items()
    files = {name: text.replace("    maxParallel", "    onFailure: pause\n    maxParallel")}
    site.commit({"one": "CREATE TABLE gate AS SELECT false AS open"}, files)
    await process.look()
    process.work()
    first = (await process.rollouts())[0].id
    assert await paused(process, first) == ["failed", "pending", "pending"]
    shown = await process.parts.reconciler.rollout(first)
    assert f"let the rest start with: reconciler release {first}" in shown.next
    await process.look()
    assert len(await process.rollouts()) == 1

    assert (await ask_over_http(process, "retry", first))[0] == "completed"
    await process.look()
    second, states = await newest(process)
    assert (second != first, states) == (True, ["failed"])
    again = (await process.parts.reconciler.rollout(second)).operations[0]
    assert (again.deployment, [step.kind for step in again.steps]) == ("canary", ["check-gate"])
    state, why = await ask_over_http(process, "retry", first)
    assert (state, f"rollout {second} is newer there; retry that one" in why) == ("failed", True)

    await asyncio.to_thread(site.rows, "update gate set open = true", "canary")
    assert (await ask_over_http(process, "retry", second))[0] == "completed"
    await process.look()
    assert (await newest(process))[1] == ["completed"]
    # The first one paused for a person, and waits for one still.
    assert await paused(process, first) == ["failed", "pending", "pending"]
    assert site.server.run(f"select 1 from pg_database where datname = '{site.database('eu')}'") == []
    assert await ask_over_http(process, "release", first) == ("completed", "the rollout goes on")
    assert await ended(process, first) == ["failed", "completed", "completed"]
    assert site.deployed("us") == ["one"]
    assert (await ask_over_http(process, "release", first))[0] == "failed"
    await process.look()
    assert await site.control_rows("SELECT * FROM reconciler_control.gates_due") == []
    ready = next(row for row in (await process.environment()).conditions if row.type == "Ready")
    assert ready.status


async def test_released_without_a_yes(site: Site) -> None:
    """A person may let the next wave start though the gate says no; nobody but a person does."""
    process = site.process()
    ((name, text),) = spec(site).items()
    files = {name: text.replace("    maxParallel", "    onFailure: pause\n    maxParallel")}
    site.commit({"one": "CREATE TABLE gate AS SELECT false AS open"}, files)
    await process.look()
    process.work()
    first = (await process.rollouts())[0].id
    await paused(process, first)
    assert (await ask_over_http(process, "release", first))[0] == "completed"
    assert await ended(process, first) == ["failed", "completed", "completed"]
    assert len(await process.rollouts()) == 1
