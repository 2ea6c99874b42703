-- noqa: disable=LT01
-- The linter takes OPERATOR(…) for a function call.

-- name: begin_generation :one
-- Checks the fence and records a generation before anything of it is made.
SELECT reconciler.begin_generation(%(epoch)s, %(work)s::pg_catalog.jsonb);

-- name: record_schema :exec
-- Checks the fence and records the staging schema that was just made.
SELECT reconciler.record_schema(%(epoch)s, %(generation)s, %(schema)s);

-- name: record_object :exec
-- Checks the fence and records the object that was just made in its staging schema.
SELECT reconciler.record_object(%(epoch)s, %(generation)s, %(schema)s, %(name)s);

-- name: record_objects :exec
-- Checks the fence and records objects that were just made in their staging schemas.
SELECT reconciler.record_objects(%(epoch)s, %(generation)s, %(schemas)s, %(names)s);

-- name: record_details :exec
-- Records how objects of a generation stand now.
SELECT reconciler.record_details(%(generation)s, %(schemas)s, %(names)s);

-- name: record_filled :exec
-- Records that a materialized view was filled.
UPDATE reconciler.generation_objects AS o
SET filled_at = pg_catalog.clock_timestamp()
WHERE
    o.generation OPERATOR(pg_catalog.=) %(generation)s
    AND o.schema OPERATOR(pg_catalog.=) %(schema)s
    AND o.name OPERATOR(pg_catalog.=) %(name)s;

-- name: aged_views :many
-- Reads the materialized views that a generation has or reads, and whose rows are older than some seconds, in an
-- order in which they can be refreshed: where each stands now, and whether it may be refreshed beside readers.
SELECT
    o.schema, o.name, n.nspname, o.generation, c.oid::pg_catalog.int8 AS oid,
    o.generation OPERATOR(pg_catalog.=) %(generation)s AS own, x.unique_key IS NOT NULL AS beside_readers
FROM reconciler.generation_schemas AS s
LEFT JOIN reconciler.live_schemas AS l
    ON s.schema OPERATOR(pg_catalog.=) l.schema AND s.sort OPERATOR(pg_catalog.=) ANY ('{read,stable}')
INNER JOIN reconciler.generation_objects AS o
    ON
        s.schema OPERATOR(pg_catalog.=) o.schema
        AND (
            o.generation OPERATOR(pg_catalog.=) s.generation
            OR o.generation OPERATOR(pg_catalog.=) l.generation
        )
INNER JOIN pg_catalog.pg_class AS c ON o.oids[1] OPERATOR(pg_catalog.=) c.oid
INNER JOIN pg_catalog.pg_namespace AS n ON c.relnamespace OPERATOR(pg_catalog.=) n.oid
LEFT JOIN LATERAL (
    SELECT pg_catalog.min(i.indexrelid::pg_catalog.int8) AS unique_key
    FROM pg_catalog.pg_index AS i
    WHERE
        i.indrelid OPERATOR(pg_catalog.=) c.oid AND i.indisunique AND i.indisvalid AND i.indimmediate
        AND i.indpred IS NULL AND i.indexprs IS NULL
) AS x ON TRUE
WHERE
    s.generation OPERATOR(pg_catalog.=) %(generation)s
    AND o.sort OPERATOR(pg_catalog.=) 'materialized view'
    AND o.filled_at OPERATOR(pg_catalog.<)
    (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) pg_catalog.make_interval(secs => %(seconds)s))
    -- What a generation only keeps is refreshed as the one has it that is live.
    AND (o.action OPERATOR(pg_catalog.<>) 'keep' OR o.generation OPERATOR(pg_catalog.=) l.generation)
    AND o.action OPERATOR(pg_catalog.<>) 'retire'
    AND NOT EXISTS (
        SELECT FROM reconciler.generation_objects AS w
        WHERE
            o.generation OPERATOR(pg_catalog.<>) s.generation
            AND w.generation OPERATOR(pg_catalog.=) s.generation
            AND w.schema OPERATOR(pg_catalog.=) o.schema AND w.name OPERATOR(pg_catalog.=) o.name
            AND w.action OPERATOR(pg_catalog.<>) 'keep'
    )
ORDER BY own, o.generation, o.wave, o.schema, o.name;

-- name: clock :one
-- Reads the clock of the server.
SELECT pg_catalog.clock_timestamp() AS now;

