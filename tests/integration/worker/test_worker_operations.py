"""Workers on real databases, without a daemon around them: what becomes of an operation, whatever happens."""

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from reconciler.control import workers
from reconciler.control.install import install
from reconciler.errors import Refused
from reconciler.events import LeaseLost
from reconciler.postgres.connection import Dsn, connect
from reconciler.rollout.status import EnvironmentStatus
from reconciler.worker.attempt import Attempt
from tests.plugins.postgres import OwnServer
from tests.plugins.site import Gate, Process, Site, holds

GATED = {"gate": "create table gate ();", "behind": Gate.SCRIPT, "last": "create table last ();"}


async def ended(process: Process, name: str = "production") -> list[str]:
    """States of the newest rollout's operations, once none of them is at work."""

    async def all_ended() -> list[str] | None:
        states = await process.states(name)
        return states if not {"pending", "running", "retrying"} & set(states) else None

    found: list[str] = await holds(all_ended, "the operations to end")
    return found


def said(environment: EnvironmentStatus) -> str:
    """What its conditions say that is not well."""
    return "; ".join(row.message for row in environment.conditions if row.type == "Stalled" and row.status)


async def heard(process: Process) -> None:
    """Wait until the operation under way knows what is asked of it."""
    process.worker.wake()

    async def asked() -> bool:
        return all(running.asked is not None for running in process.worker._running)

    await holds(asked, "the operation to hear what is asked")


async def up_to_the_gate(site: Site, process: Process) -> Gate:
    """Deploy the first change, then record the rest and let a worker run into the closed gate."""
    site.commit({"gate": GATED["gate"]}, site.spec())
    await process.look()
    process.work()
    assert await ended(process) == ["completed"]
    gate = Gate(site)
    await gate.close()
    site.commit(GATED)
    await process.look()
    process.worker.wake()
    await gate.until_waited_for()
    return gate


async def test_spent_budget_fails_with_everything_said(site: Site) -> None:
    """Failures that may pass are tried so often and no more; then what, where, why and what next are told."""
    process = site.process(attempts=2, lock_timeout=0.05)
    site.commit({"gate": GATED["gate"]}, site.spec())
    await process.look()
    process.work()
    await ended(process)
    gate = Gate(site)
    await gate.close()
    site.commit({**GATED, "behind": "\n" + Gate.SCRIPT})
    await process.look()
    process.worker.wake()
    assert await ended(process) == ["failed"]
    operation = (await process.rollouts())[0].operations[0]
    assert operation.attempts == 2
    assert operation.error is not None
    assert operation.error["what"] == "deploy-change change behind"
    assert "behind" in operation.error["where"]
    assert "blocked by pid" in operation.error["why"]
    assert "budget of 2 attempts is spent" in operation.error["next"]
    assert site.deployed() == ["gate"]
    await gate.open()


@pytest.mark.parametrize(("verb", "state"), [("cancel", "cancelled"), ("stop", "stopped")])
async def test_operator_ends_it_at_a_safe_point(site: Site, verb: str, state: str) -> None:
    """The change under way is finished and recorded, and the one after it is not begun."""
    process = site.process()
    gate = await up_to_the_gate(site, process)
    rollout = (await process.rollouts())[0].id
    await process.parts.reconciler.request(rollout, verb, deployment=None, requested_by="ada")
    await heard(process)
    await gate.open()
    assert await ended(process) == [state]
    assert site.deployed() == ["gate", "behind"]


async def test_newer_commit_takes_over_at_a_safe_point(site: Site) -> None:
    """The older rollout ends as superseded where it stands, and the newer one goes on from there."""
    process = site.process()
    gate = await up_to_the_gate(site, process)
    newest = site.commit({**GATED, "newest": "create table newest ();"})
    await process.look()
    await heard(process)
    await gate.open()
    assert await ended(process) == ["completed"]
    older = (await process.rollouts())[1]
    assert [operation.state.value for operation in older.operations] == ["superseded"]
    assert site.deployed() == [*GATED, "newest"]
    assert (await process.rollouts())[0].commit == newest


async def test_worker_that_lost_its_claim_writes_nothing_more(site: Site) -> None:
    """Who took the operation over ends the backends of the one before, and every change is applied once."""
    one, two = site.process("one"), site.process("two")
    gate = await up_to_the_gate(site, one)
    await site.control_rows(
        "update reconciler_control.operations set worker = null, "
        "lease_token = nextval('reconciler_control.lease_tokens') where state = 'running'"
    )

    async def lost() -> bool:
        return all(running.lost for running in one.worker._running)

    await holds(lost, "the first worker to see that its claim is gone")
    one.worker._stopping.set()  # it takes nothing new
    two.work()

    async def taken_over() -> bool:
        return bool(one.told(LeaseLost))

    await holds(taken_over, "the first worker to be told")
    await gate.open()
    assert await ended(two) == ["completed"]
    assert site.deployed() == list(GATED)
    assert Counter(site.rows("select name from reconciler.events where kind = 'deploy'")) == {
        (name,): 1 for name in GATED
    }


