"""One short script is run in the session that keeps the fence, and leaves to it what two sessions would."""

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from reconciler.catalog.fingerprint import fingerprint
from reconciler.changes.script import Script
from reconciler.errors import LeaseLost, LockNotAcquired, StepFailed
from reconciler.execution import changes
from reconciler.execution.changes import Progress
from reconciler.execution.session import DatabaseSession, Limits, open_session
from reconciler.postgres.connection import Dsn, connect
from reconciler.snapshot.catalog import read_catalog
from reconciler.state.desired import DesiredChange
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.read import read_base_line_objects, read_log, read_tracked
from reconciler.tracking.record import Actor
from tests.plugins.postgres import Server
from tests.plugins.states import change, module

OWNER = FenceOwner(control_id="test", environment="production", deployment="eu", operation="1")
ACTOR = Actor(commit="c" * 40, operation="1", committer="test")
LIMITS = Limits(lock_timeout_s=0.3, lock_attempts=2, fence_wait_s=5)
HOLDS_THE_FENCE = """
create table a as
select
    pg_backend_pid() as pid, current_setting('application_name') as application,
    current_setting('search_path') as path, count(*) as sessions,
    exists (
        select from pg_locks as l
        where l.locktype = 'advisory' and l.classid = 1380206158 and l.objid = 1 and l.pid = pg_backend_pid()
    ) as holds
from pg_stat_activity
where datname = current_database() and application_name like 'reconciler/%';
"""
LEAVES_MUCH = """
create table a ();
create role {role} nologin;
create temp table pg_class (oid oid, relname name);
create temp table pg_namespace (oid oid, nspname name);
set search_path = pg_temp, public;
set session_replication_role = replica;
set default_transaction_read_only = on;
set client_encoding = 'LATIN1';
set role {role};
listen nothing;
do $$ begin execute 'deall' || 'ocate all'; end $$;
"""


async def go_on() -> None:
    """Nobody asks to stop."""


async def nothing(_change: DesiredChange) -> None:
    """Nobody is told."""


async def deploy(session: DatabaseSession, one: DesiredChange) -> None:
    await changes.deploy(session, module(one), [one], ACTOR, Progress(done=nothing, safe_point=go_on))


@pytest.fixture
async def session(postgres_server: Server, fresh_database: str) -> AsyncIterator[DatabaseSession]:
    opened = await open_session(
        postgres_server.dsn, fresh_database, OWNER, limits=LIMITS, install_tracking=True, is_one=True
    )
    # As where the plan was made over this connection.
    await opened._read_whole()
    yield opened
    await opened.abandon()


async def test_the_session_with_the_fence_runs_the_script(
    session: DatabaseSession, database_dsn: Dsn
) -> None:
    """There is one session, which has the fence's lock meanwhile, the settings of its role and a name."""
    named = "select 1 / (current_setting('application_name') = 'reconciler/writer')::int"
    verify = Script("modules/shop/verify/a.sql", named)
    await deploy(session, replace(change("a", text=HOLDS_THE_FENCE), verify=verify))
    cursor = await session.holder.execute("select pid, application, path, sessions, holds from public.a")
    pid = session.holder.info.backend_pid
    assert await cursor.fetchone() == (pid, "reconciler/writer", '"$user", public', 1, True)
    await session.finish()
    other = await connect(database_dsn, role="other")
    try:
        tracked = await read_tracked(other)
        assert tracked.base_line is not None
        assert (tracked.base_line.moving, tracked.busy) == (False, False)
    finally:
        await other.close()


async def test_nothing_that_a_script_leaves_is_met_by_what_we_read(
    session: DatabaseSession, database_dsn: Dsn
) -> None:
    """Tables before the server's, role, encoding, forgotten statements: the base line is the catalog's."""
    role = f"leaves_{session.writer.info.backend_pid}"
    await deploy(session, change("a", text=LEAVES_MUCH.format(role=role)))
    await session.finish()
    other = await connect(database_dsn, role="other")
    try:
        stored, live = await read_base_line_objects(other), await read_catalog(other)
        assert stored == live.objects
        assert stored["table public.a"].fingerprint == fingerprint(stored["table public.a"].definition)
    finally:
        await other.execute(f'drop owned by "{role}"; drop role "{role}"'.encode())
        await other.close()


async def test_blocker_is_seen_from_beside(session: DatabaseSession, database_dsn: Dsn) -> None:
    """The session that waits cannot look who blocks it: another does, and is closed at the end."""
    await deploy(session, change("a"))
    blocker = await connect(database_dsn, role="blocker", autocommit=False)
    try:
        await blocker.execute("lock table public.a in access share mode")
        with pytest.raises(LockNotAcquired) as caught:
            await deploy(session, change("b", text="alter table public.a add column x int"))
        assert f"pid {blocker.info.backend_pid} (reconciler/blocker" in str(caught.value)
        assert session.observer is not None
        await session.finish()
        assert session.observer.closed
    finally:
        await blocker.close()


async def test_nobody_looks_on_where_no_connection_is_left(session: DatabaseSession) -> None:
    """Who blocks a change is good to know and no reason to fail: without another session it stays unknown."""
    session.dsn = Dsn("host=127.0.0.1 port=1 user=nobody")
    assert await session.blockers() is None
    await deploy(session, change("a"))
    await session.finish()


async def test_failing_script_is_recorded_and_settled(session: DatabaseSession, database_dsn: Dsn) -> None:
    """What failed is taken back and told, by the session that ran it; the base line stands still after it."""
    with pytest.raises(StepFailed) as caught:
        await deploy(session, change("a", text="create table a ();\nset role postgres;\nselect nosuch"))
    assert (caught.value.line, caught.value.sqlstate) == (3, "42703")
    assert [(row.kind, row.name) for row in await read_log(session.holder)] == [("fail", "a")]
    await session.finish()
    other = await connect(database_dsn, role="other")
    try:
        tracked = await read_tracked(other)
        assert tracked.base_line is not None
        assert not tracked.base_line.moving
        assert "table public.a" not in await read_base_line_objects(other)
    finally:
        await other.close()


async def test_lost_fence_stops_the_only_session(session: DatabaseSession, database_dsn: Dsn) -> None:
    """A successor raised the epoch: nothing is written by us any more."""
    thief = await connect(database_dsn, role="thief")
    try:
        await thief.execute("update reconciler.fence set epoch = epoch + 1")
        with pytest.raises(LeaseLost):
            await deploy(session, change("a"))
        cursor = await thief.execute("select to_regclass('public.a') is null")
        assert await cursor.fetchone() == (True,)
    finally:
        await thief.close()