-- name: record_filled_again :exec
-- Records from when the rows of a materialized view are.
UPDATE reconciler.generation_objects AS o
SET filled_at = %(since)s
WHERE
    o.generation OPERATOR(pg_catalog.=) %(generation)s
    AND o.schema OPERATOR(pg_catalog.=) %(schema)s
    AND o.name OPERATOR(pg_catalog.=) %(name)s
    AND o.oids[1] OPERATOR(pg_catalog.=) %(oid)s::pg_catalog.int8::pg_catalog.oid;

-- name: settle_stability :exec
-- Records whether a live schema is changed in place from now on, and that what is live says so.
WITH declared AS (
    UPDATE reconciler.generation_schemas AS s
    SET declared_stable = %(stable)s
    FROM reconciler.live_schemas AS l
    WHERE
        l.schema OPERATOR(pg_catalog.=) %(schema)s AND s.schema OPERATOR(pg_catalog.=) l.schema
        AND s.generation OPERATOR(pg_catalog.=) l.generation
)
UPDATE reconciler.live_schemas AS l
SET stable = %(stable)s
WHERE l.schema OPERATOR(pg_catalog.=) %(schema)s;

-- name: finish_staging :one
-- Checks the fence and records how everything that was made stands, and that all is made.
SELECT reconciler.finish_staging(%(epoch)s, %(generation)s);

-- name: move_generation :one
-- Checks the fence and moves a generation from one of some states to another.
SELECT
    reconciler.move_generation(
        %(epoch)s, %(generation)s, %(before)s::reconciler.generation_state [],
        %(state)s::reconciler.generation_state, %(failure)s
    );

-- name: find_generation :many
-- Reads the newest generation of a key, or the one of a number.
SELECT
    g.generation, g.key, g.component, g.environment, g.deployment, g.commit, g.operation,
    g.state::pg_catalog.text, g.failure, g.begun_at, g.staged_at, g.ready_at, g.promoted_at, g.retained_until,
    COALESCE(g.retained_until OPERATOR(pg_catalog.>) pg_catalog.clock_timestamp(), FALSE) AS in_window
FROM reconciler.generations AS g
WHERE
    g.key OPERATOR(pg_catalog.=) %(key)s::pg_catalog.text
    OR g.generation OPERATOR(pg_catalog.=) %(generation)s::pg_catalog.int8
ORDER BY g.generation DESC
LIMIT 1;

-- name: read_generation_schemas :many
-- Reads the schemas of a generation, in the order of their names.
SELECT s.schema, s.sort, s.staging_name, s.staging_oid::pg_catalog.int8, s.old_name
FROM reconciler.generation_schemas AS s
WHERE s.generation OPERATOR(pg_catalog.=) %(generation)s
ORDER BY s.schema;

-- name: read_generation_objects :many
-- Reads the objects of a generation, in an order in which they can be made.
SELECT o.schema, o.name, o.sort, o.hash, o.metadata_hash, o.made_at IS NOT NULL, o.filled_at IS NOT NULL
FROM reconciler.generation_objects AS o
WHERE o.generation OPERATOR(pg_catalog.=) %(generation)s
ORDER BY o.wave, o.schema, o.name;

-- name: read_production :many
-- Reads what is live of a component: a row for each schema, followed by those of its objects.
SELECT
    l.schema, l.stable, s.metadata_hash AS schema_hash, o.name, o.sort, o.hash, o.metadata_hash
FROM reconciler.live_schemas AS l
INNER JOIN reconciler.generation_schemas AS s
    ON l.generation OPERATOR(pg_catalog.=) s.generation AND l.schema OPERATOR(pg_catalog.=) s.schema
LEFT JOIN reconciler.generation_objects AS o
    ON
        s.generation OPERATOR(pg_catalog.=) o.generation
        AND s.schema OPERATOR(pg_catalog.=) o.schema
        AND o.action OPERATOR(pg_catalog.<>) 'retire'
WHERE
    l.component OPERATOR(pg_catalog.=) %(component)s
    AND l.environment OPERATOR(pg_catalog.=) %(environment)s
    AND l.deployment OPERATOR(pg_catalog.=) %(deployment)s
ORDER BY l.schema, o.name;

-- name: owners_of_schemas :many
-- Reads whose schemas are that are somebody's.
SELECT l.schema, l.component, l.environment, l.deployment, l.generation
FROM reconciler.live_schemas AS l
WHERE l.schema OPERATOR(pg_catalog.=) ANY (%(schemas)s)
ORDER BY l.schema;

