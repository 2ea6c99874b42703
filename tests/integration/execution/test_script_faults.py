"""Scripts that would get in our way: none of them ends our transaction, takes our lock or makes us forget."""

import asyncio
from collections.abc import AsyncIterator

import psycopg
import pytest

from reconciler.errors import FenceBusy, StepFailed
from reconciler.execution import changes
from reconciler.execution.changes import Progress
from reconciler.execution.scripts import ScriptFault, explain
from reconciler.execution.session import DatabaseSession, Limits, open_session
from reconciler.postgres.connection import Dsn, connect
from reconciler.state.desired import DesiredChange
from reconciler.state.program import Purpose, compile_script
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.read import read_tracked
from reconciler.tracking.record import Actor, ModuleIdentity
from tests.plugins.postgres import Server
from tests.plugins.states import change, module

OWNER = FenceOwner(control_id="test", environment="production", deployment="eu", operation="1")
OTHER = FenceOwner(control_id="other", environment="other", deployment="eu", operation="1")
ACTOR = Actor(commit="c" * 40, operation="1", committer="test")


async def nothing(_change: DesiredChange) -> None:
    """Nobody is told."""


async def go_on() -> None:
    """Nobody asks to stop."""


@pytest.fixture
async def session(postgres_server: Server, fresh_database: str) -> AsyncIterator[DatabaseSession]:
    limits = Limits(lock_timeout_s=0.3, lock_attempts=2, statement_timeout_s=20)
    opened = await open_session(
        postgres_server.dsn, fresh_database, OWNER, limits=limits, install_tracking=True
    )
    yield opened
    await opened.abandon()


async def deploy(session: DatabaseSession, text: str) -> None:
    wanted = change("a", text=text)
    progress = Progress(done=nothing, safe_point=go_on)
    await changes.deploy(session, module(wanted), [wanted], ACTOR, progress)


async def left(session: DatabaseSession) -> tuple[list[str], bool]:
    """Which changes are recorded, and whether table `t` is there."""
    tracked = (await read_tracked(session.holder)).modules.get("shop")
    cursor = await session.holder.execute("select to_regclass('public.t') is not null")
    row = await cursor.fetchone()
    assert row is not None
    return ([each.name for each in tracked.changes] if tracked else [], row[0])


@pytest.mark.parametrize(
    "text",
    [
        "create table t (); drop schema reconciler cascade",
        "create table t (); drop owned by reconciler_tracking cascade",
        "create table t (); drop table reconciler.changes cascade",
        "create table t (); do $$ begin execute 'drop schema reconciler cascade'; end $$",
    ],
)
async def test_script_that_drops_the_tracking_schema_is_taken_back(
    session: DatabaseSession, text: str
) -> None:
    """Its record cannot be written, so nothing of it stays, and the message says what to look for."""
    with pytest.raises(StepFailed, match="the tracking schema 'reconciler' is missing") as caught:
        await deploy(session, text)
    assert "DROP SCHEMA, DROP TABLE or DROP OWNED" in (caught.value.hint or "")
    assert await left(session) == ([], False)


@pytest.mark.parametrize(
    "text",
    [
        "create table t (); do $$ begin commit; end $$",
        "create table t (); create procedure p() language plpgsql as $$ begin rollback; end $$; call p()",
    ],
)
async def test_script_cannot_end_our_transaction(session: DatabaseSession, text: str) -> None:
    """The server refuses it inside of ours; the hint says how such a script is run."""
    with pytest.raises(StepFailed, match="invalid transaction termination") as caught:
        await deploy(session, text)
    assert "-- transaction: none" in (caught.value.hint or "")
    assert await left(session) == ([], False)


@pytest.mark.parametrize(
    "text", ["select pg_advisory_unlock_all()", "discard temp", "select pg_advisory_unlock(1380206158, 1)"]
)
async def test_script_cannot_give_our_lock_away(
    session: DatabaseSession, postgres_server: Server, fresh_database: str, text: str
) -> None:
    """The lock of the fence is another session's: nobody else gets in, and the change is recorded."""
    await deploy(session, f"create table t (); {text}")
    with pytest.raises(FenceBusy):
        await open_session(
            postgres_server.dsn,
            fresh_database,
            OTHER,
            limits=Limits(fence_wait_s=0.2),
            install_tracking=False,
        )
    assert await left(session) == (["a"], True)


async def test_script_that_ends_our_other_connection_is_not_recorded(session: DatabaseSession) -> None:
    """Who writes without the lock of the fence ends with an error that is tried again."""
    pid = session.holder.info.backend_pid
    await deploy(session, f"create table t (); select pg_terminate_backend({pid})")
    with pytest.raises(Exception, match="connection"):
        await session.finish()


async def test_script_that_never_ends_runs_into_the_limit(session: DatabaseSession) -> None:
    """`statement_timeout` of the settings ends it, with its place; it is not tried again by itself."""
    session.limits = Limits(lock_timeout_s=0.3, statement_timeout_s=0.3)
    with pytest.raises(StepFailed, match="statement timeout") as caught:
        await deploy(session, "create table t ();\nselect pg_sleep(3600)")
    assert (caught.value.line, caught.value.sqlstate) == (2, "57014")
    assert await left(session) == ([], False)


class Asked(Exception):
    """Somebody asked to break off."""


@pytest.mark.parametrize("text", ["select pg_sleep(3600)", "do $$ begin loop end loop; end $$"])
async def test_script_that_never_ends_is_broken_off(
    session: DatabaseSession, database_dsn: Dsn, text: str
) -> None:
    """Whoever cancels need not wait for it: the server ends it, and nothing of it stays."""
    asked = asyncio.Event()

    def urgent() -> None:
        if asked.is_set():
            raise Asked

    session.urgent = urgent
    running = asyncio.create_task(deploy(session, f"create table t (); {text}"))
    watcher = await connect(database_dsn, role="watcher")
    query = "select from pg_stat_activity where pid = %s and state = 'active' and query ~ 'pg_sleep|loop'"
    async with asyncio.timeout(20):
        while True:
            cursor = await watcher.execute(query, [session.writer_backend])
            if await cursor.fetchone() is not None:
                break
            await asyncio.sleep(0.02)
    await watcher.close()
    asked.set()
    with pytest.raises(Asked):
        await running
    assert await left(session) == ([], False)
    assert session.writer_is_idle
    await deploy(session, "create table t ()")
    assert await left(session) == (["a"], True)


async def test_script_for_which_the_server_ends_the_connection_is_told_at_its_place(
    session: DatabaseSession,
) -> None:
    """A limit that the server has on transactions is no lost connection: it is final, and it is recorded."""
    wanted = change("a", text="select 1;\nselect pg_sleep(3600);")
    program = compile_script(wanted.deploy, purpose=Purpose.DEPLOY)
    identity = ModuleIdentity(project="shop", component="shop-schema")
    await session.writer.close()
    fault = ScriptFault(wanted, program, 1, psycopg.errors.TransactionTimeout("terminating connection"))
    told = await explain(session, identity, wanted, fault, ACTOR)
    assert isinstance(told, StepFailed)
    assert (told.file, told.line, told.sqlstate) == ("modules/shop/deploy/a.sql", 2, "25P04")
    cursor = await session.holder.execute("select sqlstate, line from reconciler.events")
    assert await cursor.fetchall() == [("25P04", 2)]
