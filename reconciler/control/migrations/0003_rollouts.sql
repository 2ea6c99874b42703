-- Rollouts with an operator in control: why something was asked for, who agreed to which plan, what replaced what.

ALTER TABLE reconciler_control.requests
ADD COLUMN why text CHECK (why <> ''),
ADD COLUMN digest text CHECK (digest <> '');
COMMENT ON COLUMN reconciler_control.requests.why IS 'Why, in the words of whoever asked.';
COMMENT ON COLUMN reconciler_control.requests.digest IS 'Digest of the plan that is agreed to; approve only.';

CREATE TABLE reconciler_control.approvals (
    operation bigint PRIMARY KEY REFERENCES reconciler_control.operations (id),
    request bigint NOT NULL REFERENCES reconciler_control.requests (id),
    plan_digest text NOT NULL CHECK (plan_digest <> ''),
    approved_by text NOT NULL,
    approved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    used_at timestamptz,
    void_at timestamptz,
    void_reason text CHECK (void_reason <> ''),
    CONSTRAINT approvals_void_says_why CHECK ((void_at IS NULL) = (void_reason IS NULL))
);
COMMENT ON TABLE reconciler_control.approvals IS
'Who agreed to the plan of an operation, and what became of that; an operation is approved once.';
COMMENT ON COLUMN reconciler_control.approvals.operation IS 'Operation whose plan was agreed to.';
COMMENT ON COLUMN reconciler_control.approvals.request IS 'Request that agreed to it.';
COMMENT ON COLUMN reconciler_control.approvals.plan_digest IS 'Digest of that plan; no other one is carried out.';
COMMENT ON COLUMN reconciler_control.approvals.approved_by IS 'Who agreed.';
COMMENT ON COLUMN reconciler_control.approvals.approved_at IS 'When.';
COMMENT ON COLUMN reconciler_control.approvals.used_at IS
'When a worker found the plan to be what still is to be done, and began.';
COMMENT ON COLUMN reconciler_control.approvals.void_at IS 'Since when it no longer counts.';
COMMENT ON COLUMN reconciler_control.approvals.void_reason IS 'Why it no longer counts.';
CREATE INDEX approvals_of_request ON reconciler_control.approvals (request);
COMMENT ON INDEX reconciler_control.approvals_of_request IS 'Serves the foreign key.';

CREATE INDEX operations_superseded_by ON reconciler_control.operations (superseded_by)
WHERE superseded_by IS NOT NULL;
COMMENT ON INDEX reconciler_control.operations_superseded_by IS
'Serves read_replaced, which tells what a rollout took the place of, and the foreign key.';
CREATE INDEX requests_of_rollout ON reconciler_control.requests (rollout, id);
COMMENT ON INDEX reconciler_control.requests_of_rollout IS 'Serves read_requests.';


-- Rollouts over many deployments: a limit for each server, and what a claim reads is as much as it takes.

CREATE TABLE reconciler_control.servers (
    name text PRIMARY KEY CHECK (name <> '')
);
COMMENT ON TABLE reconciler_control.servers IS
'Servers that operations write to; whoever claims for one takes its row, so that the limit for it holds.';
COMMENT ON COLUMN reconciler_control.servers.name IS 'Host and port, as connection strings name them.';

ALTER TABLE reconciler_control.operations
ADD COLUMN server text CHECK (server <> ''),
ADD COLUMN wave integer NOT NULL DEFAULT 0 CHECK (wave >= 0),
ADD COLUMN waits integer NOT NULL DEFAULT 0 CHECK (waits >= 0),
ADD COLUMN settled_token bigint,
ADD COLUMN crashes integer NOT NULL DEFAULT 0 CHECK (crashes >= 0),
ADD COLUMN crashed_with integer CHECK (crashed_with >= 0),
ADD COLUMN crashed_alone boolean NOT NULL DEFAULT FALSE;
COMMENT ON COLUMN reconciler_control.operations.crashes IS
'How often in a row a worker died at it while no step got done; too often, and it fails.';
COMMENT ON COLUMN reconciler_control.operations.crashed_with IS
'Fewest steps that were left to do when a worker died at it.';
COMMENT ON COLUMN reconciler_control.operations.crashed_alone IS
'Whether at one of those deaths it was all that the worker had in hand.';

