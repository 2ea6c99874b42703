"""The probe moves with every DDL that a snapshot would show, and with nothing that people do to data."""

import asyncio
from typing import Any

import pytest

from reconciler.snapshot.catalog import read_catalog
from reconciler.snapshot.probe import ALGORITHM, Probing, probe, whole_query
from reconciler.snapshot.transaction import reading

DDL = """
CREATE SCHEMA other
ALTER SCHEMA other OWNER TO snap_owner
GRANT USAGE ON SCHEMA other TO snap_reader
COMMENT ON SCHEMA other IS 'x'
COMMENT ON SCHEMA public IS 'y'
ALTER SCHEMA other RENAME TO another
DROP SCHEMA another
CREATE EXTENSION hstore
ALTER EXTENSION hstore DROP FUNCTION public.akeys(public.hstore)
ALTER EXTENSION hstore SET SCHEMA shop
DROP EXTENSION hstore CASCADE
CREATE TABLE shop.t (a integer)
ALTER TABLE shop.t ADD COLUMN b text
ALTER TABLE shop.t SET (toast.autovacuum_enabled = false)
ALTER TABLE shop.t ALTER COLUMN b SET DEFAULT 'x'
ALTER TABLE shop.t ALTER COLUMN b SET DEFAULT 'y'
ALTER TABLE shop.t ALTER COLUMN b SET NOT NULL
ALTER TABLE shop.t ALTER COLUMN b TYPE varchar(5)
ALTER TABLE shop.t ALTER COLUMN b SET STORAGE EXTERNAL
ALTER TABLE shop.t ALTER COLUMN b SET COMPRESSION pglz
ALTER TABLE shop.t ALTER COLUMN b SET STATISTICS 7
ALTER TABLE shop.t ALTER COLUMN b SET (n_distinct = 3)
ALTER TABLE shop.t RENAME COLUMN b TO c
ALTER TABLE shop.t SET (fillfactor = 50)
ALTER TABLE shop.t SET UNLOGGED
ALTER TABLE shop.t ENABLE ROW LEVEL SECURITY
ALTER TABLE shop.t FORCE ROW LEVEL SECURITY
ALTER TABLE shop.t REPLICA IDENTITY FULL
ALTER TABLE shop.t OWNER TO snap_owner
GRANT SELECT ON shop.t TO snap_reader
GRANT UPDATE (c) ON shop.t TO snap_reader
REVOKE DELETE ON shop.t FROM snap_owner
COMMENT ON TABLE shop.t IS 'x'
COMMENT ON COLUMN shop.t.c IS 'x'
ALTER TABLE shop.t ADD CONSTRAINT positive CHECK (a > 0) NOT VALID
ALTER TABLE shop.t VALIDATE CONSTRAINT positive
ALTER TABLE shop.t RENAME CONSTRAINT positive TO above
COMMENT ON CONSTRAINT above ON shop.t IS 'x'
ALTER TABLE shop.t ADD PRIMARY KEY (a)
CREATE INDEX t_c ON shop.t (c)
ALTER INDEX shop.t_c SET (fillfactor = 60)
ALTER INDEX shop.t_c RENAME TO t_cc
COMMENT ON INDEX shop.t_cc IS 'x'
CLUSTER shop.t USING t_cc
DROP INDEX shop.t_cc
CREATE TRIGGER g BEFORE UPDATE ON shop.t FOR EACH ROW EXECUTE FUNCTION shop.touch()
ALTER TABLE shop.t DISABLE TRIGGER g
COMMENT ON TRIGGER g ON shop.t IS 'x'
ALTER TRIGGER g ON shop.t RENAME TO h
DROP TRIGGER h ON shop.t
CREATE POLICY p ON shop.t USING (a > 1)
ALTER POLICY p ON shop.t USING (a > 2)
ALTER POLICY p ON shop.t TO snap_reader
DROP POLICY p ON shop.t
CREATE RULE r AS ON DELETE TO shop.t DO INSTEAD NOTHING
ALTER TABLE shop.t DISABLE RULE r
CREATE VIEW shop.v AS SELECT a FROM shop.t
CREATE OR REPLACE VIEW shop.v AS SELECT a, 1 AS one FROM shop.t
ALTER TABLE shop.t RENAME COLUMN a TO aa
ALTER VIEW shop.v SET (security_invoker = true)
ALTER VIEW shop.v ALTER COLUMN one SET DEFAULT 3
CREATE MATERIALIZED VIEW shop.m AS SELECT 1 AS one
ALTER MATERIALIZED VIEW shop.m RENAME TO mm
CREATE FUNCTION shop.f() RETURNS integer LANGUAGE sql AS 'SELECT 1'
CREATE OR REPLACE FUNCTION shop.f() RETURNS integer LANGUAGE sql AS 'SELECT 2'
ALTER FUNCTION shop.f() SECURITY DEFINER
ALTER FUNCTION shop.f() SET search_path = ''
REVOKE EXECUTE ON FUNCTION shop.f() FROM PUBLIC
COMMENT ON FUNCTION shop.f() IS 'x'
ALTER FUNCTION shop.f() OWNER TO snap_owner
DROP FUNCTION shop.f()
CREATE AGGREGATE shop.mul(integer) (SFUNC = int4mul, STYPE = integer)
CREATE OR REPLACE AGGREGATE shop.mul(integer) (SFUNC = int4mul, STYPE = integer, INITCOND = '1')
CREATE SEQUENCE shop.s
ALTER SEQUENCE shop.s INCREMENT 5
ALTER SEQUENCE shop.s OWNER TO snap_owner
ALTER SEQUENCE shop.s OWNED BY shop.t.aa
GRANT USAGE ON SEQUENCE shop.s TO snap_reader
CREATE TYPE shop.e AS ENUM ('a')
ALTER TYPE shop.e ADD VALUE 'b'
ALTER TYPE shop.e RENAME VALUE 'b' TO 'c'
GRANT USAGE ON TYPE shop.e TO snap_reader
CREATE TYPE shop.c AS (a integer)
ALTER TYPE shop.c ADD ATTRIBUTE b integer
ALTER TYPE shop.c OWNER TO snap_owner
CREATE DOMAIN shop.d AS integer
ALTER DOMAIN shop.d SET DEFAULT 5
ALTER DOMAIN shop.d ADD CONSTRAINT k CHECK (VALUE > 0)
ALTER DOMAIN shop.d SET NOT NULL
CREATE TABLE shop.events_2026 (LIKE shop.events INCLUDING ALL)
ALTER TABLE shop.events ATTACH PARTITION shop.events_2026 FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')
ALTER TABLE shop.events DETACH PARTITION shop.events_2026
CREATE TABLE shop.child () INHERITS (shop.base)
ALTER TABLE shop.child NO INHERIT shop.base
ALTER FOREIGN TABLE shop.far_away OPTIONS (SET fetch_size '5')
ALTER SERVER far RENAME TO farther
ALTER PUBLICATION news ADD TABLE shop.base
ALTER PUBLICATION news SET (publish = 'insert')
ALTER PUBLICATION "no'ise" ADD TABLES IN SCHEMA shop
ALTER EVENT TRIGGER on_ddl DISABLE
ALTER DEFAULT PRIVILEGES IN SCHEMA shop GRANT INSERT ON TABLES TO snap_reader
ALTER DATABASE {database} SET work_mem = '5MB'
ALTER ROLE snap_reader IN DATABASE {database} SET work_mem = '6MB'
GRANT TEMPORARY ON DATABASE {database} TO snap_reader
COMMENT ON DATABASE {database} IS 'x'
ALTER DATABASE {database} OWNER TO snap_owner
ALTER TABLE shop.t SET SCHEMA public
DROP TABLE public.t CASCADE
"""

