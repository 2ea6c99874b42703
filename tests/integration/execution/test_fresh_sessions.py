"""Every script begins in a session as it was opened, whatever those before it did and however it is sent."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace

import pytest

from reconciler.changes.script import Script
from reconciler.diff.model import ToRevert
from reconciler.errors import StepFailed
from reconciler.execution import changes, reverts
from reconciler.execution.changes import Progress
from reconciler.execution.messages import Chapter, Exchange, Piece, of_script
from reconciler.execution.reverts import Steps
from reconciler.execution.session import DatabaseSession, Limits, open_session
from reconciler.postgres.connection import Dsn, connect
from reconciler.state.desired import DesiredChange, TransactionMode
from reconciler.state.program import Purpose, compile_script
from reconciler.state.tracked import TrackedChange
from reconciler.tracking.fence import FenceOwner
from reconciler.tracking.read import read_tracked
from reconciler.tracking.record import Actor
from tests.plugins.postgres import Server
from tests.plugins.site import holds
from tests.plugins.states import change, module

OWNER = FenceOwner(control_id="test", environment="production", deployment="eu", operation="1")
ACTOR = Actor(commit="c" * 40, operation="1", committer="test")
LIMITS = Limits(lock_timeout_s=0.3, statement_timeout_s=20, lock_attempts=3, fence_wait_s=5)
LEAK = """
    select set_config('search_path', 'pg_catalog', false), set_config('statement_timeout', '12345ms', false);
    set session_replication_role = replica;
    prepare ours as select 1;
    listen somebody;
    select pg_advisory_lock(4711);
    create temporary table pg_temp.kept (id int);
    create temporary table pg_temp.dropped (id int) on commit drop;
    declare kept cursor with hold for select 1;
    create sequence if not exists public.taken;
    select nextval('public.taken');
    do $$ begin perform set_config('role', 'pg_monitor', false); end $$;
"""
CLEAN = """
    do $$ begin perform lastval(); raise 'sequence'; exception when sqlstate '55000' then null; end $$;
    do $$ begin
        assert current_user = session_user, 'role';
        assert current_setting('search_path') = '"$user", public', 'search_path';
        assert current_setting('statement_timeout') = '20s', 'statement_timeout';
        assert current_setting('lock_timeout') = '300ms', 'lock_timeout';
        assert current_setting('session_replication_role') = 'origin', 'session_replication_role';
        assert not exists (select from pg_prepared_statements where name = 'ours'), 'prepared';
        assert not exists (select from pg_cursors where name = 'kept'), 'cursor';
    end $$;
"""
ALONE = """
    do $$ begin
        assert to_regclass('pg_temp.kept') is null, 'temporary table';
        assert not exists (select from pg_locks where pid = pg_backend_pid() and objid = 4711), 'lock';
        assert not exists (select from pg_listening_channels()), 'listening';
    end $$;
