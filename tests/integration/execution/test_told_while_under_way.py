"""What is told of changes while the message that holds them is under way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest

from reconciler.changes.script import Script
from reconciler.diff.model import ToRevert
from reconciler.execution import changes, pace, reverts
from reconciler.execution.session import DatabaseSession, Limits, open_session
from reconciler.postgres.connection import Connection, connect
from reconciler.state.desired import DesiredChange, TransactionMode
from reconciler.state.tracked import TrackedChange
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.record import Actor
from tests.plugins.control import until
from tests.plugins.postgres import Server
from tests.plugins.states import change, module

OWNER = FenceOwner(control_id="test", environment="production", deployment="eu", operation="1")
ACTOR = Actor(commit="c" * 40, operation="1", committer="test")
WAITING = """
    do $$ begin
        while not pg_try_advisory_xact_lock(1) loop perform pg_sleep(0.02); end loop;
    end $$;
"""
NAMES = [f"q{number}" for number in range(20)]
SLOW = 10
"""In the middle of a message: 1, 2 and 4 changes are sent before, then 8."""


@pytest.fixture
async def session(postgres_server: Server, fresh_database: str) -> AsyncIterator[DatabaseSession]:
    opened = await open_session(
        postgres_server.dsn, fresh_database, OWNER, limits=Limits(), install_tracking=True
    )
    yield opened
    await opened.abandon()


@pytest.fixture
async def other(postgres_server: Server, fresh_database: str) -> AsyncIterator[Connection]:
    connection = await connect(postgres_server.dsn, database=fresh_database, role="test")
    yield connection
    await connection.close()


@pytest.fixture(autouse=True)
def always_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """However loaded the machine is, messages grow."""
    monkeypatch.setattr(pace, "QUICK_S", 600.0)


async def go_on() -> None:
    """Nobody asks to stop."""


async def settled(task: "asyncio.Task[None]", found: Callable[[], bool]) -> None:
    async def so() -> bool:
        return found() or task.done()

    await until(so, deadline_s=60)


async def test_deployed_changes_are_told_before_the_one_that_takes_its_time(
    session: DatabaseSession, other: Connection
) -> None:
    """While a script in the middle of a message runs, those before it are done and no other is."""
    told: list[str] = []

    async def done(one: DesiredChange) -> None:
        told.append(one.name)

    wanted = [change(name) for name in NAMES]
    wanted[SLOW] = change(NAMES[SLOW], text=WAITING)
    await other.execute("select pg_advisory_lock(1)")
    progress = changes.Progress(done=done, safe_point=go_on)
    task = asyncio.create_task(changes.deploy(session, module(*wanted), wanted, ACTOR, progress))
    await settled(task, lambda: len(told) >= SLOW)
    assert told == NAMES[:SLOW]
    await other.execute("select pg_advisory_unlock(1)")
    await task
    assert told == NAMES


async def test_reverted_changes_are_told_before_the_one_that_takes_its_time(
    session: DatabaseSession, other: Connection
) -> None:
    """While a revert script in the middle of a message runs, those before it are done and no other is."""
    wanted = [change(name) for name in NAMES]

    async def deployed(_one: DesiredChange) -> None: ...

    progress = changes.Progress(done=deployed, safe_point=go_on)
    await changes.deploy(session, module(*wanted), wanted, ACTOR, progress)
    left = [_back(one, WAITING if number == SLOW else "") for number, one in enumerate(wanted)]
    told = 0

    async def done() -> None:
        nonlocal told
        told += 1

    await other.execute("select pg_advisory_lock(1)")
    steps = reverts.Steps(done=done, safe_point=go_on)
    task = asyncio.create_task(reverts.revert(session, left, ACTOR, steps))
    await settled(task, lambda: told >= SLOW)
    assert told == SLOW
    await other.execute("select pg_advisory_unlock(1)")
    await task
    assert told == len(NAMES)


async def test_of_one_transaction_the_script_that_runs_is_named(
    session: DatabaseSession, other: Connection
) -> None:
    """Deploy or revert: the one that takes its time, and nothing is done before all is."""
    seen: list[str] = []
    wanted = [change(name) for name in NAMES]
    wanted[SLOW] = change(NAMES[SLOW], text="select 1;")
    wanted[SLOW] = replace(wanted[SLOW], verify=Script("modules/shop/verify/slow.sql", WAITING))

    async def done(_one: DesiredChange) -> None:
        seen.append("done")

    async def begun(one: DesiredChange) -> None:
        seen.append(one.name)

    progress = changes.Progress(done=done, safe_point=go_on, begun=begun)
    together = module(*wanted, transaction=TransactionMode.MODULE)
    await other.execute("select pg_advisory_lock(1)")
    task = asyncio.create_task(changes.deploy(session, together, wanted, ACTOR, progress))
    await settled(task, lambda: NAMES[SLOW] in seen)
    assert set(seen) == {NAMES[SLOW]}
    await other.execute("select pg_advisory_unlock(1)")
    await task
    assert seen[-len(NAMES) :] == ["done"] * len(NAMES)

    numbers: list[int] = []

    async def back() -> None: ...

    async def at(number: int) -> None:
        numbers.append(number)

    left = [_back(one, WAITING if number == SLOW else "") for number, one in enumerate(wanted)]
    await other.execute("select pg_advisory_lock(1)")
    steps = reverts.Steps(done=back, safe_point=go_on, begun=at)
    task = asyncio.create_task(reverts.revert(session, left, ACTOR, steps, together={"shop"}))
    await settled(task, lambda: bool(numbers))
    assert set(numbers) == {SLOW}
    await other.execute("select pg_advisory_unlock(1)")
    await task


def _back(one: DesiredChange, text: str) -> ToRevert:
    row = TrackedChange(change_id=one.change_id, name=one.name, script_hash=None, parse_hash=None, position=1)
    script = Script(f"modules/shop/revert/{one.name}.sql", text or f"drop table {one.name};")
    return ToRevert(component="shop-schema", project="shop", change=row, script=script, stored=False)
