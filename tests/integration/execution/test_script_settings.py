"""What scripts find set, and what of them reaches anything after them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from reconciler.changes.script import Script
from reconciler.errors import DatabaseUnavailable, StepFailed
from reconciler.execution import changes
from reconciler.execution.changes import Progress
from reconciler.execution.session import DatabaseSession, Limits, open_session
from reconciler.postgres.connection import Dsn, connect
from reconciler.state.desired import DesiredChange, TransactionMode
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.read import read_tracked
from reconciler.tracking.record import Actor
from tests.plugins.postgres import Server
from tests.plugins.site import holds
from tests.plugins.states import change, module

OWNER = FenceOwner(control_id="test", environment="production", deployment="eu", operation="1")
ACTOR = Actor(commit="c" * 40, operation="1", committer="test")
LIMITS = Limits(lock_timeout_s=0.3, statement_timeout_s=20, lock_attempts=3, fence_wait_s=5)


@pytest.fixture
async def writing(postgres_server: Server, fresh_database: str) -> AsyncIterator[DatabaseSession]:
    opened = await open_session(
        postgres_server.dsn, fresh_database, OWNER, limits=LIMITS, install_tracking=True
    )
    yield opened
    await opened.abandon()


async def deploy(
    session: DatabaseSession, *wanted: DesiredChange, mode: TransactionMode = TransactionMode.CHANGE
) -> list[str]:
    """Deploy changes; gives the names of those told as done, in order."""
    told: list[str] = []

    async def done(one: DesiredChange) -> None:
        told.append(one.name)

    async def go_on() -> None:
        return

    await changes.deploy(
        session, module(*wanted, transaction=mode), wanted, ACTOR, Progress(done=done, safe_point=go_on)
    )
    return told


def verified(one: DesiredChange, text: str) -> DesiredChange:
    return replace(one, verify=Script(f"modules/shop/verify/{one.name}.sql", text))


async def value(session: DatabaseSession, query: str) -> object:
    cursor = await session.holder.execute(query)  # type: ignore[arg-type]
    row = await cursor.fetchone()
    return row[0] if row else None


SETTINGS = (
    "select current_setting('search_path') as path, current_setting('lock_timeout') as lock, "
    "current_setting('statement_timeout') as statement, current_user as who"
)


async def test_every_change_of_one_transaction_finds_the_same_settings(writing: DatabaseSession) -> None:
    """With `transaction: module`, the second script finds the role's own search_path and our limits too."""
    wanted = [change(name, text=f"create table {name} as {SETTINGS}") for name in ("a", "b", "c")]
    assert await deploy(writing, *wanted, mode=TransactionMode.MODULE) == ["a", "b", "c"]
    for name in ("a", "b", "c"):
        cursor = await writing.holder.execute(f"select * from public.{name}")  # type: ignore[arg-type]
        assert await cursor.fetchone() == ('"$user", public', "300ms", "20s", "postgres")


async def test_failure_in_one_transaction_names_its_change(writing: DatabaseSession) -> None:
    """What fails in the first change is not told of a later one."""
    broken = change("a", text="create table a ();\nselect 1/0")
    with pytest.raises(StepFailed, match="deploying change 'a'") as caught:
        await deploy(writing, broken, change("b"), mode=TransactionMode.MODULE)
    assert (caught.value.file, caught.value.line) == ("modules/shop/deploy/a.sql", 2)


async def test_verify_finds_nothing_of_what_the_deploy_script_set(writing: DatabaseSession) -> None:
    """Role, search_path and timeouts are the connection's own and ours again."""
    role = f"verifier_{writing.writer.info.backend_pid}"
    text = f"create table a (); create role {role} nologin; set search_path = pg_catalog; \
             set statement_timeout = 0; set role {role}"
    check = (
        "select 1 / (current_user = session_user)::int, "
        "1 / (current_setting('search_path') ~ 'public')::int, "
        "1 / (current_setting('statement_timeout') = '20s')::int"
    )
    assert await deploy(writing, verified(change("a", text=text), check)) == ["a"]


async def test_deferred_trigger_finds_the_search_path_of_scripts(writing: DatabaseSession) -> None:
    """What runs at the commit runs as it would anywhere else, and not under settings of ours."""
    text = """
        create table a (id int);
        create table seen (path text);
        create function note() returns trigger language plpgsql as
            $$ begin insert into seen values (current_setting('statement_timeout')); return null; end $$;
        create constraint trigger late after insert on a deferrable initially deferred
            for each row execute function note();
        insert into a values (1);
    """
    await deploy(writing, change("a", text=text))
    assert await value(writing, "select path from public.seen") == "20s"


async def test_script_cannot_make_the_next_transaction_read_only(writing: DatabaseSession) -> None:
    """A default set for the session ends with the change."""
    assert await deploy(writing, change("a", text="set default_transaction_read_only = on"), change("b")) == [
        "a",
        "b",
    ]


@pytest.mark.parametrize("text", ["set transaction read only", "set local transaction_read_only = on"])
async def test_script_that_forbids_writing_is_final(writing: DatabaseSession, text: str) -> None:
    """Its record cannot be written, now or ever: it is no standby, which would be tried again."""
    with pytest.raises(StepFailed, match="read-only transaction") as caught:
        await deploy(writing, change("a"), change("b", text=text))
    assert "take READ ONLY out of the script" in (caught.value.hint or "")


