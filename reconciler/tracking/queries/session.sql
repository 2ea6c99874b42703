-- noqa: disable=LT01
-- The linter takes OPERATOR(…) for a function call.

-- name: reset_session :exec
-- Undoes what a script did to the session, before a statement of ours: for good where a setting decides as
-- whom or how later statements run, and until the end of the transaction where ours need another value.
SELECT
    pg_catalog.set_config('session_authorization', NULL, FALSE),
    pg_catalog.set_config('role', NULL, FALSE),
    CASE
        WHEN pg_catalog.current_setting('session_replication_role') OPERATOR(pg_catalog.<>) 'origin'
            THEN pg_catalog.set_config('session_replication_role', 'origin', FALSE)
    END,
    pg_catalog.set_config('search_path', NULL, FALSE),
    pg_catalog.set_config('search_path', '', TRUE),
    pg_catalog.set_config('lock_timeout', '5s', TRUE),
    pg_catalog.set_config('statement_timeout', '60s', TRUE),
    pg_catalog.set_config('default_transaction_isolation', 'read committed', FALSE),
    pg_catalog.set_config('row_security', 'on', TRUE);

-- name: commit_durably :exec
-- Makes the commit of this transaction wait for the disk, whatever the session says.
SELECT pg_catalog.set_config('synchronous_commit', 'on', TRUE);
