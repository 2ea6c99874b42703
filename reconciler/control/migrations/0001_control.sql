-- The control schema: environments, rollouts, operations and their leases, operators' requests, events.
-- Every name is qualified. The enum types hold the labels of reconciler/rollout/states.py; a test compares them.

COMMENT ON SCHEMA reconciler_control IS
'Control schema of pg-reconciler: what is desired, under way and asked for. Written by the daemon only.';

CREATE TYPE reconciler_control.operation_state AS ENUM (
    'waiting_for_approval', 'pending', 'running', 'waiting_for_promotion', 'promoting', 'revert_window',
    'reverting', 'retrying', 'stopped', 'completed', 'failed', 'cancelled', 'reverted', 'superseded'
);
COMMENT ON TYPE reconciler_control.operation_state IS
'State of an operation; docs/reference/operation-states.md says what each means and what follows it.';

CREATE TYPE reconciler_control.rollout_state AS ENUM (
    'waiting_for_approval', 'pending', 'running', 'running_degraded', 'paused', 'waiting_for_promotion',
    'promoting', 'revert_window', 'reverting', 'retrying', 'stopped', 'completed', 'failed', 'cancelled',
    'reverted', 'superseded'
);
COMMENT ON TYPE reconciler_control.rollout_state IS 'State of a rollout, derived from its operations.';

CREATE TYPE reconciler_control.step_state AS ENUM ('pending', 'running', 'done', 'skipped', 'failed');
COMMENT ON TYPE reconciler_control.step_state IS 'State of one step of an operation.';

CREATE TYPE reconciler_control.request_verb AS ENUM (
    'stop', 'start', 'cancel', 'promote', 'release', 'revert', 'skip-revert', 'retry', 'approve'
);
COMMENT ON TYPE reconciler_control.request_verb IS 'What an operator may ask of a rollout.';

CREATE TYPE reconciler_control.request_state AS ENUM ('pending', 'completed', 'failed');
COMMENT ON TYPE reconciler_control.request_state IS 'Whether a request waits, had its effect, or could not have it.';


