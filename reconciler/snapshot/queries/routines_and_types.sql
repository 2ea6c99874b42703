-- name: routines :many
-- Functions, procedures and aggregates, named by their input types; those that a type brought along left out.
SELECT
    CASE p.prokind WHEN 'a' THEN 'aggregate' WHEN 'p' THEN 'procedure' ELSE 'function' END AS kind,
    quote_ident(n.nspname)
    || '.'
    || quote_ident(p.proname)
    || '('
    || oidvectortypes(p.proargtypes)
    || ')' AS name,
    '{"owner":' || to_json(pg_get_userbyid(p.proowner))::text
    || CASE
        WHEN p.prokind <> 'a' THEN ',"definition":' || to_json(pg_get_functiondef(p.oid))::text
        ELSE
            ',"arguments":' || to_json(pg_get_function_arguments(p.oid))::text
            || ',"returns":' || to_json(pg_get_function_result(p.oid))::text
            || ',"parallel":"' || p.proparallel::text || '"' || a.definition
    END
    || CASE
        WHEN p.proacl IS NULL THEN ''
        ELSE coalesce(
            ',"grants":' || (
                SELECT json_agg(g ORDER BY g COLLATE "C")::text
                FROM (
                    SELECT unnest(p.proacl)::text
                    EXCEPT
                    SELECT unnest(acldefault('f', p.proowner))::text
                ) AS u (g)
            ), ''
        ) || coalesce(
            ',"revoked":' || (
                SELECT json_agg(g ORDER BY g COLLATE "C")::text
                FROM (
                    SELECT unnest(acldefault('f', p.proowner))::text
                    EXCEPT
                    SELECT unnest(p.proacl)::text
                ) AS u (g)
            ), ''
        )
    END
    || coalesce(',"comment":' || to_json(note.description)::text, '')
    || '}' AS definition
FROM pg_proc AS p
INNER JOIN pg_namespace AS n ON p.pronamespace = n.oid
LEFT JOIN (
    SELECT
        aggfnoid::oid AS oid,
        ',"details":' || json_build_array(
            aggkind, aggnumdirectargs, aggtransfn::regprocedure, aggfinalfn::regprocedure,
            aggcombinefn::regprocedure, aggserialfn::regprocedure, aggdeserialfn::regprocedure,
            aggmtransfn::regprocedure, aggminvtransfn::regprocedure, aggmfinalfn::regprocedure,
            aggfinalextra, aggmfinalextra, aggfinalmodify, aggmfinalmodify, aggsortop::regoperator,
            format_type(aggtranstype, NULL), aggtransspace,
            CASE WHEN aggmtranstype <> 0 THEN format_type(aggmtranstype, NULL) END,
            aggmtransspace, agginitval, aggminitval
        )::text AS definition
    FROM pg_aggregate
    WHERE aggfnoid::oid >= 16384
) AS a ON p.oid = a.oid
LEFT JOIN pg_description AS note
    ON p.oid = note.objoid AND note.classoid = 'pg_catalog.pg_proc'::regclass
WHERE
    p.oid >= 16384
    AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'reconciler', 'reconciler_control')
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE
            e.classid = 'pg_catalog.pg_proc'::regclass AND e.objid = p.oid
            AND (
                (e.deptype = 'e' AND e.refclassid = 'pg_catalog.pg_extension'::regclass)
                OR (e.deptype = 'i' AND e.refclassid = 'pg_catalog.pg_type'::regclass)
            )
    );

