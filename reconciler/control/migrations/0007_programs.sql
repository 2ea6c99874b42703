-- Services, jobs and routes that run, what jobs and databases put out, and who has which host and path.

ALTER TABLE reconciler_control.environments
ADD COLUMN stopped_at timestamptz,
ADD COLUMN stopped_by text,
ADD COLUMN started_at timestamptz,
ADD CONSTRAINT environments_stopped_says_who CHECK ((stopped_at IS NULL) = (stopped_by IS NULL));
COMMENT ON COLUMN reconciler_control.environments.stopped_at IS
'Since when its services and routes are to be off, because somebody said so; a commit starts nothing.';
COMMENT ON COLUMN reconciler_control.environments.stopped_by IS 'Who said so.';
COMMENT ON COLUMN reconciler_control.environments.started_at IS
'When somebody said last that what was stopped is to be on again.';

ALTER TABLE reconciler_control.environment_deployments
ADD COLUMN provisioned_commit text CHECK (provisioned_commit <> ''),
ADD COLUMN left_out text [] NOT NULL DEFAULT '{}',
ADD CONSTRAINT environment_deployments_leave_out_something CHECK (
    (provisioned_commit IS NULL) = (left_out = '{}')
);
COMMENT ON COLUMN reconciler_control.environment_deployments.provisioned_commit IS
'Commit of which it carries the resources alone; null once it carries all of a commit, or another is there.';
COMMENT ON COLUMN reconciler_control.environment_deployments.left_out IS
'Components of that commit which were left to another rollout.';


CREATE TABLE reconciler_control.programs (
    environment text NOT NULL REFERENCES reconciler_control.environments (name),
    deployment text NOT NULL CHECK (deployment <> ''),
    component text NOT NULL CHECK (component <> ''),
    kind text NOT NULL CHECK (kind <> ''),
    stage text NOT NULL CHECK (stage <> ''),
    definition_hash text CHECK (definition_hash <> ''),
    definition jsonb CHECK (jsonb_typeof(definition) = 'object'),
    instance text CHECK (instance <> ''),
    applying_hash text CHECK (applying_hash <> ''),
    applying_definition jsonb CHECK (jsonb_typeof(applying_definition) = 'object'),
    applying text CHECK (applying <> ''),
    place text CHECK (place <> ''),
    commit text NOT NULL CHECK (commit <> ''),
    operation bigint NOT NULL REFERENCES reconciler_control.operations (id),
    applied_at timestamptz,
    heals integer NOT NULL DEFAULT 0 CHECK (heals >= 0),
    healed_at timestamptz,
    healed_by bigint REFERENCES reconciler_control.operations (id),
    state text CHECK (state <> ''),
    state_reason text CHECK (state_reason <> ''),
    state_since timestamptz,
    ordinal integer CHECK (ordinal >= 0),
    PRIMARY KEY (environment, deployment, component),
    CONSTRAINT programs_are_there_or_come CHECK (definition_hash IS NOT NULL OR applying_hash IS NOT NULL),
    CONSTRAINT programs_applied_are_defined CHECK (
        (definition_hash IS NULL) = (definition IS NULL) AND (definition_hash IS NULL) = (applied_at IS NULL)
    ),
    CONSTRAINT programs_instance_was_applied CHECK (instance IS NULL OR definition_hash IS NOT NULL),
    CONSTRAINT programs_coming_are_defined CHECK (
        (applying_hash IS NULL) = (applying_definition IS NULL)
        AND (applying IS NULL OR applying_hash IS NOT NULL)
    ),
    CONSTRAINT programs_state_since_when CHECK (
        (state IS NULL) = (state_since IS NULL) AND (state_reason IS NULL OR state IS NOT NULL)
    ),
    CONSTRAINT programs_healed_say_when CHECK (
        (heals > 0) = (healed_at IS NOT NULL) AND (heals > 0) = (healed_by IS NOT NULL)
    )
);
COMMENT ON TABLE reconciler_control.programs IS
'Services, jobs and routes as they were applied last: noted before the first thing of one is made, until it is gone.';
COMMENT ON COLUMN reconciler_control.programs.environment IS 'Environment.';
COMMENT ON COLUMN reconciler_control.programs.deployment IS 'Deployment.';
COMMENT ON COLUMN reconciler_control.programs.component IS 'Component, by its name in the spec.';
COMMENT ON COLUMN reconciler_control.programs.kind IS 'Service, Job or Route.';
COMMENT ON COLUMN reconciler_control.programs.stage IS 'Stage it was applied in; removal goes the other way.';
COMMENT ON COLUMN reconciler_control.programs.definition_hash IS
'Hash of the definition that was applied last; null where none ever was.';
COMMENT ON COLUMN reconciler_control.programs.definition IS
'That definition, with references and no secrets: enough to run or remove it without the spec.';
COMMENT ON COLUMN reconciler_control.programs.instance IS
'Instance that is live; null where there is none, since it was stopped or is no service.';
COMMENT ON COLUMN reconciler_control.programs.applying_hash IS
'Hash of the definition that is being put in its place; null where that is over.';
COMMENT ON COLUMN reconciler_control.programs.applying_definition IS 'That definition.';
COMMENT ON COLUMN reconciler_control.programs.applying IS 'Instance of it, which may be there.';
COMMENT ON COLUMN reconciler_control.programs.place IS 'Machine that its runtime is on.';
COMMENT ON COLUMN reconciler_control.programs.commit IS 'Commit that it was applied from, or is being.';
COMMENT ON COLUMN reconciler_control.programs.operation IS 'Operation that had to do with it last.';
COMMENT ON COLUMN reconciler_control.programs.applied_at IS 'When it was applied last.';
COMMENT ON COLUMN reconciler_control.programs.heals IS
'How often it was put back since anything else was done to it, and since it was quiet for long.';
COMMENT ON COLUMN reconciler_control.programs.healed_at IS 'When it was put back last.';
COMMENT ON COLUMN reconciler_control.programs.healed_by IS 'Operation that did.';
COMMENT ON COLUMN reconciler_control.programs.state IS
'How it was found last, for people: healthy, starting, unhealthy, exited, absent, stopped or unknown; of a route set, edited, absent or unknown.';
COMMENT ON COLUMN reconciler_control.programs.state_reason IS 'Why, where that is known.';
COMMENT ON COLUMN reconciler_control.programs.state_since IS 'Since when that is known.';
COMMENT ON COLUMN reconciler_control.programs.ordinal IS
'Its place among those of the deployment where they are shown: by stage, dependency and name.';
CREATE INDEX programs_of_operation ON reconciler_control.programs (operation);
COMMENT ON INDEX reconciler_control.programs_of_operation IS 'Serves the foreign key.';


