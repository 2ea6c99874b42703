-- noqa: disable=LT01
-- The linter takes OPERATOR(…) for a function call.

-- name: rights_for_objects :one
-- Reads as whom we are connected and whether that may make schemas.
SELECT
    current_user::pg_catalog.text AS role,
    pg_catalog.current_database()::pg_catalog.text AS database,
    pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE') AS may_create;

-- name: schemas_for_objects :many
-- Reads which schemas of some names there are, who owns them, and whether we act as the owner.
SELECT
    n.nspname::pg_catalog.text AS name,
    o.rolname::pg_catalog.text AS owner,
    pg_catalog.pg_has_role(o.oid, 'USAGE') AS owned
FROM pg_catalog.pg_namespace AS n
INNER JOIN pg_catalog.pg_roles AS o ON n.nspowner OPERATOR(pg_catalog.=) o.oid
WHERE n.nspname OPERATOR(pg_catalog.=) ANY (%(names)s::pg_catalog.name [])
ORDER BY n.nspname;

-- name: contents_for_objects :many
-- Reads all that stands in schemas, of whatever kind, and which extension it belongs to.
SELECT
    n.nspname::pg_catalog.text AS schema,
    d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass AS routine,
    d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass AS relation,
    d.objid::pg_catalog.int8 AS oid,
    pg_catalog.pg_describe_object(d.classid, d.objid, 0) AS description,
    e.extname::pg_catalog.text AS extension
FROM pg_catalog.pg_namespace AS n
INNER JOIN pg_catalog.pg_depend AS d
    ON
        d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
        AND n.oid OPERATOR(pg_catalog.=) d.refobjid
        AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_default_acl'::pg_catalog.regclass
LEFT JOIN pg_catalog.pg_depend AS m
    ON
        d.classid OPERATOR(pg_catalog.=) m.classid
        AND d.objid OPERATOR(pg_catalog.=) m.objid
        AND m.deptype OPERATOR(pg_catalog.=) 'e'
LEFT JOIN pg_catalog.pg_extension AS e ON m.refobjid OPERATOR(pg_catalog.=) e.oid
WHERE n.nspname OPERATOR(pg_catalog.=) ANY (%(names)s::pg_catalog.name [])
ORDER BY n.nspname, description
LIMIT %(limit)s;

-- name: missing_relations :many
-- Names the relations of a list that are not there, or that we may not read.
SELECT w.schema, w.name, c.oid IS NULL AS missing
FROM (
    SELECT
        pg_catalog.unnest(%(schemas)s::pg_catalog.text []) AS schema,
        pg_catalog.unnest(%(names)s::pg_catalog.text []) AS name
) AS w
LEFT JOIN pg_catalog.pg_namespace AS n ON w.schema OPERATOR(pg_catalog.=) n.nspname
LEFT JOIN pg_catalog.pg_class AS c
    ON
        n.oid OPERATOR(pg_catalog.=) c.relnamespace
        AND w.name OPERATOR(pg_catalog.=) c.relname
        AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,v,m,f}'::pg_catalog."char" [])
WHERE c.oid IS NULL OR NOT pg_catalog.has_table_privilege(c.oid, 'SELECT')
ORDER BY w.schema, w.name;

-- name: missing_roles :many
-- Names the roles of a list that are not there.
SELECT w.name
FROM pg_catalog.unnest(%(names)s::pg_catalog.text []) AS w (name)
LEFT JOIN pg_catalog.pg_roles AS r ON w.name OPERATOR(pg_catalog.=) r.rolname
WHERE r.oid IS NULL AND w.name OPERATOR(pg_catalog.<>) 'public'
ORDER BY w.name;

-- name: all_schemas :many
-- Names all schemas of the database, and says which of them hold nothing.
SELECT
    n.nspname::pg_catalog.text AS name,
    NOT EXISTS (
        SELECT FROM pg_catalog.pg_depend AS d
        WHERE
            d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass
            AND d.refobjid OPERATOR(pg_catalog.=) n.oid
            AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_default_acl'::pg_catalog.regclass
    ) AS is_empty
FROM pg_catalog.pg_namespace AS n
ORDER BY n.nspname;

-- name: columns_for_objects :many
-- Reads the columns of relations of a list, with their types as people write them.
SELECT
    n.nspname::pg_catalog.text AS schema,
    c.relname::pg_catalog.text AS relation,
    a.attname::pg_catalog.text AS name,
    pg_catalog.format_type(a.atttypid, a.atttypmod) AS type
FROM (
    SELECT
        pg_catalog.unnest(%(schemas)s::pg_catalog.text []) AS schema,
        pg_catalog.unnest(%(names)s::pg_catalog.text []) AS name
) AS w
INNER JOIN pg_catalog.pg_namespace AS n ON w.schema OPERATOR(pg_catalog.=) n.nspname
INNER JOIN pg_catalog.pg_class AS c
    ON
        n.oid OPERATOR(pg_catalog.=) c.relnamespace
        AND w.name OPERATOR(pg_catalog.=) c.relname
        AND c.relkind OPERATOR(pg_catalog.=) ANY ('{v,m}'::pg_catalog."char" [])
INNER JOIN pg_catalog.pg_attribute AS a
    ON c.oid OPERATOR(pg_catalog.=) a.attrelid AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
ORDER BY n.nspname, c.relname, a.attnum;

-- name: signatures_for_objects :many
-- Reads the overloads of routines of a list: types, parameters and results as people write them.
SELECT
    n.nspname::pg_catalog.text AS schema,
    p.proname::pg_catalog.text AS name,
    pg_catalog.oidvectortypes(p.proargtypes) AS types,
    pg_catalog.pg_get_function_identity_arguments(p.oid) AS parameters,
    COALESCE(pg_catalog.pg_get_function_result(p.oid), '') AS result,
    p.pronargdefaults::pg_catalog.int4 AS defaults
FROM (
    SELECT
        pg_catalog.unnest(%(schemas)s::pg_catalog.text []) AS schema,
        pg_catalog.unnest(%(names)s::pg_catalog.text []) AS name
) AS w
INNER JOIN pg_catalog.pg_namespace AS n ON w.schema OPERATOR(pg_catalog.=) n.nspname
INNER JOIN pg_catalog.pg_proc AS p
    ON n.oid OPERATOR(pg_catalog.=) p.pronamespace AND w.name OPERATOR(pg_catalog.=) p.proname
ORDER BY n.nspname, p.proname, types;
