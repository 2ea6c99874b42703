-- noqa: disable=LT01

-- name: about_role :many
-- What is noted of a role, where there is one of this name.
SELECT pg_catalog.shobj_description(r.oid, 'pg_authid') AS note
FROM pg_catalog.pg_roles AS r
WHERE r.rolname OPERATOR(pg_catalog.=) %(role)s;

-- name: mark_role :exec
-- Note of a role what it was made for.
COMMENT ON ROLE {role} IS {mark}; -- noqa: PRS

-- name: access_role :exec
-- Let a role of ours connect with its password.
ALTER ROLE {role} LOGIN PASSWORD {verifier}; -- noqa: PRS

-- name: access_role_alone :exec
-- The same, and take from it what reaches beyond its database, which only a superuser may say.
ALTER ROLE {role}
LOGIN PASSWORD {verifier} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS; -- noqa: PRS

-- name: is_superuser :one
-- Whether the connecting role may say anything of other roles.
SELECT r.rolsuper AS yes
FROM pg_catalog.pg_roles AS r
WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER;

-- name: access_to :exec
-- Say whom the next grants are for: the owner, the reader, and the roles that objects are made by, as a JSON array.
SELECT
    pg_catalog.set_config('reconciler.access_owner', %(owner)s, TRUE),
    pg_catalog.set_config('reconciler.access_reader', %(reader)s, TRUE),
    pg_catalog.set_config('reconciler.access_makers', %(makers)s, TRUE),
    pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', TRUE);

-- name: grant_access :exec
-- Grant what is there and what will be made, and count it among what we granted on objects of generations.
DO $$
DECLARE
    v_owner CONSTANT text := current_setting('reconciler.access_owner');
    v_reader CONSTANT text := current_setting('reconciler.access_reader');
    v_statement text;
    v_by_hand jsonb;
    v_schemas_by_hand jsonb;