CREATE TABLE reconciler_control.outputs (
    environment text NOT NULL REFERENCES reconciler_control.environments (name),
    deployment text NOT NULL CHECK (deployment <> ''),
    component text NOT NULL CHECK (component <> ''),
    name text NOT NULL CHECK (name <> ''),
    type text NOT NULL CHECK (type IN ('string', 'number', 'boolean', 'json')),
    inputs_hash text NOT NULL CHECK (inputs_hash <> ''),
    value jsonb,
    sealed text CHECK (sealed <> ''),
    operation bigint NOT NULL REFERENCES reconciler_control.operations (id),
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (environment, deployment, component, name),
    CONSTRAINT outputs_open_or_sealed CHECK ((value IS NULL) <> (sealed IS NULL))
);
COMMENT ON TABLE reconciler_control.outputs IS
'What databases, services and jobs put out for others, until it is made anew or its component is removed.';
COMMENT ON COLUMN reconciler_control.outputs.environment IS 'Environment.';
COMMENT ON COLUMN reconciler_control.outputs.deployment IS 'Deployment.';
COMMENT ON COLUMN reconciler_control.outputs.component IS 'Component that put it out.';
COMMENT ON COLUMN reconciler_control.outputs.name IS 'Name of the output.';
COMMENT ON COLUMN reconciler_control.outputs.type IS 'string, number, boolean or json.';
COMMENT ON COLUMN reconciler_control.outputs.inputs_hash IS
'Hash of what it was made from: where that is the same, it need not be made again.';
COMMENT ON COLUMN reconciler_control.outputs.value IS 'The value, where everybody may see it.';
COMMENT ON COLUMN reconciler_control.outputs.sealed IS
'The value as JSON, encrypted with age for the first key of the daemon''s settings, where it is sensitive.';
COMMENT ON COLUMN reconciler_control.outputs.operation IS 'Operation that made it.';
COMMENT ON COLUMN reconciler_control.outputs.made_at IS 'When it was made.';
CREATE INDEX outputs_of_operation ON reconciler_control.outputs (operation);
COMMENT ON INDEX reconciler_control.outputs_of_operation IS 'Serves the foreign key.';


CREATE TABLE reconciler_control.passwords (
    environment text NOT NULL REFERENCES reconciler_control.environments (name),
    deployment text NOT NULL CHECK (deployment <> ''),
    component text NOT NULL CHECK (component <> ''),
    role text NOT NULL CHECK (role <> ''),
    sealed text NOT NULL CHECK (sealed <> ''),
    operation bigint NOT NULL REFERENCES reconciler_control.operations (id),
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (environment, deployment, component, role)
);
COMMENT ON TABLE reconciler_control.passwords IS
'Passwords that were generated for roles of databases, kept before a role is given one.';
COMMENT ON COLUMN reconciler_control.passwords.environment IS 'Environment.';
COMMENT ON COLUMN reconciler_control.passwords.deployment IS 'Deployment.';
COMMENT ON COLUMN reconciler_control.passwords.component IS 'Database component the role is for.';
COMMENT ON COLUMN reconciler_control.passwords.role IS 'Name of the role.';
COMMENT ON COLUMN reconciler_control.passwords.sealed IS
'The password, encrypted with age for the first key of the daemon''s settings.';
COMMENT ON COLUMN reconciler_control.passwords.operation IS 'Operation that made it.';
COMMENT ON COLUMN reconciler_control.passwords.made_at IS 'When it was made.';
CREATE INDEX passwords_of_operation ON reconciler_control.passwords (operation);
COMMENT ON INDEX reconciler_control.passwords_of_operation IS 'Serves the foreign key.';


