"""Deployments that left the spec: told of, taken back where that is wanted and consented, or forgotten."""

from typing import Any

import pytest

from reconciler.errors import Conflict, NotFound, Refused
from reconciler.plan.encode import to_json
from reconciler.plan.render import to_markdown, to_text
from tests.integration.worker.test_approved_plans import approve
from tests.integration.worker.test_module_by_hand import ended
from tests.plugins.site import Gate, Process, Site, holds

CHANGES = {"one": "create table one ();", "two": "create table two ();"}
BACK = {"one": "drop table one;", "two": "drop table two;"}
LOCKS = {**CHANGES, "gate": "create table gate ();"}
CONSENT = "allowHazards: [REVERTS_CHANGE, DELETES_DATA]"
PRUNES = f"  policy: {{prune: true, {CONSENT}}}\n"


def module(site: Site) -> dict[str, str]:
    files = site.repository.module(CHANGES)
    return {**files, **{f"modules/shop/revert/{name}.sql": text for name, text in BACK.items()}}


def commit(site: Site, *deployments: str, more: str = "") -> str:
    return site.repository.commit({**module(site), **site.spec(deployments=deployments, more=more)})


async def rolled_out(site: Site, *deployments: str) -> Process:
    """A process that has brought the module to these deployments."""
    process = site.process()
    commit(site, *deployments)
    await process.look()
    process.work()
    await ended(process, (await process.rollouts())[0].id)
    await process.look()
    return process


async def told(process: Process) -> dict[str, str | None]:
    return {row.name: row.why for row in (await process.environment()).left}


async def events(site: Site) -> list[str]:
    rows = await site.control_rows(
        "SELECT kind FROM reconciler_control.events WHERE kind LIKE 'deployment.%' ORDER BY id"
    )
    return [row[0] for row in rows]


async def preview(process: Process, **asked: Any) -> dict[str, Any]:
    return to_json(await process.parts.reconciler.preview("production", **asked))


async def test_left_alone_without_prune(site: Site) -> None:
    """A dry run says what would leave and what has left; nothing is done to it, and it is told of."""
    process = await rolled_out(site, "eu", "us")
    first = (await process.environment()).observed_commit
    text = site.spec(deployments=("eu",))["environments/production.yaml"].encode()
    (row,) = (await preview(process, posted=text))["left"]
    assert row == {
        "name": "us",
        "leaves": True,
        "prune": False,
        "detail": "nothing is done to it: policy.prune is off",
        "declared_at": first,
        "server": site.server.dsn.server,
        "databases": [site.database("us")],
    }
    commit(site, "eu")
    await process.look()
    await process.look()
    shown = await preview(process)
    assert (shown["in_sync"], [one["name"] for one in shown["deployments"]]) == (True, ["eu"])
    assert shown["left"] == [{**row, "leaves": False}]
    plan = await process.parts.reconciler.preview("production")
    assert f"left: us ({site.database('us')} on {row['server']}): nothing is done to it" in to_text(plan)
    assert "| us | left |" in to_markdown(plan)
    (status,) = (await process.environment()).left
    assert (status.name, status.declared_commit, status.why) == ("us", first, row["detail"])
    assert len(await process.rollouts()) == 1
    assert site.deployed("us") == ["one", "two"]