-- name: types :many
-- Enums, composites, ranges, domains and base types; no arrays and no row types of relations.
SELECT
    CASE t.typtype WHEN 'd' THEN 'domain' ELSE 'type' END AS kind,
    quote_ident(n.nspname) || '.' || quote_ident(t.typname) AS name,
    '{"owner":' || to_json(pg_get_userbyid(t.typowner))::text
    || CASE t.typtype
        WHEN 'e'
            THEN
                ',"labels":' || (
                    SELECT coalesce(json_agg(l.enumlabel::text ORDER BY l.enumsortorder)::text, '[]')
                    FROM pg_enum AS l
                    WHERE l.enumtypid = t.oid
                )
        WHEN 'c'
            THEN
                ',"attributes":' || (
                    SELECT
                        coalesce(
                            json_agg(
                                json_strip_nulls(
                                    json_build_object(
                                        'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod),
                                        'collation', CASE
                                            WHEN a.attcollation <> b.typcollation
                                                THEN a.attcollation::regcollation::text
                                        END,
                                        'comment', (
                                            SELECT remark.description FROM pg_description AS remark
                                            WHERE
                                                remark.objoid = a.attrelid AND remark.objsubid = a.attnum
                                                AND remark.classoid = 'pg_catalog.pg_class'::regclass
                                        )
                                    )
                                ) ORDER BY a.attnum
                            )::text, '[]'
                        )
                    FROM pg_attribute AS a
                    INNER JOIN pg_type AS b ON a.atttypid = b.oid
                    WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
                )
        WHEN 'r'
            THEN
                ',"range":' || (
                    SELECT
                        json_build_object(
                            'subtype', format_type(r.rngsubtype, NULL),
                            'collation', r.rngcollation::regcollation::text,
                            'operator_class', quote_ident(ns.nspname) || '.' || quote_ident(o.opcname),
                            'canonical', r.rngcanonical::regprocedure::text,
                            'difference', r.rngsubdiff::regprocedure::text,
                            'multirange', format_type(r.rngmultitypid, NULL)
                        )::text
                    FROM pg_range AS r
                    INNER JOIN pg_opclass AS o ON r.rngsubopc = o.oid
                    INNER JOIN pg_namespace AS ns ON o.opcnamespace = ns.oid
                    WHERE r.rngtypid = t.oid
                )
        WHEN 'd'
            THEN
                ',"type":' || to_json(format_type(t.typbasetype, t.typtypmod))::text
                || CASE WHEN t.typnotnull THEN ',"not_null":true' ELSE '' END
                || coalesce(',"default":' || to_json(pg_get_expr(t.typdefaultbin, 0))::text, '')
                || CASE
                    WHEN t.typcollation = base.typcollation THEN ''
                    ELSE ',"collation":' || to_json(t.typcollation::regcollation::text)::text
                END
                || coalesce(
                    ',"constraints":' || (
                        SELECT
                            json_agg(
                                json_build_object(
                                    'name', k.conname, 'definition', pg_get_constraintdef(k.oid)
                                ) ORDER BY k.conname
                            )::text
                        FROM pg_constraint AS k
                        WHERE k.contypid = t.oid AND k.contype = 'c'
                    ), ''
                )
        ELSE
            ',"base":' || json_build_array(
                t.typinput::regprocedure, t.typoutput::regprocedure, t.typreceive::regprocedure,
                t.typsend::regprocedure, t.typmodin::regprocedure, t.typmodout::regprocedure,
                t.typanalyze::regprocedure, t.typlen, t.typbyval, t.typalign, t.typstorage, t.typcategory,
                t.typispreferred, t.typdelim, t.typdefault,
                CASE WHEN t.typelem <> 0 THEN format_type(t.typelem, NULL) END
            )::text
    END
    || CASE
        WHEN t.typacl IS NULL THEN ''
        ELSE coalesce(
            ',"grants":' || (
                SELECT json_agg(g ORDER BY g COLLATE "C")::text
                FROM (
                    SELECT unnest(t.typacl)::text
                    EXCEPT
                    SELECT unnest(acldefault('T', t.typowner))::text
                ) AS u (g)
            ), ''
        ) || coalesce(
            ',"revoked":' || (
                SELECT json_agg(g ORDER BY g COLLATE "C")::text
                FROM (
                    SELECT unnest(acldefault('T', t.typowner))::text
                    EXCEPT
                    SELECT unnest(t.typacl)::text
                ) AS u (g)
            ), ''
        )
    END
    || coalesce(',"comment":' || to_json(note.description)::text, '')
    || '}' AS definition
FROM pg_type AS t
INNER JOIN pg_namespace AS n ON t.typnamespace = n.oid
LEFT JOIN pg_class AS c ON t.typrelid = c.oid
LEFT JOIN pg_type AS base ON t.typbasetype = base.oid
LEFT JOIN pg_description AS note
    ON t.oid = note.objoid AND note.objsubid = 0 AND note.classoid = 'pg_catalog.pg_type'::regclass
WHERE
    t.oid >= 16384 AND (t.typtype IN ('e', 'r', 'd', 'b') OR (t.typtype = 'c' AND c.relkind = 'c'))
    AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'reconciler', 'reconciler_control')
    AND NOT EXISTS (
        SELECT FROM pg_type AS item
        WHERE item.typarray = t.oid
    )
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE
            e.refclassid = 'pg_catalog.pg_extension'::regclass AND e.deptype = 'e'
            AND e.classid = 'pg_catalog.pg_type'::regclass AND e.objid = t.oid
    );
