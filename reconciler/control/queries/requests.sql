-- name: insert_request :one
-- Notes what an operator asks; gives no row where the same waits already.
INSERT INTO reconciler_control.requests (rollout, deployment, verb, requested_by, why, digest)
VALUES (%(rollout)s, %(deployment)s, %(verb)s, %(requested_by)s, %(why)s, %(digest)s)
ON CONFLICT (rollout, verb, coalesce(deployment, '')) WHERE state = 'pending' DO NOTHING
RETURNING id;

-- name: pending_requests :many
-- Requests of rollouts that wait, the strongest first.
SELECT q.id, q.rollout, r.environment, q.deployment, q.verb::text AS verb, q.requested_by, q.why
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
    id::text, rollout::text, deployment, verb::text, state::text, reason, requested_by, why, digest,
    created_at, resolved_at
FROM reconciler_control.requests
WHERE
    id = %(id)s
    OR (
        %(id)s::bigint IS NULL AND state = 'pending' AND rollout = %(rollout)s AND verb = %(verb)s
        AND deployment IS NOT DISTINCT FROM %(deployment)s
    );

-- name: read_requests :many
-- What was asked of a rollout, the newest first.
SELECT
    id::text, rollout::text, deployment, verb::text, state::text, reason, requested_by, why, digest,
    created_at, resolved_at
FROM reconciler_control.requests
WHERE rollout = %(rollout)s
ORDER BY id DESC
LIMIT %(limit)s;

-- name: others_there :many
-- Where the operations of a rollout stand among those of others on their deployments: what is in flight there,
-- what was recorded later, and what takes their place.
SELECT
    o.deployment, o.superseded_at IS NOT NULL AS replaced, o.superseded_by,
    n.rollout AS newer, f.rollout AS flying
FROM reconciler_control.operations AS o
LEFT JOIN LATERAL (
    SELECT l.rollout FROM reconciler_control.operations AS l
    WHERE l.environment = o.environment AND l.deployment = o.deployment AND l.id > o.id
    ORDER BY l.id DESC
    LIMIT 1
) AS n ON TRUE
LEFT JOIN reconciler_control.operations AS f
    ON
        o.environment = f.environment AND o.deployment = f.deployment AND o.id <> f.id
        AND f.state IN ('running', 'promoting', 'reverting')
WHERE o.rollout = %(rollout)s AND o.deployment = ANY(%(deployments)s)
ORDER BY o.ordinal;

-- name: commit_followed :one
-- The commit that passes over an environment work towards.
SELECT head_commit, source FROM reconciler_control.environments WHERE name = %(environment)s;