"""


@pytest.fixture
async def session(postgres_server: Server, fresh_database: str) -> AsyncIterator[DatabaseSession]:
    opened = await open_session(
        postgres_server.dsn, fresh_database, OWNER, limits=LIMITS, install_tracking=True
    )
    yield opened
    await opened.abandon()


async def go_on() -> None:
    """Nobody asks to stop."""


async def deploy(
    session: DatabaseSession, *wanted: DesiredChange, mode: TransactionMode = TransactionMode.CHANGE
) -> list[str]:
    """Deploy changes; gives the names of those told as done, in order."""
    told: list[str] = []

    async def done(one: DesiredChange) -> None:
        told.append(one.name)

    progress = Progress(done=done, safe_point=go_on)
    await changes.deploy(session, module(*wanted, transaction=mode), wanted, ACTOR, progress)
    return told


def quick(*numbers: int) -> list[DesiredChange]:
    """Changes that are done in no time, so that those after them are sent together."""
    return [change(f"q{number}") for number in numbers]


def back(name: str, text: str) -> ToRevert:
    row = TrackedChange(
        change_id=change(name).change_id, name=name, script_hash=None, parse_hash=None, position=1
    )
    script = Script(f"modules/shop/revert/{name}.sql", text)
    return ToRevert(component="shop-schema", project="shop", change=row, script=script, stored=False)


async def revert(session: DatabaseSession, *wanted: ToRevert, together: Sequence[str] = ()) -> int:
    """Take changes back; gives how many were told as done."""
    told: list[None] = []

    async def done() -> None:
        told.append(None)

    await reverts.revert(
        session, wanted, ACTOR, Steps(done=done, safe_point=go_on), together=frozenset(together)
    )
    return len(told)


async def recorded(session: DatabaseSession) -> list[str]:
    tracked = (await read_tracked(session.holder)).modules.get("shop")
    return [each.name for each in tracked.changes] if tracked else []


def leaking(*, alone: str = ALONE) -> list[DesiredChange]:
    """One that leaves everything behind, and two that look for it, in script and verify script."""
    found = replace(change("b", text=CLEAN + alone), verify=Script("modules/shop/verify/b.sql", CLEAN))
    return [*quick(1, 2, 3), change("a", text=LEAK), found, change("c", text=CLEAN + alone), *quick(4)]


async def test_nothing_of_a_deploy_script_reaches_the_next(session: DatabaseSession) -> None:
    """Settings, role, prepared statements, cursors, temporary tables and locks end with the change."""
    wanted = leaking()
    assert await deploy(session, *wanted) == [one.name for one in wanted]


async def test_nothing_reaches_the_next_script_of_one_transaction(session: DatabaseSession) -> None:
    """The same where all of a module is one transaction, but for what belongs to the transaction."""
    wanted = leaking(alone="")
    assert await deploy(session, *wanted, mode=TransactionMode.MODULE) == [one.name for one in wanted]
    assert await deploy(session, change("d", text=CLEAN + ALONE)) == ["d"]


@pytest.mark.parametrize("together", [(), ("shop",)], ids=["each", "all"])
async def test_nothing_of_a_revert_script_reaches_the_next(
    session: DatabaseSession, together: Sequence[str]
) -> None:
    """Reverts are no exception, whether they share a transaction or not."""
    await deploy(session, *quick(1, 2, 3, 4, 5, 6, 7))
    alone = "" if together else ALONE
    texts = {
        "q7": "",
        "q6": "drop table q6",
        "q5": "",
        "q4": LEAK,
        "q3": CLEAN + alone,
        "q2": "drop table q2",
    }
    wanted = [back(name, text) for name, text in texts.items()]
    assert await revert(session, *wanted, back("q1", CLEAN + alone), together=together) == 7
    assert await recorded(session) == []


async def test_reverts_of_one_transaction_go_together_or_not_at_all(session: DatabaseSession) -> None:
    """Where the last one fails, everything is there still, and the failure is told at its place."""
    await deploy(session, *quick(1, 2, 3))
    first = [back("q3", "drop table q3"), back("q2", "drop table q2")]
    broken = back("q1", "drop table q1;\n\nselect 1/0")
    with pytest.raises(StepFailed, match="reverting change 'q1'") as caught:
        await revert(session, *first, broken, together=["shop"])
    assert (caught.value.file, caught.value.line) == ("modules/shop/revert/q1.sql", 3)
    assert await recorded(session) == ["q1", "q2", "q3"]
    assert await revert(session, *first, back("q1", "drop table q1"), together=["shop"]) == 3


async def test_revert_script_that_ends_transactions_says_how_it_is_run(session: DatabaseSession) -> None:
    """The server refuses it inside of our transaction; savepoints of its own are no such thing."""
    await deploy(session, *quick(1))
    with pytest.raises(StepFailed, match="invalid transaction termination") as caught:
        await revert(session, back("q1", "do $$ begin commit; end $$"))
    assert "-- transaction: none" in (caught.value.hint or "")
    script = "savepoint a; drop table q1; rollback to a; drop table q1"
    assert await revert(session, back("q1", script)) == 1
    assert await recorded(session) == []


async def test_reverts_that_need_too_many_locks_are_a_transaction_each(session: DatabaseSession) -> None:
    """Nobody is left with what cannot be taken back because the server has no room for all of it at once."""
    await deploy(session, *quick(1, 2))
    session.capacity = 4
    wanted = [back("q2", "drop table q2"), back("q1", "select 1/0")]
    with pytest.raises(StepFailed):
        await revert(session, *wanted, together=["shop"])
    assert await recorded(session) == ["q1"]


WATCH = """
    create table public.log (query text);
    create function public.watch() returns event_trigger language plpgsql as $$ begin
        insert into public.log values (current_query());
        perform set_config('search_path', 'pg_catalog', false), set_config('role', 'pg_monitor', false);
    end $$;
    grant insert on public.log to public;
    create event trigger watch on ddl_command_end execute function public.watch();