-- name: live_objects :many
-- Reads which objects of schemas were made by the generations that are live in them.
SELECT
    o.sort OPERATOR(pg_catalog.=) ANY ('{function,procedure}'::pg_catalog.text []) AS routine,
    pg_catalog.unnest(o.oids)::pg_catalog.int8 AS oid
FROM reconciler.live_schemas AS l
INNER JOIN reconciler.generation_objects AS o
    ON l.generation OPERATOR(pg_catalog.=) o.generation AND l.schema OPERATOR(pg_catalog.=) o.schema
WHERE l.schema OPERATOR(pg_catalog.=) ANY (%(schemas)s);

-- name: staging_names :many
-- Reads the staging schemas that were made for a key and are still called so.
SELECT s.staging_name
FROM reconciler.generations AS g
INNER JOIN reconciler.generation_schemas AS s ON g.generation OPERATOR(pg_catalog.=) s.generation
INNER JOIN pg_catalog.pg_namespace AS n
    ON s.staging_oid OPERATOR(pg_catalog.=) n.oid AND s.staging_name OPERATOR(pg_catalog.=) n.nspname
WHERE g.key OPERATOR(pg_catalog.=) %(key)s AND g.state OPERATOR(pg_catalog.=) ANY ('{staging,staged,ready}');

-- name: try_switch_lock :one
-- Tries to keep others from switching until this transaction ends.
SELECT pg_catalog.pg_try_advisory_xact_lock(1380206158, 3);

-- name: found_in_schemas :many
-- Finds what speaks against a switch in its schemas.
SELECT f.kind, f.subject, f.detail FROM reconciler.found_in_schemas(%(generation)s, %(back)s) AS f
ORDER BY f.kind, f.subject, f.detail;

-- name: found_unknown :many
-- Finds what stands in schemas that are switched and is not ours.
SELECT f.kind, f.subject, f.detail FROM reconciler.found_unknown(%(generation)s, %(back)s) AS f
ORDER BY f.kind, f.subject, f.detail;

-- name: found_changed :many
-- Finds objects that are not as they were recorded; of live ones that were altered also what was granted by hand.
WITH found AS MATERIALIZED (
    SELECT f.kind, f.subject, f.detail FROM reconciler.found_changed(%(generation)s, %(back)s) AS f
)

SELECT f.kind, f.subject, f.detail FROM found AS f
UNION ALL
SELECT 'grant' AS kind, f.subject, a.detail
FROM found AS f
CROSS JOIN LATERAL (
    SELECT pg_catalog.replace(e.line, E'\t', ' ') AS detail
    FROM reconciler.switch_objects(%(generation)s, %(back)s) AS s
    INNER JOIN reconciler.generation_objects AS o
        ON
            s.generation OPERATOR(pg_catalog.=) o.generation AND s.schema OPERATOR(pg_catalog.=) o.schema
            AND s.name OPERATOR(pg_catalog.=) o.name
    CROSS JOIN LATERAL reconciler.object_details(o.generation, ARRAY[o.schema], ARRAY[o.name]) AS d
    CROSS JOIN LATERAL (
        SELECT pg_catalog.unnest(d.acl) AS line
        EXCEPT
        SELECT pg_catalog.unnest(o.acl) AS line
    ) AS e
    WHERE
        NOT s.incoming AND s.recorded IS DISTINCT FROM s.version
        AND f.subject OPERATOR(pg_catalog.=) pg_catalog.format('%%s %%I.%%I', o.sort, o.schema, o.name)
    -- Keeps it from being asked where nothing was found.
    OFFSET 0
) AS a
WHERE f.kind OPERATOR(pg_catalog.=) 'live object'
ORDER BY kind, subject, detail;

-- name: found_unready :many
-- Finds materialized views without rows and indexes that cannot be used.
SELECT f.kind, f.subject, f.detail FROM reconciler.found_unready(%(generation)s) AS f
ORDER BY f.kind, f.subject, f.detail;