async def test_stop_hands_back_what_reaches_no_safe_point(site: Site) -> None:
    """After the grace a change under way is taken back, and another worker does it."""
    one, two = site.process("one", stop_grace=0.2), site.process("two")
    gate = await up_to_the_gate(site, one)
    await one.stop()
    assert one.worker.busy == 0
    assert await site.control_rows(
        "select state::text, worker from reconciler_control.operations order by id desc limit 1"
    ) == [("running", None)]
    assert site.deployed() == ["gate"]
    await gate.open()
    two.work()
    assert await ended(two) == ["completed"]
    assert site.deployed() == list(GATED)


async def test_base_line_that_could_not_be_settled_is_settled_by_the_next_attempt(site: Site) -> None:
    """All changes are done and the session is lost before the end: tried again, no false success, no loss."""
    process = site.process()
    gate = await up_to_the_gate(site, process)
    site.rows(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = 'reconciler/fence' and datname = current_database()"
    )
    await gate.open()
    assert await ended(process) == ["completed"]
    assert site.deployed() == list(GATED)
    assert site.rows("select moving from reconciler.base_line") == [(False,)]
    assert (await process.rollouts())[0].operations[0].attempts == 2
    await process.look()
    assert (await process.environment()).deployments[0].pending == 0


@pytest.mark.parametrize(
    ("policy", "states"),
    [
        ("order: rolling, onFailure: halt", ["completed", "failed", "cancelled"]),
        ("order: rolling, onFailure: continue", ["completed", "failed", "completed"]),
        ("order: parallel, onFailure: continue, maxParallel: 3", ["completed", "failed", "completed"]),
    ],
)
async def test_one_broken_deployment(site: Site, policy: str, states: list[str]) -> None:
    """What is done about the others is what the policy says."""
    process = site.process()
    site.server.create_database(site.database("two"))
    site.rows("create table broken ()", "two")
    more = f"  rollout: {{{policy}}}\n"
    site.commit(
        {"broken": "create table broken ();"}, site.spec(deployments=("one", "two", "three"), more=more)
    )
    await process.look()
    process.work()
    assert await ended(process) == states
    for deployment, state in zip(("one", "two", "three"), states, strict=True):
        if state == "completed":
            assert site.deployed(deployment) == ["broken"]


async def test_two_workers_share_without_doing_anything_twice(site: Site) -> None:
    """Ten environments, two workers: each operation is claimed once, each change is applied once."""
    names = [f"env-{number}" for number in range(10)]
    files = {path: text for name in names for path, text in site.spec(name).items()}
    site.commit({"a": "create table a ();", "b": "create table b ();"}, files)
    one, two = site.process("one"), site.process("two")
    await one.look()
    one.work()
    two.work()
    for name in names:
        assert await ended(one, name) == ["completed"]
        assert site.deployed(name=name) == ["a", "b"]
    claimed = await site.control_rows(
        "select operation, count(*) from reconciler_control.events "
        "where kind = 'operation.claimed' group by operation"
    )
    assert [count for _operation, count in claimed] == [1] * 10


async def test_blocked_part_is_no_success_of_the_commit(site: Site) -> None:
    """What may be done is done, and the commit does not count as applied."""
    process = site.process()
    first = site.commit({"a": "create table a ();", "b": "create table b ();"}, site.spec())
    await process.look()
    process.work()
    await ended(process)
    await process.look()
    extra = site.spec()["environments/production.yaml"] + (
        "    - {name: extra, kind: Module, database: {from: shop-db}, path: modules/extra}\n"
    )
    site.commit(
        {"b": "create table b ();"},
        {
            "environments/production.yaml": extra,
            **site.repository.module({"x": "create table x ();"}, name="extra"),
        },
    )
    await process.look()
    process.worker.wake()
    assert await ended(process) == ["completed"]
    assert site.rows("select count(*) from x") == [(0,)]
    await process.look()
    found = await process.environment()
    assert found.applied_commit == first
    assert "diverge" in said(found)


