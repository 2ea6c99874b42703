-- name: insert_request :one
-- Notes what an operator asks; gives no row where the same waits already.
INSERT INTO reconciler_control.requests (rollout, deployment, verb, requested_by)
VALUES (%(rollout)s, %(deployment)s, %(verb)s, %(requested_by)s)
ON CONFLICT (rollout, verb, coalesce(deployment, '')) WHERE state = 'pending' DO NOTHING
RETURNING id;

-- name: pending_requests :many
-- Requests of rollouts that wait, the strongest first.
SELECT q.id, q.rollout, r.environment, q.deployment, q.verb::text AS verb, q.requested_by
FROM reconciler_control.requests AS q
INNER JOIN reconciler_control.rollouts AS r ON q.rollout = r.id
WHERE q.rollout = ANY(%(rollouts)s) AND q.state = 'pending'
ORDER BY q.rollout, q.verb, q.id;

-- name: resolve_request :exec
-- Settles a request with what came of it.
UPDATE reconciler_control.requests
SET state = %(state)s, reason = %(reason)s, resolved_at = clock_timestamp()
WHERE id = %(id)s AND state = 'pending';

-- name: read_request :one
-- A request by its number, or the one of its sort that waits.
SELECT
    id::text, rollout::text, deployment, verb::text, state::text, reason, requested_by, created_at,
    resolved_at
FROM reconciler_control.requests
WHERE
    id = %(id)s
    OR (
        %(id)s::bigint IS NULL AND state = 'pending' AND rollout = %(rollout)s AND verb = %(verb)s
        AND deployment IS NOT DISTINCT FROM %(deployment)s
    );
