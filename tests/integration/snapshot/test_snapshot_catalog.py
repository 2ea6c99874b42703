"""The catalog of a real database as values: complete, canonical, and blind to what nobody declared."""

import asyncio
import json
import subprocess
from typing import Any

import psycopg
import pytest

from reconciler.catalog.fingerprint import fingerprint
from reconciler.catalog.model import Catalog, CatalogObject, ObjectKind
from reconciler.diff.catalog import compare
from reconciler.errors import ReconcilerError
from reconciler.snapshot.catalog import read_catalog, read_objects
from reconciler.snapshot.transaction import reading

WEIRD = '"we""ird\nschema"'


async def read(connection: Any) -> Catalog:
    return await read_catalog(connection)


def attributes(catalog: Catalog, identity: str) -> dict[str, Any]:
    return json.loads(catalog.objects[identity].definition)


def columns(catalog: Catalog, identity: str) -> dict[str, dict[str, Any]]:
    return {column["name"]: column for column in attributes(catalog, identity)["columns"]}


def apart_from_database(catalog: Catalog) -> dict[str, CatalogObject]:
    return {key: row for key, row in catalog.objects.items() if row.kind is not ObjectKind.DATABASE}


async def test_every_kind_is_read(furnished: Any) -> None:
    """Each kind of object is found, under its identity, with the fingerprint of its definition."""
    catalog = await read(furnished)
    assert {row.kind for row in catalog.objects.values()} == set(ObjectKind)
    for identity, row in catalog.objects.items():
        assert identity == row.identity
        assert row.fingerprint == fingerprint(row.definition)
        assert isinstance(json.loads(row.definition), dict)


async def test_attributes_of_a_table(furnished: Any) -> None:
    """A table tells of its columns in order, its options, grants, comment, owner and row security."""
    catalog = await read(furnished)
    table = attributes(catalog, "table shop.customers")
    assert [column["name"] for column in table["columns"]] == [
        "id", "name", "mail", "feeling", "born", "waits", "note", "doubled",
    ]  # fmt: skip
    assert table["owner"] == "snap_owner"
    assert table["options"] == ["autovacuum_enabled=false", "fillfactor=70", "toast.autovacuum_enabled=false"]
    assert table["row_security"] is table["row_security_forced"] is True
    assert table["replica_identity"] == "full"
    assert table["grants"] == ["snap_reader=ar/snap_owner"]
    assert table["comment"] == "people"
    assert columns(catalog, "table shop.customers")["note"] == {
        "name": "note",
        "type": "text",
        "storage": "external",
        "compression": "pglz",
        "statistics": 500,
        "collation": 'pg_catalog."C"',
        "options": ["n_distinct=5"],
        "grants": ['"snap ""quoted"" role"=w/snap_owner'],
        "comment": "a note",
    }
    assert columns(catalog, "table shop.customers")["id"]["identity"] == "always"
    assert columns(catalog, "table shop.customers")["doubled"]["generated"] == "stored"


async def test_hostile_identifiers(furnished: Any) -> None:
    """Quotes, newlines, 63 bytes, Unicode and key words in names come out as PostgreSQL quotes them."""
    catalog = await read(furnished)
    longest = "a" * 10 + "b" * 10 + "c" * 10 + "d" * 10 + "e" * 10 + "f" * 10 + "ggg"
    assert list(columns(catalog, f'table {WEIRD}."t\'able"')) == ['co"l;--', "ünïcödé 表", longest]
    assert f'index {WEIRD}."in\ndex"' in catalog.objects
    assert f'view {WEIRD}."SELECT"' in catalog.objects
    assert f'function {WEIRD}."f(x)"(shop.mood)' in catalog.objects
    assert f'constraint {WEIRD}."t\'able"."ch\'eck"' in catalog.objects
    assert f"schema {WEIRD}" in catalog.objects


