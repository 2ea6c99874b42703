-- One object of every kind the snapshot reads, with hostile names and with each attribute it tells of.
DO $$
DECLARE wanted text;
BEGIN
    FOREACH wanted IN ARRAY ARRAY['snap_owner', 'snap_reader', 'snap "quoted" role'] LOOP
        BEGIN
            EXECUTE format('CREATE ROLE %I', wanted);
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
        END;
    END LOOP;
END $$;
CREATE SCHEMA shop AUTHORIZATION snap_owner;
GRANT USAGE ON SCHEMA shop TO snap_reader, "snap ""quoted"" role";
COMMENT ON SCHEMA shop IS 'the shop''s "own"';
CREATE SCHEMA "we""ird
schema";
CREATE EXTENSION citext SCHEMA public;
CREATE EXTENSION postgres_fdw SCHEMA public;
SET search_path = shop, public;

CREATE TYPE mood AS ENUM ('sad', 'happy');
ALTER TYPE mood ADD VALUE 'so "so"' BEFORE 'happy';
CREATE TYPE pair AS (a integer, b text COLLATE "C");
COMMENT ON TYPE pair IS 'two';
CREATE TYPE span AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE DOMAIN email AS citext DEFAULT 'x@y' NOT NULL CONSTRAINT has_at CHECK (VALUE LIKE '%@%');
GRANT USAGE ON TYPE mood TO snap_reader;
REVOKE USAGE ON TYPE mood FROM PUBLIC;

CREATE FUNCTION total(a integer, b integer DEFAULT 2) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT a + b';
CREATE FUNCTION total(a text) RETURNS integer LANGUAGE sql IMMUTABLE BEGIN ATOMIC SELECT length(a); END;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $f$BEGIN NEW.note := 'x'; RETURN NEW; END$f$;
CREATE FUNCTION ddl_seen() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE PROCEDURE sweep(VARIADIC names text[]) LANGUAGE plpgsql AS 'BEGIN END';
CREATE AGGREGATE product(integer) (SFUNC = int4mul, STYPE = integer, INITCOND = '1');
REVOKE EXECUTE ON FUNCTION total(text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION total(text) TO snap_reader WITH GRANT OPTION;
COMMENT ON FUNCTION total(text) IS 'counts';

CREATE TABLE customers (
    id bigint GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT 2) PRIMARY KEY,
    name varchar(100) NOT NULL DEFAULT 'nobody',
    mail email,
    feeling mood DEFAULT 'happy',
    born timestamptz DEFAULT '2020-01-01 12:00+02',
    waits interval DEFAULT '1 day 02:03:04',
    note text COMPRESSION pglz COLLATE "C",
    doubled integer GENERATED ALWAYS AS (2 * 21) STORED,
    CONSTRAINT name_known CHECK (name IN ('a', 'b') OR note = E'back\\slash''s')
);
ALTER TABLE customers ALTER COLUMN note SET STATISTICS 500, ALTER COLUMN note SET STORAGE EXTERNAL, ALTER COLUMN note SET (n_distinct = 5);
ALTER TABLE customers SET (fillfactor = 70, autovacuum_enabled = false, toast.autovacuum_enabled = false);
ALTER TABLE customers ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY, REPLICA IDENTITY FULL;
ALTER TABLE customers OWNER TO snap_owner;
GRANT SELECT, INSERT ON customers TO snap_reader;
GRANT UPDATE (note) ON customers TO "snap ""quoted"" role";
COMMENT ON TABLE customers IS 'people';
COMMENT ON COLUMN customers.note IS 'a note';
COMMENT ON CONSTRAINT name_known ON customers IS 'known';
CREATE POLICY own ON customers AS RESTRICTIVE FOR UPDATE TO snap_reader, snap_owner USING (id > 1) WITH CHECK (id > 2);
CREATE TRIGGER touch BEFORE UPDATE ON customers FOR EACH ROW WHEN (old.note <> 'x') EXECUTE FUNCTION touch();
ALTER TABLE customers ENABLE ALWAYS TRIGGER touch;
CREATE INDEX customers_lower ON customers (lower(name) DESC, note) INCLUDE (born) WHERE id > 3;
COMMENT ON INDEX customers_lower IS 'an index';

