"""Recording changes inside the transactions that make them."""

import psycopg
import pytest

from reconciler.errors import Conflict, PermanentError, Refused
from reconciler.postgres.connection import Connection
from reconciler.tracking.errors import translate
from reconciler.tracking.fence import Fence
from reconciler.tracking.read import read_log, read_tracked
from reconciler.tracking.record import (
    Actor,
    ChangeRecord,
    Failure,
    ModuleIdentity,
    TagRecord,
    change_deployed,
    change_failed,
    change_renamed,
    tag_recorded,
)

SHA = "a" * 40


def change(name: str, change_id: str | None = None, **values: object) -> ChangeRecord:
    return ChangeRecord(
        change_id=change_id or f"id of {name}",
        name=name,
        script_hash=SHA,
        parse_hash="b" * 16,
        planned_at="2024-05-06T07:08:09Z",
        planner="A Planner",
        **values,
    )


async def names(connection: Connection, project: str = "shop") -> list[str]:
    tracked = await read_tracked(connection)
    return [item.name for item in tracked.modules[project].changes] if project in tracked.modules else []


async def test_a_deployed_change_reads_back(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor, superuser
) -> None:
    """Everything that is recorded of a change is found again: by reading, in the log and in the tables."""
    recorded = change(
        'größe "1"\'; --',
        revert_script="DROP TABLE t; -- 100 %s",
        verify_script="SELECT 1",
        note="a note",
        requires=(("require", "base:users", "x1"), ("conflict", "legacy", None)),
        tags=(TagRecord("t1", "v1", "first"), ("t2", "v1.1")),
    )
    await change_deployed(connection, fence, module, change("first"), actor)
    await change_deployed(connection, fence, module, recorded, actor)

    tracked = await read_tracked(connection)
    assert tracked.installed
    assert tracked.modules["shop"].component == "shop-schema"
    first, second = tracked.modules["shop"].changes
    assert (second.change_id, second.name, second.script_hash) == (recorded.change_id, recorded.name, SHA)
    assert second.tags == ("v1", "v1.1")
    assert first.tags == ()
    assert first.position < second.position
    (event, _before) = await read_log(connection, "shop")
    assert (event.kind, event.name, event.note) == ("deploy", recorded.name, "a note")
    assert (event.requires, event.conflicts, event.tags) == (("base:users",), ("legacy",), ("v1", "v1.1"))
    assert (event.actor, event.commit, event.operation) == (actor.committer, actor.commit, actor.operation)
    assert superuser.execute(
        "SELECT revert_script, verify_script, deployed_by FROM reconciler.changes WHERE name = %s",
        (recorded.name,),
    ).fetchone() == (recorded.revert_script, recorded.verify_script, actor.committer)
    assert superuser.execute("SELECT kind::text, dependency_id FROM reconciler.dependencies").fetchall() == [
        ("require", "x1"),
        ("conflict", None),
    ]


async def test_a_record_goes_with_its_transaction(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor
) -> None:
    """A change that is rolled back is not recorded, and one that is committed is."""
    async with connection.transaction(force_rollback=True):
        await connection.execute("CREATE TABLE public.one (id int)")
        await change_deployed(connection, fence, module, change("one"), actor)
        assert await names(connection) == ["one"]
    assert await names(connection) == []

    async with connection.transaction():
        await connection.execute("CREATE TABLE public.one (id int)")
        await change_deployed(connection, fence, module, change("one"), actor)
    assert await names(connection) == ["one"]


async def test_a_failure_stays_after_the_rollback(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor
) -> None:
    """A failure is in the log with code, words and place, and the change is not deployed."""
    failure = Failure(message='relation "x" does not exist', sqlstate="42P01", file="deploy/one.sql", line=3)
    await change_failed(connection, fence, module, change("one"), failure, actor)
    await change_failed(connection, fence, module, change("one"), Failure(message="\x00"), actor)

    second, first = await read_log(connection)
    assert (first.kind, first.message, first.sqlstate) == ("fail", failure.message, "42P01")
    assert (first.file, first.line) == ("deploy/one.sql", 3)
    assert second.message == "no reason given"
    assert await names(connection) == []


