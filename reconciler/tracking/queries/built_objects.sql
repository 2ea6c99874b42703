-- noqa: disable=LT01
-- The linter takes OPERATOR(…) for a function call.

-- name: owners_of_objects :many
-- Reads which components have schemas of SQL objects here, and which these are.
SELECT l.component, l.environment, l.deployment, pg_catalog.array_agg(l.schema ORDER BY l.schema) AS schemas
FROM reconciler.live_schemas AS l
GROUP BY l.component, l.environment, l.deployment
ORDER BY l.component, l.environment, l.deployment;

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

-- name: dependents_outside :many
-- Finds what depends on relations and routines of a list from outside of what is displaced, and whether it can be
-- bound anew in place; objects of ours elsewhere are built along, and what is staged or kept is no concern of whoever
-- reads what is live.
WITH inside AS MATERIALIZED (
    SELECT
        'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid AS classid, c.oid AS objid,
        c.relnamespace AS namespace, c.relname AS name
    FROM pg_catalog.unnest(%(relations)s::pg_catalog.int8 []::pg_catalog.oid []) AS r (objid)
    INNER JOIN pg_catalog.pg_class AS c ON r.objid OPERATOR(pg_catalog.=) c.oid
    UNION ALL
    SELECT 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid, p.oid, p.pronamespace, p.proname
    FROM pg_catalog.unnest(%(routines)s::pg_catalog.int8 []::pg_catalog.oid []) AS r (objid)
    INNER JOIN pg_catalog.pg_proc AS p ON r.objid OPERATOR(pg_catalog.=) p.oid
),

gone AS (
    SELECT i.classid, i.objid
    FROM (
        SELECT
            pg_catalog.unnest(%(gone_schemas)s::pg_catalog.name []) AS schema,
            pg_catalog.unnest(%(gone_names)s::pg_catalog.name []) AS name
    ) AS g
    INNER JOIN pg_catalog.pg_namespace AS n ON g.schema OPERATOR(pg_catalog.=) n.nspname
    INNER JOIN inside AS i
        ON n.oid OPERATOR(pg_catalog.=) i.namespace AND g.name OPERATOR(pg_catalog.=) i.name
),

referred AS (
    SELECT i.classid, i.objid FROM inside AS i
    UNION ALL
    SELECT 'pg_catalog.pg_type'::pg_catalog.regclass::pg_catalog.oid, t.oid
    FROM inside AS i
    INNER JOIN pg_catalog.pg_class AS c ON i.objid OPERATOR(pg_catalog.=) c.oid
    INNER JOIN pg_catalog.pg_type AS o ON c.reltype OPERATOR(pg_catalog.=) o.oid
    INNER JOIN pg_catalog.pg_type AS t
        ON o.oid OPERATOR(pg_catalog.=) t.oid OR o.typarray OPERATOR(pg_catalog.=) t.oid
    WHERE i.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
),

found AS (
    SELECT
        CASE
            WHEN r.oid IS NULL THEN d.classid
            ELSE 'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid
        END AS classid,
        COALESCE(r.ev_class, d.objid) AS objid,
        pg_catalog.bool_or(
            d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_type'::pg_catalog.regclass
        ) AS through_type,
        -- What leaves the project has nothing that takes its place.
        pg_catalog.bool_or(g.objid IS NOT NULL) AS on_gone
    FROM referred AS f
    INNER JOIN pg_catalog.pg_depend AS d
        ON f.classid OPERATOR(pg_catalog.=) d.refclassid AND f.objid OPERATOR(pg_catalog.=) d.refobjid
    LEFT JOIN pg_catalog.pg_rewrite AS r
        ON
            d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
            AND d.objid OPERATOR(pg_catalog.=) r.oid
    LEFT JOIN gone AS g
        ON f.classid OPERATOR(pg_catalog.=) g.classid AND f.objid OPERATOR(pg_catalog.=) g.objid
    WHERE d.deptype OPERATOR(pg_catalog.=) ANY ('{n,a}'::pg_catalog."char" [])
    GROUP BY 1, 2
),

parked AS (
    SELECT n.nspname
    FROM reconciler.generation_schemas AS s
    INNER JOIN pg_catalog.pg_namespace AS n
        ON
            (s.staging_oid OPERATOR(pg_catalog.=) n.oid AND s.staging_name OPERATOR(pg_catalog.=) n.nspname)
            OR (s.live_oid OPERATOR(pg_catalog.=) n.oid AND s.old_name OPERATOR(pg_catalog.=) n.nspname)
)

SELECT
    pg_catalog.pg_describe_object(f.classid, f.objid, 0) AS identity,
    NOT f.on_gone AND COALESCE(
        c.relkind OPERATOR(pg_catalog.=) 'v' OR (p.prosqlbody IS NOT NULL AND NOT f.through_type), FALSE
    ) AS is_bound_anew
FROM found AS f
LEFT JOIN pg_catalog.pg_class AS c
    ON
        f.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
        AND f.objid OPERATOR(pg_catalog.=) c.oid
LEFT JOIN pg_catalog.pg_proc AS p
    ON
        f.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
        AND f.objid OPERATOR(pg_catalog.=) p.oid
