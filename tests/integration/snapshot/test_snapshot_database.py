"""What a database and a server are, with the catalog only where it moved."""

import json
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from reconciler.errors import DatabaseUnavailable
from reconciler.snapshot.catalog import read_catalog, read_objects
from reconciler.snapshot.database import UNKNOWN_SYSTEM, Glance, read_database, read_server, read_whole
from reconciler.snapshot.probe import probe
from reconciler.snapshot.transaction import reading

ALONE = [
    ("CREATE TYPE shop.t AS (a int); COMMENT ON COLUMN shop.t.a IS 'x'", "type shop.t"),
    ("CREATE TYPE shop.t AS ENUM ('a')", "type shop.t"),
    ("CREATE TYPE shop.t AS RANGE (subtype = int4)", "type shop.t"),
    ("CREATE DOMAIN shop.t AS int", "domain shop.t"),
    ("CREATE VIEW shop.t AS SELECT 1 AS a", "view shop.t"),
    ("CREATE TABLE shop.t (a int)", "table shop.t"),
    ("CREATE TABLE shop.t (a int DEFAULT 1)", "table shop.t"),
    ("CREATE TABLE shop.t (a int, b int GENERATED ALWAYS AS (a + 1) STORED)", "table shop.t"),
    ("CREATE TABLE shop.t (a int); CREATE TABLE shop.u () INHERITS (shop.t)", "table shop.u"),
    (
        "CREATE TABLE shop.t (a int) PARTITION BY LIST (a); CREATE TABLE shop.u PARTITION OF shop.t DEFAULT",
        "table shop.u",
    ),
    (
        """CREATE COLLATION shop."c.d" FROM "C"; CREATE COLLATION pg_catalog."e ""f" FROM "C";
        CREATE TABLE shop.t (a text COLLATE "C", b text COLLATE shop."c.d", c text COLLATE "e ""f")""",
        "table shop.t",
    ),
    (
        """CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w;
        CREATE FOREIGN TABLE shop.t (a int OPTIONS (column_name 'x')) SERVER s OPTIONS (table_name 'y')""",
        "foreign table shop.t",
    ),
    ("CREATE TABLE shop.t (a int CHECK (a > 0))", "constraint shop.t.t_a_check"),
    ("CREATE TABLE shop.t (a int); CREATE INDEX i ON shop.t (a)", "index shop.i"),
    ("CREATE TABLE shop.t (a int); CREATE POLICY p ON shop.t", "policy shop.t.p"),
    ("CREATE TABLE shop.t (a int); CREATE RULE r AS ON INSERT TO shop.t DO NOTHING", "rule shop.t.r"),
    (
        """CREATE TABLE shop.t (a int); CREATE TRIGGER g BEFORE UPDATE ON shop.t
        FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()""",
        "trigger shop.t.g",
    ),
    ("CREATE SEQUENCE shop.t", "sequence shop.t"),
    ("CREATE FUNCTION shop.f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "function shop.f()"),
    ("CREATE AGGREGATE shop.f(int) (SFUNC = int4pl, STYPE = int)", "aggregate shop.f(integer)"),
    ("CREATE PUBLICATION p FOR ALL TABLES", "publication p"),
    (
        """CREATE FUNCTION shop.f() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
        CREATE EVENT TRIGGER e ON ddl_command_end WHEN TAG IN ('CREATE CAST') EXECUTE FUNCTION shop.f()""",
        "event trigger e",
    ),
    (
        "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON ROUTINES FROM PUBLIC",
        "default privileges postgres on routines",
    ),
]
"""Statements that each make the only object of its kind, and what that is."""


async def value(connection: Any, query: str) -> Any:
    row = await (await connection.execute(query)).fetchone()
    return row[0]


async def test_reads_everything_the_first_time(furnished: Any) -> None:
    """Without a known probe the catalog is read, with the probe of the same moment."""
    live = await read_database(furnished, known_probe=None)
    assert live.exists
    assert not live.empty
    assert live.catalog == await read_catalog(furnished)
    assert live.probe == await probe(furnished)
    assert set(live.extensions) == {"citext", "plpgsql", "postgres_fdw"}
    assert {"citext", "hstore", "plpgsql"} <= live.available_extensions
    assert live.identity is not None
    assert live.identity.system_identifier == await value(
        furnished, "SELECT system_identifier::text FROM pg_control_system()"
    )
    assert live.identity.database_oid == await value(
        furnished, "SELECT oid::bigint FROM pg_database WHERE datname = current_database()"
    )
    assert live.identity.server_major == furnished.info.server_version // 10000


async def test_reads_no_catalog_while_nothing_moves(furnished: Any) -> None:
    """With the probe of now there is nothing to read; after DDL there is."""
    before = await read_database(furnished, known_probe=None)
    again = await read_database(furnished, known_probe=before.probe)
    assert again.catalog is None
    assert again.probe == before.probe
    await furnished.execute("ALTER TABLE shop.orders ADD COLUMN by_hand text")
    after = await read_database(furnished, known_probe=before.probe)
    assert after.probe != before.probe
    assert after.catalog is not None
    assert "by_hand" in after.catalog.objects["table shop.orders"].definition


@pytest.mark.parametrize(
    ("ddl", "empty"),
    [
        ("SELECT 1", True),
        ("CREATE SCHEMA reconciler CREATE TABLE t (a int)", True),
        ("CREATE TEMP TABLE t (a int)", True),
        ("CREATE SCHEMA s", False),
        ("CREATE TABLE t (a int)", False),
        ("CREATE SEQUENCE s", False),
        ("CREATE TYPE e AS ENUM ()", False),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", False),
        ("CREATE EXTENSION citext", False),
    ],
)
async def test_says_whether_a_database_is_empty(live: Any, ddl: str, *, empty: bool) -> None:
    """Empty is what holds no object of a user's; our schema and what PostgreSQL puts there do not count."""
    await live.execute(ddl)
    assert (await read_database(live, known_probe=None)).empty is empty


async def test_a_kind_that_is_not_there_is_found_once_it_is(live: Any) -> None:
    """Kinds that the probe has no rows of are not asked for; the first object of any kind is read at once."""
    for ddl, identity in ALONE:
        await live.execute("CREATE SCHEMA shop")
        before = await read_whole(live)
        assert identity not in before.catalog.objects
        assert before.catalog == await read_catalog(live)
        await live.execute(ddl)
        after = await read_whole(live)
        assert identity in after.catalog.objects, ddl
        assert after.catalog == await read_catalog(live), ddl
        await live.execute(
            "DROP SCHEMA shop CASCADE; DROP PUBLICATION IF EXISTS p;"
            ' DROP COLLATION IF EXISTS pg_catalog."e ""f"; DROP FOREIGN DATA WRAPPER IF EXISTS w CASCADE;'
            " ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON ROUTINES TO PUBLIC"
        )


async def test_only_what_the_probe_found_is_asked_for(furnished: Any) -> None:
    """A kind without a row in the probe costs no query."""
    async with reading(furnished):
        found = await read_objects(furnished, present=frozenset())
        tables = await read_objects(furnished, present=frozenset({"relations"}))
    assert {item.kind.value for item in found.objects.values()} == {"schema", "extension", "database"}
    assert "table shop.orders" in tables.objects
    assert not any(item.kind.value == "trigger" for item in tables.objects.values())


async def test_the_whole_of_a_database(furnished: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is read with probe and identity, in a small catalog and in a larger one."""
    live = await read_database(furnished, known_probe=None)
    whole = await read_whole(furnished)
    assert (whole.identity, whole.probe, whole.catalog) == (live.identity, live.probe, live.catalog)
    monkeypatch.setattr("reconciler.snapshot.database.SMALL_CATALOG_BYTES", 0)
    assert await read_whole(furnished) == whole


@pytest.mark.parametrize("managed", [False, True])
async def test_a_glance_finds_what_a_reading_does(furnished: Any, *, managed: bool) -> None:
    """All but the catalog; of a database that is managed, not what is only asked of one that is not."""
    whole = await read_database(furnished, known_probe=None)
    glance = Glance(furnished)
    async with reading(furnished):
        await glance.send_first()
        await glance.send_second(managed=managed)
    found = await glance.finish()
    expected = replace(whole, catalog=None)
    assert found == (replace(expected, available_extensions=frozenset()) if managed else expected)


async def test_identity_where_the_role_may_not_ask(live: Any) -> None:
    """A role that may not read the system identifier still gets everything else."""
    await live.execute("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_control_system() FROM PUBLIC")
    await live.execute(
        "DO $$ BEGIN CREATE ROLE snap_reader; EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$"
    )
    await live.execute("SET ROLE snap_reader")
    found = await read_database(live, known_probe=None)
    assert found.identity is not None
    assert found.identity.system_identifier == UNKNOWN_SYSTEM
    assert found.catalog is not None


async def test_server_facts(live: Any) -> None:
    """A server names its databases with their oids, and says which take no work."""
    facts = await read_server(live)
    name = live.info.dbname
    assert facts.databases[name] == await value(
        live, "SELECT oid::bigint FROM pg_database WHERE datname = current_database()"
    )
    assert "no such database" not in facts.databases
    assert facts.closed_databases >= {"template0", "template1"}
    assert name not in facts.closed_databases
    assert facts.can_create_database
    assert not facts.in_recovery
    assert facts.server_major == live.info.server_version // 10000
    assert "plpgsql" in facts.available_extensions


async def test_server_facts_of_a_plain_role(furnished: Any) -> None:
    """A role that may not make databases is told so before it tries."""
    await furnished.execute("SET ROLE snap_reader")
    facts = await read_server(furnished)
    assert not facts.can_create_database
    assert not facts.is_superuser


@pytest.mark.parametrize(
    "ddl",
    [
        "DROP VIEW shop.big_orders CASCADE",
        "DROP FUNCTION shop.touch() CASCADE",
        "DROP TABLE shop.orders CASCADE",
        "DROP INDEX shop.customers_lower",
        "DROP SCHEMA shop CASCADE",
    ],
)
async def test_an_object_dropped_under_the_snapshot_is_noticed(
    furnished: Any, connect: Any, ddl: str
) -> None:
    """Where rows are from before a drop and definitions from after it, the read fails rather than mixes."""
    other = await connect(furnished.info.dbname)

    async def read_around_the_drop() -> None:
        async with reading(furnished):
            await (await furnished.execute("SELECT 1")).fetchone()
            await other.execute(ddl)
            await read_objects(furnished)

    with pytest.raises(psycopg.Error):
        await read_around_the_drop()
    assert furnished.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


async def test_a_picture_mixed_of_two_moments_is_taken_anew(
    furnished: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A column renamed after the snapshot was taken is in no picture half old and half new."""
    other = await connect(furnished.info.dbname)
    renamed = False

    async def read_late(connection: Any, **how: Any) -> Any:
        nonlocal renamed
        if not renamed:
            renamed = True
            await other.execute("ALTER TABLE shop.orders RENAME amount TO price")
        return await read_objects(connection, **how)

    monkeypatch.setattr("reconciler.snapshot.database.read_objects", read_late)
    live = await read_database(furnished, known_probe=None)
    assert live.catalog is not None
    assert '"price"' in live.catalog.objects["table shop.orders"].definition
    assert "o.price" in live.catalog.objects["view shop.big_orders"].definition
    assert live.probe == await probe(furnished)


async def test_a_large_catalog_is_read_over_two_connections(
    furnished: Any, connect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second connection is borrowed for a large catalog only, and is done without where there is none."""
    borrowed = []

    @asynccontextmanager
    async def borrow() -> Any:
        borrowed.append(True)
        yield await connect(furnished.info.dbname)

    @asynccontextmanager
    async def refuse() -> Any:
        borrowed.append(False)
        raise DatabaseUnavailable("the server has no connection left")
        yield

    alone = await read_database(furnished, known_probe=None, beside=borrow)
    assert borrowed == []
    monkeypatch.setattr("reconciler.snapshot.database.LARGE_CATALOG_BYTES", 0)
    assert await read_database(furnished, known_probe=alone.probe, beside=borrow)
    assert borrowed == []
    assert await read_database(furnished, known_probe=None, beside=borrow) == alone
    assert await read_database(furnished, known_probe=None, beside=refuse) == alone
    assert borrowed == [True, False]


async def test_a_lost_connection_is_reported(live: Any, connect: Any) -> None:
    """A connection that the server ends while it reads is an error of ours, without its secrets."""
    other = await connect(live.info.dbname)
    await other.execute("SELECT pg_terminate_backend(%s)", (live.info.backend_pid,))
    with pytest.raises(DatabaseUnavailable, match="reading database"):
        await read_database(live, known_probe=None)


async def test_names_of_collations(live: Any) -> None:
    """Every collation is told with its schema, the system's too, and quoted where it has to be."""
    await live.execute(
        """CREATE COLLATION "c.d" FROM "C"; CREATE COLLATION pg_catalog."e ""f" FROM "C";
        CREATE TABLE t (a text COLLATE "C", b text COLLATE "c.d", c text COLLATE "e ""f", d text, e int)"""
    )
    definition = (await read_catalog(live)).objects["table public.t"].definition
    assert [column.get("collation") for column in json.loads(definition)["columns"]] == [
        'pg_catalog."C"',
        'public."c.d"',
        'pg_catalog."e ""f"',
        None,
        None,
    ]
