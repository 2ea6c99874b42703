-- name: settled_wrongly :many
-- Rollouts under way whose state is not the one of their operations, in one look: whoever moves an operation
-- writes the rollout's state in the same transaction, so nothing that is at work is among them.
SELECT
    r.id, r.environment, r.state::text AS state, r.ordering, r.on_failure, r.max_parallel, r.promotion,
    r.released,
    ARRAY(
        SELECT s.state::text
        FROM unnest(enum_range(NULL::reconciler_control.operation_state)) AS s (state)
        WHERE EXISTS (
            SELECT FROM reconciler_control.operations AS o WHERE o.rollout = r.id AND o.state = s.state
        )
    ) AS states
FROM reconciler_control.rollouts AS r
WHERE r.finished_at IS NULL
ORDER BY r.id
LIMIT %(limit)s;

-- name: left_behind :many
-- Operations that are not over though their rollout is, but those that a living worker is about to end.
SELECT o.id, o.rollout, o.environment, o.state::text AS state, o.lease_token, r.state::text AS rollout_state
FROM reconciler_control.operations AS o
INNER JOIN reconciler_control.rollouts AS r ON o.rollout = r.id
WHERE
    o.finished_at IS NULL AND r.finished_at IS NOT NULL
    AND (%(environment)s::text IS NULL OR o.environment = %(environment)s)
    AND NOT EXISTS (SELECT FROM reconciler_control.living_workers AS w WHERE w.id = o.worker)
ORDER BY o.id
LIMIT %(limit)s;

-- name: left_unanswered :many
-- Requests that nobody will answer: their rollout is over, no worker holds what they are about, or they had to
-- have their answer before anybody could see them.
SELECT q.id, q.rollout, r.environment, q.deployment, q.verb::text AS verb, q.requested_by, q.why
FROM reconciler_control.requests AS q
INNER JOIN reconciler_control.rollouts AS r ON q.rollout = r.id
WHERE
    q.state = 'pending'
    AND (%(environment)s::text IS NULL OR r.environment = %(environment)s)
    AND (
        r.finished_at IS NOT NULL OR NOT q.verb IN ('stop', 'cancel') OR NOT EXISTS (
            SELECT FROM reconciler_control.operations AS o
            WHERE
                o.rollout = q.rollout AND (q.deployment IS NULL OR q.deployment = o.deployment)
                AND o.state IN ('running', 'promoting', 'reverting')
        )
    )
ORDER BY q.id
LIMIT %(limit)s;

-- name: left_running :many
-- Operations that no worker holds, with steps that look as if one did; of those that are over, the newest.
SELECT o.id, o.rollout, o.environment, o.deployment
FROM reconciler_control.operations AS o
WHERE
    NOT o.state IN ('running', 'promoting', 'reverting')
    -- What never began may be many times what did, and has no such steps.
    AND o.started_at IS NOT NULL
    AND (
        o.finished_at IS NULL
        OR o.id > (SELECT max(n.id) FROM reconciler_control.operations AS n) - %(newest)s
    )
    AND (%(environment)s::text IS NULL OR o.environment = %(environment)s)
    AND EXISTS (
        SELECT FROM reconciler_control.steps AS s WHERE s.operation = o.id AND s.state = 'running'
    )
ORDER BY o.id
LIMIT %(limit)s;

-- name: left_held :many
-- Holds whose operation goes on, or was replaced, so that nothing ended short of the commit.
SELECT h.environment, h.deployment, h.commit, h.operation
FROM reconciler_control.holds AS h
INNER JOIN reconciler_control.operations AS o ON h.operation = o.id
WHERE
    NOT o.state IN ('failed', 'cancelled', 'stopped', 'reverted', 'completed')
    AND (%(environment)s::text IS NULL OR h.environment = %(environment)s)
ORDER BY h.environment, h.deployment
LIMIT %(limit)s;
