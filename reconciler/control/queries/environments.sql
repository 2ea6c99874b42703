-- name: lock_environment :one
-- Serialises everything that changes states of one environment; always the first lock a transaction takes.
SELECT name, suspended_at IS NULL AND orphaned_at IS NULL AS is_open
FROM reconciler_control.environments
WHERE name = %(environment)s
FOR NO KEY UPDATE;

-- name: try_lock_environment :one
-- The same, but gives no row where another transaction is at it.
SELECT name, suspended_at IS NULL AND orphaned_at IS NULL AS is_open
FROM reconciler_control.environments
WHERE name = %(environment)s
FOR NO KEY UPDATE SKIP LOCKED;

-- name: add_environment :exec
-- Gives a name to the source that declares it first.
INSERT INTO reconciler_control.environments AS e (name, source) VALUES (%(environment)s, %(source)s)
ON CONFLICT (name) DO UPDATE
SET
    source = excluded.source, removed_at = NULL, orphaned_at = NULL, inputs = NULL, observed_commit = NULL,
    applied_commit = NULL, applied_at = NULL, applied_commit_at = NULL
WHERE e.removed_at IS NOT NULL;

-- name: add_environments :many
-- Gives names to the source that declares them first; tells which are another's.
WITH added AS (
    INSERT INTO reconciler_control.environments AS e (name, source)
    SELECT n.name, %(source)s FROM unnest(%(environments)s::text []) AS n (name) ORDER BY n.name
    ON CONFLICT (name) DO UPDATE
    SET
        source = excluded.source, removed_at = NULL, orphaned_at = NULL, inputs = NULL,
        observed_commit = NULL, applied_commit = NULL, applied_at = NULL, applied_commit_at = NULL
    WHERE e.removed_at IS NOT NULL
    RETURNING e.name
)
SELECT e.name, e.source FROM reconciler_control.environments AS e
WHERE
    e.name = ANY(%(environments)s) AND e.source <> %(source)s
    AND NOT e.name = ANY(SELECT a.name FROM added AS a)
ORDER BY e.name;

-- name: note_attempt :exec
-- The commit of the rollout that was just recorded.
UPDATE reconciler_control.environments
SET attempted_commit = %(commit)s, attempted_at = clock_timestamp()
WHERE name = %(environment)s;

-- name: source_of_environment :one
-- The source that owns a name.
SELECT source FROM reconciler_control.environments WHERE name = %(environment)s;

