-- name: schemas :many
-- The least that any reader of a whole catalog must ask for: one plain set-wise query per kind, columns as they are.
SELECT nspname, pg_get_userbyid(nspowner), nspacl::text
FROM pg_namespace
WHERE nspname !~ '^pg_' AND nspname <> 'information_schema';

-- name: extensions :many
SELECT x.extname, n.nspname FROM pg_extension AS x INNER JOIN pg_namespace AS n ON x.extnamespace = n.oid;

-- name: relations :many
SELECT
    n.nspname, c.relname, c.relkind, pg_get_userbyid(c.relowner), c.relacl::text, c.reloptions::text,
    c.relpersistence, c.relrowsecurity, c.relforcerowsecurity, c.relreplident,
    CASE WHEN c.relkind = 'p' THEN pg_get_partkeydef(c.oid) END,
    CASE WHEN c.relispartition THEN pg_get_expr(c.relpartbound, c.oid) END,
    CASE WHEN c.relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END
FROM pg_class AS c
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
WHERE
    c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE
            e.refclassid = 'pg_extension'::regclass AND e.deptype = 'e'
            AND e.classid = 'pg_class'::regclass AND e.objid = c.oid
    );

-- name: columns :many
SELECT
    n.nspname, c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
    a.attgenerated, a.attstorage, a.attcompression, a.attstattarget, a.attcollation, a.attacl::text,
    a.attoptions::text, pg_get_expr(d.adbin, d.adrelid)
FROM pg_attribute AS a
INNER JOIN pg_class AS c ON a.attrelid = c.oid
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
LEFT JOIN pg_attrdef AS d ON a.attrelid = d.adrelid AND a.attnum = d.adnum
WHERE
    a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
ORDER BY a.attrelid, a.attnum;

-- name: indexes :many
SELECT
    n.nspname,
    i.relname,
    t.relname AS on_table,
    pg_get_indexdef(i.oid),
    x.indisvalid,
    x.indisready,
    x.indislive
FROM pg_index AS x
INNER JOIN pg_class AS i ON x.indexrelid = i.oid
INNER JOIN pg_class AS t ON x.indrelid = t.oid
INNER JOIN pg_namespace AS n ON t.relnamespace = n.oid
WHERE
    t.relkind IN ('r', 'p', 'm') AND NOT i.relispartition
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (
        SELECT
        FROM pg_constraint AS k
        WHERE k.conindid = i.oid AND k.conrelid = t.oid AND k.contype IN ('p', 'u', 'x')
    );

-- name: constraints :many
SELECT n.nspname, t.relname, k.conname, k.contype, pg_get_constraintdef(k.oid), k.convalidated
FROM pg_constraint AS k
INNER JOIN pg_class AS t ON k.conrelid = t.oid
INNER JOIN pg_namespace AS n ON t.relnamespace = n.oid
WHERE
    k.contype IN ('c', 'p', 'u', 'x', 'f') AND k.conparentid = 0 AND (k.conislocal OR k.coninhcount = 0)
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema';

-- name: triggers :many
SELECT n.nspname, t.relname, g.tgname, pg_get_triggerdef(g.oid), g.tgenabled
FROM pg_trigger AS g
INNER JOIN pg_class AS t ON g.tgrelid = t.oid
INNER JOIN pg_namespace AS n ON t.relnamespace = n.oid
WHERE NOT g.tgisinternal AND g.tgparentid = 0 AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema';

-- name: policies :many
SELECT
    p.polrelid::regclass::text, p.polname, p.polcmd, p.polpermissive, p.polroles::regrole[]::text,
    pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)
FROM pg_policy AS p;

-- name: rules :many
SELECT w.ev_class::regclass::text, w.rulename, pg_get_ruledef(w.oid), w.ev_enabled
FROM pg_rewrite AS w
INNER JOIN pg_class AS t ON w.ev_class = t.oid
INNER JOIN pg_namespace AS n ON t.relnamespace = n.oid
WHERE w.rulename <> '_RETURN' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema';

-- name: sequences :many
SELECT
    n.nspname, c.relname, pg_get_userbyid(c.relowner), c.relacl::text, format_type(s.seqtypid, NULL),
    s.seqstart, s.seqincrement, s.seqmin, s.seqmax, s.seqcache, s.seqcycle, t.relname AS on_table, a.attname
FROM pg_sequence AS s
INNER JOIN pg_class AS c ON s.seqrelid = c.oid
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
LEFT JOIN pg_depend AS d
    ON
        d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND c.oid = d.objid
        AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
LEFT JOIN pg_class AS t ON d.refobjid = t.oid
LEFT JOIN pg_attribute AS a ON d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
WHERE n.nspname !~ '^pg_' AND n.nspname <> 'information_schema';

-- name: routines :many
SELECT
    n.nspname, p.proname, oidvectortypes(p.proargtypes), pg_get_userbyid(p.proowner), p.proacl::text,
    CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) END
FROM pg_proc AS p
INNER JOIN pg_namespace AS n ON p.pronamespace = n.oid
WHERE
    n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE e.deptype IN ('e', 'i') AND e.classid = 'pg_proc'::regclass AND e.objid = p.oid
    );

-- name: types :many
SELECT n.nspname, t.typname, t.typtype, pg_get_userbyid(t.typowner), t.typacl::text
FROM pg_type AS t
INNER JOIN pg_namespace AS n ON t.typnamespace = n.oid
LEFT JOIN pg_class AS c ON t.typrelid = c.oid
WHERE
    (t.typtype IN ('e', 'r', 'd', 'b') OR c.relkind = 'c')
    AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_type AS item WHERE item.typarray = t.oid);

-- name: labels :many
SELECT enumtypid::regtype::text, enumlabel FROM pg_enum ORDER BY enumtypid, enumsortorder;

-- name: comments :many
SELECT classoid, objoid, objsubid, description FROM pg_description WHERE objoid >= 16384;

-- name: publications :many
SELECT p.pubname, p.puballtables, r.prrelid::regclass::text
FROM pg_publication AS p
LEFT JOIN pg_publication_rel AS r ON p.oid = r.prpubid;

-- name: event_triggers :many
SELECT evtname, evtevent, evtfoid::regproc::text, evtenabled, evttags::text FROM pg_event_trigger;

-- name: default_privileges :many
SELECT defaclrole::regrole::text, defaclnamespace, defaclobjtype, defaclacl::text FROM pg_default_acl;

-- name: inherits :many
SELECT inhrelid::regclass::text, inhparent::regclass::text FROM pg_inherits ORDER BY inhrelid, inhseqno;

-- name: database :one
SELECT datname, pg_get_userbyid(datdba), datacl::text FROM pg_database WHERE datname = current_database();
