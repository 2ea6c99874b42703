-- name: next_worker_number :one
-- The second key of a new worker's session lock.
SELECT nextval('reconciler_control.worker_numbers');

-- name: insert_worker :one
-- Makes a worker known, after it took its session lock.
INSERT INTO reconciler_control.workers (number, name, sources, passes, lease_expires_at)
VALUES (
    %(number)s, %(name)s, %(sources)s, %(passes)s, clock_timestamp() + make_interval(secs => %(lease_s)s)
)
RETURNING id::text;

-- name: remove_dead_workers :exec
-- Forgets workers that have been gone for a day and hold nothing.
DELETE FROM reconciler_control.workers AS w
WHERE
    w.heartbeat_at < clock_timestamp() - interval '1 day'
    AND NOT reconciler_control.is_alive(w.id)
    AND NOT EXISTS (SELECT FROM reconciler_control.operations AS o WHERE o.worker = w.id);

-- name: heartbeat :many
-- Renews the lease of a worker, and with it of all it claimed, and gives the living workers.
-- No row for a stranger, and for one whose lease ran out: others may have taken what it had.
WITH renewed AS (
    UPDATE reconciler_control.workers
    SET
        heartbeat_at = clock_timestamp(),
        lease_expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
    WHERE id = %(worker)s AND lease_expires_at >= clock_timestamp()
    RETURNING id, sources, passes
),
living AS (
    SELECT id, sources, passes FROM renewed
    UNION
    SELECT w.id, w.sources, w.passes FROM reconciler_control.living_workers AS w
)
SELECT l.id::text AS id, l.sources, l.passes FROM living AS l
WHERE EXISTS (SELECT FROM renewed)
ORDER BY l.id;

-- name: extend_lease :one
-- Makes sure that a worker which claims has a lease worth the name; no row for a stranger or a dead one.
WITH renewed AS (
    UPDATE reconciler_control.workers
    SET lease_expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
    WHERE
        id = %(worker)s AND lease_expires_at >= clock_timestamp()
        AND lease_expires_at < clock_timestamp() + make_interval(secs => %(lease_s)s::double precision / 2)
)
SELECT number FROM reconciler_control.workers
WHERE id = %(worker)s AND lease_expires_at >= clock_timestamp();

-- name: release_operations :many
-- Hands back what a worker holds but for some: the states stay, anyone may resume them at once.
WITH held AS MATERIALIZED (
    SELECT id FROM reconciler_control.operations
    WHERE worker = %(worker)s AND NOT id = ANY(%(kept)s::bigint [])
    ORDER BY id
    FOR NO KEY UPDATE
)
UPDATE reconciler_control.operations AS o
SET worker = NULL, lease_token = nextval('reconciler_control.lease_tokens')
FROM held
WHERE o.id = held.id AND o.worker = %(worker)s
RETURNING o.id, o.rollout, o.environment, o.deployment;

-- name: remove_worker :exec
-- Forgets a worker that left.
DELETE FROM reconciler_control.workers WHERE id = %(worker)s;
