-- Generations of SQL objects on their way: what waits to go live, what was let go, what is kept to go back to.

ALTER TABLE reconciler_control.operations
ADD COLUMN parked jsonb CHECK (jsonb_typeof(parked) = 'object'),
ADD COLUMN granted text [] NOT NULL DEFAULT '{}',
ADD COLUMN promoted_at timestamptz,
ADD COLUMN applied_at timestamptz,
ADD COLUMN revert_until timestamptz,
ADD CONSTRAINT operations_parked_before_a_promotion CHECK (
    parked IS NULL OR state IN ('running', 'waiting_for_promotion')
),
ADD CONSTRAINT operations_window_has_an_end CHECK (revert_until IS NOT NULL OR state <> 'revert_window');
COMMENT ON COLUMN reconciler_control.operations.parked IS
'What waits to go live: {component, generation, since}; noted just before it parks, gone once it goes on.';
COMMENT ON COLUMN reconciler_control.operations.granted IS
'Generations that policy or somebody let go live; emptied when it is stopped.';
COMMENT ON COLUMN reconciler_control.operations.promoted_at IS 'When it first made something live.';
COMMENT ON COLUMN reconciler_control.operations.applied_at IS
'When its revert window opened: from then on the deployment carries the commit, though it is not over.';
COMMENT ON COLUMN reconciler_control.operations.revert_until IS
'Until when it may be reverted, where it made something live that can be taken back.';
CREATE INDEX operations_parked ON reconciler_control.operations (rollout, ordinal)
WHERE state = 'waiting_for_promotion';
COMMENT ON INDEX reconciler_control.operations_parked IS
'Serves candidates, claimable and oldest_parked, and is empty where nothing waits for promotion.';
CREATE INDEX operations_in_window ON reconciler_control.operations (revert_until)
WHERE state = 'revert_window';
COMMENT ON INDEX reconciler_control.operations_in_window IS 'Serves windows_over and windows_of.';

CREATE TYPE reconciler_control.generation_state AS ENUM ('staged', 'promoted', 'reverted');
COMMENT ON TYPE reconciler_control.generation_state IS
'What of a generation may still have to be removed: all of it, what it displaced, or itself after a revert.';

CREATE TABLE reconciler_control.generations (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    environment text NOT NULL REFERENCES reconciler_control.environments (name),
    deployment text NOT NULL CHECK (deployment <> ''),
    server text NOT NULL CHECK (server <> ''),
    database text NOT NULL CHECK (database <> ''),
    component text NOT NULL CHECK (component <> ''),
    generation text NOT NULL CHECK (generation <> ''),
    operation bigint NOT NULL REFERENCES reconciler_control.operations (id),
    state reconciler_control.generation_state NOT NULL DEFAULT 'staged',
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    promoted_at timestamptz,
    retained_until timestamptz,
    next_try_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    failures integer NOT NULL DEFAULT 0 CHECK (failures >= 0),
    error text CHECK (error <> ''),
    CONSTRAINT generations_known_once
    UNIQUE (environment, deployment, server, database, component, generation),
    CONSTRAINT generations_promoted_says_when CHECK ((promoted_at IS NULL) = (state = 'staged')),
    CONSTRAINT generations_retained_once_promoted CHECK (retained_until IS NULL OR promoted_at IS NOT NULL)
);
COMMENT ON TABLE reconciler_control.generations IS
'Generations of which something stands that will have to be removed: noted before it is made, until it is gone.';
COMMENT ON COLUMN reconciler_control.generations.id IS 'Number of the row.';
COMMENT ON COLUMN reconciler_control.generations.environment IS 'Environment.';
COMMENT ON COLUMN reconciler_control.generations.deployment IS 'Deployment.';
COMMENT ON COLUMN reconciler_control.generations.server IS 'Host and port, as the connection string names them.';
COMMENT ON COLUMN reconciler_control.generations.database IS 'Managed database that it stands in.';
COMMENT ON COLUMN reconciler_control.generations.component IS 'Component whose objects it is of.';
COMMENT ON COLUMN reconciler_control.generations.generation IS 'Key of the generation.';
COMMENT ON COLUMN reconciler_control.generations.operation IS 'Operation that had to do with it last.';
COMMENT ON COLUMN reconciler_control.generations.state IS 'What of it may have to be removed.';
COMMENT ON COLUMN reconciler_control.generations.made_at IS 'When it was noted, before its first statement.';
COMMENT ON COLUMN reconciler_control.generations.promoted_at IS 'When it went live.';
COMMENT ON COLUMN reconciler_control.generations.retained_until IS
'How long what it displaced is kept; null where that is kept for no time.';
COMMENT ON COLUMN reconciler_control.generations.next_try_at IS
'From when on upkeep may try to remove it; moved on by whoever tries.';
COMMENT ON COLUMN reconciler_control.generations.failures IS 'How often in a row that did not work.';
COMMENT ON COLUMN reconciler_control.generations.error IS 'Why it did not work the last time.';
CREATE INDEX generations_due ON reconciler_control.generations (next_try_at);
COMMENT ON INDEX reconciler_control.generations_due IS 'Serves take_due_generation.';
CREATE INDEX generations_of_operation ON reconciler_control.generations (operation);
COMMENT ON INDEX reconciler_control.generations_of_operation IS
'Serves promoted_by, window_of and the foreign key.';


-- A wave is done as the revert windows of its deployments open, and not as they end.
CREATE OR REPLACE FUNCTION reconciler_control.wave_rests(
    rollout bigint, wave integer, pause_s double precision
)
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
                    o.applied_at,
                    o.finished_at,
                    (SELECT max(s.finished_at) FROM reconciler_control.steps AS s WHERE s.operation = o.id)
                ) + pg_catalog.make_interval(secs => $3) > pg_catalog.clock_timestamp()
        )
$body$;
