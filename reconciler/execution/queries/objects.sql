-- name: limit_making :exec
-- Limit one transaction that makes or drops objects, and let names without a schema mean what they usually do.
SELECT
    pg_catalog.set_config('lock_timeout', %(lock_timeout_ms)s, TRUE),
    pg_catalog.set_config('statement_timeout', %(statement_timeout_ms)s, TRUE),
    pg_catalog.set_config('synchronous_commit', %(synchronous_commit)s, TRUE),
    pg_catalog.set_config('search_path', %(search_path)s, TRUE);

-- name: only_read :exec
-- Let this transaction write nothing from here on.
SELECT pg_catalog.set_config('transaction_read_only', 'on', TRUE);

-- name: analyze_relation :exec
-- Gather statistics of a materialized view that was just filled.
ANALYZE {schema}.{relation}; -- noqa: PRS

-- name: refresh_again :exec
-- Fill a materialized view again that nobody reads, or that nobody can read meanwhile.
REFRESH MATERIALIZED VIEW {schema}.{relation}; -- noqa: PRS

-- name: refresh_beside_readers :exec
-- Fill a materialized view again that goes on being read.
REFRESH MATERIALIZED VIEW CONCURRENTLY {schema}.{relation}; -- noqa: PRS

-- name: rename_schema :exec
-- Give a schema another name; locks nothing that is in it.
ALTER SCHEMA {schema} RENAME TO {target}; -- noqa: PRS