STILL = [
    "INSERT INTO shop.base SELECT generate_series(1, 2000)",
    "UPDATE shop.base SET a = a + 1",
    "INSERT INTO shop.customers (mail) SELECT 'a@b' FROM generate_series(1, 2000)",
    "SELECT nextval('shop.counter'), setval('shop.orders_id_seq', 500)",
    "DELETE FROM shop.base WHERE a > 100",
    "VACUUM",
    "VACUUM FREEZE",
    "VACUUM (FREEZE, DISABLE_PAGE_SKIPPING)",
    "ANALYZE",
    "VACUUM FREEZE pg_catalog.pg_attribute",
    "REFRESH MATERIALIZED VIEW shop.summary",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY shop.summary",
    "TRUNCATE shop.customers CASCADE",
    "CREATE TEMP TABLE passing (a serial PRIMARY KEY, b text DEFAULT 'x' CHECK (b <> ''))",
    "CREATE INDEX ON passing (b)",
    "COMMENT ON COLUMN passing.b IS 'x'",
    "CREATE TEMP VIEW passing_view AS SELECT * FROM passing",
    "CREATE FUNCTION pg_temp.passing() RETURNS integer LANGUAGE sql AS 'SELECT 1'",
    "GRANT SELECT ON passing TO snap_reader",
    "DROP TABLE passing CASCADE",
    "CREATE ROLE snap_unrelated",
    "DROP ROLE snap_unrelated",
    "SELECT lo_create(0)",
    "CHECKPOINT",
]

