-- noqa: disable=LT01
-- The linter takes EXISTS in a list of columns for a function call.

-- name: candidates :many
-- Environments with rollouts of which something looks as if it may be claimed, the least busy first.
-- This only narrows the choice: rollout.next decides under the environment's lock, and claim_operations checks.
WITH
alive AS MATERIALIZED (SELECT w.id FROM reconciler_control.living_workers AS w),
flying AS MATERIALIZED (
    SELECT
        o.rollout, o.environment,
        NOT EXISTS (SELECT FROM alive AS a WHERE a.id = o.worker) AS is_stray,
        o.superseded_at IS NOT NULL OR EXISTS (
            SELECT FROM reconciler_control.requests AS q
            WHERE
                q.rollout = o.rollout AND q.state = 'pending' AND q.verb IN ('stop', 'cancel')
                AND (q.deployment IS NULL OR q.deployment = o.deployment)
        ) AS is_to_end
    FROM reconciler_control.operations AS o
    WHERE o.state IN ('running', 'promoting', 'reverting')
),
found AS (
    SELECT r.id, r.environment
    FROM reconciler_control.rollouts AS r
    INNER JOIN reconciler_control.environments AS e ON r.environment = e.name
    WHERE
        r.finished_at IS NULL
        -- It waits for nobody, and may do so for long.
        AND r.state <> 'revert_window'
        -- Whoever works on it has to read its commit, also to end it.
        AND r.source = ANY(%(sources)s::text [])
        AND NOT r.environment = ANY(%(crowded)s::text [])
        AND (%(rollout)s::bigint IS NULL OR r.id = %(rollout)s)
        AND (
            EXISTS (
                SELECT FROM flying AS f
                WHERE
                    f.rollout = r.id AND f.is_stray
                    -- What is to be ended is ended, also where nothing else may be done.
                    AND (f.is_to_end OR (e.suspended_at IS NULL AND e.orphaned_at IS NULL))
            )
            OR (
                e.suspended_at IS NULL AND e.orphaned_at IS NULL
                AND (
                    EXISTS (
                        SELECT FROM reconciler_control.operations AS o
                        WHERE
                            o.rollout = r.id AND o.state = 'retrying'
                            AND o.next_attempt_at <= clock_timestamp()
                    )
                    OR (
                        r.state <> 'paused'
                        AND EXISTS (
                            SELECT FROM (
                                SELECT o.state, o.wave FROM reconciler_control.operations AS o
                                WHERE
                                    o.rollout = r.id AND o.finished_at IS NULL
                                    AND NOT o.state = ANY(%(passed)s::reconciler_control.operation_state [])
                                ORDER BY o.ordinal
                                LIMIT 1
                            ) AS h
                            WHERE
                                CASE
                                    WHEN r.ordering = ANY(%(side_by_side)s)
                                        THEN
                                            EXISTS (
                                                SELECT FROM reconciler_control.operations AS o
                                                WHERE
                                                    o.rollout = r.id AND o.state = 'pending'
                                                    AND o.wave = h.wave
                                            )
                                            AND (
                                                SELECT count(*) FROM reconciler_control.operations AS o
                                                WHERE
                                                    o.rollout = r.id
                                                    AND o.state
                                                    = ANY(%(at_work)s::reconciler_control.operation_state [])
                                            ) < greatest(r.max_parallel, 1)
                                    ELSE h.state = 'pending'
                                END
                                -- Who rests would take the place of others, again and again.
                                AND NOT reconciler_control.wave_rests(r.id, h.wave, r.wave_pause_s)
                        )
                    )
                )
            )
        )
),
load AS (
    SELECT f.environment, count(*) FILTER (WHERE NOT f.is_stray) AS operations
    FROM flying AS f
    GROUP BY f.environment
)
SELECT
    f.environment, array_agg(f.id ORDER BY f.id) AS rollouts, coalesce(min(l.operations), 0) AS operations
FROM found AS f
LEFT JOIN load AS l ON f.environment = l.environment
GROUP BY f.environment
ORDER BY coalesce(min(l.operations), 0), min(f.id)
LIMIT %(limit)s;