async def test_pruned_by_the_daemon_with_consent(site: Site) -> None:
    """What the dry run shows is taken back by a rollout of its own; the database stays, and is nobody's."""
    process = await rolled_out(site, "eu", "us")
    commit(site, "eu", more="  policy: {prune: true}\n")
    await process.look()
    (why,) = (await told(process)).values()
    assert why is not None
    assert "nothing is done to it before somebody consents: " in why
    assert "hazard REVERTS_CHANGE" in why
    assert len(await process.rollouts()) == 1
    assert site.deployed("us") == ["one", "two"]

    commit(site, "eu", more=PRUNES)
    shown = await preview(process, ref="main")
    assert [(row["name"], row["prune"]) for row in shown["left"]] == [("us", True)]
    planned = shown["deployments"][1]
    steps = [step["identity"] for stage in planned["plan"]["stages"] for step in stage["steps"]]
    assert (planned["name"], planned["refused"], steps[:2]) == ("us", [], ["change two", "change one"])
    await process.look()
    recorded = (await process.rollouts())[0]
    assert recorded.reason == "prune of deployments that left the spec"
    assert await ended(process, recorded.id) == ["completed"]
    full = await process.parts.reconciler.rollout(recorded.id)
    assert [step.identity for step in full.operations[0].steps] == steps
    assert await site.control_rows(
        f"SELECT server FROM reconciler_control.operations WHERE rollout = {recorded.id}"
    ) == [(site.server.dsn.server,)]
    assert site.deployed("us") == []
    assert site.rows("select 1 from pg_class where relname in ('one', 'two')", "us") == []
    assert site.deployed("eu") == ["one", "two"]
    await process.look()
    assert await told(process) == {}
    assert (await events(site))[-2:] == ["deployment.left", "deployment.pruned"]
    assert (await preview(process))["in_sync"]
    assert len(await process.rollouts()) == 2


async def test_pruned_once_somebody_approved_it(site: Site) -> None:
    """Where plans are approved, the one that takes back is shown with its hazards and waits for that."""
    process = await rolled_out(site, "eu", "us")
    commit(site, "eu", more="  policy: {mode: approve, prune: true}\n")
    await process.look()
    asks = (await process.rollouts())[0]
    shown = await process.parts.reconciler.rollout(asks.id)
    assert [(one.deployment, one.state.value) for one in shown.operations] == [("us", "waiting_for_approval")]
    codes = {hazard["code"] for step in shown.operations[0].steps for hazard in step.hazards}
    assert codes == {"REVERTS_CHANGE", "DELETES_DATA"}
    assert await approve(process, asks) is None
    assert await ended(process, asks.id) == ["completed"]
    assert (site.deployed("us"), await told(process)) == ([], {})


async def test_prune_that_failed_is_held_and_tried_again(site: Site) -> None:
    """What somebody built on it keeps it; retried once that is gone, it goes."""
    process = await rolled_out(site, "eu", "us")
    site.rows("create view by_hand as select * from one", "us")
    commit(site, "eu", more=PRUNES)
    await process.look()
    failed = (await process.rollouts())[0]
    assert await ended(process, failed.id) == ["failed"]
    await process.look()
    (why,) = (await told(process)).values()
    assert why is not None
    assert why.startswith("it is held: ")
    assert len(await process.rollouts()) == 2
    assert site.deployed("us") == ["one"]
    ready = next(row for row in (await process.environment()).conditions if row.type == "Ready")
    assert ready.status
    site.rows("drop view by_hand", "us")
    request = process.parts.reconciler.request
    assert (await request(failed.id, "retry", deployment=None, requested_by="ada")).state == "completed"
    await process.look()
    assert await ended(process, (await process.rollouts())[0].id) == ["completed"]
    assert (site.deployed("us"), await told(process)) == ([], {})


async def test_prune_goes_on_where_it_was_interrupted(site: Site) -> None:
    """Handed back in the middle, another worker takes back what is left, and no more is told of it."""
    process = site.process()
    files = {**site.repository.module(LOCKS), **site.spec(deployments=("eu", "us"))}
    waits = f"lock table gate in access exclusive mode; {BACK['one']}"
    scripts = {**BACK, "one": waits, "gate": "select 1"}
    files |= {f"modules/shop/revert/{name}.sql": text for name, text in scripts.items()}
    site.repository.commit(files)
    await process.look()
    process.work()
    await ended(process, (await process.rollouts())[0].id)
    gate = Gate(site, "us")
    await gate.close()
    site.repository.commit(site.spec(deployments=("eu",), more=PRUNES))
    await process.look()
    process.worker.wake()
    await gate.until_waited_for()
    process.worker.stop()
    await gate.open()
    await process.stop()
    pruning = (await process.rollouts())[0]
    left_there = site.deployed("us")
    assert "two" not in left_there
    other = site.process("two")
    other.work()
    assert await ended(other, pruning.id) == ["completed"]
    assert (site.deployed("us"), await told(other)) == ([], {})