CREATE TABLE reconciler_control.installation (
    singleton boolean PRIMARY KEY DEFAULT TRUE CHECK (singleton),
    control_id uuid NOT NULL DEFAULT gen_random_uuid(),
    installed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE reconciler_control.installation IS 'Identity of this control database; exactly one row.';
COMMENT ON COLUMN reconciler_control.installation.singleton IS 'Always true: there is one row.';
COMMENT ON COLUMN reconciler_control.installation.control_id IS
'Names this control database as the owner of fences in managed databases.';
COMMENT ON COLUMN reconciler_control.installation.installed_at IS 'When the control schema was installed.';
INSERT INTO reconciler_control.installation (singleton) VALUES (TRUE);


CREATE TABLE reconciler_control.environments (
    name text PRIMARY KEY CHECK (name <> ''),
    source text NOT NULL CHECK (source <> ''),
    path text NOT NULL DEFAULT '',
    mode text,
    head_commit text,
    head_commit_at timestamptz,
    observed_commit text,
    applied_commit text,
    applied_commit_at timestamptz,
    applied_at timestamptz,
    suspended_at timestamptz,
    suspended_by text,
    suspended_reason text,
    error text CHECK (error <> ''),
    orphaned_at timestamptz,
    last_pass_at timestamptz,
    conditions jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(conditions) = 'array'),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT environments_suspended_says_why CHECK (
        (suspended_at IS NULL) = (suspended_reason IS NULL)
        AND (suspended_at IS NULL) = (suspended_by IS NULL)
    ),
    CONSTRAINT environments_applied_says_when CHECK ((applied_commit IS NULL) = (applied_at IS NULL))
);
COMMENT ON TABLE reconciler_control.environments IS
'Environments as the last pass left them. Rows are never deleted: a name belongs to its first source.';
COMMENT ON COLUMN reconciler_control.environments.name IS 'Name of the environment.';
COMMENT ON COLUMN reconciler_control.environments.source IS 'Source that declared it first, and owns the name.';
COMMENT ON COLUMN reconciler_control.environments.path IS 'File of the environment spec within its source.';
COMMENT ON COLUMN reconciler_control.environments.mode IS 'policy.mode of the spec: auto, approve or observe.';
COMMENT ON COLUMN reconciler_control.environments.head_commit IS 'Head of the source at the last fetch.';
COMMENT ON COLUMN reconciler_control.environments.head_commit_at IS 'When the head was committed.';
COMMENT ON COLUMN reconciler_control.environments.observed_commit IS 'Commit the last whole pass looked at.';
COMMENT ON COLUMN reconciler_control.environments.applied_commit IS
'Commit that every deployment carried when they last carried the same one.';
COMMENT ON COLUMN reconciler_control.environments.applied_commit_at IS
'When the applied commit was committed, where it was the head at that moment.';
COMMENT ON COLUMN reconciler_control.environments.applied_at IS 'When all deployments came to carry it.';
COMMENT ON COLUMN reconciler_control.environments.suspended_at IS
'Since when nothing is claimed for the environment; null where it is reconciled.';
COMMENT ON COLUMN reconciler_control.environments.suspended_by IS 'Who suspended it.';
COMMENT ON COLUMN reconciler_control.environments.suspended_reason IS 'Why it is suspended.';
COMMENT ON COLUMN reconciler_control.environments.error IS 'Why the last pass could not do its work.';
COMMENT ON COLUMN reconciler_control.environments.orphaned_at IS
'Since when its source no longer declares it; nothing is claimed for it then.';
COMMENT ON COLUMN reconciler_control.environments.last_pass_at IS
'When a pass last ended, to within ten seconds: a pass that changes nothing writes no more often.';
COMMENT ON COLUMN reconciler_control.environments.conditions IS
'Ready, Reconciling, Stalled, Drifted, Suspended: each with status, reason, message and since.';
COMMENT ON COLUMN reconciler_control.environments.created_at IS 'When the name was first seen.';
CREATE INDEX environments_by_source ON reconciler_control.environments (source);
COMMENT ON INDEX reconciler_control.environments_by_source IS 'Serves retire_environments.';


CREATE TABLE reconciler_control.environment_deployments (
    environment text NOT NULL REFERENCES reconciler_control.environments (name),
    name text NOT NULL CHECK (name <> ''),
    ordinal integer NOT NULL CHECK (ordinal >= 0),
    pending integer NOT NULL DEFAULT 0 CHECK (pending >= 0),
    drift integer NOT NULL DEFAULT 0 CHECK (drift >= 0),
    diverged integer NOT NULL DEFAULT 0 CHECK (diverged >= 0),
    held text,
    unavailable text,
    blocked text,
    applied_commit text,
    PRIMARY KEY (environment, name)
);
COMMENT ON TABLE reconciler_control.environment_deployments IS
'Deployments of each environment as the last pass found them; one that left the spec leaves this table.';
COMMENT ON COLUMN reconciler_control.environment_deployments.environment IS 'Environment of the deployment.';
COMMENT ON COLUMN reconciler_control.environment_deployments.name IS 'Name of the deployment.';
COMMENT ON COLUMN reconciler_control.environment_deployments.ordinal IS 'Place in rollout order, from 0.';
COMMENT ON COLUMN reconciler_control.environment_deployments.pending IS 'Pending changes at the last pass.';
COMMENT ON COLUMN reconciler_control.environment_deployments.drift IS 'Drifted objects at the last pass.';
COMMENT ON COLUMN reconciler_control.environment_deployments.diverged IS 'Divergences at the last pass.';
COMMENT ON COLUMN reconciler_control.environment_deployments.held IS 'Why the last pass found it held.';
COMMENT ON COLUMN reconciler_control.environment_deployments.unavailable IS 'Why it could not be read.';
COMMENT ON COLUMN reconciler_control.environment_deployments.blocked IS 'Why something pending cannot be planned.';
COMMENT ON COLUMN reconciler_control.environment_deployments.applied_commit IS
'Commit of the last operation that completed here, or that a pass found nothing pending for.';