@pytest.mark.parametrize(
    "setting",
    [
        "SET search_path = shop, public",
        "SET search_path = pg_temp, shop",
        "SET TimeZone = 'Asia/Tokyo'",
        "SET DateStyle = 'German'",
        "SET IntervalStyle = 'iso_8601'",
        "SET quote_all_identifiers = on",
        "SET standard_conforming_strings = off",
        "SET escape_string_warning = off",
        "SET extra_float_digits = 0",
        "SET client_encoding = 'LATIN9'",
        "SET ROLE snap_reader",
    ],
)
async def test_settings_of_the_session_do_not_matter(live: Any, everything: bytes, setting: str) -> None:
    """The same catalog is read whatever search path, formats, encoding or role the session has."""
    plain = everything.replace("ünïcödé 表".encode(), b"plain") if "LATIN9" in setting else everything
    await live.execute(plain)
    before = await read(live)
    await live.execute(setting)
    try:
        assert await read(live) == before
    finally:
        await live.execute("RESET ALL")


async def test_reading_leaves_the_session_as_it_was(furnished: Any) -> None:
    """Settings made for reading end with its transaction, and the session is idle after it."""
    await furnished.execute("SET search_path = shop")
    await read(furnished)
    cursor = await furnished.execute("SHOW search_path")
    assert await cursor.fetchone() == ("shop",)
    assert furnished.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


async def test_same_ddl_elsewhere_reads_the_same(
    furnished: Any, connect: Any, postgres_server: Any, everything: bytes
) -> None:
    """The same DDL in a database with other oids and dropped columns gives the same catalog."""
    other_name = f"{furnished.info.dbname}_other"
    await furnished.execute(f'CREATE DATABASE "{other_name}" TEMPLATE template0')
    other = await connect(other_name)
    try:
        await other.execute("CREATE TABLE shift (a int); DROP TABLE shift")
        await other.execute(everything)
        await other.execute(
            "ALTER TABLE shop.orders ADD COLUMN hole integer; ALTER TABLE shop.orders DROP COLUMN hole"
        )
        assert apart_from_database(await read(other)) == apart_from_database(await read(furnished))
    finally:
        await other.close()
        await furnished.execute(f'DROP DATABASE "{other_name}" WITH (FORCE)')


async def test_dump_and_restore_reads_the_same(furnished: Any, connect: Any, postgres_server: Any) -> None:
    """A dump restored elsewhere reads the same, but for texts that PostgreSQL deparses another way then."""
    name = furnished.info.dbname
    other_name = f"{name}_restored"
    await furnished.execute(f'CREATE DATABASE "{other_name}" TEMPLATE template0')
    try:
        dump = await asyncio.to_thread(
            subprocess.run,
            [postgres_server.bin_dir / "pg_dump", "--schema-only", "-d", postgres_server.text(name)],
            check=True,
            capture_output=True,
        )
        await asyncio.to_thread(
            subprocess.run,
            [
                postgres_server.bin_dir / "psql",
                "-qXv",
                "ON_ERROR_STOP=1",
                "-d",
                postgres_server.text(other_name),
            ],
            input=dump.stdout,
            check=True,
            capture_output=True,
        )
        other = await connect(other_name)
        drift = compare(
            apart_from_database(await read(furnished)), apart_from_database(await read(other)), "shop-db"
        )
        await other.close()
        not_fixed_points = {"constraint shop.customers.name_known", "view shop.big_orders"}
        assert {row.identity for row in drift} == not_fixed_points
    finally:
        await furnished.execute(f'DROP DATABASE "{other_name}" WITH (FORCE)')


async def test_members_of_extensions_are_left_out(furnished: Any) -> None:
    """An extension is one object: its functions, types and tables are not the user's."""
    catalog = await read(furnished)
    assert attributes(catalog, "extension citext") == {"schema": "public"}
    assert not [key for key in catalog.objects if "citext" in key and not key.startswith("extension")]
    assert not [key for key in catalog.objects if "postgres_fdw" in key and not key.startswith("extension")]


async def test_our_own_schemas_are_left_out(furnished: Any) -> None:
    """The tracking schema and whatever stands in it are never part of a catalog."""
    before = await read(furnished)
    await furnished.execute(
        "CREATE SCHEMA reconciler; CREATE TABLE reconciler.t (id serial PRIMARY KEY, e text CHECK (e <> ''));"
        "CREATE TYPE reconciler.e AS ENUM ('a'); CREATE FUNCTION reconciler.f() RETURNS int LANGUAGE sql"
        " AS 'SELECT 1'; CREATE VIEW reconciler.v AS SELECT * FROM reconciler.t; CREATE TEMP TABLE x (a int)"
    )
    assert await read(furnished) == before


