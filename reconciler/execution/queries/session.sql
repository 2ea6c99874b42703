-- noqa: disable=LT01
-- The linter takes OPERATOR(…) for a function call.

-- name: begin_change :exec
-- Open the transaction of one change.
BEGIN ISOLATION LEVEL READ COMMITTED; -- noqa: PRS

-- name: reset_settings :exec
-- Put every setting back to what the connection began with; scripts may have set some for the session.
RESET ALL;

-- name: reset_role :exec
-- Be who the connection is; RESET ALL leaves that as a script set it.
SELECT
    pg_catalog.set_config('session_authorization', NULL, FALSE),
    pg_catalog.set_config('role', NULL, FALSE);

-- name: limit_change :exec
-- Limit the waits and the time of one transaction; milliseconds, 0 for no limit.
SELECT
    pg_catalog.set_config('lock_timeout', %(lock_timeout_ms)s, true),
    pg_catalog.set_config('statement_timeout', %(statement_timeout_ms)s, true),
    pg_catalog.set_config('synchronous_commit', %(synchronous_commit)s, true);

-- name: fresh_session :exec
-- Be who the connection is, with our limits for all transactions that follow, and let go of locks that a
-- script took for the session; milliseconds, 0 for no limit.
SELECT
    pg_catalog.set_config('session_authorization', NULL, FALSE),
    pg_catalog.set_config('role', NULL, FALSE),
    pg_catalog.set_config('lock_timeout', %(lock_timeout_ms)s, FALSE),
    pg_catalog.set_config('statement_timeout', %(statement_timeout_ms)s, FALSE),
    pg_catalog.set_config('synchronous_commit', %(synchronous_commit)s, FALSE),
    pg_catalog.pg_advisory_unlock_all();

-- name: fresh_session_of_one :exec
-- The same for the session that keeps the fence: its locks are our own.
SELECT
    pg_catalog.set_config('session_authorization', NULL, FALSE),
    pg_catalog.set_config('role', NULL, FALSE),
    pg_catalog.set_config('application_name', 'reconciler/writer', FALSE),
    pg_catalog.set_config('lock_timeout', %(lock_timeout_ms)s, FALSE),
    pg_catalog.set_config('statement_timeout', %(statement_timeout_ms)s, FALSE),
    pg_catalog.set_config('synchronous_commit', %(synchronous_commit)s, FALSE);

-- name: name_writer :exec
-- Where a session was begun for something else, that is the name it has after RESET ALL.
SELECT pg_catalog.set_config('application_name', 'reconciler/writer', FALSE);

-- name: leave_script :exec
-- Leaves nothing of a script to what we read in its session next: a temporary table would stand before ours.
RESET SESSION AUTHORIZATION;
RESET ALL;
CLOSE ALL; -- noqa: PRS
UNLISTEN *;
DISCARD TEMP;
SELECT pg_catalog.set_config('application_name', 'reconciler/fence', FALSE);

-- name: close_cursors :exec
-- Forget cursors that outlived their transaction.
CLOSE ALL;

-- name: forget_prepared :exec
-- Forget the statements that a script prepared.
DEALLOCATE ALL; -- noqa: PRS

-- name: forget_sequences :exec
-- Forget which numbers a script took; the next one must not take them for its own.
DISCARD SEQUENCES;

-- name: stop_listening :exec
-- Hear nothing more of what a script listened for.
UNLISTEN *; -- noqa: PRS

-- name: drop_temporary :exec
-- Drop the temporary tables of a script, which would stand before those of their name.
DISCARD TEMP;

-- name: has_event_triggers :one
-- Whether code of somebody's runs beside every statement that defines something.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_event_trigger AS t WHERE t.evtenabled OPERATOR(pg_catalog.<>) 'D'
) AS found;

-- name: limit_verify :exec
-- Limit the waits and the time of statements until the session is reset; milliseconds, 0 for no limit.
SELECT
    pg_catalog.set_config('lock_timeout', %(lock_timeout_ms)s, FALSE),
    pg_catalog.set_config('statement_timeout', %(statement_timeout_ms)s, FALSE);

-- name: begin_verify :exec
-- Everything after this is taken back.
SAVEPOINT reconciler_verify;

-- name: verify_read_only :exec
-- A verify script looks and changes nothing.
SET LOCAL transaction_read_only = on;

-- name: end_verify :exec
-- Take back what verifying did, settings included.
ROLLBACK TO SAVEPOINT reconciler_verify;

-- name: release_verify :exec
-- Forget the savepoint.
RELEASE SAVEPOINT reconciler_verify;

-- name: commit_change :exec
-- Make the change and its record lasting, together.
COMMIT;

-- name: abandon_change :exec
-- Take everything of the transaction back.
ROLLBACK;

-- name: blockers :many
-- Who holds what a backend waits for.
SELECT
    activity.pid,
    activity.application_name,
    activity.usename,
    activity.state,
    pg_catalog.date_part(
        'epoch', pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) activity.xact_start
    ) AS transaction_age_s
FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids(%(pid)s)) AS blocking (pid)
INNER JOIN pg_catalog.pg_stat_activity AS activity ON blocking.pid OPERATOR(pg_catalog.=) activity.pid
ORDER BY activity.xact_start NULLS LAST
LIMIT 5;

-- name: runs_triggers :one
-- Whether a session that is set back runs triggers and follows foreign keys.
SELECT s.reset_val OPERATOR(pg_catalog.=) 'origin' AS usual
FROM pg_catalog.pg_settings AS s
WHERE s.name OPERATOR(pg_catalog.=) 'session_replication_role';

-- name: mark_change :exec
-- Say to others which change of a transaction runs, until something of ours or of a script is set back.
SET LOCAL application_name = 'reconciler/writer 00';

-- name: writer_name :many
-- What a session calls itself.
SELECT a.application_name
FROM pg_catalog.pg_stat_activity AS a
WHERE a.pid OPERATOR(pg_catalog.=) %(pid)s;

-- name: recorded_changes :many
-- Which of these changes are recorded as deployed.
SELECT c.change_id
FROM reconciler.changes AS c
WHERE c.change_id OPERATOR(pg_catalog.=) ANY(%(change_ids)s::pg_catalog.text []);

-- name: lock_capacity :one
-- How many locks the server's shared table surely holds.
SELECT
    pg_catalog.current_setting('max_locks_per_transaction')::pg_catalog.int8
    OPERATOR(pg_catalog.*) (
        pg_catalog.current_setting('max_connections')::pg_catalog.int8
        OPERATOR(pg_catalog.+) pg_catalog.current_setting('max_prepared_transactions')::pg_catalog.int8
    ) AS capacity;

-- name: about_writer :one
-- Where an unqualified CREATE of a script would put its object, and which process runs it.
SELECT
    pg_catalog.current_schema() AS first_schema,
    pg_catalog.pg_backend_pid() AS pid;