"""


async def test_event_triggers_find_single_statements_and_leave_nothing(session: DatabaseSession) -> None:
    """They may read what was sent: that is the statement itself; what they set ends with the change."""
    wanted = [*quick(1, 2, 3), change("w", text=WATCH), *quick(4, 5, 6), change("c", text=CLEAN)]
    assert await deploy(session, *wanted) == [one.name for one in wanted]
    assert await revert(session, back("c", CLEAN), back("q6", "drop table public.q6"), back("q5", CLEAN)) == 3
    assert await deploy(session, *quick(7)) == ["q7"]
    cursor = await session.holder.execute("select query from public.log where query ~ 'q[567]' order by 1")
    assert await cursor.fetchall() == [
        ("create table q5()",),
        ("create table q6()",),
        ("create table q7()",),
        ("drop table public.q6",),
    ]


async def test_failure_among_many_is_told_at_its_place(session: DatabaseSession) -> None:
    """What was sent before it stays and is told as done; it and what follows is as it was."""
    broken = change("x", text="create table x ();\n\nselect 'é', no_such_column from x;")
    with pytest.raises(StepFailed, match="deploying change 'x'") as caught:
        await deploy(session, *quick(1, 2, 3, 4, 5), broken, *quick(6))
    assert (caught.value.file, caught.value.line) == ("modules/shop/deploy/x.sql", 3)
    assert await recorded(session) == ["q1", "q2", "q3", "q4", "q5"]


async def test_failing_verify_among_many_takes_its_change_back(session: DatabaseSession) -> None:
    """A change that does not verify is not there, and its verify script is named."""
    broken = replace(change("x"), verify=Script("modules/shop/verify/x.sql", "select 1;\nselect 1/0;"))
    with pytest.raises(StepFailed) as caught:
        await deploy(session, *quick(1, 2, 3, 4), broken, *quick(5))
    assert (caught.value.file, caught.value.line) == ("modules/shop/verify/x.sql", 2)
    assert await recorded(session) == ["q1", "q2", "q3", "q4"]


async def test_script_that_lost_a_race_begins_anew(session: DatabaseSession, database_dsn: Dsn) -> None:
    """What it prepared before it waited is forgotten when it is tried again."""
    await deploy(session, *quick(1))
    other = await connect(database_dsn, role="blocker", autocommit=False)
    await other.execute("lock table public.q1 in access share mode")
    text = "prepare ours as select 1; create temporary table kept (); alter table public.q1 add column x int"
    racing = asyncio.create_task(deploy(session, change("b", text=text)))

    async def again() -> bool:
        cursor = await session.holder.execute(
            "select count(*) from pg_stat_activity where pid = %s and state = 'idle'",
            (session.writer.info.backend_pid,),
        )
        row = await cursor.fetchone()
        return bool(row and row[0])

    async def blocked() -> bool:
        return await session.blockers() is not None

    await holds(blocked, "the change to wait")
    await holds(again, "the first try to end")
    await other.close()
    assert await racing == ["b"]


async def test_data_stand_in_a_message_with_others(session: DatabaseSession) -> None:
    """A COPY with its data is sent as any statement is, and a bad line of them is told by its line."""
    text = "create table x (id int);\ncopy x from stdin;\n1\n2\n\\.\nselect count(*) from x;\n"
    assert await deploy(session, *quick(1, 2, 3), change("x", text=text), *quick(4)) == [
        *("q1", "q2", "q3"),
        "x",
        "q4",
    ]
    bad = "copy public.x from stdin;\n3\nfour\n\\.\n"
    with pytest.raises(StepFailed) as caught:
        await deploy(session, *quick(5, 6, 7), change("y", text=bad), *quick(8))
    assert (caught.value.file, caught.value.line) == ("modules/shop/deploy/y.sql", 3)
    cursor = await session.holder.execute("select count(*) from public.x")
    assert await cursor.fetchone() == (2,)


async def test_message_that_the_server_cannot_read_is_no_failure_of_its_first_change(
    session: DatabaseSession,
) -> None:
    """Nothing of it ran; the statement that nobody understands is found by the position that is told."""
    good = compile_script(Script("good.sql", "select 1;\nselect 2;"), purpose=Purpose.DEPLOY)
    program = compile_script(Script("new.sql", "select 1;\nselect 2;"), purpose=Purpose.DEPLOY)
    newer = replace(
        program, statements=(program.statements[0], replace(program.statements[1], text="select é from from"))
    )
    begin = Piece("begin")
    chapters = [
        Chapter("good", (begin, *of_script(good, apart=False), Piece("commit"))),
        Chapter("newer", (begin, *of_script(newer, apart=False), Piece("commit"))),
    ]
    exchange = Exchange(chapters)
    await exchange.run(session.writer)
    assert (exchange.unread, exchange.finished) == (True, 0)
    found = exchange.fault()
    assert found is not None
    whose, cause = found
    assert whose == "newer"
    assert (cause.statement, cause.position) == (1, 15)  # type: ignore[union-attr]


RULES = """
    create table x (id int);
    create rule first as on insert to x do also select 1, 'a';
    create rule second as on insert to x do also (select 2; select new.id);