CREATE TABLE reconciler_control.rollouts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    environment text NOT NULL REFERENCES reconciler_control.environments (name),
    source text NOT NULL,
    commit text NOT NULL CHECK (commit <> ''),
    scope text NOT NULL CHECK (scope <> ''),
    state reconciler_control.rollout_state NOT NULL,
    ordering text NOT NULL,
    on_failure text NOT NULL,
    max_parallel integer NOT NULL,
    promotion text NOT NULL,
    released boolean NOT NULL DEFAULT FALSE,
    reason text NOT NULL,
    requested_by text NOT NULL,
    allow_hazards text [] NOT NULL DEFAULT '{}',
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    CONSTRAINT rollouts_end_has_a_time CHECK (
        (finished_at IS NOT NULL)
        = (state IN ('completed', 'failed', 'cancelled', 'reverted', 'superseded'))
    )
);
COMMENT ON TABLE reconciler_control.rollouts IS 'One carrying-out of plans for one commit over deployments.';
COMMENT ON COLUMN reconciler_control.rollouts.id IS 'Number that people use for it.';
COMMENT ON COLUMN reconciler_control.rollouts.environment IS 'Environment it rolls out.';
COMMENT ON COLUMN reconciler_control.rollouts.source IS 'Source of the commit.';
COMMENT ON COLUMN reconciler_control.rollouts.commit IS 'Commit it brings to the deployments.';
COMMENT ON COLUMN reconciler_control.rollouts.scope IS 'full or provision-only.';
COMMENT ON COLUMN reconciler_control.rollouts.state IS
'Derived from the states of its operations; written in the transaction that changes one of them.';
COMMENT ON COLUMN reconciler_control.rollouts.ordering IS 'rollout.order when it was recorded.';
COMMENT ON COLUMN reconciler_control.rollouts.on_failure IS 'rollout.onFailure when it was recorded.';
COMMENT ON COLUMN reconciler_control.rollouts.max_parallel IS 'rollout.maxParallel when it was recorded.';
COMMENT ON COLUMN reconciler_control.rollouts.promotion IS 'rollout.promotion when it was recorded.';
COMMENT ON COLUMN reconciler_control.rollouts.released IS 'Whether an operator let it go on after a pause.';
COMMENT ON COLUMN reconciler_control.rollouts.reason IS 'Why it was recorded.';
COMMENT ON COLUMN reconciler_control.rollouts.requested_by IS 'Who asked for it.';
COMMENT ON COLUMN reconciler_control.rollouts.allow_hazards IS 'Hazard codes that were consented to.';
COMMENT ON COLUMN reconciler_control.rollouts.created_at IS 'When it was recorded.';
COMMENT ON COLUMN reconciler_control.rollouts.finished_at IS 'When its last operation ended.';
CREATE INDEX rollouts_of_environment ON reconciler_control.rollouts (environment, id DESC);
COMMENT ON INDEX reconciler_control.rollouts_of_environment IS 'Serves read_rollouts.';
CREATE INDEX rollouts_under_way ON reconciler_control.rollouts (environment) WHERE finished_at IS NULL;
COMMENT ON INDEX reconciler_control.rollouts_under_way IS 'Serves read_facts.';


CREATE SEQUENCE reconciler_control.worker_numbers AS integer;
COMMENT ON SEQUENCE reconciler_control.worker_numbers IS 'Numbers of workers: second key of their session locks.';

CREATE TABLE reconciler_control.workers (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    number integer NOT NULL UNIQUE,
    name text NOT NULL CHECK (name <> ''),
    registered_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lease_expires_at timestamptz NOT NULL
);
COMMENT ON TABLE reconciler_control.workers IS
'Who works. A worker holds a session advisory lock as long as it lives, and one lease for all it claimed.';
COMMENT ON COLUMN reconciler_control.workers.id IS 'Identity of one run of a worker.';
COMMENT ON COLUMN reconciler_control.workers.number IS 'Second key of its session advisory lock.';
COMMENT ON COLUMN reconciler_control.workers.name IS 'Name for people: host and process.';
COMMENT ON COLUMN reconciler_control.workers.registered_at IS 'When it registered, after it had taken its lock.';
COMMENT ON COLUMN reconciler_control.workers.heartbeat_at IS 'When it last renewed its lease.';
COMMENT ON COLUMN reconciler_control.workers.lease_expires_at IS
'From when on others may take over what it claimed, whether or not it still holds its lock.';

