-- noqa: disable=LT01
-- The linter takes EXISTS in a list of columns for a function call.

-- name: insert_rollout :one
-- Records a rollout; its operations follow in the same transaction.
INSERT INTO reconciler_control.rollouts (
    environment, source, commit, scope, state, ordering, on_failure, max_parallel, promotion, reason,
    requested_by, allow_hazards, wave_pause_s, removes
)
VALUES (
    %(environment)s, %(source)s, %(commit)s, %(scope)s, %(state)s, %(ordering)s, %(on_failure)s,
    %(max_parallel)s, %(promotion)s, %(reason)s, %(requested_by)s, %(allow_hazards)s, %(wave_pause_s)s,
    %(removes)s
)
RETURNING id;

-- name: add_servers :exec
-- Makes servers known that operations write to.
INSERT INTO reconciler_control.servers (name)
SELECT n.name FROM unnest(%(names)s::text []) AS n (name) ORDER BY n.name
ON CONFLICT (name) DO NOTHING;

-- name: insert_operations :many
-- Records the operations of a new rollout.
INSERT INTO reconciler_control.operations AS o (
    rollout, environment, deployment, ordinal, state, plan, plan_digest, server, wave
)
SELECT
    %(rollout)s, %(environment)s, n.deployment, n.ordinal, n.state, n.plan, n.plan_digest, n.server, n.wave
FROM jsonb_to_recordset(%(operations)s) AS n (
    deployment text, ordinal integer, state reconciler_control.operation_state, plan jsonb,
    plan_digest text, server text, wave integer
)
ORDER BY n.ordinal
RETURNING o.id, o.deployment;

-- name: unfinished_operations :many
-- What is not over of an environment, to see what a new rollout repeats and what it replaces.
SELECT
    o.id, o.rollout, o.deployment, o.state::text AS state, o.plan_digest, r.commit, r.scope,
    o.superseded_at IS NOT NULL AS superseded, coalesce(o.plan -> 'task', 'null') AS task, r.removes
FROM reconciler_control.operations AS o
INNER JOIN reconciler_control.rollouts AS r ON o.rollout = r.id
WHERE o.environment = %(environment)s AND o.finished_at IS NULL
ORDER BY o.id;

-- name: operation_ended_since :one
-- An operation for the same commit that ended, or applied all of it, on one of these deployments since a moment.
SELECT o.id
FROM reconciler_control.operations AS o
INNER JOIN reconciler_control.rollouts AS r ON o.rollout = r.id
WHERE
    o.environment = %(environment)s AND o.deployment = ANY(%(deployments)s)
    AND r.commit = %(commit)s AND greatest(o.finished_at, o.applied_at) >= %(since)s
ORDER BY o.id DESC
LIMIT 1;

-- name: newest_operations :many
-- The operation of each deployment of an environment that was recorded last.
SELECT d.name AS deployment, r.commit, o.state::text AS state, o.finished_at
FROM reconciler_control.environment_deployments AS d
INNER JOIN LATERAL (
    SELECT n.rollout, n.state, n.finished_at
    FROM reconciler_control.operations AS n
    WHERE n.environment = d.environment AND n.deployment = d.name
    ORDER BY n.id DESC
    LIMIT 1
) AS o ON TRUE
INNER JOIN reconciler_control.rollouts AS r ON o.rollout = r.id
WHERE d.environment = %(environment)s;

-- name: flag_superseded :exec
-- Tells the workers of operations in flight that a newer rollout takes their place.
WITH flagged AS MATERIALIZED (
    SELECT id FROM reconciler_control.operations
    WHERE id = ANY(%(ids)s) AND finished_at IS NULL AND superseded_at IS NULL
    ORDER BY id
    FOR NO KEY UPDATE
)
UPDATE reconciler_control.operations AS o
SET superseded_at = clock_timestamp(), superseded_by = %(rollout)s
FROM flagged AS f
WHERE o.id = f.id;

-- name: rollout_members :many
-- Rollouts with their policies and all their operations in order, to derive and to decide from.
SELECT
    r.id, r.environment, r.commit, r.scope, r.state::text AS state, r.ordering, r.on_failure, r.max_parallel,
    r.promotion, r.released,
    array_agg(o.id ORDER BY o.ordinal) AS operations,
    array_agg(o.deployment ORDER BY o.ordinal) AS deployments,
    array_agg(o.state::text ORDER BY o.ordinal) AS states,
    array_agg(coalesce(o.plan -> 'task', 'null') <> 'null' ORDER BY o.ordinal) AS tasks,
    array_agg(o.superseded_at IS NOT NULL ORDER BY o.ordinal) AS replaced,
    array_agg(o.wave ORDER BY o.ordinal) AS waves,
    array_agg(o.promoted_at IS NOT NULL ORDER BY o.ordinal) AS promoted,
    array_agg(coalesce(o.resumes_as = 'reverting', FALSE) ORDER BY o.ordinal) AS going_back,
    array_agg(coalesce(o.parked ->> 'generation' = ANY(o.granted), FALSE) ORDER BY o.ordinal) AS granted
FROM reconciler_control.rollouts AS r
INNER JOIN reconciler_control.operations AS o ON r.id = o.rollout
WHERE r.id = ANY(%(ids)s)
GROUP BY r.id
ORDER BY r.id;

-- name: rollout_briefs :many
-- Rollouts in brief: which states their operations have, and whether something of them needs a look at all.
SELECT
    r.id, r.environment, r.commit, r.state::text AS state, r.ordering, r.on_failure, r.max_parallel,
    r.promotion, r.released, r.removes,
    ARRAY(
        SELECT s.state::text
        FROM unnest(enum_range(NULL::reconciler_control.operation_state)) AS s (state)
        WHERE EXISTS (
            SELECT FROM reconciler_control.operations AS o WHERE o.rollout = r.id AND o.state = s.state
        )
    ) AS states,
    EXISTS (
        SELECT FROM reconciler_control.requests AS q WHERE q.rollout = r.id AND q.state = 'pending'
    ) AS is_asked,
    EXISTS (
        SELECT FROM reconciler_control.operations AS o
        WHERE o.rollout = r.id AND o.finished_at IS NULL AND o.superseded_at IS NOT NULL
    ) AS is_replaced
FROM reconciler_control.rollouts AS r
WHERE r.id = ANY(%(ids)s)
ORDER BY r.id;

-- name: first_members :many
-- The first operations of a rollout, for people.
SELECT o.deployment, o.state::text AS state
FROM reconciler_control.operations AS o
WHERE o.rollout = %(id)s
ORDER BY o.ordinal
LIMIT %(limit)s;

-- name: count_members :one
-- How many operations a rollout has.
SELECT count(*) FROM reconciler_control.operations WHERE rollout = %(id)s;

-- name: move_rollout :one
-- Writes a derived state where the rollout is still what it was derived from.
UPDATE reconciler_control.rollouts
SET
    state = %(after)s::reconciler_control.rollout_state,
    finished_at = CASE
        WHEN
            %(after)s::reconciler_control.rollout_state
            = ANY(%(terminal)s::reconciler_control.rollout_state [])
            THEN clock_timestamp()
    END
WHERE id = %(id)s AND state = %(before)s AND finished_at IS NULL
RETURNING id;

-- name: release_rollout :exec
-- Lets a rollout that paused go on, for good.
UPDATE reconciler_control.rollouts SET released = TRUE WHERE id = %(id)s;

-- name: environment_of_rollout :one
-- Where a rollout belongs.
SELECT environment FROM reconciler_control.rollouts WHERE id = %(id)s;
