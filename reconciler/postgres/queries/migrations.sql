-- name: migrations_table :one
-- The table that records which migrations a schema has, NULL where it is not there.
SELECT pg_catalog.to_regclass(%(table)s)::text AS found;

-- name: applied_migrations :many
-- Which migrations were applied.
SELECT
    number,
    name,
    sha256
FROM {schema}.migrations
ORDER BY number;

-- name: create_schema :exec
-- The schema itself.
CREATE SCHEMA IF NOT EXISTS {schema};

-- name: create_migrations :exec
-- Where applied migrations are recorded.
CREATE TABLE IF NOT EXISTS {schema}.migrations (
    number integer PRIMARY KEY CHECK (number > 0),
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

-- name: comment_migrations :exec
-- What the table is for.
COMMENT ON TABLE {schema}.migrations IS 'Migrations of this schema that were applied, with the hash of their text';

-- name: record_migration :exec
-- A migration was applied; in the same transaction.
INSERT INTO {schema}.migrations (number, name, sha256)
VALUES (%(number)s, %(name)s, %(sha256)s);