async def test_partition_clones_are_left_out(furnished: Any) -> None:
    """What a partition has from its parent is told once, with the parent."""
    catalog = await read(furnished)
    assert "index shop.events_kind" in catalog.objects
    assert "trigger shop.events.touch_event" in catalog.objects
    hanging = [
        key
        for key, row in catalog.objects.items()
        if json.loads(row.definition).get("table") in ("shop.events_2025", "shop.events_rest", "shop.derived")
    ]
    assert hanging == []
    partition = attributes(catalog, "table shop.events_2025")
    assert partition["inherits"] == ["shop.events"]
    assert partition["bound"] == "FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')"


async def test_attached_and_created_partitions_read_the_same(live: Any) -> None:
    """A table attached as a partition differs in nothing from one created as a partition."""
    await live.execute("""
        CREATE TABLE p (id int PRIMARY KEY, v int CHECK (v > 0)) PARTITION BY RANGE (id);
        CREATE INDEX p_v ON p (v);
        CREATE TABLE one PARTITION OF p FOR VALUES FROM (1) TO (2)""")
    created = await read(live)
    await live.execute("""
        DROP TABLE one;
        CREATE TABLE one (id int PRIMARY KEY, v int CONSTRAINT p_v_check CHECK (v > 0));
        CREATE INDEX one_v_idx ON one (v);
        ALTER TABLE p ATTACH PARTITION one FOR VALUES FROM (1) TO (2)""")
    assert await read(live) == created


async def test_not_null_is_told_once(live: Any) -> None:
    """A not-null constraint, a named row of its own since PostgreSQL 18, is part of its column only."""
    await live.execute("CREATE TABLE t (a int CONSTRAINT named NOT NULL, b int)")
    catalog = await read(live)
    assert columns(catalog, "table public.t")["a"]["not_null"] is True
    assert [key for key in catalog.objects if key.startswith("constraint")] == []


