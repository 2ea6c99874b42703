-- name: backend_pid :one
-- Process of the server that answers.
SELECT pg_catalog.pg_backend_pid() AS pid;

-- name: begin_probe :exec
-- Have a process of the server for as long as a transaction takes.
BEGIN READ ONLY; -- noqa: PRS

-- name: end_probe :exec
-- Let go of it.
COMMIT;
