"""Changes outside of transactions: noted while they run, and gone on with after any interruption."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from reconciler.changes.script import Script
from reconciler.diff.model import ToRevert
from reconciler.errors import DatabaseUnavailable, ReconcilerError, Refused, StepFailed
from reconciler.execution import changes, outside, reverts
from reconciler.execution.changes import Progress
from reconciler.execution.session import DatabaseSession, Limits, open_session
from reconciler.postgres.connection import Connection, Dsn, connect
from reconciler.state.desired import DesiredChange
from reconciler.state.program import Purpose, compile_script
from reconciler.state.tracked import TrackedChange, Unfinished
from reconciler.state.units import units
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.read import read_log, read_tracked, read_unfinished
from reconciler.tracking.record import Actor, ModuleIdentity
from tests.plugins.postgres import Server
from tests.plugins.proxy import MakeProxy
from tests.plugins.states import change, module

OWNER = FenceOwner(control_id="test", environment="production", deployment="eu", operation="1")
IDENTITY = ModuleIdentity(project="shop", component="shop-schema")
ACTOR = Actor(commit="c" * 40, operation="1", committer="test")
LIMITS = Limits(lock_timeout_s=0.3, lock_attempts=2, fence_wait_s=10)
TABLE = "create table t (a int, b int); insert into t select i, i % 10 from generate_series(1, 100) i"
INDEX = "create index concurrently t_b on t (b)"


async def nothing(_change: DesiredChange) -> None:
    """Nobody is told."""


async def go_on() -> None:
    """Nobody asks to stop."""


@pytest.fixture
async def session(postgres_server: Server, fresh_database: str) -> AsyncIterator[DatabaseSession]:
    opened = await opened_anew(postgres_server, fresh_database, install=True)
    yield opened
    await opened.abandon()


async def opened_anew(server: Server, database: str, *, install: bool = False) -> DatabaseSession:
    """Open a session as the next attempt of the same operation does."""
    return await open_session(server.dsn, database, OWNER, limits=LIMITS, install_tracking=install)


def script(text: str, name: str = "i") -> DesiredChange:
    return replace(change(name, text=text), transactional=False)


async def deploy(session: DatabaseSession, *wanted: DesiredChange, again: bool = False) -> None:
    progress = Progress(done=nothing, safe_point=go_on, repeats=lambda _change: again)
    await changes.deploy(session, module(*wanted), wanted, ACTOR, progress)


async def rows(session: DatabaseSession, query: str) -> list[tuple[object, ...]]:
    cursor = await session.holder.execute(query)
    return await cursor.fetchall()


async def deployed(session: DatabaseSession) -> list[str]:
    found = (await read_tracked(session.holder)).modules.get("shop")
    return [row.name for row in found.changes] if found else []


async def indexes(session: DatabaseSession) -> list[tuple[object, ...]]:
    return await rows(
        session,
        "select indexrelid::regclass::text, indisvalid from pg_index "
        "where indrelid = 'public.t'::regclass order by 1",
    )


async def until(connection: Connection, query: str) -> None:
    """Wait until a query has a row."""
    async with asyncio.timeout(20):
        while True:
            cursor = await connection.execute(query)
            if await cursor.fetchone() is not None:
                return
            await asyncio.sleep(0.02)


NUMBERS = "select indexrelid from pg_index where indrelid = 'public.t'::regclass"
INVALID = "select from pg_index where not indisvalid"


async def test_index_is_made_concurrently_and_recorded(session: DatabaseSession) -> None:
    """The settings of the script hold for it, its verify script is run, and nothing is left noted."""
    check = "select 1/count(*) from pg_index where indisvalid and indrelid = 'shop.t'::regclass"
    verified = replace(
        script("set search_path = shop; create index concurrently on t (b); reset search_path"),
        verify=change("v", text=check).deploy,
    )
    make = "create schema shop; create table shop.t (a int, b int)"
    await deploy(session, change("a", text=make), verified)
    assert await deployed(session) == ["a", "i"]
    assert await read_unfinished(session.holder) == {}
    names = "select indexrelid::regclass::text from pg_index where indrelid = 'shop.t'::regclass"
    assert await rows(session, names) == [("shop.t_b_idx",)]


@pytest.mark.parametrize("text", [INDEX, "create index concurrently on t (b)"])
async def test_interrupted_index_is_dropped_and_made_again(
    session: DatabaseSession, postgres_server: Server, fresh_database: str, database_dsn: Dsn, text: str
) -> None:
    """The backend is ended while it builds: the next attempt finds what is left, and ends with one index."""
    await deploy(session, change("a", text=TABLE))
    other = await connect(database_dsn, role="reader", autocommit=False)
    watcher = await connect(database_dsn, role="watcher")
    try:
        await other.execute("lock table public.t in row exclusive mode")
        running = asyncio.create_task(deploy(session, script(text)))
        await until(watcher, INVALID)
        await watcher.execute("select pg_terminate_backend(%s)", [session.writer_backend])
        with pytest.raises(DatabaseUnavailable):
            await running
    finally:
        await other.close()
        await watcher.close()
    await session.abandon()
    again = await opened_anew(postgres_server, fresh_database)
    try:
        assert [valid for _name, valid in await indexes(again)] == [False]
        (left,) = (await read_tracked(again.holder)).unfinished.values()
        assert left.words == "CREATE INDEX CONCURRENTLY at modules/shop/deploy/i.sql:1"
        await deploy(again, script(text))
        assert [valid for _name, valid in await indexes(again)] == [True]
        assert await deployed(again) == ["a", "i"]
        assert await read_unfinished(again.holder) == {}
    finally:
        await again.abandon()


async def test_connection_cut_while_an_index_is_made(
    make_proxy: MakeProxy, postgres_server: Server, fresh_database: str, database_dsn: Dsn
) -> None:
    """The server knows nothing of it and builds on: its backend is ended first, then there is one index."""
    proxy = await make_proxy(postgres_server.text())
    through = await open_session(
        Dsn(proxy.text(postgres_server.text())), fresh_database, OWNER, limits=LIMITS, install_tracking=True
    )
    await deploy(through, change("a", text=TABLE))
    other = await connect(database_dsn, role="reader", autocommit=False)
    watcher = await connect(database_dsn, role="watcher")
    try:
        await other.execute("lock table public.t in row exclusive mode")
        running = asyncio.create_task(deploy(through, script(INDEX)))
        await until(watcher, INVALID)
        backend = through.writer_backend
        proxy.cut()
        with pytest.raises(DatabaseUnavailable):
            await running
        await through.abandon()
        assert await alive(watcher, backend)
        again = await opened_anew(postgres_server, fresh_database)
        try:
            assert not await alive(watcher, backend)
            await other.rollback()
            await deploy(again, script(INDEX))
            assert await indexes(again) == [("t_b", True)]
            assert await deployed(again) == ["a", "i"]
        finally:
            await again.abandon()
    finally:
        await other.close()
        await watcher.close()


async def alive(connection: Connection, backend: int | None) -> bool:
    cursor = await connection.execute("select from pg_stat_activity where pid = %s", [backend])
    return await cursor.fetchone() is not None


def begun(session: DatabaseSession, wanted: DesiredChange) -> outside.Run:
    """The run of a change, as `deploy` makes it."""
    return outside.Run(session, changes.subject_of(session, IDENTITY, wanted, ACTOR), ACTOR)


async def noted_as_begun(session: DatabaseSession, text: str) -> None:
    """Stand where a process stands that dies right after it noted what it begins."""
    run = begun(session, script(text))
    unit = units(compile_script(script(text).deploy, purpose=Purpose.DEPLOY))[0]
    await run.begin(unit)


async def test_index_that_was_done_is_recognised(session: DatabaseSession) -> None:
    """Who died between the index and the note about it did all of it: it is not made twice."""
    await deploy(session, change("a", text=TABLE))
    await noted_as_begun(session, INDEX)
    await session.writer.execute(INDEX)
    numbers = await rows(session, NUMBERS)
    await deploy(session, script(INDEX))
    assert await rows(session, NUMBERS) == numbers
    assert len(numbers) == 1
    assert await deployed(session) == ["a", "i"]


async def test_what_nobody_can_see_waits_for_a_person(session: DatabaseSession) -> None:
    """An interrupted procedure may have done its work: it runs again only where that was agreed to."""
    make = (
        "create table t (a int); create procedure p() language plpgsql as "
        "$$ begin insert into t values (1); commit; insert into t values (2); end $$"
    )
    await deploy(session, change("a", text=make))
    await noted_as_begun(session, "call p()")
    with pytest.raises(
        Refused, match=r"CALL at \S+i.sql:1 was interrupted, and may have done its work"
    ) as caught:
        await deploy(session, script("call p()"))
    assert "--allow-hazard REPEATS_STATEMENT" in str(caught.value)
    assert await rows(session, "select a from public.t") == []
    await deploy(session, script("call p()"), again=True)
    assert await rows(session, "select a from public.t") == [(1,), (2,)]
    assert await deployed(session) == ["a", "i"]


@pytest.mark.parametrize("commits", [True, False])
async def test_transaction_of_a_script_is_done_or_not(session: DatabaseSession, *, commits: bool) -> None:
    """Whoever dies at its COMMIT leaves its id: the server tells whether that committed."""
    await deploy(session, change("a", text="create table t (a int)"))
    text = "begin; insert into t values (1); commit; vacuum t; insert into t values (2);"
    run = begun(session, script(text))
    unit = units(compile_script(script(text).deploy, purpose=Purpose.DEPLOY))[0]
    await session.writer.execute("begin; insert into t values (1)")
    cursor = await session.writer.execute("select pg_current_xact_id()::text")
    row = await cursor.fetchone()
    assert row is not None
    await run.begin(unit, transaction_id=row[0])
    await session.writer.execute("commit" if commits else "rollback")
    await deploy(session, script(text))
    assert await rows(session, "select a from public.t order by a") == [(1,), (2,)]


async def test_failed_part_is_gone_on_with(session: DatabaseSession) -> None:
    """What is done stays and is not done again, also when the rest of the script was mended meanwhile."""
    await deploy(session, change("a", text="create table t (a int); insert into t values (1), (1)"))
    text = "vacuum t;\ninsert into t values (7);\ncreate unique index concurrently u on t (a);\nselect 1"
    with pytest.raises(StepFailed, match="could not create unique index") as caught:
        await deploy(session, script(text))
    assert (caught.value.file, caught.value.line) == ("modules/shop/deploy/i.sql", 3)
    assert "2 of 4 parts of the script are done and stay" in (caught.value.hint or "")
    assert await indexes(session) == []
    assert [event.kind for event in await read_log(session.holder)] == ["fail", "deploy"]
    await deploy(session, script(text.replace("unique ", "")))
    assert await rows(session, "select a from public.t order by a") == [(1,), (1,), (7,)]
    assert await indexes(session) == [("u", True)]


async def test_edit_of_what_is_done_waits_for_a_person(session: DatabaseSession) -> None:
    """Another version of the script ran as far as it got: nothing is guessed."""
    text = "insert into t values (1);\nvacuum t;\nselect 1/0"
    await deploy(session, change("a", text="create table t (a int)"))
    with pytest.raises(StepFailed):
        await deploy(session, script(text))
    edited = script(text.replace("(1)", "(2)").replace("1/0", "1"))
    with pytest.raises(Refused, match="2 statements of another version of the script ran, up to VACUUM at"):
        await deploy(session, edited)
    await deploy(session, edited, again=True)
    assert await rows(session, "select a from public.t order by a") == [(1,), (2,)]


async def test_lock_that_is_not_had_leaves_nothing_behind(
    session: DatabaseSession, database_dsn: Dsn
) -> None:
    """A wait that the script bounds ends, what it left is dropped, and the next try succeeds."""
    await deploy(session, change("a", text=TABLE))
    other = await connect(database_dsn, role="blocker", autocommit=False)
    watcher = await connect(database_dsn, role="watcher")
    await other.execute("lock table public.t in row exclusive mode")
    running = asyncio.create_task(deploy(session, script(f"set lock_timeout = 200; {INDEX}")))
    await until(watcher, INVALID)
    await until(watcher, "select from pg_stat_activity where wait_event_type = 'Lock' and query like 'DROP%'")
    await other.close()
    await watcher.close()
    await running
    assert await indexes(session) == [("t_b", True)]


async def test_index_left_by_others_is_told_and_not_touched(session: DatabaseSession) -> None:
    """`IF NOT EXISTS` skips an index that cannot be used; a change that needs it is not recorded."""
    await deploy(session, change("a", text="create table t (b int); insert into t values (1), (1)"))
    with pytest.raises(Exception, match="could not create unique index"):
        await session.writer.execute("create unique index concurrently t_b on t (b)")
    text = INDEX.replace("t_b", "if not exists t_b")
    with pytest.raises(StepFailed, match=r"index 'public.t_b' was there before and cannot be used"):
        await deploy(session, script(text))
    assert await indexes(session) == [("t_b", False)]
    assert await deployed(session) == ["a"]


async def test_failing_verify_is_told_and_nothing_is_run_again(session: DatabaseSession) -> None:
    """What the script did stays; once its verify script passes, the change is recorded."""
    await deploy(session, change("a", text="create table t (a int)"))
    wanted = script("vacuum t; insert into t values (1)")
    broken = replace(wanted, verify=change("v", text="select 1/0").deploy)
    with pytest.raises(StepFailed, match="division by zero"):
        await deploy(session, broken)
    assert await deployed(session) == ["a"]
    await deploy(session, wanted)
    assert await rows(session, "select a from public.t") == [(1,)]
    assert await deployed(session) == ["a", "i"]


async def test_repeatable_and_dropping_statements_are_gone_on_with(session: DatabaseSession) -> None:
    """An interrupted VACUUM, REINDEX, DROP INDEX or DETACH PARTITION is finished, however far it got."""
    make = (
        f"{TABLE}; create index t_b on t (b); create table p (a int) partition by list (a);"
        "create table p1 partition of p for values in (1);"
    )
    await deploy(session, change("a", text=make))
    for number, (before, text) in enumerate(
        [
            ("", "vacuum t"),
            ("", "reindex index concurrently t_b"),
            ("", "drop index concurrently t_b"),
            ("drop index if exists t_b", "drop index concurrently t_b"),
            ("", "alter table p detach partition p1 concurrently"),
            ("", "alter table p detach partition p1 concurrently"),
        ]
    ):
        await noted_as_begun(session, text)
        if before:
            await session.writer.execute(before)
        if number == 3:
            await session.writer.execute("create index if not exists t_a on t (a)")
        wanted = replace(script(text), change_id=script(text).change_id, name="i")
        await deploy(session, wanted)
        assert await deployed(session) == ["a", "i"]
        await session.writer.execute("delete from reconciler.changes where name = 'i'")
    assert await rows(session, "select from pg_inherits") == []
    assert await indexes(session) == [("t_a", True)]


async def test_dropping_the_tracking_schema_is_taken_back(session: DatabaseSession) -> None:
    """Outside of our transaction too nothing commits that would make the database forget what it holds."""
    await deploy(session, change("a", text="create table t ()"))
    text = "-- transaction: none\ndrop schema reconciler cascade"
    with pytest.raises(Refused, match="would drop the tracking schema"):
        await deploy(session, script(text))
    with pytest.raises(Refused, match="would drop the tracking schema"):
        await deploy(session, script("begin; drop schema reconciler cascade; commit; vacuum"))
    assert await deployed(session) == ["a"]


async def test_data_of_copy_go_with_their_part(session: DatabaseSession) -> None:
    """A part that copies is done once, with its data."""
    await deploy(session, change("a", text="create table t (a int)"))
    await deploy(session, script("vacuum t;\nCOPY t FROM stdin;\n1\n2\n\\.\n"))
    assert await rows(session, "select a from public.t order by a") == [(1,), (2,)]


async def test_statements_that_give_no_rows_are_sent_as_any(session: DatabaseSession) -> None:
    """Which give rows is for the server to say: a word in a string, a name of a statement tell nothing."""
    text = """-- transaction: none
        create table x (t text);
        insert into x values ('returning home');
        select 1 as id into y;
        prepare p as insert into x values ('b');
        execute p;
        create rule r as on insert to y do also (select 1; select new.id);
        insert into y values (2) returning id;
        set client_encoding = 'latin1';
        insert into x values ('é');
    """
    await deploy(session, script(text))
    assert await rows(session, "select t from public.x") == [("returning home",), ("b",), ("é",)]
    assert await deployed(session) == ["i"]


def to_revert(name: str, text: str) -> ToRevert:
    row = TrackedChange(
        change_id=change(name).change_id, name=name, script_hash=None, parse_hash=None, position=1
    )
    return ToRevert(
        component="shop-schema",
        project="shop",
        change=row,
        script=Script(f"modules/shop/revert/{name}.sql", text),
        stored=False,
    )


async def test_revert_scripts_run_outside_too(session: DatabaseSession) -> None:
    """What was made concurrently is dropped so; what is interrupted or fails is gone on with."""
    await deploy(session, change("a", text=TABLE), script(INDEX))
    told: list[str] = []

    async def done() -> None:
        told.append("done")

    steps = reverts.Steps(done=done, safe_point=go_on)
    wanted = [to_revert("i", "drop index concurrently t_b;\nselect 1/0"), to_revert("a", "drop table t")]
    with pytest.raises(StepFailed, match="division by zero") as caught:
        await reverts.revert(session, wanted, ACTOR, steps)
    assert (caught.value.file, caught.value.line) == ("modules/shop/revert/i.sql", 2)
    assert (await deployed(session), await indexes(session), told) == (["a", "i"], [], [])
    wanted[0] = to_revert("i", "drop index concurrently t_b;\nselect 1")
    await reverts.revert(session, wanted, ACTOR, steps)
    assert (await deployed(session), told) == ([], ["done", "done"])
    assert await read_unfinished(session.holder) == {}
    assert await rows(session, "select to_regclass('public.t')") == [(None,)]


async def test_connection_lost_while_a_revert_drops_concurrently(
    session: DatabaseSession, postgres_server: Server, fresh_database: str, database_dsn: Dsn
) -> None:
    """Its record stays until the next attempt, which finishes the drop and forgets the change then."""
    await deploy(session, change("a", text=TABLE), script(INDEX))
    told: list[str] = []

    async def done() -> None:
        told.append("done")

    steps = reverts.Steps(done=done, safe_point=go_on)
    wanted = [to_revert("i", "drop index concurrently t_b"), to_revert("a", "drop table t")]
    other = await connect(database_dsn, role="reader", autocommit=False)
    watcher = await connect(database_dsn, role="watcher")
    try:
        await other.execute("lock table public.t in row exclusive mode")
        running = asyncio.create_task(reverts.revert(session, wanted, ACTOR, steps))
        await until(watcher, INVALID)
        await watcher.execute("select pg_terminate_backend(%s, 20000)", [session.writer_backend])
        with pytest.raises(DatabaseUnavailable):
            await running
        assert (await deployed(session), told) == (["a", "i"], [])
        await session.abandon()
        again = await opened_anew(postgres_server, fresh_database)
        try:
            await other.rollback()
            await reverts.revert(again, wanted, ACTOR, steps)
            assert (await deployed(again), told) == ([], ["done", "done"])
            assert await read_unfinished(again.holder) == {}
        finally:
            await again.abandon()
    finally:
        await other.close()
        await watcher.close()


async def noted(session: DatabaseSession, wanted: ToRevert, transaction_id: str | None = None) -> None:
    """Stand where a process stands that dies in the first part of a revert script."""
    assert wanted.script is not None
    program = compile_script(wanted.script, purpose=Purpose.REVERT)
    row = wanted.change
    left = Unfinished(change_id=row.change_id, project="shop", name=row.name, script_hash=None)
    subject = outside.Subject(
        program=program, noted=left, whose=wanted, doing="", way_out="", explain=explained
    )
    await outside.Run(session, subject, ACTOR).begin(units(program)[0], transaction_id=transaction_id)


async def explained(_error: object) -> ReconcilerError:
    return ReconcilerError("not asked for here")


@pytest.mark.parametrize(
    ("text", "transaction_id", "told"),
    [
        (
            "-- transaction: none\ncall p()",
            None,
            "CALL at .*revert/i.sql:2 was interrupted, and may have done its work",
        ),
        ("insert into t values (1); vacuum t", "9000000000000", "nobody knows any more whether INSERT at"),
    ],
)
async def test_revert_that_nobody_can_judge_waits_for_a_person(
    session: DatabaseSession, text: str, transaction_id: str | None, told: str
) -> None:
    """Its record stays, the message says the way out, and with consent it is run again and done."""
    make = (
        "create table t (a int); create procedure p() language plpgsql as "
        "$$ begin insert into t values (1); commit; end $$"
    )
    await deploy(session, change("a", text=make), change("i", text="select 1"))
    wanted = to_revert("i", text)
    await noted(session, wanted, transaction_id)
    steps = reverts.Steps(done=go_on, safe_point=go_on)
    with pytest.raises(Refused, match=told) as caught:
        await reverts.revert(session, [wanted], ACTOR, steps)
    assert "ask for the revert again with --allow-hazard REPEATS_STATEMENT" in str(caught.value)
    assert (await deployed(session), await rows(session, "select a from public.t")) == (["a", "i"], [])
    await reverts.revert(session, [wanted], ACTOR, steps, again=True)
    assert (await deployed(session), await rows(session, "select a from public.t")) == (["a"], [(1,)])
    assert await read_unfinished(session.holder) == {}