async def test_back_in_the_spec_before_it_was_pruned(site: Site) -> None:
    """A rollout that was to take it back and has not begun does nothing any more."""
    process = await rolled_out(site, "eu", "us")
    await process.stop()
    commit(site, "eu", more=PRUNES)
    await process.look()
    pruning = (await process.rollouts())[0]
    assert [one.deployment for one in pruning.operations] == ["us"]
    commit(site, "eu", "us", more=PRUNES)
    await process.look()
    assert await ended(process, pruning.id) == ["superseded"]
    assert site.deployed("us") == ["one", "two"]
    assert await told(process) == {}


@pytest.mark.parametrize("renamed", ["same-server", "other-name"])
async def test_renamed_is_never_pruned(site: Site, renamed: str) -> None:
    """Whatever the deployment and its server are called now, a database that is in use keeps what it has."""
    process = await rolled_out(site, "eu", "us")
    name = "production"
    text = site.spec(deployments=("eu", "west"), more=PRUNES)[f"environments/{name}.yaml"]
    text = text.replace(f"{site.prefix}_{name}_${{deployment}}", f"{site.prefix}_{name}_${{place}}")
    for place in ("eu", "west"):
        text = text.replace(
            f"name: {place}\n",
            f"name: {place}\n      variables: {{place: {'us' if place == 'west' else place}}}\n",
        )
    if renamed == "other-name":
        site.environ["WEST_DSN"] = aliased(site)
        head, _, tail = text.rpartition("env: SHOP_DSN")
        text = f"{head}env: WEST_DSN{tail}"
    site.repository.commit({**module(site), f"environments/{name}.yaml": text})
    await process.look()

    async def left_alone() -> bool:
        await process.look()
        why = (await told(process))["us"]
        return why is not None and "'west'" in why

    await holds(left_alone, "it to be told")
    assert site.deployed("us") == ["one", "two"]
    assert [one.deployment for one in (await process.rollouts())[0].operations] != ["us"]


async def test_moved_or_unreadable_is_never_pruned(site: Site) -> None:
    """A database that another environment has now is in use; so is all that nobody can read who has it."""
    process = await rolled_out(site, "eu", "us")
    commit(site, "eu")
    await process.look()
    broken = {"environments/broken.yaml": "{"}
    site.repository.commit({**site.spec(deployments=("eu",), more=PRUNES), **broken})
    await process.look()
    assert "nobody knows what 'environments/broken.yaml' declares" in str((await told(process))["us"])
    nothing = "apiVersion: reconciler/v1\nkind: Environment\nmetadata: {name: other}\nspec: {}\n"
    site.repository.commit({"environments/broken.yaml": nothing})
    await process.look()
    assert "nobody knows whether environment 'other' has its databases" in str((await told(process))["us"])
    text = site.spec("other", deployments=("us",))["environments/other.yaml"]
    text = text.replace("_other_", "_production_")
    site.repository.commit({"environments/broken.yaml": text})
    await process.look()
    assert "is that of deployment 'us' of environment 'other' now" in str((await told(process))["us"])
    reasons = [rollout.reason for rollout in await process.rollouts()]
    assert "prune of deployments that left the spec" not in reasons
    assert site.deployed("us") == ["one", "two"]


def aliased(site: Site) -> str:
    """The connection string of the server, by another name of it."""
    twice = {
        key: f"{value},{value}" if key in ("host", "port") else value
        for key, value in site.server.dsn.parameters().items()
    }
    return " ".join(f"{key}={value}" for key, value in twice.items())


async def test_apply_prunes_with_consent_of_a_person(site: Site) -> None:
    """By hand, consent is asked for by name, and what left is taken back behind all others."""
    process = await rolled_out(site, "eu", "us", "jp")
    await process.stop()
    commit(site, "eu", more="  policy: {prune: true}\n")
    # Nobody has looked at the commit before: a process that is new fetches it.
    with pytest.raises(Refused, match="REVERTS_CHANGE"):
        await site.process("two").parts.reconciler.apply("production", reason="", requested_by="ada")
    site.repository.commit(site.repository.module({**CHANGES, "three": "create table three ();"}))
    recorded = await site.process("three").parts.reconciler.apply(
        "production",
        reason="",
        requested_by="ada",
        allow_hazards=frozenset({"REVERTS_CHANGE", "DELETES_DATA", "PRUNES_MANY"}),
    )
    assert recorded is not None
    assert [(one.deployment, one.wave) for one in recorded.operations] == [("eu", 0), ("jp", 1), ("us", 1)]
    worker = site.process("four")
    worker.work()
    assert await ended(worker, recorded.id) == ["completed"] * 3
    assert (site.deployed("eu"), site.deployed("us")) == (["one", "two", "three"], [])
    assert await told(worker) == {}


