-- name: lock_verification :one
-- What the last run found on a deployment, and that the deployment is still there.
SELECT d.name, v.failures
FROM reconciler_control.environment_deployments AS d
LEFT JOIN reconciler_control.verifications AS v ON d.environment = v.environment AND d.name = v.deployment
WHERE d.environment = %(environment)s AND d.name = %(deployment)s;

-- name: write_verification :exec
-- What a run of the verify scripts of a deployment found.
INSERT INTO reconciler_control.verifications AS v (
    environment, deployment, commit, passed, failures, unverified, summary
) VALUES (
    %(environment)s, %(deployment)s, %(commit)s, %(passed)s, %(failures)s, %(unverified)s, %(summary)s
)
ON CONFLICT (environment, deployment) DO UPDATE
SET
    verified_at = clock_timestamp(), commit = excluded.commit, passed = excluded.passed,
    failures = excluded.failures, unverified = excluded.unverified, summary = excluded.summary;

-- name: forget_verifications :many
-- The spec does not ask for scripts to be run any more: what was found says nothing from now on.
DELETE FROM reconciler_control.verifications
WHERE environment = %(environment)s
RETURNING deployment;