CREATE FUNCTION reconciler_control.is_alive(worker uuid) RETURNS boolean
LANGUAGE sql VOLATILE
AS $body$
    SELECT EXISTS (
        SELECT FROM reconciler_control.workers AS w
        INNER JOIN pg_catalog.pg_locks AS l ON l.objid = w.number::pg_catalog.oid
        WHERE
            w.id = $1 AND w.lease_expires_at >= pg_catalog.clock_timestamp()
            AND l.locktype = 'advisory' AND l.classid = 1380206159 AND l.objsubid = 2 AND l.granted
            AND l.database = (
                SELECT d.oid FROM pg_catalog.pg_database AS d
                WHERE d.datname = pg_catalog.current_database()
            )
    )
$body$;
COMMENT ON FUNCTION reconciler_control.is_alive(uuid) IS
'Whether a worker still owns what it claimed: its lease runs and its session lock is held.';


CREATE SEQUENCE reconciler_control.lease_tokens AS bigint;
COMMENT ON SEQUENCE reconciler_control.lease_tokens IS 'Lease tokens: each claim gets one higher than all before.';

CREATE TABLE reconciler_control.operations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rollout bigint NOT NULL REFERENCES reconciler_control.rollouts (id),
    environment text NOT NULL REFERENCES reconciler_control.environments (name),
    deployment text NOT NULL CHECK (deployment <> ''),
    ordinal integer NOT NULL CHECK (ordinal >= 0),
    state reconciler_control.operation_state NOT NULL,
    plan jsonb NOT NULL,
    plan_digest text NOT NULL CHECK (plan_digest <> ''),
    attempts integer NOT NULL DEFAULT 0 CHECK (attempts >= 0),
    lease_token bigint,
    worker uuid REFERENCES reconciler_control.workers (id) ON DELETE SET NULL,
    resumes_as reconciler_control.operation_state,
    next_attempt_at timestamptz,
    superseded_at timestamptz,
    superseded_by bigint REFERENCES reconciler_control.rollouts (id),
    reason text,
    error jsonb CHECK (jsonb_typeof(error) = 'object'),
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at timestamptz,
    finished_at timestamptz,
    CONSTRAINT operations_one_per_deployment UNIQUE (rollout, deployment),
    CONSTRAINT operations_place_once UNIQUE (rollout, ordinal),
    CONSTRAINT operations_in_flight_is_leased CHECK (
        (lease_token IS NOT NULL) = (state IN ('running', 'promoting', 'reverting'))
    ),
    CONSTRAINT operations_worker_holds_a_lease CHECK (worker IS NULL OR lease_token IS NOT NULL),
    CONSTRAINT operations_retrying_has_a_time CHECK ((next_attempt_at IS NOT NULL) = (state = 'retrying')),
    CONSTRAINT operations_retrying_knows_its_way CHECK (
        (resumes_as IS NOT NULL) = (state = 'retrying') AND resumes_as IN ('running', 'reverting')
    ),
    CONSTRAINT operations_end_has_a_time CHECK (
        (finished_at IS NOT NULL)
        = (state IN ('completed', 'failed', 'cancelled', 'reverted', 'superseded'))
    ),
    CONSTRAINT operations_superseded_says_when CHECK (
        superseded_at IS NOT NULL OR (superseded_by IS NULL AND state <> 'superseded')
    ),
    CONSTRAINT operations_times_in_order CHECK (started_at >= created_at AND finished_at >= created_at),
    CONSTRAINT operations_failure_has_an_error CHECK (
        error IS NOT NULL OR state NOT IN ('failed', 'retrying')
    ),
    CONSTRAINT operations_success_has_no_error CHECK (error IS NULL OR state <> 'completed'),
    CONSTRAINT operations_work_has_begun CHECK (
        (started_at IS NOT NULL AND attempts > 0)
        OR state IN ('waiting_for_approval', 'pending', 'stopped', 'cancelled', 'superseded')
    )
);
COMMENT ON TABLE reconciler_control.operations IS 'One rollout on one deployment: what is claimed and has a state.';
COMMENT ON COLUMN reconciler_control.operations.id IS 'Number that people use for it.';
COMMENT ON COLUMN reconciler_control.operations.rollout IS 'Rollout it belongs to.';
COMMENT ON COLUMN reconciler_control.operations.environment IS 'Environment of the rollout.';
COMMENT ON COLUMN reconciler_control.operations.deployment IS 'Deployment it works on.';
COMMENT ON COLUMN reconciler_control.operations.ordinal IS 'Place in rollout order, from 0.';
COMMENT ON COLUMN reconciler_control.operations.state IS 'Where it stands.';
COMMENT ON COLUMN reconciler_control.operations.plan IS 'The plan it carries out.';
COMMENT ON COLUMN reconciler_control.operations.plan_digest IS 'Digest of the plan.';
COMMENT ON COLUMN reconciler_control.operations.attempts IS
'Claims that began an attempt; taking over from a worker that died costs none.';
COMMENT ON COLUMN reconciler_control.operations.lease_token IS
'Token of the claim that holds it; a write that names another token is refused.';
COMMENT ON COLUMN reconciler_control.operations.worker IS
'Worker that holds it; null in flight means that it was handed back and any worker may resume it.';
COMMENT ON COLUMN reconciler_control.operations.resumes_as IS 'State the next attempt begins in.';
COMMENT ON COLUMN reconciler_control.operations.next_attempt_at IS 'From when on it may be claimed again.';
COMMENT ON COLUMN reconciler_control.operations.superseded_at IS
'Since when a newer commit takes its place; in flight, its worker ends it at the next safe point.';
COMMENT ON COLUMN reconciler_control.operations.superseded_by IS
'Rollout that takes its place; null where the newer commit needed none.';
COMMENT ON COLUMN reconciler_control.operations.reason IS 'Why it is in its state.';
COMMENT ON COLUMN reconciler_control.operations.error IS
'The last failure: what, where, why, next, sqlstate; gone once it completed.';
COMMENT ON COLUMN reconciler_control.operations.created_at IS 'When it was recorded.';
COMMENT ON COLUMN reconciler_control.operations.started_at IS 'When it was first claimed.';
COMMENT ON COLUMN reconciler_control.operations.finished_at IS 'When it came to its end.';
CREATE UNIQUE INDEX operations_one_in_flight ON reconciler_control.operations (environment, deployment)
WHERE state IN ('running', 'promoting', 'reverting');
COMMENT ON INDEX reconciler_control.operations_one_in_flight IS
'At most one operation of a deployment is in flight; serves read_deployments too.';
CREATE INDEX operations_under_way ON reconciler_control.operations (environment, rollout)
WHERE finished_at IS NULL;
COMMENT ON INDEX reconciler_control.operations_under_way IS 'Serves candidates, unfinished_operations and count_operations.';
CREATE INDEX operations_of_deployment ON reconciler_control.operations (environment, deployment, id DESC);
COMMENT ON INDEX reconciler_control.operations_of_deployment IS 'Serves read_deployments.';
CREATE INDEX operations_of_worker ON reconciler_control.operations (worker) WHERE worker IS NOT NULL;
COMMENT ON INDEX reconciler_control.operations_of_worker IS 'Serves release_operations and the foreign key.';


