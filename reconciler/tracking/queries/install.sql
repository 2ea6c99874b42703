-- noqa: disable=LT01
-- The linter takes OPERATOR(…) for a function call.

-- name: read_installation :one
-- Reads whether a schema of our name is there, whether it is ours, who owns it and what this role may do.
SELECT
    n.oid IS NOT NULL AS present,
    COALESCE((
        SELECT pg_catalog.count(*) OPERATOR(pg_catalog.=) 4
        FROM pg_catalog.pg_class AS c
        INNER JOIN pg_catalog.pg_attribute AS a ON c.oid OPERATOR(pg_catalog.=) a.attrelid
        WHERE
            c.relnamespace OPERATOR(pg_catalog.=) n.oid
            AND c.relname OPERATOR(pg_catalog.=) 'migrations'
            AND c.relkind OPERATOR(pg_catalog.=) 'r'
            AND NOT a.attisdropped
            AND a.attname OPERATOR(pg_catalog.=) ANY ('{number,name,sha256,applied_at}'::pg_catalog.name [])
    ), FALSE) AS ours,
    NOT EXISTS (SELECT FROM pg_catalog.pg_class AS c WHERE c.relnamespace OPERATOR(pg_catalog.=) n.oid)
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_proc AS p WHERE p.pronamespace OPERATOR(pg_catalog.=) n.oid)
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_type AS t WHERE t.typnamespace OPERATOR(pg_catalog.=) n.oid
    ) AS empty,
    COALESCE(pg_catalog.has_schema_privilege(n.oid, 'CREATE'), FALSE) AS may_create,
    COALESCE(n.nspowner OPERATOR(pg_catalog.=) k.oid, FALSE)
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_class AS c
        WHERE
            c.relnamespace OPERATOR(pg_catalog.=) n.oid
            AND c.relkind OPERATOR(pg_catalog.=) 'r'
            AND c.relowner OPERATOR(pg_catalog.<>) n.nspowner
    ) AS owned_apart,
    u.rolsuper OR u.rolcreaterole
    OR COALESCE(pg_catalog.pg_has_role(k.oid, 'MEMBER'), FALSE) AS may_own_apart,
    COALESCE(pg_catalog.has_schema_privilege(n.oid, 'USAGE'), FALSE)
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_class AS c
        WHERE
            c.relnamespace OPERATOR(pg_catalog.=) n.oid
            AND c.relkind OPERATOR(pg_catalog.=) 'r'
            AND NOT (
                pg_catalog.has_table_privilege(c.oid, 'SELECT')
                AND pg_catalog.has_table_privilege(c.oid, 'INSERT')
                AND pg_catalog.has_table_privilege(c.oid, 'UPDATE')
                AND pg_catalog.has_table_privilege(c.oid, 'DELETE')
            )
    )
    AND NOT EXISTS (
        SELECT FROM pg_catalog.pg_proc AS p
        WHERE
            p.pronamespace OPERATOR(pg_catalog.=) n.oid
            AND NOT pg_catalog.has_function_privilege(p.oid, 'EXECUTE')
    ) AS writable,
    n.nspowner::pg_catalog.regrole::pg_catalog.text AS owner,
    u.rolname::pg_catalog.text AS role
FROM pg_catalog.pg_roles AS u
LEFT JOIN pg_catalog.pg_namespace AS n ON n.nspname OPERATOR(pg_catalog.=) 'reconciler'
LEFT JOIN pg_catalog.pg_roles AS k ON k.rolname OPERATOR(pg_catalog.=) 'reconciler_tracking'
WHERE u.rolname OPERATOR(pg_catalog.=) current_user;

-- name: own_apart :exec
-- Gives everything in the schema to a role of its own, and to this role what it needs in order to write.
-- Where the server does not let this role do so, the schema stays with this role.
DO $body$
DECLARE
    v_role pg_catalog.text := current_user;
    v_super pg_catalog.bool;
    v_object record;
BEGIN
    PERFORM pg_catalog.set_config('search_path', '', TRUE);
    SELECT u.rolsuper INTO v_super FROM pg_catalog.pg_roles AS u WHERE u.rolname OPERATOR(pg_catalog.=) current_user;
    IF pg_catalog.to_regrole('reconciler_tracking') IS NULL THEN
        BEGIN
            CREATE ROLE reconciler_tracking NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL; -- roles are the cluster's: another database's installation made it just now
        END;
    END IF;
    IF NOT v_super THEN
        BEGIN
            EXECUTE 'GRANT reconciler_tracking TO ' || pg_catalog.quote_ident(v_role);
        EXCEPTION WHEN insufficient_privilege OR unique_violation OR internal_error THEN
            NULL; -- a member already, or made one just now; the next statements show whether it is so
        END;
    END IF;
    ALTER SCHEMA reconciler OWNER TO reconciler_tracking;
    FOR v_object IN
        SELECT 'TABLE' AS kind, c.oid::pg_catalog.regclass::pg_catalog.text AS name
        FROM pg_catalog.pg_class AS c
        WHERE
            c.relnamespace OPERATOR(pg_catalog.=) 'reconciler'::pg_catalog.regnamespace
            AND c.relkind OPERATOR(pg_catalog.=) 'r'
        UNION ALL
        SELECT 'ROUTINE', p.oid::pg_catalog.regprocedure::pg_catalog.text
        FROM pg_catalog.pg_proc AS p
        WHERE p.pronamespace OPERATOR(pg_catalog.=) 'reconciler'::pg_catalog.regnamespace
        UNION ALL
        SELECT 'TYPE', t.oid::pg_catalog.regtype::pg_catalog.text
        FROM pg_catalog.pg_type AS t
        WHERE
            t.typnamespace OPERATOR(pg_catalog.=) 'reconciler'::pg_catalog.regnamespace
            AND t.typtype OPERATOR(pg_catalog.=) 'e'
    LOOP
        EXECUTE 'ALTER ' || v_object.kind || ' ' || v_object.name || ' OWNER TO reconciler_tracking';
    END LOOP;
    IF NOT v_super THEN
        SET LOCAL ROLE reconciler_tracking;
        v_role := pg_catalog.quote_ident(v_role);
        EXECUTE 'GRANT USAGE ON SCHEMA reconciler TO ' || v_role;
        EXECUTE 'GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA reconciler TO ' || v_role;
        EXECUTE 'GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA reconciler TO ' || v_role;
        EXECUTE 'GRANT USAGE ON TYPE reconciler.event_kind, reconciler.dependency_kind TO ' || v_role;
        RESET ROLE;
    END IF;
EXCEPTION WHEN insufficient_privilege THEN
    NULL;
END
$body$;
