-- noqa: disable=LT01
-- The linter takes EXISTS in a list of columns for a function call.

-- name: promotion_brief :one
-- What decides whether an operation that a worker holds may promote now; no row where the lease is another's.
SELECT
    o.id, o.rollout, o.environment, o.deployment, o.state::text AS state, o.granted, r.ordering, r.on_failure,
    r.max_parallel, r.promotion, r.released, h.id AS first_open, o.attempts, r.commit,
    o.superseded_at IS NOT NULL OR EXISTS (
        SELECT FROM reconciler_control.requests AS q
        WHERE
            q.rollout = o.rollout AND q.state = 'pending' AND q.verb IN ('stop', 'cancel')
            AND (q.deployment IS NULL OR q.deployment = o.deployment)
    ) AS is_to_end,
    ARRAY(
        SELECT s.state::text
        FROM unnest(enum_range(NULL::reconciler_control.operation_state)) AS s (state)
        WHERE EXISTS (
            SELECT FROM reconciler_control.operations AS p WHERE p.rollout = r.id AND p.state = s.state
        )
    ) AS states,
    r.ordering = %(barrier)s AND EXISTS (
        SELECT FROM reconciler_control.operations AS u
        WHERE
            u.rollout = r.id AND u.wave = o.wave AND u.id <> o.id AND u.finished_at IS NULL
            AND u.promoted_at IS NULL AND NOT u.state = ANY(%(staged)s::reconciler_control.operation_state [])
    ) AS is_unstaged
FROM reconciler_control.operations AS o
INNER JOIN reconciler_control.rollouts AS r ON o.rollout = r.id
LEFT JOIN LATERAL (
    SELECT f.id
    FROM reconciler_control.operations AS f
    WHERE
        f.rollout = r.id AND f.finished_at IS NULL
        AND NOT f.state = ANY(%(passed)s::reconciler_control.operation_state [])
    ORDER BY f.ordinal
    LIMIT 1
) AS h ON TRUE
WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s;

-- name: begin_promotion :one
-- Takes an operation from where it works, past where it would wait, to its promotion, under its lease. It does
-- not wait, so the lease stays; both moves are written down.
UPDATE reconciler_control.operations
SET
    state = %(after)s::reconciler_control.operation_state,
    parked = NULL,
    granted = CASE WHEN %(generation)s = ANY(granted) THEN granted ELSE granted || %(generation)s::text END
WHERE id = %(operation)s AND lease_token = %(lease_token)s AND state = %(before)s
RETURNING id;

-- name: note_parked :one
-- Notes what an operation is about to wait for, under its lease.
UPDATE reconciler_control.operations
SET parked = %(parked)s
WHERE id = %(operation)s AND lease_token = %(lease_token)s AND state = 'running'
RETURNING id;

-- name: own_generation :exec
-- A generation is the operation's that goes on with it, whoever made it.
UPDATE reconciler_control.generations
SET operation = %(operation)s
WHERE
    environment = %(environment)s AND deployment = %(deployment)s AND component = %(component)s
    AND generation = %(generation)s AND state = 'staged' AND operation <> %(operation)s;

-- name: note_staging :one
-- Notes under the lease that a generation is about to be made; one that is known is the operation's from now on.
INSERT INTO reconciler_control.generations AS g (
    environment, deployment, server, database, component, generation, operation
)
SELECT o.environment, o.deployment, %(server)s, %(database)s, %(component)s, %(generation)s, o.id
FROM reconciler_control.operations AS o
WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s
FOR SHARE
ON CONFLICT (environment, deployment, server, database, component, generation) DO UPDATE
SET
    operation = excluded.operation, state = 'staged', promoted_at = NULL, retained_until = NULL,
    next_try_at = clock_timestamp(), failures = 0, error = NULL
RETURNING g.id;

-- name: note_live :one
-- Notes under the lease that a generation went live, and how long what it displaced is kept. It was noted before
-- it was made; where that note is lost, this one takes its place.
WITH held AS MATERIALIZED (
    SELECT o.id, o.environment, o.deployment, coalesce(o.server, 'unknown') AS server
    FROM reconciler_control.operations AS o
    WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s
    FOR SHARE
),
known AS (
    UPDATE reconciler_control.generations AS g
    SET
        operation = h.id, state = 'promoted', promoted_at = coalesce(g.promoted_at, clock_timestamp()),
        retained_until = %(retained_until)s, next_try_at = clock_timestamp(), failures = 0, error = NULL
    FROM held AS h
    WHERE
        g.environment = h.environment AND g.deployment = h.deployment AND g.database = %(database)s
        AND g.component = %(component)s AND g.generation = %(generation)s
    RETURNING g.id
),
added AS (
    INSERT INTO reconciler_control.generations AS g (
        environment, deployment, server, database, component, generation, operation, state, promoted_at,
        retained_until
    )
    SELECT
        h.environment, h.deployment, h.server, %(database)s, %(component)s, %(generation)s, h.id, 'promoted',
        clock_timestamp(), %(retained_until)s
    FROM held AS h
    WHERE NOT EXISTS (SELECT FROM known)
    RETURNING g.id
)
UPDATE reconciler_control.operations AS o
SET promoted_at = coalesce(o.promoted_at, clock_timestamp())
FROM held AS h
WHERE o.id = h.id
RETURNING o.id;