CREATE TABLE reconciler_control.steps (
    operation bigint NOT NULL REFERENCES reconciler_control.operations (id),
    id text NOT NULL CHECK (id <> ''),
    ordinal integer NOT NULL CHECK (ordinal >= 0),
    stage text NOT NULL,
    kind text NOT NULL,
    component text NOT NULL,
    identity text NOT NULL,
    state reconciler_control.step_state NOT NULL DEFAULT 'pending',
    reason text,
    started_at timestamptz,
    finished_at timestamptz,
    PRIMARY KEY (operation, id),
    CONSTRAINT steps_end_has_a_time CHECK (
        (finished_at IS NOT NULL) = (state IN ('done', 'skipped', 'failed'))
    ),
    CONSTRAINT steps_work_has_begun CHECK (
        started_at IS NOT NULL OR state NOT IN ('running', 'done', 'failed')
    )
);
COMMENT ON TABLE reconciler_control.steps IS
'Progress of operations, for people; the tracking schema of a managed database is the truth.';
COMMENT ON COLUMN reconciler_control.steps.operation IS 'Operation the step belongs to.';
COMMENT ON COLUMN reconciler_control.steps.id IS 'Id of the step within its plan.';
COMMENT ON COLUMN reconciler_control.steps.ordinal IS 'Place in the plan, from 0.';
COMMENT ON COLUMN reconciler_control.steps.stage IS 'Stage of the step.';
COMMENT ON COLUMN reconciler_control.steps.kind IS 'Kind of the step.';
COMMENT ON COLUMN reconciler_control.steps.component IS 'Component the step is for.';
COMMENT ON COLUMN reconciler_control.steps.identity IS 'What the step acts on.';
COMMENT ON COLUMN reconciler_control.steps.state IS 'Where it stands.';
COMMENT ON COLUMN reconciler_control.steps.reason IS 'Why it was skipped or failed.';
COMMENT ON COLUMN reconciler_control.steps.started_at IS 'When it was first seen to run.';
COMMENT ON COLUMN reconciler_control.steps.finished_at IS 'When it was noted as ended.';


