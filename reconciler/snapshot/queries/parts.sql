-- name: indexes :many
-- Indexes that a person made: not those under a constraint, nor the clones that partitions inherit.
SELECT
    'index' AS kind,
    quote_ident(n.nspname) || '.' || quote_ident(i.relname) AS name,
    '{"table":' || to_json(quote_ident(n.nspname) || '.' || quote_ident(t.relname))::text
    || ',"definition":' || to_json(pg_get_indexdef(i.oid))::text
    || CASE WHEN x.indisvalid AND x.indisready AND x.indislive THEN '' ELSE ',"valid":false' END
    || CASE WHEN x.indisclustered THEN ',"clustered":true' ELSE '' END
    || CASE WHEN x.indisreplident THEN ',"replica_identity":true' ELSE '' END
    || coalesce(',"tablespace":' || to_json(ts.spcname::text)::text, '')
    || coalesce(',"comment":' || to_json(note.description)::text, '')
    || '}' AS definition
FROM pg_index AS x
INNER JOIN pg_class AS i ON x.indexrelid = i.oid
INNER JOIN pg_class AS t ON x.indrelid = t.oid AND t.relkind IN ('r', 'p', 'm')
INNER JOIN pg_namespace AS n ON t.relnamespace = n.oid
LEFT JOIN pg_tablespace AS ts ON i.reltablespace = ts.oid
LEFT JOIN pg_description AS note
    ON i.oid = note.objoid AND note.objsubid = 0 AND note.classoid = 'pg_catalog.pg_class'::regclass
WHERE
    i.oid >= 16384 AND NOT i.relispartition
    AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'reconciler', 'reconciler_control')
    AND NOT EXISTS (
        SELECT FROM pg_constraint AS k
        WHERE k.conindid = i.oid AND k.conrelid = t.oid AND k.contype IN ('p', 'u', 'x')
    )
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE
            e.refclassid = 'pg_catalog.pg_extension'::regclass AND e.deptype = 'e'
            AND e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = t.oid
    );

-- name: constraints :many
-- Constraints of tables that are their own, with what their index has beyond the definition.
-- A not-null constraint is part of its column, a constraint trigger is a trigger.
SELECT
    'constraint' AS kind,
    quote_ident(n.nspname) || '.' || quote_ident(t.relname) || '.' || quote_ident(k.conname) AS name,
    '{"table":' || to_json(quote_ident(n.nspname) || '.' || quote_ident(t.relname))::text
    || ',"definition":' || to_json(pg_get_constraintdef(k.oid))::text
    || CASE WHEN k.convalidated THEN '' ELSE ',"validated":false' END
    || CASE WHEN NOT (x.indisvalid AND x.indisready AND x.indislive) THEN ',"valid":false' ELSE '' END
    || CASE WHEN x.indisclustered THEN ',"clustered":true' ELSE '' END
    || CASE WHEN x.indisreplident THEN ',"replica_identity":true' ELSE '' END
    || coalesce(',"tablespace":' || to_json(ts.spcname::text)::text, '')
    || CASE
        WHEN i.reloptions IS NULL THEN ''
        ELSE
            ',"options":'
            || (SELECT json_agg(o ORDER BY o COLLATE "C")::text FROM unnest(i.reloptions) AS o)
    END
    || coalesce(',"comment":' || to_json(note.description)::text, '')
    || '}' AS definition
FROM pg_constraint AS k
INNER JOIN pg_class AS t ON k.conrelid = t.oid
INNER JOIN pg_namespace AS n ON t.relnamespace = n.oid
LEFT JOIN pg_class AS i ON k.conindid = i.oid AND k.contype IN ('p', 'u', 'x')
LEFT JOIN pg_index AS x ON i.oid = x.indexrelid
LEFT JOIN pg_tablespace AS ts ON i.reltablespace = ts.oid
LEFT JOIN pg_description AS note
    ON k.oid = note.objoid AND note.objsubid = 0 AND note.classoid = 'pg_catalog.pg_constraint'::regclass
