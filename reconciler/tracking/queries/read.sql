-- noqa: disable=LT01
-- The linter takes OPERATOR(…) for a function call.

-- name: find_tracking :one
-- Says whether the tracking schema is there, whether this role may look into it, whether it is of a version that
-- notes unfinished changes, and whether schemas of SQL objects were ever noted in it.
SELECT
    n.oid IS NOT NULL,
    COALESCE(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), FALSE),
    COALESCE(pg_catalog.has_table_privilege(c.oid, 'SELECT'), FALSE),
    COALESCE((
        SELECT pg_catalog.count(*) OPERATOR(pg_catalog.=) 4
        FROM pg_catalog.pg_attribute AS a
        WHERE
            a.attrelid OPERATOR(pg_catalog.=) c.oid
            AND NOT a.attisdropped
            AND a.attname OPERATOR(pg_catalog.=) ANY ('{number,name,sha256,applied_at}'::pg_catalog.name [])
    ), FALSE),
    EXISTS (
        SELECT FROM pg_catalog.pg_class AS u
        WHERE
            u.relnamespace OPERATOR(pg_catalog.=) n.oid
            AND u.relname OPERATOR(pg_catalog.=) 'unfinished'
    ),
    COALESCE((
        SELECT pg_catalog.pg_relation_size(o.oid) OPERATOR(pg_catalog.>) 0
        FROM pg_catalog.pg_class AS o
        WHERE
            o.relnamespace OPERATOR(pg_catalog.=) n.oid
            AND o.relname OPERATOR(pg_catalog.=) 'live_schemas'
    ), FALSE)
FROM (SELECT 1) AS always
LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname OPERATOR(pg_catalog.=) 'reconciler'
LEFT JOIN pg_catalog.pg_class AS c
    ON
        n.oid OPERATOR(pg_catalog.=) c.relnamespace
        AND c.relname OPERATOR(pg_catalog.=) 'migrations'
        AND c.relkind OPERATOR(pg_catalog.=) 'r';

-- name: read_tracked :many
-- Reads everything tracked but the objects of the base line, as one statement sees it: a row for each change,
-- a row without a change for a module that has none left, and one without a project, whose array holds
-- version, moving, system identifier, database oid, server major, algorithm, probe, whose the modules are
-- (as JSON, for an older version of the schema lacks those columns), whether a living writer has the fence, and
-- its epoch where nobody has it. Sorting by position alone costs a tenth of sorting by project first.
SELECT
    NULL AS project, NULL AS component, NULL AS change_id, NULL AS name, NULL AS script_hash,
    NULL AS parse_hash, NULL::pg_catalog.int8 AS "position",
    ARRAY[
        (SELECT pg_catalog.max(g.number)::pg_catalog.text FROM reconciler.migrations AS g),
        b.moving::pg_catalog.text, b.system_identifier, b.database_oid::pg_catalog.text,
        b.server_major::pg_catalog.text, b.algorithm::pg_catalog.text, b.probe,
        (
            SELECT
                pg_catalog.jsonb_object_agg(
                    o.project,
                    pg_catalog.jsonb_build_array(
                        j.whose -> 'environment', j.whose -> 'deployment', j.whose -> 'late'
                    )
                )::pg_catalog.text
            FROM reconciler.modules AS o
            CROSS JOIN LATERAL (SELECT pg_catalog.to_jsonb(o) AS whose) AS j
        ),
        (
            SELECT
                EXISTS (
                    SELECT FROM pg_catalog.pg_locks AS l
                    INNER JOIN pg_catalog.pg_database AS d ON l.database OPERATOR(pg_catalog.=) d.oid
                    WHERE
                        l.locktype OPERATOR(pg_catalog.=) 'advisory'
                        AND l.classid OPERATOR(pg_catalog.=) 1380206158::pg_catalog.oid
                        AND l.objid OPERATOR(pg_catalog.=) 1::pg_catalog.oid
                        AND l.objsubid OPERATOR(pg_catalog.=) 2::pg_catalog.int2
                        AND l.mode OPERATOR(pg_catalog.=) 'ExclusiveLock'
                        AND l.granted
                        AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()
                )::pg_catalog.text
            FROM reconciler.fence AS f
            WHERE f.held
        ),
        (SELECT f.epoch::pg_catalog.text FROM reconciler.fence AS f WHERE NOT f.held)
    ] AS tags
FROM (SELECT 1) AS always
LEFT JOIN reconciler.base_line AS b ON b.one
UNION ALL
SELECT
    m.project, m.component, c.change_id, c.name, c.script_hash, c.parse_hash, c."position", t.names
FROM reconciler.modules AS m
LEFT JOIN reconciler.changes AS c ON m.project OPERATOR(pg_catalog.=) c.project
LEFT JOIN (
    SELECT g.change_id, pg_catalog.array_agg(g.name ORDER BY g.planned_at, g.name) AS names
    FROM reconciler.tags AS g
    GROUP BY g.change_id
) AS t ON c.change_id OPERATOR(pg_catalog.=) t.change_id
ORDER BY 7;

-- name: read_unfinished :many
-- Reads the changes outside of transactions that were begun and are not recorded as deployed.
SELECT
    u.change_id, u.project, u.name, u.script_hash, u.done, u.running, u.transaction_id, u.there_before,
    u.words
FROM reconciler.unfinished AS u;

-- name: read_base_line_objects :many
-- Reads the objects of the base line whole, to say what differs.
SELECT o.kind, o.name, o.definition, o.fingerprint FROM reconciler.base_line_objects AS o;

-- name: read_log :many
-- Reads the newest events, of one project, change or kind, or of all.
SELECT
    e.event_id, e.kind::pg_catalog.text, e.project, e.change_id, e.name, e.note, e.requires, e.conflicts,
    e.tags,
    e.occurred_at, e.actor, e.commit, e.operation, e.sqlstate, e.message, e.file, e.line
FROM reconciler.events AS e
WHERE
    (%(project)s::pg_catalog.text IS NULL OR e.project OPERATOR(pg_catalog.=) %(project)s)
    AND (%(kind)s::pg_catalog.text IS NULL OR e.kind::pg_catalog.text OPERATOR(pg_catalog.=) %(kind)s)
    AND (
        %(change)s::pg_catalog.text IS NULL
        OR e.name OPERATOR(pg_catalog.=) %(change)s
        OR pg_catalog.starts_with(e.name, %(change)s || '@')
    )
ORDER BY e.event_id DESC
LIMIT %(limit)s;

-- name: read_verify_scripts :many
-- Reads the verify scripts that were stored with some changes.
SELECT c.change_id, c.verify_script
FROM reconciler.changes AS c
WHERE c.change_id OPERATOR(pg_catalog.=) ANY (%(ids)s::pg_catalog.text []) AND c.verify_script IS NOT NULL;

-- name: read_revertible :many
-- Reads the scripts of deployed changes and what the changes required, to plan what may be taken back.
SELECT
    c.change_id, c.revert_script, c.verify_script,
    ARRAY(
        SELECT d.dependency FROM reconciler.dependencies AS d
        WHERE d.change_id OPERATOR(pg_catalog.=) c.change_id AND d.kind OPERATOR(pg_catalog.=) 'require'
        ORDER BY d.dependency
    ) AS requires,
    ARRAY(
        SELECT d.dependency_id FROM reconciler.dependencies AS d
        WHERE
            d.change_id OPERATOR(pg_catalog.=) c.change_id AND d.dependency_id IS NOT NULL
        ORDER BY d.dependency_id
    ) AS requires_ids
FROM reconciler.changes AS c;
