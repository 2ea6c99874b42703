-- name: relations :many
-- Tables, foreign tables, views and materialized views, one row each with its columns in order.
-- What few relations have (options, grants, parents) is gathered apart, so that the wide part stays parallel.
-- An expression of a table dropped meanwhile is NULL and would take its column along in silence: so it
-- divides by 0. What stands under a mark is left out where the probe found no row of that part.
SELECT
    CASE c.relkind
        WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table' ELSE 'table'
    END AS kind,
    quote_ident(n.nspname) || '.' || quote_ident(c.relname) AS name,
    '{"owner":' || to_json(pg_get_userbyid(c.relowner))::text
    || ',"columns":[' || coalesce(col.definitions, '') || ']'
    || CASE c.relpersistence WHEN 'u' THEN ',"persistence":"unlogged"' ELSE '' END
    || CASE WHEN c.relrowsecurity THEN ',"row_security":true' ELSE '' END
    || CASE WHEN c.relforcerowsecurity THEN ',"row_security_forced":true' ELSE '' END
    || CASE
        WHEN c.relkind NOT IN ('r', 'p') THEN ''
        ELSE CASE c.relreplident
            WHEN 'f' THEN ',"replica_identity":"full"'
            WHEN 'n' THEN ',"replica_identity":"nothing"'
            WHEN 'i' THEN ',"replica_identity":"index"'
            ELSE ''
        END
    END
    || coalesce(rare.definition, '')
    -- part: inherits
    || coalesce(',"inherits":' || parent.names || parent.detail, '')
    -- part: all
    || CASE
        WHEN c.relispartition THEN ',"bound":' || to_json(pg_get_expr(c.relpartbound, c.oid))::text ELSE ''
    END
    || CASE
        WHEN c.relkind = 'p' THEN ',"partition_by":' || to_json(pg_get_partkeydef(c.oid))::text ELSE ''
    END
    || CASE
        WHEN c.relkind IN ('v', 'm') THEN ',"definition":' || to_json(pg_get_viewdef(c.oid))::text ELSE ''
    END
    || coalesce(',"comment":' || to_json(note.description)::text, '')
    || '}' AS definition