-- name: found_dependents :many
-- Finds what depends from outside on what is displaced, with what binds it anew; what the switch itself replaces or
-- takes out of stable schemas is not outside.
SELECT f.identity, f.statement, f.acl, f.objid::pg_catalog.int8
FROM reconciler.found_dependents(%(generation)s, %(back)s) AS f
WHERE NOT EXISTS (
    SELECT FROM reconciler.generation_schemas AS s
    INNER JOIN reconciler.generation_objects AS o
        ON s.generation OPERATOR(pg_catalog.=) o.generation AND s.schema OPERATOR(pg_catalog.=) o.schema
    LEFT JOIN reconciler.generation_objects AS b
        ON
            s.base_generation OPERATOR(pg_catalog.=) b.generation AND o.schema OPERATOR(pg_catalog.=) b.schema
            AND o.name OPERATOR(pg_catalog.=) b.name
    WHERE
        s.generation OPERATOR(pg_catalog.=) %(generation)s
        AND s.sort OPERATOR(pg_catalog.=) 'stable'
        AND o.action OPERATOR(pg_catalog.=) ANY ('{add,replace,move,retire}'::pg_catalog.text [])
        AND f.objid OPERATOR(pg_catalog.=) ANY (o.oids OPERATOR(pg_catalog.||) COALESCE(b.oids, '{}'))
        -- Relations and routines may have the same number.
        AND (o.sort OPERATOR(pg_catalog.=) ANY ('{function,procedure}'::pg_catalog.text []))
        OPERATOR(pg_catalog.=) (
            f.statement IS NOT NULL AND f.statement OPERATOR(pg_catalog.!~) '^CREATE OR REPLACE VIEW '
        )
)
ORDER BY f.identity;

-- name: record_dependent :exec
-- Records what was bound anew, as it was before.
INSERT INTO reconciler.outside_dependents (generation, back, identity, definition, acl)
VALUES (%(generation)s, %(back)s, %(identity)s, %(definition)s, %(acl)s)
ON CONFLICT (generation, back, identity) DO UPDATE
SET
    definition = excluded.definition, acl = excluded.acl, rebound_at = pg_catalog.clock_timestamp();

-- name: record_rebound :many
-- Records how objects of ours that were bound anew stand now, in the generations that are live.
SELECT
    reconciler.record_details(o.generation, pg_catalog.array_agg(o.schema), pg_catalog.array_agg(o.name))
FROM reconciler.generation_objects AS o
INNER JOIN reconciler.live_schemas AS l
    ON o.generation OPERATOR(pg_catalog.=) l.generation AND o.schema OPERATOR(pg_catalog.=) l.schema
WHERE o.oids OPERATOR(pg_catalog.&&) %(oids)s::pg_catalog.int8 []::pg_catalog.oid []
GROUP BY o.generation;

-- name: hand_made_grants :many
-- Gives the statements that carry what was granted by hand over to what becomes live.
SELECT g.statement FROM reconciler.hand_made_grants(%(generation)s, %(back)s) AS g (statement);

-- name: renames :many
-- Reads what is renamed in a switch: what is displaced, and what takes its place.
SELECT
    s.schema,
    CASE WHEN s.outgoing_oid IS NOT NULL THEN s.outgoing_name END AS outgoing,
    CASE WHEN s.incoming_oid IS NOT NULL THEN s.incoming_name END AS incoming
FROM reconciler.switch_sides(%(generation)s, %(back)s) AS s
ORDER BY s.schema;

-- name: texts_in_switch :many
-- Reads what is run behind the renames, in the order in which the objects were made.
SELECT o.schema, o.name, o.sort, o.action, o.in_switch, s.staging_name
FROM reconciler.generation_objects AS o
INNER JOIN reconciler.generation_schemas AS s
    ON o.generation OPERATOR(pg_catalog.=) s.generation AND o.schema OPERATOR(pg_catalog.=) s.schema
WHERE
    o.generation OPERATOR(pg_catalog.=) %(generation)s
    AND o.in_switch OPERATOR(pg_catalog.<>) '{}'
ORDER BY o.wave, o.schema, o.name;

-- name: settle_switch :one
-- Records that a generation is live; gives until when what it displaced is kept.
SELECT reconciler.settle_switch(%(epoch)s, %(generation)s, %(retain)s);

-- name: settle_revert :exec
-- Records that the switch to a generation was taken back.
SELECT reconciler.settle_revert(%(epoch)s, %(generation)s);

-- name: parked_objects :many
-- Reads what is to be dropped of a generation, in an order in which that can be done.
SELECT p.name, p.parked_name, p.sort, p.objid::pg_catalog.int8, p.namespace::pg_catalog.int8
FROM reconciler.parked_objects(%(generation)s) AS p
ORDER BY p.wave DESC, p.schema DESC, p.name DESC, p.objid DESC;

