-- name: begin_writes :exec
-- Marks the base line as moving, before the first write of an operation.
SELECT reconciler.begin_writes(%(epoch)s, %(operation)s);

-- name: record_change :one
-- Checks the fence and records a deployed change with its dependencies, tags and event.
SELECT reconciler.record_change(%(epoch)s, %(change)s::pg_catalog.jsonb);

-- name: note_unfinished :exec
-- Checks the fence and notes how far a change outside of transactions is.
SELECT reconciler.note_unfinished(%(epoch)s, %(change)s::pg_catalog.jsonb);

-- name: record_failure :exec
-- Checks the fence and appends the failure of a change.
SELECT reconciler.record_failure(%(epoch)s, %(change)s::pg_catalog.jsonb);

-- name: rename_change :exec
-- Checks the fence and gives the record of a deployed change another name.
SELECT reconciler.rename_change(%(epoch)s, %(change)s::pg_catalog.jsonb);

-- name: tag_change :exec
-- Checks the fence and records tags that a deployed change gained.
SELECT reconciler.tag_change(%(epoch)s, %(change)s::pg_catalog.jsonb);

-- name: revert_change :exec
-- Checks the fence, forgets a change with its dependencies and tags, and appends that it was reverted.
SELECT reconciler.revert_change(%(epoch)s, %(change)s::pg_catalog.jsonb);
