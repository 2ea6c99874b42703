-- noqa: disable=LT01
-- The linter takes EXISTS in a list of columns for a function call.

-- name: take_due_generation :one
-- Takes the generation that waits longest to be removed, for a while; none of a deployment that is worked on, of
-- what may still be gone on with, of what may be gone back to, nor of an environment that is left alone.
WITH due AS (
    SELECT g.id
    FROM reconciler_control.generations AS g
    INNER JOIN reconciler_control.operations AS o ON g.operation = o.id
    INNER JOIN reconciler_control.environments AS e ON g.environment = e.name
    INNER JOIN reconciler_control.workers AS w ON w.id = %(worker)s
    WHERE
        g.next_try_at <= clock_timestamp()
        AND e.suspended_at IS NULL AND e.orphaned_at IS NULL AND e.source = ANY(w.sources)
        AND CASE g.state
            WHEN 'staged' THEN o.finished_at IS NOT NULL
            WHEN 'promoted'
                THEN
                    -- Until it is over, all that it made live can still be taken back together.
                    o.finished_at IS NOT NULL
                    AND (o.state = 'completed' OR coalesce(g.retained_until <= clock_timestamp(), TRUE))
            ELSE o.finished_at IS NOT NULL
        END
        AND NOT EXISTS (
            SELECT FROM reconciler_control.operations AS f
            WHERE
                f.environment = g.environment AND f.deployment = g.deployment AND f.finished_at IS NULL
                AND (
                    f.state IN ('running', 'promoting', 'reverting')
                    -- What is staged may be what a newer operation wants; else its plan discards it.
                    OR (g.state = 'staged' AND NOT f.state IN ('stopped', 'revert_window'))
                )
        )
    ORDER BY g.next_try_at, g.id
    LIMIT 1
    FOR NO KEY UPDATE OF g SKIP LOCKED
)
UPDATE reconciler_control.generations AS g
SET next_try_at = clock_timestamp() + make_interval(secs => %(lease_s)s)
FROM due AS d, reconciler_control.operations AS o, reconciler_control.rollouts AS r
WHERE g.id = d.id AND g.operation = o.id AND o.rollout = r.id
RETURNING
    g.id, g.environment, r.source, g.deployment, g.server, g.database, g.component, g.generation,
    g.state::text AS state, g.operation::text AS operation, r.commit, g.made_at, g.retained_until, g.failures,
    g.error;

-- name: is_generation_due :one
-- A row where a generation that was taken to be removed is still to be, and nobody works on its deployment.
SELECT g.id
FROM reconciler_control.generations AS g
INNER JOIN reconciler_control.operations AS o ON g.operation = o.id
WHERE
    g.id = %(id)s AND g.operation = %(operation)s AND g.state = %(state)s
    AND o.state NOT IN ('revert_window', 'waiting_for_promotion')
    AND NOT coalesce(o.resumes_as = 'reverting', FALSE)
    AND NOT EXISTS (
        SELECT FROM reconciler_control.operations AS f
        WHERE
            f.environment = g.environment AND f.deployment = g.deployment AND f.finished_at IS NULL
            AND f.state IN ('running', 'promoting', 'reverting')
    );

-- name: remove_generation :one
-- Nothing of a generation is left; it stays where it is another operation's by now, or in another state.
DELETE FROM reconciler_control.generations
WHERE id = %(id)s AND operation = %(operation)s AND state = %(state)s
RETURNING id;

-- name: postpone_generation :one
-- A generation could not be removed; it is tried again later. Says what was known before.
WITH known AS MATERIALIZED (
    SELECT g.id, g.error FROM reconciler_control.generations AS g
    WHERE g.id = %(id)s AND g.operation = %(operation)s AND g.state = %(state)s
    FOR NO KEY UPDATE
)
UPDATE reconciler_control.generations AS g
SET
    failures = g.failures + 1, error = %(error)s,
    next_try_at = clock_timestamp() + make_interval(secs => %(delay_s)s)
FROM known AS k
WHERE g.id = k.id
RETURNING k.error AS before, g.failures;

-- name: read_kept_generations :many
-- Generations that could not be removed when that was tried last, for people.
SELECT
    g.environment, g.deployment, g.database, g.component, g.generation, g.state::text AS state, g.made_at,
    g.failures, g.error, g.next_try_at
FROM reconciler_control.generations AS g
WHERE
    g.error IS NOT NULL AND (%(environments)s::text [] IS NULL OR g.environment = ANY(%(environments)s))
ORDER BY g.environment, g.deployment, g.component, g.id
LIMIT %(limit)s;

-- name: count_generations :many
-- Generations that are to be removed once, by state, and how many of them could not be.
SELECT state::text, count(*) AS generations, count(error) AS kept
FROM reconciler_control.generations
GROUP BY state;