OURS = """
CREATE SCHEMA reconciler;
COMMENT ON SCHEMA reconciler IS 'ours';
CREATE TYPE reconciler.state AS ENUM ('on', 'off');
COMMENT ON TYPE reconciler.state IS 'x';
CREATE TABLE reconciler.base_line (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    s reconciler.state DEFAULT 'on',
    t text CHECK (t <> '')
);
COMMENT ON TABLE reconciler.base_line IS 'x';
COMMENT ON COLUMN reconciler.base_line.t IS 'x';
COMMENT ON CONSTRAINT base_line_t_check ON reconciler.base_line IS 'x';
CREATE TABLE reconciler.child (id bigint REFERENCES reconciler.base_line) INHERITS (reconciler.base_line);
CREATE UNIQUE INDEX one ON reconciler.base_line (t);
COMMENT ON INDEX reconciler.one IS 'x';
CREATE FUNCTION reconciler.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
COMMENT ON FUNCTION reconciler.f() IS 'x';
CREATE TRIGGER f BEFORE INSERT ON reconciler.base_line FOR EACH ROW EXECUTE FUNCTION reconciler.f();
CREATE VIEW reconciler.v AS SELECT * FROM reconciler.base_line;
GRANT SELECT ON reconciler.v TO snap_reader;
"""


async def test_moves_with_every_ddl(furnished: Any) -> None:
    """Each of a hundred statements that change the catalog moves the probe, and each tells on the catalog."""
    await furnished.execute(OURS)
    silent, invisible = [], []
    before, catalog = await probe(furnished), await read_catalog(furnished)
    for line in DDL.strip().splitlines():
        statement = line.format(database=furnished.info.dbname)
        await furnished.execute(statement)
        after, catalog_after = await probe(furnished), await read_catalog(furnished)
        if after == before:
            silent.append(statement)
        if catalog_after == catalog:
            invisible.append(statement)
        before, catalog = after, catalog_after
    assert silent == []
    assert invisible == []


async def test_does_not_move_with_data(furnished: Any) -> None:
    """Rows, sequences, vacuum, freezing, refreshes, temporary objects and other roles do not move it."""
    moved = []
    before = await probe(furnished)
    for statement in STILL:
        await furnished.execute(statement)
        after = await probe(furnished)
        if after != before:
            moved.append(statement)
        before = after
    assert moved == []


async def test_does_not_move_with_our_own_schema(furnished: Any) -> None:
    """Installing and changing the tracking schema is no movement of what we watch."""
    before = await probe(furnished)
    statements = [part for part in OURS.split(";\n") if part.strip()]
    later = ["ALTER TABLE reconciler.base_line ADD u text", "DROP SCHEMA reconciler CASCADE"]
    for statement in [*statements, *later]:
        await furnished.execute(statement)
        assert await probe(furnished) == before, statement


async def test_vacuum_of_a_changed_table_does_not_move_it(live: Any) -> None:
    """A table that was vacuumed, frozen and analyzed has the probe it had."""
    await live.execute("CREATE TABLE t (a int)")
    before = await probe(live)
    await live.execute("INSERT INTO t SELECT generate_series(1, 1000); DELETE FROM t WHERE a % 2 = 0")
    await live.execute("VACUUM (FREEZE, ANALYZE)")
    assert await probe(live) == before


async def test_a_renamed_role_moves_it(furnished: Any) -> None:
    """A role that owns something or was granted something shows under its new name, so it moves the probe."""
    name = f"snap_{furnished.info.dbname}"
    await furnished.execute(f'CREATE ROLE "{name}"; GRANT SELECT ON shop.orders TO "{name}"')
    before = await probe(furnished)
    await furnished.execute(f'ALTER ROLE "{name}" RENAME TO "{name}2"')
    try:
        assert await probe(furnished) != before
    finally:
        await furnished.execute(f'DROP OWNED BY "{name}2"; DROP ROLE "{name}2"')


@pytest.mark.parametrize(
    "setting", ["SET search_path = shop", "SET ROLE snap_reader", "SET DateStyle = 'SQL'"]
)
async def test_settings_do_not_move_the_probe(furnished: Any, setting: str) -> None:
    """Who asks, and with what settings, does not matter."""
    before = await probe(furnished)
    await furnished.execute(setting)
    assert await probe(furnished) == before