-- name: read_facts :many
-- All that is known of environments, as far as passes read or write it and conditions need it.
SELECT
    e.name, e.source, e.path, e.mode, e.head_commit, e.head_commit_at, e.observed_commit, e.error,
    e.error_reason, e.inputs, e.owner::text AS owner, e.applied_commit, e.applied_at, e.suspended_reason,
    e.suspended_at IS NOT NULL AS suspended,
    e.orphaned_at IS NOT NULL AS orphaned,
    (
        SELECT count(*) > 0
        FROM (
            SELECT 1 FROM reconciler_control.deployments_left AS l WHERE l.environment = e.name LIMIT 1
        ) AS x
    ) AS has_left,
    e.conditions,
    coalesce(e.last_pass_at < clock_timestamp() - interval '10 seconds', TRUE) AS pass_is_due,
    clock_timestamp() AS now,
    (
        SELECT coalesce(jsonb_agg(to_jsonb(d) - 'environment' ORDER BY d.ordinal, d.name), '[]')
        FROM reconciler_control.environment_deployments AS d
        WHERE d.environment = e.name
    ) AS deployments,
    (
        SELECT
            coalesce(
                jsonb_object_agg(
                    v.deployment,
                    jsonb_build_object(
                        'age_s', extract(EPOCH FROM clock_timestamp() - v.verified_at), 'failures', v.failures
                    )
                ),
                '{}'
            )
        FROM reconciler_control.verifications AS v
        WHERE v.environment = e.name
    ) AS verifications,
    (
        SELECT coalesce(jsonb_agg(DISTINCT r.state), '[]')
        FROM reconciler_control.rollouts AS r
        WHERE r.environment = e.name AND r.finished_at IS NULL
    ) AS rollouts,
    (
        SELECT coalesce(jsonb_object_agg(h.deployment, h.reason), '{}')
        FROM reconciler_control.holds AS h
        WHERE h.environment = e.name AND h.commit = e.observed_commit
    ) AS holds,
    (
        SELECT coalesce(jsonb_object_agg(h.deployment, h.reason), '{}')
        FROM reconciler_control.holds AS h
        WHERE h.environment = e.name AND h.commit = %(commit)s
    ) AS held,
    (
        SELECT coalesce(jsonb_agg(jsonb_build_array(i.deployment, i.database)), '[]')
        FROM reconciler_control.database_intents AS i
        WHERE i.environment = e.name
    ) AS intents,
    (
        SELECT
            coalesce(
                jsonb_agg(
                    jsonb_build_object(
                        'deployment', o.deployment, 'commit', r.commit, 'requested_by', r.requested_by,
                        'failed', o.error ->> 'why', 'state', o.state
                    )
                    || CASE
                        WHEN o.state = 'waiting_for_approval'
                            THEN
                                jsonb_build_object(
                                    'digest', o.plan_digest, 'rollout', o.rollout, 'reason', r.reason
                                )
                        WHEN o.state = 'waiting_for_promotion'
                            THEN
                                jsonb_build_object(
                                    'rollout', o.rollout,
                                    'needs_word', r.promotion <> 'auto'
                                    AND NOT coalesce(o.parked ->> 'generation' = ANY(o.granted), FALSE)
                                )
                        ELSE '{}'
                    END
                    ORDER BY o.id
                ),
                '[]'
            )
        FROM reconciler_control.operations AS o
        INNER JOIN reconciler_control.rollouts AS r ON o.rollout = r.id
        WHERE o.environment = e.name AND o.finished_at IS NULL
    ) AS under_way
FROM reconciler_control.environments AS e
WHERE e.name = ANY(%(environments)s);

-- name: write_observation :exec
-- What a pass found out about an environment; what it does not know stays.
UPDATE reconciler_control.environments
SET
    path = %(path)s,
    mode = coalesce(%(mode)s, mode),
    head_commit = coalesce(%(head_commit)s, head_commit),
    head_commit_at = CASE
        WHEN %(head_commit)s::text IS NULL THEN head_commit_at ELSE %(head_commit_at)s
    END,
    observed_commit = coalesce(%(observed_commit)s, observed_commit),
    inputs = coalesce(%(inputs)s, inputs),
    error = %(error)s,
    error_reason = %(error_reason)s,
    orphaned_at = NULL,
    removing_at = NULL,
    removed_at = NULL,
    last_pass_at = clock_timestamp()
WHERE name = %(environment)s;

-- name: write_deployments :exec
-- What a pass found on each deployment; what it left as it was is not written.
INSERT INTO reconciler_control.environment_deployments AS d (
    environment, name, ordinal, pending, drift, diverged, held, unavailable, blocked, applied_commit,
    provisioned_commit, left_out
)
SELECT
    %(environment)s, n.name, n.ordinal, n.pending, n.drift, n.diverged, n.held, n.unavailable, n.blocked,
    n.applied_commit, n.provisioned_commit, n.left_out
FROM jsonb_to_recordset(%(deployments)s) AS n (
    name text, ordinal integer, pending integer, drift integer, diverged integer, held text,
    unavailable text, blocked text, applied_commit text, provisioned_commit text, left_out text []
)
ON CONFLICT (environment, name) DO UPDATE
SET
    ordinal = excluded.ordinal, pending = excluded.pending, drift = excluded.drift,
    diverged = excluded.diverged, held = excluded.held, unavailable = excluded.unavailable,
    blocked = excluded.blocked, applied_commit = excluded.applied_commit,
    provisioned_commit = excluded.provisioned_commit, left_out = excluded.left_out
