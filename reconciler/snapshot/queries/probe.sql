-- noqa: disable=LT01
-- The linter takes EXISTS in a list of columns for a function call.

-- name: probe :many
-- A hash over each part of what DDL leaves in the catalogs, whatever the order of rows, NULL for a part without
-- rows; and what may be there of what `probe_more` looks for, so that nobody opens catalogs that have none.
-- Rows are known by their key and xmin. Relations are known by content, so that TRUNCATE, REFRESH and VACUUM
-- FULL, which rewrite their rows, do not count; roles by name, since renaming one touches no other row.
-- Left out: what belongs to temporary relations, which come and go, and to our own schemas. Those are named
-- again, and not by reference, in the branch on columns: only so can the biggest catalog be read in parallel.
-- They are found through pg_depend, which has an index for it; relations and types have none by schema.
WITH
hidden_schema AS MATERIALIZED (
    SELECT oid FROM pg_catalog.pg_namespace
    WHERE nspname IN ('reconciler', 'reconciler_control') OR nspname ~ '^pg_(toast_)?temp_'
),
hidden AS MATERIALIZED (
    SELECT oid FROM hidden_schema
    UNION ALL
    SELECT u.oid
    FROM hidden_schema AS n
    INNER JOIN pg_catalog.pg_depend AS d
        ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND n.oid = d.refobjid
    LEFT JOIN pg_catalog.pg_class AS c ON d.objid = c.oid AND d.classid = 'pg_catalog.pg_class'::regclass
    LEFT JOIN pg_catalog.pg_index AS i ON i.indrelid IN (c.oid, c.reltoastrelid)
    CROSS JOIN unnest(
        ARRAY[d.objid, coalesce(c.reltoastrelid, d.objid), coalesce(i.indexrelid, d.objid)]
    ) AS u (oid)
    UNION ALL
    SELECT k.oid
    FROM hidden_schema AS n
    INNER JOIN pg_catalog.pg_depend AS d
        ON
            d.refclassid = 'pg_catalog.pg_namespace'::regclass AND n.oid = d.refobjid
            AND d.classid = 'pg_catalog.pg_class'::regclass
    INNER JOIN pg_catalog.pg_constraint AS k ON d.objid = k.conrelid
),
this AS MATERIALIZED (
    SELECT
        d.oid, d.datdba, d.datacl,
        -- A function would say so too, and would be planned by itself.
        (
            SELECT s.description FROM pg_catalog.pg_shdescription AS s
            WHERE s.objoid = d.oid AND s.classoid = 'pg_catalog.pg_database'::regclass
        ) AS note
    FROM pg_catalog.pg_database AS d
    WHERE d.datname = pg_catalog.current_database()
)
SELECT
    'columns' AS name, sum(hash_record_extended(ROW(attrelid, attnum, xmin), 0))::text AS hash,
    CASE WHEN bool_or(atthasdef) THEN 'defaults' END AS also
FROM pg_catalog.pg_attribute
WHERE
    attrelid >= 16384 AND attnum > 0
    AND attrelid NOT IN (
        SELECT u.oid
        FROM pg_catalog.pg_namespace AS n
        INNER JOIN pg_catalog.pg_depend AS d
            ON
                d.refclassid = 'pg_catalog.pg_namespace'::regclass AND n.oid = d.refobjid
                AND d.classid = 'pg_catalog.pg_class'::regclass
        INNER JOIN pg_catalog.pg_class AS c ON d.objid = c.oid
        LEFT JOIN pg_catalog.pg_index AS i ON i.indrelid IN (c.oid, c.reltoastrelid)
        CROSS JOIN unnest(ARRAY[c.oid, c.reltoastrelid, coalesce(i.indexrelid, c.oid)]) AS u (oid)
        WHERE n.nspname IN ('reconciler', 'reconciler_control') OR n.nspname ~ '^pg_(toast_)?temp_'
    )
UNION ALL
SELECT
    'relations', sum(hash_record_extended(ROW(
        oid, relname, relnamespace, relowner, relam, reltablespace, relpersistence, reloftype,
        relrowsecurity, relforcerowsecurity, relreplident, relacl, reloptions
    ), 0))::text,
    -- These flags outlive what they tell of, and never come after it.
    concat_ws(
        ',',
        CASE WHEN bool_or(relhastriggers) THEN 'triggers' END,
        CASE WHEN bool_or(relhasrules) THEN 'rules' END,
        CASE WHEN bool_or(relhassubclass) THEN 'inherits' END,
        CASE WHEN bool_or(relkind = 'S') THEN 'sequences' END,
        CASE WHEN bool_or(relkind = 'f') THEN 'foreign tables' END,
        CASE WHEN bool_or(relkind = 'c') THEN 'composites' END
    )