async def test_forgotten(site: Site) -> None:
    """Whoever knows that one is gone says so once, with why; what the spec has cannot be forgotten."""
    process = await rolled_out(site, "eu", "us")
    forget = process.parts.reconciler.forget
    with pytest.raises(Conflict, match="the spec names it"):
        await forget("production", "us", reason="", requested_by="ada")
    commit(site, "eu")
    await process.look()
    with pytest.raises(NotFound, match="these did: us"):
        await forget("production", "su", reason="", requested_by="ada")
    await forget("production", "us", reason="its server was sold", requested_by="ada")
    assert await told(process) == {}
    ((message,),) = await site.control_rows(
        "SELECT message FROM reconciler_control.events WHERE kind = 'deployment.forgotten'"
    )
    assert message.startswith("'us' is forgotten by ada: its server was sold; its databases (")
    commit(site, "eu", more=PRUNES)
    await process.look()
    assert len(await process.rollouts()) == 1
    assert site.deployed("us") == ["one", "two"]


async def test_forgotten_only_when_nothing_is_under_way(site: Site) -> None:
    """A rollout that is to take it back is cancelled first; then nothing of it is done."""
    process = await rolled_out(site, "eu", "us")
    await process.stop()
    commit(site, "eu", more=PRUNES)
    await process.look()
    pruning = (await process.rollouts())[0]
    reconciler = process.parts.reconciler
    with pytest.raises(Conflict, match=f"reconciler cancel {pruning.id} --deployment us"):
        await reconciler.forget("production", "us", reason="", requested_by="ada")
    await reconciler.request(pruning.id, "cancel", deployment="us", requested_by="ada")
    await process.look()
    (why,) = (await told(process)).values()
    assert why is not None
    assert why.startswith("it is held: ")
    await reconciler.forget("production", "us", reason="", requested_by="ada")
    await process.look()
    assert (await told(process), len(await process.rollouts())) == ({}, 2)
    assert site.deployed("us") == ["one", "two"]


async def test_out_of_reach_is_left_alone(site: Site) -> None:
    """A server that is gone, or a commit that nobody has, stops no pass: it says so, and nothing is done."""
    site.environ["US_DSN"] = site.server.text()
    process = site.process()
    both = site.spec(deployments=("eu", "us"))["environments/production.yaml"]
    head, _, tail = both.rpartition("env: SHOP_DSN")
    site.repository.commit({**module(site), "environments/production.yaml": f"{head}env: US_DSN{tail}"})
    await process.look()
    process.work()
    assert await ended(process, (await process.rollouts())[0].id) == ["completed"] * 2
    await process.look()
    site.environ["US_DSN"] = "host=127.0.0.1 port=1"
    commit(site, "eu", more=PRUNES)
    await process.look()
    (why,) = (await told(process)).values()
    assert why is not None
    assert why.startswith("nothing is done to it: it cannot be read: ")
    del site.environ["US_DSN"]
    await process.look()
    (why,) = (await told(process)).values()
    assert why is not None
    assert "nothing is done to it: " in why
    assert "US_DSN" in why
    async with process.parts.control_connections.borrow(site.control, role="control") as connection:
        await connection.execute(
            "UPDATE reconciler_control.deployments_left SET declared_commit = %s", ["0" * 40]
        )
    await process.look()
    (why,) = (await told(process)).values()
    assert why is not None
    assert why.startswith("nothing is done to it: as commit 000000000000, the last one with it, has it: ")
    ready = next(row for row in (await process.environment()).conditions if row.type == "Ready")
    assert ready.status
