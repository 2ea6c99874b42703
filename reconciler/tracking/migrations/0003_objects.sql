-- Generations of SQL objects: what is built beside what is live, what is live, what is kept and what is gone.
-- Everything is recorded before it is made and found again by its oid, never by what its name looks like.

CREATE TYPE reconciler.generation_state AS ENUM (
    'staging', 'staged', 'ready', 'live', 'retained', 'reverted', 'retired', 'failed', 'cancelled'
);
COMMENT ON TYPE reconciler.generation_state IS
'How far a generation is: being built, built, filled and checked, live, kept, taken back, or gone.';


CREATE TABLE reconciler.generations (
    generation pg_catalog.int8 GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key pg_catalog.text NOT NULL CHECK (key <> ''),
    component pg_catalog.text NOT NULL CHECK (component <> ''),
    environment pg_catalog.text NOT NULL,
    deployment pg_catalog.text NOT NULL,
    commit pg_catalog.text NOT NULL,
    operation pg_catalog.text NOT NULL,
    actor pg_catalog.text NOT NULL,
    state reconciler.generation_state NOT NULL DEFAULT 'staging',
    failure pg_catalog.text,
    begun_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    staged_at pg_catalog.timestamptz,
    ready_at pg_catalog.timestamptz,
    promoted_at pg_catalog.timestamptz,
    retained_until pg_catalog.timestamptz,
    ended_at pg_catalog.timestamptz
);
COMMENT ON TABLE reconciler.generations IS 'Every generation of SQL objects that was ever begun here.';
COMMENT ON COLUMN reconciler.generations.generation IS 'Counts up; gaps mean nothing.';
COMMENT ON COLUMN reconciler.generations.key IS 'Names the generation for its rollout; one that is not over has it alone.';
COMMENT ON COLUMN reconciler.generations.component IS 'Component of the environment that declares the objects.';
COMMENT ON COLUMN reconciler.generations.environment IS 'Environment of the component.';
COMMENT ON COLUMN reconciler.generations.deployment IS 'Deployment of that environment.';
COMMENT ON COLUMN reconciler.generations.commit IS 'Commit that the objects are of.';
COMMENT ON COLUMN reconciler.generations.operation IS 'Operation, in the control database, that began it.';
COMMENT ON COLUMN reconciler.generations.actor IS 'On whose behalf it was begun.';
COMMENT ON COLUMN reconciler.generations.state IS 'How far it is.';
COMMENT ON COLUMN reconciler.generations.failure IS 'Why it failed; empty unless it did.';
COMMENT ON COLUMN reconciler.generations.begun_at IS 'When it was recorded, before anything was made.';
COMMENT ON COLUMN reconciler.generations.staged_at IS 'When all its objects were made.';
COMMENT ON COLUMN reconciler.generations.ready_at IS 'When its materialized views were filled and all was checked.';
COMMENT ON COLUMN reconciler.generations.promoted_at IS 'When it went live.';
COMMENT ON COLUMN reconciler.generations.retained_until IS
'Until when what it displaced is kept, so that the switch can be taken back.';
COMMENT ON COLUMN reconciler.generations.ended_at IS 'When it failed, was cancelled, was taken back, or was gone.';

CREATE UNIQUE INDEX generations_key_once ON reconciler.generations (key)
WHERE state IN ('staging', 'staged', 'ready', 'live');
COMMENT ON INDEX reconciler.generations_key_once IS 'Of those that are being made or live, one per key.';


CREATE TABLE reconciler.generation_schemas (
    generation pg_catalog.int8 NOT NULL REFERENCES reconciler.generations (generation),
    schema pg_catalog.text NOT NULL CHECK (schema <> ''),
    sort pg_catalog.text NOT NULL CHECK (sort IN ('swapped', 'added', 'stable', 'retired', 'read')),
    base_generation pg_catalog.int8 REFERENCES reconciler.generations (generation),
    live_oid pg_catalog.oid,
    old_name pg_catalog.text,
    staging_name pg_catalog.text,
    staging_oid pg_catalog.oid,
    metadata_hash pg_catalog.text NOT NULL DEFAULT '',
    declared_stable pg_catalog.bool NOT NULL DEFAULT FALSE,
    version pg_catalog.text,
    acl pg_catalog.text [] NOT NULL DEFAULT '{}',
    PRIMARY KEY (generation, schema),
    CONSTRAINT generation_schemas_beside CHECK (
        (staging_name IS NOT NULL) = (sort IN ('swapped', 'added', 'stable'))
    )
);
COMMENT ON TABLE reconciler.generation_schemas IS 'The schemas that a generation touches, and those that it reads.';
COMMENT ON COLUMN reconciler.generation_schemas.generation IS 'The generation.';
COMMENT ON COLUMN reconciler.generation_schemas.schema IS 'Name of the schema while it is live.';
COMMENT ON COLUMN reconciler.generation_schemas.sort IS
'swapped: another schema takes its place; added: there was none; stable: changed in place; retired: the last '
'object is gone; read: objects of the generation read it.';
COMMENT ON COLUMN reconciler.generation_schemas.base_generation IS
'Generation that was live in it when this one was begun; the switch sees that it still is.';
COMMENT ON COLUMN reconciler.generation_schemas.live_oid IS 'The schema that was live in it then.';
COMMENT ON COLUMN reconciler.generation_schemas.old_name IS 'Name of that schema once it is displaced.';
COMMENT ON COLUMN reconciler.generation_schemas.staging_name IS 'Name of the schema beside it, until the switch.';
COMMENT ON COLUMN reconciler.generation_schemas.staging_oid IS 'That schema, once it was made.';
COMMENT ON COLUMN reconciler.generation_schemas.metadata_hash IS 'Hash of what the file of the schema says.';
COMMENT ON COLUMN reconciler.generation_schemas.declared_stable IS 'Whether that says that the schema is stable.';
COMMENT ON COLUMN reconciler.generation_schemas.version IS 'Moves whenever owner or grants of the schema do.';
COMMENT ON COLUMN reconciler.generation_schemas.acl IS
'Owner, grants and default privileges as we made them; what differs in the live schema was made by hand.';

CREATE INDEX generation_schemas_staging ON reconciler.generation_schemas (staging_oid);
COMMENT ON INDEX reconciler.generation_schemas_staging IS 'Finds whose a schema is.';
CREATE INDEX generation_schemas_live ON reconciler.generation_schemas (live_oid);
COMMENT ON INDEX reconciler.generation_schemas_live IS 'Finds who displaced a schema.';


CREATE TABLE reconciler.generation_objects (
    generation pg_catalog.int8 NOT NULL,
    schema pg_catalog.text NOT NULL,
    name pg_catalog.text NOT NULL CHECK (name <> ''),
    sort pg_catalog.text NOT NULL CHECK (sort IN ('view', 'materialized view', 'function', 'procedure')),
    action pg_catalog.text NOT NULL CHECK (action IN ('build', 'add', 'replace', 'move', 'retire', 'keep')),
    wave pg_catalog.int4 NOT NULL CHECK (wave >= 0),
    hash pg_catalog.text NOT NULL,
    metadata_hash pg_catalog.text NOT NULL,
    oids pg_catalog.oid [] NOT NULL DEFAULT '{}',
    version pg_catalog.text,
    fingerprint pg_catalog.text,
    acl pg_catalog.text [] NOT NULL DEFAULT '{}',
    in_switch pg_catalog.text [] NOT NULL DEFAULT '{}',
    previous pg_catalog.text [],
    made_at pg_catalog.timestamptz,
    filled_at pg_catalog.timestamptz,
    PRIMARY KEY (generation, schema, name),
    FOREIGN KEY (generation, schema) REFERENCES reconciler.generation_schemas (generation, schema)
);
COMMENT ON TABLE reconciler.generation_objects IS 'The objects of a generation.';
COMMENT ON COLUMN reconciler.generation_objects.generation IS 'The generation.';
COMMENT ON COLUMN reconciler.generation_objects.schema IS 'Schema of the object while it is live.';
COMMENT ON COLUMN reconciler.generation_objects.name IS 'Name of the object; overloads of one routine share it.';
COMMENT ON COLUMN reconciler.generation_objects.sort IS 'What the object is.';
COMMENT ON COLUMN reconciler.generation_objects.action IS
'What became of it: built beside; or, in a stable schema, added, replaced, moved there, retired from there, kept.';
COMMENT ON COLUMN reconciler.generation_objects.wave IS
'Objects of a wave need none of the same wave; they are dropped in the opposite order.';
COMMENT ON COLUMN reconciler.generation_objects.hash IS 'Hash of its definition in the project.';
COMMENT ON COLUMN reconciler.generation_objects.metadata_hash IS 'Hash of its grants, comments and options there.';
COMMENT ON COLUMN reconciler.generation_objects.oids IS 'The object, once it was made; of a routine all overloads.';
COMMENT ON COLUMN reconciler.generation_objects.version IS
'Moves whenever the object does; it also moves where nothing did, and then the fingerprint tells.';
COMMENT ON COLUMN reconciler.generation_objects.fingerprint IS 'Hash of the definition as the server stores it.';
COMMENT ON COLUMN reconciler.generation_objects.acl IS 'Owner and grants as we made them.';
COMMENT ON COLUMN reconciler.generation_objects.in_switch IS
'What is run in the switch, behind the renames: texts that tell the object the names that are live then.';
COMMENT ON COLUMN reconciler.generation_objects.previous IS 'What takes a change in place back.';
COMMENT ON COLUMN reconciler.generation_objects.made_at IS 'When it was made.';
COMMENT ON COLUMN reconciler.generation_objects.filled_at IS 'When a materialized view was filled for the first time.';


CREATE TABLE reconciler.outside_dependents (
    generation pg_catalog.int8 NOT NULL REFERENCES reconciler.generations (generation),
    back pg_catalog.bool NOT NULL,
    identity pg_catalog.text NOT NULL,
    definition pg_catalog.text NOT NULL,
    acl pg_catalog.text [] NOT NULL DEFAULT '{}',
    rebound_at pg_catalog.timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (generation, back, identity)
);
COMMENT ON TABLE reconciler.outside_dependents IS
'What depended on displaced objects from outside, and was bound to those that took their place.';
COMMENT ON COLUMN reconciler.outside_dependents.generation IS 'The generation that was switched.';
COMMENT ON COLUMN reconciler.outside_dependents.back IS 'Whether it was taken back in that switch.';
COMMENT ON COLUMN reconciler.outside_dependents.identity IS 'Kind and qualified name.';
COMMENT ON COLUMN reconciler.outside_dependents.definition IS 'The statement it was bound anew with, from before the switch.';
COMMENT ON COLUMN reconciler.outside_dependents.acl IS 'Its owner and grants then.';
COMMENT ON COLUMN reconciler.outside_dependents.rebound_at IS 'When it was.';