FROM pg_catalog.pg_class
WHERE
    oid >= 16384 AND relnamespace NOT IN (SELECT oid FROM hidden_schema)
    AND (relnamespace <> 'pg_toast'::regnamespace OR (relkind = 't' AND reloptions IS NOT NULL))
UNION ALL
SELECT 'indexes', sum(hash_record_extended(ROW(indexrelid, xmin), 0))::text, NULL
FROM pg_catalog.pg_index
WHERE indrelid >= 16384 AND indrelid NOT IN (SELECT oid FROM hidden)
UNION ALL
SELECT 'constraints', sum(hash_record_extended(ROW(oid, xmin), 0))::text, NULL
FROM pg_catalog.pg_constraint
WHERE
    oid >= 16384 AND connamespace NOT IN (SELECT oid FROM hidden_schema)
    -- A plain not-null constraint is in its column's row; there is one to most columns since version 18.
    AND (contype <> 'n' OR connoinherit OR NOT convalidated)
UNION ALL
SELECT
    'routines', sum(hash_record_extended(ROW(oid, xmin), 0))::text,
    CASE WHEN bool_or(prokind = 'a') THEN 'aggregates' END
FROM pg_catalog.pg_proc
WHERE oid >= 16384 AND pronamespace NOT IN (SELECT oid FROM hidden_schema)
UNION ALL
SELECT
    'types', sum(hash_record_extended(ROW(oid, xmin), 0))::text,
    concat_ws(
        ',',
        CASE WHEN bool_or(typtype = 'e') THEN 'labels' END,
        CASE WHEN bool_or(typtype = 'r') THEN 'ranges' END
    )
FROM pg_catalog.pg_type
WHERE
    oid >= 16384 AND typnamespace NOT IN (SELECT oid FROM hidden_schema)
    -- Of composites, all that no other row tells is who may use them; arrays follow their items.
    AND typcategory <> 'A' AND (typtype <> 'c' OR typacl IS NOT NULL)
UNION ALL
SELECT 'comments', sum(hash_record_extended(ROW(classoid, objoid, objsubid, xmin), 0))::text, NULL
FROM pg_catalog.pg_description
WHERE
    -- Schemas may be the server's own: by number, for only so is the index of use to find few among many.
    (
        objoid >= 16384
        OR (
            objoid = ANY(ARRAY(SELECT oid FROM pg_catalog.pg_namespace WHERE oid < 16384))
            AND classoid = 'pg_catalog.pg_namespace'::regclass
        )
    )
    AND objoid NOT IN (SELECT oid FROM hidden)
UNION ALL
SELECT 'schemas', sum(hash_record_extended(ROW(oid, xmin), 0))::text, NULL
FROM pg_catalog.pg_namespace
WHERE nspname !~ '^pg_' AND oid NOT IN (SELECT oid FROM hidden_schema)
UNION ALL
SELECT 'extensions', sum(hash_record_extended(ROW(oid, xmin), 0))::text, NULL FROM pg_catalog.pg_extension
UNION ALL
SELECT
    'members', sum(hash_record_extended(ROW(classid, objid, refobjid), 0))::text,
    -- What no definition depends on lends its name to none.
    CASE
        WHEN EXISTS (
            SELECT FROM pg_catalog.pg_depend AS d
            WHERE
                (
                    d.objid >= 16384 AND d.classid IN (
                        'pg_catalog.pg_collation'::regclass, 'pg_catalog.pg_operator'::regclass,
                        'pg_catalog.pg_opclass'::regclass, 'pg_catalog.pg_ts_config'::regclass
                    )
                )
                OR (
                    d.refobjid >= 16384 AND d.refclassid IN (
                        'pg_catalog.pg_collation'::regclass, 'pg_catalog.pg_operator'::regclass,
                        'pg_catalog.pg_opclass'::regclass, 'pg_catalog.pg_ts_config'::regclass
                    )
                )
        ) THEN 'collations,operators,operator classes,text search'
    END
