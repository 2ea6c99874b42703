-- name: candidates :many
-- Operations that look as if they may be claimed, one of each environment before the second of any.
-- This only narrows the choice: rollout.next decides under the environment's lock, and claim_operation checks.
WITH
alive AS MATERIALIZED (
    SELECT w.id FROM reconciler_control.workers AS w
    WHERE reconciler_control.is_alive(w.id)
),
found AS (
    SELECT
        o.id, o.rollout, o.environment, o.ordinal, o.state, o.lease_token, o.resumes_as,
        o.started_at IS NULL AS first,
        o.state = ANY(%(in_flight)s::reconciler_control.operation_state []) AS flying
    FROM reconciler_control.operations AS o
    INNER JOIN reconciler_control.rollouts AS r ON o.rollout = r.id
    INNER JOIN reconciler_control.environments AS e ON o.environment = e.name
    WHERE
        o.finished_at IS NULL
        -- Whoever works on it has to read its commit, also to end it.
        AND r.source = ANY(%(sources)s::text [])
        AND NOT o.environment = ANY(%(crowded)s::text [])
        AND (%(rollout)s::bigint IS NULL OR o.rollout = %(rollout)s)
        AND (
            (e.suspended_at IS NULL AND e.orphaned_at IS NULL)
            -- What is to be ended is ended, also where nothing else may be done.
            OR (o.state = ANY(%(in_flight)s::reconciler_control.operation_state []) AND (
                o.superseded_at IS NOT NULL
                OR EXISTS (
                    SELECT FROM reconciler_control.requests AS q
                    WHERE
                        q.rollout = o.rollout AND q.state = 'pending' AND q.verb IN ('stop', 'cancel')
                        AND (q.deployment IS NULL OR q.deployment = o.deployment)
                )
            ))
        )
        AND CASE
            WHEN o.state = ANY(%(in_flight)s::reconciler_control.operation_state [])
                THEN o.worker IS NULL OR NOT EXISTS (SELECT FROM alive AS a WHERE a.id = o.worker)
            WHEN NOT o.state = ANY(%(claimable)s::reconciler_control.operation_state []) THEN FALSE
            WHEN EXISTS (
                SELECT FROM reconciler_control.operations AS f
                WHERE
                    f.environment = o.environment AND f.deployment = o.deployment
                    AND f.state IN ('running', 'promoting', 'reverting')
            ) THEN FALSE
            WHEN o.state = 'retrying' THEN o.next_attempt_at <= clock_timestamp()
            WHEN r.state = 'paused' THEN FALSE
            WHEN r.ordering = ANY(%(side_by_side)s) THEN (
                SELECT count(*) FROM reconciler_control.operations AS s
                WHERE
                    s.rollout = o.rollout
                    AND s.state = ANY(%(at_work)s::reconciler_control.operation_state [])
            ) < greatest(r.max_parallel, 1)
            ELSE NOT EXISTS (
                SELECT FROM reconciler_control.operations AS s
                WHERE
                    s.rollout = o.rollout AND s.ordinal < o.ordinal
                    AND NOT s.state = ANY(%(passed)s::reconciler_control.operation_state [])
            )
        END
),
load AS (
    SELECT o.environment, count(*) AS operations
    FROM reconciler_control.operations AS o
    INNER JOIN alive AS a ON o.worker = a.id
    GROUP BY o.environment
)
SELECT
    f.id, f.rollout, f.environment, f.state::text AS state, f.lease_token, f.resumes_as::text AS resumes_as,
    f.first
FROM found AS f
LEFT JOIN load AS l ON f.environment = l.environment
ORDER BY
    row_number() OVER (PARTITION BY f.environment ORDER BY f.flying DESC, f.rollout, f.ordinal)
    + coalesce(l.operations, 0),
    f.flying DESC, f.rollout, f.ordinal
LIMIT %(limit)s;

-- name: claim_operation :one
-- Takes an operation that is still what it looked like; an operation in flight only from a dead worker.
UPDATE reconciler_control.operations AS o
SET
    state = %(after)s,
    lease_token = nextval('reconciler_control.lease_tokens'),
    worker = %(worker)s,
    attempts = o.attempts + %(cost)s,
    started_at = coalesce(o.started_at, clock_timestamp()),
    next_attempt_at = NULL,
    resumes_as = NULL,
    reason = NULL
FROM reconciler_control.rollouts AS r
WHERE
    o.id = %(id)s AND o.rollout = r.id AND o.state = %(before)s
    AND o.lease_token IS NOT DISTINCT FROM %(lease_token)s
    AND (o.worker IS NULL OR NOT reconciler_control.is_alive(o.worker))
    AND coalesce(o.next_attempt_at <= clock_timestamp(), TRUE)
RETURNING
    o.id::text AS operation, o.rollout::text AS rollout, o.environment, r.source, o.deployment, r.commit,
    r.scope, o.plan, o.plan_digest, o.attempts, o.lease_token, r.allow_hazards, r.ordering, r.on_failure,
    r.max_parallel, r.promotion,
    (
        SELECT a.plan_digest FROM reconciler_control.approvals AS a
        WHERE a.operation = o.id AND a.void_at IS NULL
    ) AS approved;

-- name: hand_back :one
-- Lets anyone resume an operation at once; the token moves, so that the one before cannot write.
UPDATE reconciler_control.operations
SET worker = NULL, lease_token = nextval('reconciler_control.lease_tokens')
WHERE id = %(id)s AND lease_token = %(lease_token)s
RETURNING id;

-- name: interruptions :many
-- What is asked of operations in flight; no row for one whose lease is another's.
SELECT
    o.id::text AS operation,
    o.superseded_at IS NOT NULL AS superseded,
    (
        SELECT array_agg(DISTINCT q.verb::text)
        FROM reconciler_control.requests AS q
        WHERE
            q.rollout = o.rollout AND q.state = 'pending'
            AND (q.deployment IS NULL OR q.deployment = o.deployment)
    ) AS verbs
FROM unnest(%(ids)s::bigint [], %(lease_tokens)s::bigint []) AS c (id, lease_token)
INNER JOIN reconciler_control.operations AS o ON c.id = o.id AND c.lease_token = o.lease_token;