CREATE TABLE reconciler.live_schemas (
    schema pg_catalog.text PRIMARY KEY CHECK (schema <> ''),
    component pg_catalog.text NOT NULL,
    environment pg_catalog.text NOT NULL,
    deployment pg_catalog.text NOT NULL,
    generation pg_catalog.int8,
    stable pg_catalog.bool NOT NULL DEFAULT FALSE
);
COMMENT ON TABLE reconciler.live_schemas IS
'Whose each schema of SQL objects is, from when the first generation was begun, and which one is live in it.';
COMMENT ON COLUMN reconciler.live_schemas.schema IS 'Name of the schema.';
COMMENT ON COLUMN reconciler.live_schemas.component IS 'The one component that makes it.';
COMMENT ON COLUMN reconciler.live_schemas.environment IS 'Environment of the component.';
COMMENT ON COLUMN reconciler.live_schemas.deployment IS 'Deployment of that environment.';
COMMENT ON COLUMN reconciler.live_schemas.generation IS 'What is live in it; empty until the first switch.';
COMMENT ON COLUMN reconciler.live_schemas.stable IS 'Whether it is changed in place.';

CREATE INDEX live_schemas_of_generation ON reconciler.live_schemas (generation);
COMMENT ON INDEX reconciler.live_schemas_of_generation IS 'Finds where a generation is live.';


-- What was made, as the catalog has it ------------------------------------------------------------------

CREATE FUNCTION reconciler.acl_lines(
    p_acl pg_catalog.aclitem [], p_owner pg_catalog.oid
) RETURNS pg_catalog.text []
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT ARRAY(
        SELECT 'OWNER' || E'\t' || pg_catalog.quote_ident(o.rolname) FROM pg_catalog.pg_roles AS o WHERE o.oid = p_owner
        UNION ALL
        SELECT a.privilege_type || E'\t' || COALESCE(pg_catalog.quote_ident(r.rolname), 'PUBLIC')
            || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        FROM pg_catalog.aclexplode(p_acl) AS a
        LEFT JOIN pg_catalog.pg_roles AS r ON a.grantee = r.oid
        WHERE a.grantee <> p_owner
        ORDER BY 1
    )
$$;
COMMENT ON FUNCTION reconciler.acl_lines(pg_catalog.aclitem [], pg_catalog.oid) IS
'Owner and grants of others, a line each: what, a tab, whom.';


CREATE FUNCTION reconciler.relation_acl(p_oid pg_catalog.oid) RETURNS pg_catalog.text []
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT reconciler.acl_lines(COALESCE(c.relacl, pg_catalog.acldefault('r', c.relowner)), c.relowner) || ARRAY(
        SELECT a.privilege_type || ' (' || pg_catalog.quote_ident(t.attname) || ')' || E'\t'
            || COALESCE(pg_catalog.quote_ident(r.rolname), 'PUBLIC')
            || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        FROM pg_catalog.pg_attribute AS t
        CROSS JOIN LATERAL pg_catalog.aclexplode(t.attacl) AS a
        LEFT JOIN pg_catalog.pg_roles AS r ON a.grantee = r.oid
        WHERE t.attrelid = c.oid AND t.attnum > 0
        ORDER BY 1
    )
    FROM pg_catalog.pg_class AS c
    WHERE c.oid = p_oid
$$;
COMMENT ON FUNCTION reconciler.relation_acl(pg_catalog.oid) IS 'Owner and grants of a relation and its columns.';


CREATE FUNCTION reconciler.routine_acl(p_oid pg_catalog.oid) RETURNS pg_catalog.text []
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT reconciler.acl_lines(COALESCE(p.proacl, pg_catalog.acldefault('f', p.proowner)), p.proowner)
    FROM pg_catalog.pg_proc AS p
    WHERE p.oid = p_oid
$$;
COMMENT ON FUNCTION reconciler.routine_acl(pg_catalog.oid) IS 'Owner and grants of a routine.';


CREATE FUNCTION reconciler.schema_acl(p_oid pg_catalog.oid) RETURNS pg_catalog.text []
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT reconciler.acl_lines(COALESCE(n.nspacl, pg_catalog.acldefault('n', n.nspowner)), n.nspowner) || ARRAY(
        SELECT 'DEFAULT' || E'\t' || pg_catalog.quote_ident(w.rolname) || E'\t'
            || CASE d.defaclobjtype
                WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS' ELSE 'TYPES'
            END
            || E'\t' || a.privilege_type || E'\t' || COALESCE(pg_catalog.quote_ident(r.rolname), 'PUBLIC')
            || CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
        FROM pg_catalog.pg_default_acl AS d
        INNER JOIN pg_catalog.pg_roles AS w ON d.defaclrole = w.oid
        CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) AS a
        LEFT JOIN pg_catalog.pg_roles AS r ON a.grantee = r.oid
        WHERE d.defaclnamespace = n.oid
        ORDER BY 1
    )
    FROM pg_catalog.pg_namespace AS n
    WHERE n.oid = p_oid
$$;
COMMENT ON FUNCTION reconciler.schema_acl(pg_catalog.oid) IS 'Owner, grants and default privileges of a schema.';


CREATE FUNCTION reconciler.schema_versions(p_schemas pg_catalog.oid []) RETURNS TABLE (
    number pg_catalog.oid, version pg_catalog.text
)
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT
        n.oid,
        pg_catalog.concat_ws(
            ' ', n.nspowner, n.nspacl,
            (
                SELECT pg_catalog.string_agg(pg_catalog.concat(d.oid, ':', d.xmin), ' ' ORDER BY d.oid)
                FROM pg_catalog.pg_default_acl AS d
                WHERE d.defaclnamespace = n.oid
            )
        )
    FROM pg_catalog.unnest(p_schemas) AS u (oid)
    INNER JOIN pg_catalog.pg_namespace AS n ON u.oid = n.oid
$$;
COMMENT ON FUNCTION reconciler.schema_versions(pg_catalog.oid []) IS
'What moves whenever owner, grants or default privileges of schemas do.';


CREATE FUNCTION reconciler.object_versions(p_generations pg_catalog.int8 []) RETURNS TABLE (
    generation pg_catalog.int8, schema pg_catalog.text, name pg_catalog.text, version pg_catalog.text
)
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT
        o.generation, o.schema, o.name,
        pg_catalog.concat_ws(
            ':', c.oid, c.xmin, r.xmin,
            (
                SELECT pg_catalog.sum(a.xmin::pg_catalog.text::pg_catalog.int8)
                FROM pg_catalog.pg_attribute AS a
                WHERE a.attrelid = c.oid AND a.attnum > 0
            ),
            CASE WHEN c.relkind = 'm' THEN (
                SELECT pg_catalog.string_agg(pg_catalog.concat(i.indexrelid, '.', i.xmin), ',' ORDER BY i.indexrelid)
                FROM pg_catalog.pg_index AS i
                WHERE i.indrelid = c.oid
            ) END
        )
    FROM reconciler.generation_objects AS o
    INNER JOIN pg_catalog.pg_class AS c ON o.oids[1] = c.oid
    INNER JOIN pg_catalog.pg_rewrite AS r ON c.oid = r.ev_class AND r.rulename = '_RETURN'
    WHERE o.generation = ANY(p_generations) AND o.sort IN ('view', 'materialized view')
    UNION ALL
    SELECT
        o.generation, o.schema, o.name,
        pg_catalog.string_agg(pg_catalog.concat(p.oid, ':', p.xmin), ' ' ORDER BY p.oid)
    FROM reconciler.generation_objects AS o
    CROSS JOIN LATERAL pg_catalog.unnest(o.oids) AS u (oid)
    INNER JOIN pg_catalog.pg_proc AS p ON u.oid = p.oid
    WHERE o.generation = ANY(p_generations) AND o.sort IN ('function', 'procedure')
    GROUP BY o.generation, o.schema, o.name
$$;
COMMENT ON FUNCTION reconciler.object_versions(pg_catalog.int8 []) IS
'What moves whenever an object of a generation does, for those that are still there; costs little.';


CREATE FUNCTION reconciler.object_details(
    p_generation pg_catalog.int8, p_schemas pg_catalog.text [], p_names pg_catalog.text []
) RETURNS TABLE (
    schema pg_catalog.text, name pg_catalog.text, fingerprint pg_catalog.text, acl pg_catalog.text []
)
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT
        o.schema, o.name,
        pg_catalog.md5(pg_catalog.concat_ws(
            ' ', c.relname, c.relnamespace, c.relkind, c.reloptions, r.ev_action,
            (
                SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ',' ORDER BY a.attnum)
                FROM pg_catalog.pg_attribute AS a
                WHERE a.attrelid = c.oid AND a.attnum > 0
            ),
            (
                SELECT pg_catalog.string_agg(
                    pg_catalog.concat_ws(
                        ' ', x.relname, x.relam, x.reloptions, i.indisunique, i.indkey, i.indclass, i.indcollation,
                        i.indoption, i.indexprs, i.indpred
                    ), ',' ORDER BY x.relname
                )
                FROM pg_catalog.pg_index AS i
                INNER JOIN pg_catalog.pg_class AS x ON i.indexrelid = x.oid
                WHERE i.indrelid = c.oid
            )
        )),
        -- As it was made, as a rule: then the owner is all there is to say.
        CASE
            WHEN c.relacl IS NULL AND NOT EXISTS (
                SELECT FROM pg_catalog.pg_attribute AS a
                WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attacl IS NOT NULL
            ) THEN ARRAY['OWNER' || E'\t' || pg_catalog.quote_ident(w.rolname)]
            ELSE reconciler.relation_acl(c.oid)
        END
    FROM ROWS FROM (pg_catalog.unnest(p_schemas), pg_catalog.unnest(p_names)) AS u (schema, name)
    INNER JOIN reconciler.generation_objects AS o
        ON o.generation = p_generation AND u.schema = o.schema AND u.name = o.name
    INNER JOIN pg_catalog.pg_class AS c ON o.oids[1] = c.oid
    INNER JOIN pg_catalog.pg_rewrite AS r ON c.oid = r.ev_class AND r.rulename = '_RETURN'
    INNER JOIN pg_catalog.pg_roles AS w ON c.relowner = w.oid
    WHERE o.sort IN ('view', 'materialized view')
    UNION ALL
    SELECT
        o.schema, o.name,
        pg_catalog.md5(pg_catalog.string_agg(
            pg_catalog.concat_ws(
                ' ', p.oid, p.proname, p.pronamespace, p.prokind, p.prosecdef, p.proleakproof, p.proisstrict,
                p.proretset, p.provolatile, p.proparallel, p.procost, p.prorows, p.prorettype, p.proargtypes,
                p.proallargtypes, p.proargmodes, p.proargnames, p.proargdefaults, p.prolang, p.prosrc, p.probin,
                p.prosqlbody, p.proconfig
            ), ';' ORDER BY p.oid
        )),
        pg_catalog.string_to_array(
            pg_catalog.string_agg(
                pg_catalog.array_to_string(reconciler.routine_acl(p.oid), E'\n'), E'\n' ORDER BY p.oid
            ), E'\n'
        )
    FROM ROWS FROM (pg_catalog.unnest(p_schemas), pg_catalog.unnest(p_names)) AS u (schema, name)
    INNER JOIN reconciler.generation_objects AS o
        ON o.generation = p_generation AND u.schema = o.schema AND u.name = o.name
    CROSS JOIN LATERAL pg_catalog.unnest(o.oids) AS v (oid)
    INNER JOIN pg_catalog.pg_proc AS p ON v.oid = p.oid
    WHERE o.sort IN ('function', 'procedure')
    GROUP BY o.schema, o.name
