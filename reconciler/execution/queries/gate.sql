-- name: begin_gate :exec
-- Open a transaction that writes nothing; closing the connection takes it back.
BEGIN READ ONLY; -- noqa: PRS

-- name: limit_gate :exec
-- Limit how long the answer may take; milliseconds.
SELECT
    pg_catalog.set_config('statement_timeout', %(statement_ms)s, TRUE),
    pg_catalog.set_config('lock_timeout', %(lock_ms)s, TRUE);

-- name: read_gate :many
-- The answer, and whether it has another row.
FETCH FORWARD 2 FROM reconciler_gate; -- noqa: PRS
