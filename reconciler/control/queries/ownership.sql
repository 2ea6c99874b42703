-- name: database_now :one
-- The clock that decides.
SELECT clock_timestamp() AS now;

-- name: lock_owned_environment :one
-- Takes the environment first, as everything that changes it does, and says who passes over it.
SELECT owner::text AS owner FROM reconciler_control.environments
WHERE name = %(environment)s
FOR NO KEY UPDATE;

-- name: own_environments :many
-- Gives environments that nobody alive passes over to a worker, as long as it is alive itself.
WITH alive AS MATERIALIZED (
    SELECT w.id FROM reconciler_control.workers AS w WHERE reconciler_control.is_alive(w.id)
),
free AS MATERIALIZED (
    SELECT e.name FROM reconciler_control.environments AS e
    WHERE
        e.source = %(source)s AND e.name = ANY(%(environments)s)
        AND (e.owner IS NULL OR NOT EXISTS (SELECT FROM alive AS a WHERE a.id = e.owner))
        AND EXISTS (SELECT FROM alive AS a WHERE a.id = %(worker)s::uuid)
    ORDER BY e.name
    FOR NO KEY UPDATE
)
UPDATE reconciler_control.environments AS e
SET owner = %(worker)s::uuid
FROM free AS f
WHERE e.name = f.name
RETURNING e.name;

-- name: give_up_environments :many
-- Lets others pass over environments of a worker.
WITH given AS MATERIALIZED (
    SELECT e.name FROM reconciler_control.environments AS e
    WHERE e.owner = %(worker)s::uuid AND e.name = ANY(%(environments)s)
    ORDER BY e.name
    FOR NO KEY UPDATE
)
UPDATE reconciler_control.environments AS e
SET owner = NULL
FROM given AS g
WHERE e.name = g.name
RETURNING e.name;

-- name: owned_environments :many
-- The environments of a source, who passes over each, and whether that one is alive.
WITH alive AS MATERIALIZED (
    SELECT w.id FROM reconciler_control.workers AS w WHERE reconciler_control.is_alive(w.id)
)
SELECT
    e.name, e.path, e.head_commit, e.head_commit_at, e.owner::text AS owner,
    coalesce(e.owner IN (SELECT a.id FROM alive AS a), FALSE) AS owner_is_alive
FROM reconciler_control.environments AS e
WHERE e.source = %(source)s
ORDER BY e.name;

-- name: settled_environments :many
-- Those of the named environments whose content is what it was and that were in sync with it.
SELECT e.name, e.error, coalesce(e.observed_commit <> %(commit)s, TRUE) AS is_behind
FROM unnest(%(environments)s::text [], %(inputs)s::text []) AS n (name, inputs)
INNER JOIN reconciler_control.environments AS e ON n.name = e.name AND n.inputs = e.inputs
WHERE
    e.owner IS NOT DISTINCT FROM %(owner)s::uuid
    AND e.observed_commit IS NOT NULL AND (e.error IS NULL OR e.error = ANY(%(errors)s))
    AND e.suspended_at IS NULL AND e.orphaned_at IS NULL
    AND e.applied_commit = e.observed_commit
    AND NOT EXISTS (
        SELECT FROM reconciler_control.environment_deployments AS d
        WHERE
            d.environment = e.name
            AND (
                d.pending > 0 OR d.held IS NOT NULL OR d.unavailable IS NOT NULL OR d.blocked IS NOT NULL
                OR d.applied_commit IS DISTINCT FROM e.observed_commit
            )
    )
    AND NOT EXISTS (
        SELECT FROM reconciler_control.operations AS o
        WHERE o.environment = e.name AND o.finished_at IS NULL
    );

-- name: lock_environments_of :many
-- Takes environments of a pass, so that the next statement sees what whoever had them recorded.
SELECT name FROM reconciler_control.environments
WHERE name = ANY(%(environments)s) AND owner IS NOT DISTINCT FROM %(owner)s::uuid
ORDER BY name
FOR NO KEY UPDATE;

-- name: advance_environments :many
-- Carries environments that a new commit does not touch to that commit.
WITH chosen AS MATERIALIZED (
    SELECT e.name, e.observed_commit FROM reconciler_control.environments AS e
    WHERE
        e.name = ANY(%(environments)s) AND e.owner IS NOT DISTINCT FROM %(owner)s::uuid
        AND e.error IS NULL AND e.suspended_at IS NULL AND e.applied_commit = e.observed_commit
        AND NOT EXISTS (
            SELECT FROM reconciler_control.operations AS o
            WHERE o.environment = e.name AND o.finished_at IS NULL
        )
    ORDER BY e.name
    FOR NO KEY UPDATE
),
carried AS (
    UPDATE reconciler_control.environment_deployments AS d
    SET applied_commit = %(commit)s
    FROM chosen AS c
    WHERE d.environment = c.name AND d.applied_commit = c.observed_commit
)
UPDATE reconciler_control.environments AS e
SET
    head_commit = %(commit)s,
    head_commit_at = %(committed_at)s,
    observed_commit = %(commit)s,
    applied_commit = %(commit)s,
    applied_at = clock_timestamp(),
    applied_commit_at = %(committed_at)s,
    last_pass_at = clock_timestamp()
FROM chosen AS c
WHERE e.name = c.name
RETURNING e.name;