-- name: candidates_to_promote :many
-- The same of rollouts of which something waits for its promotion and looks as if it might go; asked only where
-- anything waits for that at all.
WITH
parked AS MATERIALIZED (
    SELECT o.id, o.rollout, o.wave, coalesce(o.parked ->> 'generation' = ANY(o.granted), FALSE) AS is_granted
    FROM reconciler_control.operations AS o
    WHERE
        o.state = 'waiting_for_promotion'
        AND NOT EXISTS (
            SELECT FROM reconciler_control.operations AS f
            WHERE
                f.environment = o.environment AND f.deployment = o.deployment
                AND f.state IN ('running', 'promoting', 'reverting')
        )
),
found AS (
    SELECT DISTINCT r.id, r.environment
    FROM parked AS p
    INNER JOIN reconciler_control.rollouts AS r ON p.rollout = r.id
    INNER JOIN reconciler_control.environments AS e ON r.environment = e.name
    WHERE
        e.suspended_at IS NULL AND e.orphaned_at IS NULL
        AND r.source = ANY(%(sources)s::text [])
        AND NOT r.environment = ANY(%(crowded)s::text [])
        AND (%(rollout)s::bigint IS NULL OR r.id = %(rollout)s)
        AND (p.is_granted OR r.promotion = %(auto)s)
        AND (
            (p.is_granted AND r.ordering <> %(barrier)s)
            OR r.on_failure = 'continue' OR (r.on_failure = 'pause' AND r.released)
            OR NOT EXISTS (
                SELECT FROM reconciler_control.operations AS o
                WHERE
                    o.rollout = r.id
                    AND o.state = ANY(%(unsuccessful)s::reconciler_control.operation_state [])
            )
        )
        AND (
            r.ordering <> %(barrier)s
            OR (
                p.id = (
                    SELECT o.id FROM reconciler_control.operations AS o
                    WHERE
                        o.rollout = r.id AND o.finished_at IS NULL
                        AND NOT o.state = ANY(%(passed)s::reconciler_control.operation_state [])
                    ORDER BY o.ordinal
                    LIMIT 1
                )
                AND NOT EXISTS (
                    SELECT FROM reconciler_control.operations AS o
                    WHERE
                        o.rollout = r.id AND o.wave = p.wave AND o.finished_at IS NULL
                        AND o.promoted_at IS NULL
                        AND NOT o.state = ANY(%(staged)s::reconciler_control.operation_state [])
                )
            )
        )
        AND (
            SELECT count(*) FROM reconciler_control.operations AS o
            WHERE o.rollout = r.id AND o.state = ANY(%(at_work)s::reconciler_control.operation_state [])
        ) < greatest(r.max_parallel, 1)
)
SELECT
    f.environment, array_agg(f.id ORDER BY f.id) AS rollouts,
    (
        SELECT count(*) FROM reconciler_control.operations AS o
        INNER JOIN reconciler_control.living_workers AS w ON o.worker = w.id
        WHERE o.environment = f.environment AND o.state IN ('running', 'promoting', 'reverting')
    ) AS operations
FROM found AS f
GROUP BY f.environment
ORDER BY operations, min(f.id)
LIMIT %(limit)s;

-- name: claimable_parked :many
-- What waits for its promotion of rollouts, so that `rollout.next` says which may go live: the first few in
-- order, those that were let go, and whether another of the wave is not staged and ready.
WITH held_back AS MATERIALIZED (
    SELECT f.deployment FROM reconciler_control.operations AS f
    WHERE f.environment = %(environment)s AND f.state IN ('running', 'promoting', 'reverting')
),
crowded AS MATERIALIZED (
    SELECT f.server FROM reconciler_control.operations AS f
    WHERE f.state IN ('running', 'promoting', 'reverting') AND f.server IS NOT NULL
    GROUP BY f.server
    HAVING count(*) >= %(per_server)s
)
SELECT
    r.id,
    ARRAY(
        SELECT o.id FROM reconciler_control.operations AS o
        WHERE
            o.rollout = r.id AND o.state = 'waiting_for_promotion'
            AND NOT EXISTS (SELECT FROM held_back AS b WHERE b.deployment = o.deployment)
            AND NOT EXISTS (SELECT FROM crowded AS c WHERE c.server = o.server)
        ORDER BY o.ordinal
        LIMIT %(limit)s
    ) AS parked,
    ARRAY(
        SELECT o.id FROM reconciler_control.operations AS o
        WHERE
            o.rollout = r.id AND o.state = 'waiting_for_promotion'
            AND o.parked ->> 'generation' = ANY(o.granted)
            AND NOT EXISTS (SELECT FROM held_back AS b WHERE b.deployment = o.deployment)
            AND NOT EXISTS (SELECT FROM crowded AS c WHERE c.server = o.server)
        ORDER BY o.ordinal
        LIMIT %(limit)s
    ) AS granted,
    r.ordering = %(barrier)s AND EXISTS (
        SELECT FROM reconciler_control.operations AS o
        WHERE
            o.rollout = r.id AND o.finished_at IS NULL AND o.promoted_at IS NULL
            AND NOT o.state = ANY(%(staged)s::reconciler_control.operation_state [])
            AND o.wave = (
                SELECT min(h.wave) FROM reconciler_control.operations AS h
                WHERE
                    h.rollout = r.id AND h.finished_at IS NULL
                    AND NOT h.state = ANY(%(passed)s::reconciler_control.operation_state [])
            )
    ) AS unstaged
