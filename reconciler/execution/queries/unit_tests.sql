-- name: limit_unit_test :exec
-- Limit the transaction of one unit test, and let names without a schema mean what they do for objects.
SELECT
    pg_catalog.set_config('lock_timeout', %(timeout_ms)s, TRUE),
    pg_catalog.set_config('statement_timeout', %(timeout_ms)s, TRUE),
    pg_catalog.set_config('search_path', 'public', TRUE);

-- name: unit_test_columns :many
-- Columns of some relations in their order, types without their modifiers.
SELECT
    asked.place,
    pg_attribute.attname::pg_catalog.text,
    pg_catalog.format_type(pg_attribute.atttypid, NULL)
FROM pg_catalog.generate_subscripts(%(schemas)s::pg_catalog.text [], 1) AS asked (place)
INNER JOIN pg_catalog.pg_namespace
    ON (%(schemas)s::pg_catalog.text []) [asked.place] = pg_namespace.nspname
INNER JOIN pg_catalog.pg_class
    ON
        pg_namespace.oid = pg_class.relnamespace
        AND (%(relations)s::pg_catalog.text []) [asked.place] = pg_class.relname
INNER JOIN pg_catalog.pg_attribute
    ON pg_class.oid = pg_attribute.attrelid AND pg_attribute.attnum > 0 AND NOT pg_attribute.attisdropped
ORDER BY asked.place, pg_attribute.attnum;