"""


async def test_rows_of_rules_are_no_answers_of_their_own(session: DatabaseSession) -> None:
    """A statement may give rows several times; no change counts as done, or is blamed, for that."""
    many = change("y", text="insert into x values (1), (2);" * 25)
    assert await deploy(session, *quick(1, 2), change("x", text=RULES)) == ["q1", "q2", "x"]
    told: list[str] = []

    async def done(one: DesiredChange) -> None:
        told.append(one.name)

    wanted = [*quick(3, 4, 5), many, change("z", text="select 1/0"), *quick(6)]
    progress = Progress(done=done, safe_point=go_on)
    with pytest.raises(StepFailed, match="deploying change 'z'") as caught:
        await changes.deploy(session, module(*wanted), wanted, ACTOR, progress)
    assert (caught.value.file, caught.value.line) == ("modules/shop/deploy/z.sql", 1)
    assert told == ["q3", "q4", "q5", "y"]
    assert await recorded(session) == ["q1", "q2", "x", *told]
    verified = replace(change("v"), verify=Script("modules/shop/verify/v.sql", VERIFIES))
    assert await deploy(session, verified, *quick(7)) == ["v", "q7"]


async def test_a_role_that_follows_no_foreign_keys(postgres_server: Server, fresh_database: str) -> None:
    """Scripts find what their role has by default; of our records nothing stays behind that hung on them."""
    postgres_server.run(
        f"alter role postgres in database {fresh_database} set session_replication_role = 'replica'"
    )
    session = await open_session(
        postgres_server.dsn, fresh_database, OWNER, limits=LIMITS, install_tracking=True
    )
    told = "do $$ begin assert current_setting('session_replication_role') = 'replica'; end $$;"
    wanted = [
        change("a", text="create table a ();" + told, tags=("v1",)),
        change("b", text="create table b ();" + told, requires=("a",)),
        change("c", text="create table c ();" + told, requires=("b",)),
    ]
    assert len(await deploy(session, *wanted)) == 3
    scripts = ("drop table c;" + told, "drop table b;", "drop table a;")
    left = [back(name, text) for name, text in zip("cba", scripts, strict=True)]
    assert await revert(session, *left) == 3
    cursor = await session.holder.execute(
        "select (select count(*) from reconciler.changes), (select count(*) from reconciler.dependencies),"
        " (select count(*) from reconciler.tags)"
    )
    assert await cursor.fetchone() == (0, 0, 0)
    await session.abandon()


VERIFIES = "-- verify: writes\ninsert into x values (3);\nselect 1;"


@pytest.mark.parametrize("before", [[], [1, 2, 3]], ids=["alone", "among others"])
@pytest.mark.parametrize(
    "says",
    [
        "set client_encoding = 'latin1';",
        "do $$ begin perform set_config('client_encoding', 'sjis', false); end $$;",
        "set client_encoding = 'sql_ascii';",
    ],
    ids=["set", "in a block", "no encoding"],
)
async def test_script_that_changes_the_encoding_says_what_it_says(
    session: DatabaseSession, says: str, before: list[int]
) -> None:
    """What stands behind it means the same, in the script, in its record and in changes after it."""
    word = "á" if "latin1" in says else "表"
    if "sql_ascii" in says:
        word = "é表"
    text = f"create table x as select 'a' as t;\n{says}\ninsert into x values ('{word}');"
    first = replace(
        change("x", text=text),
        note="é → 表",
        revert=Script("r.sql", "select 'é → 表'"),
        verify=Script("v.sql", f"select 1 / (select count(*) from x where t = '{word}')"),
    )
    assert len(await deploy(session, *quick(*before), first, *quick(4))) == len(before) + 2
    cursor = await session.holder.execute(
        "select t.t, c.note, c.revert_script from public.x t, reconciler.changes c"
        " where c.name = 'x' and t.t <> 'a'"
    )
    assert await cursor.fetchall() == [(word, "é → 表", "select 'é → 表'")]


async def test_character_that_an_encoding_lacks_is_told(session: DatabaseSession) -> None:
    """Nothing else is put in its place; the change is taken back."""
    wanted = change("x", text="create table x (t text);\nset client_encoding = 'latin1';\nselect '表';")
    with pytest.raises(StepFailed, match=r"client_encoding that has no character U\+8868"):
        await deploy(session, wanted)
    assert await recorded(session) == []
    assert await deploy(session, *quick(1)) == ["q1"]