CREATE TABLE reconciler_control.job_runs (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    environment text NOT NULL REFERENCES reconciler_control.environments (name),
    deployment text NOT NULL CHECK (deployment <> ''),
    component text NOT NULL CHECK (component <> ''),
    trigger text NOT NULL CHECK (trigger <> ''),
    inputs_hash text NOT NULL CHECK (inputs_hash <> ''),
    instance text NOT NULL CHECK (instance <> ''),
    attempt integer NOT NULL CHECK (attempt > 0),
    operation bigint NOT NULL REFERENCES reconciler_control.operations (id),
    began_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at timestamptz,
    exit_status integer,
    error text CHECK (error <> ''),
    CONSTRAINT job_runs_end_before_they_are_judged CHECK (
        ended_at IS NOT NULL OR (exit_status IS NULL AND error IS NULL)
    )
);
COMMENT ON TABLE reconciler_control.job_runs IS
'Runs of jobs, of each job the newest ones and the last that was done.';
COMMENT ON COLUMN reconciler_control.job_runs.id IS 'Number of the run, in the order of their beginning.';
COMMENT ON COLUMN reconciler_control.job_runs.environment IS 'Environment.';
COMMENT ON COLUMN reconciler_control.job_runs.deployment IS 'Deployment.';
COMMENT ON COLUMN reconciler_control.job_runs.component IS 'Job, by its name in the spec.';
COMMENT ON COLUMN reconciler_control.job_runs.trigger IS
'What it ran for: change, start, stop, remove or schedule.';
COMMENT ON COLUMN reconciler_control.job_runs.inputs_hash IS 'Hash of what it ran with.';
COMMENT ON COLUMN reconciler_control.job_runs.instance IS 'Its name to the runtime.';
COMMENT ON COLUMN reconciler_control.job_runs.attempt IS
'Which attempt of its operation it was with these inputs, from 1.';
COMMENT ON COLUMN reconciler_control.job_runs.operation IS 'Operation that ran it.';
COMMENT ON COLUMN reconciler_control.job_runs.began_at IS 'When it began.';
COMMENT ON COLUMN reconciler_control.job_runs.ended_at IS 'When it ended; null while it runs, or nobody knows.';
COMMENT ON COLUMN reconciler_control.job_runs.exit_status IS 'What its process ended with, where it did.';
COMMENT ON COLUMN reconciler_control.job_runs.error IS 'Why it is not done; null where it is.';
CREATE INDEX job_runs_of_job ON reconciler_control.job_runs (environment, deployment, component, id);
COMMENT ON INDEX reconciler_control.job_runs_of_job IS
'Serves read_programs, begin_job, end_job and forget_old_runs.';
CREATE INDEX job_runs_of_operation ON reconciler_control.job_runs (operation);
COMMENT ON INDEX reconciler_control.job_runs_of_operation IS 'Serves begin_job and the foreign key.';


CREATE TABLE reconciler_control.routes (
    proxy text NOT NULL CHECK (proxy <> ''),
    host text NOT NULL CHECK (host <> ''),
    path text NOT NULL CHECK (path <> ''),
    environment text NOT NULL REFERENCES reconciler_control.environments (name),
    deployment text NOT NULL CHECK (deployment <> ''),
    component text NOT NULL CHECK (component <> ''),
    is_live boolean NOT NULL DEFAULT FALSE,
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (proxy, host, path)
);
COMMENT ON TABLE reconciler_control.routes IS
'Whose a host and path of a proxy is: claimed before the route is set, until it is removed.';
COMMENT ON COLUMN reconciler_control.routes.proxy IS 'Proxy, by its name in the settings.';
COMMENT ON COLUMN reconciler_control.routes.host IS 'Host, in small letters.';
COMMENT ON COLUMN reconciler_control.routes.path IS 'Path that the requests are below.';
COMMENT ON COLUMN reconciler_control.routes.environment IS 'Environment that has it.';
COMMENT ON COLUMN reconciler_control.routes.deployment IS 'Deployment that has it.';
COMMENT ON COLUMN reconciler_control.routes.component IS 'Route that has it, by its name in the spec.';
COMMENT ON COLUMN reconciler_control.routes.is_live IS
'Whether the route was set; false while it is being set the first time.';
COMMENT ON COLUMN reconciler_control.routes.claimed_at IS 'When it was claimed last.';
CREATE INDEX routes_of_component ON reconciler_control.routes (environment, deployment, component);
COMMENT ON INDEX reconciler_control.routes_of_component IS
'Serves note_applied_program, note_rolled_back and remove_program.';