async def test_two_changes_may_have_the_same_script(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor
) -> None:
    """Scripts are no identity: equal ones are two changes."""
    await change_deployed(connection, fence, module, change("one"), actor)
    await change_deployed(connection, fence, module, change("two"), actor)
    assert await names(connection) == ["one", "two"]


async def test_a_change_is_recorded_once(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor
) -> None:
    """Recording a deployed change again is a conflict, and changes nothing."""
    await change_deployed(connection, fence, module, change("one"), actor)
    with pytest.raises(Conflict, match="recorded already"):
        await change_deployed(connection, fence, module, change("one"), actor)
    assert len(await read_log(connection)) == 1


async def test_a_reworked_change_takes_the_name_over(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor
) -> None:
    """The older instance of a reworked change is known by the tag that follows it, as in the plan file."""
    await change_deployed(connection, fence, module, change("one"), actor)
    await change_deployed(connection, fence, module, change("two", tags=(("t1", "v1"),)), actor)
    await change_deployed(connection, fence, module, change("one", "reworked"), actor)
    assert await names(connection) == ["one@v1", "two", "one"]


async def test_a_tag_is_recorded_once(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor
) -> None:
    """A tag that a plan file gained is recorded once; again is nothing, on another change it moves there."""
    await change_deployed(connection, fence, module, change("one"), actor)
    await change_deployed(connection, fence, module, change("two"), actor)
    for _ in range(2):
        await tag_recorded(connection, fence, "shop", "id of one", TagRecord("t1", "v1", "note"), actor)
    tracked = await read_tracked(connection)
    assert [item.tags for item in tracked.modules["shop"].changes] == [("v1",), ()]
    await tag_recorded(connection, fence, "shop", "id of two", ("t2", "v1"), actor)
    tracked = await read_tracked(connection)
    assert [item.tags for item in tracked.modules["shop"].changes] == [(), ("v1",)]


async def test_a_change_is_renamed_once_and_names_may_change_places(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor
) -> None:
    """The record takes the new name and tells of it once; two changes may swap theirs."""
    await change_deployed(connection, fence, module, change("one"), actor)
    await change_deployed(connection, fence, module, change("two"), actor)
    for _ in range(2):
        await change_renamed(connection, fence, "shop", ("id of one", "two"), actor)
    await change_renamed(connection, fence, "shop", ("id of two", "one"), actor)
    assert await names(connection) == ["two", "one"]
    log = await read_log(connection, "shop", kind="rename")
    assert [(row.change_id, row.name) for row in log] == [("id of two", "one"), ("id of one", "two")]
    with pytest.raises(PermanentError, match="not deployed"):
        await change_renamed(connection, fence, "shop", ("id of three", "three"), actor)


async def test_modules_share_a_database(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor
) -> None:
    """Two projects with the same names of changes and tags keep apart; a moved component is followed."""
    other = ModuleIdentity(project="billing", component="billing-schema")
    await change_deployed(connection, fence, module, change("one", "1", tags=(("t1", "v1"),)), actor)
    await change_deployed(connection, fence, other, change("one", "2", tags=(("t2", "v1"),)), actor)
    moved = ModuleIdentity(project="billing", component="money")
    await change_deployed(connection, fence, moved, change("two", "3"), actor)

    assert await names(connection, "shop") == ["one"]
    assert await names(connection, "billing") == ["one", "two"]
    assert (await read_tracked(connection)).modules["billing"].component == "money"
    assert [event.project for event in await read_log(connection, "shop")] == ["shop"]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE reconciler.events SET message = NULL",
        "DELETE FROM reconciler.events",
        "TRUNCATE reconciler.events",
    ],
)
async def test_history_is_append_only(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor, superuser, statement: str
) -> None:
    """No statement rewrites an event, not even a superuser's."""
    await change_deployed(connection, fence, module, change("one"), actor)
    with pytest.raises(psycopg.Error, match="append-only"):
        superuser.execute(statement)


