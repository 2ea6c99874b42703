-- name: registry_tables :one
-- How many of the tables that make a registry a schema has; views are none, nor are tables with types that
-- somebody made, for functions of these would run while they are read.
SELECT count(*)
FROM pg_class AS c
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
WHERE
    n.nspname = %(schema)s AND c.relname = ANY(%(tables)s) AND c.relkind = 'r'
    AND NOT EXISTS (
        SELECT FROM pg_attribute AS a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384
    );

-- name: enter_registry :exec
-- Names without a schema mean those of the registry, for the transaction.
SELECT set_config('search_path', quote_ident(%(schema)s), TRUE);

-- name: sqitch_projects :many
-- Projects that Sqitch knows in the database.
SELECT project FROM projects
ORDER BY project
LIMIT 1000;

-- name: sqitch_changes :many
-- What Sqitch has deployed, tagged or not, in the order of deployment.
SELECT
    c.project,
    c.change_id,
    c.change,
    c.script_hash,
    c.committed_at::text AS deployed_at,
    ARRAY(
        SELECT ltrim(t.tag, '@') FROM tags AS t
        WHERE t.change_id = c.change_id
        ORDER BY t.committed_at, t.tag
    ) AS tag_names
FROM changes AS c
ORDER BY c.committed_at, c.change_id
LIMIT %(most)s;

-- name: pgpm_projects :many
-- Packages that pgpm knows in the database.
SELECT package FROM packages
ORDER BY package
LIMIT 1000;

-- name: pgpm_changes :many
-- What pgpm has deployed, in the order of deployment; it records no tags.
SELECT
    c.package,
    c.change_id,
    c.change_name,
    c.script_hash,
    c.deployed_at::text AS deployed_at,
    ARRAY[]::text [] AS tag_names
FROM changes AS c
ORDER BY c.deployed_at, c.change_id
LIMIT %(most)s;
