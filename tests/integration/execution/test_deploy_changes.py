"""Deploying changes to a real database: script, verify and record in one transaction."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import psycopg
import pytest
from psycopg import conninfo

from reconciler.changes.script import Script
from reconciler.errors import LeaseLost, LockNotAcquired, Refused, StepFailed
from reconciler.execution import changes
from reconciler.execution.changes import Progress
from reconciler.execution.session import DatabaseSession, Limits, open_session
from reconciler.postgres.connection import Dsn, connect
from reconciler.state.desired import DesiredChange, DesiredModule, TransactionMode
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.read import read_log, read_tracked
from reconciler.tracking.record import Actor
from tests.plugins.postgres import Server
from tests.plugins.states import change, module, sha

OWNER = FenceOwner(control_id="test", environment="production", deployment="eu", operation="1")
ACTOR = Actor(commit="c" * 40, operation="1", committer="test")
LIMITS = Limits(lock_timeout_s=0.3, lock_attempts=2, fence_wait_s=5)


async def nothing(_change: DesiredChange) -> None:
    """Nobody is told."""


async def go_on() -> None:
    """Nobody asks to stop."""


def quiet() -> Progress:
    return Progress(done=nothing, safe_point=go_on)


@pytest.fixture
async def session(postgres_server: Server, fresh_database: str) -> AsyncIterator[DatabaseSession]:
    opened = await open_session(
        postgres_server.dsn, fresh_database, OWNER, limits=LIMITS, install_tracking=True
    )
    yield opened
    await opened.abandon()


def with_verify(one: DesiredChange, text: str) -> DesiredChange:
    return DesiredChange(
        **{
            **{name: getattr(one, name) for name in DesiredChange.__slots__},
            "verify": Script(f"modules/shop/verify/{one.name}.sql", text),
        }
    )


def scripted(name: str, text: str) -> DesiredChange:
    one = change(name, text=text)
    assert one.script_hash == sha(text)
    return one


async def deploy(session: DatabaseSession, wanted: DesiredModule, only: Sequence[DesiredChange] = ()) -> None:
    await changes.deploy(session, wanted, only or wanted.changes, ACTOR, quiet())


async def deployed(session: DatabaseSession) -> list[str]:
    tracked = await read_tracked(session.holder)
    found = tracked.modules.get("shop")
    return [row.name for row in found.changes] if found else []


async def tables(session: DatabaseSession) -> list[str]:
    cursor = await session.holder.execute(
        "select relname from pg_class where relnamespace = 'public'::regnamespace order by 1"
    )
    return [row[0] for row in await cursor.fetchall()]


async def test_changes_are_applied_and_recorded_in_order(session: DatabaseSession) -> None:
    """Each change is there, and so is its record."""
    await deploy(session, module(change("a"), change("b")))
    assert await deployed(session) == ["a", "b"]
    assert await tables(session) == ["a", "b"]


async def test_failing_script_leaves_nothing_and_says_where(session: DatabaseSession) -> None:
    """File, line and SQLSTATE are named; the change before stays, the failed one leaves only its event."""
    broken = scripted("b", "create table b();\n\nselect nosuch\nfrom b;")
    with pytest.raises(StepFailed) as caught:
        await deploy(session, module(change("a"), broken))
    assert (caught.value.file, caught.value.line) == ("modules/shop/deploy/b.sql", 3)
    assert caught.value.sqlstate == "42703"
    assert 'column "nosuch" does not exist' in str(caught.value)
    assert await deployed(session) == ["a"]
    assert await tables(session) == ["a"]
    log = await read_log(session.holder)
    assert [(row.kind, row.name) for row in log] == [("fail", "b"), ("deploy", "a")]


AT_COMMIT = """create table b (a int unique deferrable initially deferred);
insert into b values (1), (1);"""


@pytest.mark.parametrize("mode", list(TransactionMode))
@pytest.mark.parametrize(
    ("broken", "place"),
    [
        (change("b", text="create table b ();\nselect nosuch;"), ("modules/shop/deploy/b.sql", 2)),
        (with_verify(change("b"), "\n\nselect 1/0;"), ("modules/shop/verify/b.sql", 3)),
        (change("b", text=AT_COMMIT), (None, None)),
    ],
    ids=["script", "verify", "commit"],
)
async def test_failure_among_many_quick_changes(
    session: DatabaseSession,
    broken: DesiredChange,
    place: tuple[str | None, int | None],
    mode: TransactionMode,
) -> None:
    """However many are sent at once, it is named with its place; those before it stay where each is apart."""
    before = [change(f"a{number}") for number in range(30)]
    after = [change(f"c{number}") for number in range(30)]
    with pytest.raises(StepFailed) as caught:
        await deploy(session, module(*before, broken, *after, transaction=mode))
    known = mode is TransactionMode.CHANGE or place[0] is not None
    said = "deploying change 'b'" if known else "ending the transaction of all changes up to 'c29'"
    assert str(caught.value).startswith(f"{said} of module 'shop'")
    assert (caught.value.file, caught.value.line) == place
    left = sorted(one.name for one in before) if mode is TransactionMode.CHANGE else []
    assert sorted(await deployed(session)) == left
    assert await tables(session) == left
    failed = [row.name for row in await read_log(session.holder) if row.kind == "fail"]
    assert len(failed) == 1
    await deploy(session, module(*before, change("b"), *after), [*before[len(left) :], change("b"), *after])
    assert len(await deployed(session)) == 61


async def test_failing_verify_takes_the_change_back(session: DatabaseSession) -> None:
    """No revert script is needed."""
    with pytest.raises(StepFailed) as caught:
        await deploy(session, module(with_verify(change("a"), "select 1/count(*) from a")))
    assert caught.value.file == "modules/shop/verify/a.sql"
    assert (await deployed(session), await tables(session)) == ([], [])


async def test_verify_sees_the_change_and_cannot_write(session: DatabaseSession) -> None:
    """A verify script runs read-only in a savepoint that is rolled back."""
    await deploy(session, module(with_verify(change("a"), "BEGIN; select from a; ROLLBACK;")))
    with pytest.raises(StepFailed) as caught:
        await deploy(
            session,
            module(change("a"), with_verify(change("b"), "insert into b default values")),
            [with_verify(change("b"), "insert into b default values")],
        )
    assert caught.value.sqlstate == "25006"


async def test_verify_that_may_write_is_still_rolled_back(session: DatabaseSession) -> None:
    """`-- verify: writes` lets it write, and nothing of it stays."""
    text = "-- verify: writes\ninsert into a default values;"
    await deploy(session, module(with_verify(change("a"), text)))
    cursor = await session.holder.execute("select count(*) from public.a")
    assert await cursor.fetchone() == (0,)


async def test_script_cannot_change_how_the_record_is_written(session: DatabaseSession) -> None:
    """Role, search path, timeouts and look-alikes of a script reach neither our statements nor the next."""
    role = f"hostile_{session.writer.info.backend_pid}"
    hostile = scripted(
        "a",
        f"""
        create schema reconciler_fake;
        create function public.set_config(text, text, boolean) returns text
            language sql as 'select (1/0)::text';
        set search_path = reconciler_fake, public;
        set statement_timeout = 1;
        set session_replication_role = replica;
        create role {role} nologin;
        set role {role};
        """,
    )
    after = scripted(
        "b", "create table b as select current_setting('search_path') as path, current_user as who"
    )
    await deploy(session, module(hostile, after))
    assert await deployed(session) == ["a", "b"]
    cursor = await session.holder.execute("select path, who from public.b")
    assert await cursor.fetchone() == ('"$user", public', "postgres")


async def test_own_begin_and_commit_are_one_change(session: DatabaseSession) -> None:
    """A script in Sqitch's form does not end our transaction early."""
    text = "-- Deploy shop:a to pg\nBEGIN;\ncreate table a();\nselect 1/0;\nCOMMIT;\n"
    with pytest.raises(StepFailed) as caught:
        await deploy(session, module(scripted("a", text)))
    assert caught.value.line == 4
    assert await tables(session) == []


