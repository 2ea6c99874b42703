-- noqa: disable=LT01
-- The linter takes OPERATOR(…) for a function call.

-- name: refresh_begins :many
-- When a refresh begins, and what the materialized view is called just now.
SELECT pg_catalog.clock_timestamp() AS since, n.nspname::pg_catalog.text, c.relname::pg_catalog.text
FROM pg_catalog.pg_class AS c
INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace OPERATOR(pg_catalog.=) n.oid
WHERE c.oid OPERATOR(pg_catalog.=) %(oid)s::pg_catalog.int8::pg_catalog.oid;

-- name: refresh_live :exec
-- Read the rows of a materialized view anew, while nobody reads it.
REFRESH MATERIALIZED VIEW {schema}.{relation}; -- noqa: PRS

-- name: refresh_live_beside_readers :exec
-- Read the rows of a materialized view anew, while others read it.
REFRESH MATERIALIZED VIEW CONCURRENTLY {schema}.{relation}; -- noqa: PRS