async def test_another_transaction_counts_when_it_commits(furnished: Any, connect: Any) -> None:
    """DDL that is not committed does not move the probe; nor does DDL that is rolled back."""
    before = await probe(furnished)
    other = await connect(furnished.info.dbname)
    await other.execute("BEGIN; CREATE TABLE shop.t (a int); ALTER TABLE shop.orders ADD u int")
    assert await asyncio.wait_for(probe(furnished), timeout=60) == before
    await other.execute("ROLLBACK")
    assert await probe(furnished) == before
    await other.execute("CREATE TABLE shop.t (a int)")
    assert await probe(furnished) != before


async def test_names_its_algorithm(live: Any) -> None:
    """Probes of two algorithms can never be equal by chance."""
    assert (await probe(live)).startswith(f"{ALGORITHM}:")


FIRST = """
CREATE TABLE shop.t (a int DEFAULT 1)
CREATE TABLE shop.t (a int GENERATED ALWAYS AS IDENTITY)
CREATE TABLE shop.t (a int); CREATE TABLE shop.u () INHERITS (shop.t)
CREATE TABLE shop.t (a int) PARTITION BY LIST (a); CREATE TABLE shop.u PARTITION OF shop.t DEFAULT
CREATE TABLE shop.t (a int); CREATE POLICY p ON shop.t
CREATE TABLE shop.t (a int); CREATE RULE r AS ON INSERT TO shop.t DO NOTHING
CREATE TABLE shop.t (a int PRIMARY KEY, b int REFERENCES shop.t)
CREATE TABLE shop.t (a text COLLATE "C")
CREATE VIEW shop.t AS SELECT 1 AS a
CREATE SEQUENCE shop.t
CREATE TYPE shop.t AS (a int)
CREATE TYPE shop.t AS ENUM ('a')
CREATE TYPE shop.t AS RANGE (subtype = int4)
CREATE AGGREGATE shop.f(int) (SFUNC = int4pl, STYPE = int)
CREATE COLLATION shop.c FROM "C"
CREATE COLLATION pg_catalog.c FROM "C"; CREATE TABLE shop.t (a text COLLATE pg_catalog.c)
CREATE OPERATOR shop.@@@ (FUNCTION = int4pl, LEFTARG = int, RIGHTARG = int)
CREATE OPERATOR CLASS shop.o FOR TYPE int USING gist AS STORAGE int
CREATE TEXT SEARCH CONFIGURATION shop.c (COPY = simple)
CREATE PUBLICATION p FOR ALL TABLES
CREATE TABLE shop.t (a int); CREATE PUBLICATION p FOR TABLE shop.t
CREATE PUBLICATION p FOR TABLES IN SCHEMA shop
CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w
CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE shop.t () SERVER s
ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON ROUTINES FROM PUBLIC
CREATE EXTENSION citext SCHEMA shop
"""
"""Statements, of which each makes the first object of its kind in a database that has nothing."""


async def _all_and_asked(connection: Any) -> tuple[dict[str, str], frozenset[str]]:
    """Every part that has rows, by a query that asks for all, and those that a probe found."""
    probing = Probing(connection)
    async with reading(connection):
        await probing.send_first()
        await probing.send_second()
        found = await probing.finish()
        rows = await (await connection.execute(whole_query(), prepare=False)).fetchall()
    return {name: hashed for name, hashed in rows if hashed is not None}, found.present


async def test_asks_for_every_part_that_has_rows(live: Any) -> None:
    """Of the first object of any kind, all parts are found that it has rows in: none is missed."""
    for statement in FIRST.strip().splitlines():
        await live.execute("BEGIN; CREATE SCHEMA shop; COMMIT")
        before = await probe(live)
        await live.execute(statement)
        everything, present = await _all_and_asked(live)
        assert everything.keys() <= present, statement
        assert await probe(live) != before, statement
        await live.execute(
            "DROP SCHEMA shop CASCADE; DROP PUBLICATION IF EXISTS p;"
            " DROP COLLATION IF EXISTS pg_catalog.c; DROP FOREIGN DATA WRAPPER IF EXISTS w CASCADE;"
            " ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON ROUTINES TO PUBLIC"
        )


async def test_asks_for_nothing_that_is_not_there(live: Any) -> None:
    """In a database of plain tables, beside our own schema, no part is asked for that it has no rows in."""
    await live.execute("".join(part for part in OURS.splitlines(keepends=True) if "snap_" not in part))
    await live.execute("CREATE TABLE t (a int PRIMARY KEY, b text NOT NULL); CREATE INDEX ON t (b)")
    probing = Probing(live)
    async with reading(live):
        await probing.send_first()
        await probing.send_second()
        found = await probing.finish()
    assert found.asked == frozenset()
    assert {"columns", "relations", "indexes", "constraints"} <= found.present
    assert found.text == await probe(live)
