-- noqa: disable=LT01
-- The linter takes EXISTS in a list of columns for a function call.

-- name: move_operations :many
-- The one statement that changes states: each named operation goes from where it stands to where the table
-- of states leads, and one that the table does not lead anywhere, or that another holds, stays.
WITH moving AS MATERIALIZED (
    SELECT
        o.id, o.state AS before, o.error IS NOT NULL AS mended,
        (%(targets)s::jsonb ->> o.state::text)::reconciler_control.operation_state AS after
    FROM reconciler_control.operations AS o
    WHERE
        o.id = ANY(%(ids)s) AND %(targets)s::jsonb ->> o.state::text IS NOT NULL
        AND o.lease_token IS NOT DISTINCT FROM %(lease_token)s
    ORDER BY o.id
    FOR NO KEY UPDATE
)
UPDATE reconciler_control.operations AS o
SET
    state = m.after,
    lease_token = CASE
        WHEN m.after = ANY(%(in_flight)s::reconciler_control.operation_state []) THEN o.lease_token
    END,
    worker = CASE
        WHEN m.after = ANY(%(in_flight)s::reconciler_control.operation_state []) THEN o.worker
    END,
    settled_token = CASE
        WHEN NOT m.after = ANY(%(in_flight)s::reconciler_control.operation_state []) THEN o.lease_token
    END,
    attempts = CASE WHEN m.after = 'pending' THEN 0 ELSE o.attempts END,
    crashes = CASE WHEN m.after = 'failed' THEN o.crashes ELSE 0 END,
    crashed_alone = m.after = 'failed' AND o.crashed_alone,
    waits = CASE WHEN m.after = 'retrying' AND %(waits)s THEN o.waits + 1 ELSE 0 END,
    next_attempt_at = CASE
        WHEN m.after = 'retrying' THEN clock_timestamp() + make_interval(secs => %(delay_s)s)
    END,
    resumes_as = CASE
        WHEN m.after <> 'retrying' THEN NULL
        WHEN m.before = 'reverting' THEN 'reverting'::reconciler_control.operation_state
        ELSE 'running'
    END,
    superseded_at = CASE
        WHEN m.after = 'superseded' THEN coalesce(o.superseded_at, clock_timestamp()) ELSE o.superseded_at
    END,
    superseded_by = coalesce(o.superseded_by, %(superseded_by)s),
    parked = CASE
        WHEN m.after = 'waiting_for_promotion'
            THEN coalesce(o.parked, '{}') || jsonb_build_object('since', clock_timestamp())
    END,
    -- What was let go and then stopped is to be let go anew.
    granted = CASE WHEN m.after = 'stopped' THEN '{}' ELSE o.granted END,
    applied_at = CASE
        WHEN m.after = 'revert_window' AND m.before <> 'reverting' THEN clock_timestamp() ELSE o.applied_at
    END,
    revert_until = CASE
        WHEN m.after = 'revert_window'
            THEN
                coalesce((
                    SELECT min(g.retained_until) FROM reconciler_control.generations AS g
                    WHERE g.operation = o.id AND g.state = 'promoted' AND g.retained_until > clock_timestamp()
                ), clock_timestamp())
        ELSE o.revert_until
    END,
    reason = %(reason)s,
    error = CASE
        WHEN NOT m.after IN ('completed', 'revert_window') THEN coalesce(%(error)s, o.error)
    END,
    finished_at = CASE
        WHEN m.after = ANY(%(terminal)s::reconciler_control.operation_state []) THEN clock_timestamp()
    END
FROM moving AS m, reconciler_control.rollouts AS r
WHERE o.id = m.id AND o.state = m.before AND o.rollout = r.id
RETURNING
    o.id, o.rollout, o.environment, o.deployment, r.commit, r.scope, m.before::text AS before,
    m.after::text AS after, o.reason, o.error, o.attempts, o.next_attempt_at,
    coalesce(o.plan -> 'blocked', '[]') = '[]' AND coalesce(o.plan -> 'task', 'null') = 'null' AS whole,
    o.plan -> 'task' ->> 'hold' AS hold, m.mended, coalesce(o.plan -> 'gate', 'false') = 'true' AS gated,
    coalesce(o.plan ->> 'prune_from', '') <> '' AS pruned, o.parked,
    coalesce(o.plan -> 'left_out', '[]') AS left_out,
    CASE WHEN m.after = 'revert_window' THEN o.revert_until END AS revert_until;

-- name: note_gates :exec
-- Operations that ended with a gate: passed where they completed, else to be asked again, if they began at all.
WITH ended AS (
    SELECT o.environment, o.deployment, o.state IN ('completed', 'revert_window') AS has_passed
    FROM reconciler_control.operations AS o
    WHERE o.id = ANY(%(ids)s) AND o.started_at IS NOT NULL
),
passed AS (
    DELETE FROM reconciler_control.gates_due AS g
    USING ended AS e
    WHERE e.has_passed AND g.environment = e.environment AND g.deployment = e.deployment
)
INSERT INTO reconciler_control.gates_due (environment, deployment)
SELECT e.environment, e.deployment FROM ended AS e
WHERE NOT e.has_passed
ORDER BY e.environment, e.deployment
ON CONFLICT DO NOTHING;

-- name: read_gates_due :many
-- Deployments of an environment whose gate was not passed when it was asked last.
SELECT g.deployment FROM reconciler_control.gates_due AS g
WHERE g.environment = %(environment)s;

-- name: operation_state :one
-- Where an operation stands and who may write for it, to say why a move was refused.
SELECT state::text AS state, lease_token, settled_token
FROM reconciler_control.operations
WHERE id = %(id)s;