WHERE
    (
        d.ordinal, d.pending, d.drift, d.diverged, d.held, d.unavailable, d.blocked, d.applied_commit,
        d.provisioned_commit, d.left_out
    )
    IS DISTINCT FROM (
        excluded.ordinal, excluded.pending, excluded.drift, excluded.diverged, excluded.held,
        excluded.unavailable, excluded.blocked, excluded.applied_commit, excluded.provisioned_commit,
        excluded.left_out
    );

-- name: touch_passes :exec
-- Passes that found nothing new say that they were there, seldom.
WITH touched AS MATERIALIZED (
    SELECT name FROM reconciler_control.environments
    WHERE
        name = ANY(%(environments)s)
        AND coalesce(last_pass_at < clock_timestamp() - interval '10 seconds', TRUE)
    ORDER BY name
    FOR NO KEY UPDATE SKIP LOCKED
)
UPDATE reconciler_control.environments AS e
SET last_pass_at = clock_timestamp()
FROM touched AS t
WHERE e.name = t.name;

-- name: write_conditions :exec
-- The conditions, where they are not what they were.
UPDATE reconciler_control.environments
SET conditions = %(conditions)s
WHERE name = %(environment)s AND conditions <> %(conditions)s;

-- name: deployments_applied :exec
-- Completed operations brought their commits to their deployments.
UPDATE reconciler_control.environment_deployments AS d
SET applied_commit = n.commit, provisioned_commit = NULL, left_out = '{}', pending = 0, held = NULL
FROM jsonb_to_recordset(%(applied)s) AS n (environment text, deployment text, commit text)
WHERE d.environment = n.environment AND d.name = n.deployment;

-- name: deployments_provisioned :exec
-- Completed operations brought the resources of their commits to their deployments, and left out the rest.
UPDATE reconciler_control.environment_deployments AS d
SET provisioned_commit = n.commit, left_out = n.left_out, pending = 0, held = NULL
FROM jsonb_to_recordset(%(provisioned)s) AS n (
    environment text, deployment text, commit text, left_out text []
)
WHERE
    d.environment = n.environment AND d.name = n.deployment AND d.applied_commit IS DISTINCT FROM n.commit;

-- name: deployments_left :exec
-- A person made something else of deployments than any commit says.
UPDATE reconciler_control.environment_deployments AS d
SET applied_commit = NULL, provisioned_commit = NULL, left_out = '{}', held = n.reason
FROM jsonb_to_recordset(%(holds)s) AS n (environment text, deployment text, reason text)
WHERE d.environment = n.environment AND d.name = n.deployment;

-- name: environment_applied :one
-- Once all deployments carry the same commit, the environment does; gives a row only when that is news.
UPDATE reconciler_control.environments AS e
SET
    applied_commit = x.commit,
    applied_at = clock_timestamp(),
    applied_commit_at = CASE WHEN e.head_commit = x.commit THEN e.head_commit_at END
FROM (
    SELECT min(applied_commit) AS commit
    FROM reconciler_control.environment_deployments
    WHERE environment = %(environment)s
    HAVING count(*) > 0 AND count(*) = count(applied_commit) AND min(applied_commit) = max(applied_commit)
) AS x
WHERE e.name = %(environment)s AND e.applied_commit IS DISTINCT FROM x.commit
RETURNING
    e.applied_commit, extract(EPOCH FROM e.applied_at - e.applied_commit_at)::double precision AS seconds;

-- name: retire_environments :many
-- Marks the environments that their source no longer declares.
UPDATE reconciler_control.environments
SET orphaned_at = clock_timestamp()
WHERE
    source = %(source)s AND orphaned_at IS NULL AND removing_at IS NULL AND NOT name = ANY(%(names)s)
    AND owner IS NOT DISTINCT FROM coalesce(%(owner)s, owner)
    -- Somebody who read a newer commit may have declared it, or looked at it, since ours was fetched.
    AND greatest(declared_at, last_pass_at) < coalesce(%(fetched_at)s::timestamptz, 'infinity')
RETURNING name;

-- name: suspend_environment :one
-- Stops claims for an environment; gives no row where it is suspended for that reason already.
UPDATE reconciler_control.environments
SET
    suspended_at = coalesce(suspended_at, clock_timestamp()),
    suspended_by = %(actor)s,
    suspended_reason = %(reason)s
