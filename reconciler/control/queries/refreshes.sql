-- name: refreshed_environments :many
-- Environments of which groups are recorded.
SELECT DISTINCT environment FROM reconciler_control.refreshes;

-- name: forget_refreshes :many
-- Forgets groups that the spec of an environment has no more.
DELETE FROM reconciler_control.refreshes AS r
WHERE
    r.environment = %(environment)s
    AND NOT EXISTS (
        SELECT FROM unnest(%(deployments)s::text [], %(components)s::text [], %(names)s::text [])
            AS k (deployment, component, name)
        WHERE (r.deployment, r.component, r.name) = (k.deployment, k.component, k.name)
    )
RETURNING r.name;

-- name: declare_refreshes :many
-- Records groups, or their new schedules, of deployments that are known; gives those that stand as they should.
WITH wanted AS (
    SELECT k.deployment, k.component, k.name, k.schedule, k.due_at
    FROM unnest(
        %(deployments)s::text [], %(components)s::text [], %(names)s::text [], %(schedules)s::text [],
        %(due)s::timestamptz []
    ) AS k (deployment, component, name, schedule, due_at)
    INNER JOIN reconciler_control.environment_deployments AS d
        ON d.environment = %(environment)s AND k.deployment = d.name
),
written AS (
    INSERT INTO reconciler_control.refreshes AS r (environment, deployment, component, name, schedule, due_at)
    SELECT %(environment)s, w.deployment, w.component, w.name, w.schedule, w.due_at FROM wanted AS w
    ON CONFLICT (environment, deployment, component, name) DO UPDATE
    SET schedule = excluded.schedule, due_at = excluded.due_at
    WHERE r.schedule <> excluded.schedule
)
SELECT w.deployment, w.component, w.name FROM wanted AS w;

-- name: take_due_refreshes :many
-- Takes groups that are due in environments that a worker passes over; what a dead one had, is free.
WITH due AS MATERIALIZED (
    SELECT r.environment, r.deployment, r.component, r.name
    FROM reconciler_control.refreshes AS r
    INNER JOIN reconciler_control.environments AS e ON r.environment = e.name
    WHERE
        r.due_at <= clock_timestamp() AND r.environment = ANY(%(environments)s)
        AND e.owner = %(worker)s::uuid AND e.suspended_at IS NULL AND e.orphaned_at IS NULL
        AND (
            r.running_by IS NULL OR r.running_by = %(worker)s::uuid
            OR NOT reconciler_control.is_alive(r.running_by)
        )
        AND NOT EXISTS (
            SELECT FROM unnest(
                %(busy_environments)s::text [], %(busy_deployments)s::text [], %(busy_components)s::text [],
                %(busy_names)s::text []
            ) AS k (environment, deployment, component, name)
            WHERE
                (r.environment, r.deployment, r.component, r.name)
                = (k.environment, k.deployment, k.component, k.name)
        )
    ORDER BY r.due_at, r.environment, r.deployment, r.component, r.name
    LIMIT %(room)s
    FOR NO KEY UPDATE OF r SKIP LOCKED
)
UPDATE reconciler_control.refreshes AS r
SET running_by = %(worker)s::uuid, started_at = clock_timestamp()
FROM due AS d
WHERE
    (r.environment, r.deployment, r.component, r.name)
    = (d.environment, d.deployment, d.component, d.name)
RETURNING r.environment, r.deployment, r.component, r.name, r.schedule, r.failures, clock_timestamp() AS now;

-- name: settle_refresh :many
-- Records what came of a run, and when the next one is due; nothing where it is another's by now.
UPDATE reconciler_control.refreshes
SET
    running_by = NULL,
    ended_at = clock_timestamp(),
    due_at = CASE WHEN schedule = %(schedule)s THEN %(due)s ELSE due_at END,
    succeeded_at = CASE WHEN %(error)s::text IS NULL THEN clock_timestamp() ELSE succeeded_at END,
    data_at = CASE WHEN %(error)s::text IS NULL THEN coalesce(%(data_at)s, data_at) ELSE data_at END,
    failures = CASE WHEN %(error)s::text IS NULL THEN 0 ELSE failures + 1 END,
    error = %(error)s
WHERE
    environment = %(environment)s AND deployment = %(deployment)s AND component = %(component)s
    AND name = %(name)s AND running_by = %(worker)s::uuid
RETURNING failures;

-- name: release_refresh :exec
-- Leaves a group that was taken to whoever takes it next.
UPDATE reconciler_control.refreshes
SET running_by = NULL
WHERE
    environment = %(environment)s AND deployment = %(deployment)s AND component = %(component)s
    AND name = %(name)s AND running_by = %(worker)s::uuid;

-- name: read_refreshes :many
-- Groups of environments with what came of their last runs.
SELECT
    r.environment, r.deployment, r.component, r.name, r.schedule, r.due_at, r.started_at, r.ended_at,
    r.succeeded_at, r.data_at, r.failures, r.error, r.running_by IS NOT NULL AS running
FROM reconciler_control.refreshes AS r
INNER JOIN reconciler_control.environments AS e ON r.environment = e.name
WHERE e.orphaned_at IS NULL AND (%(names)s::text [] IS NULL OR r.environment = ANY(%(names)s))
ORDER BY r.environment, r.deployment, r.component, r.name
LIMIT %(limit)s;
