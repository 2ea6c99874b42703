-- name: settings_for_reading :exec
-- Fixes what the text of definitions depends on, for the transaction; and bounds it. Until then another
-- schema may stand before that of the system.
SELECT
    pg_catalog.set_config('search_path', '', TRUE),
    pg_catalog.set_config('quote_all_identifiers', 'off', TRUE),
    pg_catalog.set_config('standard_conforming_strings', 'on', TRUE),
    pg_catalog.set_config('DateStyle', 'ISO, YMD', TRUE),
    pg_catalog.set_config('IntervalStyle', 'postgres', TRUE),
    pg_catalog.set_config('TimeZone', 'UTC', TRUE),
    pg_catalog.set_config('extra_float_digits', '3', TRUE),
    pg_catalog.set_config('bytea_output', 'hex', TRUE),
    pg_catalog.set_config('jit', 'off', TRUE),
    pg_catalog.set_config('lock_timeout', '5s', TRUE),
    pg_catalog.set_config('statement_timeout', '60s', TRUE),
    pg_catalog.set_config('idle_in_transaction_session_timeout', '60s', TRUE);

-- name: settings_for_two :exec
-- Where two connections read side by side, parallel workers of theirs would only get in each other's way.
SELECT pg_catalog.set_config('max_parallel_workers_per_gather', '0', TRUE);

-- name: settings_for_small :exec
-- To a small catalog, looking for the best plan costs more than any plan: joins stay in the order of the query.
SELECT
    pg_catalog.set_config('join_collapse_limit', '1', TRUE),
    pg_catalog.set_config('from_collapse_limit', '1', TRUE),
    pg_catalog.set_config('enable_mergejoin', 'off', TRUE),
    pg_catalog.set_config('enable_memoize', 'off', TRUE),
    pg_catalog.set_config('enable_material', 'off', TRUE),
    pg_catalog.set_config('max_parallel_workers_per_gather', '0', TRUE);

-- name: schemas :many
-- Schemas that belong to the user.
SELECT
    'schema' AS kind,
    quote_ident(n.nspname) AS name,
    '{"owner":' || to_json(pg_get_userbyid(n.nspowner))::text
    || CASE
        WHEN n.nspacl IS NULL THEN ''
        ELSE coalesce(
            ',"grants":' || (
                SELECT json_agg(g ORDER BY g COLLATE "C")::text
                FROM (
                    SELECT unnest(n.nspacl)::text
                    EXCEPT
                    SELECT unnest(acldefault('n', n.nspowner))::text
                ) AS u (g)
            ), ''
        ) || coalesce(
            ',"revoked":' || (
                SELECT json_agg(g ORDER BY g COLLATE "C")::text
                FROM (
                    SELECT unnest(acldefault('n', n.nspowner))::text
                    EXCEPT
                    SELECT unnest(n.nspacl)::text
                ) AS u (g)
            ), ''
        )
    END
    || coalesce(',"comment":' || to_json(note.description)::text, '')
    || '}' AS definition
FROM pg_namespace AS n
LEFT JOIN pg_description AS note
    ON n.oid = note.objoid AND note.classoid = 'pg_catalog.pg_namespace'::regclass
WHERE
    n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'reconciler', 'reconciler_control')
    AND NOT EXISTS (
        SELECT FROM pg_depend AS e
        WHERE
            e.refclassid = 'pg_catalog.pg_extension'::regclass AND e.deptype = 'e'
            AND e.classid = 'pg_catalog.pg_namespace'::regclass AND e.objid = n.oid
    );

-- name: extensions :many
-- Extensions and where they are; the version is reported apart, since providers upgrade it by themselves.
SELECT
    'extension' AS kind,
    quote_ident(x.extname) AS name,
    '{"schema":' || to_json(quote_ident(n.nspname))::text || '}' AS definition
FROM pg_extension AS x
INNER JOIN pg_namespace AS n ON x.extnamespace = n.oid;

-- name: publications :many
-- Publications with their tables and schemas.
SELECT
    'publication' AS kind,
    quote_ident(p.pubname) AS name,
    '{"owner":' || to_json(pg_get_userbyid(p.pubowner))::text
    || CASE WHEN p.puballtables THEN ',"all_tables":true' ELSE '' END
    || ',"publish":' || to_json(
        array_remove(
            ARRAY[
                CASE WHEN p.pubinsert THEN 'insert' END, CASE WHEN p.pubupdate THEN 'update' END,
                CASE WHEN p.pubdelete THEN 'delete' END, CASE WHEN p.pubtruncate THEN 'truncate' END
            ], NULL
        )
    )::text
    || CASE WHEN p.pubviaroot THEN ',"via_root":true' ELSE '' END
    || coalesce(',"generated_columns":' || to_json(nullif(to_jsonb(p) ->> 'pubgencols', 'n'))::text, '')
    || coalesce(
        ',"tables":' || (
            SELECT
                json_agg(
                    json_strip_nulls(
                        json_build_object(
                            'name', quote_ident(n.nspname) || '.' || quote_ident(c.relname),
                            'columns', (
                                SELECT json_agg(a.attname ORDER BY a.attname)
                                FROM pg_attribute AS a
                                WHERE a.attrelid = r.prrelid AND a.attnum = ANY(r.prattrs)
                            ),
                            'where', pg_get_expr(r.prqual, r.prrelid)
                        )
                    ) ORDER BY n.nspname, c.relname
                )::text
            FROM pg_publication_rel AS r
            INNER JOIN pg_class AS c ON r.prrelid = c.oid
            INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
            WHERE r.prpubid = p.oid
        ), ''
    )
    || coalesce(
        ',"schemas":' || (
            SELECT json_agg(quote_ident(n.nspname) ORDER BY n.nspname)::text
            FROM pg_publication_namespace AS s
            INNER JOIN pg_namespace AS n ON s.pnnspid = n.oid
            WHERE s.pnpubid = p.oid
        ), ''
    )
    || coalesce(',"comment":' || to_json(note.description)::text, '')
    || '}' AS definition