WHERE
    k.contype IN ('c', 'p', 'u', 'x', 'f') AND k.conparentid = 0 AND (k.conislocal OR k.coninhcount = 0)
    AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'reconciler', 'reconciler_control')
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE
            e.refclassid = 'pg_catalog.pg_extension'::regclass AND e.deptype = 'e'
            AND e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = t.oid
    );

-- name: triggers :many
-- Triggers of tables and views, not those behind foreign keys nor the clones on partitions.
SELECT
    'trigger' AS kind,
    quote_ident(n.nspname) || '.' || quote_ident(t.relname) || '.' || quote_ident(g.tgname) AS name,
    '{"table":' || to_json(quote_ident(n.nspname) || '.' || quote_ident(t.relname))::text
    || ',"definition":' || to_json(pg_get_triggerdef(g.oid))::text
    || CASE g.tgenabled
        WHEN 'D' THEN ',"enabled":"disabled"'
        WHEN 'R' THEN ',"enabled":"replica"'
        WHEN 'A' THEN ',"enabled":"always"'
        ELSE ''
    END
    || coalesce(',"comment":' || to_json(note.description)::text, '')
    || '}' AS definition
FROM pg_trigger AS g
INNER JOIN pg_class AS t ON g.tgrelid = t.oid
INNER JOIN pg_namespace AS n ON t.relnamespace = n.oid
LEFT JOIN pg_description AS note
    ON g.oid = note.objoid AND note.classoid = 'pg_catalog.pg_trigger'::regclass
WHERE
    NOT g.tgisinternal AND g.tgparentid = 0
    AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'reconciler', 'reconciler_control')
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE
            e.refclassid = 'pg_catalog.pg_extension'::regclass AND e.deptype = 'e'
            AND (
                (e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = t.oid)
                OR (e.classid = 'pg_catalog.pg_trigger'::regclass AND e.objid = g.oid)
            )
    );

-- name: policies :many
-- Row security policies.
SELECT
    'policy' AS kind,
    quote_ident(n.nspname) || '.' || quote_ident(t.relname) || '.' || quote_ident(p.polname) AS name,
    '{"table":' || to_json(quote_ident(n.nspname) || '.' || quote_ident(t.relname))::text
    || ',"permissive":' || p.polpermissive::text
    || ',"command":"' || CASE p.polcmd
        WHEN 'r' THEN 'select' WHEN 'a' THEN 'insert' WHEN 'w' THEN 'update' WHEN 'd' THEN 'delete' ELSE 'all'
    END
    || '","roles":' || (
        SELECT json_agg(u.name ORDER BY u.name COLLATE "C")::text
        FROM (
            SELECT CASE r WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(r)) END AS name
            FROM unnest(p.polroles) AS r
        ) AS u
    )
    || CASE
        WHEN p.polqual IS NULL THEN '' ELSE ',"using":' || to_json(pg_get_expr(p.polqual, p.polrelid))::text
    END
    || CASE
        WHEN p.polwithcheck IS NULL THEN ''
        ELSE ',"check":' || to_json(pg_get_expr(p.polwithcheck, p.polrelid))::text
    END
    || coalesce(',"comment":' || to_json(note.description)::text, '')
    || '}' AS definition
FROM pg_policy AS p
INNER JOIN pg_class AS t ON p.polrelid = t.oid
INNER JOIN pg_namespace AS n ON t.relnamespace = n.oid
LEFT JOIN pg_description AS note
    ON p.oid = note.objoid AND note.classoid = 'pg_catalog.pg_policy'::regclass
WHERE
    n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'reconciler', 'reconciler_control')
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE
            e.refclassid = 'pg_catalog.pg_extension'::regclass AND e.deptype = 'e'
            AND e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = t.oid
    );

