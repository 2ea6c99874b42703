-- Groups of materialized views that are refreshed by a schedule: when each is due, and what came of it.

CREATE TABLE reconciler_control.refreshes (
    environment text NOT NULL,
    deployment text NOT NULL,
    component text NOT NULL CHECK (component <> ''),
    name text NOT NULL CHECK (name <> ''),
    schedule text NOT NULL CHECK (schedule <> ''),
    due_at timestamptz NOT NULL,
    running_by uuid,
    started_at timestamptz,
    ended_at timestamptz,
    succeeded_at timestamptz,
    data_at timestamptz,
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    error text CHECK (error <> ''),
    PRIMARY KEY (environment, deployment, component, name),
    FOREIGN KEY (environment, deployment)
    REFERENCES reconciler_control.environment_deployments (environment, name) ON DELETE CASCADE,
    CONSTRAINT refreshes_failure_is_told CHECK ((failures > 0) = (error IS NOT NULL)),
    CONSTRAINT refreshes_running_since CHECK (running_by IS NULL OR started_at IS NOT NULL)
);
COMMENT ON TABLE reconciler_control.refreshes IS
'Groups of materialized views that specs ask to refresh, with what came of the last run of each.';
COMMENT ON COLUMN reconciler_control.refreshes.environment IS 'Environment of the deployment.';
COMMENT ON COLUMN reconciler_control.refreshes.deployment IS 'Deployment whose views they are.';
COMMENT ON COLUMN reconciler_control.refreshes.component IS 'Component whose objects they are.';
COMMENT ON COLUMN reconciler_control.refreshes.name IS 'Name of the group.';
COMMENT ON COLUMN reconciler_control.refreshes.schedule IS 'When it is due, as cron writes it, in UTC.';
COMMENT ON COLUMN reconciler_control.refreshes.due_at IS 'When it is due next; one that was missed is made up once.';
COMMENT ON COLUMN reconciler_control.refreshes.running_by IS 'Worker whose process refreshes it now, alive or not.';
COMMENT ON COLUMN reconciler_control.refreshes.started_at IS 'When the last run began.';
COMMENT ON COLUMN reconciler_control.refreshes.ended_at IS 'When the last run that came to an end did.';
COMMENT ON COLUMN reconciler_control.refreshes.succeeded_at IS 'When the last run that failed nowhere ended.';
COMMENT ON COLUMN reconciler_control.refreshes.data_at IS
'From when the oldest rows of its views are, as of the last run that failed nowhere.';
COMMENT ON COLUMN reconciler_control.refreshes.failures IS 'Runs in a row that failed.';
COMMENT ON COLUMN reconciler_control.refreshes.error IS 'Why the last run failed.';
CREATE INDEX refreshes_due ON reconciler_control.refreshes (due_at);
COMMENT ON INDEX reconciler_control.refreshes_due IS 'Serves take_due_refreshes.';