FROM pg_class AS c
INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
LEFT JOIN (
    SELECT
        a.attrelid,
        string_agg(
            '{"name":' || to_json(a.attname::text)::text
            || ',"type":' || to_json(format_type(a.atttypid, a.atttypmod))::text
            || CASE WHEN NOT a.attnotnull THEN '' ELSE coalesce(nn.definition, ',"not_null":true') END
            -- part: defaults
            || CASE
                WHEN d.oid IS NULL THEN ''
                ELSE
                    CASE a.attgenerated
                        WHEN 's' THEN ',"generated":"stored","expression":'
                        WHEN 'v' THEN ',"generated":"virtual","expression":'
                        ELSE ',"default":'
                    END || coalesce(to_json(pg_get_expr(d.adbin, d.adrelid))::text, (a.attnum / 0)::text)
            END
            -- part: all
            || CASE a.attidentity
                WHEN 'a' THEN ',"identity":"always"' WHEN 'd' THEN ',"identity":"by default"' ELSE ''
            END
            || CASE
                WHEN a.attstorage = t.typstorage THEN ''
                ELSE CASE a.attstorage
                    WHEN 'p' THEN ',"storage":"plain"'
                    WHEN 'e' THEN ',"storage":"external"'
                    WHEN 'm' THEN ',"storage":"main"'
                    ELSE ',"storage":"extended"'
                END
            END
            || CASE a.attcompression
                WHEN 'p' THEN ',"compression":"pglz"' WHEN 'l' THEN ',"compression":"lz4"' ELSE ''
            END
            || CASE WHEN a.attstattarget >= 0 THEN ',"statistics":' || a.attstattarget::text ELSE '' END
            || CASE
                WHEN a.attcollation IN (0, t.typcollation) THEN ''
                ELSE
                    -- With no search_path only the system's go without the name of their schema.
                    ',"collation":' || to_json(
                        CASE WHEN pg_collation_is_visible(a.attcollation) THEN 'pg_catalog.' ELSE '' END
                        || a.attcollation::regcollation::text
                    )::text
            END
            || coalesce(scarce.definition, '')
            || coalesce(',"comment":' || to_json(remark.description)::text, '')
            || '}',
            ',' ORDER BY a.attnum
        ) AS definitions
    FROM pg_attribute AS a
    INNER JOIN pg_class AS r ON a.attrelid = r.oid AND r.relkind IN ('r', 'p', 'v', 'm', 'f')
    INNER JOIN pg_type AS t ON a.atttypid = t.oid
    -- part: defaults
    LEFT JOIN pg_attrdef AS d ON a.attrelid = d.adrelid AND a.attnum = d.adnum
    -- part: all
    LEFT JOIN (
        SELECT
            conrelid, conkey[1] AS attnum,
            ',"not_null":' || CASE WHEN convalidated THEN 'true' ELSE '"not valid"' END
            || CASE WHEN connoinherit THEN ',"not_null_no_inherit":true' ELSE '' END AS definition
        FROM pg_constraint
        WHERE contype = 'n' AND (connoinherit OR NOT convalidated)
    ) AS nn ON a.attrelid = nn.conrelid AND a.attnum = nn.attnum
    LEFT JOIN (
        SELECT
            x.attrelid, x.attnum,
            coalesce(
                ',"options":'
                || (SELECT json_agg(o ORDER BY o COLLATE "C")::text FROM unnest(x.attoptions) AS o), ''
            )
            || coalesce(
                ',"fdw_options":' || (
                    SELECT
                        json_agg(
                            split_part(o, '=', 1) || '=' || CASE
                                WHEN split_part(o, '=', 1) IN ('schema_name', 'table_name', 'column_name')
                                    THEN substr(o, strpos(o, '=') + 1)
                                ELSE 'sha256:' || encode(sha256(convert_to(o, 'UTF8')), 'hex')
                            END ORDER BY o COLLATE "C"
                        )::text
                    FROM unnest(x.attfdwoptions) AS o
                ), ''
            )
            || coalesce(
                ',"grants":'
                || (SELECT json_agg(g::text ORDER BY g::text COLLATE "C")::text FROM unnest(x.attacl) AS g),
                ''
            ) AS definition
        FROM pg_attribute AS x
        WHERE
            x.attrelid >= 16384
            AND (x.attacl IS NOT NULL OR x.attoptions IS NOT NULL OR x.attfdwoptions IS NOT NULL)
    ) AS scarce ON a.attrelid = scarce.attrelid AND a.attnum = scarce.attnum
    LEFT JOIN pg_description AS remark
        ON
            a.attrelid = remark.objoid AND a.attnum = remark.objsubid
            AND remark.classoid = 'pg_catalog.pg_class'::regclass
    WHERE a.attrelid >= 16384 AND a.attnum > 0 AND NOT a.attisdropped
    GROUP BY a.attrelid
) AS col ON c.oid = col.attrelid
-- part: inherits
LEFT JOIN (
    SELECT
        i.inhrelid,
        json_agg(quote_ident(pn.nspname) || '.' || quote_ident(p.relname) ORDER BY i.inhseqno)::text AS names,
        CASE WHEN bool_or(i.inhdetachpending) THEN ',"detach_pending":true' ELSE '' END AS detail
    FROM pg_inherits AS i
    INNER JOIN pg_class AS p ON i.inhparent = p.oid AND p.relkind IN ('r', 'p', 'f')
    INNER JOIN pg_namespace AS pn ON p.relnamespace = pn.oid
    GROUP BY i.inhrelid
) AS parent ON c.oid = parent.inhrelid
-- part: all
LEFT JOIN (
    SELECT
        x.oid,
        coalesce(
            ',"options":'
            || (
                SELECT json_agg(o ORDER BY o COLLATE "C")::text
                FROM (
                    SELECT unnest(x.reloptions)
                    UNION ALL
                    SELECT 'toast.' || unnest(toast.reloptions)
                ) AS u (o)
            ), ''
        )
        || CASE
            WHEN x.reloftype = 0 THEN '' ELSE ',"of_type":' || to_json(format_type(x.reloftype, NULL))::text
        END
        || coalesce(',"tablespace":' || to_json(ts.spcname::text)::text, '')
        || CASE
            WHEN am.amname <> 'heap' THEN ',"access_method":' || to_json(am.amname::text)::text ELSE ''
        END
        -- part: foreign tables
        || coalesce(',"server":' || to_json(fs.srvname::text)::text, '')
        || coalesce(
            ',"fdw_options":' || (
                SELECT
                    json_agg(
                        split_part(o, '=', 1) || '=' || CASE
                            WHEN split_part(o, '=', 1) IN ('schema_name', 'table_name')
                                THEN substr(o, strpos(o, '=') + 1)
                            ELSE 'sha256:' || encode(sha256(convert_to(o, 'UTF8')), 'hex')
                        END ORDER BY o COLLATE "C"
                    )::text
                FROM unnest(ft.ftoptions) AS o
            ), ''
        )
        -- part: all
        || CASE
            WHEN x.relacl IS NULL THEN ''
            ELSE coalesce(
                ',"grants":' || (
                    SELECT json_agg(g ORDER BY g COLLATE "C")::text
                    FROM (
                        SELECT unnest(x.relacl)::text
                        EXCEPT
                        SELECT unnest(acldefault('r', x.relowner))::text
                    ) AS u (g)
                ), ''
            ) || coalesce(
                ',"revoked":' || (
                    SELECT json_agg(g ORDER BY g COLLATE "C")::text
                    FROM (
                        SELECT unnest(acldefault('r', x.relowner))::text
                        EXCEPT
                        SELECT unnest(x.relacl)::text
                    ) AS u (g)
                ), ''
            )
        END AS definition
    FROM pg_class AS x
    LEFT JOIN pg_class AS toast ON x.reltoastrelid = toast.oid AND toast.reloptions IS NOT NULL
    LEFT JOIN pg_tablespace AS ts ON x.reltablespace = ts.oid
    LEFT JOIN pg_am AS am ON x.relam = am.oid
    -- part: foreign tables
    LEFT JOIN pg_foreign_table AS ft ON x.oid = ft.ftrelid
    LEFT JOIN pg_foreign_server AS fs ON ft.ftserver = fs.oid
    -- part: all
    WHERE
        x.oid >= 16384 AND x.relkind IN ('r', 'p', 'v', 'm', 'f')
        AND (
            x.relacl IS NOT NULL OR x.reloptions IS NOT NULL OR toast.oid IS NOT NULL OR x.reloftype <> 0
            OR ts.oid IS NOT NULL OR am.amname <> 'heap' OR x.relkind = 'f'
        )
) AS rare ON c.oid = rare.oid
LEFT JOIN pg_description AS note
    ON c.oid = note.objoid AND note.objsubid = 0 AND note.classoid = 'pg_catalog.pg_class'::regclass
WHERE
    c.relkind IN ('r', 'p', 'v', 'm', 'f')
    AND c.oid >= 16384
    AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'reconciler', 'reconciler_control')
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE
            e.refclassid = 'pg_catalog.pg_extension'::regclass AND e.deptype = 'e'
            AND e.classid = 'pg_catalog.pg_class'::regclass AND e.objid = c.oid
    );