def forget_peak() -> None:
    """Measure the peak of this process' memory from now on."""
    Path("/proc/self/clear_refs").write_text("5")


def peak_kb() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


async def test_rows_nobody_reads_are_not_kept(writing: DatabaseSession) -> None:
    """A query of a script may return any number of rows in bounded memory, with its side effects in full."""
    text = "create sequence s; select nextval('s'), repeat('x', 100) from generate_series(1, 400000);"
    forget_peak()
    before = peak_kb()
    await deploy(writing, change("a", text=text))
    assert await value(writing, "select last_value from public.s") == 400_000
    assert peak_kb() - before < 30_000


async def test_returning_rows_fail_where_they_stand(writing: DatabaseSession) -> None:
    """A query that fails halfway is placed like any other statement, and takes the change back."""
    text = "create table a ();\n\nselect 1 / (5000 - n) from generate_series(1, 9000) as n;"
    with pytest.raises(StepFailed) as caught:
        await deploy(writing, change("a", text=text))
    assert (caught.value.line, caught.value.sqlstate) == (3, "22012")
    assert await value(writing, "select count(*) from pg_tables where schemaname = 'public'") == 0


async def test_many_changes_then_a_lock_race(writing: DatabaseSession, database_dsn: Dsn) -> None:
    """After many changes, one that loses a race is simply tried again."""
    first = [change(f"a{number}") for number in range(12)]
    await deploy(writing, *first)
    other = await connect(database_dsn, role="blocker", autocommit=False)
    await other.execute("lock table public.a0 in access share mode")
    racing = asyncio.create_task(
        deploy(writing, change("b", text="alter table public.a0 add column x int"), change("c"))
    )

    async def blocked() -> bool:
        pid = writing.writer.info.backend_pid
        return bool(await value(writing, f"select cardinality(pg_blocking_pids({pid}))"))

    await holds(blocked, "the change to wait for the lock")
    await other.close()
    assert await racing == ["b", "c"]


async def test_lost_writer_leaves_base_line_and_fence_to_the_next(writing: DatabaseSession) -> None:
    """It may still commit what was sent: so nothing is settled, and the successor ends it first."""
    await deploy(writing, change("a"))
    await value(writing, f"select pg_terminate_backend({writing.writer.info.backend_pid})")
    with pytest.raises(DatabaseUnavailable):
        await deploy(writing, change("b"))
    reader = await connect(Dsn(writing_dsn(writing)), role="reader")
    try:
        with pytest.raises(DatabaseUnavailable, match="lost"):
            await writing.finish()
        tracked = await read_tracked(reader)
        assert tracked.base_line is not None
        assert tracked.base_line.moving
        cursor = await reader.execute("select held from reconciler.fence")
        assert await cursor.fetchone() == (True,)
    finally:
        await reader.close()


def writing_dsn(session: DatabaseSession) -> str:
    info = session.holder.info
    return f"host={info.host} port={info.port} user={info.user} password={info.password} dbname={info.dbname}"


SHADOWS = """
    create schema before;
    create function before.set_config(text, text, bool) returns text language sql as $$ select 'x' $$;
    create domain before.int8 as int check (value = 0);
    create domain before.float8 as int check (value = 0);
    create function before.never(int, int) returns bool language plpgsql as $$ begin raise 'shadowed'; end $$;
    create operator before.= (leftarg = int, rightarg = int, function = before.never);
"""


async def test_no_name_of_ours_means_anything_of_theirs(postgres_server: Server, fresh_database: str) -> None:
    """Whoever owns the database may put a schema before that of the system; we do not look there."""
    owner = await connect(postgres_server.dsn, database=fresh_database, role="owner")
    await owner.execute(SHADOWS)
    setting = "set search_path = before, public, pg_catalog"
    await owner.execute(f"alter database {fresh_database} {setting}")
    session = await open_session(
        postgres_server.dsn, fresh_database, OWNER, limits=Limits(), install_tracking=True
    )
    try:
        assert await deploy(session, change("a", text="create table public.a ()"), change("b")) == ["a", "b"]
        assert await session.lock_capacity() > 0
        await owner.execute("begin; lock table public.a")
        waiting = asyncio.create_task(session.writer.execute("select from public.a"))
        blocked: list[str | None] = []

        async def is_blocked() -> bool:
            blocked[:] = [await session.blockers()]
            return blocked != [None]

        await holds(is_blocked, "the reader to wait")
        await owner.execute("commit")
        await waiting
        assert "reconciler/owner" in str(blocked)
        await session.finish()
    finally:
        await session.abandon()
        await owner.close()


async def test_strings_mean_the_same_in_every_database(postgres_server: Server, fresh_database: str) -> None:
    """Where a database lets backslashes escape, a script ends its strings where the plan saw them end."""
    owner = await connect(postgres_server.dsn, database=fresh_database, role="owner")
    await owner.execute(f"alter database {fresh_database} set standard_conforming_strings = off")
    session = await open_session(
        postgres_server.dsn, fresh_database, OWNER, limits=Limits(), install_tracking=True
    )
    try:
        text = (
            "create table public.a as select 'c:\\' as t; insert into public.a values ('; drop table a; --');"
        )
        assert await deploy(session, change("a", text=text), change("b")) == ["a", "b"]
        cursor = await owner.execute("select t from public.a")
        assert await cursor.fetchall() == [("c:\\",), ("; drop table a; --",)]
    finally:
        await session.abandon()
        await owner.close()