FROM pg_publication AS p
LEFT JOIN pg_description AS note
    ON p.oid = note.objoid AND note.classoid = 'pg_catalog.pg_publication'::regclass;

-- name: event_triggers :many
-- Event triggers.
SELECT
    'event trigger' AS kind,
    quote_ident(v.evtname) AS name,
    '{"owner":' || to_json(pg_get_userbyid(v.evtowner))::text
    || ',"event":' || to_json(v.evtevent::text)::text
    || ',"function":' || to_json(v.evtfoid::regprocedure::text)::text
    || coalesce(
        ',"tags":' || (SELECT json_agg(g ORDER BY g COLLATE "C")::text FROM unnest(v.evttags) AS g), ''
    )
    || CASE v.evtenabled
        WHEN 'D' THEN ',"enabled":"disabled"'
        WHEN 'R' THEN ',"enabled":"replica"'
        WHEN 'A' THEN ',"enabled":"always"'
        ELSE ''
    END
    || coalesce(',"comment":' || to_json(note.description)::text, '')
    || '}' AS definition
FROM pg_event_trigger AS v
LEFT JOIN pg_description AS note
    ON v.oid = note.objoid AND note.classoid = 'pg_catalog.pg_event_trigger'::regclass
WHERE NOT EXISTS (
    SELECT FROM pg_depend AS e
    WHERE
        e.refclassid = 'pg_catalog.pg_extension'::regclass AND e.deptype = 'e'
        AND e.classid = 'pg_catalog.pg_event_trigger'::regclass AND e.objid = v.oid
);

-- name: default_privileges :many
-- Default privileges, by the role whose new objects they are for.
SELECT
    'default privileges' AS kind,
    quote_ident(pg_get_userbyid(d.defaclrole)) || coalesce('.' || quote_ident(n.nspname), '') || ' on '
    || CASE d.defaclobjtype
        WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'routines' WHEN 'T' THEN 'types'
        WHEN 'n' THEN 'schemas' ELSE 'large objects'
    END AS name,
    '{"grants":'
    || coalesce(
        (SELECT json_agg(g::text ORDER BY g::text COLLATE "C")::text FROM unnest(d.defaclacl) AS g), '[]'
    )
    || '}' AS definition
FROM pg_default_acl AS d
LEFT JOIN pg_namespace AS n ON d.defaclnamespace = n.oid
WHERE
    n.nspname IS NULL OR n.nspname NOT IN ('reconciler', 'reconciler_control');

-- name: database_itself :many
-- The database: owner, grants, comment, settings. Of a setting's value only a digest leaves the server:
-- settings of a database are a customary place for secrets.
SELECT
    'database' AS kind,
    quote_ident(d.datname) AS name,
    '{"owner":' || to_json(pg_get_userbyid(d.datdba))::text
    || CASE
        WHEN d.datacl IS NULL THEN ''
        ELSE coalesce(
            ',"grants":' || (
                SELECT json_agg(g ORDER BY g COLLATE "C")::text
                FROM (
                    SELECT unnest(d.datacl)::text
                    EXCEPT
                    SELECT unnest(acldefault('d', d.datdba))::text
                ) AS u (g)
            ), ''
        ) || coalesce(
            ',"revoked":' || (
                SELECT json_agg(g ORDER BY g COLLATE "C")::text
                FROM (
                    SELECT unnest(acldefault('d', d.datdba))::text
                    EXCEPT
                    SELECT unnest(d.datacl)::text
                ) AS u (g)
            ), ''
        )
    END
    || coalesce(
        ',"settings":' || (
            SELECT json_agg(u.line ORDER BY u.line COLLATE "C")::text
            FROM (
                SELECT
                    coalesce('role ' || quote_ident(pg_get_userbyid(nullif(s.setrole, 0))) || ': ', '')
                    || split_part(o, '=', 1) || '=sha256:'
                    || encode(sha256(convert_to(o, 'UTF8')), 'hex') AS line
                FROM pg_db_role_setting AS s, unnest(s.setconfig) AS o
                WHERE s.setdatabase = d.oid
            ) AS u
        ), ''
    )
    || coalesce(',"comment":' || to_json(note.description)::text, '')
    || '}' AS definition
FROM pg_database AS d
LEFT JOIN pg_shdescription AS note
    ON d.oid = note.objoid AND note.classoid = 'pg_catalog.pg_database'::regclass
WHERE d.datname = current_database();