BEGIN
    SELECT jsonb_object_agg(x.place, x.lines) INTO v_by_hand
    FROM (
        SELECT
            format('%s %I.%I', o.generation, o.schema, o.name) AS place,
            ARRAY(SELECT unnest(d.acl) EXCEPT SELECT unnest(o.acl)) AS lines
        FROM (
            SELECT generation, array_agg(schema) AS schemas, array_agg(name) AS names
            FROM reconciler.generation_objects
            WHERE fingerprint IS NOT NULL AND action <> 'retire'
            GROUP BY generation
        ) AS g
        CROSS JOIN LATERAL reconciler.object_details(g.generation, g.schemas, g.names) AS d
        INNER JOIN reconciler.generation_objects AS o
            ON g.generation = o.generation AND d.schema = o.schema AND d.name = o.name
    ) AS x
    WHERE x.lines <> '{}';
    SELECT jsonb_object_agg(l.schema, x.lines) INTO v_schemas_by_hand
    FROM reconciler.live_schemas AS l
    INNER JOIN reconciler.generation_schemas AS s ON l.generation = s.generation AND l.schema = s.schema
    INNER JOIN pg_namespace AS n ON l.schema = n.nspname
    CROSS JOIN LATERAL (
        SELECT ARRAY(SELECT unnest(reconciler.schema_acl(n.oid)) EXCEPT SELECT unnest(s.acl)) AS lines
    ) AS x
    WHERE x.lines <> '{}';

    FOR v_statement IN
        WITH schemas AS (
            SELECT n.oid, n.nspname, n.nspowner
            FROM pg_namespace AS n
            WHERE n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'reconciler', 'reconciler_control')
        ),
        roles AS (
            SELECT v_owner AS role, TRUE AS owns
            UNION ALL
            SELECT v_reader AS role, FALSE AS owns
        )
        SELECT format('GRANT %s ON SCHEMA %I TO %I', CASE WHEN r.owns THEN 'ALL' ELSE 'USAGE' END, s.nspname, r.role)
        FROM schemas AS s CROSS JOIN roles AS r
        WHERE pg_has_role(s.nspowner, 'USAGE')
        UNION ALL
        SELECT format(
            'GRANT %s ON %s %I.%I TO %I', CASE WHEN r.owns THEN 'ALL' ELSE 'SELECT' END,
            CASE WHEN c.relkind = 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, s.nspname, c.relname, r.role
        )
        FROM schemas AS s
        INNER JOIN pg_class AS c ON s.oid = c.relnamespace AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
        CROSS JOIN roles AS r
        WHERE
            pg_has_role(c.relowner, 'USAGE')
            AND NOT EXISTS (
                SELECT FROM pg_depend AS d
                WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
            )
        UNION ALL
        SELECT format('GRANT EXECUTE ON ROUTINE %s TO %I', p.oid::regprocedure, v_owner)
        FROM schemas AS s
        INNER JOIN pg_proc AS p ON s.oid = p.pronamespace
        WHERE
            pg_has_role(p.proowner, 'USAGE')
            AND NOT has_function_privilege(v_owner, p.oid, 'EXECUTE')
            AND NOT EXISTS (
                SELECT FROM pg_depend AS d
                WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
            )
        UNION ALL
        SELECT format('ALTER DEFAULT PRIVILEGES FOR ROLE %I GRANT %s TO %I', m.maker, w.what, w.role)
        FROM json_array_elements_text(current_setting('reconciler.access_makers')::json) AS m (maker)
        CROSS JOIN (
            VALUES
            ('ALL ON SCHEMAS', v_owner), ('ALL ON TABLES', v_owner), ('ALL ON SEQUENCES', v_owner),
            ('EXECUTE ON ROUTINES', v_owner), ('USAGE ON SCHEMAS', v_reader), ('SELECT ON TABLES', v_reader),
            ('SELECT ON SEQUENCES', v_reader)
        ) AS w (what, role)
    LOOP
        EXECUTE v_statement;
    END LOOP;

    UPDATE reconciler.generation_objects AS o
    SET acl = ARRAY(
        SELECT l.line FROM unnest(d.acl) AS l (line)
        WHERE l.line <> ALL(ARRAY(
            SELECT jsonb_array_elements_text(v_by_hand -> format('%s %I.%I', o.generation, o.schema, o.name))
        ))
    )
    FROM (
        SELECT generation, array_agg(schema) AS schemas, array_agg(name) AS names
        FROM reconciler.generation_objects
        WHERE fingerprint IS NOT NULL AND action <> 'retire'
        GROUP BY generation
    ) AS g
    CROSS JOIN LATERAL reconciler.object_details(g.generation, g.schemas, g.names) AS d
    WHERE o.generation = g.generation AND o.schema = d.schema AND o.name = d.name;
    UPDATE reconciler.generation_schemas AS s
    SET acl = ARRAY(
        SELECT a.line FROM unnest(reconciler.schema_acl(n.oid)) AS a (line)
        WHERE a.line <> ALL(ARRAY(SELECT jsonb_array_elements_text(v_schemas_by_hand -> l.schema)))
    )
    FROM reconciler.live_schemas AS l
    INNER JOIN pg_namespace AS n ON l.schema = n.nspname
    WHERE s.generation = l.generation AND s.schema = l.schema;
END
$$;

-- name: grant_database_to_owner :exec
-- Let the owner's role in, and make schemas.
GRANT CONNECT, TEMPORARY, CREATE ON DATABASE {database} TO {role}; -- noqa: PRS

-- name: grant_database_to_reader :exec
-- Let the reader's role in.
GRANT CONNECT ON DATABASE {database} TO {role}; -- noqa: PRS

-- name: makers_we_may_speak_for :many
-- Of some roles those that are there, and whether default privileges of theirs are ours to set.
SELECT
    r.rolname::pg_catalog.text AS name,
    pg_catalog.pg_has_role(r.oid, 'USAGE') AS may
FROM pg_catalog.pg_roles AS r
WHERE
    r.rolname OPERATOR(pg_catalog.=) ANY(%(makers)s::pg_catalog.text [])
    OR r.rolname OPERATOR(pg_catalog.=) CURRENT_USER
ORDER BY name;

-- name: drop_role :exec
-- Remove a role that holds nothing any more.
DROP ROLE {role};
