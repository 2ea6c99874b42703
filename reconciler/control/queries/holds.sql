-- name: read_holds :many
-- Deployments on which a commit is held.
SELECT deployment, reason
FROM reconciler_control.holds
WHERE environment = %(environment)s AND commit = %(commit)s;

-- name: set_hold :exec
-- Holds a commit on a deployment; a later reason replaces an earlier one.
INSERT INTO reconciler_control.holds AS h (environment, deployment, commit, reason, operation)
VALUES (%(environment)s, %(deployment)s, %(commit)s, %(reason)s, %(operation)s)
ON CONFLICT (environment, deployment, commit) DO UPDATE
SET reason = excluded.reason, operation = excluded.operation, held_at = excluded.held_at;

-- name: set_holds :exec
-- The same for many; of several for one deployment the last counts.
INSERT INTO reconciler_control.holds AS h (environment, deployment, commit, reason, operation)
SELECT DISTINCT ON (n.environment, n.deployment, n.commit)
    n.environment, n.deployment, n.commit, n.reason, n.operation
FROM jsonb_to_recordset(%(holds)s) AS n (
    environment text, deployment text, commit text, reason text, operation bigint
)
ORDER BY n.environment, n.deployment, n.commit, n.operation DESC
ON CONFLICT (environment, deployment, commit) DO UPDATE
SET reason = excluded.reason, operation = excluded.operation, held_at = excluded.held_at;

-- name: release_holds_of :exec
-- Lets passes try commits again on deployments.
WITH chosen AS MATERIALIZED (
    SELECT DISTINCT n.environment, n.deployment, n.commit
    FROM jsonb_to_recordset(%(holds)s) AS n (environment text, deployment text, commit text)
),
freed AS (
    DELETE FROM reconciler_control.holds AS h
    USING chosen AS c
    WHERE h.environment = c.environment AND h.deployment = c.deployment AND h.commit = c.commit
)
UPDATE reconciler_control.environment_deployments AS d
SET held = NULL
FROM chosen AS c
WHERE d.environment = c.environment AND d.name = c.deployment AND d.held IS NOT NULL;

-- name: release_holds :many
-- Lets passes try again, for a commit or for any, on some deployments or on all.
WITH freed AS (
    DELETE FROM reconciler_control.holds
    WHERE
        environment = %(environment)s
        AND (%(deployments)s::text [] IS NULL OR deployment = ANY(%(deployments)s))
        AND (%(commit)s::text IS NULL OR commit = %(commit)s)
    RETURNING deployment
),
shown AS (
    UPDATE reconciler_control.environment_deployments
    SET held = NULL
    WHERE
        environment = %(environment)s AND held IS NOT NULL
        AND (%(deployments)s::text [] IS NULL OR name = ANY(%(deployments)s))
)
SELECT DISTINCT deployment FROM freed ORDER BY deployment;

-- name: release_failed :exec
-- Lets passes try again what failed, and what was given up for that, on all deployments of an environment; what
-- a person holds stays so.
WITH freed AS (
    DELETE FROM reconciler_control.holds AS h
    USING reconciler_control.operations AS o
    WHERE
        h.environment = %(environment)s AND h.operation = o.id
        AND EXISTS (
            SELECT FROM reconciler_control.operations AS f
            WHERE f.rollout = o.rollout AND f.state = 'failed'
        )
    RETURNING h.deployment
)
UPDATE reconciler_control.environment_deployments AS d
SET held = NULL
FROM freed AS f
WHERE d.environment = %(environment)s AND d.name = f.deployment AND d.held IS NOT NULL;

-- name: intend_database :exec
-- Notes that a database is about to be made.
INSERT INTO reconciler_control.database_intents (environment, deployment, server_identity, database)
VALUES (%(environment)s, %(deployment)s, %(server_identity)s, %(database)s)
ON CONFLICT (environment, deployment, server_identity, database) DO NOTHING;

-- name: forget_intent :exec
-- The database is made, and says itself whose it is.
DELETE FROM reconciler_control.database_intents
WHERE
    environment = %(environment)s AND deployment = %(deployment)s
    AND server_identity = %(server_identity)s AND database = %(database)s;

-- name: read_intents :many
-- Databases about to be made, by deployment.
SELECT deployment, database
FROM reconciler_control.database_intents
WHERE environment = %(environment)s AND (%(deployment)s::text IS NULL OR deployment = %(deployment)s);

-- name: made_databases :many
-- Databases of a deployment that its operations made or adopted, as their steps name them.
SELECT DISTINCT s.identity
FROM reconciler_control.operations AS o
INNER JOIN reconciler_control.steps AS s ON o.id = s.operation
WHERE
    o.environment = %(environment)s AND o.deployment = %(deployment)s
    AND s.kind IN ('create-database', 'adopt-database') AND s.state = 'done';

-- name: ran_for_removal :many
-- Jobs that an operation which removes an environment ran to their end already, as its steps name them.
SELECT DISTINCT component
FROM reconciler_control.steps
WHERE operation = %(operation)s AND kind = 'run-job' AND state = 'done';