-- name: make_due :many
-- Lets operations that wait for their next attempt be claimed at once.
UPDATE reconciler_control.operations
SET next_attempt_at = clock_timestamp()
WHERE id = ANY(%(ids)s) AND state = 'retrying'
RETURNING id;

-- name: replace_plan :one
-- Gives an operation the plan it will carry out instead; no row where the lease is another's.
UPDATE reconciler_control.operations
SET plan = %(plan)s, plan_digest = %(plan_digest)s
WHERE id = %(id)s AND lease_token = %(lease_token)s
RETURNING id;

-- name: insert_steps :exec
-- The steps of plans, after those of an earlier plan of the same operation that were done.
INSERT INTO reconciler_control.steps AS s (operation, id, ordinal, stage, kind, component, identity)
SELECT n.operation, n.id, n.ordinal + coalesce(k.before, 0), n.stage, n.kind, n.component, n.identity
FROM unnest(
    %(operations)s::bigint [], %(ids)s::text [], %(ordinals)s::integer [], %(stages)s::text [],
    %(kinds)s::text [], %(components)s::text [], %(identities)s::text []
) AS n (operation, id, ordinal, stage, kind, component, identity)
LEFT JOIN (
    SELECT t.operation, max(t.ordinal) + 1 AS before
    FROM reconciler_control.steps AS t
    WHERE t.operation = ANY(%(operations)s::bigint [])
    GROUP BY t.operation
) AS k ON n.operation = k.operation;

-- name: remove_steps :exec
-- Steps of an earlier plan that were not done, or that are to be done again.
DELETE FROM reconciler_control.steps
WHERE operation = %(operation)s AND (state <> 'done' OR id = ANY(%(ids)s));

-- name: start_step :one
-- Notes that a step runs, under the lease; says whether that is held, whether there is such a step, whether it
-- was written. Those it runs in place of wait again. The row of the operation is taken: who steals it at this moment is waited for.
WITH held AS MATERIALIZED (
    SELECT id FROM reconciler_control.operations
    WHERE id = %(operation)s AND lease_token = %(lease_token)s
    FOR SHARE
),
written AS (
    UPDATE reconciler_control.steps AS s
    SET
        state = CASE WHEN s.id = %(step)s THEN 'running' ELSE 'pending' END::reconciler_control.step_state,
        started_at = coalesce(s.started_at, clock_timestamp()),
        finished_at = NULL
    FROM held
    WHERE
        s.operation = held.id
        AND (
            (s.id = %(step)s AND s.state IN ('pending', 'failed'))
            OR (s.id = ANY(%(instead_of)s::text []) AND s.id <> %(step)s AND s.state = 'running')
        )
    RETURNING s.id
)
SELECT
    EXISTS (SELECT FROM held) AS is_held,
    EXISTS (SELECT FROM reconciler_control.operations AS o WHERE o.id = %(operation)s) AS is_there,
    (
        SELECT count(*) FROM reconciler_control.steps AS s
        WHERE s.operation = %(operation)s AND s.id = %(step)s
    ) AS known,
    (SELECT count(*) FROM written AS w WHERE w.id = %(step)s) AS written;

-- name: note_said :exec
-- Notes what the scripts of a step said, if the lease is still held.
WITH held AS MATERIALIZED (
    SELECT id FROM reconciler_control.operations
    WHERE id = %(operation)s AND lease_token = %(lease_token)s
    FOR SHARE
)
UPDATE reconciler_control.steps AS s
SET said = %(said)s
FROM held
WHERE s.operation = held.id AND s.id = %(step)s;

-- name: finish_steps :one
-- Notes that steps ended, under the lease; one that ended so already keeps its time. Says the same.
WITH held AS MATERIALIZED (
    SELECT id FROM reconciler_control.operations
    WHERE id = %(operation)s AND lease_token = %(lease_token)s
    FOR SHARE
),
written AS (
    UPDATE reconciler_control.steps AS s
    SET
        state = %(state)s::reconciler_control.step_state,
        reason = %(reason)s,
        started_at = coalesce(s.started_at, clock_timestamp()),
        finished_at = clock_timestamp()
    FROM held
    WHERE
        s.operation = held.id AND s.id = ANY(%(steps)s)
        AND NOT s.state IN ('done', %(state)s::reconciler_control.step_state)
    RETURNING s.id
)
SELECT
    EXISTS (SELECT FROM held) AS is_held,
    EXISTS (SELECT FROM reconciler_control.operations AS o WHERE o.id = %(operation)s) AS is_there,
    (
        SELECT count(*) FROM reconciler_control.steps AS s
        WHERE s.operation = %(operation)s AND s.id = ANY(%(steps)s)
    ) AS known,
    (SELECT count(*) FROM written) AS written;

-- name: settle_steps :exec
-- Brings the steps of operations that left flight in line with where these stand now.
UPDATE reconciler_control.steps AS s
SET
    state = CASE
        WHEN o.state IN ('completed', 'revert_window') THEN 'done'
        WHEN s.state = 'running' AND o.state = 'failed' THEN 'failed'
        WHEN o.finished_at IS NULL THEN 'pending'
        ELSE 'skipped'
    END::reconciler_control.step_state,
    reason = CASE WHEN o.state <> 'completed' AND o.finished_at IS NOT NULL THEN o.reason END,
    started_at = CASE
        WHEN o.state IN ('completed', 'revert_window') THEN coalesce(s.started_at, clock_timestamp())
        ELSE s.started_at
    END,
    finished_at = CASE
        WHEN o.finished_at IS NOT NULL OR o.state = 'revert_window' THEN clock_timestamp()
    END
FROM reconciler_control.operations AS o
WHERE
    s.operation = o.id AND o.id = ANY(%(ids)s)
    AND (
        s.state = 'running'
        OR (s.state = 'pending' AND (o.finished_at IS NOT NULL OR o.state = 'revert_window'))
    );