FROM pg_catalog.pg_depend
WHERE refclassid = 'pg_catalog.pg_extension'::regclass AND deptype = 'e'
UNION ALL
SELECT 'languages', sum(hash_record_extended(ROW(oid, lanname), 0))::text, NULL FROM pg_catalog.pg_language
UNION ALL
SELECT 'access methods', sum(hash_record_extended(ROW(oid, amname), 0))::text, NULL FROM pg_catalog.pg_am
UNION ALL
SELECT 'tablespaces', sum(hash_record_extended(ROW(oid, spcname), 0))::text, NULL
FROM pg_catalog.pg_tablespace
UNION ALL
SELECT 'roles', sum(hash_record_extended(ROW(oid, rolname), 0))::text, NULL
FROM pg_catalog.pg_roles
WHERE
    oid < 16384 OR oid IN (
        SELECT d.refobjid
        FROM pg_catalog.pg_shdepend AS d, this
        WHERE
            d.refclassid = 'pg_catalog.pg_authid'::regclass
            AND (
                (d.dbid = 0 AND d.classid = 'pg_catalog.pg_database'::regclass AND d.objid = this.oid)
                OR (
                    d.dbid = this.oid
                    -- Not large objects, of which there may be millions.
                    AND d.classid <> 'pg_catalog.pg_largeobject'::regclass
                    AND d.objid NOT IN (SELECT oid FROM hidden)
                )
            )
    )
    OR oid IN (
        SELECT s.setrole FROM pg_catalog.pg_db_role_setting AS s, this
        WHERE s.setdatabase = this.oid
    )
UNION ALL
SELECT 'settings', sum(hash_record_extended(ROW(s.setrole, s.setconfig), 0))::text, NULL
FROM pg_catalog.pg_db_role_setting AS s, this
WHERE s.setdatabase = this.oid
UNION ALL
SELECT
    'database', hash_record_extended(ROW(oid, datdba, datacl, note), 0)::numeric::text,
    -- Catalogs that never had a row have no page.
    concat_ws(
        ',',
        CASE WHEN pg_relation_size('pg_catalog.pg_policy', 'main') > 0 THEN 'policies' END,
        CASE WHEN pg_relation_size('pg_catalog.pg_default_acl', 'main') > 0 THEN 'default privileges' END,
        CASE WHEN pg_relation_size('pg_catalog.pg_event_trigger', 'main') > 0 THEN 'event triggers' END,
        CASE WHEN pg_relation_size('pg_catalog.pg_publication', 'main') > 0 THEN 'publications' END,
        CASE WHEN pg_relation_size('pg_catalog.pg_publication_rel', 'main') > 0 THEN 'published tables' END,
        CASE
            WHEN pg_relation_size('pg_catalog.pg_publication_namespace', 'main') > 0 THEN 'published schemas'
        END,
        CASE WHEN pg_relation_size('pg_catalog.pg_foreign_server', 'main') > 0 THEN 'foreign servers' END
    )
FROM this;