FROM reconciler_control.rollouts AS r
WHERE
    r.id = ANY(%(rollouts)s)
    AND EXISTS (
        SELECT FROM reconciler_control.operations AS o
        WHERE o.rollout = r.id AND o.state = 'waiting_for_promotion'
    )
ORDER BY r.id;

-- name: claimable :many
-- Rollouts in brief, with the first few of their operations that nothing outside of the rollout holds back:
-- strays in flight, those whose next attempt is due, pending ones of the wave that is next, in rollout order.
WITH
alive AS MATERIALIZED (SELECT w.id FROM reconciler_control.living_workers AS w),
held_back AS MATERIALIZED (
    SELECT f.deployment FROM reconciler_control.operations AS f
    WHERE f.environment = %(environment)s AND f.state IN ('running', 'promoting', 'reverting')
),
crowded AS MATERIALIZED (
    SELECT f.server FROM reconciler_control.operations AS f
    WHERE f.state IN ('running', 'promoting', 'reverting') AND f.server IS NOT NULL
    GROUP BY f.server
    HAVING count(*) >= %(per_server)s
),
-- Which of several it is that workers die of shows once no worker tries two of them at once.
suspects AS MATERIALIZED (
    SELECT f.id FROM reconciler_control.operations AS f
    WHERE
        f.worker = %(worker)s AND f.state IN ('running', 'promoting', 'reverting')
        AND f.crashes >= %(suspect)s
)
SELECT
    r.id, r.state::text AS state, r.ordering, r.on_failure, r.max_parallel, r.promotion, r.released,
    ARRAY(
        SELECT s.state::text
        FROM unnest(enum_range(NULL::reconciler_control.operation_state)) AS s (state)
        WHERE EXISTS (
            SELECT FROM reconciler_control.operations AS o WHERE o.rollout = r.id AND o.state = s.state
        )
    ) AS states,
    (
        SELECT count(*) FROM reconciler_control.operations AS o
        WHERE o.rollout = r.id AND o.state = ANY(%(at_work)s::reconciler_control.operation_state [])
    ) AS at_work,
    CASE WHEN h.id IS NOT NULL THEN jsonb_build_array(h.id, h.state) END AS first_open,
    coalesce(reconciler_control.wave_rests(r.id, h.wave, r.wave_pause_s), FALSE) AS rests,
    ARRAY(
        SELECT o.id FROM reconciler_control.operations AS o
        WHERE
            o.rollout = r.id AND o.state IN ('running', 'promoting', 'reverting')
            AND NOT EXISTS (SELECT FROM alive AS a WHERE a.id = o.worker)
            -- The death of the worker that it is taken from is counted as it is claimed.
            AND (
                o.crashes + CASE WHEN o.worker IS NULL THEN 0 ELSE 1 END < %(suspect)s
                OR NOT EXISTS (SELECT FROM suspects)
            )
            AND (
                %(is_open)s OR o.superseded_at IS NOT NULL OR EXISTS (
                    SELECT FROM reconciler_control.requests AS q
                    WHERE
                        q.rollout = o.rollout AND q.state = 'pending' AND q.verb IN ('stop', 'cancel')
                        AND (q.deployment IS NULL OR q.deployment = o.deployment)
                )
            )
        ORDER BY o.ordinal
        LIMIT %(limit)s
    ) AS strays,
    ARRAY(
        SELECT o.id FROM reconciler_control.operations AS o
        WHERE
            o.rollout = r.id AND o.state = 'retrying' AND o.next_attempt_at <= clock_timestamp()
            AND NOT EXISTS (SELECT FROM held_back AS b WHERE b.deployment = o.deployment)
            AND NOT EXISTS (SELECT FROM crowded AS c WHERE c.server = o.server)
        ORDER BY o.ordinal
        LIMIT %(limit)s
    ) AS due,
    ARRAY(
        SELECT o.id FROM reconciler_control.operations AS o
        WHERE
            o.rollout = r.id AND o.state = 'pending' AND o.wave = h.wave
            AND NOT EXISTS (SELECT FROM held_back AS b WHERE b.deployment = o.deployment)
            AND NOT EXISTS (SELECT FROM crowded AS c WHERE c.server = o.server)
        ORDER BY o.ordinal
        LIMIT %(limit)s
    ) AS pending
