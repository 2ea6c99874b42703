-- name: append_events :exec
-- Appends to the audit, in the order given.
INSERT INTO reconciler_control.events (kind, message, environment, deployment, rollout, operation, data)
SELECT n.kind, n.message, n.environment, n.deployment, n.rollout, n.operation, coalesce(n.data, '{}')
FROM jsonb_array_elements(%(events)s) WITH ORDINALITY AS e (item, place)
CROSS JOIN LATERAL jsonb_to_record(e.item) AS n (
    kind text, message text, environment text, deployment text, rollout bigint, operation bigint, data jsonb
)
ORDER BY e.place;

-- name: newest_events :many
-- The newest events, in order.
SELECT n.id, n.at, n.kind, n.environment, n.deployment, n.rollout, n.operation, n.message, n.data
FROM (
    SELECT
        e.id, e.at, e.kind, e.environment, e.deployment, e.rollout::text, e.operation::text, e.message, e.data
    FROM reconciler_control.events AS e
    WHERE
        (%(environment)s::text IS NULL OR e.environment = %(environment)s)
        AND (%(rollout)s::bigint IS NULL OR e.rollout = %(rollout)s)
    ORDER BY e.id DESC
    LIMIT %(limit)s
) AS n
ORDER BY n.id;

-- name: read_events :many
-- Events after a number. Numbers are given before commit, so one may become visible after a higher one:
-- what follows a gap that is younger than the longest transaction waits until the gap is filled or old.
WITH
settled AS (
    SELECT coalesce(max(e.id), 0) AS id FROM (
        SELECT s.id FROM reconciler_control.events AS s
        WHERE s.at < clock_timestamp() - interval '15 seconds'
        ORDER BY s.id DESC
        LIMIT 1
    ) AS e
),
gaps AS (
    SELECT min(f.id) AS first_after
    FROM (
        SELECT r.id, lag(r.id, 1, s.id) OVER (ORDER BY r.id) AS before
        FROM reconciler_control.events AS r, settled AS s
        WHERE r.id >= s.id
    ) AS f
    WHERE f.id > f.before + 1 AND f.id > %(after)s
)
SELECT
    e.id, e.at, e.kind, e.environment, e.deployment, e.rollout::text, e.operation::text, e.message, e.data
FROM reconciler_control.events AS e, gaps AS g
WHERE
    e.id > %(after)s
    AND (g.first_after IS NULL OR e.id < g.first_after)
    AND (%(environment)s::text IS NULL OR e.environment = %(environment)s)
    AND (%(rollout)s::bigint IS NULL OR e.rollout = %(rollout)s)
ORDER BY e.id
LIMIT %(limit)s;