-- name: probe_more :many
-- The same of what a database may have none of: the parts that are marked are asked for one by one.
WITH
hidden_schema AS MATERIALIZED (
    SELECT oid FROM pg_catalog.pg_namespace
    WHERE nspname IN ('reconciler', 'reconciler_control') OR nspname ~ '^pg_(toast_)?temp_'
),
hidden AS MATERIALIZED (
    SELECT oid FROM hidden_schema
    UNION ALL
    SELECT u.oid
    FROM hidden_schema AS n
    INNER JOIN pg_catalog.pg_depend AS d
        ON d.refclassid = 'pg_catalog.pg_namespace'::regclass AND n.oid = d.refobjid
    LEFT JOIN pg_catalog.pg_class AS c ON d.objid = c.oid AND d.classid = 'pg_catalog.pg_class'::regclass
    LEFT JOIN pg_catalog.pg_index AS i ON i.indrelid IN (c.oid, c.reltoastrelid)
    CROSS JOIN unnest(
        ARRAY[d.objid, coalesce(c.reltoastrelid, d.objid), coalesce(i.indexrelid, d.objid)]
    ) AS u (oid)
)
-- part: labels
SELECT 'labels' AS name, sum(hash_record_extended(ROW(oid, xmin), 0))::text AS hash
FROM pg_catalog.pg_enum
WHERE enumtypid NOT IN (SELECT oid FROM hidden)
UNION ALL
-- part: defaults
SELECT 'defaults', sum(hash_record_extended(ROW(adrelid, adnum, xmin), 0))::text
FROM pg_catalog.pg_attrdef
WHERE adrelid NOT IN (SELECT oid FROM hidden)
UNION ALL
-- part: triggers
SELECT 'triggers', sum(hash_record_extended(ROW(oid, xmin), 0))::text
FROM pg_catalog.pg_trigger
WHERE NOT tgisinternal AND tgrelid NOT IN (SELECT oid FROM hidden)
UNION ALL
-- part: rules
SELECT 'rules', sum(hash_record_extended(ROW(oid, xmin), 0))::text
FROM pg_catalog.pg_rewrite
WHERE oid >= 16384 AND ev_class NOT IN (SELECT oid FROM hidden)
UNION ALL
-- part: policies
SELECT 'policies', sum(hash_record_extended(ROW(oid, xmin), 0))::text
FROM pg_catalog.pg_policy
WHERE polrelid NOT IN (SELECT oid FROM hidden)
UNION ALL
-- part: sequences
SELECT 'sequences', sum(hash_record_extended(ROW(seqrelid, xmin), 0))::text
FROM pg_catalog.pg_sequence
WHERE seqrelid NOT IN (SELECT oid FROM hidden)
UNION ALL
-- part: inherits
SELECT 'inherits', sum(hash_record_extended(ROW(inhrelid, inhparent, inhseqno, xmin), 0))::text
FROM pg_catalog.pg_inherits
WHERE inhrelid NOT IN (SELECT oid FROM hidden)
UNION ALL
-- part: default privileges
SELECT 'default privileges', sum(hash_record_extended(ROW(oid, xmin), 0))::text FROM pg_catalog.pg_default_acl
UNION ALL
-- part: event triggers
SELECT 'event triggers', sum(hash_record_extended(ROW(oid, xmin), 0))::text FROM pg_catalog.pg_event_trigger
UNION ALL
-- part: publications
SELECT 'publications', sum(hash_record_extended(ROW(oid, xmin), 0))::text FROM pg_catalog.pg_publication
UNION ALL
-- part: published tables
SELECT 'published tables', sum(hash_record_extended(ROW(oid, xmin), 0))::text
FROM pg_catalog.pg_publication_rel
UNION ALL
-- part: published schemas
SELECT 'published schemas', sum(hash_record_extended(ROW(oid, xmin), 0))::text
FROM pg_catalog.pg_publication_namespace
UNION ALL
-- part: foreign tables
SELECT 'foreign tables', sum(hash_record_extended(ROW(ftrelid, xmin), 0))::text
FROM pg_catalog.pg_foreign_table
UNION ALL
-- part: foreign servers
SELECT 'foreign servers', sum(hash_record_extended(ROW(oid, srvname), 0))::text
FROM pg_catalog.pg_foreign_server
UNION ALL
-- part: aggregates
SELECT 'aggregates', sum(hash_record_extended(ROW(aggfnoid::oid, xmin), 0))::text
FROM pg_catalog.pg_aggregate
WHERE aggfnoid::oid >= 16384
UNION ALL
-- part: ranges
SELECT 'ranges', sum(hash_record_extended(ROW(rngtypid, xmin), 0))::text
FROM pg_catalog.pg_range
WHERE rngtypid >= 16384
UNION ALL
-- part: collations
SELECT 'collations', sum(hash_record_extended(ROW(oid, collname, collnamespace), 0))::text
FROM pg_catalog.pg_collation
WHERE oid >= 16384
UNION ALL
-- part: operators
SELECT 'operators', sum(hash_record_extended(ROW(oid, oprname, oprnamespace), 0))::text
FROM pg_catalog.pg_operator
WHERE oid >= 16384
UNION ALL
-- part: operator classes
SELECT 'operator classes', sum(hash_record_extended(ROW(oid, opcname, opcnamespace, opcdefault), 0))::text
FROM pg_catalog.pg_opclass
WHERE oid >= 16384
UNION ALL
-- part: text search
SELECT 'text search', sum(hash_record_extended(ROW(oid, cfgname, cfgnamespace), 0))::text
FROM pg_catalog.pg_ts_config
WHERE oid >= 16384;