WHERE name = %(environment)s AND suspended_reason IS DISTINCT FROM %(reason)s
RETURNING name;

-- name: resume_environment :one
-- Lets claims go on; gives no row where the environment is not suspended.
UPDATE reconciler_control.environments
SET suspended_at = NULL, suspended_by = NULL, suspended_reason = NULL
WHERE name = %(environment)s AND suspended_at IS NOT NULL
RETURNING name;

-- name: stop_environment :one
-- Wants the services and routes of an environment off; gives no row where they are to be off already.
UPDATE reconciler_control.environments
SET stopped_at = clock_timestamp(), stopped_by = %(actor)s
WHERE name = %(environment)s AND stopped_at IS NULL
RETURNING name;

-- name: start_environment :one
-- Wants them on again; gives no row where they are to be on already.
UPDATE reconciler_control.environments
SET stopped_at = NULL, stopped_by = NULL, started_at = clock_timestamp()
WHERE name = %(environment)s AND stopped_at IS NOT NULL
RETURNING name;

-- name: read_environments :many
-- All environments, or those named, with what people are shown of them.
SELECT
    name, source, path, head_commit, head_commit_at, observed_commit, applied_commit, applied_at,
    suspended_at IS NOT NULL AS suspended, suspended_reason, last_pass_at, error, conditions, mode,
    attempted_commit, attempted_at, stopped_at IS NOT NULL AS stopped,
    (SELECT w.name FROM reconciler_control.workers AS w WHERE w.id = owner) AS owner
FROM reconciler_control.environments
WHERE removed_at IS NULL AND (%(names)s::text [] IS NULL OR name = ANY(%(names)s))
ORDER BY name;

-- name: read_deployments :many
-- The deployments of those environments, each with the operation in flight, or else its newest one, and how
-- far that is while it is not over.
SELECT
    d.environment, d.name, d.applied_commit, d.pending, d.drift, d.diverged,
    coalesce(h.reason, d.held) AS held, d.unavailable, d.blocked, o.id::text AS operation,
    o.state::text AS state, v.verified_at, v.failures AS verify_failures, o.rollout::text AS rollout,
    s.done AS steps_done, s.total AS steps_total, s.current, s.current_since, d.provisioned_commit,
    d.left_out
FROM reconciler_control.environment_deployments AS d
INNER JOIN reconciler_control.environments AS e ON d.environment = e.name
LEFT JOIN reconciler_control.holds AS h
    ON d.environment = h.environment AND d.name = h.deployment AND e.observed_commit = h.commit
LEFT JOIN reconciler_control.verifications AS v ON d.environment = v.environment AND d.name = v.deployment
LEFT JOIN LATERAL (
    SELECT p.id, p.state, p.rollout, p.finished_at
    FROM (
        (
            SELECT f.id, f.state, f.rollout, f.finished_at, 0 AS rank
            FROM reconciler_control.operations AS f
            WHERE
                f.environment = d.environment AND f.deployment = d.name
                AND f.state IN ('running', 'promoting', 'reverting')
        )
        UNION ALL
        (
            SELECT n.id, n.state, n.rollout, n.finished_at, 1 AS rank
            FROM reconciler_control.operations AS n
            WHERE n.environment = d.environment AND n.deployment = d.name
            ORDER BY n.id DESC
            LIMIT 1
        )
    ) AS p
    ORDER BY p.rank
    LIMIT 1
) AS o ON TRUE
LEFT JOIN LATERAL (
    SELECT
        count(*) FILTER (WHERE t.state = 'done') AS done, count(*) AS total,
        (array_agg(t.kind || ' ' || t.identity ORDER BY t.ordinal) FILTER (WHERE t.state = 'running'))[1]
        AS current,
        min(t.started_at) FILTER (WHERE t.state = 'running') AS current_since
    FROM reconciler_control.steps AS t
    WHERE t.operation = o.id AND o.finished_at IS NULL
    HAVING count(*) > 0
) AS s ON TRUE
WHERE %(names)s::text [] IS NULL OR d.environment = ANY(%(names)s)
ORDER BY d.environment, d.ordinal, d.name;