$$;
COMMENT ON FUNCTION reconciler.object_details(pg_catalog.int8, pg_catalog.text [], pg_catalog.text []) IS
'Fingerprint, owner and grants of some objects of a generation; it holds oids, and so no rename moves it.';


CREATE FUNCTION reconciler.contents_of(p_schemas pg_catalog.oid []) RETURNS TABLE (
    namespace pg_catalog.oid, classid pg_catalog.oid, objid pg_catalog.oid
)
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT d.refobjid, d.classid, d.objid
    FROM pg_catalog.pg_depend AS d
    WHERE
        d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass
        AND d.refobjid = ANY(p_schemas)
        AND d.classid <> 'pg_catalog.pg_default_acl'::pg_catalog.regclass
$$;
COMMENT ON FUNCTION reconciler.contents_of(pg_catalog.oid []) IS
'All that stands in schemas, of whatever kind, and what publishes them; not what belongs to such things.';


CREATE FUNCTION reconciler.known_objects(p_generation pg_catalog.int8) RETURNS TABLE (
    schema pg_catalog.text, name pg_catalog.text, classid pg_catalog.oid, objid pg_catalog.oid
)
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT
        o.schema, o.name,
        CASE
            WHEN o.sort IN ('function', 'procedure') THEN 'pg_catalog.pg_proc'::pg_catalog.regclass
            ELSE 'pg_catalog.pg_class'::pg_catalog.regclass
        END,
        u.oid
    FROM reconciler.generation_objects AS o
    CROSS JOIN LATERAL pg_catalog.unnest(o.oids) AS u (oid)
    WHERE o.generation = p_generation
$$;
COMMENT ON FUNCTION reconciler.known_objects(pg_catalog.int8) IS 'The objects that a generation made, as the catalog counts.';


-- Building ----------------------------------------------------------------------------------------------

CREATE FUNCTION reconciler.begin_generation(
    p_epoch pg_catalog.int8, p_work pg_catalog.jsonb
) RETURNS pg_catalog.int8
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_fence reconciler.fence;
    v_other reconciler.live_schemas;
    v_new pg_catalog.int8;
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    SELECT * INTO STRICT v_fence FROM reconciler.fence;
    INSERT INTO reconciler.live_schemas (schema, component, environment, deployment)
    SELECT s ->> 'schema', p_work ->> 'component', v_fence.environment, v_fence.deployment
    FROM pg_catalog.jsonb_array_elements(p_work -> 'schemas') AS s
    WHERE s ->> 'sort' <> 'read'
    ON CONFLICT (schema) DO NOTHING;
    SELECT l.* INTO v_other
    FROM reconciler.live_schemas AS l
    INNER JOIN pg_catalog.jsonb_array_elements(p_work -> 'schemas') AS s ON l.schema = s ->> 'schema'
    WHERE
        s ->> 'sort' <> 'read'
        AND (l.component, l.environment, l.deployment)
        <> (p_work ->> 'component', v_fence.environment, v_fence.deployment)
    ORDER BY l.schema
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'schema "%" belongs to component "%" of environment "%", deployment "%"',
            v_other.schema, v_other.component, v_other.environment, v_other.deployment
            USING ERRCODE = 'RC011', HINT = 'one component makes the objects of a schema: give one of them another schema';
    END IF;
    INSERT INTO reconciler.generations (key, component, environment, deployment, commit, operation, actor)
    VALUES (
        p_work ->> 'key', p_work ->> 'component', v_fence.environment, v_fence.deployment,
        p_work ->> 'commit', p_work ->> 'operation', p_work ->> 'actor'
    ) RETURNING generation INTO v_new;
    INSERT INTO reconciler.generation_schemas (
        generation, schema, sort, base_generation, live_oid, old_name, staging_name, metadata_hash, declared_stable
    )
    SELECT
        v_new, s ->> 'schema',
        CASE WHEN s ->> 'sort' = 'swapped' AND n.oid IS NULL THEN 'added' ELSE s ->> 'sort' END,
        l.generation, n.oid, s ->> 'old_name', s ->> 'staging_name',
        COALESCE(s ->> 'metadata_hash', ''), COALESCE((s ->> 'stable')::pg_catalog.bool, FALSE)
    FROM pg_catalog.jsonb_array_elements(p_work -> 'schemas') AS s
    LEFT JOIN reconciler.live_schemas AS l ON s ->> 'schema' = l.schema
    LEFT JOIN pg_catalog.pg_namespace AS n ON s ->> 'schema' = n.nspname;
    INSERT INTO reconciler.generation_objects (
        generation, schema, name, sort, action, wave, hash, metadata_hash, in_switch
    )
    SELECT
        v_new, o ->> 'schema', o ->> 'name', o ->> 'sort', o ->> 'action', (o ->> 'wave')::pg_catalog.int4,
        o ->> 'hash', o ->> 'metadata_hash',
        ARRAY(SELECT pg_catalog.jsonb_array_elements_text(o -> 'in_switch'))
    FROM pg_catalog.jsonb_array_elements(p_work -> 'objects') AS o;
    INSERT INTO reconciler.generation_objects (
        generation, schema, name, sort, action, wave, hash, metadata_hash, oids, version, fingerprint, acl, made_at,
        filled_at
    )
    SELECT
        v_new, o.schema, o.name, o.sort, 'keep', o.wave, o.hash, o.metadata_hash, o.oids, o.version, o.fingerprint,
        o.acl, o.made_at, o.filled_at
    FROM reconciler.generation_schemas AS s
    INNER JOIN reconciler.generation_objects AS o ON s.base_generation = o.generation AND s.schema = o.schema
    WHERE s.generation = v_new AND s.sort = 'stable' AND o.action <> 'retire'
    ON CONFLICT (generation, schema, name) DO UPDATE SET oids = excluded.oids
    WHERE generation_objects.action = 'retire';
    RETURN v_new;
END
$$;
COMMENT ON FUNCTION reconciler.begin_generation(pg_catalog.int8, pg_catalog.jsonb) IS
'Checks the fence and records a generation before anything of it is made; RC011 where a schema is another''s.';