@pytest.mark.parametrize("mode", list(TransactionMode))
async def test_savepoints_are_part_of_the_change(session: DatabaseSession, mode: TransactionMode) -> None:
    """What a script takes back to its own savepoint is gone, all else and every record stays."""
    left_open = "create table a(); savepoint reconciler_verify; create table x(); savepoint s;"
    text = "BEGIN; savepoint s; create table y(); rollback to s; release s; create table b(); COMMIT;"
    changes = with_verify(scripted("a", left_open), "select from a"), scripted("b", text), change("c")
    await deploy(session, module(*changes, transaction=mode))
    assert await deployed(session) == ["a", "b", "c"]
    assert await tables(session) == ["a", "b", "c", "x"]


async def test_module_transaction_is_all_or_nothing(session: DatabaseSession) -> None:
    """With `transaction: module`, a failure in the last change takes the first back."""
    wanted = module(change("a"), scripted("b", "select 1/0"), transaction=TransactionMode.MODULE)
    with pytest.raises(StepFailed):
        await deploy(session, wanted)
    assert (await deployed(session), await tables(session)) == ([], [])


async def test_blocker_is_named(session: DatabaseSession, database_dsn: Dsn) -> None:
    """Whoever holds the lock is named with pid and application after the last try; nothing is applied."""
    await deploy(session, module(change("a")))
    other = await connect(database_dsn, role="blocker", autocommit=False)
    try:
        await other.execute("lock table public.a in access share mode")
        with pytest.raises(LockNotAcquired) as caught:
            await deploy(session, module(scripted("b", "alter table public.a add column x int")))
        assert f"pid {other.info.backend_pid} (reconciler/blocker" in str(caught.value)
    finally:
        await other.close()
    await deploy(session, module(scripted("b", "alter table public.a add column x int")))
    assert await deployed(session) == ["a", "b"]