-- name: rules :many
-- Rewrite rules, but for the one that makes a view a view.
SELECT
    'rule' AS kind,
    quote_ident(n.nspname) || '.' || quote_ident(t.relname) || '.' || quote_ident(w.rulename) AS name,
    '{"table":' || to_json(quote_ident(n.nspname) || '.' || quote_ident(t.relname))::text
    || ',"definition":' || to_json(pg_get_ruledef(w.oid))::text
    || CASE w.ev_enabled
        WHEN 'D' THEN ',"enabled":"disabled"'
        WHEN 'R' THEN ',"enabled":"replica"'
        WHEN 'A' THEN ',"enabled":"always"'
        ELSE ''
    END
    || coalesce(',"comment":' || to_json(note.description)::text, '')
    || '}' AS definition
FROM pg_rewrite AS w
INNER JOIN pg_class AS t ON w.ev_class = t.oid
INNER JOIN pg_namespace AS n ON t.relnamespace = n.oid
LEFT JOIN pg_description AS note
    ON w.oid = note.objoid AND note.classoid = 'pg_catalog.pg_rewrite'::regclass
WHERE
    w.rulename <> '_RETURN'
    AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'reconciler', 'reconciler_control')
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE
            e.refclassid = 'pg_catalog.pg_extension'::regclass AND e.deptype = 'e'
            AND e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = t.oid
    );

-- name: sequences :many
-- Sequences with their parameters and the column that owns them; never where they stand.
SELECT
    'sequence' AS kind,
    quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
    '{"owner":' || to_json(pg_get_userbyid(c.relowner))::text
    || ',"type":' || to_json(format_type(s.seqtypid, NULL))::text
    || ',"start":' || s.seqstart::text
    || ',"increment":' || s.seqincrement::text
    || ',"minimum":' || s.seqmin::text
    || ',"maximum":' || s.seqmax::text
    || ',"cache":' || s.seqcache::text
    || CASE WHEN s.seqcycle THEN ',"cycle":true' ELSE '' END
    || CASE c.relpersistence WHEN 'u' THEN ',"persistence":"unlogged"' ELSE '' END
    || coalesce(owned.definition, '')
    || CASE
        WHEN c.relacl IS NULL THEN ''
        ELSE coalesce(
            ',"grants":' || (
                SELECT json_agg(g ORDER BY g COLLATE "C")::text
                FROM (
                    SELECT unnest(c.relacl)::text
                    EXCEPT
                    SELECT unnest(acldefault('s', c.relowner))::text
                ) AS u (g)
            ), ''
        ) || coalesce(
            ',"revoked":' || (
                SELECT json_agg(g ORDER BY g COLLATE "C")::text
                FROM (
                    SELECT unnest(acldefault('s', c.relowner))::text
                    EXCEPT
                    SELECT unnest(c.relacl)::text
                ) AS u (g)
            ), ''
        )
    END
    || coalesce(',"comment":' || to_json(note.description)::text, '')
    || '}' AS definition
FROM pg_sequence AS s
INNER JOIN pg_class AS c ON s.seqrelid = c.oid
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
LEFT JOIN (
    SELECT
        d.objid,
        ',"table":' || to_json(quote_ident(tn.nspname) || '.' || quote_ident(t.relname))::text
        || ',"owned_by":' || to_json(quote_ident(a.attname))::text
        || CASE d.deptype WHEN 'i' THEN ',"identity":true' ELSE '' END AS definition
    FROM pg_depend AS d
    INNER JOIN pg_class AS t ON d.refobjid = t.oid
    INNER JOIN pg_namespace AS tn ON t.relnamespace = tn.oid
    INNER JOIN pg_attribute AS a ON d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
    WHERE
        d.classid = 'pg_catalog.pg_class'::regclass AND d.refclassid = 'pg_catalog.pg_class'::regclass
        AND d.refobjsubid > 0 AND d.objsubid = 0 AND d.deptype IN ('a', 'i')
        AND d.objid IN (SELECT seqrelid FROM pg_sequence)
) AS owned ON c.oid = owned.objid
LEFT JOIN pg_description AS note
    ON c.oid = note.objoid AND note.objsubid = 0 AND note.classoid = 'pg_catalog.pg_class'::regclass
WHERE
    n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'reconciler', 'reconciler_control')
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE
            e.refclassid = 'pg_catalog.pg_extension'::regclass AND e.deptype = 'e'
            AND e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = c.oid
    );
