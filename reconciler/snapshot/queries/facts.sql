-- name: database_facts :one
-- What a database is and whether anything of a user's is in it; the tracking schema is not a user's.
SELECT
    d.oid::bigint AS database_oid,
    current_setting('server_version_num')::integer / 10000 AS server_major,
    has_function_privilege('pg_catalog.pg_control_system()', 'execute') AS may_identify,
    NOT(
        EXISTS (
            SELECT FROM pg_namespace
            WHERE
                nspname !~ '^pg_'
                AND nspname NOT IN ('public', 'information_schema', 'reconciler', 'reconciler_control')
        )
        OR EXISTS (
            SELECT FROM pg_extension
            WHERE extname <> 'plpgsql'
        )
        OR EXISTS (
            SELECT FROM pg_class AS c INNER JOIN pg_namespace AS n ON c.relnamespace = n.oid
            WHERE n.nspname = 'public' AND c.oid >= 16384
        )
        OR EXISTS (
            SELECT FROM pg_proc AS p INNER JOIN pg_namespace AS n ON p.pronamespace = n.oid
            WHERE n.nspname = 'public' AND p.oid >= 16384
        )
        OR EXISTS (
            SELECT FROM pg_type AS t INNER JOIN pg_namespace AS n ON t.typnamespace = n.oid
            WHERE n.nspname = 'public' AND t.oid >= 16384
        )
    ) AS is_empty,
    (
        SELECT coalesce(json_object_agg(extname, extversion ORDER BY extname), '{}')
        FROM pg_extension
    ) AS extensions,
    (
        SELECT coalesce(json_agg(name ORDER BY name), '[]')
        FROM pg_available_extensions
    ) AS available_extensions,
    pg_relation_size('pg_catalog.pg_class') AS catalog_bytes
FROM pg_database AS d
WHERE d.datname = current_database();

-- name: database_identity :one
-- Which database this is, and how large its catalog; asked by who has to know no more.
SELECT
    d.oid::bigint AS database_oid,
    current_setting('server_version_num')::integer / 10000 AS server_major,
    has_function_privilege('pg_catalog.pg_control_system()', 'execute') AS may_identify,
    pg_relation_size('pg_catalog.pg_class') AS catalog_bytes
FROM pg_database AS d
WHERE d.datname = current_database();

-- name: database_at_a_glance :one
-- Which database this is, and which extensions it has: all that has to be known of one that is managed.
SELECT
    d.oid::bigint AS database_oid,
    current_setting('server_version_num')::integer / 10000 AS server_major,
    has_function_privilege('pg_catalog.pg_control_system()', 'execute') AS may_identify,
    (
        SELECT coalesce(json_object_agg(extname, extversion ORDER BY extname), '{}')
        FROM pg_extension
    ) AS extensions
FROM pg_database AS d
WHERE d.datname = current_database();

-- name: system_identifier :one
-- The number initdb gave the cluster; asked only where the role may.
SELECT system_identifier::text AS system_identifier FROM pg_control_system();

-- name: export_snapshot :one
-- A name under which a second connection sees what this transaction sees.
SELECT pg_export_snapshot() AS snapshot;

-- name: server_facts :one
-- What a server is, seen from its maintenance database.
SELECT
    current_setting('server_version_num')::integer / 10000 AS server_major,
    coalesce((
        SELECT rolcreatedb OR rolsuper FROM pg_roles
        WHERE rolname = current_user
    ), FALSE)
        AS can_create_database,
    coalesce((
        SELECT rolsuper FROM pg_roles
        WHERE rolname = current_user
    ), FALSE) AS is_superuser,
    pg_is_in_recovery() AS in_recovery,
    (SELECT json_object_agg(datname, oid::bigint ORDER BY datname) FROM pg_database) AS databases,
    (
        SELECT coalesce(json_agg(datname ORDER BY datname), '[]')
        FROM pg_database
        WHERE datistemplate OR NOT datallowconn
    ) AS closed_databases,
    (SELECT coalesce(json_agg(name ORDER BY name), '[]') FROM pg_available_extensions
    ) AS available_extensions,
    current_setting('max_locks_per_transaction')::bigint
    * (
        current_setting('max_connections')::bigint + current_setting('max_prepared_transactions')::bigint
    ) AS lock_capacity;

-- name: roles :many
-- What some roles are, what they are members of, and what is noted of them; passwords are not to be seen.
SELECT
    r.rolname::text AS name,
    r.rolsuper,
    r.rolcanlogin,
    r.rolbypassrls,
    r.rolcreatedb,
    r.rolcreaterole,
    r.rolreplication,
    ARRAY(
        SELECT g.rolname::text
        FROM pg_auth_members AS m
        INNER JOIN pg_roles AS g ON m.roleid = g.oid
        WHERE m.member = r.oid
    ) AS member_of,
    shobj_description(r.oid, 'pg_authid') AS note
FROM pg_roles AS r
WHERE r.rolname::text = ANY(%(names)s::text []);