FROM reconciler_control.rollouts AS r
LEFT JOIN LATERAL (
    SELECT o.id, o.state, o.wave
    FROM reconciler_control.operations AS o
    WHERE
        o.rollout = r.id AND o.finished_at IS NULL
        AND NOT o.state = ANY(%(passed)s::reconciler_control.operation_state [])
    ORDER BY o.ordinal
    LIMIT 1
) AS h ON TRUE
WHERE r.id = ANY(%(rollouts)s) AND r.environment = %(environment)s AND r.finished_at IS NULL
ORDER BY r.id;

-- name: lock_servers :many
-- Takes the servers of operations, in order, so that the next statement counts all that are in flight there.
SELECT s.name FROM reconciler_control.servers AS s
WHERE s.name IN (SELECT o.server FROM reconciler_control.operations AS o WHERE o.id = ANY(%(ids)s))
ORDER BY s.name
FOR NO KEY UPDATE;

-- name: claim_operations :many
-- Takes operations that are still what they looked like, as many as their servers have room for, in the order
-- given; one in flight only from a worker that is gone, and of those that workers died at repeatedly only one.
WITH
alive AS MATERIALIZED (SELECT w.id FROM reconciler_control.living_workers AS w),
busy AS MATERIALIZED (
    SELECT f.server, count(*) AS operations FROM reconciler_control.operations AS f
    WHERE f.state IN ('running', 'promoting', 'reverting') AND f.server IS NOT NULL
    GROUP BY f.server
),
still AS MATERIALIZED (
    SELECT
        o.id, o.state AS before, o.server, o.started_at IS NULL AS first,
        o.state = ANY(%(in_flight)s::reconciler_control.operation_state []) AS is_stray,
        o.resumes_as = 'reverting' AS goes_back, o.waits, o.crashes, o.crashed_with, o.crashed_alone,
        coalesce(d.held <= 1, FALSE) AS was_alone,
        CASE WHEN o.worker <> %(worker)s THEN (
            SELECT count(*) FROM reconciler_control.steps AS t
            WHERE t.operation = o.id AND t.state <> 'done'
        ) END AS steps_left
    FROM reconciler_control.operations AS o
    LEFT JOIN reconciler_control.workers AS d ON o.worker = d.id
    WHERE
        o.id = ANY(%(ids)s)
        AND CASE
            WHEN o.state = ANY(%(in_flight)s::reconciler_control.operation_state [])
                THEN NOT EXISTS (SELECT FROM alive AS a WHERE a.id = o.worker)
            ELSE
                o.state = ANY(%(claimable)s::reconciler_control.operation_state [])
                AND coalesce(o.next_attempt_at <= clock_timestamp(), TRUE)
                AND NOT EXISTS (
                    SELECT FROM reconciler_control.operations AS f
                    WHERE
                        f.environment = o.environment AND f.deployment = o.deployment
                        AND f.state IN ('running', 'promoting', 'reverting')
                )
        END
    ORDER BY o.id
    FOR NO KEY UPDATE OF o
),
counted AS (
    SELECT
        s.*,
        CASE
            WHEN s.steps_left IS NULL THEN s.crashes
            WHEN s.steps_left < s.crashed_with THEN 1
            ELSE s.crashes + 1
        END AS deaths,
        CASE
            WHEN s.steps_left IS NULL THEN s.crashed_alone
            WHEN s.steps_left < s.crashed_with THEN s.was_alone
            ELSE s.crashed_alone OR s.was_alone
        END AS died_alone
    FROM still AS s
),
placed AS (
    SELECT
        s.id, s.before, s.first, s.is_stray, s.steps_left, s.deaths, s.died_alone,
        CASE
            WHEN s.is_stray THEN s.before
            WHEN s.goes_back THEN (%(back)s::jsonb ->> s.before::text)::reconciler_control.operation_state
            ELSE (%(on)s::jsonb ->> s.before::text)::reconciler_control.operation_state
        END AS after,
        CASE WHEN s.is_stray OR s.waits > 0 THEN 0 ELSE 1 END AS cost,
        s.is_stray OR s.server IS NULL OR coalesce(b.operations, 0) + row_number() OVER (
            PARTITION BY s.server, s.is_stray ORDER BY array_position(%(ids)s::bigint [], s.id)
        ) <= %(per_server)s AS has_room,
        s.deaths >= %(suspect)s
        AND row_number() OVER (PARTITION BY s.deaths >= %(suspect)s ORDER BY s.id) > 1 AS is_later
    FROM counted AS s
    LEFT JOIN busy AS b ON s.server = b.server
),
-- Whether it dies of what it takes now is certain only if it has nothing else.
held AS (
    UPDATE reconciler_control.workers
    SET held = (
        SELECT count(*) FROM reconciler_control.operations AS o
        WHERE
            o.worker = %(worker)s
            AND o.state = ANY(%(in_flight)s::reconciler_control.operation_state [])
    ) + (SELECT count(*) FROM placed AS p WHERE p.has_room AND NOT p.is_later)
    WHERE id = %(worker)s
)
UPDATE reconciler_control.operations AS o
SET
    state = p.after,
    lease_token = nextval('reconciler_control.lease_tokens'),
    worker = %(worker)s,
    -- It may have taken some to get as far as that; its promotion has all of them.
    attempts = CASE WHEN p.before = 'waiting_for_promotion' THEN 1 ELSE o.attempts + p.cost END,
    crashes = p.deaths,
    crashed_alone = p.died_alone,
    crashed_with = least(o.crashed_with, p.steps_left),
    started_at = coalesce(o.started_at, clock_timestamp()),
    next_attempt_at = NULL,
    resumes_as = NULL,
    granted = CASE
        WHEN p.before <> 'waiting_for_promotion' OR o.parked ->> 'generation' = ANY(o.granted) THEN o.granted
        ELSE o.granted || coalesce(o.parked ->> 'generation', '')
    END,
    parked = NULL,
    reason = NULL