LEFT JOIN pg_catalog.pg_namespace AS n
    ON n.oid OPERATOR(pg_catalog.=) COALESCE(c.relnamespace, p.pronamespace)
WHERE
    NOT EXISTS (
        SELECT FROM inside AS i
        LEFT JOIN pg_catalog.pg_index AS x ON f.objid OPERATOR(pg_catalog.=) x.indexrelid
        WHERE
            i.classid OPERATOR(pg_catalog.=) f.classid
            AND i.objid OPERATOR(pg_catalog.=) ANY (ARRAY[f.objid, x.indrelid])
    )
    AND (
        n.nspname IS NULL
        OR (
            n.nspname OPERATOR(pg_catalog.<>) ALL (%(displaced)s::pg_catalog.name [])
            AND NOT (
                n.nspname OPERATOR(pg_catalog.=) ANY (%(own)s::pg_catalog.name [])
                AND EXISTS (
                    SELECT FROM reconciler.live_schemas AS l
                    INNER JOIN reconciler.generation_objects AS o
                        ON
                            l.generation OPERATOR(pg_catalog.=) o.generation
                            AND l.schema OPERATOR(pg_catalog.=) o.schema
                    WHERE
                        l.schema OPERATOR(pg_catalog.=) n.nspname
                        AND f.objid OPERATOR(pg_catalog.=) ANY (o.oids)
                )
            )
            AND n.nspname OPERATOR(pg_catalog.<>) 'pg_toast'
            AND n.nspname OPERATOR(pg_catalog.<>) ALL (ARRAY(SELECT w.nspname FROM parked AS w))
        )
    )
ORDER BY identity
LIMIT %(limit)s;

-- name: changed_by_hand :many
-- Finds what a switch would find by hand in schemas that are live: objects that were altered or dropped, and owners
-- and grants that were given.
WITH live AS (
    SELECT l.schema, l.generation, n.oid AS namespace
    FROM reconciler.live_schemas AS l
    INNER JOIN pg_catalog.pg_namespace AS n ON l.schema OPERATOR(pg_catalog.=) n.nspname
    WHERE l.schema OPERATOR(pg_catalog.=) ANY (%(live)s) AND l.generation IS NOT NULL
),

moved AS MATERIALIZED (
    SELECT o.generation, o.schema, o.name, o.sort, o.fingerprint, o.acl
    FROM live AS l
    INNER JOIN reconciler.generation_objects AS o
        ON l.generation OPERATOR(pg_catalog.=) o.generation AND l.schema OPERATOR(pg_catalog.=) o.schema
    LEFT JOIN reconciler.object_versions(ARRAY(SELECT DISTINCT d.generation FROM live AS d)) AS v
        ON
            o.generation OPERATOR(pg_catalog.=) v.generation AND o.schema OPERATOR(pg_catalog.=) v.schema
            AND o.name OPERATOR(pg_catalog.=) v.name
    WHERE o.action OPERATOR(pg_catalog.<>) 'retire' AND o.version IS DISTINCT FROM v.version
),

found AS MATERIALIZED (
    SELECT
        pg_catalog.format('%%s %%I.%%I', m.sort, m.schema, m.name) AS subject,
        m.fingerprint AS recorded, d.fingerprint, m.acl AS given, d.acl
    FROM moved AS m
    LEFT JOIN LATERAL reconciler.object_details(m.generation, ARRAY[m.schema], ARRAY[m.name]) AS d ON TRUE
)

SELECT 'altered' AS kind, f.subject, CASE WHEN f.fingerprint IS NULL THEN 'dropped' ELSE '' END AS detail
FROM found AS f
WHERE f.recorded IS DISTINCT FROM f.fingerprint
UNION ALL
SELECT 'grant' AS kind, f.subject, pg_catalog.replace(a.line, E'\t', ' ') AS detail
FROM found AS f
CROSS JOIN LATERAL (
    SELECT pg_catalog.unnest(f.acl) AS line
    EXCEPT
    SELECT pg_catalog.unnest(f.given) AS line
) AS a
UNION ALL
SELECT
    'grant' AS kind, 'schema ' OPERATOR(pg_catalog.||) pg_catalog.quote_ident(l.schema) AS subject,
    pg_catalog.replace(a.line, E'\t', ' ') AS detail
FROM live AS l
INNER JOIN reconciler.generation_schemas AS s
    ON l.generation OPERATOR(pg_catalog.=) s.generation AND l.schema OPERATOR(pg_catalog.=) s.schema
CROSS JOIN LATERAL (
    SELECT pg_catalog.unnest(reconciler.schema_acl(l.namespace)) AS line
    EXCEPT
    SELECT pg_catalog.unnest(s.acl) AS line
) AS a
WHERE
    l.schema OPERATOR(pg_catalog.=) ANY (%(displaced)s)
    AND s.version IS DISTINCT FROM (
        SELECT v.version FROM reconciler.schema_versions(ARRAY[l.namespace]) AS v
    )
ORDER BY kind, subject, detail
LIMIT %(limit)s;