async def test_change_waits_out_a_short_lock(session: DatabaseSession, database_dsn: Dsn) -> None:
    """A lock that goes away between two tries costs nothing but time."""
    await deploy(session, module(change("a")))
    other = await connect(database_dsn, role="blocker", autocommit=False)
    await other.execute("lock table public.a in access share mode")
    running = asyncio.create_task(
        deploy(session, module(scripted("b", "alter table public.a add column x int")))
    )
    await until_blocked(database_dsn, session)
    await other.close()
    await running
    assert await deployed(session) == ["a", "b"]


async def until_blocked(dsn: Dsn, session: DatabaseSession) -> None:
    watcher = await connect(dsn, role="watcher")
    try:
        async with asyncio.timeout(10):
            while True:
                cursor = await watcher.execute(
                    "select cardinality(pg_blocking_pids(%s))", [session.writer.info.backend_pid]
                )
                row = await cursor.fetchone()
                if row is not None and row[0]:
                    return
    finally:
        await watcher.close()


async def test_lost_fence_stops_the_write(session: DatabaseSession, database_dsn: Dsn) -> None:
    """A successor raised the epoch: nothing more is written by us."""
    other = await connect(database_dsn, role="thief")
    await other.execute("update reconciler.fence set epoch = epoch + 1")
    await other.close()
    with pytest.raises((LeaseLost, psycopg.Error)):
        await deploy(session, module(change("a")))
    assert await tables(session) == []


async def test_two_changes_with_identical_scripts_both_deploy(session: DatabaseSession) -> None:
    """Even empty scripts are no reason to refuse."""
    await deploy(session, module(scripted("a", "-- nothing\n"), scripted("b", "-- nothing\n")))
    assert await deployed(session) == ["a", "b"]


async def test_role_named_like_the_tracking_schema_is_refused(
    postgres_server: Server, fresh_database: str
) -> None:
    """Its search_path would put unqualified objects of scripts beside our tables."""
    postgres_server.run("create role reconciler superuser login password 'x'")
    try:
        dsn = Dsn(conninfo.make_conninfo(postgres_server.text(), user="reconciler", password="x"))
        with pytest.raises(Refused, match="search_path"):
            await open_session(dsn, fresh_database, OWNER, limits=LIMITS, install_tracking=True)
    finally:
        postgres_server.run("drop owned by reconciler cascade", database=fresh_database)
        postgres_server.run("drop role reconciler")


async def test_finished_session_settles_the_base_line(session: DatabaseSession, database_dsn: Dsn) -> None:
    """After the last write the base line stands still and holds what we made."""
    await deploy(session, module(change("a")))
    moving = await read_tracked(session.holder)
    assert moving.base_line is None or moving.base_line.moving
    await session.finish()
    reader = await connect(database_dsn, role="reader")
    try:
        settled = await read_tracked(reader)
        assert settled.base_line is not None
        assert not settled.base_line.moving
    finally:
        await reader.close()
