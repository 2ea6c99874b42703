"""Operations that end the process of whoever works on them, and failures that nothing helps: no hot loop."""

from typing import Any

import pytest

from reconciler.control.sql import one
from reconciler.events import StepFinished
from reconciler.postgres.connection import connect
from reconciler.rollout.status import EnvironmentStatus
from tests.plugins.site import Gate, Process, Site, holds

PASSES = 5
"""After a failure, passes that find it held."""


def stalled(environment: EnvironmentStatus) -> str:
    return "; ".join(row.message for row in environment.conditions if row.type == "Stalled" and row.status)


async def ended(process: Process, name: str = "production") -> list[str]:
    async def over() -> list[str] | None:
        states = await process.states(name)
        return states if not {"pending", "running", "retrying"} & set(states) else None

    found: list[str] = await holds(over, "the operations to end")
    return found


async def passes_hold(process: Process, site: Site) -> None:
    """However often is looked, nothing more is recorded, until a new commit."""
    rollouts = len(await process.rollouts())
    for _ in range(PASSES):
        await process.look()
        process.worker.wake()
    assert len(await process.rollouts()) == rollouts
    environment = await process.environment()
    assert all(deployment.held for deployment in environment.deployments)
    site.commit({"fine": "create table fine ();"})
    await process.look()
    process.worker.wake()
    assert await ended(process) == ["completed"]
    assert len(await process.rollouts()) == rollouts + 1


async def test_what_workers_die_of_fails(site: Site) -> None:
    """It fails without being tried again, says so and where, is held; what stood beside it is done."""
    process = site.process(crashes=3)
    site.commit({"fatal": "create table fatal ();"}, {**site.spec(), **site.spec("staging")})
    await process.look()
    async with await connect(site.control, role="test") as control:
        await control.execute(
            "UPDATE reconciler_control.operations SET state = 'running', started_at = clock_timestamp(), "
            "attempts = 1, lease_token = 0, crashes = 3, crashed_alone = environment = 'production'"
        )
    process.work()
    assert await ended(process) == ["failed"]
    assert await ended(process, "staging") == ["completed"]
    operation = (await process.rollouts())[0].operations[0]
    assert operation.attempts == 1
    assert operation.reason is not None
    assert "the worker died 3 times in a row while it was at " in operation.reason
    assert "died 3 times in a row" in stalled(await process.environment())
    steps = [event for event in process.told(StepFinished) if isinstance(event, StepFinished)]
    assert {step.environment for step in steps} == {"staging"}
    await passes_hold(process, site)


async def test_what_was_done_is_not_failed_for_what_stood_beside_it(site: Site) -> None:
    """Where only the note of its end is missing, workers may die more often: it is looked at again."""
    process = site.process(crashes=3)
    site.commit({"fine": "create table fine ();"}, site.spec())
    await process.look()
    async with await connect(site.control, role="test") as control:
        await control.execute(
            "UPDATE reconciler_control.operations SET state = 'running', started_at = clock_timestamp(), "
            "attempts = 1, lease_token = 0, crashes = 3, crashed_alone = TRUE"
        )
        await control.execute(
            "UPDATE reconciler_control.steps SET state = 'done', started_at = clock_timestamp(), "
            "finished_at = clock_timestamp()"
        )
    process.work()
    await ended(process)
    reason = (await process.rollouts())[0].operations[0].reason
    # It was looked at: the database that the steps say was made is not there.
    assert "died" not in (reason or "died")


async def test_what_fails_for_good_is_recorded_once(site: Site) -> None:
    """A script that fails, and a budget that is spent, are one rollout each, however many passes look."""
    process = site.process(attempts=2, lock_timeout=0.05)
    site.commit({"bad": "select 1 / 0;"}, site.spec())
    await process.look()
    process.work()
    assert await ended(process) == ["failed"]
    assert (await process.rollouts())[0].operations[0].attempts == 1
    await passes_hold(process, site)
    gate = Gate(site)
    site.commit({"fine": "create table fine ();", "gate": "create table gate ();"})
    await process.look()
    process.worker.wake()
    assert await ended(process) == ["completed"]
    await gate.close()
    before = len(await process.rollouts())
    site.commit(
        {"fine": "create table fine ();", "gate": "create table gate ();", "behind": "\n" + Gate.SCRIPT}
    )
    await process.look()
    process.worker.wake()
    assert await ended(process) == ["failed"]
    assert (await process.rollouts())[0].operations[0].attempts == 2
    for _ in range(PASSES):
        await process.look()
    assert len(await process.rollouts()) == before + 1
    await gate.open()


async def test_the_session_of_a_living_worker_costs_nothing(site: Site) -> None:
    """A worker whose session with the control database was ended goes on with what it had, uncounted."""
    process = site.process()
    site.commit({"gate": "create table gate ();"}, site.spec())
    await process.look()
    process.work()
    assert await ended(process) == ["completed"]
    gate = Gate(site)
    await gate.close()
    site.commit({"gate": "create table gate ();", "behind": Gate.SCRIPT})
    await process.look()
    process.worker.wake()
    await gate.until_waited_for()
    async with await connect(site.control, role="test") as control:
        await control.execute(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks AS l JOIN reconciler_control.workers AS w "
            "ON l.objid = w.number::oid AND l.classid = 1380206159 AND l.locktype = 'advisory' "
            "JOIN pg_database AS d ON d.oid = l.database AND d.datname = current_database()"
        )
        number = int((await process.rollouts())[0].operations[0].id)
        before = await one(control, "operation_state", id=number)
        assert before is not None

        async def resumed() -> bool:
            row = await one(control, "operation_state", id=number)
            return row is not None and row["lease_token"] not in (None, before["lease_token"])

        await holds(resumed, "the operation to be taken up again")
        await gate.open()
        assert await ended(process) == ["completed"]
        cursor = await control.execute(
            "SELECT attempts, crashes, crashed_with FROM reconciler_control.operations WHERE id = %s",
            [number],
        )
        assert await cursor.fetchone() == (1, 0, None)


async def test_an_error_that_nobody_thought_of_is_the_operations_own(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails that operation at once and for good; the worker and the other operations go on."""
    process = site.process()
    site.commit({"fine": "create table fine ();"}, {**site.spec(), **site.spec("staging")})
    await process.look()
    planner = process.parts.planner
    desired = planner.desired

    async def broken(view: Any, environment: str, **more: Any) -> Any:
        if environment == "production":
            raise RuntimeError("nobody thought of it")
        return await desired(view, environment, **more)

    monkeypatch.setattr(planner, "desired", broken)
    process.work()
    assert await ended(process) == ["failed"]
    assert await ended(process, "staging") == ["completed"]
    operation = (await process.rollouts())[0].operations[0]
    assert operation.attempts == 1
    assert "nobody thought of it" in str(operation.error)
    assert process.task is not None
    assert not process.task.done()