-- name: parked_schemas :many
-- Reads the schemas that are to be dropped behind their objects.
SELECT p.namespace::pg_catalog.int8, p.parked_name
FROM reconciler.parked_sides(%(generation)s) AS p
ORDER BY p.schema;

-- name: found_parked :many
-- Finds what stands in schemas that are to be dropped and is not ours.
SELECT f.kind, f.subject, f.detail FROM reconciler.found_parked(%(generation)s) AS f
ORDER BY f.kind, f.subject, f.detail;

-- name: drop_object :one
-- Drops one object that is still where it was made, and nothing along with it.
SELECT
    reconciler.drop_object(
        %(epoch)s, %(sort)s, %(object)s::pg_catalog.int8::pg_catalog.oid,
        %(namespace)s::pg_catalog.int8::pg_catalog.oid
    );

-- name: drop_parked_schema :one
-- Drops one empty schema of ours.
SELECT reconciler.drop_schema(%(epoch)s, %(namespace)s::pg_catalog.int8::pg_catalog.oid, %(name)s);

-- name: settle_parked :exec
-- Records which generations are gone.
SELECT reconciler.settle_parked(%(epoch)s, %(generation)s, %(failure)s);

-- name: reset_object :one
-- Takes grants and comments of ours back from a live object, and sets its options.
SELECT reconciler.reset_object(%(epoch)s, %(schema)s, %(name)s, %(options)s::pg_catalog.jsonb);

-- name: record_metadata :exec
-- Records grants, comments and options of a live object as they are now.
SELECT reconciler.record_metadata(%(epoch)s, %(schema)s, %(name)s, %(hash)s, %(extra)s);

-- name: unsettle_object :exec
-- Has the next switch look at what was granted by hand on a live object.
UPDATE reconciler.generation_objects AS o
SET version = NULL
FROM reconciler.live_schemas AS l
WHERE
    l.schema OPERATOR(pg_catalog.=) %(schema)s AND o.generation OPERATOR(pg_catalog.=) l.generation
    AND o.schema OPERATOR(pg_catalog.=) l.schema AND o.name OPERATOR(pg_catalog.=) %(name)s;

-- name: unsettle_schema :exec
-- Has the next switch look at what was granted by hand on a live schema.
UPDATE reconciler.generation_schemas AS s
SET version = NULL
FROM reconciler.live_schemas AS l
WHERE
    l.schema OPERATOR(pg_catalog.=) %(schema)s AND s.generation OPERATOR(pg_catalog.=) l.generation
    AND s.schema OPERATOR(pg_catalog.=) l.schema;

-- name: take_back_object :exec
-- Takes grants back from a live object.
SELECT
    reconciler.reset_grants(
        CASE
            WHEN o.sort OPERATOR(pg_catalog.=) ANY ('{function,procedure}'::pg_catalog.text [])
                THEN reconciler.identity_of(o.sort, u.oid)
            ELSE pg_catalog.format('TABLE %%I.%%I', o.schema, o.name)
        END, %(lines)s, '{}'
    )
FROM reconciler.live_schemas AS l
INNER JOIN reconciler.generation_objects AS o
    ON l.generation OPERATOR(pg_catalog.=) o.generation AND l.schema OPERATOR(pg_catalog.=) o.schema
CROSS JOIN LATERAL pg_catalog.unnest(o.oids) AS u (oid)
WHERE l.schema OPERATOR(pg_catalog.=) %(schema)s AND o.name OPERATOR(pg_catalog.=) %(name)s;

-- name: take_back_schema :exec
-- Takes grants back from a live schema.
SELECT reconciler.reset_grants(pg_catalog.format('SCHEMA %%I', %(schema)s::pg_catalog.text), %(lines)s, '{}');

-- name: grants_of_object :one
-- Reads the owner of a live object and the grants on it.
SELECT d.acl
FROM reconciler.live_schemas AS l
CROSS JOIN LATERAL reconciler.object_details(
    l.generation, ARRAY[l.schema], ARRAY[%(name)s::pg_catalog.text]
) AS d
WHERE l.schema OPERATOR(pg_catalog.=) %(schema)s;

-- name: grants_of_schema :one
-- Reads the owner of a schema and the grants on it.
SELECT reconciler.schema_acl(n.oid)
FROM pg_catalog.pg_namespace AS n
WHERE n.nspname OPERATOR(pg_catalog.=) %(schema)s;

