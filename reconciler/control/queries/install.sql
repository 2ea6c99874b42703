-- name: control_id :one
-- The identity of this control database.
SELECT control_id::text FROM reconciler_control.installation;

-- name: bound_waits :one
-- Bounds how long this transaction may wait for a row lock or run a statement.
SELECT
    set_config('lock_timeout', '5s', TRUE),
    set_config('statement_timeout', '10s', TRUE),
    -- What was acknowledged is not lost, whatever the server's default is.
    set_config('synchronous_commit', 'on', TRUE);

-- name: one_snapshot :exec
-- Reads of this transaction see one moment.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY; -- noqa: PRS

-- name: ping :one
-- Answers if the control schema is there.
SELECT count(*) FROM reconciler_control.installation;

-- name: notify :one
-- Tells whoever listens on a channel; sent when the transaction commits.
SELECT pg_notify(%(channel)s, left(%(payload)s, 2000));
