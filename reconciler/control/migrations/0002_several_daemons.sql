-- Several daemons on one control database: who has which sources, who passes over an environment, what the
-- last pass saw, and which deliveries of webhooks were taken.

ALTER TABLE reconciler_control.workers
ADD COLUMN sources text [] NOT NULL DEFAULT '{}',
ADD COLUMN passes boolean NOT NULL DEFAULT FALSE,
ADD COLUMN unreadable text [] NOT NULL DEFAULT '{}';
COMMENT ON COLUMN reconciler_control.workers.unreadable IS
'Sources of which it has no commit that it may use; others pass over their environments.';
COMMENT ON COLUMN reconciler_control.workers.sources IS
'Sources it can read; it claims operations of these only.';
COMMENT ON COLUMN reconciler_control.workers.passes IS
'Whether its process runs passes, so that it takes a share of the environments.';

CREATE VIEW reconciler_control.living_workers AS
SELECT w.id, w.name, w.sources, w.passes, w.unreadable
FROM reconciler_control.workers AS w
WHERE
    w.lease_expires_at >= pg_catalog.clock_timestamp()
    AND w.number::pg_catalog.oid IN (
        SELECT l.objid
        FROM pg_catalog.pg_locks AS l
        WHERE
            l.locktype = 'advisory' AND l.classid = 1380206159 AND l.objsubid = 2 AND l.granted
            AND l.database = (
                SELECT d.oid FROM pg_catalog.pg_database AS d
                WHERE d.datname = pg_catalog.current_database()
            )
    );
COMMENT ON VIEW reconciler_control.living_workers IS
'Workers for which is_alive holds, with one look at the locks for all of them.';

ALTER TABLE reconciler_control.environments
ADD COLUMN owner uuid REFERENCES reconciler_control.workers (id) ON DELETE SET NULL,
ADD COLUMN inputs text,
ADD COLUMN error_reason text,
ADD COLUMN attempted_commit text,
ADD COLUMN attempted_at timestamptz,
ADD COLUMN declared_at timestamptz NOT NULL DEFAULT clock_timestamp();
COMMENT ON COLUMN reconciler_control.environments.owner IS
'Worker whose process runs its passes; what a pass writes is refused from anyone else while this one lives.';
COMMENT ON COLUMN reconciler_control.environments.inputs IS
'Digest of all content that the observed commit makes it from; the same digest is the same desired state.';
COMMENT ON COLUMN reconciler_control.environments.error_reason IS 'One word for `error`, for conditions.';
COMMENT ON COLUMN reconciler_control.environments.attempted_commit IS
'Commit of the last rollout that was recorded for it.';
COMMENT ON COLUMN reconciler_control.environments.attempted_at IS 'When that rollout was recorded.';
COMMENT ON COLUMN reconciler_control.environments.declared_at IS 'When its source was first seen to declare it.';
CREATE INDEX environments_of_owner ON reconciler_control.environments (owner) WHERE owner IS NOT NULL;
COMMENT ON INDEX reconciler_control.environments_of_owner IS 'Serves the foreign key.';
CREATE INDEX environments_of_source ON reconciler_control.environments (source);
COMMENT ON INDEX reconciler_control.environments_of_source IS 'Serves own_environments.';

CREATE TABLE reconciler_control.deliveries (
    source text NOT NULL CHECK (source <> ''),
    id text NOT NULL CHECK (id <> ''),
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (source, id)
);
COMMENT ON TABLE reconciler_control.deliveries IS
'Deliveries of webhooks that were taken, so that a repeated one wakes nobody; old ones are forgotten.';
COMMENT ON COLUMN reconciler_control.deliveries.source IS 'Source the webhook is of.';
COMMENT ON COLUMN reconciler_control.deliveries.id IS 'Id that the provider gave the delivery.';
COMMENT ON COLUMN reconciler_control.deliveries.received_at IS 'When it was first taken.';
CREATE INDEX deliveries_by_age ON reconciler_control.deliveries (received_at);
COMMENT ON INDEX reconciler_control.deliveries_by_age IS 'Serves forget_deliveries.';

CREATE TABLE reconciler_control.verifications (
    environment text NOT NULL,
    deployment text NOT NULL,
    verified_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    commit text NOT NULL CHECK (commit <> ''),
    passed integer NOT NULL CHECK (passed >= 0),
    failures integer NOT NULL CHECK (failures >= 0),
    unverified integer NOT NULL CHECK (unverified >= 0),
    summary text,
    PRIMARY KEY (environment, deployment),
    FOREIGN KEY (environment, deployment)
    REFERENCES reconciler_control.environment_deployments (environment, name) ON DELETE CASCADE,
    CONSTRAINT verifications_failure_is_told CHECK ((failures > 0) = (summary IS NOT NULL))
);
COMMENT ON TABLE reconciler_control.verifications IS
'What the last run of the verify scripts of each deployment found, where the spec asks for them to be run.';
COMMENT ON COLUMN reconciler_control.verifications.environment IS 'Environment of the deployment.';
COMMENT ON COLUMN reconciler_control.verifications.deployment IS 'Deployment whose scripts were run.';
COMMENT ON COLUMN reconciler_control.verifications.verified_at IS 'When they were run last.';
COMMENT ON COLUMN reconciler_control.verifications.commit IS 'Commit the scripts are from.';
COMMENT ON COLUMN reconciler_control.verifications.passed IS 'Scripts that passed.';
COMMENT ON COLUMN reconciler_control.verifications.failures IS 'Scripts that failed.';
COMMENT ON COLUMN reconciler_control.verifications.unverified IS
'Changes of which nobody knows: they waited for others, or there was no time left.';
COMMENT ON COLUMN reconciler_control.verifications.summary IS 'The first failures, in words.';