-- name: note_reverted :one
-- Notes under the lease that a generation is live no more, and is to be removed itself.
WITH held AS MATERIALIZED (
    SELECT o.id, o.environment, o.deployment FROM reconciler_control.operations AS o
    WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s
    FOR SHARE
),
noted AS (
    UPDATE reconciler_control.generations AS g
    SET state = 'reverted', operation = h.id, next_try_at = clock_timestamp(), failures = 0, error = NULL
    FROM held AS h
    WHERE
        g.environment = h.environment AND g.deployment = h.deployment AND g.database = %(database)s
        AND g.component = %(component)s AND g.generation = %(generation)s AND g.state = 'promoted'
)
SELECT h.id FROM held AS h;

-- name: forget_generation :one
-- Nothing of a generation is left: noted under the lease of the operation that removed it.
WITH held AS MATERIALIZED (
    SELECT o.id, o.environment, o.deployment FROM reconciler_control.operations AS o
    WHERE o.id = %(operation)s AND o.lease_token = %(lease_token)s
    FOR SHARE
),
gone AS (
    DELETE FROM reconciler_control.generations AS g
    USING held AS h
    WHERE
        g.environment = h.environment AND g.deployment = h.deployment AND g.database = %(database)s
        AND g.component = %(component)s AND g.generation = %(generation)s
)
SELECT h.id FROM held AS h;

-- name: promoted_by :many
-- The generations that an operation made live and did not take back, the newest first.
SELECT g.server, g.database, g.component, g.generation, g.promoted_at, g.retained_until
FROM reconciler_control.generations AS g
WHERE g.operation = %(operation)s AND g.state = 'promoted'
ORDER BY g.promoted_at DESC, g.id DESC;

-- name: window_of :one
-- Until when what an operation made live can be taken back as a whole; null where it cannot, or a part of it was.
SELECT min(g.retained_until) AS revert_until
FROM reconciler_control.generations AS g
WHERE
    g.operation = %(operation)s AND g.state = 'promoted' AND g.retained_until > clock_timestamp()
    AND NOT EXISTS (
        SELECT FROM reconciler_control.generations AS b
        WHERE b.operation = g.operation AND b.state = 'reverted'
    );

-- name: windows_of :many
-- Operations of deployments that are in their revert window, but for some.
SELECT o.id FROM reconciler_control.operations AS o
WHERE
    o.environment = %(environment)s AND o.deployment = ANY(%(deployments)s) AND o.state = 'revert_window'
    AND NOT o.id = ANY(%(but)s)
ORDER BY o.id;

-- name: windows_over :many
-- Operations whose revert window is over, by environment.
SELECT o.environment, array_agg(o.id ORDER BY o.id) AS operations
FROM reconciler_control.operations AS o
WHERE o.state = 'revert_window' AND o.revert_until <= clock_timestamp()
GROUP BY o.environment
ORDER BY min(o.revert_until)
LIMIT %(limit)s;

-- name: begin_reverting :many
-- Operations in their window go back from now on: whoever claims one first does it.
UPDATE reconciler_control.operations AS o
SET
    state = 'reverting',
    lease_token = nextval('reconciler_control.lease_tokens'),
    worker = NULL,
    attempts = 1,
    crashes = 0,
    crashed_with = NULL,
    crashed_alone = FALSE,
    waits = 0,
    reason = %(reason)s
FROM reconciler_control.rollouts AS r
WHERE
    o.id = ANY(%(ids)s) AND o.state = 'revert_window' AND o.lease_token IS NULL AND o.rollout = r.id
    AND o.revert_until > clock_timestamp()
    AND NOT EXISTS (
        SELECT FROM reconciler_control.operations AS f
        WHERE
            f.environment = o.environment AND f.deployment = o.deployment
            AND f.state IN ('running', 'promoting', 'reverting')
    )
RETURNING
    o.id, o.rollout, o.environment, o.deployment, r.commit, r.scope, 'revert_window' AS before,
    o.state::text AS after, o.reason, o.error, o.attempts, o.next_attempt_at, FALSE AS whole;

-- name: grant_promotions :many
-- Lets what waits go live; nothing where it does not wait any more, or for something else.
UPDATE reconciler_control.operations
SET granted = granted || (parked ->> 'generation')
WHERE
    id = ANY(%(ids)s) AND state = 'waiting_for_promotion' AND parked IS NOT NULL
    AND NOT parked ->> 'generation' = ANY(granted)
RETURNING id, deployment, parked ->> 'component' AS component, parked ->> 'generation' AS generation;