ALTER TABLE reconciler_control.workers
ADD COLUMN held integer NOT NULL DEFAULT 0 CHECK (held >= 0);
COMMENT ON COLUMN reconciler_control.workers.held IS
'Operations it had in hand at its last claim or heartbeat, whichever was later.';
COMMENT ON COLUMN reconciler_control.operations.settled_token IS
'Token of the claim that brought it to its state; whoever says so again is told that it is so already.';
COMMENT ON COLUMN reconciler_control.operations.server IS
'Server of the deployment, where it was known; operations in flight are limited for each.';
COMMENT ON COLUMN reconciler_control.operations.wave IS
'Wave of the deployment; ordinals go up with it, and no wave starts before all of those before it are done.';
ALTER TABLE reconciler_control.rollouts
ADD COLUMN wave_pause_s double precision NOT NULL DEFAULT 0 CHECK (wave_pause_s >= 0);
COMMENT ON COLUMN reconciler_control.rollouts.wave_pause_s IS
'Seconds between the end of a wave and the start of the next one, as captured when it was recorded.';
COMMENT ON COLUMN reconciler_control.operations.waits IS
'How often in a row it gave its worker back because another was at work in its database; costs no attempt.';
CREATE INDEX operations_by_state ON reconciler_control.operations (rollout, state, wave, ordinal);
COMMENT ON INDEX reconciler_control.operations_by_state IS
'Serves rollout_briefs, candidates and claimable: what is there and what is next, without counting all.';
CREATE INDEX operations_in_order ON reconciler_control.operations (rollout, ordinal)
WHERE finished_at IS NULL;
COMMENT ON INDEX reconciler_control.operations_in_order IS
'Serves candidates and claimable: the first that those after it wait for.';
CREATE INDEX operations_replaced ON reconciler_control.operations (rollout)
WHERE finished_at IS NULL AND superseded_at IS NOT NULL;
COMMENT ON INDEX reconciler_control.operations_replaced IS 'Serves rollout_briefs.';
CREATE INDEX operations_on_server ON reconciler_control.operations (server)
WHERE state IN ('running', 'promoting', 'reverting');
COMMENT ON INDEX reconciler_control.operations_on_server IS 'Serves claim_operations.';
CREATE INDEX rollouts_of_source_under_way ON reconciler_control.rollouts (source) WHERE finished_at IS NULL;
COMMENT ON INDEX reconciler_control.rollouts_of_source_under_way IS 'Serves candidates.';


-- What scripts say while they run.

ALTER TABLE reconciler_control.steps ADD COLUMN said text CHECK (said <> '');
COMMENT ON COLUMN reconciler_control.steps.said IS 'What the scripts of the step said, for people.';


-- Waves.

CREATE FUNCTION reconciler_control.wave_rests(rollout bigint, wave integer, pause_s double precision)
RETURNS boolean
LANGUAGE sql VOLATILE
AS $body$
    SELECT
        $3 > 0
        AND EXISTS (
            SELECT FROM reconciler_control.operations AS o
            WHERE
                o.rollout = $1 AND o.wave < $2 AND o.started_at IS NOT NULL
                AND coalesce(
                    o.finished_at,
                    (SELECT max(s.finished_at) FROM reconciler_control.steps AS s WHERE s.operation = o.id)
                ) + pg_catalog.make_interval(secs => $3) > pg_catalog.clock_timestamp()
        )
$body$;
COMMENT ON FUNCTION reconciler_control.wave_rests(bigint, integer, double precision) IS
'Whether the pause between a wave and those before it lasts still; it says nothing of whether these are done.';

CREATE TABLE reconciler_control.gates_due (
    environment text NOT NULL REFERENCES reconciler_control.environments (name),
    deployment text NOT NULL CHECK (deployment <> ''),
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (environment, deployment)
);
COMMENT ON TABLE reconciler_control.gates_due IS
'Deployments whose gate was not passed when it was asked last; it is asked again though nothing else is to do.';
COMMENT ON COLUMN reconciler_control.gates_due.environment IS 'Environment.';
COMMENT ON COLUMN reconciler_control.gates_due.deployment IS 'Deployment.';
COMMENT ON COLUMN reconciler_control.gates_due.since IS 'When an operation first ended without passing it.';


-- Deployments that left.

CREATE TABLE reconciler_control.deployments_left (
    environment text NOT NULL REFERENCES reconciler_control.environments (name),
    name text NOT NULL CHECK (name <> ''),
    left_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    applied_commit text,
    server text CHECK (server <> ''),
    databases text [] NOT NULL DEFAULT '{}',
    PRIMARY KEY (environment, name)
);
COMMENT ON TABLE reconciler_control.deployments_left IS
'Deployments that the spec no longer names and that something was done to; nothing is done to them.';
COMMENT ON COLUMN reconciler_control.deployments_left.environment IS 'Environment.';
COMMENT ON COLUMN reconciler_control.deployments_left.name IS 'Deployment.';
COMMENT ON COLUMN reconciler_control.deployments_left.left_at IS 'When a pass first found it gone.';
COMMENT ON COLUMN reconciler_control.deployments_left.applied_commit IS 'Commit that it carried.';
COMMENT ON COLUMN reconciler_control.deployments_left.server IS 'Server of its last operation, where that was known.';
COMMENT ON COLUMN reconciler_control.deployments_left.databases IS 'Databases that were made or adopted there.';