CREATE TABLE orders (
    id serial PRIMARY KEY,
    customer_id bigint NOT NULL REFERENCES customers ON DELETE CASCADE DEFERRABLE,
    amount numeric(12, 2),
    during tstzrange,
    EXCLUDE USING gist (during WITH &&)
);
ALTER TABLE orders ADD CONSTRAINT amount_positive CHECK (amount > 0) NOT VALID;
CREATE UNLOGGED SEQUENCE counter AS smallint MINVALUE -5 CYCLE CACHE 3;
CREATE RULE no_delete AS ON DELETE TO orders DO INSTEAD NOTHING;

CREATE TABLE events (id bigint, at date NOT NULL, kind text CHECK (kind <> ''), PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
CREATE TABLE events_rest PARTITION OF events DEFAULT;
CREATE INDEX events_kind ON events (kind);
CREATE TRIGGER touch_event BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION touch();
ALTER TABLE events ADD FOREIGN KEY (id) REFERENCES customers;
CREATE TABLE base (a integer CHECK (a > 0));
CREATE TABLE derived (b integer) INHERITS (base);
CREATE TABLE of_pair OF pair;
CREATE TABLE nothing ();

CREATE VIEW big_orders WITH (security_invoker = true, security_barrier) AS
SELECT o.id, c.name, o.amount FROM orders AS o JOIN customers AS c ON c.id = o.customer_id
WHERE c.name IN ('x', 'y') AND total(o.id) > 1;
ALTER VIEW big_orders ALTER COLUMN amount SET DEFAULT 1;
COMMENT ON COLUMN big_orders.amount IS 'much';
CREATE MATERIALIZED VIEW summary AS SELECT name, count(*) AS n FROM big_orders GROUP BY name WITH NO DATA;
CREATE UNIQUE INDEX summary_name ON summary (name);

CREATE TABLE "we""ird
schema"."t'able" (
    "co""l;--" integer CONSTRAINT "ch'eck" CHECK ("co""l;--" > 0),
    "ünïcödé 表" text UNIQUE,
    aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffffggg integer
);
CREATE INDEX "in
dex" ON "we""ird
schema"."t'able" ("ünïcödé 表");
CREATE VIEW "we""ird
schema"."SELECT" AS SELECT "co""l;--" AS "a.b", "ünïcödé 表" FROM "we""ird
schema"."t'able";
CREATE FUNCTION "we""ird
schema"."f(x)"("p q" mood) RETURNS void LANGUAGE sql AS '';

CREATE SERVER far FOREIGN DATA WRAPPER postgres_fdw OPTIONS (host 'secret-host.invalid');
CREATE USER MAPPING FOR PUBLIC SERVER far OPTIONS (user 'u', password 'planted-password');
CREATE FOREIGN TABLE far_away (a integer OPTIONS (column_name 'aa')) SERVER far
OPTIONS (schema_name 'there', fetch_size '77777');

CREATE PUBLICATION news FOR TABLE customers (id, name) WHERE (id > 10), orders
WITH (publish = 'insert, update', publish_via_partition_root = true);
CREATE PUBLICATION "no'ise" FOR TABLES IN SCHEMA "we""ird
schema";
CREATE EVENT TRIGGER on_ddl ON ddl_command_end WHEN TAG IN ('CREATE TABLE', 'ALTER TABLE') EXECUTE FUNCTION ddl_seen();
ALTER DEFAULT PRIVILEGES FOR ROLE snap_owner IN SCHEMA shop GRANT SELECT ON TABLES TO snap_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE snap_owner REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC;
RESET search_path;