FROM placed AS p, reconciler_control.rollouts AS r
WHERE o.id = p.id AND o.state = p.before AND o.rollout = r.id AND p.has_room AND NOT p.is_later
RETURNING
    o.id::text AS operation, o.rollout::text AS rollout, o.environment, r.source, o.deployment, r.commit,
    r.scope, o.plan::text AS plan_text, coalesce(o.plan -> 'blocked', '[]') AS blocked,
    o.plan_digest, o.attempts, o.waits, o.lease_token, r.allow_hazards, r.ordering, r.on_failure,
    r.max_parallel, r.promotion, p.before::text AS before, o.state::text AS after, p.first, p.is_stray,
    o.crashes, o.crashed_alone,
    CASE WHEN o.crashes > 0 THEN (
        SELECT t.component || ': ' || t.identity FROM reconciler_control.steps AS t
        WHERE t.operation = o.id AND t.state <> 'done'
        ORDER BY t.state = 'running' DESC, t.ordinal
        LIMIT 1
    ) END AS crashed_at,
    (
        SELECT a.plan_digest FROM reconciler_control.approvals AS a
        WHERE a.operation = o.id AND a.void_at IS NULL
    ) AS approved;

-- name: hand_back :one
-- Lets anyone resume an operation at once; the token moves, so that the one before cannot write.
UPDATE reconciler_control.operations
SET worker = NULL, lease_token = nextval('reconciler_control.lease_tokens')
WHERE id = %(id)s AND lease_token = %(lease_token)s
RETURNING id;

-- name: interruptions :many
-- What is asked of operations in flight; no row for one whose lease is another's. One that promotes or goes
-- back comes to the end of that first.
SELECT
    o.id::text AS operation,
    o.superseded_at IS NOT NULL AND o.state = 'running' AS superseded,
    (
        SELECT array_agg(DISTINCT q.verb::text)
        FROM reconciler_control.requests AS q
        WHERE
            q.rollout = o.rollout AND q.state = 'pending' AND o.state = 'running'
            AND (q.deployment IS NULL OR q.deployment = o.deployment)
    ) AS verbs
FROM unnest(%(ids)s::bigint [], %(lease_tokens)s::bigint []) AS c (id, lease_token)
INNER JOIN reconciler_control.operations AS o ON c.id = o.id AND c.lease_token = o.lease_token;
