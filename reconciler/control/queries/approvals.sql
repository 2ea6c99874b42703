-- name: waiting_plans :many
-- The digests of plans that wait for approval, by deployment.
SELECT id, deployment, plan_digest
FROM reconciler_control.operations
WHERE rollout = %(rollout)s AND state = 'waiting_for_approval' AND deployment = ANY(%(deployments)s)
ORDER BY ordinal;

-- name: insert_approvals :exec
-- Notes who agreed to the plans of operations.
INSERT INTO reconciler_control.approvals (operation, request, plan_digest, approved_by)
SELECT o.id, %(request)s, o.plan_digest, %(approved_by)s
FROM reconciler_control.operations AS o
WHERE o.id = ANY(%(operations)s);

-- name: read_approval :one
-- Who agreed to the plan of an operation, and whether it began under that.
SELECT plan_digest, approved_by, used_at IS NOT NULL AS used
FROM reconciler_control.approvals
WHERE operation = %(operation)s;

-- name: use_approval :one
-- Notes that an approved plan begins to be carried out; no row where the lease is another's.
UPDATE reconciler_control.approvals AS a
SET used_at = coalesce(a.used_at, clock_timestamp())
FROM reconciler_control.operations AS o
WHERE a.operation = %(operation)s AND o.id = a.operation AND o.lease_token = %(lease_token)s
RETURNING a.operation;

-- name: void_approvals :exec
-- What was agreed to and ended before it began is not agreed to any more.
UPDATE reconciler_control.approvals
SET void_at = clock_timestamp(), void_reason = %(reason)s
WHERE operation = ANY(%(operations)s) AND void_at IS NULL AND used_at IS NULL;

-- name: ended_unreplaced :many
-- Operations for a commit that ended because the state moved, the newest on each deployment, which nothing
-- took the place of yet.
SELECT p.id, p.rollout, p.deployment, a.approved_by
FROM unnest(%(deployments)s::text []) AS d (name)
CROSS JOIN LATERAL (
    SELECT o.id, o.rollout, o.deployment, o.state, o.superseded_by
    FROM reconciler_control.operations AS o
    WHERE o.environment = %(environment)s AND o.deployment = d.name
    ORDER BY o.id DESC
    LIMIT 1
) AS p
INNER JOIN reconciler_control.rollouts AS r ON p.rollout = r.id
LEFT JOIN reconciler_control.approvals AS a ON p.id = a.operation
WHERE p.state = 'superseded' AND p.superseded_by IS NULL AND r.commit = %(commit)s;

-- name: replace_ended :exec
-- Names what took the place of operations that ended before there was anything to take it.
UPDATE reconciler_control.operations
SET superseded_by = %(rollout)s
WHERE id = ANY(%(operations)s) AND superseded_by IS NULL;