HOSTILE = """
    CREATE SCHEMA evil;
    CREATE TABLE evil.changes (change_id text);
    CREATE FUNCTION evil.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS 'SELECT timestamptz ''epoch''';
    CREATE FUNCTION evil.always(text, text) RETURNS bool LANGUAGE sql AS 'SELECT true';
    CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.always);
    CREATE TEMPORARY TABLE changes (change_id text);
    CREATE TEMPORARY TABLE fence (epoch bigint);
    SET search_path = evil, pg_temp, pg_catalog;
    SET lock_timeout = 1;
    SET statement_timeout = '1h';
    SET session_replication_role = replica;
    SET default_transaction_isolation = serializable;
    SET row_security = off;
    SET standard_conforming_strings = off;
    SET DateStyle = 'German';
    SET IntervalStyle = 'sql_standard';
    SET TimeZone = 'Asia/Kathmandu';
    SET bytea_output = 'escape';
    SET client_encoding = 'LATIN1';
    SET ROLE pg_read_all_stats;
"""


async def test_a_hostile_session_does_not_reach_the_record(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor, superuser
) -> None:
    """Whatever a script sets and creates, its change is recorded in our tables, and the role is back."""
    recorded = change("größe", requires=(("require", "a", None),), tags=(("t1", "v1"),))
    async with connection.transaction():
        await connection.execute(HOSTILE)
        await change_deployed(connection, fence, module, recorded, actor)

    cursor = await connection.execute(
        "SELECT current_user = session_user, current_setting('session_replication_role'),"
        " current_setting('search_path') LIKE '%%evil%%'"
    )
    assert await cursor.fetchone() == (True, "origin", False)
    assert superuser.execute(
        "SELECT name, deployed_at > now() - interval '1 hour' FROM reconciler.changes"
    ).fetchall() == [("größe", True)]
    assert await names(connection) == ["größe"]


async def test_a_session_authorization_is_taken_back(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor
) -> None:
    """A script that became somebody else for the session does not make our statements theirs."""
    async with connection.transaction():
        await connection.execute("SET SESSION AUTHORIZATION pg_monitor")
        await change_deployed(connection, fence, module, change("one"), actor)
    assert await names(connection) == ["one"]


async def test_a_script_that_drops_our_schema_is_named(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor
) -> None:
    """Dropping the tracking schema takes the change back, and the message says what to look for."""
    await change_deployed(connection, fence, module, change("one"), actor)
    async with connection.transaction(force_rollback=True):
        await connection.execute("DROP SCHEMA reconciler CASCADE")
        with pytest.raises(Refused, match="tracking schema 'reconciler' is missing") as caught:
            await change_deployed(connection, fence, module, change("two"), actor)
    assert "DROP SCHEMA" in (caught.value.hint or "")
    assert await names(connection) == ["one"]


async def test_records_may_be_sent_in_a_pipeline(
    fence: Fence, connection: Connection, module: ModuleIdentity, actor: Actor
) -> None:
    """In a pipeline records cost no round trip of their own, and the caller translates what fails there."""
    async with connection.pipeline(), connection.transaction():
        for name in ("one", "two", "three"):
            await connection.execute(f"CREATE TABLE public.{name} (id int)")
            await change_deployed(connection, fence, module, change(name), actor)
    assert await names(connection) == ["one", "two", "three"]

    with pytest.raises((psycopg.Error, Conflict)) as caught:
        async with connection.pipeline(), connection.transaction():
            await change_deployed(connection, fence, module, change("one"), actor)
    if isinstance(caught.value, psycopg.Error):
        assert isinstance(translate(caught.value, "recording"), Conflict)