CREATE TABLE reconciler_control.requests (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    rollout bigint NOT NULL REFERENCES reconciler_control.rollouts (id),
    deployment text CHECK (deployment <> ''),
    verb reconciler_control.request_verb NOT NULL,
    state reconciler_control.request_state NOT NULL DEFAULT 'pending',
    reason text,
    requested_by text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    resolved_at timestamptz,
    CONSTRAINT requests_end_has_a_time CHECK ((resolved_at IS NOT NULL) = (state <> 'pending')),
    CONSTRAINT requests_end_says_why CHECK (reason IS NOT NULL OR state = 'pending')
);
COMMENT ON TABLE reconciler_control.requests IS 'What operators asked of rollouts, and what became of it.';
COMMENT ON COLUMN reconciler_control.requests.id IS 'Number of the request.';
COMMENT ON COLUMN reconciler_control.requests.rollout IS 'Rollout it is about.';
COMMENT ON COLUMN reconciler_control.requests.deployment IS 'Deployment it is about; null for all of the rollout.';
COMMENT ON COLUMN reconciler_control.requests.verb IS 'What is asked.';
COMMENT ON COLUMN reconciler_control.requests.state IS 'Whether it waits, had its effect, or could not.';
COMMENT ON COLUMN reconciler_control.requests.reason IS 'What was done, or why it could not be.';
COMMENT ON COLUMN reconciler_control.requests.requested_by IS 'Who asked.';
COMMENT ON COLUMN reconciler_control.requests.created_at IS 'When it was asked.';
COMMENT ON COLUMN reconciler_control.requests.resolved_at IS 'When it was settled.';
CREATE UNIQUE INDEX requests_asked_once
ON reconciler_control.requests (rollout, verb, coalesce(deployment, ''))
WHERE state = 'pending';
COMMENT ON INDEX reconciler_control.requests_asked_once IS
'The same request waits at most once; serves pending_requests and interruption too.';


