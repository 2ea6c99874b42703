-- Jobs that run by a schedule: when each is due, who runs it, and what came of the last run.

CREATE TABLE reconciler_control.job_schedules (
    environment text NOT NULL,
    deployment text NOT NULL,
    component text NOT NULL CHECK (component <> ''),
    schedule text NOT NULL CHECK (schedule <> ''),
    due_at timestamptz NOT NULL,
    claims bigint NOT NULL DEFAULT 0 CHECK (claims >= 0),
    running_by uuid,
    started_at timestamptz,
    ended_at timestamptz,
    succeeded_at timestamptz,
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    error text CHECK (error <> ''),
    PRIMARY KEY (environment, deployment, component),
    FOREIGN KEY (environment, deployment)
    REFERENCES reconciler_control.environment_deployments (environment, name) ON DELETE CASCADE,
    CONSTRAINT job_schedules_failure_is_told CHECK ((failures > 0) = (error IS NOT NULL)),
    CONSTRAINT job_schedules_running_since CHECK (running_by IS NULL OR started_at IS NOT NULL)
);
COMMENT ON TABLE reconciler_control.job_schedules IS
'Jobs that specs ask to run by a schedule, with what came of the last run of each.';
COMMENT ON COLUMN reconciler_control.job_schedules.environment IS 'Environment of the deployment.';
COMMENT ON COLUMN reconciler_control.job_schedules.deployment IS 'Deployment that the job is of.';
COMMENT ON COLUMN reconciler_control.job_schedules.component IS 'Job, by its name in the spec.';
COMMENT ON COLUMN reconciler_control.job_schedules.schedule IS 'When it is due, as cron writes it, in UTC.';
COMMENT ON COLUMN reconciler_control.job_schedules.due_at IS
'When it is due next, or was when the run began that is under way; one that was missed is made up once.';
COMMENT ON COLUMN reconciler_control.job_schedules.claims IS
'How often it was taken: whoever took it last writes what comes of it, and nobody else.';
COMMENT ON COLUMN reconciler_control.job_schedules.running_by IS
'Worker whose process runs it, or waits for its run, alive or not.';
COMMENT ON COLUMN reconciler_control.job_schedules.started_at IS 'When it was taken last.';
COMMENT ON COLUMN reconciler_control.job_schedules.ended_at IS 'When the last run that came to an end did.';
COMMENT ON COLUMN reconciler_control.job_schedules.succeeded_at IS 'When the last run that was done ended.';
COMMENT ON COLUMN reconciler_control.job_schedules.failures IS 'Runs in a row that failed.';
COMMENT ON COLUMN reconciler_control.job_schedules.error IS 'Why the last run failed.';
CREATE INDEX job_schedules_due ON reconciler_control.job_schedules (due_at);
COMMENT ON INDEX reconciler_control.job_schedules_due IS 'Serves take_due_jobs.';

ALTER TABLE reconciler_control.job_runs ALTER COLUMN operation DROP NOT NULL;
COMMENT ON COLUMN reconciler_control.job_runs.operation IS 'Operation that ran it; null where its schedule did.';
ALTER TABLE reconciler_control.programs ALTER COLUMN operation DROP NOT NULL;
COMMENT ON COLUMN reconciler_control.programs.operation IS
'Operation that had to do with it last; null for a job that only its schedule ran.';
ALTER TABLE reconciler_control.outputs ALTER COLUMN operation DROP NOT NULL;
COMMENT ON COLUMN reconciler_control.outputs.operation IS 'Operation that made it; null where a schedule did.';
