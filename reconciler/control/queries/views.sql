-- name: read_rollouts :many
-- The newest rollouts of an environment, or one by its number.
SELECT
    id, environment, commit, scope, state::text AS state, reason, requested_by, created_at, finished_at,
    ordering AS "order", on_failure, max_parallel, promotion, released, wave_pause_s
FROM reconciler_control.rollouts
WHERE
    (%(environment)s::text IS NULL OR environment = %(environment)s)
    AND (%(id)s::bigint IS NULL OR id = %(id)s)
ORDER BY id DESC
LIMIT %(limit)s;

-- name: count_states :many
-- How many operations of rollouts are in each state.
SELECT rollout, state::text AS state, count(*) AS operations
FROM reconciler_control.operations
WHERE rollout = ANY(%(ids)s)
GROUP BY rollout, state
ORDER BY rollout, state;

-- name: read_operations :many
-- Operations of rollouts in rollout order, so many of each; where there are more, what failed and what is not
-- over goes first.
SELECT
    o.rollout, o.id, o.deployment, o.state::text AS state, o.attempts, o.plan_digest, o.reason, o.error,
    o.next_attempt_at, o.started_at, o.finished_at, o.superseded_by::text AS superseded_by, o.wave,
    w.name AS worker, o.parked, coalesce(o.parked ->> 'generation' = ANY(o.granted), FALSE) AS granted,
    o.promoted_at, o.applied_at,
    CASE WHEN o.state IN ('revert_window', 'reverting') THEN o.revert_until END AS revert_until,
    CASE
        WHEN o.state IN ('completed', 'revert_window') THEN coalesce(o.plan -> 'blocked', '[]') ELSE '[]'
    END AS blocked,
    CASE
        WHEN o.state IN ('failed', 'cancelled') THEN coalesce(o.plan -> 'task', 'null') <> 'null' ELSE FALSE
    END AS by_hand
FROM (
    SELECT
        p.rollout, p.id, p.deployment, p.state, p.attempts, p.plan_digest, p.reason, p.error,
        p.next_attempt_at, p.started_at, p.finished_at, p.superseded_by, p.worker, p.ordinal, p.wave, p.plan,
        p.parked, p.granted, p.promoted_at, p.applied_at, p.revert_until,
        row_number() OVER (
            PARTITION BY p.rollout
            ORDER BY p.state <> 'failed', p.finished_at IS NOT NULL, p.state = 'pending', p.ordinal
        ) AS place
    FROM reconciler_control.operations AS p
    WHERE p.rollout = ANY(%(ids)s)
) AS o
LEFT JOIN reconciler_control.workers AS w ON o.worker = w.id
WHERE o.place <= %(most)s
ORDER BY o.rollout, o.ordinal;

-- name: count_steps :many
-- How far operations are: steps in all and done, and the one that runs.
SELECT
    s.operation, count(*) AS total, count(*) FILTER (WHERE s.state = 'done') AS done,
    (array_agg(s.kind || ' ' || s.identity ORDER BY s.ordinal) FILTER (WHERE s.state = 'running'))[1]
    AS current,
    min(s.started_at) FILTER (WHERE s.state = 'running') AS current_since
FROM reconciler_control.steps AS s
WHERE s.operation = ANY(%(ids)s)
GROUP BY s.operation;

-- name: read_steps :many
-- The steps of operations, in plan order.
SELECT
    operation, id, ordinal, stage, kind, component, identity, state::text AS state, reason, said,
    started_at, finished_at
FROM reconciler_control.steps
WHERE operation = ANY(%(ids)s)
ORDER BY operation, ordinal, id;

-- name: read_ended_steps :many
-- The steps of operations that ended, in plan order, but for those seen before; what ended once more since the
-- newest of these is not seen yet.
SELECT
    s.operation, s.id, s.ordinal, s.stage, s.kind, s.component, s.identity, s.state::text AS state, s.reason,
    s.said, s.started_at, s.finished_at
FROM unnest(
    %(ids)s::bigint [], %(seen)s::int4multirange [], %(newest)s::timestamptz []
) AS k (operation, seen, newest)
INNER JOIN reconciler_control.steps AS s ON k.operation = s.operation
WHERE s.finished_at IS NOT NULL AND (s.finished_at > k.newest OR NOT s.ordinal <@ k.seen)
ORDER BY s.operation, s.ordinal, s.id;

-- name: read_hazards :many
-- The hazards of plans that somebody is to agree to, or agreed to.
SELECT o.id AS operation, s.step ->> 'id' AS step, s.step -> 'hazards' AS hazards
FROM reconciler_control.operations AS o
CROSS JOIN LATERAL jsonb_path_query(o.plan, '$.plan.stages[*].steps[*] ? (@.hazards.size() > 0)') AS s (step)
WHERE
    o.id = ANY(%(ids)s)
    AND (
        o.state = 'waiting_for_approval'
        OR EXISTS (SELECT FROM reconciler_control.approvals AS a WHERE a.operation = o.id)
    )
LIMIT %(limit)s;

-- name: read_approvals :many
-- Who agreed to the plans of operations, and what became of that.
SELECT
    a.operation::text AS operation, o.deployment, a.request::text AS request, a.plan_digest, a.approved_by,
    a.approved_at, a.used_at, a.void_at, a.void_reason
FROM reconciler_control.approvals AS a
INNER JOIN reconciler_control.operations AS o ON a.operation = o.id
WHERE a.operation = ANY(%(ids)s)
ORDER BY a.operation;

-- name: read_replaced :many
-- What a rollout took the place of.
SELECT DISTINCT o.rollout
FROM reconciler_control.operations AS o
WHERE o.superseded_by = %(rollout)s
ORDER BY o.rollout;

-- name: read_around :one
-- What else has a say on a rollout: its environment, other operations at work on its deployments, workers.
SELECT
    e.name, e.suspended_reason, e.orphaned_at IS NOT NULL AS orphaned, clock_timestamp() AS now,
    (SELECT count(*) FROM reconciler_control.living_workers AS w WHERE r.source = ANY(w.sources)) AS workers,
    (
        SELECT coalesce(jsonb_object_agg(f.deployment, f.rollout), '{}')
        FROM reconciler_control.operations AS f
        WHERE
            f.environment = r.environment AND f.rollout <> r.id
            AND f.state IN ('running', 'promoting', 'reverting')
    ) AS others
FROM reconciler_control.rollouts AS r
INNER JOIN reconciler_control.environments AS e ON r.environment = e.name
WHERE r.id = %(rollout)s;
