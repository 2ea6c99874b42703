-- noqa: disable=LT01
-- The linter takes OPERATOR(…) for a function call.

-- name: live_generations :many
-- Reads which generation is live in each schema of a component, and which operation made it.
SELECT l.schema, l.generation, g.operation
FROM reconciler.live_schemas AS l
INNER JOIN reconciler.generations AS g ON l.generation OPERATOR(pg_catalog.=) g.generation
WHERE
    l.component OPERATOR(pg_catalog.=) %(component)s
    AND l.environment OPERATOR(pg_catalog.=) %(environment)s
    AND l.deployment OPERATOR(pg_catalog.=) %(deployment)s
ORDER BY l.schema;

-- name: unfinished_generations :many
-- Reads the generations of a component that are not live yet, and those that failed and are kept, with schemas.
SELECT g.key, g.state::pg_catalog.text AS state, g.commit, g.operation, m.made
FROM reconciler.generations AS g
CROSS JOIN LATERAL (
    SELECT COALESCE(pg_catalog.array_agg(s.staging_name ORDER BY s.staging_name), '{}') AS made
    FROM reconciler.generation_schemas AS s
    INNER JOIN pg_catalog.pg_namespace AS n
        ON s.staging_oid OPERATOR(pg_catalog.=) n.oid AND s.staging_name OPERATOR(pg_catalog.=) n.nspname
    WHERE s.generation OPERATOR(pg_catalog.=) g.generation
) AS m
WHERE
    g.component OPERATOR(pg_catalog.=) %(component)s
    AND g.environment OPERATOR(pg_catalog.=) %(environment)s
    AND g.deployment OPERATOR(pg_catalog.=) %(deployment)s
    AND (
        g.state OPERATOR(pg_catalog.=) ANY ('{staging,staged,ready}')
        OR (
            g.state OPERATOR(pg_catalog.=) 'failed' AND g.promoted_at IS NULL
            AND pg_catalog.cardinality(m.made) OPERATOR(pg_catalog.>) 0
        )
    )
ORDER BY g.generation;