-- name: born_grants_of_schema :many
-- What a new schema of the same owner would be granted by default, as statements for this one.
SELECT pg_catalog.format(
    'GRANT %%s ON SCHEMA %%I TO %%s%%s', a.privilege_type, n.nspname,
    COALESCE(pg_catalog.quote_ident(r.rolname), 'PUBLIC'),
    CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END
) AS statement
FROM pg_catalog.pg_namespace AS n
INNER JOIN pg_catalog.pg_default_acl AS d
    ON
        n.nspowner OPERATOR(pg_catalog.=) d.defaclrole AND d.defaclnamespace OPERATOR(pg_catalog.=) 0
        AND d.defaclobjtype OPERATOR(pg_catalog.=) 'n'
CROSS JOIN LATERAL pg_catalog.aclexplode(d.defaclacl) AS a
LEFT JOIN pg_catalog.pg_roles AS r ON a.grantee OPERATOR(pg_catalog.=) r.oid
WHERE n.nspname OPERATOR(pg_catalog.=) %(schema)s AND a.grantee OPERATOR(pg_catalog.<>) n.nspowner
ORDER BY statement;

-- name: reset_schema :one
-- Takes back what we granted on a live schema.
SELECT reconciler.reset_schema(%(epoch)s, %(schema)s);

-- name: record_schema_metadata :exec
-- Records grants and comment of a live schema as they are now.
SELECT reconciler.record_schema_metadata(%(epoch)s, %(schema)s, %(hash)s, %(extra)s);

-- name: move_in_place :exec
-- Moves what comes to stable schemas and what goes.
SELECT reconciler.move_in_place(%(epoch)s, %(generation)s, FALSE);

-- name: texts_in_place :many
-- Reads what takes replacements in stable schemas back, with the names that everything has now.
SELECT
    o.schema, o.name,
    ARRAY(
        SELECT
            CASE
                WHEN o.sort OPERATOR(pg_catalog.=) 'view' THEN pg_catalog.format(
                    'CREATE OR REPLACE VIEW %%I.%%I%%s AS %%s', o.schema, o.name,
                    (
                        SELECT
                            pg_catalog.format(' WITH (%%s)', pg_catalog.array_to_string(c.reloptions, ', '))
                        FROM pg_catalog.pg_class AS c
                        WHERE c.oid OPERATOR(pg_catalog.=) u.oid AND c.reloptions IS NOT NULL
                    ),
                    pg_catalog.pg_get_viewdef(u.oid)
                )
                ELSE pg_catalog.pg_get_functiondef(u.oid)
            END
        FROM pg_catalog.unnest(b.oids) AS u (oid)
    ) AS texts
FROM reconciler.generation_schemas AS s
INNER JOIN reconciler.generation_objects AS o
    ON s.generation OPERATOR(pg_catalog.=) o.generation AND s.schema OPERATOR(pg_catalog.=) o.schema
INNER JOIN reconciler.generation_objects AS b
    ON
        s.base_generation OPERATOR(pg_catalog.=) b.generation AND o.schema OPERATOR(pg_catalog.=) b.schema
        AND o.name OPERATOR(pg_catalog.=) b.name
WHERE
    s.generation OPERATOR(pg_catalog.=) %(generation)s AND s.sort OPERATOR(pg_catalog.=) 'stable'
    AND o.action OPERATOR(pg_catalog.=) 'replace'
ORDER BY o.schema, o.name;

-- name: read_search_path :one
-- Reads where names are looked for.
SELECT pg_catalog.current_setting('search_path');

-- name: set_search_path :exec
-- Says where names are looked for until the transaction ends; where that is nowhere, definitions are shown with
-- every name in full.
SELECT pg_catalog.set_config('search_path', %(path)s, TRUE);

-- name: keep_texts :exec
-- Keeps what takes one replacement back.
UPDATE reconciler.generation_objects AS o
SET previous = %(texts)s::pg_catalog.text []
WHERE
    o.generation OPERATOR(pg_catalog.=) %(generation)s AND o.schema OPERATOR(pg_catalog.=) %(schema)s
    AND o.name OPERATOR(pg_catalog.=) %(name)s;

-- name: settle_in_place :exec
-- Drops what was tried for stable schemas, and records what was made in place.
SELECT reconciler.settle_in_place(%(epoch)s, %(generation)s);

-- name: revert_in_place :exec
-- Takes back what a switch did in stable schemas.
SELECT reconciler.revert_in_place(%(epoch)s, %(generation)s);