async def test_database_that_is_gone_is_not_made_anew_without_consent(site: Site) -> None:
    """Dropped by hand after it was managed, it is reported; only a person who agrees gets an empty one."""
    process = site.process()
    site.commit({"a": "create table a ();"}, site.spec())
    await process.look()
    process.work()
    await ended(process)
    site.server.drop_database(site.database())
    await process.look()
    found = await process.environment()
    assert "RECREATES_DATABASE" in said(found)
    assert len(await process.rollouts()) == 1
    reconciler = process.parts.reconciler
    with pytest.raises(Refused, match="RECREATES_DATABASE"):
        await reconciler.apply("production", reason="again", requested_by="ada")
    await reconciler.apply(
        "production", reason="again", requested_by="ada", allow_hazards=frozenset({"RECREATES_DATABASE"})
    )
    process.worker.wake()
    assert await ended(process) == ["completed"]
    assert site.deployed() == ["a"]


async def test_extension_dropped_by_hand_stays_drift_after_the_next_rollout(site: Site) -> None:
    """Planning after a rollout is empty, and what a person dropped is still said to be gone."""
    process = site.process()
    spec = {
        path: text.replace("_${deployment}'}", "_${deployment}', extensions: [citext]}")
        for path, text in site.spec().items()
    }
    site.commit({"a": "create table a ();"}, spec)
    await process.look()
    process.work()
    await ended(process)
    site.rows("drop extension citext")
    site.commit({"a": "create table a ();", "b": "create table b ();"})
    await process.look()
    process.worker.wake()
    assert await ended(process) == ["completed"]
    plan = await process.parts.reconciler.preview("production")
    assert plan.in_sync
    assert [row.identity for row in plan.deployments[0].drift] == ["extension citext"]


async def test_approval_is_waited_for_and_apply_by_hand_goes_round_it(site: Site) -> None:
    """With `mode: approve` nobody works on it, and no pass records it twice; a person's own apply is done."""
    process = site.process()
    site.commit({"a": "create table a ();"}, site.spec(more="  policy: {mode: approve}\n"))
    await process.look()
    await process.look()
    process.work()
    process.worker.wake()
    assert await process.states() == ["waiting_for_approval"]
    assert len(await process.rollouts()) == 1
    assert (await process.environment()).deployments[0].state is not None
    await process.parts.reconciler.apply("production", reason="agreed", requested_by="ada")
    process.worker.wake()
    assert await ended(process) == ["completed"]
    older = (await process.rollouts())[1].operations[0]
    assert older.state.value == "superseded"
    assert site.deployed() == ["a"]


def processes_of(server: OwnServer) -> list[int]:
    """The server's process and its children."""
    assert server.process is not None
    pid = server.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(int(child) for child in children)]


async def test_nothing_is_started_under_a_control_database_that_hangs(
    site: Site, private_postgres: OwnServer
) -> None:
    """It accepts and never answers: after a lease nothing more starts; when it goes on, so do we."""
    site.control = Dsn(private_postgres.text())
    connection = await connect(site.control, role="test")
    await install(connection)
    await connection.close()
    process = site.process(lease=1, heartbeat=0.2)
    gate = await up_to_the_gate(site, process)
    running = next(iter(process.worker._running))
    stopped = processes_of(private_postgres)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:

        async def over() -> bool:
            return not running.lease.good

        await holds(over, "the lease to be over")
        await gate.open()

        async def done() -> bool:
            return await asyncio.to_thread(site.deployed) == ["gate", "behind"]

        await holds(done, "the change under way to be done")
        assert running.task is not None
        await holds(lambda: _is_done(running.task), "the operation to be left")
        assert site.deployed() == ["gate", "behind"]
    finally:
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
    assert await ended(process) == ["completed"]
    assert site.deployed() == list(GATED)
    assert process.task is not None
    assert not process.task.done()


async def _is_done(task: "asyncio.Task[None] | None") -> bool:
    return task is not None and task.done()


async def test_none_is_forgotten_that_ends_unrecorded_while_others_are_given_back(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a worker that is alive would keep it for ever, and nobody would work on it."""
    process = site.process()
    site.commit({"a": "create table a ();"}, {**site.spec("one"), **site.spec("two")})
    await process.look()
    left, giving_back, lost = {"one", "two"}, asyncio.Event(), asyncio.Event()
    run, release = Attempt.run, workers.release_strays

    async def lost_at_first(attempt: Attempt) -> bool:
        name = attempt._claim.environment
        if name not in left:
            return await run(attempt)
        left.discard(name)
        if name == "two":
            await giving_back.wait()
            lost.set()
        return False

    async def slow(*given: Any) -> None:
        await release(*given)
        giving_back.set()
        await lost.wait()
        for _ in range(20):
            await asyncio.sleep(0)

    monkeypatch.setattr(Attempt, "run", lost_at_first)
    monkeypatch.setattr(workers, "release_strays", slow)
    process.work()
    assert await ended(process, "one") == await ended(process, "two") == ["completed"]