CREATE TABLE reconciler_control.holds (
    environment text NOT NULL REFERENCES reconciler_control.environments (name),
    deployment text NOT NULL CHECK (deployment <> ''),
    commit text NOT NULL CHECK (commit <> ''),
    reason text NOT NULL CHECK (reason <> ''),
    operation bigint REFERENCES reconciler_control.operations (id),
    held_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (environment, deployment, commit)
);
COMMENT ON TABLE reconciler_control.holds IS
'Deployments on which no pass tries a commit again by itself, until a new commit or an operator.';
COMMENT ON COLUMN reconciler_control.holds.environment IS 'Environment that is held.';
COMMENT ON COLUMN reconciler_control.holds.deployment IS 'Deployment that is held.';
COMMENT ON COLUMN reconciler_control.holds.commit IS 'Commit that is held.';
COMMENT ON COLUMN reconciler_control.holds.reason IS 'Why.';
COMMENT ON COLUMN reconciler_control.holds.operation IS 'Operation whose end set the hold, where one did.';
COMMENT ON COLUMN reconciler_control.holds.held_at IS 'Since when.';


CREATE TABLE reconciler_control.database_intents (
    environment text NOT NULL REFERENCES reconciler_control.environments (name),
    deployment text NOT NULL,
    server_identity text NOT NULL,
    database text NOT NULL CHECK (database <> ''),
    intended_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (environment, deployment, server_identity, database)
);
COMMENT ON TABLE reconciler_control.database_intents IS
'Databases about to be made: making one cannot commit with its record, so an empty one found later is ours.';
COMMENT ON COLUMN reconciler_control.database_intents.environment IS 'Environment that wants it.';
COMMENT ON COLUMN reconciler_control.database_intents.deployment IS 'Deployment that wants it.';
COMMENT ON COLUMN reconciler_control.database_intents.server_identity IS 'Server it is to stand on.';
COMMENT ON COLUMN reconciler_control.database_intents.database IS 'Name of the database.';
COMMENT ON COLUMN reconciler_control.database_intents.intended_at IS 'When the intent was noted.';


CREATE TABLE reconciler_control.events (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind text NOT NULL CHECK (kind ~ '^[a-z_]+\.[a-z_]+$'),
    environment text,
    deployment text,
    rollout bigint,
    operation bigint,
    message text NOT NULL,
    data jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(data) = 'object')
);
COMMENT ON TABLE reconciler_control.events IS 'What happened: an audit that is only ever appended to.';
COMMENT ON COLUMN reconciler_control.events.id IS 'Counts up; a gap means nothing.';
COMMENT ON COLUMN reconciler_control.events.at IS 'When it happened.';
COMMENT ON COLUMN reconciler_control.events.kind IS 'What happened, as noun.verb, such as operation.claimed.';
COMMENT ON COLUMN reconciler_control.events.environment IS 'Environment it is about.';
COMMENT ON COLUMN reconciler_control.events.deployment IS 'Deployment it is about.';
COMMENT ON COLUMN reconciler_control.events.rollout IS 'Rollout it is about.';
COMMENT ON COLUMN reconciler_control.events.operation IS 'Operation it is about.';
COMMENT ON COLUMN reconciler_control.events.message IS 'One line for people.';
COMMENT ON COLUMN reconciler_control.events.data IS 'Details for programs.';
CREATE INDEX events_of_environment ON reconciler_control.events (environment, id);
COMMENT ON INDEX reconciler_control.events_of_environment IS 'Serves read_events for an environment.';
CREATE INDEX events_of_rollout ON reconciler_control.events (rollout, id);
COMMENT ON INDEX reconciler_control.events_of_rollout IS 'Serves read_events for a rollout.';

CREATE FUNCTION reconciler_control.refuse_event_change() RETURNS trigger
LANGUAGE plpgsql
AS $body$
BEGIN
    RAISE EXCEPTION 'events are only ever appended' USING ERRCODE = 'restrict_violation';
END
$body$;
COMMENT ON FUNCTION reconciler_control.refuse_event_change() IS 'Refuses to alter the audit.';
CREATE TRIGGER events_are_appended_only
BEFORE UPDATE OR DELETE OR TRUNCATE ON reconciler_control.events
FOR EACH STATEMENT EXECUTE FUNCTION reconciler_control.refuse_event_change();
COMMENT ON TRIGGER events_are_appended_only ON reconciler_control.events IS
'The audit is only ever appended to; retention drops this trigger knowingly.';