CREATE FUNCTION reconciler.record_schema(
    p_epoch pg_catalog.int8, p_generation pg_catalog.int8, p_schema pg_catalog.text
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    UPDATE reconciler.generation_schemas AS s
    SET staging_oid = n.oid
    FROM pg_catalog.pg_namespace AS n
    WHERE s.generation = p_generation AND s.schema = p_schema AND n.nspname = s.staging_name AND s.staging_oid IS NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'schema "%" of generation % was not made, or is recorded already', p_schema, p_generation
            USING ERRCODE = 'RC012';
    END IF;
END
$$;
COMMENT ON FUNCTION reconciler.record_schema(pg_catalog.int8, pg_catalog.int8, pg_catalog.text) IS
'Checks the fence and records the staging schema that was just made.';


CREATE FUNCTION reconciler.record_object(
    p_epoch pg_catalog.int8, p_generation pg_catalog.int8, p_schema pg_catalog.text, p_name pg_catalog.text
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_found pg_catalog.oid [];
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    UPDATE reconciler.generation_objects AS o
    SET
        made_at = pg_catalog.clock_timestamp(),
        oids = CASE
            WHEN o.sort IN ('view', 'materialized view') THEN ARRAY(
                SELECT c.oid FROM pg_catalog.pg_class AS c
                WHERE
                    c.relname = p_name AND c.relnamespace = s.staging_oid
                    AND c.relkind = CASE o.sort WHEN 'view' THEN 'v'::pg_catalog."char" ELSE 'm' END
            )
            ELSE ARRAY(
                SELECT p.oid FROM pg_catalog.pg_proc AS p
                WHERE
                    p.proname = p_name AND p.pronamespace = s.staging_oid
                    AND p.prokind = CASE o.sort WHEN 'procedure' THEN 'p'::pg_catalog."char" ELSE 'f' END
                ORDER BY p.oid
            )
        END
    FROM reconciler.generation_schemas AS s
    WHERE
        o.generation = p_generation AND o.schema = p_schema AND o.name = p_name
        AND s.generation = o.generation AND s.schema = o.schema AND o.made_at IS NULL
    RETURNING o.oids INTO v_found;
    IF NOT FOUND OR v_found = '{}' THEN
        RAISE EXCEPTION 'object "%"."%" of generation % was not made, or is recorded already',
            p_schema, p_name, p_generation
            USING ERRCODE = 'RC012';
    END IF;
END
$$;
COMMENT ON FUNCTION reconciler.record_object(
    pg_catalog.int8, pg_catalog.int8, pg_catalog.text, pg_catalog.text
) IS
'Checks the fence and records the object that was just made in its staging schema.';


CREATE FUNCTION reconciler.record_details(
    p_generation pg_catalog.int8, p_schemas pg_catalog.text [], p_names pg_catalog.text []
) RETURNS pg_catalog.void
LANGUAGE sql SET search_path = ''
AS $$
    UPDATE reconciler.generation_objects AS o
    SET
        version = v.version, fingerprint = d.fingerprint,
        acl = CASE WHEN o.fingerprint IS NULL THEN d.acl ELSE o.acl END
    FROM reconciler.object_details(p_generation, p_schemas, p_names) AS d
    INNER JOIN reconciler.object_versions(ARRAY[p_generation]) AS v ON d.schema = v.schema AND d.name = v.name
    WHERE o.generation = p_generation AND o.schema = d.schema AND o.name = d.name
$$;
COMMENT ON FUNCTION reconciler.record_details(pg_catalog.int8, pg_catalog.text [], pg_catalog.text []) IS
'Records how objects of a generation stand now; their grants only for the first time.';


CREATE FUNCTION reconciler.move_generation(
    p_epoch pg_catalog.int8, p_generation pg_catalog.int8, p_from reconciler.generation_state [],
    p_to reconciler.generation_state, p_failure pg_catalog.text
) RETURNS pg_catalog.bool
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    PERFORM pg_catalog.set_config('synchronous_commit', 'on', TRUE);
    PERFORM reconciler.check_fence(p_epoch);
    UPDATE reconciler.generations AS g
    SET
        state = p_to, failure = p_failure,
        staged_at = CASE WHEN p_to = 'staged' THEN pg_catalog.clock_timestamp() ELSE g.staged_at END,
        ready_at = CASE WHEN p_to = 'ready' THEN pg_catalog.clock_timestamp() ELSE g.ready_at END,
        ended_at = CASE
            WHEN p_to IN ('failed', 'cancelled', 'retired') THEN pg_catalog.clock_timestamp() ELSE g.ended_at
        END
    WHERE g.generation = p_generation AND g.state = ANY(p_from);
    RETURN FOUND;
END
$$;
COMMENT ON FUNCTION reconciler.move_generation(
    pg_catalog.int8, pg_catalog.int8, reconciler.generation_state [], reconciler.generation_state, pg_catalog.text
) IS
'Checks the fence and moves a generation from one of some states to another; false where it is in none of them.';


CREATE FUNCTION reconciler.finish_staging(
    p_epoch pg_catalog.int8, p_generation pg_catalog.int8
) RETURNS pg_catalog.bool
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_schemas pg_catalog.text [];
    v_names pg_catalog.text [];
    v_missing pg_catalog.text;
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    SELECT pg_catalog.array_agg(o.schema), pg_catalog.array_agg(o.name) INTO v_schemas, v_names
    FROM reconciler.generation_objects AS o
    WHERE o.generation = p_generation AND o.made_at IS NOT NULL AND o.action NOT IN ('keep', 'retire');
    PERFORM reconciler.record_details(p_generation, v_schemas, v_names);
    SELECT pg_catalog.format('%I.%I', o.schema, o.name) INTO v_missing
    FROM reconciler.generation_objects AS o
    WHERE o.generation = p_generation AND o.fingerprint IS NULL AND o.action <> 'retire'
    ORDER BY o.schema, o.name
    LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'object % of generation % is gone', v_missing, p_generation USING ERRCODE = 'RC012';
    END IF;
    UPDATE reconciler.generation_schemas AS s
    SET version = v.version, acl = reconciler.schema_acl(v.number)
    FROM reconciler.schema_versions(ARRAY(
        SELECT CASE WHEN a.sort = 'stable' THEN a.live_oid ELSE a.staging_oid END
        FROM reconciler.generation_schemas AS a
        WHERE a.generation = p_generation AND a.staging_oid IS NOT NULL
    )) AS v
    WHERE s.generation = p_generation AND v.number = CASE WHEN s.sort = 'stable' THEN s.live_oid ELSE s.staging_oid END;
    RETURN reconciler.move_generation(p_epoch, p_generation, '{staging}', 'staged', NULL);
END
$$;
COMMENT ON FUNCTION reconciler.finish_staging(pg_catalog.int8, pg_catalog.int8) IS
'Checks the fence, records how everything that was made stands, and that all is made.';


-- The switch, and the switch back -----------------------------------------------------------------------

-- It sets nothing, so that it becomes a part of the queries that use it, and those set what it would.
CREATE FUNCTION reconciler.switch_sides(
    p_generation pg_catalog.int8, p_back pg_catalog.bool
) RETURNS TABLE (
    schema pg_catalog.text,
    incoming_oid pg_catalog.oid,
    incoming_name pg_catalog.text,
    incoming_generation pg_catalog.int8,
    outgoing_oid pg_catalog.oid,
    outgoing_name pg_catalog.text,
    outgoing_generation pg_catalog.int8
)
LANGUAGE sql STABLE
AS $$
    SELECT
        s.schema,
        CASE WHEN p_back THEN s.live_oid ELSE s.staging_oid END,
        CASE WHEN p_back THEN s.old_name ELSE s.staging_name END,
        CASE WHEN p_back THEN s.base_generation ELSE s.generation END,
        CASE WHEN p_back THEN s.staging_oid ELSE s.live_oid END,
        CASE WHEN p_back THEN s.staging_name ELSE s.old_name END,
        CASE WHEN p_back THEN s.generation ELSE s.base_generation END
    FROM reconciler.generation_schemas AS s
    WHERE s.generation = p_generation AND s.sort IN ('swapped', 'added', 'retired')
$$;
COMMENT ON FUNCTION reconciler.switch_sides(pg_catalog.int8, pg_catalog.bool) IS
'What becomes live in each schema, and what is displaced there and how it is named then; back, the other way.';


CREATE FUNCTION reconciler.switch_objects(
    p_generation pg_catalog.int8, p_back pg_catalog.bool
) RETURNS TABLE (
    incoming pg_catalog.bool,
    generation pg_catalog.int8,
    schema pg_catalog.text,
    name pg_catalog.text,
    recorded pg_catalog.text,
    version pg_catalog.text
)
LANGUAGE sql STABLE SET search_path = ''
AS $$
    WITH sides AS (
        SELECT s.schema, TRUE AS incoming, s.incoming_generation AS generation
        FROM reconciler.switch_sides(p_generation, p_back) AS s
        WHERE s.incoming_oid IS NOT NULL
        UNION ALL
        SELECT s.schema, FALSE, s.outgoing_generation
        FROM reconciler.switch_sides(p_generation, p_back) AS s
        WHERE s.outgoing_oid IS NOT NULL
        UNION ALL
        -- What a stable schema has now, as the generation that is live in it recorded it.
        SELECT t.schema, FALSE, CASE WHEN p_back THEN t.generation ELSE t.base_generation END
        FROM reconciler.generation_schemas AS t
        WHERE t.generation = p_generation AND t.sort = 'stable'
    )
    SELECT s.incoming, o.generation, o.schema, o.name, o.version, v.version
    FROM sides AS s
    INNER JOIN reconciler.generation_objects AS o ON s.generation = o.generation AND s.schema = o.schema
    LEFT JOIN reconciler.object_versions(ARRAY(SELECT DISTINCT d.generation FROM sides AS d)) AS v
        ON o.generation = v.generation AND o.schema = v.schema AND o.name = v.name
    WHERE o.action <> 'retire'
$$;
COMMENT ON FUNCTION reconciler.switch_objects(pg_catalog.int8, pg_catalog.bool) IS
'Every object that becomes live or is displaced, with its version as recorded and as it is.';


CREATE FUNCTION reconciler.found_in_schemas(
    p_generation pg_catalog.int8, p_back pg_catalog.bool
) RETURNS TABLE (kind pg_catalog.text, subject pg_catalog.text, detail pg_catalog.text)
LANGUAGE sql STABLE SET search_path = ''
AS $$
    WITH sides AS MATERIALIZED (
        SELECT s.* FROM reconciler.switch_sides(p_generation, p_back) AS s
    )

    SELECT
        CASE WHEN s.sort = 'read' THEN 'read' ELSE 'base' END, s.schema,
        COALESCE((
            SELECT pg_catalog.format('generation %s of commit %s', g.key, g.commit)
            FROM reconciler.generations AS g WHERE g.generation = l.generation
        ), 'nothing of ours')
    FROM reconciler.generation_schemas AS s
    LEFT JOIN reconciler.live_schemas AS l ON s.schema = l.schema
    WHERE
        s.generation = p_generation
        AND CASE
            WHEN NOT p_back THEN l.generation IS DISTINCT FROM s.base_generation
            WHEN s.sort = 'retired' THEN l.generation IS NOT NULL
            WHEN s.sort <> 'read' THEN l.generation IS DISTINCT FROM s.generation
            ELSE FALSE
        END
    UNION ALL
    SELECT 'read schema', s.schema, 'it is another schema now, or gone'
    FROM reconciler.generation_schemas AS s
    LEFT JOIN pg_catalog.pg_namespace AS n ON s.live_oid = n.oid AND s.schema = n.nspname
    WHERE s.generation = p_generation AND s.sort IN ('read', 'stable') AND n.oid IS NULL
    UNION ALL
    SELECT 'staged schema', COALESCE(s.incoming_name, s.schema), 'it was renamed or dropped'
    FROM sides AS s
    LEFT JOIN pg_catalog.pg_namespace AS n ON s.incoming_oid = n.oid AND s.incoming_name = n.nspname
    WHERE s.incoming_oid IS NOT NULL AND n.oid IS NULL
    UNION ALL
    SELECT
        'live schema', s.schema,
        CASE
            WHEN s.outgoing_oid IS NULL THEN 'a schema of that name was made'
            WHEN n.oid IS NULL THEN 'it was renamed or dropped'
            ELSE 'it was replaced by another schema'
        END
    FROM sides AS s
    LEFT JOIN pg_catalog.pg_namespace AS n ON s.schema = n.nspname
    WHERE n.oid IS DISTINCT FROM s.outgoing_oid
    UNION ALL
    SELECT 'name', s.outgoing_name, 'a schema has the name that the displaced one is to have'
    FROM sides AS s
    INNER JOIN pg_catalog.pg_namespace AS n ON s.outgoing_name = n.nspname
    WHERE
        s.outgoing_oid IS NOT NULL
        AND n.oid NOT IN (
            SELECT o.incoming_oid FROM sides AS o
            WHERE o.incoming_oid IS NOT NULL
        )
    UNION ALL
    SELECT
        'grant', s.schema, pg_catalog.replace(a.line, E'\t', ' ')
    FROM sides AS s
    INNER JOIN reconciler.generation_schemas AS g ON s.outgoing_generation = g.generation AND s.schema = g.schema
    INNER JOIN reconciler.schema_versions(ARRAY(
        SELECT o.outgoing_oid FROM sides AS o
        WHERE o.outgoing_oid IS NOT NULL
    )) AS v ON s.outgoing_oid = v.number AND g.version IS DISTINCT FROM v.version
    CROSS JOIN LATERAL (
        SELECT pg_catalog.unnest(reconciler.schema_acl(s.outgoing_oid))
        EXCEPT
        SELECT pg_catalog.unnest(g.acl)
    ) AS a (line)
$$;
COMMENT ON FUNCTION reconciler.found_in_schemas(pg_catalog.int8, pg_catalog.bool) IS
'What speaks against a switch in schemas: what, of which schema, and what it is.';


CREATE FUNCTION reconciler.found_unknown(
    p_generation pg_catalog.int8, p_back pg_catalog.bool
) RETURNS TABLE (kind pg_catalog.text, subject pg_catalog.text, detail pg_catalog.text)
LANGUAGE sql STABLE SET search_path = ''
AS $$
    WITH sides AS (
        SELECT s.schema, TRUE AS incoming, s.incoming_oid AS namespace, s.incoming_generation AS generation
        FROM reconciler.switch_sides(p_generation, p_back) AS s
        WHERE s.incoming_oid IS NOT NULL
        UNION ALL
        SELECT s.schema, FALSE, s.outgoing_oid, s.outgoing_generation
        FROM reconciler.switch_sides(p_generation, p_back) AS s
        WHERE s.outgoing_oid IS NOT NULL
    ),

    known AS (
        SELECT DISTINCT k.classid, k.objid
        FROM (SELECT DISTINCT s.generation FROM sides AS s) AS g
        CROSS JOIN LATERAL reconciler.known_objects(g.generation) AS k
    )

    SELECT
        CASE WHEN s.incoming THEN 'unknown staged' ELSE 'unknown' END, s.schema,
        pg_catalog.pg_describe_object(c.classid, c.objid, 0)
    FROM reconciler.contents_of(ARRAY(SELECT a.namespace FROM sides AS a)) AS c
    INNER JOIN sides AS s ON c.namespace = s.namespace
    LEFT JOIN known AS k ON c.classid = k.classid AND c.objid = k.objid
    WHERE k.objid IS NULL
$$;
COMMENT ON FUNCTION reconciler.found_unknown(pg_catalog.int8, pg_catalog.bool) IS
'What stands in schemas that are switched and was not made by the generations that are said to be there.';


CREATE FUNCTION reconciler.found_changed(
    p_generation pg_catalog.int8, p_back pg_catalog.bool
) RETURNS TABLE (kind pg_catalog.text, subject pg_catalog.text, detail pg_catalog.text)
LANGUAGE plpgsql STABLE SET search_path = ''
AS $$
DECLARE
    v_each record;
    v_detail record;
    v_object reconciler.generation_objects;
BEGIN
    FOR v_each IN
        SELECT o.* FROM reconciler.switch_objects(p_generation, p_back) AS o
        WHERE o.recorded IS DISTINCT FROM o.version
        ORDER BY o.incoming, o.schema, o.name
    LOOP
        SELECT * INTO STRICT v_object FROM reconciler.generation_objects AS g
        WHERE g.generation = v_each.generation AND g.schema = v_each.schema AND g.name = v_each.name;
        SELECT * INTO v_detail
        FROM reconciler.object_details(v_each.generation, ARRAY[v_each.schema], ARRAY[v_each.name]);
        subject := pg_catalog.format('%s %I.%I', v_object.sort, v_each.schema, v_each.name);
        IF v_detail.fingerprint IS DISTINCT FROM v_object.fingerprint THEN
            kind := CASE WHEN v_each.incoming THEN 'staged object' ELSE 'live object' END;
            detail := CASE WHEN v_detail.fingerprint IS NULL THEN 'it was dropped' ELSE 'it was altered' END;
            RETURN NEXT;
        ELSIF v_detail.acl IS DISTINCT FROM v_object.acl AND NOT v_each.incoming THEN
            kind := 'grant';
            RETURN QUERY SELECT kind, subject, pg_catalog.replace(a.line, E'\t', ' ')
            FROM (
                SELECT pg_catalog.unnest(v_detail.acl) EXCEPT SELECT pg_catalog.unnest(v_object.acl)
            ) AS a (line);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION reconciler.found_changed(pg_catalog.int8, pg_catalog.bool) IS
'Objects that are not as they were recorded: altered, gone, or with grants that were made by hand.';


CREATE FUNCTION reconciler.dependents_of(
    p_generation pg_catalog.int8, p_back pg_catalog.bool
) RETURNS TABLE (
    classid pg_catalog.oid, objid pg_catalog.oid, through_type pg_catalog.bool
)
LANGUAGE sql STABLE SET search_path = ''
AS $$
    WITH inside AS MATERIALIZED (
        SELECT
            CASE
                WHEN o.sort IN ('function', 'procedure') THEN 'pg_catalog.pg_proc'::pg_catalog.regclass
                ELSE 'pg_catalog.pg_class'::pg_catalog.regclass
            END::pg_catalog.oid AS classid,
            u.oid AS objid
        FROM reconciler.switch_sides(p_generation, p_back) AS s
        INNER JOIN reconciler.generation_objects AS o ON s.outgoing_generation = o.generation AND s.schema = o.schema
        CROSS JOIN LATERAL pg_catalog.unnest(o.oids) AS u (oid)
        WHERE s.outgoing_oid IS NOT NULL
    ),

    referred AS (
        SELECT i.classid, i.objid FROM inside AS i
        UNION ALL
        SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, c.reltype
        FROM inside AS i
        INNER JOIN pg_catalog.pg_class AS c ON i.objid = c.oid
        WHERE i.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
        UNION ALL
        SELECT 'pg_catalog.pg_type'::pg_catalog.regclass, t.typarray
        FROM inside AS i
        INNER JOIN pg_catalog.pg_type AS t ON i.objid = t.typrelid
        WHERE i.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
    ),

    found AS (
        SELECT
            CASE WHEN r.oid IS NULL THEN d.classid ELSE 'pg_catalog.pg_class'::pg_catalog.regclass END AS classid,
            COALESCE(r.ev_class, d.objid) AS objid,
            pg_catalog.bool_or(d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass) AS through_type
        FROM referred AS f
        INNER JOIN pg_catalog.pg_depend AS d ON f.classid = d.refclassid AND f.objid = d.refobjid
        LEFT JOIN pg_catalog.pg_rewrite AS r
            ON d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND d.objid = r.oid
        WHERE
            d.deptype IN ('n', 'a')
            AND (
                CASE WHEN r.oid IS NULL THEN d.classid ELSE 'pg_catalog.pg_class'::pg_catalog.regclass END,
                COALESCE(r.ev_class, d.objid)
            ) NOT IN (SELECT a.classid, a.objid FROM inside AS a)
        GROUP BY 1, 2
    ),

    -- What is staged or kept is not live, and is no concern of whoever reads what is.
    parked AS MATERIALIZED (
        SELECT n.oid
        FROM reconciler.generation_schemas AS s
        INNER JOIN pg_catalog.pg_namespace AS n ON s.staging_oid = n.oid AND s.staging_name = n.nspname
        UNION ALL
        SELECT n.oid
        FROM reconciler.generation_schemas AS s
        INNER JOIN pg_catalog.pg_namespace AS n ON s.live_oid = n.oid AND s.old_name = n.nspname
    )

    SELECT f.classid, f.objid, f.through_type
    FROM found AS f
    LEFT JOIN pg_catalog.pg_class AS c ON f.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND f.objid = c.oid
    LEFT JOIN pg_catalog.pg_proc AS p ON f.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND f.objid = p.oid
    LEFT JOIN pg_catalog.pg_index AS i ON c.oid = i.indexrelid
    LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = COALESCE(c.relnamespace, p.pronamespace)
    WHERE
        (
            i.indrelid IS NULL
            OR ('pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid, i.indrelid)
            NOT IN (SELECT a.classid, a.objid FROM inside AS a)
        )
        AND (n.nspname IS NULL OR n.nspname <> 'pg_toast')
        AND (n.oid IS NULL OR n.oid NOT IN (SELECT a.oid FROM parked AS a))
$$;
COMMENT ON FUNCTION reconciler.dependents_of(pg_catalog.int8, pg_catalog.bool) IS
'What depends on objects that a switch displaces and is displaced by none: it stays bound to them, not to names.';


CREATE FUNCTION reconciler.found_dependents(
    p_generation pg_catalog.int8, p_back pg_catalog.bool
) RETURNS TABLE (
    identity pg_catalog.text, statement pg_catalog.text, acl pg_catalog.text [], objid pg_catalog.oid
)
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT
        pg_catalog.pg_describe_object(d.classid, d.objid, 0),
        CASE
            WHEN c.relkind = 'v' THEN pg_catalog.format(
                'CREATE OR REPLACE VIEW %I.%I%s AS %s', n.nspname, c.relname,
                ' WITH (' || pg_catalog.array_to_string(c.reloptions, ', ') || ')',
                pg_catalog.pg_get_viewdef(c.oid)
            )
            WHEN p.prosqlbody IS NOT NULL AND NOT d.through_type THEN pg_catalog.pg_get_functiondef(p.oid)
        END,
        CASE
            WHEN c.oid IS NOT NULL THEN reconciler.relation_acl(c.oid)
            WHEN p.oid IS NOT NULL THEN reconciler.routine_acl(p.oid)
            ELSE '{}'
        END,
        d.objid
    FROM reconciler.dependents_of(p_generation, p_back) AS d
    LEFT JOIN pg_catalog.pg_class AS c ON d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
    LEFT JOIN pg_catalog.pg_proc AS p ON d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid
    LEFT JOIN pg_catalog.pg_namespace AS n ON c.relnamespace = n.oid
    ORDER BY 1
$$;
COMMENT ON FUNCTION reconciler.found_dependents(pg_catalog.int8, pg_catalog.bool) IS
'The same with the statement that binds each to what takes the place, where one can.';


CREATE FUNCTION reconciler.found_unready(p_generation pg_catalog.int8) RETURNS TABLE (
    kind pg_catalog.text, subject pg_catalog.text, detail pg_catalog.text
)
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT 'unfilled', pg_catalog.format('%s %I.%I', o.sort, o.schema, o.name), 'it is not filled'
    FROM reconciler.generation_objects AS o
    INNER JOIN pg_catalog.pg_class AS c ON o.oids[1] = c.oid
    WHERE
        o.generation = p_generation AND o.sort = 'materialized view' AND o.action <> 'retire'
        AND NOT c.relispopulated
    UNION ALL
    SELECT 'index', pg_catalog.format('%s %I.%I', o.sort, o.schema, o.name), x.relname || ' is not valid'
    FROM reconciler.generation_objects AS o
    INNER JOIN pg_catalog.pg_index AS i ON o.oids[1] = i.indrelid
    INNER JOIN pg_catalog.pg_class AS x ON i.indexrelid = x.oid
    WHERE o.generation = p_generation AND o.sort = 'materialized view' AND NOT i.indisvalid
$$;
COMMENT ON FUNCTION reconciler.found_unready(pg_catalog.int8) IS
'Materialized views that readers would get an error from, and indexes that they would miss.';


CREATE FUNCTION reconciler.hand_made_grants(
    p_generation pg_catalog.int8, p_back pg_catalog.bool
) RETURNS SETOF pg_catalog.text
LANGUAGE plpgsql STABLE SET search_path = ''
AS $$
DECLARE
    v_each record;
    v_parts pg_catalog.text [];
BEGIN
    FOR v_each IN
        SELECT 'SCHEMA' AS what, pg_catalog.quote_ident(s.incoming_name) AS target, s.incoming_name AS home, a.line
        FROM reconciler.switch_sides(p_generation, p_back) AS s
        INNER JOIN reconciler.generation_schemas AS g ON s.outgoing_generation = g.generation AND s.schema = g.schema
        CROSS JOIN LATERAL (
            SELECT pg_catalog.unnest(reconciler.schema_acl(s.outgoing_oid)) EXCEPT SELECT pg_catalog.unnest(g.acl)
        ) AS a (line)
        WHERE s.incoming_oid IS NOT NULL AND s.outgoing_oid IS NOT NULL
        UNION ALL
        SELECT
            CASE WHEN c.oid IS NOT NULL THEN 'TABLE' ELSE 'ROUTINE' END,
            CASE
                WHEN c.oid IS NOT NULL THEN pg_catalog.format('%I.%I', s.incoming_name, w.name)
                ELSE w.oid::pg_catalog.regprocedure::pg_catalog.text
            END,
            s.incoming_name, a.line
        FROM reconciler.switch_sides(p_generation, p_back) AS s
        INNER JOIN reconciler.switch_objects(p_generation, p_back) AS o
            ON s.schema = o.schema AND NOT o.incoming AND o.recorded IS DISTINCT FROM o.version
        INNER JOIN reconciler.generation_objects AS g
            ON o.generation = g.generation AND o.schema = g.schema AND o.name = g.name
        CROSS JOIN LATERAL reconciler.object_details(o.generation, ARRAY[o.schema], ARRAY[o.name]) AS d
        CROSS JOIN LATERAL (
            SELECT pg_catalog.unnest(d.acl) EXCEPT SELECT pg_catalog.unnest(g.acl)
        ) AS a (line)
        INNER JOIN LATERAL (
            SELECT i.name, u.oid
            FROM reconciler.generation_objects AS i
            CROSS JOIN LATERAL pg_catalog.unnest(i.oids) AS u (oid)
            WHERE i.generation = s.incoming_generation AND i.schema = o.schema AND i.name = o.name
        ) AS w ON TRUE
        LEFT JOIN pg_catalog.pg_class AS c ON w.oid = c.oid AND g.sort IN ('view', 'materialized view')
    LOOP
        v_parts := pg_catalog.string_to_array(v_each.line, E'\t');
        RETURN NEXT CASE v_parts[1]
            WHEN 'OWNER' THEN pg_catalog.format('ALTER %s %s OWNER TO %s', v_each.what, v_each.target, v_parts[2])
            WHEN 'DEFAULT' THEN pg_catalog.format(
                'ALTER DEFAULT PRIVILEGES FOR ROLE %s IN SCHEMA %I GRANT %s ON %s TO %s',
                v_parts[2], v_each.home, v_parts[4], v_parts[3], v_parts[5]
            )
            ELSE pg_catalog.format('GRANT %s ON %s %s TO %s', v_parts[1], v_each.what, v_each.target, v_parts[2])
        END;
    END LOOP;
END
$$;
COMMENT ON FUNCTION reconciler.hand_made_grants(pg_catalog.int8, pg_catalog.bool) IS
'Statements that give what becomes live the owners and grants that were given by hand to what is displaced.';


CREATE FUNCTION reconciler.identity_of(
    p_sort pg_catalog.text, p_object pg_catalog.oid
) RETURNS pg_catalog.text
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT CASE
        WHEN p_sort IN ('function', 'procedure') THEN 'ROUTINE ' || p_object::pg_catalog.regprocedure::pg_catalog.text
        ELSE pg_catalog.upper(p_sort) || ' ' || p_object::pg_catalog.regclass::pg_catalog.text
    END
$$;
COMMENT ON FUNCTION reconciler.identity_of(pg_catalog.text, pg_catalog.oid) IS
'Sort and name of an object, as statements about it begin.';


CREATE FUNCTION reconciler.move_in_place(
    p_epoch pg_catalog.int8, p_generation pg_catalog.int8, p_back pg_catalog.bool
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_each record;
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    -- What goes makes room first for what comes.
    FOR v_each IN
        SELECT
            o.sort, u.oid,
            CASE WHEN (o.action = 'retire') = p_back THEN s.schema ELSE s.staging_name END AS target
        FROM reconciler.generation_objects AS o
        INNER JOIN reconciler.generation_schemas AS s ON o.generation = s.generation AND o.schema = s.schema
        CROSS JOIN LATERAL pg_catalog.unnest(o.oids) AS u (oid)
        WHERE o.generation = p_generation AND s.sort = 'stable' AND o.action IN ('retire', 'move')
        ORDER BY (o.action = 'retire') = p_back, o.wave, o.name
    LOOP
        EXECUTE pg_catalog.format(
            'ALTER %s SET SCHEMA %I', reconciler.identity_of(v_each.sort, v_each.oid), v_each.target
        );
    END LOOP;
    IF NOT p_back THEN
        UPDATE reconciler.generation_objects AS o
        SET
            previous = ARRAY(
                SELECT CASE
                    WHEN o.sort = 'view' THEN pg_catalog.format(
                        'CREATE OR REPLACE VIEW %I.%I%s AS %s', o.schema, o.name,
                        (
                            SELECT ' WITH (' || pg_catalog.array_to_string(c.reloptions, ', ') || ')'
                            FROM pg_catalog.pg_class AS c WHERE c.oid = u.oid AND c.reloptions IS NOT NULL
                        ),
                        pg_catalog.pg_get_viewdef(u.oid)
                    )
                    ELSE pg_catalog.pg_get_functiondef(u.oid)
                END
                FROM pg_catalog.unnest(b.oids) AS u (oid)
            )
        FROM reconciler.generation_schemas AS s
        INNER JOIN reconciler.generation_objects AS b ON s.base_generation = b.generation AND s.schema = b.schema
        WHERE
            o.generation = p_generation AND s.generation = p_generation AND s.sort = 'stable'
            AND o.schema = s.schema AND b.name = o.name AND o.action = 'replace';
    END IF;
END
$$;
COMMENT ON FUNCTION reconciler.move_in_place(pg_catalog.int8, pg_catalog.int8, pg_catalog.bool) IS
'Checks the fence, moves what comes to a stable schema and what goes, and keeps what takes replacements back.';


CREATE FUNCTION reconciler.settle_in_place(
    p_epoch pg_catalog.int8, p_generation pg_catalog.int8
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_each record;
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    -- What was only tried beside it has done its work.
    FOR v_each IN
        SELECT o.sort, u.oid
        FROM reconciler.generation_objects AS o
        INNER JOIN reconciler.generation_schemas AS s ON o.generation = s.generation AND o.schema = s.schema
        CROSS JOIN LATERAL pg_catalog.unnest(o.oids) AS u (oid)
        WHERE o.generation = p_generation AND s.sort = 'stable' AND o.action IN ('add', 'replace')
        ORDER BY o.wave DESC, o.name DESC
    LOOP
        EXECUTE 'DROP ' || reconciler.identity_of(v_each.sort, v_each.oid) || ' RESTRICT';
    END LOOP;
    UPDATE reconciler.generation_objects AS o
    SET
        fingerprint = NULL,
        oids = CASE
            WHEN o.sort = 'view' THEN ARRAY(
                SELECT c.oid FROM pg_catalog.pg_class AS c
                WHERE c.relname = o.name AND c.relnamespace = s.live_oid AND c.relkind = 'v'
            )
            ELSE ARRAY(
                SELECT p.oid FROM pg_catalog.pg_proc AS p
                WHERE p.proname = o.name AND p.pronamespace = s.live_oid ORDER BY p.oid
            )
        END
    FROM reconciler.generation_schemas AS s
    WHERE
        o.generation = p_generation AND s.generation = p_generation AND s.sort = 'stable'
        AND o.schema = s.schema AND o.action IN ('add', 'replace');
    PERFORM reconciler.record_details(
        p_generation, pg_catalog.array_agg(o.schema), pg_catalog.array_agg(o.name)
    )
    FROM reconciler.generation_objects AS o
    INNER JOIN reconciler.generation_schemas AS s ON o.generation = s.generation AND o.schema = s.schema
    WHERE o.generation = p_generation AND s.sort = 'stable' AND o.action IN ('add', 'replace', 'move');
    -- What is replaced keeps its grants, and what of them was ours is what it was.
    UPDATE reconciler.generation_objects AS o
    SET acl = b.acl
    FROM reconciler.generation_schemas AS s
    INNER JOIN reconciler.generation_objects AS b ON s.base_generation = b.generation AND s.schema = b.schema
    WHERE
        o.generation = p_generation AND s.generation = p_generation AND s.sort = 'stable'
        AND o.schema = s.schema AND b.name = o.name AND o.action = 'replace';
END
$$;
COMMENT ON FUNCTION reconciler.settle_in_place(pg_catalog.int8, pg_catalog.int8) IS
'Checks the fence, drops what was tried for stable schemas, and records what was made in place.';


CREATE FUNCTION reconciler.revert_in_place(
    p_epoch pg_catalog.int8, p_generation pg_catalog.int8
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_each record;
    v_text pg_catalog.text;
BEGIN
    PERFORM reconciler.move_in_place(p_epoch, p_generation, TRUE);
    FOR v_each IN
        SELECT o.schema, o.name, o.sort, o.oids, o.previous, o.action
        FROM reconciler.generation_objects AS o
        INNER JOIN reconciler.generation_schemas AS s ON o.generation = s.generation AND o.schema = s.schema
        WHERE o.generation = p_generation AND s.sort = 'stable' AND o.action IN ('add', 'replace')
        ORDER BY o.action DESC, o.wave DESC, o.name DESC
    LOOP
        IF v_each.action = 'replace' THEN
            FOREACH v_text IN ARRAY v_each.previous LOOP
                EXECUTE v_text;
            END LOOP;
        ELSE
            FOR v_text IN
                SELECT reconciler.identity_of(v_each.sort, u.oid) FROM pg_catalog.unnest(v_each.oids) AS u (oid)
            LOOP
                EXECUTE 'DROP ' || v_text || ' RESTRICT';
            END LOOP;
        END IF;
    END LOOP;
    PERFORM reconciler.record_details(
        s.base_generation, pg_catalog.array_agg(o.schema), pg_catalog.array_agg(o.name)
    )
    FROM reconciler.generation_objects AS o
    INNER JOIN reconciler.generation_schemas AS s ON o.generation = s.generation AND o.schema = s.schema
    WHERE o.generation = p_generation AND s.sort = 'stable' AND o.action IN ('replace', 'retire')
    GROUP BY s.base_generation;
END
$$;
COMMENT ON FUNCTION reconciler.revert_in_place(pg_catalog.int8, pg_catalog.int8) IS
'Checks the fence and takes back what a switch did in stable schemas; fails where that cannot be done in place.';


CREATE FUNCTION reconciler.settle_switch(
    p_epoch pg_catalog.int8, p_generation pg_catalog.int8, p_retain pg_catalog.interval
) RETURNS pg_catalog.timestamptz
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_until pg_catalog.timestamptz;
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    UPDATE reconciler.generations AS g
    SET
        state = 'live', promoted_at = pg_catalog.clock_timestamp(),
        retained_until = pg_catalog.clock_timestamp() + p_retain
    WHERE g.generation = p_generation AND g.state IN ('staged', 'ready')
    RETURNING g.retained_until INTO v_until;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'generation % is not to be switched', p_generation USING ERRCODE = 'RC013';
    END IF;
    UPDATE reconciler.live_schemas AS l
    SET generation = p_generation, stable = s.declared_stable
    FROM reconciler.generation_schemas AS s
    WHERE s.generation = p_generation AND s.schema = l.schema AND s.sort IN ('swapped', 'added', 'stable');
    DELETE FROM reconciler.live_schemas AS l
    USING reconciler.generation_schemas AS s
    WHERE s.generation = p_generation AND s.schema = l.schema AND s.sort = 'retired';
    UPDATE reconciler.generations AS g
    SET state = 'retained'
    WHERE
        g.state = 'live' AND g.generation IN (
            SELECT s.base_generation FROM reconciler.generation_schemas AS s
            WHERE s.generation = p_generation AND s.sort <> 'read'
        )
        AND NOT EXISTS (SELECT FROM reconciler.live_schemas AS l WHERE l.generation = g.generation);
    RETURN v_until;
END
$$;
COMMENT ON FUNCTION reconciler.settle_switch(pg_catalog.int8, pg_catalog.int8, pg_catalog.interval) IS
'Checks the fence and records that a generation is live and what it displaced is kept.';


CREATE FUNCTION reconciler.settle_revert(
    p_epoch pg_catalog.int8, p_generation pg_catalog.int8
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_reverted reconciler.generations;
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    UPDATE reconciler.generations AS g
    SET state = 'reverted', ended_at = pg_catalog.clock_timestamp()
    WHERE g.generation = p_generation AND g.state = 'live'
    RETURNING g.* INTO v_reverted;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'generation % is not live', p_generation USING ERRCODE = 'RC013';
    END IF;
    INSERT INTO reconciler.live_schemas AS l (schema, component, environment, deployment, generation, stable)
    SELECT
        s.schema, v_reverted.component, v_reverted.environment, v_reverted.deployment, s.base_generation,
        COALESCE(b.declared_stable, FALSE)
    FROM reconciler.generation_schemas AS s
    LEFT JOIN reconciler.generation_schemas AS b ON s.base_generation = b.generation AND s.schema = b.schema
    WHERE s.generation = p_generation AND s.sort <> 'read'
    ON CONFLICT (schema) DO UPDATE SET generation = excluded.generation, stable = excluded.stable;
    UPDATE reconciler.generations AS g
    SET state = 'live'
    WHERE
        g.state = 'retained'
        AND EXISTS (SELECT FROM reconciler.live_schemas AS l WHERE l.generation = g.generation);
END
$$;
COMMENT ON FUNCTION reconciler.settle_revert(pg_catalog.int8, pg_catalog.int8) IS
'Checks the fence and records that the switch to a generation was taken back.';


-- Dropping ----------------------------------------------------------------------------------------------

CREATE FUNCTION reconciler.parked_sides(p_generation pg_catalog.int8) RETURNS TABLE (
    schema pg_catalog.text, namespace pg_catalog.oid, parked_name pg_catalog.text, generation pg_catalog.int8
)
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT s.schema, n.oid, n.nspname::pg_catalog.text, p.generation
    FROM reconciler.generations AS g
    INNER JOIN reconciler.generation_schemas AS s ON g.generation = s.generation
    CROSS JOIN LATERAL (
        -- After the switch what it displaced is parked; before it, and after it was taken back, its own are.
        SELECT
            CASE WHEN g.state IN ('live', 'retained', 'retired') THEN s.live_oid ELSE s.staging_oid END AS namespace,
            CASE WHEN g.state IN ('live', 'retained', 'retired') THEN s.old_name ELSE s.staging_name END AS name,
            CASE WHEN g.state IN ('live', 'retained', 'retired') THEN s.base_generation ELSE s.generation END
                AS generation
        WHERE s.sort IN ('swapped', 'added', 'retired')
        UNION ALL
        SELECT s.staging_oid, s.staging_name, s.generation WHERE s.sort = 'stable'
    ) AS p
    INNER JOIN pg_catalog.pg_namespace AS n ON p.namespace = n.oid AND p.name = n.nspname
    WHERE g.generation = p_generation
$$;
COMMENT ON FUNCTION reconciler.parked_sides(pg_catalog.int8) IS
'The schemas of a generation that are not live and still there, and whose objects stand in them.';


CREATE FUNCTION reconciler.parked_objects(p_generation pg_catalog.int8) RETURNS TABLE (
    schema pg_catalog.text,
    name pg_catalog.text,
    namespace pg_catalog.oid,
    parked_name pg_catalog.text,
    sort pg_catalog.text,
    wave pg_catalog.int4,
    objid pg_catalog.oid
)
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT o.schema, o.name, s.namespace, s.parked_name, o.sort, o.wave, u.oid
    FROM reconciler.parked_sides(p_generation) AS s
    INNER JOIN reconciler.generation_objects AS o ON s.generation = o.generation AND s.schema = o.schema
    CROSS JOIN LATERAL pg_catalog.unnest(o.oids) AS u (oid)
    LEFT JOIN pg_catalog.pg_class AS c ON u.oid = c.oid AND o.sort IN ('view', 'materialized view')
    LEFT JOIN pg_catalog.pg_proc AS p ON u.oid = p.oid AND o.sort IN ('function', 'procedure')
    WHERE COALESCE(c.relnamespace, p.pronamespace) = s.namespace
$$;
COMMENT ON FUNCTION reconciler.parked_objects(pg_catalog.int8) IS
'The recorded objects that stand in the parked schemas of a generation.';


CREATE FUNCTION reconciler.found_parked(p_generation pg_catalog.int8) RETURNS TABLE (
    kind pg_catalog.text, subject pg_catalog.text, detail pg_catalog.text
)
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT 'unknown', s.parked_name, pg_catalog.pg_describe_object(c.classid, c.objid, 0)
    FROM reconciler.parked_sides(p_generation) AS s
    CROSS JOIN LATERAL reconciler.contents_of(ARRAY[s.namespace]) AS c
    WHERE
        NOT EXISTS (
            SELECT FROM reconciler.known_objects(s.generation) AS k
            WHERE k.classid = c.classid AND k.objid = c.objid
        )
$$;
COMMENT ON FUNCTION reconciler.found_parked(pg_catalog.int8) IS
'What stands in parked schemas and is not ours: made there by hand, or as the switch was made.';


CREATE FUNCTION reconciler.drop_object(
    p_epoch pg_catalog.int8, p_sort pg_catalog.text, p_object pg_catalog.oid, p_namespace pg_catalog.oid
) RETURNS pg_catalog.bool
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_name pg_catalog.text;
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    IF p_sort IN ('function', 'procedure') THEN
        SELECT p.oid::pg_catalog.regprocedure::pg_catalog.text INTO v_name FROM pg_catalog.pg_proc AS p
        WHERE p.oid = p_object AND p.pronamespace = p_namespace;
        p_sort := 'routine';
    ELSE
        SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) INTO v_name
        FROM pg_catalog.pg_class AS c
        INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace = n.oid
        WHERE c.oid = p_object AND c.relnamespace = p_namespace;
    END IF;
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    EXECUTE pg_catalog.format('DROP %s %s RESTRICT', p_sort, v_name);
    RETURN TRUE;
END
$$;
COMMENT ON FUNCTION reconciler.drop_object(
    pg_catalog.int8, pg_catalog.text, pg_catalog.oid, pg_catalog.oid
) IS
'Checks the fence and drops one object that is still in the schema where it was made; nothing along with it.';


CREATE FUNCTION reconciler.drop_schema(
    p_epoch pg_catalog.int8, p_namespace pg_catalog.oid, p_name pg_catalog.text
) RETURNS pg_catalog.bool
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    PERFORM 1 FROM pg_catalog.pg_namespace AS n WHERE n.oid = p_namespace AND n.nspname = p_name;
    IF NOT FOUND THEN
        RETURN FALSE;
    END IF;
    EXECUTE pg_catalog.format('DROP SCHEMA %I RESTRICT', p_name);
    RETURN TRUE;
END
$$;
COMMENT ON FUNCTION reconciler.drop_schema(pg_catalog.int8, pg_catalog.oid, pg_catalog.text) IS
'Checks the fence and drops one empty schema of ours that still has the name it was given.';


CREATE FUNCTION reconciler.settle_parked(
    p_epoch pg_catalog.int8, p_generation pg_catalog.int8, p_failure pg_catalog.text
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    -- Whose objects are all gone is only history.
    UPDATE reconciler.generations AS g
    SET
        state = CASE
            WHEN g.state IN ('retained', 'reverted') THEN 'retired'::reconciler.generation_state
            WHEN p_failure IS NOT NULL THEN 'failed'
            WHEN g.state = 'failed' THEN 'failed'
            ELSE 'cancelled'
        END,
        failure = COALESCE(p_failure, g.failure), ended_at = pg_catalog.clock_timestamp()
    WHERE
        g.state IN ('staging', 'staged', 'ready', 'failed', 'retained', 'reverted')
        AND (
            g.generation = p_generation
            OR g.generation IN (
                SELECT s.base_generation FROM reconciler.generation_schemas AS s WHERE s.generation = p_generation
            )
        )
        AND NOT EXISTS (
            SELECT FROM reconciler.generation_schemas AS s
            INNER JOIN pg_catalog.pg_namespace AS n ON s.staging_oid = n.oid
            WHERE s.generation = g.generation
        );
    DELETE FROM reconciler.generation_objects AS o
    USING reconciler.generations AS g
    WHERE
        o.generation = g.generation AND g.state IN ('retired', 'failed', 'cancelled')
        AND NOT EXISTS (
            SELECT FROM reconciler.generation_schemas AS s
            INNER JOIN pg_catalog.pg_namespace AS n ON s.staging_oid = n.oid
            WHERE s.generation = g.generation
        );
    DELETE FROM reconciler.live_schemas AS l
    WHERE
        l.generation IS NULL
        AND NOT EXISTS (
            SELECT FROM reconciler.generation_schemas AS s
            INNER JOIN reconciler.generations AS g ON s.generation = g.generation
            WHERE s.schema = l.schema AND s.sort <> 'read' AND g.state IN ('staging', 'staged', 'ready', 'live')
        );
END
$$;
COMMENT ON FUNCTION reconciler.settle_parked(pg_catalog.int8, pg_catalog.int8, pg_catalog.text) IS
'Checks the fence and records which generations are gone, once nothing of them is there any more.';


-- Grants, comments and options in place -----------------------------------------------------------------

CREATE FUNCTION reconciler.born_with(
    p_sort pg_catalog."char", p_owner pg_catalog.oid, p_namespace pg_catalog.oid
) RETURNS pg_catalog.text []
LANGUAGE sql STABLE SET search_path = ''
AS $$
    SELECT ARRAY(
        SELECT pg_catalog.unnest(reconciler.acl_lines(
            COALESCE(
                (
                    SELECT d.defaclacl FROM pg_catalog.pg_default_acl AS d
                    WHERE d.defaclrole = p_owner AND d.defaclnamespace = 0 AND d.defaclobjtype = p_sort
                ),
                pg_catalog.acldefault(p_sort, p_owner)
            ), p_owner
        ))
        UNION
        SELECT pg_catalog.unnest(reconciler.acl_lines(d.defaclacl, p_owner)) FROM pg_catalog.pg_default_acl AS d
        WHERE d.defaclrole = p_owner AND d.defaclnamespace = p_namespace AND d.defaclobjtype = p_sort
    )
$$;
COMMENT ON FUNCTION reconciler.born_with(pg_catalog."char", pg_catalog.oid, pg_catalog.oid) IS
'Owner and grants that an object of a role has in a schema when it was just made.';


CREATE FUNCTION reconciler.reset_grants(
    p_what pg_catalog.text, p_recorded pg_catalog.text [], p_born pg_catalog.text []
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_line pg_catalog.text;
    v_parts pg_catalog.text [];
BEGIN
    FOR v_line IN SELECT pg_catalog.unnest(p_recorded) EXCEPT SELECT pg_catalog.unnest(p_born) LOOP
        v_parts := pg_catalog.string_to_array(pg_catalog.regexp_replace(v_line, ' WITH GRANT OPTION$', ''), E'\t');
        IF v_parts[1] NOT IN ('OWNER', 'DEFAULT') THEN
            EXECUTE pg_catalog.format('REVOKE %s ON %s FROM %s', v_parts[1], p_what, v_parts[2]);
        END IF;
    END LOOP;
    FOR v_line IN SELECT pg_catalog.unnest(p_born) EXCEPT SELECT pg_catalog.unnest(p_recorded) LOOP
        v_parts := pg_catalog.string_to_array(v_line, E'\t');
        IF v_parts[1] <> 'OWNER' THEN
            EXECUTE pg_catalog.format('GRANT %s ON %s TO %s', v_parts[1], p_what, v_parts[2]);
        END IF;
    END LOOP;
END
$$;
COMMENT ON FUNCTION reconciler.reset_grants(pg_catalog.text, pg_catalog.text [], pg_catalog.text []) IS
'Takes back what we granted, to what a thing is born with; what was granted by hand stays.';


CREATE FUNCTION reconciler.reset_object(
    p_epoch pg_catalog.int8, p_schema pg_catalog.text, p_name pg_catalog.text, p_options pg_catalog.jsonb
) RETURNS pg_catalog.text []
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_object reconciler.generation_objects;
    v_each record;
    v_extra pg_catalog.text [];
    v_option record;
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    SELECT o.* INTO v_object
    FROM reconciler.live_schemas AS l
    INNER JOIN reconciler.generation_objects AS o ON l.generation = o.generation AND l.schema = o.schema
    WHERE o.schema = p_schema AND o.name = p_name;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'object "%"."%" is not live', p_schema, p_name USING ERRCODE = 'RC012';
    END IF;
    SELECT ARRAY(SELECT pg_catalog.unnest(d.acl) EXCEPT SELECT pg_catalog.unnest(v_object.acl)) INTO v_extra
    FROM reconciler.object_details(v_object.generation, ARRAY[p_schema], ARRAY[p_name]) AS d;
    FOR v_each IN
        SELECT
            'TABLE ' || pg_catalog.format('%I.%I', n.nspname, c.relname) AS what,
            pg_catalog.upper(v_object.sort) || ' ' || pg_catalog.format('%I.%I', n.nspname, c.relname) AS shown,
            reconciler.born_with('r', c.relowner, c.relnamespace) AS born, c.oid, c.reloptions AS options,
            'pg_catalog.pg_class'::pg_catalog.regclass::pg_catalog.oid AS classid
        FROM pg_catalog.pg_class AS c
        INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace = n.oid
        WHERE v_object.sort IN ('view', 'materialized view') AND c.oid = ANY(v_object.oids)
        UNION ALL
        SELECT
            'ROUTINE ' || p.oid::pg_catalog.regprocedure::pg_catalog.text,
            'ROUTINE ' || p.oid::pg_catalog.regprocedure::pg_catalog.text,
            reconciler.born_with('f', p.proowner, p.pronamespace), p.oid, NULL,
            'pg_catalog.pg_proc'::pg_catalog.regclass
        FROM pg_catalog.pg_proc AS p
        WHERE v_object.sort IN ('function', 'procedure') AND p.oid = ANY(v_object.oids)
    LOOP
        PERFORM reconciler.reset_grants(v_each.what, v_object.acl, v_each.born);
        IF pg_catalog.obj_description(v_each.oid, v_each.classid::pg_catalog.regclass::pg_catalog.text::pg_catalog.name)
            IS NOT NULL THEN
            EXECUTE pg_catalog.format('COMMENT ON %s IS NULL', v_each.shown);
        END IF;
        FOR v_option IN
            SELECT a.attname, i.relname
            FROM pg_catalog.pg_description AS d
            LEFT JOIN pg_catalog.pg_attribute AS a
                ON d.objoid = a.attrelid AND d.objsubid = a.attnum AND d.objsubid > 0
            LEFT JOIN pg_catalog.pg_index AS x ON d.objoid = x.indexrelid AND x.indrelid = v_each.oid
            LEFT JOIN pg_catalog.pg_class AS i ON x.indexrelid = i.oid
            WHERE
                d.classoid = 'pg_catalog.pg_class'::pg_catalog.regclass
                AND v_each.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                AND (
                    (d.objoid = v_each.oid AND d.objsubid > 0)
                    OR d.objoid IN (
                        SELECT y.indexrelid FROM pg_catalog.pg_index AS y WHERE y.indrelid = v_each.oid
                    )
                )
        LOOP
            EXECUTE CASE
                WHEN v_option.relname IS NOT NULL
                    THEN pg_catalog.format('COMMENT ON INDEX %I.%I IS NULL', p_schema, v_option.relname)
                ELSE pg_catalog.format('COMMENT ON COLUMN %I.%I.%I IS NULL', p_schema, p_name, v_option.attname)
            END;
        END LOOP;
        FOR v_option IN
            SELECT COALESCE(w.key, h.option_name) AS key, w.value
            FROM pg_catalog.pg_options_to_table(v_each.options) AS h
            FULL JOIN pg_catalog.jsonb_each_text(p_options) AS w ON h.option_name = w.key
            WHERE
                v_each.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
                AND h.option_value IS DISTINCT FROM w.value
        LOOP
            EXECUTE CASE
                WHEN v_option.value IS NULL
                    THEN pg_catalog.format('ALTER %s RESET (%s)', v_each.shown, v_option.key)
                ELSE pg_catalog.format('ALTER %s SET (%s = %L)', v_each.shown, v_option.key, v_option.value)
            END;
        END LOOP;
    END LOOP;
    RETURN v_extra;
END
$$;
COMMENT ON FUNCTION reconciler.reset_object(
    pg_catalog.int8, pg_catalog.text, pg_catalog.text, pg_catalog.jsonb
) IS
'Checks the fence and takes grants and comments of ours back, and sets options; gives what was granted by hand.';


CREATE FUNCTION reconciler.record_metadata(
    p_epoch pg_catalog.int8, p_schema pg_catalog.text, p_name pg_catalog.text, p_hash pg_catalog.text,
    p_extra pg_catalog.text []
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_generation pg_catalog.int8;
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    SELECT l.generation INTO v_generation FROM reconciler.live_schemas AS l WHERE l.schema = p_schema;
    PERFORM reconciler.record_details(v_generation, ARRAY[p_schema], ARRAY[p_name]);
    UPDATE reconciler.generation_objects AS o
    SET
        metadata_hash = p_hash,
        acl = ARRAY(SELECT l.line FROM pg_catalog.unnest(d.acl) AS l (line) WHERE l.line <> ALL(p_extra))
    FROM reconciler.object_details(v_generation, ARRAY[p_schema], ARRAY[p_name]) AS d
    WHERE o.generation = v_generation AND o.schema = p_schema AND o.name = p_name;
END
$$;
COMMENT ON FUNCTION reconciler.record_metadata(
    pg_catalog.int8, pg_catalog.text, pg_catalog.text, pg_catalog.text, pg_catalog.text []
) IS
'Checks the fence and records grants, comments and options of an object as they are now, but for those by hand.';


CREATE FUNCTION reconciler.reset_schema(
    p_epoch pg_catalog.int8, p_schema pg_catalog.text
) RETURNS pg_catalog.text []
LANGUAGE plpgsql SET search_path = ''
AS $$
DECLARE
    v_recorded pg_catalog.text [];
    v_oid pg_catalog.oid;
    v_line pg_catalog.text;
    v_parts pg_catalog.text [];
    v_extra pg_catalog.text [];
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    SELECT s.acl, n.oid INTO v_recorded, v_oid
    FROM reconciler.live_schemas AS l
    INNER JOIN reconciler.generation_schemas AS s ON l.generation = s.generation AND l.schema = s.schema
    INNER JOIN pg_catalog.pg_namespace AS n ON l.schema = n.nspname
    WHERE l.schema = p_schema;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'schema "%" is not live', p_schema USING ERRCODE = 'RC012';
    END IF;
    v_extra := ARRAY(
        SELECT pg_catalog.unnest(reconciler.schema_acl(v_oid)) EXCEPT SELECT pg_catalog.unnest(v_recorded)
    );
    PERFORM reconciler.reset_grants(pg_catalog.format('SCHEMA %I', p_schema), v_recorded, '{}');
    FOREACH v_line IN ARRAY v_recorded LOOP
        v_parts := pg_catalog.string_to_array(pg_catalog.regexp_replace(v_line, ' WITH GRANT OPTION$', ''), E'\t');
        IF v_parts[1] = 'DEFAULT' THEN
            EXECUTE pg_catalog.format(
                'ALTER DEFAULT PRIVILEGES FOR ROLE %s IN SCHEMA %I REVOKE %s ON %s FROM %s',
                v_parts[2], p_schema, v_parts[4], v_parts[3], v_parts[5]
            );
        END IF;
    END LOOP;
    EXECUTE pg_catalog.format('COMMENT ON SCHEMA %I IS NULL', p_schema);
    RETURN v_extra;
END
$$;
COMMENT ON FUNCTION reconciler.reset_schema(pg_catalog.int8, pg_catalog.text) IS
'Checks the fence and takes back what we granted on a schema; gives what was granted by hand, which stays.';


CREATE FUNCTION reconciler.record_schema_metadata(
    p_epoch pg_catalog.int8, p_schema pg_catalog.text, p_hash pg_catalog.text, p_extra pg_catalog.text []
) RETURNS pg_catalog.void
LANGUAGE plpgsql SET search_path = ''
AS $$
BEGIN
    PERFORM reconciler.check_fence(p_epoch);
    UPDATE reconciler.generation_schemas AS s
    SET
        metadata_hash = p_hash, version = v.version,
        acl = ARRAY(
            SELECT l.line FROM pg_catalog.unnest(reconciler.schema_acl(n.oid)) AS l (line)
            WHERE l.line <> ALL(p_extra)
        )
    FROM reconciler.live_schemas AS l
    INNER JOIN pg_catalog.pg_namespace AS n ON l.schema = n.nspname
    CROSS JOIN LATERAL reconciler.schema_versions(ARRAY[n.oid]) AS v
    WHERE l.schema = p_schema AND s.generation = l.generation AND s.schema = l.schema;
END
$$;
COMMENT ON FUNCTION reconciler.record_schema_metadata(
    pg_catalog.int8, pg_catalog.text, pg_catalog.text, pg_catalog.text []
) IS
'Checks the fence and records owner, grants and comment of a schema as they are now, but for those by hand.';


REVOKE ALL ON ALL TABLES IN SCHEMA reconciler FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA reconciler FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA reconciler FROM PUBLIC;
REVOKE ALL ON TYPE reconciler.generation_state FROM PUBLIC;
