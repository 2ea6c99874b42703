-- name: count_operations :many
-- Operations that are not over, by state.
SELECT state::text, count(*) FROM reconciler_control.operations WHERE finished_at IS NULL GROUP BY state;

-- name: oldest_waiting :one
-- Since when the operation that waits longest for a worker has been waiting.
SELECT min(coalesce(o.next_attempt_at, o.created_at))
FROM reconciler_control.operations AS o
WHERE
    o.finished_at IS NULL AND o.state = ANY(%(claimable)s::reconciler_control.operation_state [])
    AND coalesce(o.next_attempt_at <= clock_timestamp(), TRUE);

-- name: oldest_parked :one
-- Since when the operation that waits longest for its promotion has been waiting.
SELECT min((o.parked ->> 'since')::timestamptz) AS since
FROM reconciler_control.operations AS o
WHERE o.state = 'waiting_for_promotion';

-- name: count_workers :one
-- Workers that are alive.
SELECT count(*) FROM reconciler_control.workers WHERE reconciler_control.is_alive(id);

-- name: environment_gauges :many
-- The numbers of each environment that its source still declares.
SELECT
    e.name, e.source, e.head_commit_at, e.applied_commit_at, e.applied_at, e.last_pass_at,
    e.suspended_at IS NOT NULL AS suspended, e.error IS NOT NULL AS failing,
    coalesce((
        SELECT bool_or((c ->> 'status')::boolean) FROM jsonb_array_elements(e.conditions) AS c
        WHERE c ->> 'type' = 'Stalled'
    ), FALSE) AS stalled,
    coalesce((
        SELECT bool_or((c ->> 'status')::boolean) FROM jsonb_array_elements(e.conditions) AS c
        WHERE c ->> 'type' = 'Ready'
    ), FALSE) AS ready
FROM reconciler_control.environments AS e
WHERE e.orphaned_at IS NULL
ORDER BY e.name;

-- name: deployment_gauges :many
-- The numbers of each deployment of those environments.
SELECT
    d.environment, d.name, d.pending, d.drift, d.diverged,
    coalesce(h.reason, d.held) IS NOT NULL AS held,
    d.unavailable IS NOT NULL AS unavailable,
    v.verified_at, v.failures AS verify_failures
FROM reconciler_control.environment_deployments AS d
INNER JOIN reconciler_control.environments AS e ON d.environment = e.name
LEFT JOIN reconciler_control.holds AS h
    ON d.environment = h.environment AND d.name = h.deployment AND e.observed_commit = h.commit
LEFT JOIN reconciler_control.verifications AS v ON d.environment = v.environment AND d.name = v.deployment
WHERE e.orphaned_at IS NULL
ORDER BY d.environment, d.ordinal, d.name;

-- name: refresh_gauges :many
-- Groups of materialized views: when they were last refreshed, and how old what they show is.
SELECT
    r.environment, r.deployment, r.component, r.name, r.succeeded_at, r.failures,
    extract(EPOCH FROM clock_timestamp() - r.data_at)::float8 AS data_age_s
FROM reconciler_control.refreshes AS r
INNER JOIN reconciler_control.environments AS e ON r.environment = e.name
WHERE e.orphaned_at IS NULL
ORDER BY r.environment, r.deployment, r.component, r.name;

-- name: generation_gauges :many
-- Generations of which something is to be removed later, and of how many that did not work so far.
SELECT environment, state::text, count(*) AS count, count(*) FILTER (WHERE failures > 0) AS kept
FROM reconciler_control.generations
GROUP BY environment, state
ORDER BY environment, state;
