-- name: remove_deployments :many
-- Deployments that left the spec leave the table; those that something was done to are kept apart, with the
-- commit that was observed until now: it is the last one that has them.
WITH removed AS (
    DELETE FROM reconciler_control.environment_deployments
    WHERE environment = %(environment)s AND NOT name = ANY(%(names)s)
    RETURNING environment, name, applied_commit
),
known AS (
    SELECT
        r.environment, r.name, r.applied_commit,
        (SELECT e.observed_commit FROM reconciler_control.environments AS e WHERE e.name = r.environment)
        AS declared_commit,
        (
            SELECT o.server FROM reconciler_control.operations AS o
            WHERE o.environment = r.environment AND o.deployment = r.name
            ORDER BY o.id DESC
            LIMIT 1
        ) AS server,
        ARRAY(
            SELECT DISTINCT substr(s.identity, length('database ') + 1)
            FROM reconciler_control.operations AS o
            INNER JOIN reconciler_control.steps AS s ON o.id = s.operation
            WHERE
                o.environment = r.environment AND o.deployment = r.name
                AND s.kind IN ('create-database', 'adopt-database') AND s.state = 'done'
            ORDER BY 1
        ) AS databases
    FROM removed AS r
),
forgotten AS (
    DELETE FROM reconciler_control.gates_due AS g
    USING removed AS r
    WHERE g.environment = r.environment AND g.deployment = r.name
)
INSERT INTO reconciler_control.deployments_left AS l (
    environment, name, applied_commit, declared_commit, server, databases
)
SELECT k.environment, k.name, k.applied_commit, k.declared_commit, k.server, k.databases
FROM known AS k
WHERE k.applied_commit IS NOT NULL OR k.databases <> '{}'
ON CONFLICT (environment, name) DO UPDATE
SET
    applied_commit = excluded.applied_commit, declared_commit = excluded.declared_commit,
    server = excluded.server, databases = excluded.databases
RETURNING l.name, l.server, l.databases;

-- name: deployments_returned :many
-- Deployments that the spec names again are no longer left.
DELETE FROM reconciler_control.deployments_left
WHERE environment = %(environment)s AND name = ANY(%(names)s)
RETURNING name;

-- name: read_left :many
-- Deployments of environments that left the spec, the newest first.
SELECT
    l.environment, l.name, l.left_at, l.applied_commit, l.server, l.databases,
    coalesce(l.declared_commit, l.applied_commit) AS declared_commit, l.why
FROM reconciler_control.deployments_left AS l
WHERE %(names)s::text [] IS NULL OR l.environment = ANY(%(names)s)
ORDER BY l.environment, l.left_at DESC, l.name
LIMIT %(limit)s;

-- name: read_leaving :many
-- Deployments of an environment that a spec with these names does not have: those that left, and those that
-- would leave with it.
SELECT
    l.name, coalesce(l.declared_commit, l.applied_commit) AS declared_commit, l.applied_commit, l.server,
    l.databases, l.why, FALSE AS leaves
FROM reconciler_control.deployments_left AS l
WHERE l.environment = %(environment)s AND NOT l.name = ANY(%(names)s)
UNION ALL
SELECT
    d.name, e.observed_commit, d.applied_commit,
    (
        SELECT o.server FROM reconciler_control.operations AS o
        WHERE o.environment = d.environment AND o.deployment = d.name
        ORDER BY o.id DESC
        LIMIT 1
    ),
    ARRAY(
        SELECT DISTINCT substr(s.identity, length('database ') + 1)
        FROM reconciler_control.operations AS o
        INNER JOIN reconciler_control.steps AS s ON o.id = s.operation
        WHERE
            o.environment = d.environment AND o.deployment = d.name
            AND s.kind IN ('create-database', 'adopt-database') AND s.state = 'done'
        ORDER BY 1
    ),
    NULL, TRUE
FROM reconciler_control.environment_deployments AS d
INNER JOIN reconciler_control.environments AS e ON d.environment = e.name
WHERE d.environment = %(environment)s AND NOT d.name = ANY(%(names)s)
ORDER BY leaves, name
LIMIT %(limit)s;

-- name: is_left :one
-- Whether a deployment left the spec and nobody forgot it.
SELECT l.name FROM reconciler_control.deployments_left AS l
WHERE l.environment = %(environment)s AND l.name = %(deployment)s;

-- name: write_why_left :exec
-- Why deployments that left are as they are; what is said already is not written again.
UPDATE reconciler_control.deployments_left AS l
SET why = n.why
FROM jsonb_to_recordset(%(whys)s) AS n (name text, why text)
WHERE l.environment = %(environment)s AND l.name = n.name AND l.why IS DISTINCT FROM n.why;

-- name: forget_left :one
-- A deployment that left is nobody's business any more.
DELETE FROM reconciler_control.deployments_left
WHERE environment = %(environment)s AND name = %(deployment)s
RETURNING name, server, databases;

-- name: forget_pruned :many
-- Deployments that were taken back are no longer left.
DELETE FROM reconciler_control.deployments_left AS l
USING jsonb_to_recordset(%(pruned)s) AS n (environment text, deployment text)
WHERE l.environment = n.environment AND l.name = n.deployment
RETURNING l.environment, l.name, l.server, l.databases;

-- name: known_names :one
-- The deployments that an environment has, and those that left it.
SELECT
    ARRAY(
        SELECT d.name FROM reconciler_control.environment_deployments AS d
        WHERE d.environment = %(environment)s AND d.name = %(deployment)s
    ) AS declared,
    ARRAY(
        SELECT l.name FROM reconciler_control.deployments_left AS l
        WHERE l.environment = %(environment)s
        ORDER BY l.name
        LIMIT 20
    ) AS gone;

-- name: unfinished_there :one
-- What is not over yet on a deployment.
SELECT o.id, o.rollout, o.state::text AS state FROM reconciler_control.operations AS o
WHERE o.environment = %(environment)s AND o.deployment = %(deployment)s AND o.finished_at IS NULL
ORDER BY o.id
LIMIT 1;
