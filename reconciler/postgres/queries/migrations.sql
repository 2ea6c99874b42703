-- name: migrations_place :one
-- Whether the schema is there, whether it holds anything, and the table that records its migrations.
SELECT
    pg_catalog.to_regnamespace(%(schema)s) IS NOT NULL AS present,
    EXISTS ( -- noqa: LT01
        SELECT FROM pg_catalog.pg_depend AS dependencies
        WHERE
            dependencies.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
            AND dependencies.refobjid = pg_catalog.to_regnamespace(%(schema)s)
            AND dependencies.deptype = 'n'
    ) AS used,
    pg_catalog.to_regclass(%(table)s) IS NOT NULL AS recorded;

-- name: applied_migrations :many
-- Which migrations were applied.
SELECT
    number,
    name,
    sha256
FROM {schema}.migrations
ORDER BY number;

-- name: safe_migration :exec
-- What a migration does not qualify is found in pg_catalog or not at all.
SELECT pg_catalog.set_config('search_path', '', TRUE);

-- name: create_schema :exec
-- The schema itself.
CREATE SCHEMA {schema};

-- name: create_migrations :exec
-- Where applied migrations are recorded.
CREATE TABLE {schema}.migrations (
    number integer PRIMARY KEY CHECK (number > 0),
    name text NOT NULL,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);

-- name: comment_migrations :exec
-- What the table is for.
COMMENT ON TABLE {schema}.migrations IS 'Migrations of this schema that were applied, in order';

-- name: comment_number :exec
-- What its columns are for.
COMMENT ON COLUMN {schema}.migrations.number IS 'Number of the migration, from 1 without gaps';

-- name: comment_name :exec
-- What its columns are for.
COMMENT ON COLUMN {schema}.migrations.name IS 'Name of the file, without number and ending';

-- name: comment_sha256 :exec
-- What its columns are for.
COMMENT ON COLUMN {schema}.migrations.sha256 IS 'Hash of its text: an applied migration is never edited';

-- name: comment_applied_at :exec
-- What its columns are for.
COMMENT ON COLUMN {schema}.migrations.applied_at IS 'When it was applied, by the clock of the database';

-- name: record_migration :exec
-- A migration was applied; in the same transaction.
INSERT INTO {schema}.migrations (number, name, sha256)
VALUES (%(number)s, %(name)s, %(sha256)s);
