-- noqa: disable=LT01
-- The linter takes EXISTS in a list of columns for a function call.

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

-- name: heartbeat :one
-- Renews the lease of a worker, gives the living workers, and whether anything looks as if it may be claimed.
-- No row for a stranger, and for one whose lease ran out: others may have taken what it had.
WITH
renewed AS (
    UPDATE reconciler_control.workers
    SET
        heartbeat_at = clock_timestamp(),
        lease_expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s),
        held = (
            SELECT count(*) FROM reconciler_control.operations AS o
            WHERE
                o.worker = %(worker)s
                AND o.state = ANY(%(in_flight)s::reconciler_control.operation_state [])
        )
    WHERE id = %(worker)s AND lease_expires_at >= clock_timestamp()
    RETURNING id, sources, passes, unreadable
),
living AS MATERIALIZED (
    SELECT id, sources, passes, unreadable FROM renewed
    UNION
    SELECT w.id, w.sources, w.passes, w.unreadable FROM reconciler_control.living_workers AS w
)
SELECT
    (
        SELECT json_agg(
            json_build_object(
                'id', l.id, 'passes', l.passes,
                'sources', ARRAY(
                    SELECT s.name FROM unnest(l.sources) AS s (name)
                    WHERE NOT s.name = ANY(l.unreadable)
                    ORDER BY s.name
                )
            )
            ORDER BY l.id::text
        )
        FROM living AS l
    ) AS peers,
    EXISTS (
        SELECT FROM reconciler_control.rollouts AS r
        INNER JOIN reconciler_control.environments AS e ON r.environment = e.name
        WHERE
            r.finished_at IS NULL AND r.source = ANY(n.sources)
            AND (
                EXISTS (
                    SELECT FROM reconciler_control.operations AS o
                    WHERE
                        o.rollout = r.id
                        AND o.state = ANY(%(in_flight)s::reconciler_control.operation_state [])
                        AND NOT EXISTS (SELECT FROM living AS l WHERE o.worker = l.id)
                        AND (
                            coalesce(e.suspended_at, e.orphaned_at) IS NULL
                            OR o.superseded_at IS NOT NULL
                            OR EXISTS (
                                SELECT FROM reconciler_control.requests AS q
                                WHERE q.rollout = o.rollout AND q.state = 'pending'
                            )
                        )
                )
                OR (
                    coalesce(e.suspended_at, e.orphaned_at) IS NULL
                    AND EXISTS (
                        SELECT FROM reconciler_control.operations AS o
                        WHERE
                            o.rollout = r.id
                            AND o.state = ANY(%(claimable)s::reconciler_control.operation_state [])
                            AND CASE
                                WHEN o.state = 'retrying' THEN o.next_attempt_at <= clock_timestamp()
                                ELSE r.state <> 'paused'
                            END
                    )
                )
                OR (
                    coalesce(e.suspended_at, e.orphaned_at) IS NULL
                    AND EXISTS (
                        SELECT FROM reconciler_control.operations AS o
                        WHERE
                            o.rollout = r.id AND o.state = 'waiting_for_promotion'
                            AND (r.promotion = 'auto' OR o.parked ->> 'generation' = ANY(o.granted))
                    )
                )
            )
    ) AS work
FROM renewed AS n;

-- name: note_readable :exec
-- Says whether a worker has a commit of a source that it may use.
UPDATE reconciler_control.workers
SET
    unreadable = CASE
        WHEN %(readable)s THEN array_remove(unreadable, %(source)s)
        ELSE array_append(array_remove(unreadable, %(source)s), %(source)s)
    END
WHERE id = %(worker)s;

-- name: extend_lease :one
-- Makes sure that a worker which claims has a lease worth the name; no row for a stranger or a dead one, nor for
-- one whose session is gone: what it took would be anybody's at once. Says too whether any operation waits for
-- its promotion, which almost always none does.
WITH renewed AS (
    UPDATE reconciler_control.workers
    SET lease_expires_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
    WHERE
        id = %(worker)s AND lease_expires_at >= clock_timestamp()
        AND lease_expires_at < clock_timestamp() + make_interval(secs => %(lease_s)s::double precision / 2)
)
SELECT
    number,
    EXISTS (
        SELECT FROM reconciler_control.operations AS o WHERE o.state = 'waiting_for_promotion'
    ) AS has_parked
FROM reconciler_control.workers
WHERE id = %(worker)s AND reconciler_control.is_alive(id);

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