async def test_default_grants_equal_no_grants(live: Any) -> None:
    """Access lists that are NULL and those spelt out as the default are the same thing."""
    await live.execute("CREATE TABLE t (a int); CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    before = await read(live)
    await live.execute(
        "GRANT ALL ON t TO CURRENT_USER; REVOKE ALL ON FUNCTION f() FROM PUBLIC;"
        "GRANT EXECUTE ON FUNCTION f() TO PUBLIC, CURRENT_USER"
    )
    assert await read(live) == before


async def test_order_of_grants_and_options_does_not_matter(furnished: Any) -> None:
    """Grants and storage options read the same in whatever order they were given."""
    before = await read(furnished)
    await furnished.execute("""
        REVOKE ALL ON shop.customers FROM snap_reader; REVOKE ALL ON shop.customers FROM snap_owner;
        GRANT INSERT, SELECT ON shop.customers TO snap_reader; GRANT ALL ON shop.customers TO snap_owner;
        GRANT UPDATE (note) ON shop.customers TO "snap ""quoted"" role";
        ALTER TABLE shop.customers RESET (fillfactor); ALTER TABLE shop.customers SET (fillfactor = 70)""")
    assert await read(furnished) == before


async def test_renamed_column_changes_the_view_over_it(live: Any) -> None:
    """A view's own catalog rows stay when a column under it is renamed; its definition does not."""
    await live.execute("CREATE TABLE t (a int); CREATE VIEW v AS SELECT a AS x FROM t")
    rows = "SELECT c.xmin, r.xmin FROM pg_class c JOIN pg_rewrite r ON r.ev_class = c.oid WHERE relname = 'v'"
    before, row_before = await read(live), await (await live.execute(rows)).fetchone()
    await live.execute("ALTER TABLE t RENAME a TO b")
    after = await read(live)
    assert await (await live.execute(rows)).fetchone() == row_before
    assert [(row.identity, row.action.value) for row in compare(before.objects, after.objects, "db")] == [
        ("table public.t", "changed"),
        ("view public.v", "changed"),
    ]


async def test_star_of_a_view_is_frozen(live: Any) -> None:
    """A column added under `SELECT *` is not in the view; loading the same text again gives another view."""
    await live.execute("CREATE TABLE t (a int); CREATE VIEW v AS SELECT * FROM t")
    before = await read(live)
    await live.execute("ALTER TABLE t ADD b int")
    added = await read(live)
    assert added.objects["view public.v"] == before.objects["view public.v"]
    await live.execute("CREATE OR REPLACE VIEW v AS SELECT * FROM t")
    assert (await read(live)).objects["view public.v"] != before.objects["view public.v"]


async def test_deparsed_text_is_no_fixed_point(live: Any) -> None:
    """The author's own SQL reads the same twice, while PostgreSQL's rendering of it reads otherwise."""
    ddl = "CREATE TABLE t (a varchar, CONSTRAINT c CHECK (a IN ('x', 'y')))"
    await live.execute(ddl)
    first = (await read(live)).objects["constraint public.t.c"]
    await live.execute(f"DROP TABLE t; {ddl}")
    assert (await read(live)).objects["constraint public.t.c"] == first
    rendered = json.loads(first.definition)["definition"]
    await live.execute(f"ALTER TABLE t DROP CONSTRAINT c; ALTER TABLE t ADD CONSTRAINT c {rendered}")
    assert (await read(live)).objects["constraint public.t.c"] != first


async def test_aggregates_overloads_and_arrays(furnished: Any) -> None:
    """Aggregates, overloads and array arguments are told apart by their input types."""
    catalog = await read(furnished)
    assert "aggregate shop.product(integer)" in catalog.objects
    assert "function shop.total(integer, integer)" in catalog.objects
    assert "function shop.total(text)" in catalog.objects
    assert "procedure shop.sweep(text[])" in catalog.objects
    assert not [key for key in catalog.objects if "span(" in key]


async def test_options_of_views_are_read(furnished: Any) -> None:
    """A view that loses `security_invoker` has drifted."""
    before = await read(furnished)
    await furnished.execute("ALTER VIEW shop.big_orders RESET (security_invoker)")
    (row,) = compare(before.objects, (await read(furnished)).objects, "db")
    assert (row.identity, row.detail) == ("view shop.big_orders", "option security_invoker=true removed")


async def test_positions_and_statistics_are_left_out(furnished: Any) -> None:
    """Rows, sequence positions, statistics and storage of a database are no part of its catalog."""
    before = await read(furnished)
    await furnished.execute("""
        INSERT INTO shop.customers (mail) VALUES ('a@b'); SELECT nextval('shop.counter');
        REFRESH MATERIALIZED VIEW shop.summary; TRUNCATE shop.customers CASCADE""")
    await furnished.execute("VACUUM FULL shop.customers")
    await furnished.execute("ANALYZE")
    await furnished.execute("REINDEX TABLE shop.customers")
    assert await read(furnished) == before


async def test_extension_version_is_left_out(live: Any) -> None:
    """A provider that upgrades an extension has not drifted the database."""
    await live.execute("CREATE EXTENSION citext VERSION '1.4'")
    before = await read(live)
    await live.execute("ALTER EXTENSION citext UPDATE")
    assert await read(live) == before


async def test_invalid_index_and_unvalidated_constraint(live: Any) -> None:
    """An index that is not valid and a constraint that is not validated say so."""
    await live.execute("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1)")
    with pytest.raises(psycopg.errors.UniqueViolation):
        await live.execute("CREATE UNIQUE INDEX CONCURRENTLY t_a ON t (a)")
    await live.execute("ALTER TABLE t ADD CONSTRAINT c CHECK (a > 0) NOT VALID")
    catalog = await read(live)
    assert attributes(catalog, "index public.t_a")["valid"] is False
    assert attributes(catalog, "constraint public.t.c")["validated"] is False


async def test_index_under_a_constraint_is_told_with_it(live: Any) -> None:
    """The index of a primary key is no object of its own, and what it has beyond the key is not lost."""
    await live.execute("CREATE TABLE t (a int PRIMARY KEY WITH (fillfactor = 60)); CLUSTER t USING t_pkey")
    catalog = await read(live)
    assert not [key for key in catalog.objects if key.startswith("index")]
    assert attributes(catalog, "constraint public.t.t_pkey") == {
        "table": "public.t",
        "definition": "PRIMARY KEY (a)",
        "clustered": True,
        "options": ["fillfactor=60"],
    }


async def test_secrets_do_not_leave_the_server(furnished: Any) -> None:
    """Passwords of user mappings, values of foreign options and of database settings are in no definition."""
    name = furnished.info.dbname
    await furnished.execute(f"ALTER DATABASE {name} SET app.key = 'planted-setting'")
    await furnished.execute(f"ALTER ROLE snap_owner IN DATABASE {name} SET app.key = 'planted-role-setting'")
    before = await read(furnished)
    await furnished.execute(f"ALTER DATABASE {name} SET app.key = 'planted-other'")
    await furnished.execute("ALTER FOREIGN TABLE shop.far_away OPTIONS (SET fetch_size '88888')")
    after = await read(furnished)
    drift = compare(before.objects, after.objects, "db")
    assert [(row.identity, row.detail) for row in drift] == [
        (f"database {name}", "setting app.key differs"),
        ("foreign table shop.far_away", "foreign option fetch_size differs"),
    ]
    everything = repr(before) + repr(after) + repr(drift)
    for secret in ("planted", "secret-host", "77777", "88888"):
        assert secret not in everything


async def test_snapshot_beside_concurrent_ddl(live: Any, connect: Any) -> None:
    """Objects made and dropped while a snapshot is read never fail it, nor leave half an object in it."""
    await live.execute("CREATE TABLE stays (a int PRIMARY KEY)")
    other = await connect(live.info.dbname)
    done = asyncio.Event()

    async def churn() -> None:
        while not done.is_set():
            await other.execute(
                "CREATE TABLE t (a int PRIMARY KEY DEFAULT 1, b text); CREATE INDEX t_b ON t (b);"
                "CREATE VIEW v AS SELECT a FROM t; CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"
            )
            await other.execute("DROP FUNCTION f(); DROP VIEW v; DROP TABLE t")

    churning = asyncio.create_task(churn())
    failed = 0
    for _ in range(40):
        try:
            catalog = await read(live)
        except ReconcilerError:
            failed += 1  # three reads in a row met a drop
            continue
        assert "table public.stays" in catalog.objects
    done.set()
    await churning
    assert failed < 20
    assert live.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


async def test_a_lock_on_a_table_bounds_the_read(live: Any, connect: Any) -> None:
    """A table that another session rewrites holds a snapshot up for a bounded time only."""
    await live.execute("CREATE TABLE t (a int DEFAULT 1); CREATE VIEW v AS SELECT a FROM t")
    other = await connect(live.info.dbname)
    await other.execute("BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
    with pytest.raises(ReconcilerError, match="reading the catalog"):
        await asyncio.wait_for(read(live), timeout=30)
    await other.execute("ROLLBACK")
    assert "view public.v" in (await read(live)).objects


async def test_a_busy_connection_is_refused(live: Any) -> None:
    """A snapshot inside someone's transaction would see that transaction, and is a mistake of the caller."""
    async with live.transaction():
        with pytest.raises(ValueError, match="in no transaction"):
            await read(live)


async def test_two_connections_read_the_same(furnished: Any, connect: Any) -> None:
    """Read over two connections the catalog is that of one, at the moment of the first."""
    beside = await connect(furnished.info.dbname)
    assert await read_catalog(furnished, beside=beside) == await read(furnished)
    async with reading(furnished):
        await (await furnished.execute("SELECT 1")).fetchone()
        await beside.execute("ALTER TABLE shop.orders ADD COLUMN later integer")
        catalog = await read_objects(furnished, beside=beside)
    assert "later" not in columns(catalog, "table shop.orders")


async def test_a_failing_second_connection_leaves_both_idle(furnished: Any, connect: Any) -> None:
    """Where one of two connections meets a drop, both are idle afterwards and the error is the server's."""
    beside = await connect(furnished.info.dbname)

    async def read_around_the_drop() -> None:
        async with reading(furnished):
            await (await furnished.execute("SELECT 1")).fetchone()
            await beside.execute("DROP VIEW shop.big_orders CASCADE")
            await read_objects(furnished, beside=beside)

    with pytest.raises(psycopg.Error):
        await read_around_the_drop()
    for connection in (furnished, beside):
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    assert "view shop.big_orders" not in (await read_catalog(furnished, beside=beside)).objects
